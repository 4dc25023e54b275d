//! Who is in mind, and whom a message is about.

use super::lexicon::Gender;
use super::link::Linked;
use super::person::Person;
use super::{People, PersonId, Said};

/// Of being in mind, what is left a message later.
const KEPT_A_MESSAGE: f64 = 0.8;
/// And what of that in a new session.
const KEPT_A_SESSION: f64 = 0.6;
/// And after this many days half of it.
const HALF_LIFE_DAYS: f64 = 60.0;
/// What a history of messages about somebody is worth beside being in mind just now.
const FAMILIAR: f64 = 0.7;
/// Whoever is less in mind is not meant by a pronoun.
const MEANT_MIN: f64 = 0.02;

impl Person {
    /// How much they are in mind.
    pub(super) fn salience(&self) -> f64 {
        self.activation + FAMILIAR * (1.0 + f64::from(self.abouts)).ln()
    }
}

impl People {
    /// Everybody is a message, and perhaps a session and some days, further from mind.
    pub(super) fn advance(&mut self, said: &Said) {
        let mut kept = KEPT_A_MESSAGE;
        if let Some((at, time)) = self.last {
            if at.session != said.at.session {
                kept *= KEPT_A_SESSION;
            }
            if let (Some(before), Some(now)) = (time, said.time) {
                let days = now.duration_since(before).as_secs_f64() / 86_400.0;
                kept *= (-days.max(0.0) / HALF_LIFE_DAYS).exp2();
            }
            if at.session != said.at.session {
                self.before.clear();
            }
        }
        self.people.iter_mut().for_each(|person| person.activation *= kept);
        self.last = Some((said.at, said.time));
    }

    /// The person whom a pronoun of this gender means: who is most in mind; where there is none, a word at the head of a sentence of this
    /// message that may be a name.
    pub(super) fn meant(&self, gender: Gender) -> Option<PersonId> {
        self.meant_but(gender, &[])
    }

    /// The same, of all but these.
    pub(super) fn meant_but(&self, gender: Gender, but: &[PersonId]) -> Option<PersonId> {
        let may = |person: &&Person| {
            (person.is_somebody() || person.activation >= 1.0)
                && !person.plural
                && !but.contains(&person.id)
                && person.gender.agrees(gender)
                && person.salience() >= MEANT_MIN
        };
        let most = self.people.iter().filter(may).max_by(|a, b| {
            let order = a.is_somebody().cmp(&b.is_somebody()).then(a.salience().total_cmp(&b.salience()));
            order.then(b.id.cmp(&a.id))
        })?;
        Some(most.id)
    }

    /// Whom a message is about.
    pub(super) fn about(&mut self, linked: &Linked) -> Vec<PersonId> {
        let mut about: Vec<PersonId> = Vec::new();
        for id in linked.people.iter().chain(&linked.pronouns) {
            let id = self.resolve(*id);
            if id != PersonId::OTHERS && !about.contains(&id) && self.get(id).is_some() {
                about.push(id);
            }
        }
        for id in &about {
            if let Some(person) = self.get_mut(*id) {
                person.abouts = person.abouts.saturating_add(1);
            }
        }
        about
    }
}
