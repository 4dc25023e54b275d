//! TOML that people write: what is wrong with it, without quoting it.
//!
//! A wrong file may be given by mistake, a transcript among them, and its text belongs in no log: errors name the place.

use serde::de::DeserializeOwned;

/// Characters of the parser's own words.
const WORDS_CHARS_MAX: usize = 160;

/// The value of a TOML text.
///
/// # Errors
/// `line 3, column 7: …` where it is no TOML, or of another form.
pub fn from_toml<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let words: String = error.message().chars().filter(|c| !c.is_control()).take(WORDS_CHARS_MAX).collect();
        let Some(before) = error.span().and_then(|span| text.get(..span.start)) else { return words };
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        format!("line {line}, column {column}: {words}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_place_and_quotes_no_line() {
        let error = from_toml::<toml::Table>("a = 1\n{\"content\": \"she lives there\"}\n").unwrap_err();
        assert!(error.starts_with("line 2, column 1: ") && !error.contains("lives"), "{error}");
        let error = from_toml::<std::collections::BTreeMap<String, u8>>("a = 1\nb = 'x'\n").unwrap_err();
        assert!(error.starts_with("line 2, column 5: "), "{error}");
    }
}
