//! Phrases → people, in the order of the text, with the pronouns between them.

use super::lexicon::{Gender, List, is};
use super::mention::{Found, Name, Phrase, What, Whose};
use super::person::{Described, Owner, Person};
use super::words::{Gap, Word};
use super::{LABEL_CHARS_MAX, PEOPLE_MAX, People, PersonId, Said};

/// Who the phrases and pronouns of a message are.
#[derive(Debug, Clone, Default)]
pub(super) struct Linked {
    /// One a phrase.
    pub people: Vec<PersonId>,
    pub pronouns: Vec<PersonId>,
}

/// Words between a name and the one that takes its place: "Dana got married and is called Lena now".
const RENAMED_WORDS_MAX: usize = 6;
/// What a pronoun brings to mind, at least, and what it adds.
const PRONOUN_ACTIVATION: (f64, f64) = (0.5, 0.1);

/// Links the phrases of a message.
pub(super) fn link(people: &mut People, said: &Said, words: &[Word], found: &[Found]) -> Linked {
    let mut sentence = 0;
    let number = |word: &Word| {
        sentence += usize::from(word.before == Gap::Stop);
        sentence
    };
    let sentences = words.iter().map(number).collect();
    let linked = Linked { people: vec![PersonId::OTHERS; found.len()], pronouns: Vec::new() };
    let mut linking = Linking { people, said, words, sentences, found, linked };
    let mut next = 0;
    for at in 0..words.len() {
        while next < found.len() && found[next].last <= at {
            linking.phrase(next);
            next += 1;
        }
        linking.pronoun(at);
    }
    linking.linked
}

/// A message on its way.
pub(super) struct Linking<'a> {
    pub people: &'a mut People,
    said: &'a Said<'a>,
    pub words: &'a [Word],
    /// Of each word, the number of its sentence.
    pub sentences: Vec<usize>,
    pub found: &'a [Found],
    pub linked: Linked,
}

impl Linking<'_> {
    fn pronoun(&mut self, at: usize) {
        let Some(gender) = pronoun(&self.words[at].lower) else { return };
        let Some(id) = self.people.meant(gender) else { return };
        if let Some(person) = self.people.get_mut(id) {
            if person.gender == Gender::Unknown {
                person.gender = gender;
            }
            person.human = true;
            person.activation = person.activation.max(PRONOUN_ACTIVATION.0) + PRONOUN_ACTIVATION.1;
        }
        if self.linked.pronouns.last() != Some(&id) {
            self.linked.pronouns.push(id);
        }
    }

    fn phrase(&mut self, index: usize) {
        // The second of two that name one person came with the first.
        if self.linked.people[index] != PersonId::OTHERS {
            return;
        }
        if let Some(owner) = self.owner_after(index) {
            self.phrase(owner);
        }
        let partner = self.partner(index);
        let id = match (&self.found[index].what, partner.map(|other| &self.found[other].what)) {
            (What::Name(name), Some(What::Phrase(phrase))) => self.both(index, name, (index + 1, phrase)),
            (What::Phrase(phrase), Some(What::Name(name))) => self.both(index, name, (index, phrase)),
            (What::Name(name), Some(What::Name(other))) => self.renamed(index, name, other),
            (What::Name(name), _) => self.name(index, name),
            (What::Phrase(phrase), _) => self.described(index, phrase),
        };
        self.touch(index, id);
        if let Some(other) = partner {
            self.touch(other, id);
        }
    }

    /// The phrase right after this one that names the same person: "my ex Dana", "Dana, my ex", "a boss named Dana".
    fn partner(&self, index: usize) -> Option<usize> {
        let other = index + 1;
        let (a, b) = (&self.found[index], self.found.get(other)?);
        let between = self.words.get(a.last + 1..b.first)?;
        let word = |at: usize| between.get(at).map_or("", |word| word.lower.as_str());
        let bound = between.iter().all(|word| word.before == Gap::Space);
        let gap = self.words[b.first].before;
        let owner = self.words[a.last].owner;
        let be = |word: &str| matches!(word, "is" | "was");
        let same = match (&a.what, &b.what, between.len()) {
            (What::Phrase(_), What::Name(_), 0) => match gap {
                Gap::Space | Gap::Aside | Gap::Quote => !owner,
                Gap::Comma => !owner && !self.listed(index),
                Gap::Stop => false,
            },
            (What::Name(_), What::Phrase(phrase), 0) => {
                let told = matches!(gap, Gap::Comma | Gap::Aside) && !matches!(phrase.whose, Whose::That | Whose::Your);
                told && !owner && !self.listed(index)
            }
            (What::Phrase(_), What::Name(_), 1) => {
                gap == Gap::Space && bound && (matches!(word(0), "named" | "called") || be(word(0)))
            }
            (What::Name(_), What::Phrase(phrase), 1) => {
                gap == Gap::Space && bound && be(word(0)) && phrase.whose != Whose::That
            }
            (What::Phrase(_), What::Name(_), 2) if owner => word(0) == "name" && be(word(1)),
            // "the chair of trustees, Ada Brook".
            (What::Phrase(_), What::Name(_), 2 | 3) => {
                let told = bound && matches!(word(0), "of" | "at" | "in" | "from");
                told && gap == Gap::Comma && !owner && !self.listed(index)
            }
            (What::Name(_), What::Name(_), 1..=RENAMED_WORDS_MAX) => {
                let ends = self.words.get(b.last + 1).is_none_or(|next| next.before != Gap::Space);
                !owner && !self.words[b.last].owner && gap != Gap::Stop && renames(between, ends)
            }
            _ => false,
        };
        (same && gender(a).agrees(gender(b))).then_some(other)
    }

    /// Whether two phrases are of a list: "Ada, my sister and I".
    fn listed(&self, index: usize) -> bool {
        let (a, b) = (&self.found[index], &self.found[index + 1]);
        let joined = |word: &Word| word.before == Gap::Space && matches!(word.lower.as_str(), "and" | "or" | "n");
        let follows = |before: &Found| self.words[a.first].before == Gap::Comma && before.last + 1 == a.first;
        let before = index.checked_sub(1).map(|before| &self.found[before]);
        self.words.get(b.last + 1).is_some_and(joined) || before.is_some_and(follows)
    }

    fn touch(&mut self, index: usize, id: PersonId) {
        self.linked.people[index] = id;
        let at = self.said.at;
        if let Some(person) = self.people.get_mut(id) {
            person.mentions = person.mentions.saturating_add(1);
            person.last = at;
            person.activation += 1.0;
        }
    }

    fn name(&mut self, index: usize, name: &Name) -> PersonId {
        let given_to =
            || name.given_to.filter(|to| to.agrees(name.gender)).and_then(|gender| self.people.meant(gender));
        let known = self.named(name).or_else(given_to).or_else(|| self.answered(index, name));
        let id = known.unwrap_or_else(|| self.new_person(index));
        if let Some(person) = self.people.get_mut(id) {
            person.call(name);
        }
        id
    }

    fn described(&mut self, index: usize, phrase: &Phrase) -> PersonId {
        let owner = self.owner(index, phrase);
        let known = self.like((index, phrase), owner, &|_| true);
        let id = known.unwrap_or_else(|| self.new_person(index));
        self.describe(id, phrase, owner);
        id
    }

    /// A name and a phrase of one person, the phrase at its own index.
    fn both(&mut self, index: usize, name: &Name, (at, phrase): (usize, &Phrase)) -> PersonId {
        let owner = self.owner(at, phrase);
        let like = self.like((at, phrase), owner, &|person| person.names.is_empty());
        let id = match (self.named(name), like) {
            (Some(named), Some(like)) if named != like => self.people.merge(named, like),
            (Some(id), _) | (None, Some(id)) => id,
            (None, None) => self.new_person(index),
        };
        if let Some(person) = self.people.get_mut(id) {
            person.call(name);
        }
        self.describe(id, phrase, owner);
        id
    }

    /// Two names of one person, the second a new one: "Dana, who is now Lena Brook".
    fn renamed(&mut self, index: usize, name: &Name, other: &Name) -> PersonId {
        let id = self.name(index, name);
        let id = self.named(other).filter(|other| *other != id).map_or(id, |other| self.people.merge(id, other));
        if let Some(person) = self.people.get_mut(id) {
            person.call(other);
        }
        id
    }

    fn describe(&mut self, id: PersonId, phrase: &Phrase, owner: Owner) {
        let described = Described {
            owner,
            noun: phrase.noun,
            extra: phrase.extra.clone(),
            after: phrase.after.clone(),
            definite: phrase.whose != Whose::A,
        };
        if let Some(person) = self.people.get_mut(id) {
            person.describe(described);
        }
    }

    fn new_person(&mut self, index: usize) -> PersonId {
        if self.people.people.len() == PEOPLE_MAX {
            self.people.fold();
        }
        self.people.given = self.people.given.saturating_add(1);
        let id = PersonId(self.people.given);
        let found = &self.found[index];
        let plural = matches!(&found.what, What::Phrase(phrase) if phrase.noun.plural);
        let label = self.said.text[found.start..found.end].chars().take(LABEL_CHARS_MAX).collect();
        self.people.people.push(Person::new(id, label, plural, self.said.at));
        id
    }
}

fn gender(found: &Found) -> Gender {
    match &found.what {
        What::Name(name) => name.gender,
        What::Phrase(phrase) => phrase.noun.gender,
    }
}

/// Whether what stands between two names gives the second to whoever bears the first: "is called", "who is now", "goes by", "changed her
/// name to", and "now" between commas, where the second `ends` what is told.
fn renames(between: &[Word], ends: bool) -> bool {
    let word = |back: usize| between.len().checked_sub(back).map_or("", |at| between[at].lower.as_str());
    let first = between.first().map(|word| word.before);
    let bound = between.iter().all(|word| word.before != Gap::Stop);
    bound
        && match (word(4), word(3), word(2), word(1)) {
            (_, "" | "and" | "who", "is", "called") | (_, "is", "now", "called") => true,
            (_, "" | "and" | "who" | "now", "goes", "by") | (_, "who", "is", "now") => true,
            ("changed", "her" | "his" | "their", "name", "to") => true,
            ("", "", "", "now") => first == Some(Gap::Comma) && ends,
            _ => false,
        }
}

fn pronoun(word: &str) -> Option<Gender> {
    match word {
        "he" | "him" | "his" | "himself" | "hisself" | "hes" => Some(Gender::He),
        "she" | "her" | "hers" | "herself" | "shes" => Some(Gender::She),
        _ => None,
    }
}

/// Whether a list of adjectives tells one person from others.
pub(super) fn tells(words: &[String]) -> bool {
    words.iter().any(|word| !is(List::Common, word))
}
