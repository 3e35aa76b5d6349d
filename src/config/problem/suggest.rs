//! Suggests what a misspelt word may mean ("Did you mean …?").

/// Finds the candidate that `word` most likely stands for, if any is similar enough to be suggested.
///
/// Case and the difference between `-` and `_` are ignored.
#[must_use]
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > LONGEST {
        return None;
    }
    let folded = fold(word);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= LONGEST)
        .filter_map(|candidate| distance(&folded, &fold(candidate)).map(|distance| (distance, candidate)))
        .min()
        .map(|(_, candidate)| candidate)
}

/// The greatest length of a text that is compared, in bytes. A longer one is no misspelling, and would be expensive.
const LONGEST: usize = 64;

/// The least similarity (Jaro-Winkler) of a shortened word, as `addr` has to `address`.
const ALIKE: f64 = 0.88;

fn distance(word: &str, candidate: &str) -> Option<usize> {
    let edits = strsim::damerau_levenshtein(word, candidate);
    let longest = word.chars().count().max(candidate.chars().count());
    let close = edits <= (longest / 3).max(1) && edits < longest;
    (close || strsim::jaro_winkler(word, candidate) >= ALIKE).then_some(edits)
}

fn fold(word: &str) -> String {
    word.to_lowercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::did_you_mean;

    #[test]
    fn finds_what_was_meant() {
        let known = ["address", "tls", "max_body", "prefix", "host"];
        for (word, meant) in [
            ("adress", Some("address")),
            ("addr", Some("address")),
            ("Max-Body", Some("max_body")),
            ("hots", Some("host")),
            ("perfix", Some("prefix")),
            ("colour", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(did_you_mean(word, known), meant, "{word}");
        }
    }

    #[test]
    fn leaves_a_long_text_alone() {
        let long = "a".repeat(100_000);
        assert_eq!(did_you_mean(&long, [long.as_str(), "a"]), None);
    }
}
