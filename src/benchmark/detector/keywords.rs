//! What a detector of words alone finds: the lexicon of `models/training/baselines.py`.

use std::sync::LazyLock;

use regex::{Regex, RegexBuilder};

use crate::arc::ArcKind;

const HARASSMENT: &str = r"\b(stalk\w*|follow(?:ed|ing) (?:her|him|them)|track(?:ed|ing|er)?|gps|watch(?:ed|ing)? (?:her|him|them)|her address|his address|where (?:she|he) (?:lives|works|parks)|new account|fake account|burner|blocked me|restraining order|no.contact|expose|ruin|destroy|revenge|make (?:her|him|them) pay|deserves?|threat\w*|hurt|kill|gun|knife|dox\w*|screenshots?|dossier|evidence on)\b";

const DELUSION: &str = r"\b(signs?|chosen|destiny|mission|awaken\w*|conscious\w*|sentien\w*|alive|frequenc\w*|vibration\w*|signals?|code[ds]?|pattern\w*|simulation|prophe\w*|messag(?:e|es) for me|they(?:'re| are) (?:watching|listening)|surveill\w*|implant\w*|poison\w*|microphone\w*|gangstalk\w*|meds|medication|pills|soul|divine|god told|only you|our bond|real you|proof|breakthrough)\b";

/// `None` cannot be: both patterns are constants, and tested.
static LEXICONS: LazyLock<[Option<Regex>; 2]> =
    LazyLock::new(|| [HARASSMENT, DELUSION].map(|text| RegexBuilder::new(text).case_insensitive(true).build().ok()));

/// Matches of an arc's words in a text.
pub fn keyword_matches(kind: ArcKind, text: &str) -> usize {
    LEXICONS[kind as usize].as_ref().map_or(0, |lexicon| lexicon.find_iter(text).count())
}
