//! Text → words with their places, without case and without a possessive's `'s`.

/// What stands between a word and the one before it; of several the one that parts most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Gap {
    Space,
    Quote,
    Comma,
    /// A bracket or dash.
    Aside,
    /// The end of a sentence or line, or the beginning of the text.
    Stop,
}

/// One word.
#[derive(Debug, Clone)]
pub(super) struct Word {
    /// Bytes of the text.
    pub start: usize,
    pub end: usize,
    /// Lower case, apostrophes as `'`.
    pub lower: String,
    /// Begins with a capital.
    pub capital: bool,
    /// All capitals, two or more.
    pub shouted: bool,
    /// `'s` or `s'` follows.
    pub owner: bool,
    pub before: Gap,
}

/// Longer words are kept by their beginning: nobody is called so.
const WORD_CHARS_MAX: usize = 40;
/// After these a full stop ends no sentence.
const ABBREVIATED: [&str; 12] = ["mr", "mrs", "ms", "dr", "prof", "st", "rev", "sgt", "capt", "lt", "jr", "sr"];

/// What is no part of a word: a possessive, and short verbs.
const CLITICS: [&str; 4] = ["'s", "'d", "'ll", "'ve"];

/// The words of a text, in its order.
pub(super) fn words(text: &str) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut chars = text.char_indices().peekable();
    let (mut begun, mut before) = (None, Gap::Stop);
    while let Some((at, c)) = chars.next() {
        let next_is_letter = chars.peek().is_some_and(|(_, next)| next.is_alphanumeric());
        if c.is_alphanumeric() {
            begun.get_or_insert(at);
        } else if begun.is_none() || !next_is_letter || !may_stand_inside(c) {
            if let Some(start) = begun.take() {
                words.push(Word::new(text, (start, at), before));
                before = Gap::Space;
            }
            if let Some(last) = words.last_mut().filter(|last| last.end == at && is_apostrophe(c)) {
                // "the boys' room"; after a quotation mark it closes the quotation.
                last.owner |= last.lower.ends_with('s') && last.before != Gap::Quote;
            }
            before = before.max(gap(c, words.last()));
        }
    }
    if let Some(start) = begun {
        words.push(Word::new(text, (start, text.len()), before));
    }
    words
}

impl Word {
    fn new(text: &str, (start, end): (usize, usize), before: Gap) -> Self {
        let written = &text[start..end];
        let plain = |c: char| if is_apostrophe(c) { '\'' } else { c };
        let mut lower: String = written.chars().flat_map(char::to_lowercase).map(plain).take(WORD_CHARS_MAX).collect();
        let owner = lower.len() > 2 && lower.ends_with("'s");
        let mut end = end;
        if let Some(stem) = CLITICS.iter().find_map(|tail| lower.strip_suffix(tail)).filter(|stem| !stem.is_empty()) {
            lower.truncate(stem.len());
            end = written.rfind(is_apostrophe).map_or(end, |tail| start + tail);
        }
        let letters = || written.chars().filter(|c| c.is_alphabetic());
        let capital = written.chars().next().is_some_and(char::is_uppercase);
        let shouted = letters().count() > 1 && letters().all(char::is_uppercase);
        Self { start, end, lower, capital, shouted, owner, before }
    }
}

fn is_apostrophe(c: char) -> bool {
    matches!(c, '\'' | '’' | 'ʼ')
}

fn may_stand_inside(c: char) -> bool {
    is_apostrophe(c) || c == '-'
}

fn gap(c: char, last: Option<&Word>) -> Gap {
    match c {
        '.' if last.is_some_and(|word| abbreviated(&word.lower)) => Gap::Space,
        '.' | '!' | '?' | ';' | ':' | '\n' | '…' => Gap::Stop,
        ',' => Gap::Comma,
        '(' | ')' | '[' | ']' | '–' | '—' | '-' | '/' => Gap::Aside,
        '"' | '“' | '”' | '«' | '»' | '‘' | '’' => Gap::Quote,
        _ => Gap::Space,
    }
}

/// A title, or an initial.
fn abbreviated(word: &str) -> bool {
    ABBREVIATED.contains(&word) || (word.chars().count() == 1 && word != "i")
}
