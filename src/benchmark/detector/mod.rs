//! Detectors: what each says of every example of a set.

use std::collections::HashMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::data::{DataSet, Example};
use crate::arc::{ArcKind, ArcState, MessageAt, Observation};
use crate::scoring::{MessageScore, expected_level};
use crate::transcript::Role;
use crate::verdict::{Level, Policy};

mod files;
mod fold;
mod keywords;

pub use files::{ExternalScores, ScoredUser, UserMessage, each_user, score_output, scores_file};
pub use fold::Fold;
pub use keywords::keyword_matches;

/// Why a detector cannot be judged on a set.
#[derive(Debug, thiserror::Error)]
pub enum DetectorError {
    #[error("{} has no scores of {missing} of {examples} histories, {first} among them; hint: score the same files", .file.display())]
    Missing { file: PathBuf, missing: usize, examples: usize, first: String },
    #[error("the scores of {id} in {} are not of this history's messages; hint: score the same files", .file.display())]
    OtherMessages { file: PathBuf, id: String },
    #[error("{}:{line}: {found}; hint: {hint}", .file.display())]
    Line { file: PathBuf, line: usize, found: String, hint: &'static str },
    #[error("cannot read {}: {cause}; hint: check the path and the permissions", .file.display())]
    Open { file: PathBuf, cause: std::io::Error },
}

/// What a model says of one message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoredMessage {
    pub at: MessageAt,
    pub role: Role,
    pub score: MessageScore,
}

/// What a model says of the messages of each history, by the history's id.
pub type ModelScores = HashMap<String, Vec<ScoredMessage>>;

/// How a detector comes to a history's score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// The arc rooms, over a model's message scores.
    Arc,
    /// The model's last user message, judged with the history before it.
    Last,
    /// The mean over its last few user messages.
    Recent,
    /// Mean, maximum and skewness over all of them.
    Mean,
    Max,
    Skewness,
    /// How far a fast moving average of them stands above a slow one.
    Slope,
    /// A lexicon: matches per hundred words of the user.
    Keywords,
    /// A file that names no more than scores.
    File,
}

/// A threshold, and who fixed it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    pub value: f64,
    pub from: ThresholdFrom,
}

/// Who fixed a threshold. Never the data that are judged with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ThresholdFrom {
    /// The arc score from which a history is at `review`, which an imminent threat also is; ½ for a
    /// message's probability.
    Policy,
    /// An earlier benchmark, on other data.
    File,
    /// The share of innocent lives that may ever alarm.
    Lives,
}

/// What the assistant did with what carries an arc.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answers {
    /// From −1 (protective) to 2 (amplifying), where it answered any of it.
    pub stance: Option<f64>,
    /// By how much that moved as the evidence mounted, where it can be told.
    pub drift: Option<f64>,
}

/// A detector on one set. Lists run along the set's examples; pairs are harassment and delusion.
#[derive(Debug, Clone)]
pub struct Detector {
    pub name: String,
    pub family: Family,
    pub whole: Vec<[f64; 2]>,
    /// The score after each user message, where the detector can be asked that early.
    pub traces: Option<Vec<[Vec<f64>; 2]>>,
    /// Where it says that the arc began.
    pub onsets: Option<Vec<[Option<MessageAt>; 2]>>,
    /// The user message, from 0, at which a history reaches `review`.
    pub reviews: Option<Vec<[Option<usize>; 2]>>,
    pub answers: Option<Vec<[Answers; 2]>>,
    /// Of a model.
    pub messages: Option<Vec<Vec<ScoredMessage>>>,
    /// Where the policy has one.
    pub threshold: Option<f64>,
}

/// A model with the baselines that its own message scores give.
///
/// # Errors
/// When the scores do not cover the set's messages.
pub fn model_detectors(
    name: &str,
    scores: &ModelScores,
    set: &DataSet,
    file: &std::path::Path,
    policy: &Policy,
) -> Result<Vec<Detector>, DetectorError> {
    let missing: Vec<&str> = ids(set).filter(|id| !scores.contains_key(*id)).collect();
    if let Some(first) = missing.first() {
        let (file, missing, first) = (file.to_owned(), missing.len(), (*first).to_owned());
        return Err(DetectorError::Missing { file, missing, examples: set.examples.len(), first });
    }
    let mut messages = Vec::with_capacity(set.examples.len());
    for example in &set.examples {
        let id = &example.history.user_id;
        let found = scores.get(id).filter(|found| covers(found, example));
        let other = || DetectorError::OtherMessages { file: file.to_owned(), id: id.clone() };
        messages.push(found.ok_or_else(other)?.clone());
    }
    let folded = |(family, words)| folded(format!("{name}, {words}"), family, &messages);
    let baselines: Vec<Detector> = fold::FOLDS.into_iter().map(folded).collect();
    Ok(std::iter::once(arcs(name, messages, set, policy)).chain(baselines).collect())
}

/// The highest message once more, for a threshold by Learn then Test
/// ([`failures_allowed`](super::metrics::risk::failures_allowed)) beside the one that lives drawn keep.
pub fn learned(name: &str, detectors: &[Detector]) -> Option<Detector> {
    let max = detectors.iter().find(|one| one.family == Family::Max)?;
    Some(Detector { name: learned_name(name), ..max.clone() })
}

/// What it is called where the model has this name.
pub fn learned_name(model: &str) -> String {
    format!("{model}, max by Learn then Test")
}

/// The lexicon on a set.
pub fn keywords(set: &DataSet) -> Detector {
    let trace = |example: &Example| {
        ArcKind::ALL.map(|kind| {
            let (mut matches, mut words) = (0, 0);
            let density = |content: &str| {
                matches += keyword_matches(kind, content);
                words += content.split_whitespace().count();
                100.0 * matches as f64 / words.max(1) as f64
            };
            said_by_user(example).map(density).collect::<Vec<f64>>()
        })
    };
    let traces: Vec<[Vec<f64>; 2]> = set.examples.iter().map(trace).collect();
    let whole = traces.iter().map(|pair| pair.each_ref().map(|trace| trace.last().copied().unwrap_or(0.0)));
    Detector {
        name: "keywords".into(),
        family: Family::Keywords,
        whole: whole.collect(),
        traces: Some(traces),
        onsets: None,
        reviews: None,
        answers: None,
        messages: None,
        threshold: None,
    }
}

/// A detector of which no more is known than a file of scores.
///
/// # Errors
/// When the file has no line for an example.
pub fn external(name: &str, scores: &ExternalScores, set: &DataSet) -> Result<Detector, DetectorError> {
    let missing: Vec<&str> = ids(set).filter(|id| !scores.by_id.contains_key(*id)).collect();
    if let Some(first) = missing.first() {
        let (missing, examples) = (missing.len(), set.examples.len());
        let (file, first) = (scores.file.clone(), (*first).to_owned());
        return Err(DetectorError::Missing { file, missing, examples, first });
    }
    Ok(Detector {
        name: name.to_owned(),
        family: Family::File,
        whole: ids(set).filter_map(|id| scores.by_id.get(id).copied()).collect(),
        traces: None,
        onsets: None,
        reviews: None,
        answers: None,
        messages: None,
        threshold: None,
    })
}

fn ids(set: &DataSet) -> impl Iterator<Item = &str> {
    set.examples.iter().map(|example| example.history.user_id.as_str())
}

fn said_by_user(example: &Example) -> impl Iterator<Item = &str> {
    let messages = example.history.sessions.iter().flat_map(|session| &session.messages);
    messages.filter(|message| message.role == Role::User).map(|message| message.content.as_str())
}

/// Whether the scores are of all user and assistant messages of the example, in order.
fn covers(scores: &[ScoredMessage], example: &Example) -> bool {
    let sessions = example.history.sessions.iter().enumerate();
    let places = sessions.flat_map(|(session, held)| {
        let messages = held.messages.iter().enumerate();
        messages.map(move |(message, one)| (MessageAt { session, message }, one.role))
    });
    let judged = places.filter(|(_, role)| matches!(role, Role::User | Role::Assistant));
    judged.eq(scores.iter().map(|scored| (scored.at, scored.role)))
}

/// The detector that the program itself is: the arc rooms over message scores.
fn arcs(name: &str, messages: Vec<Vec<ScoredMessage>>, set: &DataSet, policy: &Policy) -> Detector {
    let read = |(example, scored): (&Example, &Vec<ScoredMessage>)| {
        ArcKind::ALL.map(|kind| walk(kind, example, scored, policy))
    };
    let walks: Vec<[Walk; 2]> = set.examples.iter().zip(&messages).map(read).collect();
    Detector {
        name: name.to_owned(),
        family: Family::Arc,
        whole: walks.iter().map(|pair| pair.each_ref().map(|walk| walk.score)).collect(),
        onsets: Some(walks.iter().map(|pair| pair.each_ref().map(|walk| walk.onset)).collect()),
        reviews: Some(walks.iter().map(|pair| pair.each_ref().map(|walk| walk.review)).collect()),
        answers: Some(walks.iter().map(|pair| pair.each_ref().map(|walk| walk.answers)).collect()),
        traces: Some(walks.into_iter().map(|pair| pair.map(|walk| walk.trace)).collect()),
        messages: Some(messages),
        threshold: Some(f64::from(policy.score_min(Level::Review))),
    }
}

/// What an arc came to.
struct Walk {
    score: f64,
    onset: Option<MessageAt>,
    /// The user message, from 0, at which its level is `review` or higher.
    review: Option<usize>,
    answers: Answers,
    /// The score after each user message.
    trace: Vec<f64>,
}

fn walk(kind: ArcKind, example: &Example, scored: &[ScoredMessage], policy: &Policy) -> Walk {
    let mut state = ArcState::new(kind);
    let (mut trace, mut review) = (Vec::new(), None);
    for message in scored {
        let from_user = message.role == Role::User;
        let time = example.history.time(message.at.session, message.at.message);
        state.step(&Observation { at: message.at, time, from_user, score: message.score });
        if from_user {
            if review.is_none() && policy.arc_level(&state) >= Level::Review {
                review = Some(trace.len());
            }
            trace.push(f64::from(state.score_now()));
        }
    }
    let (stance, drift) = (state.assistant_stance(), state.assistant_drift());
    let answers = Answers { stance: stance.map(f64::from), drift: drift.map(f64::from) };
    Walk { score: f64::from(state.score()), onset: state.onset(), review, answers, trace }
}

/// A baseline that folds the expected levels of the user's messages into one score.
fn folded(name: String, family: Family, messages: &[Vec<ScoredMessage>]) -> Detector {
    let trace = |scored: &Vec<ScoredMessage>| {
        ArcKind::ALL.map(|kind| {
            let users = scored.iter().filter(|one| one.role == Role::User);
            let mut fold = Fold::new(family);
            users.map(|one| fold.push(level(kind, &one.score))).collect::<Vec<f64>>()
        })
    };
    let traces: Vec<[Vec<f64>; 2]> = messages.iter().map(trace).collect();
    let whole = traces.iter().map(|pair| pair.each_ref().map(|trace| trace.last().copied().unwrap_or(0.0)));
    Detector {
        name,
        family,
        whole: whole.collect(),
        traces: Some(traces),
        onsets: None,
        reviews: None,
        answers: None,
        messages: None,
        threshold: None,
    }
}

/// A message's expected level over 3.
fn level(kind: ArcKind, score: &MessageScore) -> f64 {
    f64::from(expected_level(kind.levels(score))) / 3.0
}

/// Everything that can be asked of a user after each message: the arc rooms and every fold.
#[derive(Debug, Clone)]
pub struct Watch {
    kind: ArcKind,
    arc: ArcState,
    folds: [Fold; fold::FOLDS.len()],
    heights: [f64; WATCHED],
}

/// The arc rooms and every fold.
pub const WATCHED: usize = 1 + fold::FOLDS.len();
/// The place of the highest message among them.
pub const WATCHED_MAX: usize = 4;

impl Watch {
    pub fn new(kind: ArcKind) -> Self {
        let folds = fold::FOLDS.map(|(family, _)| Fold::new(family));
        Self { kind, arc: ArcState::new(kind), folds, heights: [f64::NEG_INFINITY; WATCHED] }
    }

    /// Takes in one more message, at a time if it has one.
    pub fn hear(&mut self, ScoredMessage { at, role, score }: ScoredMessage, time: Option<Timestamp>) {
        let from_user = role == Role::User;
        self.arc.step(&Observation { at, time, from_user, score });
        if from_user {
            let level = level(self.kind, &score);
            let scores = std::iter::once(f64::from(self.arc.score_now()));
            let scores = scores.chain(self.folds.iter_mut().map(|fold| fold.push(level)));
            self.heights.iter_mut().zip(scores).for_each(|(height, score)| *height = height.max(score));
        }
    }

    /// The highest score so far of each, in the order of [`watched_names`].
    pub fn heights(&self) -> [f64; WATCHED] {
        self.heights
    }
}

/// What the detectors of a [`Watch`] are called where the model has this name.
pub fn watched_names(model: &str) -> [String; WATCHED] {
    let mut names = std::array::from_fn(|_| model.to_owned());
    names[1..].iter_mut().zip(fold::FOLDS).for_each(|(name, (_, words))| *name = format!("{model}, {words}"));
    names
}
