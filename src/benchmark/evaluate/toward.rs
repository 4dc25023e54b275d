//! Toward whom: the people that are found in histories, against those that were written down.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::clusters;
use crate::arc::MessageAt;
use crate::benchmark::data::toward::{GoldMention, OpenedToward, Toward};
use crate::benchmark::data::{DataSet, Example};
use crate::benchmark::metrics::bootstrap::{Draws, intervals};
use crate::benchmark::metrics::coreference::{BCubed, f1};
use crate::benchmark::metrics::{Figures, Values};
use crate::target::{People, Said};
use crate::transcript::Role;

/// How well people are told apart.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TowardReport {
    pub histories: usize,
    /// What is drawn in the bootstrap: an original with its twin.
    pub clusters: usize,
    pub people: usize,
    pub mentions: usize,
    /// Pairs of a message and a target it is about.
    pub about: usize,
    pub systems: Vec<TowardJudged>,
}

/// One way of linking.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TowardJudged {
    pub system: String,
    pub figures: Figures,
}

/// Ways of linking: ours, and what needs no thought.
const SYSTEMS: [(&str, Way); 4] = [
    ("throughline", Way::Ours),
    ("the same words", Way::SameWords),
    ("every mention alone", Way::Alone),
    ("all of a history one person", Way::One),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Ours,
    SameWords,
    Alone,
    One,
}

/// What a way of linking makes of one history.
#[derive(Debug, Clone, Default)]
struct Linked {
    /// Of each mention that was written down, the person it was put to.
    people: Vec<Option<u32>>,
    /// Messages, and whom they are about.
    about: Vec<(MessageAt, u32)>,
    /// Mentions it found, of those written down and in all.
    found: usize,
    proposed: usize,
}

/// Counts of one history, to be pooled.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    links: BCubed,
    found: usize,
    proposed: usize,
    /// Pairs of a message and a target: written down, said, and both.
    about: usize,
    said: usize,
    right: usize,
}

/// All figures of a set.
pub fn judge_toward(set: &DataSet, opened: &OpenedToward, draws: Draws) -> TowardReport {
    let known = |index: &usize| opened.of[*index].is_some();
    let mut drawn = clusters(set);
    drawn.iter_mut().for_each(|cluster| cluster.retain(known));
    drawn.retain(|cluster| !cluster.is_empty());
    let all = || opened.of.iter().flatten();
    let judged = |(name, way): (&str, Way)| {
        let counts: Vec<Counts> = set
            .examples
            .iter()
            .zip(&opened.of)
            .map(|(example, toward)| {
                toward.as_ref().map(|toward| count(toward, &way.link(example, toward))).unwrap_or_default()
            })
            .collect();
        let figures = intervals(&drawn, draws, &|indices| values(indices, &counts));
        TowardJudged { system: name.to_owned(), figures }
    };
    TowardReport {
        histories: all().count(),
        clusters: drawn.len(),
        people: all().map(|toward| toward.targets.len()).sum(),
        mentions: all().map(|toward| toward.mentions.len()).sum(),
        about: all().map(|toward| toward.about.len()).sum(),
        systems: SYSTEMS.into_iter().map(judged).collect(),
    }
}

impl Way {
    fn link(self, example: &Example, toward: &Toward) -> Linked {
        if self == Self::Ours {
            return ours(example, toward);
        }
        let mut numbers: HashMap<String, u32> = HashMap::new();
        let put = |(index, mention): (usize, &GoldMention)| match self {
            Self::SameWords => {
                let next = numbers.len() as u32;
                *numbers.entry(words(example, mention).to_lowercase()).or_insert(next)
            }
            Self::One => 0,
            Self::Alone | Self::Ours => index as u32,
        };
        let people: Vec<u32> = toward.mentions.iter().enumerate().map(put).collect();
        let mut about: Vec<(MessageAt, u32)> =
            toward.mentions.iter().zip(&people).map(|(mention, person)| (mention.at, *person)).collect();
        about.sort();
        about.dedup();
        let found = people.len();
        Linked { people: people.into_iter().map(Some).collect(), about, found, proposed: found }
    }
}

fn words<'a>(example: &'a Example, mention: &GoldMention) -> &'a str {
    &example.history.sessions[mention.at.session].messages[mention.at.message].content[mention.start..mention.end]
}

fn ours(example: &Example, toward: &Toward) -> Linked {
    let mut people = People::new();
    let mut spoken = BTreeMap::new();
    for (session, held) in example.history.sessions.iter().enumerate() {
        for (message, written) in held.messages.iter().enumerate().filter(|(_, one)| one.role == Role::User) {
            let at = MessageAt { session, message };
            let said = Said { at, time: example.history.time(session, message), text: &written.content };
            spoken.insert(at, people.step(&said));
        }
    }
    let mut linked = Linked { people: vec![None; toward.mentions.len()], ..Linked::default() };
    for (at, spoken) in &spoken {
        let spans: Vec<(usize, usize)> = spoken.mentions.iter().map(|mention| (mention.start, mention.end)).collect();
        let gold: Vec<usize> = (0..toward.mentions.len()).filter(|index| toward.mentions[*index].at == *at).collect();
        let pairs = pair(
            &gold.iter().map(|index| (toward.mentions[*index].start, toward.mentions[*index].end)).collect::<Vec<_>>(),
            &spans,
        );
        linked.found += pairs.len();
        linked.proposed += spans.len();
        for (one, other) in pairs {
            linked.people[gold[one]] = Some(people.resolve(spoken.mentions[other].person).0);
        }
        let surely = spoken.about.iter().filter(|id| people.is_human(**id));
        linked.about.extend(surely.map(|id| (*at, people.resolve(*id).0)));
    }
    linked.about.sort();
    linked.about.dedup();
    linked
}

/// Pairs mentions of one message: the same words, or, of what is left, one inside the other with a common beginning or
/// end ("the boy" of "the boy in loafers"), those that share most first.
fn pair(gold: &[(usize, usize)], found: &[(usize, usize)]) -> Vec<(usize, usize)> {
    let mut candidates: Vec<(usize, usize, usize)> = Vec::new();
    for (one, a) in gold.iter().enumerate() {
        for (other, b) in found.iter().enumerate() {
            let shared = a.1.min(b.1).saturating_sub(a.0.max(b.0));
            if a == b {
                candidates.push((usize::MAX, one, other));
            } else if shared > 0 && (a.0 == b.0 || a.1 == b.1) {
                candidates.push((shared, one, other));
            }
        }
    }
    candidates.sort_by(|a, b| b.0.cmp(&a.0).then(a.cmp(b)));
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    for (_, one, other) in candidates {
        if !pairs.iter().any(|pair| pair.0 == one || pair.1 == other) {
            pairs.push((one, other));
        }
    }
    pairs
}

fn count(toward: &Toward, linked: &Linked) -> Counts {
    let gold: Vec<usize> = toward.mentions.iter().map(|mention| mention.person).collect();
    // Whom a person that was found is: of those written down, the one with most of its mentions.
    let mut overlap: BTreeMap<u32, BTreeMap<usize, usize>> = BTreeMap::new();
    for (person, put) in gold.iter().zip(&linked.people) {
        if let Some(put) = put {
            *overlap.entry(*put).or_default().entry(*person).or_insert(0) += 1;
        }
    }
    let whom = |id: u32| {
        let most = overlap.get(&id)?.iter().max_by_key(|(person, count)| (**count, std::cmp::Reverse(**person)))?;
        Some(*most.0)
    };
    let mut said: Vec<(MessageAt, usize)> = linked
        .about
        .iter()
        .filter_map(|(at, id)| Some((*at, whom(*id)?)))
        .filter(|(_, person)| toward.targets[*person])
        .collect();
    said.sort();
    said.dedup();
    Counts {
        links: BCubed::of(&gold, &linked.people),
        found: linked.found,
        proposed: linked.proposed,
        about: toward.about.len(),
        said: said.len(),
        right: said.iter().filter(|pair| toward.about.contains(pair)).count(),
    }
}

fn values(indices: &[usize], counts: &[Counts]) -> Values {
    let mut sum = Counts::default();
    for one in indices.iter().map(|index| &counts[*index]) {
        sum.links.precision_sum += one.links.precision_sum;
        sum.links.recall_sum += one.links.recall_sum;
        sum.links.mentions += one.links.mentions;
        sum.found += one.found;
        sum.proposed += one.proposed;
        sum.about += one.about;
        sum.said += one.said;
        sum.right += one.right;
    }
    let share = |part: usize, of: usize| (of > 0).then(|| part as f64 / of as f64);
    let (precision, recall) = (sum.links.precision(), sum.links.recall());
    let (about_precision, about_recall) = (share(sum.right, sum.said), share(sum.right, sum.about));
    vec![
        ("b_cubed_precision", precision),
        ("b_cubed_recall", recall),
        ("b_cubed_f1", f1(precision, recall)),
        ("mentions_found", share(sum.found, sum.links.mentions)),
        ("about_precision", about_precision),
        ("about_recall", about_recall),
        ("about_f1", f1(about_precision, about_recall)),
    ]
}
