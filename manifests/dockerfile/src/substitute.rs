//! Patterns of the shell within `${…}`: `*` is any text, `?` any character, `\` takes the meaning from `*`, `?` and itself.

/// A pattern with a `\` where none belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadPattern;

/// Literal characters, or any (`None`), between two stars.
type Segment = Vec<Option<char>>;

/// A value without what the pattern matches at its start, or at its end.
pub(crate) fn trimmed(
    value: &str,
    pattern: &str,
    at_end: bool,
    longest: bool,
) -> Result<String, BadPattern> {
    let mut segments = segments(pattern)?;
    let mut characters: Vec<char> = value.chars().collect();
    if at_end {
        segments.reverse();
        for segment in &mut segments {
            segment.reverse();
        }
        characters.reverse();
    }
    let matched = matched(&characters, &segments, longest).unwrap_or(0);
    let rest = characters.split_off(matched);
    Ok(if at_end { rest.iter().rev().collect() } else { rest.iter().collect() })
}

/// A value with the first, or every, longest match replaced. A pattern that is empty matches nothing.
pub(crate) fn replaced(
    value: &str,
    pattern: &str,
    new: &str,
    everywhere: bool,
) -> Result<String, BadPattern> {
    let segments = segments(pattern)?;
    if pattern.is_empty() {
        return Ok(value.to_owned());
    }
    let characters: Vec<char> = value.chars().collect();
    let mut output = String::new();
    let mut at = 0;
    while at < characters.len() {
        let rest = &characters[at..];
        if !starts(rest, &segments[0]) {
            output.push(characters[at]);
            at += 1;
            continue;
        }
        // Where the first part matches and the rest does not, no later place has more behind it.
        let Some(length) = matched(rest, &segments, true).filter(|length| *length > 0) else {
            break;
        };
        output.push_str(new);
        at += length;
        if !everywhere {
            break;
        }
    }
    output.extend(&characters[at..]);
    Ok(output)
}

/// What lies between the stars; one more than there are stars.
fn segments(pattern: &str) -> Result<Vec<Segment>, BadPattern> {
    let mut segments = vec![Segment::new()];
    let mut last = Segment::new();
    let mut characters = pattern.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '*' => {
                if let Some(end) = segments.last_mut() {
                    *end = std::mem::take(&mut last);
                }
                segments.push(Segment::new());
            }
            '?' => last.push(None),
            // These had to be escaped to stand in `${…}`.
            '\\' if matches!(characters.peek(), Some('}' | '/')) => {}
            '\\' => match characters.next() {
                Some(literal @ ('*' | '?' | '\\')) => last.push(Some(literal)),
                _ => return Err(BadPattern),
            },
            literal => last.push(Some(literal)),
        }
    }
    if let Some(end) = segments.last_mut() {
        *end = last;
    }
    Ok(segments)
}

/// How many characters at the start match all segments with any text between them.
fn matched(characters: &[char], segments: &[Segment], longest: bool) -> Option<usize> {
    let (first, others) = segments.split_first()?;
    if !starts(characters, first) {
        return None;
    }
    let mut at = first.len();
    let Some((last, middle)) = others.split_last() else { return Some(at) };
    for segment in middle {
        at = at + find(&characters[at..], segment)? + segment.len();
    }
    let rest = &characters[at..];
    let found = if longest { find_last(rest, last) } else { find(rest, last) };
    Some(at + found? + last.len())
}

fn starts(characters: &[char], segment: &[Option<char>]) -> bool {
    let alike = |(c, wanted): (&char, &Option<char>)| wanted.is_none_or(|wanted| wanted == *c);
    characters.len() >= segment.len() && characters.iter().zip(segment).all(alike)
}

fn find(characters: &[char], segment: &[Option<char>]) -> Option<usize> {
    let last = characters.len().checked_sub(segment.len())?;
    (0..=last).find(|at| starts(&characters[*at..], segment))
}

fn find_last(characters: &[char], segment: &[Option<char>]) -> Option<usize> {
    let last = characters.len().checked_sub(segment.len())?;
    (0..=last).rev().find(|at| starts(&characters[*at..], segment))
}
