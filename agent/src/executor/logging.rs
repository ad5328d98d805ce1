//! Where a task's output goes, as its companion is told.

use swarm_proto::assignment::TaskAssignment;
use swarm_proto::spec::{LogDriver, Logging, SyslogFormat as Format};
use swarm_proto::template::{Template, Values};
use swarm_runtime::{LogLimits, LogOptions, LogSink, SyslogFormat};

/// Syslog's `daemon`, as Docker has it.
const FACILITY: u8 = 3;
/// The host's own syslog.
const ADDRESS: &str = "unix:///dev/log";

/// The options of a task's log. What goes to a journal or server is named after the task and this host.
pub(super) fn options(task: &TaskAssignment) -> LogOptions {
    let logging = &task.container.logging;
    let defaults = LogLimits::default();
    let limits = LogLimits {
        max_bytes: logging.max_bytes.unwrap_or(defaults.max_bytes),
        files: logging.max_files.unwrap_or(defaults.files),
    };
    let sink = match logging.driver {
        LogDriver::Local => LogSink::File,
        LogDriver::None => LogSink::Nowhere,
        LogDriver::Journald => LogSink::Journal { fields: fields(task) },
        LogDriver::Syslog => LogSink::Syslog {
            address: logging.syslog.address.clone().unwrap_or_else(|| ADDRESS.to_owned()),
            facility: logging.syslog.facility.unwrap_or(FACILITY),
            format: match logging.syslog.format {
                Format::Rfc3164 => SyslogFormat::Rfc3164,
                Format::Rfc5424 => SyslogFormat::Rfc5424,
                Format::Rfc5424Micro => SyslogFormat::Rfc5424Micro,
            },
            tag: tag(task),
            hostname: super::bundle::name_of_host(),
        },
    };
    LogOptions { limits, sink }
}

/// The name under which lines go out.
fn tag(task: &TaskAssignment) -> String {
    let id = task.id.to_string();
    let text = task.container.logging.tag.as_deref().unwrap_or("{{.ID}}");
    let values = [
        (".Name", task.name.clone()),
        (".ID", id.clone()),
        (".FullID", id),
        (".ImageName", task.container.image.reference.clone()),
    ];
    let values = Values { fields: values.into(), ..Values::default() };
    // A controller takes no tag that cannot be read.
    Template::parse(text, &Logging::TAG_FIELDS)
        .map_or_else(|_| text.to_owned(), |template| template.fill(&values))
}

/// The journal's fields, as Docker calls them.
fn fields(task: &TaskAssignment) -> Vec<(String, String)> {
    let (id, tag) = (task.id.to_string(), tag(task));
    let own = [
        ("CONTAINER_NAME", task.name.clone()),
        ("CONTAINER_ID", id.clone()),
        ("CONTAINER_ID_FULL", id),
        ("CONTAINER_TAG", tag.clone()),
        ("SYSLOG_IDENTIFIER", tag),
        ("IMAGE_NAME", task.container.image.reference.clone()),
    ];
    let mut fields: Vec<_> = own.map(|(name, value)| (name.to_owned(), value)).into();
    let (spec, logging) = (&task.container, &task.container.logging);
    let labels = logging.labels.iter().filter_map(|key| Some((key, spec.labels.get(key)?)));
    let variables = logging.environment.iter();
    let variables = variables.filter_map(|key| Some((key, spec.environment.get(key)?.as_ref()?)));
    for (key, value) in labels.chain(variables) {
        let name = field_name(key);
        if !name.is_empty() && !fields.iter().any(|(known, _)| *known == name) {
            fields.push((name, value.clone()));
        }
    }
    fields
}

/// A key in letters that the journal takes: capitals, digits and `_`, which does not come first.
fn field_name(key: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let name: String = key.chars().map(letter).collect();
    name.trim_start_matches(|c: char| c == '_' || c.is_ascii_digit()).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_log_is_a_file_within_bounds() {
        let mut task = testing::task("1.1.1");
        assert_eq!(options(&task), LogOptions::default());
        task.container.logging =
            Logging { max_bytes: Some(1 << 20), max_files: Some(5), ..Logging::default() };
        let limits = LogLimits { max_bytes: 1 << 20, files: 5 };
        assert_eq!(options(&task), LogOptions { limits, sink: LogSink::File });
        task.container.logging.driver = LogDriver::None;
        assert_eq!(options(&task).sink, LogSink::Nowhere);
    }

    #[test]
    fn a_journal_is_told_what_the_line_comes_from() {
        let mut task = testing::task("1.1.1");
        task.container.labels = [("com.example/tier".to_owned(), "front".to_owned())].into();
        let variables = [("_1_ZONE", Some("north")), ("GONE", None), ("SECRET", Some("x"))];
        task.container.environment =
            variables.map(|(key, value)| (key.to_owned(), value.map(str::to_owned))).into();
        task.container.logging = Logging {
            driver: LogDriver::Journald,
            tag: Some("{{.Name}}/{{.ImageName}}".to_owned()),
            labels: vec!["com.example/tier".to_owned(), "none".to_owned()],
            environment: vec!["_1_ZONE".to_owned(), "GONE".to_owned()],
            ..Logging::default()
        };
        let LogSink::Journal { fields } = options(&task).sink else { panic!() };
        let field =
            |name: &str| fields.iter().find(|(one, _)| one == name).map(|(_, v)| v.as_str());
        let tag = Some("web_front.1/docker.io/library/busybox:1");
        assert_eq!((field("CONTAINER_TAG"), field("SYSLOG_IDENTIFIER")), (tag, tag));
        assert_eq!(field("CONTAINER_NAME"), Some("web_front.1"));
        assert_eq!(field("COM_EXAMPLE_TIER"), Some("front"));
        assert_eq!(field("ZONE"), Some("north"));
        assert_eq!(fields.len(), 8, "{fields:?}");
    }

    #[test]
    fn a_syslog_server_has_dockers_defaults() {
        let mut task = testing::task("1.1.1");
        task.container.logging.driver = LogDriver::Syslog;
        let LogSink::Syslog { address, facility, tag, .. } = options(&task).sink else { panic!() };
        assert_eq!((address.as_str(), facility, tag.as_str()), (ADDRESS, 3, "1.1.1"));
    }
}
