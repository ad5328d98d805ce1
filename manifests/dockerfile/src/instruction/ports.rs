//! `EXPOSE`.

use std::ops::RangeInclusive;

use crate::problem::cut;

/// Ports that follow one another.
pub(crate) struct Ports {
    pub(crate) range: RangeInclusive<u16>,
    /// In lower case.
    pub(crate) protocol: String,
}

/// The ports of a word: `80`, `80/tcp`, `8000-8010/udp`.
pub(crate) fn ports(word: &str) -> Result<Ports, String> {
    let (range, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("has the protocol `{}`; it is tcp, udp or sctp", cut(&protocol)));
    }
    if range.contains(':') {
        return Err(format!(
            "has `{}` with a port of the host; which one it gets is said where it is run",
            cut(word)
        ));
    }
    let wrong = || format!("has `{}`, which is no port from 1 to 65535", cut(word));
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong);
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last) = (port(first)?, port(last)?);
    if last < first {
        return Err(format!("has `{}`, which ends before it starts", cut(word)));
    }
    Ok(Ports { range: first..=last, protocol })
}
