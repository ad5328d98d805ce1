use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn values() -> BTreeMap<String, String> {
    let pairs =
        [("a", "one"), ("b", "x y"), ("empty", ""), ("path", "/usr/lib/x.tar.gz"), ("_1", "u")];
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

fn word(text: &str) -> Result<String, ExpandError> {
    Expander::new('\\', &values(), &mut Budget::default()).word(text)
}

fn is(text: &str, expected: &str) {
    assert_eq!(word(text).as_deref(), Ok(expected), "{text}");
}

#[test]
fn plain_words_lose_their_quotes_and_escapes() {
    is(r#"a"b c"'d $a'"#, "ab cd $a");
    is(r#""\"\$a\x\\""#, r#""$a\x\"#);
    is(r"\$a\'", "$a'");
    is("$", "$");
    is("a$ b", "a$ b");
}

#[test]
fn variables_stand_for_their_values() {
    is("$a$b", "onex y");
    is("${a}b", "oneb");
    is(r#""${b}""#, "x y");
    is("$_1-$missing.", "u-.");
    is("$1a$@", "a");
}

#[test]
fn modifiers_choose() {
    is("${missing:-${a}-2}", "one-2");
    is("${empty:-d}|${empty-d}|${missing-d}", "d||d");
    is("${empty:+s}|${empty+s}|${missing+s}|${a:+s}", "|s||s");
    is("${a?no}", "one");
    is(r"${missing:-\}}", "}");
    let needed = |name: &str, message: &str| {
        Err(ExpandError::Needed { name: name.to_owned(), message: message.to_owned() })
    };
    assert_eq!(word("${missing?set it}"), needed("missing", "set it"));
    assert_eq!(word("${empty:?}"), needed("empty", "it is not set, or empty"));
}

#[test]
fn patterns_trim_and_replace() {
    is("${path#*/}", "usr/lib/x.tar.gz");
    is("${path##*/}", "x.tar.gz");
    is("${path%.*}", "/usr/lib/x.tar");
    is("${path%%.*}", "/usr/lib/x");
    is("${path#none}", "/usr/lib/x.tar.gz");
    is(r"${path/\/usr/}", "/lib/x.tar.gz");
    is(r"${path//\//-}", "-usr-lib-x.tar.gz");
    is("${path/l?b/LIB}", "/usr/LIB/x.tar.gz");
    is("${path//r*b/-}", "/us-/x.tar.gz");
    is("${missing/a/b}", "");
}

#[test]
fn what_is_wrong_is_said() {
    assert_eq!(word("'a"), Err(ExpandError::Quote('\'')));
    assert_eq!(word("\"a"), Err(ExpandError::Quote('"')));
    assert_eq!(word("${a"), Err(ExpandError::Open));
    assert_eq!(word("${}"), Err(ExpandError::NoName));
    assert_eq!(word("${a!b}"), Err(ExpandError::Modifier("!".to_owned())));
    assert_eq!(word("${a:x}"), Err(ExpandError::Modifier(":x".to_owned())));
    assert_eq!(word("${a/x}"), Err(ExpandError::OpenPattern));
    assert_eq!(word(r"${a#\x}"), Err(ExpandError::Pattern(r"\x".to_owned())));
    assert_eq!(word(&("${m:-".repeat(70) + &"}".repeat(70))), Err(ExpandError::Deep));
}

#[test]
fn values_of_variables_divide_words_and_quoted_ones_do_not() {
    let (values, mut budget) = (values(), Budget::default());
    let mut expander = Expander::new('\\', &values, &mut budget);
    let words = expander.words(r#"p$b "$b" q\ r "#);
    assert_eq!(words, Ok(["px", "y", "x y", "q r"].map(str::to_owned).to_vec()));
}

#[test]
fn heredocs_keep_their_quotes() {
    let (values, mut budget) = (values(), Budget::default());
    let mut expander = Expander::new('`', &values, &mut budget);
    let content = expander.heredoc("say \"$a\" '${b}' \\$a\n");
    assert_eq!(content.as_deref(), Ok("say \"one\" 'x y' $a\n"));
}

#[test]
fn a_file_cannot_stand_for_more_than_fits() {
    let mut values = values();
    values.insert("big".to_owned(), "x".repeat(1 << 20));
    let mut budget = Budget::default();
    let result = Expander::new('\\', &values, &mut budget).word(&"$big".repeat(100));
    assert_eq!(result, Err(ExpandError::Long));
}

/// What the shell's pattern means, by trying every length.
fn slow_trimmed(value: &str, pattern: &[char], longest: bool) -> usize {
    fn matches(value: &[char], pattern: &[char]) -> bool {
        match pattern.split_first() {
            None => value.is_empty(),
            Some(('*', rest)) => (0..=value.len()).any(|at| matches(&value[at..], rest)),
            Some(('?', rest)) => !value.is_empty() && matches(&value[1..], rest),
            Some((c, rest)) => value.first() == Some(c) && matches(&value[1..], rest),
        }
    }
    let value: Vec<char> = value.chars().collect();
    let mut lengths = (0..=value.len()).filter(|length| matches(&value[..*length], pattern));
    let found = if longest { lengths.next_back() } else { lengths.next() };
    found.unwrap_or(0)
}

proptest! {
    #[test]
    fn any_text_is_expanded_or_refused(text in "[$ {}:?+#%/a-c'\"\\\\é-]{0,40}") {
        let first = word(&text);
        prop_assert_eq!(first, word(&text));
    }

    #[test]
    fn text_without_meaning_stays(text in "[ a-zA-Z0-9/.:=,@{}é]{0,40}") {
        prop_assert_eq!(word(&text), Ok(text));
    }

    #[test]
    fn what_is_quoted_once_stays(text in "[^']{0,40}") {
        prop_assert_eq!(word(&format!("'{text}'")), Ok(text));
    }

    #[test]
    fn a_value_is_never_looked_at_again(value in "[^\0]{0,30}") {
        let values: BTreeMap<String, String> = [("v".to_owned(), value.clone())].into();
        let mut budget = Budget::default();
        let mut expander = Expander::new('\\', &values, &mut budget);
        prop_assert_eq!(expander.word("${v}"), Ok(value.clone()));
        prop_assert_eq!(expander.word("$v"), Ok(value.clone()));
        prop_assert_eq!(expander.word("${w:-$v}"), Ok(value.clone()));
        prop_assert_eq!(expander.words("\"$v\""), Ok(if value.is_empty() { vec![] } else { vec![value] }));
    }

    #[test]
    fn trimming_takes_what_the_pattern_means(value in "[ab]{0,8}", pattern in "[ab*?]{0,6}", longest: bool) {
        let given: Vec<char> = pattern.chars().collect();
        let length = slow_trimmed(&value, &given, longest);
        prop_assert_eq!(
            substitute::trimmed(&value, &pattern, false, longest),
            Ok(value[length..].to_owned())
        );
        let backwards: String = value.chars().rev().collect();
        let turned: String = given.iter().rev().collect();
        prop_assert_eq!(
            substitute::trimmed(&backwards, &turned, true, longest),
            Ok(value[length..].chars().rev().collect::<String>())
        );
    }
}
