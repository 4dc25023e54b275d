//! Words → the phrases that name somebody.

use std::collections::{HashMap, HashSet};

use super::lexicon::{self, Gender, List, Noun, is};
use super::similar::is_typo;
use super::words::{Gap, Word};

/// A phrase that names a person, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// Bytes of the text.
    pub start: usize,
    pub end: usize,
    /// Words, both included.
    pub first: usize,
    pub last: usize,
    pub what: What,
}

/// A name, or a description.
#[derive(Debug, Clone)]
pub(super) enum What {
    Name(Name),
    Phrase(Phrase),
}

/// "Dr. Ada Brook".
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub title: Option<String>,
    pub parts: Vec<String>,
    pub gender: Gender,
    /// By its place or a list a person's name, not only a capitalised word.
    pub sure: bool,
    /// With a capital where a common word has none.
    pub capital: bool,
    /// A sentence of nothing else.
    pub alone: bool,
    /// Given to somebody by a pronoun: "her name is Ida", "I call him the Heron".
    pub given_to: Option<Gender>,
}

/// "my sister", "the lady downstairs".
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Phrase {
    pub whose: Whose,
    pub noun: Noun,
    /// Words between the determiner and the noun.
    pub extra: Vec<String>,
    /// The word that ends what stands after it: "the boy in loafers".
    pub after: Option<String>,
}

/// The determiner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    My,
    Your,
    He,
    She,
    They,
    /// Of the person of an earlier phrase, by its index.
    Of(usize),
    The,
    That,
    A,
    Bare,
}

/// Names and code words of earlier messages.
#[derive(Debug, Default)]
pub(super) struct Known<'a> {
    /// Of each word, whether it surely is a person's.
    words: HashMap<&'a str, bool>,
    by_letter: HashMap<char, HashSet<&'a str>>,
}

/// Shorter words are known by nothing but a capital.
const KNOWN_BYTES_MIN: usize = 3;
/// A word without a capital is a slip of a name from this length on.
const TYPO_BYTES_MIN: usize = 7;

impl<'a> Known<'a> {
    pub fn add(&mut self, word: &'a str, sure: bool) {
        *self.words.entry(word).or_default() |= sure;
        if let Some(first) = word.chars().next() {
            self.by_letter.entry(first).or_default().insert(word);
        }
    }

    /// Is this word part of somebody's name, perhaps with a slip?
    fn knows(&self, word: &Word) -> bool {
        let lower = word.lower.as_str();
        if lower.len() < KNOWN_BYTES_MIN {
            return false;
        }
        let near = || {
            let alike = lower.chars().next().and_then(|first| self.by_letter.get(&first));
            let may = (word.capital || lower.len() >= TYPO_BYTES_MIN) && lexicon::noun(lower).is_none();
            may && alike.is_some_and(|names| names.iter().any(|name| self.holds(name, word) && is_typo(name, lower)))
        };
        self.holds(lower, word) || near()
    }

    fn holds(&self, name: &str, word: &Word) -> bool {
        self.words.get(name).is_some_and(|sure| *sure || word.capital)
    }

    /// Is anybody called exactly so?
    pub fn is_called(&self, word: &str) -> bool {
        self.words.contains_key(word)
    }
}

/// Phrases of one message that are read; what is longer is a document, not talk.
pub(super) const FOUND_MAX: usize = 400;

/// The phrases of a message, in the order in which they end.
pub(super) fn find(words: &[Word], known: &Known) -> Vec<Found> {
    let capitals = words.iter().filter(|word| word.capital && word.lower != "i").count();
    let plain = capitals * WORDS_A_CAPITAL < words.len();
    let mut finding = Finding { words, known, plain, found: Vec::new() };
    let mut index = 0;
    while index < words.len() && finding.found.len() < FOUND_MAX {
        index = finding.at(index);
    }
    finding.found
}

/// A text with fewer capitals than one in so many words is written without them.
const WORDS_A_CAPITAL: usize = 12;

/// A message on its way.
pub(super) struct Finding<'a> {
    pub words: &'a [Word],
    pub known: &'a Known<'a>,
    /// Written without capitals.
    pub plain: bool,
    pub found: Vec<Found>,
}

impl Finding<'_> {
    /// Looks at one word; the next to be looked at.
    fn at(&mut self, index: usize) -> usize {
        if let Some(next) = self.code_word(index).or_else(|| self.name(index)) {
            return next;
        }
        if let Some(noun) = self.noun(index) {
            self.phrase(index, noun);
        }
        index + 1
    }

    /// The word after this one, where nothing stands between.
    pub fn next(&self, index: usize) -> Option<&Word> {
        self.words.get(index + 1).filter(|next| next.before == Gap::Space && !self.words[index].owner)
    }

    /// The word before this one, where nothing stands between.
    pub fn previous(&self, index: usize) -> Option<&Word> {
        self.words.get(index.checked_sub(1)?).filter(|_| self.words[index].before == Gap::Space)
    }

    /// The word so many before, whatever stands between; empty where there is none.
    pub fn back(&self, index: usize, by: usize) -> &str {
        index.checked_sub(by).map_or("", |at| self.words[at].lower.as_str())
    }

    /// First of a sentence or quotation.
    pub fn opens(&self, index: usize) -> bool {
        matches!(self.words[index].before, Gap::Stop | Gap::Quote)
    }

    /// Whether somebody does something: a verb of people follows, or one in the past.
    pub fn acts(&self, index: usize) -> bool {
        let past = |word: &str| word.len() > 4 && word.ends_with("ed");
        let does = |word: &str| is(List::Deeds, word) || is(List::Sayings, word) || past(word);
        self.next(index).is_some_and(|next| does(&next.lower))
    }

    /// Names a user is about to say of somebody: the word is known from earlier messages.
    pub fn knows(&self, index: usize) -> bool {
        self.known.knows(&self.words[index])
    }
}

/// The determiner a word is; `Some(None)` of those of nobody in particular.
pub(super) fn determiner(word: &str) -> Option<Option<Whose>> {
    Some(match word {
        "my" | "our" => Some(Whose::My),
        "your" | "ur" => Some(Whose::Your),
        "his" => Some(Whose::He),
        "her" => Some(Whose::She),
        "their" => Some(Whose::They),
        "the" => Some(Whose::The),
        "this" | "that" | "these" | "those" => Some(Whose::That),
        "a" | "an" | "one" | "another" | "some" => Some(Whose::A),
        _ if is(List::Nobody, word) => None,
        _ => return None,
    })
}
