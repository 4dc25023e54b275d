//! Toward whom: the people a user speaks of, linked over messages and sessions.
//!
//! Pure: no IO, no clock (time is an argument), no tensors, no model. [`People::step`] is the only way a message enters, so a
//! stream and a batch give the same people. It reads English, in time linear in the message.
//!
//! ```text
//! text → words → phrases (names, relations, descriptions, code words) → people: sieves, the surest first → whom it is about
//! ```
//!
//! The sieves are those of rule-based coreference (Lee et al. 2013, *Deterministic coreference resolution based on
//! entity-centric, precision-ranked rules*, §3; Raghunathan et al. 2010), in an order that a stream allows:
//!
//! 1. what stands side by side: "my ex Dana", "Dana, my ex", "a boss named Dana", "her name is Dana", "I call him the Heron";
//! 2. the same name, then a part of it, a short form or an initial, a slip of the keyboard (restricted Damerau–Levenshtein
//!    distance; Damerau 1964); never across two full names that differ, nor "Mr" and "she";
//! 3. the same relation to the same person: "my sister", "Dana's sister", "her sister" while Dana is in mind;
//! 4. the same word for a person, unless something tells them apart ("the other doctor", "the man at the desk");
//! 5. "the woman", "that boy": who is most in mind, as pronouns do.
//!
//! Who is in mind is a sum that each mention raises and that fades over messages, sessions and days, with the logarithm
//! of how many messages were about them: salience as in Lappin & Leass 1994, *An algorithm for pronominal anaphora resolution*,
//! without syntax. A pronoun means whoever is most in mind and may be `he` or `she`; a message is about everybody it names
//! or means so.
//!
//! Two ids that turn out to be one person's become the older one; [`People::resolve`] says which. At most [`PEOPLE_MAX`]
//! people are kept: to make room, whoever is least in mind, and of those was spoken of longest ago, is one of
//! [`PersonId::OTHERS`] from then on, and new if spoken of again. Of a message at most 400 phrases are read; how many people a
//! text names by then tells nothing.
//!
//! What it cannot do: know without a word of the user that a name and a relation of different messages are one person, that
//! a code word that nobody introduced is a person, or which of two doctors is meant; read names that look like other words in a
//! text without capitals; follow "they". Sessions that arrive late are linked in the order of arrival, so that who is one with whom may depend on
//! it. It reads nothing of what the assistant says. `datasets/README.md` has the figures.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::arc::MessageAt;

mod about;
mod lexicon;
mod link;
mod lists;
mod mention;
mod name;
mod person;
mod phrase;
mod sieve;
mod similar;
mod toward;
mod words;

pub use toward::{Target, Toward};

use mention::Known;
use person::{Owner, Person};

/// People kept of one user.
pub const PEOPLE_MAX: usize = 64;
/// Characters of a label.
const LABEL_CHARS_MAX: usize = 60;

/// A person of one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PersonId(pub u32);

impl PersonId {
    /// All who were folded together because there were too many.
    pub const OTHERS: Self = Self(0);
}

/// A message of the user, on its way in.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    pub at: MessageAt,
    /// When it was written, or its session began, if that is known.
    pub time: Option<Timestamp>,
    pub text: &'a str,
}

/// Words that name somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mention {
    /// Bytes of the message.
    pub start: usize,
    pub end: usize,
    pub person: PersonId,
}

/// What a message says of people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spoken {
    /// In the order in which they end.
    pub mentions: Vec<Mention>,
    /// Whom the message is about, each once; [`People::is_human`] says of whom that is known.
    pub about: Vec<PersonId>,
}

/// The people of one user, as far as was read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct People {
    people: Vec<Person>,
    /// Ids given so far.
    given: u32,
    last: Option<(MessageAt, Option<Timestamp>)>,
    /// Whom the message before was about.
    before: Vec<PersonId>,
}

impl People {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the user's next message.
    pub fn step(&mut self, said: &Said) -> Spoken {
        self.advance(said);
        let words = words::words(said.text);
        let found = mention::find(&words, &self.known());
        let linked = link::link(self, said, &words, &found);
        let about = self.about(&linked);
        self.before.clone_from(&about);
        let mentions = found
            .iter()
            .zip(&linked.people)
            .map(|(found, person)| Mention { start: found.start, end: found.end, person: self.resolve(*person) })
            .collect();
        Spoken { mentions, about }
    }

    /// The id under which a person is known now: of two that were found to be one, the older's. [`PersonId::OTHERS`] of one that is
    /// not kept any more.
    pub fn resolve(&self, id: PersonId) -> PersonId {
        self.people.iter().find(|person| person.is(id)).map_or(PersonId::OTHERS, |person| person.id)
    }

    /// The first name or relation as it was written.
    pub fn label(&self, id: PersonId) -> Option<&str> {
        self.get(id).map(|person| person.label.as_str())
    }

    fn known(&self) -> Known<'_> {
        let mut known = Known::default();
        for name in self.people.iter().flat_map(|person| &person.names) {
            name.parts.iter().for_each(|part| known.add(part, name.sure));
        }
        known
    }

    /// Two ids turned out to be one person's; the older one stays.
    fn merge(&mut self, a: PersonId, b: PersonId) -> PersonId {
        let (kept, gone) = (a.min(b), a.max(b));
        let Some(at) = self.people.iter().position(|person| person.id == gone) else { return kept };
        let other = self.people.remove(at);
        if let Some(person) = self.get_mut(kept) {
            person.absorb(other);
        }
        self.hand_over(gone, Owner::Person(kept));
        kept
    }

    /// Makes room: whoever is least in mind, and of those was spoken of longest ago, is one of the others from now on.
    fn fold(&mut self) {
        let order = |one: &Person, other: &Person| {
            one.salience().total_cmp(&other.salience()).then(one.last.cmp(&other.last)).then(one.id.cmp(&other.id))
        };
        let least = self.people.iter().enumerate().min_by(|(_, one), (_, other)| order(one, other));
        if let Some(index) = least.map(|(index, _)| index) {
            let gone = self.people.remove(index).id;
            self.hand_over(gone, Owner::Nobody);
        }
    }

    /// Whoever was somebody's wife is another's.
    fn hand_over(&mut self, gone: PersonId, to: Owner) {
        let described = self.people.iter_mut().flat_map(|person| &mut person.described);
        described.filter(|known| known.owner == Owner::Person(gone)).for_each(|known| known.owner = to);
    }

    /// Whether this is surely a person, by what was said so far: a capitalised word alone may be a place or a thing.
    pub fn is_human(&self, id: PersonId) -> bool {
        self.get(id).is_some_and(|person| person.human)
    }

    fn get(&self, id: PersonId) -> Option<&Person> {
        self.people.iter().find(|person| person.is(id))
    }

    fn get_mut(&mut self, id: PersonId) -> Option<&mut Person> {
        self.people.iter_mut().find(|person| person.is(id))
    }
}

#[cfg(test)]
mod tests;
