//! How a registry wants to be shown who asks: what its answer's `WWW-Authenticate` says.

use reqwest::Response;
use reqwest::header::WWW_AUTHENTICATE;

/// A way to show oneself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// With a name and password.
    Basic,
    /// With a token that somebody else gives.
    Bearer {
        /// Where tokens come from.
        realm: String,
        /// What they are for.
        service: Option<String>,
    },
}

/// The first way that an answer names and that is known.
pub(super) fn challenge(answer: &Response) -> Option<Challenge> {
    let mut headers = answer.headers().get_all(WWW_AUTHENTICATE).iter();
    headers.find_map(|header| parse(header.to_str().ok()?))
}

/// `Basic realm="x"`, or `Bearer realm="https://…",service="x"`.
fn parse(header: &str) -> Option<Challenge> {
    let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header, ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let value = |name: &str| {
        let mut rest = rest;
        while let Some((key, after)) = rest.split_once('=') {
            let key = key.trim_matches([' ', ',']);
            let (value, left) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_once(',').unwrap_or((after, "")),
            };
            if key.eq_ignore_ascii_case(name) {
                return Some(value.to_owned());
            }
            rest = left;
        }
        None
    };
    Some(Challenge::Bearer { realm: value("realm")?, service: value("service") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_to_show_oneself_are_read() {
        let bearer = |realm: &str, service: Option<&str>| {
            let (realm, service) = (realm.to_owned(), service.map(str::to_owned));
            Some(Challenge::Bearer { realm, service })
        };
        let table = [
            ("Basic realm=\"a b\"", Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            (
                "Bearer realm=\"https://a/token\",service=\"r\"",
                bearer("https://a/token", Some("r")),
            ),
            ("Bearer service=\"r, s\", realm=\"https://a\"", bearer("https://a", Some("r, s"))),
            ("Bearer realm=https://a,error=x", bearer("https://a", None)),
            ("Bearer service=\"r\"", None),
            ("Bearer realm=\"a", None),
            ("Negotiate", None),
        ];
        for (header, expected) in table {
            assert_eq!(parse(header), expected, "{header}");
        }
    }
}
