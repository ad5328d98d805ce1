//! `logging`: the driver and its options.

use swarm_proto::spec::{LogDriver, Logging, SyslogFormat};
use swarm_proto::template::Template;

use super::Decoder;
use crate::keys::LOGGING;
use crate::tree::{Key, Node, shorten};
use crate::units::parse_bytes;

/// Less would be set aside with every other line.
const LEAST_BYTES: u64 = 64 << 10;
const MOST_BYTES: u64 = 16 << 30;
const MOST_FILES: u32 = 100;

const FACILITIES: [(&str, u8); 20] = [
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];
const FORMATS: [(&str, SyslogFormat); 3] = [
    ("rfc3164", SyslogFormat::Rfc3164),
    ("rfc5424", SyslogFormat::Rfc5424),
    ("rfc5424micro", SyslogFormat::Rfc5424Micro),
];
/// Options of each driver, and those that every driver takes.
const FILE_OPTIONS: [&str; 3] = ["max-size", "max-file", "compress"];
const SENT_OPTIONS: [&str; 5] = ["tag", "labels", "labels-regex", "env", "env-regex"];
const SYSLOG_OPTIONS: [&str; 7] = [
    "syslog-address",
    "syslog-facility",
    "syslog-format",
    "syslog-tls-ca-cert",
    "syslog-tls-cert",
    "syslog-tls-key",
    "syslog-tls-skip-verify",
];
const DELIVERY_OPTIONS: [&str; 2] = ["mode", "max-buffer-size"];

pub(super) fn logging(d: &Decoder<'_>, node: &Node) -> Logging {
    let Some(fields) = d.fields(node, "`logging`", &LOGGING) else { return Logging::default() };
    let name = fields.get("driver").and_then(|node| Some((node, d.scalar(node, "driver")?)));
    let driver = match name {
        None | Some((_, "local" | "json-file")) => LogDriver::Local,
        Some((_, "none")) => LogDriver::None,
        Some((_, "journald")) => LogDriver::Journald,
        Some((_, "syslog")) => LogDriver::Syslog,
        Some((node, other)) => {
            let known = ["local", "json-file", "none", "journald", "syslog"];
            let sent = ["gelf", "fluentd", "awslogs", "splunk", "gcplogs", "etwlogs", "logentries"];
            if sent.contains(&other) {
                d.later(node.at, &format!("logging driver {other}"), "use `syslog` or `journald`");
            } else {
                let message = format!("logging driver `{}` is unknown", shorten(other));
                d.problems.error_hint(node.at, message, d.hint(other, known));
            }
            return Logging::default();
        }
    };
    let mut logging = Logging { driver, ..Logging::default() };
    let options = fields.get("options").and_then(|node| d.pairs(node, "`options`"));
    for (key, value) in options.unwrap_or_default() {
        option(d, &mut logging, key, value);
    }
    logging
}

fn takes(driver: LogDriver, option: &str) -> bool {
    let sent = SENT_OPTIONS.contains(&option);
    let delivery = DELIVERY_OPTIONS.contains(&option);
    match driver {
        LogDriver::Local => FILE_OPTIONS.contains(&option) || sent || delivery,
        LogDriver::None => delivery,
        LogDriver::Journald => sent || delivery,
        LogDriver::Syslog => sent || delivery || SYSLOG_OPTIONS.contains(&option),
    }
}

fn option(d: &Decoder<'_>, logging: &mut Logging, key: &Key, value: &Node) {
    let name = key.text.as_str();
    if !takes(logging.driver, name) {
        let all = [&FILE_OPTIONS[..], &SENT_OPTIONS, &SYSLOG_OPTIONS, &DELIVERY_OPTIONS].concat();
        let here: Vec<&str> = all.into_iter().filter(|one| takes(logging.driver, one)).collect();
        let message = format!("this logging driver has no option `{}`", shorten(name));
        d.problems.error_hint(key.at, message, d.hint(name, here));
        return;
    }
    let unused = match logging.driver {
        LogDriver::Local => SENT_OPTIONS.contains(&name),
        LogDriver::Syslog => SENT_OPTIONS[1..].contains(&name),
        LogDriver::None | LogDriver::Journald => false,
    };
    if unused {
        let message = format!("`{name}` has no effect: this driver's lines have no room for it");
        d.problems.warn(key.at, message);
    }
    let Some(text) = d.scalar(value, name) else { return };
    let names = || text.split(',').map(str::trim).filter(|n| !n.is_empty()).map(str::to_owned);
    match name {
        "max-size" => logging.max_bytes = max_size(d, value, text),
        "max-file" => {
            let number = d.integer(value, name, 1..=i64::from(MOST_FILES));
            logging.max_files = number.and_then(|number| u32::try_from(number).ok());
        }
        "tag" => match Template::parse(text, &Logging::TAG_FIELDS) {
            Ok(_) => logging.tag = Some(text.to_owned()),
            Err(error) => {
                let hint = format!(
                    "a tag may hold {}",
                    Logging::TAG_FIELDS.map(|f| format!("`{{{{{f}}}}}`")).join(", ")
                );
                d.problems.error_hint(value.at, format!("tag is not valid: {error}"), hint);
            }
        },
        "labels" => logging.labels = names().collect(),
        "env" => logging.environment = names().collect(),
        "labels-regex" | "env-regex" => d.later(key.at, name, "name them one by one"),
        "syslog-address" => logging.syslog.address = syslog_address(d, value, text),
        "syslog-facility" => logging.syslog.facility = facility(d, value, text),
        "syslog-format" => {
            logging.syslog.format = d.word(value, name, &FORMATS).unwrap_or_default();
        }
        "compress" => d.problems.warn(key.at, "`compress` has no effect: log files are small"),
        "mode" | "max-buffer-size" => {
            let why = "a container never waits for its log";
            d.problems.warn(key.at, format!("`{name}` has no effect: {why}"));
        }
        _ => d.later(key.at, name, "use `syslog-address: tcp://…` without TLS for now"),
    }
}

fn max_size(d: &Decoder<'_>, node: &Node, text: &str) -> Option<u64> {
    if text == "-1" {
        d.problems.warn(node.at, "a log without bounds is not kept: `max-size` is 16 GiB");
        return Some(MOST_BYTES);
    }
    let bytes = parse_bytes(text).filter(|bytes| (LEAST_BYTES..=MOST_BYTES).contains(bytes));
    if bytes.is_none() {
        d.expected(node, "max-size", "a size such as `10m`, from 64 KiB to 16 GiB", "");
    }
    bytes
}

/// A name, or a number.
fn facility(d: &Decoder<'_>, node: &Node, text: &str) -> Option<u8> {
    if let Some(number) = text.parse::<u8>().ok().filter(|number| *number <= 23) {
        return Some(number);
    }
    d.word(node, "syslog-facility", &FACILITIES)
}

fn syslog_address(d: &Decoder<'_>, node: &Node, text: &str) -> Option<String> {
    match normal_address(text) {
        Some(address) => Some(address),
        None if text.starts_with("tcp+tls://") => {
            d.later(node.at, "syslog over TLS", "use `tcp://…` for now");
            None
        }
        None => {
            let wanted =
                "`udp://host:port`, `tcp://host:port`, `unix:///path` or `unixgram:///path`";
            d.expected(node, "syslog-address", wanted, "");
            None
        }
    }
}

/// The address with its port; syslog's own is 514.
fn normal_address(text: &str) -> Option<String> {
    let (kind, rest) = text.split_once("://")?;
    match kind {
        "unix" | "unixgram" => rest.starts_with('/').then(|| text.to_owned()),
        "udp" | "tcp" => {
            let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
            let (host, port) = match rest.rsplit_once(':') {
                Some((host, port)) if !host.is_empty() && is_port(port) => (host, port),
                None if !rest.is_empty() => (rest, "514"),
                // An address of IPv6 alone, in brackets.
                Some(_) if rest.starts_with('[') && rest.ends_with(']') => (rest, "514"),
                _ => return None,
            };
            let fits = |c: u8| c.is_ascii_alphanumeric() || b"-._:[]".contains(&c);
            host.bytes().all(fits).then(|| format!("{kind}://{host}:{port}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_servers() {
        let table = [
            ("udp://10.0.0.1", Some("udp://10.0.0.1:514")),
            ("tcp://log.example:601", Some("tcp://log.example:601")),
            ("udp://[fd00::1]", Some("udp://[fd00::1]:514")),
            ("udp://[fd00::1]:5140", Some("udp://[fd00::1]:5140")),
            ("unixgram:///dev/log", Some("unixgram:///dev/log")),
            ("unix://dev/log", None),
            ("tcp://", None),
            ("tcp://a:0", None),
            ("http://a", None),
            ("10.0.0.1", None),
        ];
        for (text, expected) in table {
            assert_eq!(normal_address(text).as_deref(), expected, "{text}");
        }
    }
}
