//! What is known of one person.

use super::PersonId;
use super::lexicon::{Gender, Noun};
use super::mention::Name;
use super::similar::{is_short_form, is_typo};
use crate::arc::MessageAt;

/// Names, and relations, kept of one person.
const KEPT_MAX: usize = 12;
/// Former ids kept of a person that was found to be several's.
const FORMER_MAX: usize = 16;

/// Whose wife, whose doctor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    User,
    Person(PersonId),
    Nobody,
}

/// A relation or description under which somebody was spoken of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Described {
    pub owner: Owner,
    pub noun: Noun,
    pub extra: Vec<String>,
    pub after: Option<String>,
    pub definite: bool,
}

/// One person of a user.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Person {
    pub id: PersonId,
    /// Ids that turned out to be this person's.
    pub former: Vec<PersonId>,
    pub names: Vec<Name>,
    pub described: Vec<Described>,
    pub gender: Gender,
    pub plural: bool,
    /// Spoken of as a person.
    pub human: bool,
    /// Or at least called by what is a name.
    pub named: bool,
    pub label: String,
    pub first: MessageAt,
    pub last: MessageAt,
    pub mentions: u32,
    /// Messages that were about them.
    pub abouts: u32,
    /// How much they are in mind by the last messages.
    pub activation: f64,
}

impl Person {
    pub fn new(id: PersonId, label: String, plural: bool, at: MessageAt) -> Self {
        Self {
            id,
            former: Vec::new(),
            names: Vec::new(),
            described: Vec::new(),
            gender: Gender::Unknown,
            plural,
            human: false,
            named: false,
            label,
            first: at,
            last: at,
            mentions: 0,
            abouts: 0,
            activation: 0.0,
        }
    }

    /// Takes in a name, and what it tells.
    pub fn call(&mut self, name: &Name) {
        self.human |= name.sure;
        self.named |= name.capital;
        if self.gender == Gender::Unknown {
            self.gender = name.gender;
        }
        if self.names.len() < KEPT_MAX
            && !self.names.iter().any(|known| known.parts == name.parts && known.title == name.title)
        {
            self.names.push(name.clone());
        }
    }

    /// Takes in a description.
    pub fn describe(&mut self, described: Described) {
        self.human = true;
        if self.gender == Gender::Unknown {
            self.gender = described.noun.gender;
        }
        if self.described.len() < KEPT_MAX && !self.described.contains(&described) {
            self.described.push(described);
        }
    }

    /// How well a name fits: 3 the same, 2 a part of it, 1 a short form or a slip; 0 not at all.
    pub fn fit(&self, name: &Name) -> u8 {
        if !self.gender.agrees(name.gender) || self.plural {
            return 0;
        }
        let fits = self.names.iter().map(|known| fit(known, name));
        // One full name that says otherwise is another person of that family.
        let other = self.names.iter().any(|known| is_relative(known, name));
        if other { 0 } else { fits.max().unwrap_or(0) }
    }

    /// Takes over all that was known of another.
    pub fn absorb(&mut self, other: Person) {
        other.names.iter().for_each(|name| self.call(name));
        other.described.into_iter().for_each(|described| self.describe(described));
        self.human |= other.human;
        self.named |= other.named;
        if self.gender == Gender::Unknown {
            self.gender = other.gender;
        }
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.mentions = self.mentions.saturating_add(other.mentions);
        self.abouts = self.abouts.saturating_add(other.abouts);
        self.activation = self.activation.max(other.activation);
        self.former.push(other.id);
        self.former.extend(other.former);
        let more = self.former.len().saturating_sub(FORMER_MAX);
        self.former.drain(..more);
    }

    /// Probably a person.
    pub fn is_somebody(&self) -> bool {
        self.human || self.named
    }

    /// All ids under which this person was known.
    pub fn is(&self, id: PersonId) -> bool {
        self.id == id || self.former.contains(&id)
    }
}

fn fit(known: &Name, name: &Name) -> u8 {
    if known.parts == name.parts {
        return 3;
    }
    let close = |own: &String| {
        let of = |part: &String| match () {
            () if own == part => 2,
            () if is_typo(own, part) || is_short_form(own, part) || is_short_form(part, own) => 1,
            () if is_initial(own, part) || is_initial(part, own) => 1,
            () => 0,
        };
        known.parts.iter().map(of).max().unwrap_or(0)
    };
    name.parts.iter().map(close).max().unwrap_or(0)
}

fn is_initial(initial: &str, word: &str) -> bool {
    initial.chars().count() == 1 && word.starts_with(initial)
}

/// Two names of two words each that share one and differ in the other.
fn is_relative(known: &Name, name: &Name) -> bool {
    if known.parts.len() < 2 || name.parts.len() < 2 {
        return false;
    }
    let near = |a: &String, b: &String| {
        a == b || is_typo(a, b) || is_initial(a, b) || is_initial(b, a) || is_short_form(a, b) || is_short_form(b, a)
    };
    !name.parts.iter().all(|part| known.parts.iter().any(|own| near(own, part)))
        && !known.parts.iter().all(|part| name.parts.iter().any(|own| near(own, part)))
}
