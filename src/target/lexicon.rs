//! What a word may be: a person by relation, trade or name, or one of the words around it.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::lists;

/// What pronoun goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Gender {
    #[default]
    Unknown,
    She,
    He,
}

impl Gender {
    /// Nothing speaks against both being one person's.
    pub fn agrees(self, other: Self) -> bool {
        self == Self::Unknown || other == Self::Unknown || self == other
    }
}

/// What kind of word for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// Of somebody's family, or close to it: "my ex", "Mom".
    Kin,
    /// In a relation or a trade: "the landlord", "a nurse".
    Role,
    /// A person and no more: "the woman".
    Plain,
}

/// A word for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Noun {
    /// One word for all that mean the same: `mother` for "mum".
    pub head: &'static str,
    pub gender: Gender,
    pub plural: bool,
    pub sort: Sort,
}

/// Lists of words of one use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    Function,
    NoNames,
    PlacesAfter,
    PlacesBefore,
    Deeds,
    Sayings,
    Counts,
    Doubtful,
    DoubtfulNames,
    Starters,
    Common,
    Telling,
    Qualifiers,
    Address,
    Clauses,
    Nobody,
    Calls,
    Others,
}

const LISTS: [(List, &str); 18] = [
    (List::Function, lists::FUNCTION),
    (List::NoNames, lists::NO_NAMES),
    (List::PlacesAfter, lists::PLACES_AFTER),
    (List::PlacesBefore, lists::PLACES_BEFORE),
    (List::Deeds, lists::DEEDS),
    (List::Sayings, lists::SAYINGS),
    (List::Counts, lists::COUNTS),
    (List::Doubtful, lists::DOUBTFUL),
    (List::DoubtfulNames, lists::DOUBTFUL_NAMES),
    (List::Starters, lists::STARTERS),
    (List::Common, lists::COMMON),
    (List::Telling, lists::TELLING),
    (List::Qualifiers, lists::QUALIFIERS),
    (List::Address, lists::ADDRESS),
    (List::Clauses, lists::CLAUSES),
    (List::Nobody, lists::NOBODY),
    (List::Calls, lists::CALLS),
    (List::Others, lists::OTHERS),
];

/// Words that end so are trades of the last part.
const ENDINGS: [(&str, Gender); 10] = [
    ("woman", Gender::She),
    ("lady", Gender::She),
    ("man", Gender::He),
    ("ologist", Gender::Unknown),
    ("keeper", Gender::Unknown),
    ("teacher", Gender::Unknown),
    ("mate", Gender::Unknown),
    ("smith", Gender::Unknown),
    ("boy", Gender::He),
    ("girl", Gender::She),
];
/// And words that end so and are none.
const NO_TRADES: [&str; 13] = [
    "human",
    "german",
    "roman",
    "norman",
    "climate",
    "ultimate",
    "estimate",
    "intimate",
    "legitimate",
    "approximate",
    "checkmate",
    "cowboy",
    "tomboy",
];

fn entries(list: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    list.split_whitespace().map(|entry| entry.split_once('=').unwrap_or((entry, entry)))
}

static NOUNS: LazyLock<HashMap<&'static str, Noun>> = LazyLock::new(|| {
    let kinds = [
        (lists::SHE_KIN, Gender::She, Sort::Kin),
        (lists::HE_KIN, Gender::He, Sort::Kin),
        (lists::KIN, Gender::Unknown, Sort::Kin),
        (lists::SHE_ROLE, Gender::She, Sort::Role),
        (lists::HE_ROLE, Gender::He, Sort::Role),
        (lists::ROLE, Gender::Unknown, Sort::Role),
        (lists::SHE_PLAIN, Gender::She, Sort::Plain),
        (lists::HE_PLAIN, Gender::He, Sort::Plain),
        (lists::PLAIN, Gender::Unknown, Sort::Plain),
    ];
    let mut nouns = HashMap::new();
    for (list, gender, sort) in kinds {
        for (word, head) in entries(list) {
            nouns.entry(word).or_insert(Noun { head, gender, plural: is_group(head), sort });
        }
    }
    for (word, one) in entries(lists::PLURALS) {
        if let Some(noun) = nouns.get(one).copied() {
            nouns.insert(word, Noun { plural: true, ..noun });
        }
    }
    nouns
});

static TITLES: LazyLock<HashMap<&'static str, Gender>> = LazyLock::new(|| {
    let gender = |(title, pronoun)| match pronoun {
        "he" => (title, Gender::He),
        "she" => (title, Gender::She),
        _ => (title, Gender::Unknown),
    };
    entries(lists::TITLES).map(gender).collect()
});

static GIVEN: LazyLock<HashMap<&'static str, Gender>> = LazyLock::new(|| {
    let she = lists::SHE_NAMES.split_whitespace().map(|name| (name, Gender::She));
    she.chain(lists::HE_NAMES.split_whitespace().map(|name| (name, Gender::He))).collect()
});

/// A bit a list.
static LISTED: LazyLock<HashMap<&'static str, u32>> = LazyLock::new(|| {
    let mut listed: HashMap<&'static str, u32> = HashMap::new();
    for (list, words) in LISTS {
        words.split_whitespace().for_each(|word| *listed.entry(word).or_default() |= 1 << list as u32);
    }
    listed
});

/// One word for several.
fn is_group(head: &str) -> bool {
    matches!(head, "family" | "crew" | "team" | "committee" | "couple" | "gang")
}

/// Whether a word stands in a list.
pub(super) fn is(list: List, word: &str) -> bool {
    LISTED.get(word).is_some_and(|bits| bits & (1 << list as u32) != 0)
}

/// The word for a person, if it is one.
pub(super) fn noun(word: &str) -> Option<Noun> {
    if let Some(noun) = NOUNS.get(word) {
        return Some(*noun);
    }
    if let Some(rest) = word.strip_prefix("great-") {
        return NOUNS.get(rest).copied().filter(|noun| noun.sort == Sort::Kin);
    }
    let one = word.strip_suffix('s').filter(|one| one.len() > 2);
    if let Some(noun) = one.and_then(|one| NOUNS.get(one)).filter(|noun| !noun.plural) {
        return Some(Noun { plural: true, ..*noun });
    }
    let trade = |(ending, _): &(&str, Gender)| word.len() > ending.len() + 2 && word.ends_with(ending);
    let (head, gender) = ENDINGS.into_iter().find(trade)?;
    (!NO_TRADES.contains(&word)).then_some(Noun { head, gender, plural: false, sort: Sort::Role })
}

/// A title before a name, and the gender it tells.
pub(super) fn title(word: &str) -> Option<Gender> {
    TITLES.get(word).copied()
}

/// The gender of a common given name.
pub(super) fn given(word: &str) -> Option<Gender> {
    GIVEN.get(word).copied()
}
