//! Parts of blobs: what a download asks for, and where a chunk of an upload belongs. Pure.

/// A part of so many bytes: from an offset on, and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) from: u64,
    pub(super) length: u64,
}

/// What a `Range` header comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    All,
    Part(Part),
    /// It lies outside, or ends before it begins.
    Nothing,
}

/// Reads `bytes=0-99`, `bytes=100-` and `bytes=-100` of so many bytes. Several parts, and what is not understood, are all
/// of it, as HTTP lets a server do.
pub(super) fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some(spec) = header.and_then(|header| header.trim().strip_prefix("bytes=")) else {
        return Wanted::All;
    };
    let Some((first, last)) = spec.trim().split_once('-') else { return Wanted::All };
    let number = |text: &str| number(text.trim());
    match (first.trim(), last.trim()) {
        ("", suffix) => match number(suffix) {
            Some(0) => Wanted::Nothing,
            Some(_) if size == 0 => Wanted::Nothing,
            Some(length) => {
                let length = length.min(size);
                Wanted::Part(Part { from: size - length, length })
            }
            None => Wanted::All,
        },
        (first, "") => match number(first) {
            Some(from) if from < size => Wanted::Part(Part { from, length: size - from }),
            Some(_) => Wanted::Nothing,
            None => Wanted::All,
        },
        (first, last) => match (number(first), number(last)) {
            (Some(from), Some(last)) if from > last || from >= size => Wanted::Nothing,
            (Some(from), Some(last)) => {
                Wanted::Part(Part { from, length: last.min(size - 1) - from + 1 })
            }
            _ => Wanted::All,
        },
    }
}

/// Only digits: no sign, no blank.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// Where a chunk belongs, as its `Content-Range` says: `0-99`, by the distribution specification without a unit, and
/// `bytes 0-99/*` as HTTP has it. `None`: it is not understood.
pub(super) fn chunk(header: &str) -> Option<Part> {
    let text = header.trim();
    let text = text.strip_prefix("bytes").map_or(text, |rest| rest.trim_start_matches(['=', ' ']));
    let text = text.split_once('/').map_or(text, |(range, _)| range);
    let (first, last) = text.split_once('-')?;
    let (from, last) = (number(first)?, number(last)?);
    let length = last.checked_sub(from)?.checked_add(1)?;
    Some(Part { from, length })
}

/// How far an upload is, in the specification's form: the last byte, inclusive.
pub(super) fn progress(length: u64) -> String {
    format!("0-{}", length.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(from: u64, length: u64) -> Wanted {
        Wanted::Part(Part { from, length })
    }

    #[test]
    fn parts_of_downloads() {
        let table = [
            (None, Wanted::All),
            (Some("bytes=0-9"), part(0, 10)),
            (Some("bytes=90-"), part(90, 10)),
            (Some("bytes=-10"), part(90, 10)),
            (Some("bytes=-1000"), part(0, 100)),
            (Some("bytes=50-1000"), part(50, 50)),
            (Some("bytes=99-99"), part(99, 1)),
            (Some("bytes=100-"), Wanted::Nothing),
            (Some("bytes=100-200"), Wanted::Nothing),
            (Some("bytes=-0"), Wanted::Nothing),
            (Some("bytes=9-0"), Wanted::Nothing),
            (Some("bytes=0-1,5-6"), Wanted::All),
            (Some("bytes=+1-2"), Wanted::All),
            (Some("bytes=99999999999999999999-"), Wanted::All),
            (Some("bytes=-"), Wanted::All),
            (Some("items=0-1"), Wanted::All),
            (Some(""), Wanted::All),
        ];
        for (header, expected) in table {
            assert_eq!(wanted(header, 100), expected, "{header:?}");
        }
        assert_eq!(wanted(Some("bytes=0-"), 0), Wanted::Nothing);
        assert_eq!(wanted(Some("bytes=-1"), 0), Wanted::Nothing);
    }

    #[test]
    fn chunks_of_uploads() {
        let table = [
            ("0-99", Some((0, 100))),
            ("100-100", Some((100, 1))),
            ("bytes 5-9/*", Some((5, 5))),
            ("bytes 5-9/10", Some((5, 5))),
            ("bytes=5-9", Some((5, 5))),
            ("9-5", None),
            ("-5", None),
            ("5-", None),
            ("x-y", None),
            ("", None),
            ("0-18446744073709551615", None),
        ];
        for (header, expected) in table {
            let expected = expected.map(|(from, length)| Part { from, length });
            assert_eq!(chunk(header), expected, "{header}");
        }
        assert_eq!(
            (progress(0), progress(1), progress(100)),
            ("0-0".into(), "0-0".into(), "0-99".into())
        );
    }

    proptest! {
        #[test]
        fn no_part_lies_outside(header in "bytes=[0-9]{0,20}-?[0-9]{0,20}", size in any::<u64>()) {
            if let Wanted::Part(Part { from, length }) = wanted(Some(&header), size) {
                prop_assert!(length > 0 && from.checked_add(length).is_some_and(|end| end <= size));
            }
            let _ = chunk(&header);
        }
    }
}
