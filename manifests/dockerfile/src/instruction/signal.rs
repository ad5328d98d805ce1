//! `STOPSIGNAL`.

/// The names of signals on Linux, without `SIG`.
const NAMES: [&str; 36] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
];

/// Whether a text names a signal: `SIGTERM`, `term`, `15`, `SIGRTMIN+3`.
pub(crate) fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<u8>() {
        return (1..=64).contains(&number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset =
        |rest: &str, most: u8| rest.parse::<u8>().is_ok_and(|number| (1..=most).contains(&number));
    NAMES.contains(&name)
        || name.strip_prefix("RTMIN+").is_some_and(|rest| offset(rest, 15))
        || name.strip_prefix("RTMAX-").is_some_and(|rest| offset(rest, 14))
}
