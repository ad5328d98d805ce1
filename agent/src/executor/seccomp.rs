//! Profiles of system calls that a stack file brings: OCI's form, and Docker's, in which rules may depend on the host
//! and on the container's capabilities.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What rules of Docker's form ask about a host.
#[derive(Debug, Clone)]
pub(super) struct Host {
    /// As `uname` calls it, such as `x86_64`.
    pub(super) machine: String,
    /// The kernel's version: 6.18 is (6, 18).
    pub(super) kernel: (u32, u32),
}

impl Host {
    /// The host that this process runs on.
    pub(super) fn of_process() -> Self {
        let name = rustix::system::uname();
        let release = name.release().to_string_lossy();
        let kernel = version(&release).unwrap_or_default();
        Self { machine: name.machine().to_string_lossy().into_owned(), kernel }
    }

    /// As Docker calls it.
    fn architecture(&self) -> &str {
        match self.machine.as_str() {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "i386" | "i686" => "x86",
            "armv7l" => "arm",
            other => other,
        }
    }

    /// As a profile's map of architectures calls it.
    fn constant(&self) -> String {
        format!("SCMP_ARCH_{}", self.machine.to_uppercase())
    }
}

/// The first two numbers of `6.18.44-generic` or `4.8`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// When a rule of Docker's form counts.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Condition {
    caps: Vec<String>,
    arches: Vec<String>,
    min_kernel: String,
}

/// A rule of either form.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    #[serde(default, skip_serializing)]
    name: Option<String>,
    #[serde(default)]
    names: Vec<String>,
    action: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    errno_ret: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    args: Option<Vec<Value>>,
    #[serde(default, skip_serializing)]
    #[expect(dead_code, reason = "a remark for people")]
    comment: Option<String>,
    #[serde(default, skip_serializing)]
    includes: Option<Condition>,
    #[serde(default, skip_serializing)]
    excludes: Option<Condition>,
    #[serde(default, skip_serializing)]
    #[expect(dead_code, reason = "Docker's own name of an error number that stands beside it")]
    errno: Option<String>,
}

/// Architectures that come along with one.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Family {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<Family>>,
    flags: Option<Vec<String>>,
    syscalls: Option<Vec<Rule>>,
    listener_path: Option<String>,
}

/// A profile as an OCI configuration has it, for a container with these capabilities (`CAP_…`) on a host. The error says
/// what is wrong with the text.
pub(super) fn profile(text: &str, capabilities: &[String], host: &Host) -> Result<Value, String> {
    let profile: Profile = serde_json::from_str(text)
        .map_err(|error| format!("the seccomp profile is not valid: {error}"))?;
    if profile.listener_path.is_some() {
        return Err("the seccomp profile asks for a listener, which nobody serves".to_owned());
    }
    let mut syscalls = Vec::new();
    for mut rule in profile.syscalls.unwrap_or_default() {
        rule.names.extend(rule.name.take());
        if counts(&rule, capabilities, host)? {
            syscalls.push(rule);
        }
    }
    let of_map = profile.arch_map.unwrap_or_default().into_iter();
    let family = of_map.filter(|family| family.architecture == host.constant());
    let with_parts = family.flat_map(|one| {
        std::iter::once(one.architecture).chain(one.sub_architectures.unwrap_or_default())
    });
    let mut architectures = profile.architectures.unwrap_or_default();
    architectures.extend(with_parts);
    let mut found = json!({ "defaultAction": profile.default_action, "syscalls": syscalls });
    let optional = [
        ("defaultErrnoRet", json!(profile.default_errno_ret)),
        ("architectures", json!((!architectures.is_empty()).then_some(architectures))),
        ("flags", json!(profile.flags)),
    ];
    for (key, value) in optional.into_iter().filter(|(_, value)| !value.is_null()) {
        found[key] = value;
    }
    let checked = serde_json::from_value::<oci_spec::runtime::LinuxSeccomp>(found.clone());
    checked.map_err(|error| format!("the seccomp profile is not valid: {error}"))?;
    Ok(found)
}

fn counts(rule: &Rule, capabilities: &[String], host: &Host) -> Result<bool, String> {
    let has = |name: &String| capabilities.contains(name);
    let here = |name: &String| name == host.architecture();
    let new_enough = |condition: &Condition| match condition.min_kernel.as_str() {
        "" => Ok(None),
        text => match version(text) {
            Some(least) => Ok(Some(host.kernel >= least)),
            None => Err(format!("the seccomp profile has `{text}` as a kernel's version")),
        },
    };
    if let Some(excludes) = &rule.excludes {
        let old = new_enough(excludes)? == Some(true);
        if excludes.caps.iter().any(has) || excludes.arches.iter().any(here) || old {
            return Ok(false);
        }
    }
    let Some(includes) = &rule.includes else { return Ok(true) };
    let arches = includes.arches.is_empty() || includes.arches.iter().any(here);
    Ok(arches && includes.caps.iter().all(has) && new_enough(includes)? != Some(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCKER: &str = r#"{
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
        "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
            {"architecture": "SCMP_ARCH_S390X", "subArchitectures": null}],
        "syscalls": [
            {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "comment": "x",
             "args": [{"index": 0, "value": 2114060288, "op": "SCMP_CMP_MASKED_EQ"}],
             "excludes": {"caps": ["CAP_SYS_ADMIN"], "arches": ["s390x"]}},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"name": "modify_ldt", "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "x32"]}}
        ]}"#;

    fn host(machine: &str, kernel: (u32, u32)) -> Host {
        Host { machine: machine.to_owned(), kernel }
    }

    fn names(capabilities: &[&str], host: &Host) -> (String, Value) {
        let capabilities: Vec<String> = capabilities.iter().map(|&one| one.to_owned()).collect();
        let found = profile(DOCKER, &capabilities, host).unwrap();
        let rules = found["syscalls"].as_array().unwrap().iter();
        let names: Vec<String> = rules.map(|rule| rule["names"][0].to_string()).collect();
        (names.join(" ").replace('"', ""), found)
    }

    #[test]
    fn rules_of_dockers_form_depend_on_host_and_capabilities() {
        let (plain, found) = names(&["CAP_CHOWN"], &host("x86_64", (6, 1)));
        assert_eq!(plain, "read ptrace clone modify_ldt");
        let wanted = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
        assert_eq!(found["architectures"], wanted);
        assert_eq!(found["defaultErrnoRet"], 1);
        assert_eq!(names(&["CAP_SYS_ADMIN"], &host("aarch64", (4, 7))).0, "read mount");
        assert_eq!(names(&[], &host("s390x", (4, 8))).0, "read ptrace");
    }

    #[test]
    fn what_is_no_profile_is_refused() {
        let refused = |text: &str| profile(text, &[], &host("x86_64", (6, 1))).unwrap_err();
        assert!(refused("{").contains("not valid"));
        assert!(refused(r#"{"defaultAction": "SCMP_ACT_FLY"}"#).contains("SCMP_ACT_FLY"));
        assert!(refused(r#"{"defaultAction": "SCMP_ACT_KILL", "x": 1}"#).contains("`x`"));
        let listens = r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"}"#;
        assert!(refused(listens).contains("listener"));
    }

    #[test]
    fn kernels_are_compared_by_two_numbers() {
        assert_eq!(version("6.18.44-generic"), Some((6, 18)));
        assert_eq!(version("4.8"), Some((4, 8)));
        assert_eq!(version("x"), None);
    }
}
