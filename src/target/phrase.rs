//! Relations and descriptions: "my sister", "the lady downstairs", "Bram's boss".

use super::lexicon::{self, List, Noun, Sort, is};
use super::mention::{Finding, Found, Phrase, What, Whose, determiner};
use super::words::{Gap, Word};

/// Words between a determiner and its noun.
const EXTRA_MAX: usize = 4;
/// Words of a noun without a determiner, and those of what stands after one that are looked at.
const RUN_MAX: usize = 3;
const AFTER_MAX: usize = 4;

impl Finding<'_> {
    /// The word for a person that stands here; "mother in law" is one.
    pub fn noun(&self, index: usize) -> Option<Noun> {
        let noun = lexicon::noun(&self.words[index].lower)?;
        let word = |by: usize| self.words.get(index + by).map_or("", |next| next.lower.as_str());
        if word(1) != "in" || !word(2).starts_with("law") {
            return Some(noun);
        }
        lexicon::noun(&format!("{}-in-law", self.words[index].lower)).or(Some(noun))
    }

    /// Takes in the phrase that ends with this noun, if it is of somebody.
    pub fn phrase(&mut self, index: usize, noun: Noun) {
        let next_noun = self.next(index).and_then(|next| lexicon::noun(&next.lower));
        // "my boys mom": an apostrophe that was not typed.
        let unmarked_owner =
            noun.plural && noun.sort != Sort::Role && next_noun.is_some_and(|next| next.sort == Sort::Kin);
        if next_noun.is_some() && !unmarked_owner {
            return;
        }
        let noun = Noun { plural: noun.plural && !unmarked_owner, ..noun };
        let floor = self.floor(index, noun);
        let (whose, first) = self.whose(index, floor, noun);
        let Some(whose) = whose.filter(|whose| !self.is_user(first, *whose)) else { return };
        let owner = if let Whose::Of(owner) = whose { Some(&self.found[owner]) } else { None };
        let extra_from = if owner.is_some() || whose == Whose::Bare { first } else { first + 1 };
        let mut extra: Vec<String> =
            self.words[extra_from.min(index)..index].iter().map(|word| word.lower.clone()).collect();
        // "the downstairs woman" is the woman downstairs.
        let storey = extra.iter().position(|word| noun.sort == Sort::Plain && is_storey(word));
        let place = storey.map(|at| extra.remove(at));
        let (start, from) = owner.map_or((self.words[first].start, first), |owner| (owner.start, owner.first));
        let end = self.words[index].end - usize::from(unmarked_owner);
        let what = What::Phrase(Phrase { whose, noun, extra, after: self.after(index).or(place) });
        self.found.push(Found { start, end, first: from, last: index, what });
    }

    /// "I'm a nurse": that is the user.
    fn is_user(&self, first: usize, whose: Whose) -> bool {
        let back = |by: usize| self.back(first, by);
        let i_am = matches!((back(2), back(1)), (_, "i'm" | "im" | "as") | ("i", "am" | "was"))
            || (matches!(back(3), "i" | "i'm") && matches!(back(1), "be" | "not" | "been" | "still" | "also" | "just"));
        i_am && matches!(whose, Whose::A | Whose::The | Whose::Bare)
    }

    /// What a noun is told by, after it: the end of "the boy in loafers", "the man from the power company".
    fn after(&self, index: usize) -> Option<String> {
        let bound = |at: usize| self.words.get(at).filter(|word| word.before == Gap::Space);
        let told = bound(index + 1).filter(|word| !self.words[index].owner && is(List::Telling, &word.lower))?;
        if is_storey(&told.lower) {
            return Some(told.lower.clone());
        }
        let content = |word: &&Word| !is(List::Function, &word.lower) && determiner(&word.lower).is_none();
        let rest = (index + 2..index + 2 + AFTER_MAX).map_while(bound);
        let last = rest.skip_while(|word| !content(word)).take_while(content).last();
        last.map(|word| word.lower.clone())
    }

    /// The first word that no earlier phrase holds. A capitalised word before a noun was no name: "my Kiwi colleague".
    fn floor(&mut self, index: usize, noun: Noun) -> usize {
        if let Some(Found { last, what: What::Name(name), .. }) = self.found.last()
            && last + 1 == index
            && self.previous(index).is_some_and(|word| !word.owner)
            && (!name.sure || noun.head == "family")
        {
            self.found.pop();
        }
        self.found.last().map_or(0, |found| found.last + 1)
    }

    /// Whose a noun is, and the first word of the phrase.
    fn whose(&self, index: usize, floor: usize, noun: Noun) -> (Option<Whose>, usize) {
        let mut at = index;
        let mut counted = None;
        while at > floor && self.words[at].before == Gap::Space && index - at <= EXTRA_MAX {
            let word = &self.words[at - 1];
            if is_count(&word.lower) {
                counted = Some(at - 1);
            } else if let Some(whose) = determiner(&word.lower).filter(|_| !word.owner) {
                return (self.like_that(index, whose), at - 1);
            } else if is(List::Function, &word.lower) {
                break;
            }
            at -= 1;
        }
        let before = self.found.last().filter(|found| found.last + 1 == at && self.words[at].before == Gap::Space);
        if before.is_some_and(|owner| self.words[owner.last].owner || owner.end < self.words[owner.last].end) {
            return (Some(Whose::Of(self.found.len() - 1)), at);
        }
        if let Some(first) = counted {
            return (Some(Whose::A), first);
        }
        let first = self.run(index, floor, noun);
        (self.bare(index, first, noun).then_some(Whose::Bare), first)
    }

    /// "a person like that" is one who was spoken of.
    fn like_that(&self, index: usize, whose: Option<Whose>) -> Option<Whose> {
        let after = |by: usize| self.words.get(index + by).map_or("", |next| next.lower.as_str());
        let that = after(1) == "like" && matches!(after(2), "that" | "this" | "him" | "her");
        if that && whose == Some(Whose::A) { Some(Whose::That) } else { whose }
    }

    /// Where a noun without a determiner begins: "night shift supervisor" as the whole of what stands between two marks.
    fn run(&self, index: usize, floor: usize, noun: Noun) -> usize {
        let before = (index > floor).then(|| self.previous(index)).flatten();
        if before.is_some_and(|word| noun.head == "family" && word.capital) {
            return index - 1;
        }
        let mut at = index;
        while at > floor
            && index - at < RUN_MAX
            && self.previous(at).is_some_and(|word| !is(List::Function, &word.lower))
        {
            at -= 1;
        }
        let whole = self.words[at].before != Gap::Space && index - at < RUN_MAX;
        let qualified = before.is_some_and(|word| is(List::Qualifiers, &word.lower));
        let verb =
            at < index && self.opens(at) && self.words[at].capital && !is(List::Qualifiers, &self.words[at].lower);
        match (whole, qualified) {
            (true, _) => at + usize::from(verb),
            (false, true) => index - 1,
            (false, false) => index,
        }
    }

    /// Whether a noun without a determiner names somebody.
    fn bare(&self, index: usize, first: usize, noun: Noun) -> bool {
        let word = &self.words[index];
        let next = self.next(index);
        let acts = word.owner || self.acts(index);
        let begins = self.opens(first);
        let placed =
            next.is_some_and(|next| matches!(next.lower.as_str(), "in" | "at" | "from" | "on" | "with" | "who" | "i"));
        if noun.plural {
            let named = noun.head == "family" && first < index;
            return named || (begins && (acts || placed) && (noun.sort != Sort::Plain || word.lower == "guys"));
        }
        let doubtful = is(List::Doubtful, noun.head);
        match noun.sort {
            Sort::Kin => !doubtful || (begins && acts),
            Sort::Plain => begins && (acts || placed) && noun.head != "person",
            Sort::Role if doubtful => begins && acts,
            Sort::Role => {
                let named = next.is_none_or(|next| next.capital && !is(List::NoNames, &next.lower));
                acts || begins || named || word.before != Gap::Space || word.capital
            }
        }
    }
}

fn is_storey(word: &str) -> bool {
    matches!(word, "downstairs" | "upstairs" | "next-door")
}

fn is_count(word: &str) -> bool {
    is(List::Counts, word) || word.bytes().all(|b| b.is_ascii_digit())
}
