//! Names: "Ada Brook", "Mr. Brook", "the Brooks", and what a user calls somebody: "the Heron".

use super::lexicon::{self, Gender, List, Sort, is};
use super::mention::{Finding, Found, Name, Phrase, What, Whose, determiner};
use super::words::Gap;

/// Words of a name.
const NAME_WORDS_MAX: usize = 4;
/// Words after a name that may say who that is.
const NEAR_WORDS: usize = 3;

impl Finding<'_> {
    /// A name that begins here; the word after it.
    pub fn name(&mut self, index: usize) -> Option<usize> {
        let title = self.title(index);
        let (mut first, last) = self.run_of_names(index, title.is_some())?;
        if title.is_none() && first < last && self.opens(first) && !self.knows(first) && self.is_starter(first) {
            first += 1;
        }
        if let Some(next) = self.family(first, last) {
            return Some(next);
        }
        let known = (first..=last).any(|at| self.knows(at));
        let given = lexicon::given(&self.words[first].lower);
        let listed = known || title.is_some() || given.is_some();
        if !listed && !self.is_person(first, last) {
            return (last > index && lexicon::noun(&self.words[last].lower).is_none()).then_some(last + 1);
        }
        let alone = self.opens(first) && self.words.get(last + 1).is_none_or(|next| next.before == Gap::Stop);
        let answers = || self.found.iter().any(|found| matches!(found.what, What::Phrase(_)));
        if alone && title.is_none() && !known && !answers() {
            return Some(last + 1);
        }
        // "Ravi uncle".
        let honour = self.next(last).and_then(|next| lexicon::noun(&next.lower));
        let honour = honour.filter(|noun| noun.sort == Sort::Kin && !noun.plural && last == first);
        let titled = title.as_ref().map_or(Gender::Unknown, |(_, gender)| *gender);
        let told = [titled, given.unwrap_or_default(), honour.map(|noun| noun.gender).unwrap_or_default()];
        let name = Name {
            parts: self.words[first..=last].iter().map(|word| word.lower.clone()).collect(),
            gender: told.into_iter().find(|gender| *gender != Gender::Unknown).unwrap_or_default(),
            sure: listed || (self.acts(last) && !self.opens(first)),
            capital: self.words[first].capital && (!self.opens(first) || last > first),
            alone,
            given_to: self.given_to(if title.is_some() { index } else { first }),
            title: title.map(|(title, _)| title),
        };
        let from = if name.title.is_some() { index } else { first };
        let last = last + usize::from(honour.is_some());
        self.push(from, last, What::Name(name))
    }

    fn push(&mut self, first: usize, last: usize, what: What) -> Option<usize> {
        let (start, end) = (self.words[first].start, self.words[last].end);
        self.found.push(Found { start, end, first, last, what });
        Some(last + 1)
    }

    /// The words of a name, after its title: the first and the last.
    fn run_of_names(&self, index: usize, titled: bool) -> Option<(usize, usize)> {
        let first = index + usize::from(titled);
        if !titled && !self.like_name(first) {
            return None;
        }
        let more = (first + 1..first + NAME_WORDS_MAX)
            .take_while(|at| self.next(at - 1).is_some() && self.like_name(*at))
            .count();
        Some((first, first + more))
    }

    /// A title that a name follows.
    fn title(&self, index: usize) -> Option<(String, Gender)> {
        let word = &self.words[index];
        let gender = lexicon::title(&word.lower)?;
        let next = self.next(index)?;
        let address = is(List::Address, &word.lower);
        let function = is(List::Function, &next.lower);
        let named = !function && ((self.plain && address) || (next.capital && !is(List::NoNames, &next.lower)));
        (named && (word.capital || address)).then(|| (word.lower.clone(), gender))
    }

    /// Whether a word looks like a name where it stands.
    fn like_name(&self, index: usize) -> bool {
        let word = &self.words[index];
        let mut letters = word.lower.chars();
        if !letters.next().is_some_and(char::is_alphabetic) || letters.next().is_none() {
            return false;
        }
        let noun = lexicon::noun(&word.lower).is_some();
        let said = self.given_to(index).is_some() && !self.is_starter(index) && !noun;
        if said || self.knows(index) || (self.plain && !word.capital && self.is_subject(index)) {
            return true;
        }
        if is(List::NoNames, &word.lower) || determiner(&word.lower).is_some() {
            return false;
        }
        if word.capital {
            return !word.shouted && !noun && !is(List::Function, &word.lower);
        }
        self.plain && lexicon::given(&word.lower).is_some() && !is(List::DoubtfulNames, &word.lower)
    }

    /// In a text without capitals: a word of no other use that says or wants something, or follows "my flatmate" and does.
    fn is_subject(&self, index: usize) -> bool {
        let word = &self.words[index];
        let next = self.next(index).map_or("", |next| next.lower.as_str());
        let letters = word.lower.chars().count() > 2 && word.lower.chars().all(char::is_alphabetic);
        let other = is(List::Deeds, &word.lower) || lexicon::noun(&word.lower).is_some() || word.lower.ends_with("ly");
        if !letters || other || self.is_starter(index) {
            return false;
        }
        let related = |what: &What| matches!(what, What::Phrase(phrase) if matches!(phrase.whose, Whose::My | Whose::He | Whose::She));
        let before = self.found.last().filter(|found| found.last + 1 == index && self.previous(index).is_some());
        let follows = before.is_some_and(|found| !self.words[found.last].owner && related(&found.what));
        let begins = self.previous(index).is_none_or(|word| is(List::Clauses, &word.lower));
        (begins && is(List::Sayings, next)) || (follows && (is(List::Deeds, next) || next.ends_with('s')))
    }

    /// A word that begins a sentence with a capital and is no name.
    fn is_starter(&self, index: usize) -> bool {
        let lower = &self.words[index].lower;
        is(List::Starters, lower) || is(List::Function, lower)
    }

    /// Whether a run of capitalised words is somebody, as far as its surroundings tell.
    fn is_person(&self, first: usize, last: usize) -> bool {
        let before = self.previous(first).map_or("", |word| word.lower.as_str());
        let place = is(List::PlacesAfter, before)
            || matches!(before, "the" | "a" | "an")
            || self.next(last).is_some_and(|next| is(List::PlacesBefore, &next.lower));
        if place {
            return false;
        }
        if !self.opens(first) {
            return true;
        }
        !self.is_starter(first)
            && (last > first || self.words[last].owner || self.acts(last) || self.described_after(last))
    }

    /// "Ada, my sister", "Ada, nurse" or "Ada, 20".
    fn described_after(&self, last: usize) -> bool {
        let end = (last + 1 + NEAR_WORDS).min(self.words.len());
        let near = &self.words[last + 1..end];
        let Some(next) = near.first().filter(|next| next.before == Gap::Comma) else { return false };
        let bound = near.iter().skip(1).take_while(|word| word.before == Gap::Space);
        next.lower.bytes().all(|b| b.is_ascii_digit())
            || std::iter::once(next).chain(bound).any(|word| lexicon::noun(&word.lower).is_some())
    }

    /// Whose name the one that begins here is said to be: the pronoun of "his name is", "she goes by" and the like.
    fn given_to(&self, first: usize) -> Option<Gender> {
        self.possessed(first).or_else(|| self.subject(first))
    }

    /// The pronoun of "his name is", "her married name is" and "her name is now".
    fn possessed(&self, first: usize) -> Option<Gender> {
        let word = |by: usize| self.back(first, by);
        let name = match (word(1), word(2), word(3)) {
            ("name" | "names", ..) => 1,
            ("is" | "was", "name", _) => 2,
            ("now", "is", "name") => 3,
            _ => return None,
        };
        let told = usize::from(matches!(word(name + 1), "new" | "married" | "real" | "full"));
        match word(name + 1 + told) {
            "his" => Some(Gender::He),
            "her" => Some(Gender::She),
            "their" | "whose" => Some(Gender::Unknown),
            _ => None,
        }
    }

    /// The pronoun of "she goes by", "he is called", "she's called" and "she calls herself", before what has a name's capital and is nobody's
    /// house; of "she's called" where the name ends the clause, for she may have telephoned.
    fn subject(&self, first: usize) -> Option<Gender> {
        let last = (first..first + NAME_WORDS_MAX)
            .take_while(|at| self.words.get(*at).is_some_and(|word| word.capital))
            .last()?;
        if is(List::NoNames, &self.words[last].lower) || self.words[last].owner {
            return None;
        }
        let word = |by: usize| self.back(first, by);
        let now = |by: usize| by + usize::from(word(by) == "now");
        let pronoun = match (word(1), word(2)) {
            ("by", "goes") => now(3),
            ("called", "is") => 3,
            ("called", "now") if word(3) == "is" => 4,
            ("herself", "calls" | "called") => return Some(Gender::She),
            ("himself", "calls" | "called") => return Some(Gender::He),
            ("called", "she" | "he" | "shes" | "hes") => {
                let ends = self.next(last).is_none_or(|next| next.lower == "now");
                let subject = &self.words[first.checked_sub(2)?];
                return (ends && (subject.owner || subject.lower.ends_with('s')))
                    .then(|| subject_gender(&subject.lower))
                    .flatten();
            }
            _ => return None,
        };
        subject_gender(word(pronoun))
    }

    /// "I call him the Heron": a name of the user's own; the word after it.
    pub fn code_word(&mut self, index: usize) -> Option<usize> {
        let quoted = self.words[index].before == Gap::Quote;
        if !is(List::Calls, self.back(index, 2)) || !(quoted || self.previous(index).is_some()) {
            return None;
        }
        let gender = match self.back(index, 1) {
            "him" => Gender::He,
            "her" => Gender::She,
            "them" => Gender::Unknown,
            _ => return None,
        };
        let the = self.words[index].lower == "the";
        let first = index + usize::from(the);
        let fits = |at: &usize| {
            self.words.get(*at).is_some_and(|word| {
                let bound = *at == index || word.before == Gap::Space;
                bound && (word.capital || quoted) && !is(List::Function, &word.lower)
            })
        };
        let mut count = (first..first + NAME_WORDS_MAX).take_while(fits).count();
        if count == 0 && the && self.next(index).is_some() {
            count = 1;
        }
        let last = first + count.checked_sub(1)?;
        let parts = self.words[first..=last].iter().map(|word| word.lower.clone()).collect();
        let name = Name { title: None, parts, gender, sure: true, capital: true, alone: false, given_to: Some(gender) };
        self.push(index, last, What::Name(name))
    }

    /// "the Brooks", of a Brook who is known or next door; the word after it.
    fn family(&mut self, first: usize, last: usize) -> Option<usize> {
        let word = &self.words[first];
        let one = word.lower.strip_suffix('s').filter(|_| first == last && !word.owner)?;
        let the = self.previous(first).is_some_and(|before| before.lower == "the");
        let near = |next: &str| matches!(next, "next" | "upstairs" | "downstairs" | "opposite" | "across");
        let neighbours = the && self.next(first).is_some_and(|next| near(&next.lower));
        if self.known.is_called(&word.lower) || !(neighbours || self.known.is_called(one)) {
            return None;
        }
        let noun = lexicon::noun("family")?;
        let phrase = Phrase { whose: Whose::The, noun, extra: vec![one.to_owned()], after: None };
        self.push(first - usize::from(the), last, What::Phrase(phrase))
    }
}

fn subject_gender(word: &str) -> Option<Gender> {
    match word {
        "he" | "hes" => Some(Gender::He),
        "she" | "shes" => Some(Gender::She),
        "they" => Some(Gender::Unknown),
        _ => None,
    }
}
