//! The word that somebody probably meant.

/// The known word nearest to a wrong one, when it is near enough to be a slip.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Longer words are not compared, nor more of them: both would take long.
    const LONGEST: usize = 64;
    const MOST_WORDS: usize = 1000;
    if wrong.len() > LONGEST {
        return None;
    }
    let wrong = wrong.to_lowercase();
    let slips = |word: &str| strsim::damerau_levenshtein(&wrong, &word.to_lowercase());
    let most = (wrong.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .filter(|word| word.len() <= LONGEST)
        .take(MOST_WORDS)
        .map(|word| (slips(word), word))
        .filter(|(slips, _)| *slips <= most)
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, word)| word)
}

/// `did you mean …?` for a wrong word, else what there is.
pub(crate) fn hint<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(word) = nearest(wrong, known.clone()) {
        return format!("did you mean `{word}`?");
    }
    let words: Vec<String> = known.into_iter().map(|word| format!("`{word}`")).collect();
    if words.is_empty() {
        "there is none".to_owned()
    } else {
        format!("one of {}", words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_slips_and_nothing_else() {
        let known = ["image", "command", "ports"];
        assert_eq!(nearest("imgae", known), Some("image"));
        assert_eq!(nearest("Port", known), Some("ports"));
        assert_eq!(nearest("healthcheck", known), None);
    }
}
