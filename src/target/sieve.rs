//! Who a phrase means among those who were spoken of: sieves, the surest first.

use std::cmp::Ordering;

use super::PersonId;
use super::lexicon::{Gender, List, Noun, Sort, is};
use super::link::{Linking, tells};
use super::mention::{Name, Phrase, What, Whose};
use super::person::{Described, Owner, Person};
use super::words::Gap;

impl Linking<'_> {
    /// Whoever bears this name: the same before a part of it, that before a short form or a slip.
    pub fn named(&self, name: &Name) -> Option<PersonId> {
        let fits = self.people.people.iter().map(|person| (person.fit(name), person)).filter(|(fit, _)| *fit > 0);
        let best = fits.max_by(|(a, one), (b, other)| a.cmp(b).then_with(|| likelier(one, other)));
        best.map(|(_, person)| person.id)
    }

    /// "There is a new dispatcher. Ottoline." A sentence of a name says who the last one is that has none.
    pub fn answered(&self, index: usize, name: &Name) -> Option<PersonId> {
        let last = index.checked_sub(1).filter(|_| name.alone)?;
        let person = self.people.get(self.linked.people[last])?;
        (person.names.is_empty() && !person.plural && person.gender.agrees(name.gender)).then_some(person.id)
    }

    /// Whose somebody is.
    pub fn owner(&self, index: usize, phrase: &Phrase) -> Owner {
        if let Some(after) = self.owner_after(index) {
            return Owner::Person(self.linked.people[after]);
        }
        let meant = |gender| self.people.meant(gender).map_or(Owner::Nobody, Owner::Person);
        match phrase.whose {
            Whose::My => Owner::User,
            Whose::He => meant(Gender::He),
            Whose::She => meant(Gender::She),
            Whose::They => meant(Gender::Unknown),
            Whose::Of(found) => Owner::Person(self.linked.people[found]),
            Whose::Bare if phrase.noun.sort == Sort::Kin && !phrase.noun.plural => Owner::User,
            _ => Owner::Nobody,
        }
    }

    /// The name after "of" in "the widow of Bram", by its index.
    pub fn owner_after(&self, index: usize) -> Option<usize> {
        let (found, next) = (&self.found[index], self.found.get(index + 1)?);
        let of = next.first == found.last + 2 && self.words[found.last + 1].lower == "of";
        (of && matches!(next.what, What::Name(_))).then_some(index + 1)
    }

    /// Somebody who was spoken of in this way before: of the same owner; of one who may be the same; or whoever is most in mind.
    pub fn like(
        &self,
        (index, phrase): (usize, &Phrase),
        owner: Owner,
        may: &dyn Fn(&Person) -> bool,
    ) -> Option<PersonId> {
        if phrase.whose == Whose::A {
            return self.apart(index, phrase).filter(|id| self.people.get(*id).is_some_and(may));
        }
        let fits = |person: &&Person| {
            person.plural == phrase.noun.plural && person.gender.agrees(phrase.noun.gender) && may(person)
        };
        let said = |of: &dyn Fn(&Described) -> bool| {
            let so = |known: &Described| same(known, phrase, owner) && of(known);
            let people = self.people.people.iter().filter(fits).filter(|person| person.described.iter().any(so));
            people.max_by(|one, other| one.last.cmp(&other.last).then_with(|| likelier(one, other))).map(|one| one.id)
        };
        let exact = || (owner != Owner::Nobody).then(|| said(&|known| known.owner == owner)).flatten();
        let loose = || match phrase.whose {
            Whose::Of(_) => None,
            Whose::My if phrase.noun.sort == Sort::Plain => None,
            Whose::My => said(&|known| known.owner == Owner::Nobody && known.definite),
            Whose::He => said(&|known| self.may_own(known.owner, Gender::He)),
            Whose::She => said(&|known| self.may_own(known.owner, Gender::She)),
            Whose::They => said(&|known| self.may_own(known.owner, Gender::Unknown)),
            _ => said(&|_| true),
        };
        let in_mind = || self.in_mind(index, phrase).filter(|id| self.people.get(*id).is_some_and(may));
        exact().or_else(loose).or_else(in_mind)
    }

    /// Whether "his sister" may be the sister of this one.
    fn may_own(&self, owner: Owner, gender: Gender) -> bool {
        match owner {
            Owner::User => false,
            Owner::Nobody => true,
            Owner::Person(id) => self.people.get(id).is_none_or(|person| person.gender.agrees(gender)),
        }
    }

    /// "the woman": whoever is most in mind, but for those of the same sentence.
    fn in_mind(&self, index: usize, phrase: &Phrase) -> Option<PersonId> {
        let plain = phrase.noun.sort == Sort::Plain && !phrase.noun.plural;
        let untold = phrase.after.is_none() && phrase.extra.is_empty();
        if !plain || !untold || !matches!(phrase.whose, Whose::The | Whose::That) {
            return None;
        }
        let here: Vec<PersonId> = self.same_sentence(index).collect();
        self.people.meant_but(phrase.noun.gender, &here)
    }

    /// People of the sentence before a phrase, the last first.
    fn same_sentence(&self, index: usize) -> impl Iterator<Item = PersonId> {
        let sentence = |index: usize| self.sentences[self.found[index].first];
        let before = (0..index).rev().take_while(move |other| sentence(*other) == sentence(index));
        before.map(|other| self.linked.people[other])
    }

    /// "The officer never looked up, a lady, and left": set apart by commas, it describes who was spoken of last in the sentence.
    fn apart(&self, index: usize, phrase: &Phrase) -> Option<PersonId> {
        let found = &self.found[index];
        let ends = self.words.get(found.last + 1).is_none_or(|word| !matches!(word.before, Gap::Space | Gap::Quote));
        if phrase.noun.sort != Sort::Plain || self.words[found.first].before != Gap::Comma || !ends {
            return None;
        }
        let person = self.people.get(self.same_sentence(index).next()?)?;
        (person.gender.agrees(phrase.noun.gender) && !person.plural).then_some(person.id)
    }
}

/// Which of two is the likelier, all else being equal: the one more in mind, or else the older.
fn likelier(one: &Person, other: &Person) -> Ordering {
    one.salience().total_cmp(&other.salience()).then(other.id.cmp(&one.id))
}

/// Whether two descriptions may be of one person.
fn same(known: &Described, phrase: &Phrase, owner: Owner) -> bool {
    let told_apart = phrase.noun.sort == Sort::Plain && phrase.after.is_some() && known.after != phrase.after;
    same_head(known, phrase, owner) && !differ(&known.extra, &phrase.extra) && !told_apart
}

/// Whether two words may be for one person: the same, or, in one family, "my boy", "my son" and "my kid".
fn same_head(known: &Described, phrase: &Phrase, owner: Owner) -> bool {
    if known.noun.head == phrase.noun.head {
        return true;
    }
    let plain = known.extra.is_empty() && phrase.extra.is_empty();
    let own = known.owner == owner && owner != Owner::Nobody && plain;
    match (Young::of(known.noun), Young::of(phrase.noun)) {
        (Some(Young::Child), Some(_)) | (Some(_), Some(Young::Child)) => own || phrase.whose == Whose::The,
        (Some(a), Some(b)) => a == b,
        _ => false,
    }
}

/// Words for the young, of which one stands for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Young {
    Son,
    Daughter,
    Child,
}

impl Young {
    fn of(noun: Noun) -> Option<Self> {
        match noun.head {
            "boy" | "son" => Some(Self::Son),
            "girl" | "daughter" => Some(Self::Daughter),
            "child" | "baby" => Some(Self::Child),
            _ => None,
        }
    }
}

/// "the other doctor" is none that was spoken of; "the night nurse" is not "the ward nurse".
fn differ(known: &[String], said: &[String]) -> bool {
    let shared = known.iter().any(|word| said.contains(word));
    let other = said.iter().any(|word| is(List::Others, word));
    !shared && (other || (tells(known) && tells(said)))
}
