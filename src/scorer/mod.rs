//! Walks one history through the rooms: windows, guard, engine, scores, arcs, verdict.
//!
//! The only place where all of them meet. It must not know files or terminals.

use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use crate::arc::{ArcKind, ArcState, Evidence, Leak, MessageAt, Observation};
use crate::engine::{EngineError, Model};
use crate::guard::GuardError;
use crate::scoring::MessageScore;
use crate::target::Toward;
use crate::transcript::{History, Role};
use crate::verdict::{Facts, Level, Named, Policy, Verdict};
use crate::window::{WindowError, WindowSpec};

mod carried;
mod explain;
mod heads;
mod live;
mod panel;
mod toward;
mod verdict_tokens;

pub use explain::{Explanation, Part, Without};
pub use live::{ArcNow, Heard, Hearing, Live, Turn};
pub use panel::Panel;
pub use toward::{TargetScore, targets};
pub use verdict_tokens::VerdictReader;

/// Why a history could not be scored.
#[derive(Debug, thiserror::Error)]
pub enum ScoreError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Guard(#[from] GuardError),
    #[error(transparent)]
    Window(#[from] WindowError),
    #[error("nobody waits for the score any more")]
    Stopped,
}

/// Called while a history is read, with the number of messages done so far; whether to go on.
type GoOn<'a> = &'a mut dyn FnMut(usize) -> bool;

/// How the scorer works.
#[derive(Debug, Clone)]
pub struct ScorerSettings {
    /// The window; `None` takes the one the model was trained with, or 2,048 tokens.
    pub window: Option<WindowSpec>,
    pub policy: Policy,
}

/// The window where neither the model nor the user says otherwise, in tokens.
const WINDOW_TOKENS_DEFAULT: usize = 2_048;

/// How a model's verdict is read.
enum Reader {
    Heads(heads::HeadReader),
    Verdict(Box<VerdictReader>),
}

/// A model made ready to score histories.
pub struct Scorer {
    model: Model,
    reader: Reader,
    spec: WindowSpec,
    policy: RwLock<Arc<Policy>>,
}

/// One scored message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoredMessage {
    pub at: MessageAt,
    pub role: Role,
    pub score: MessageScore,
    /// Categories the guard names for this message, by their id; empty for message heads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<String>,
}

/// Where an arc came to a level, for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    pub level: Level,
    /// The message after which it did: a reviewer could have been called then.
    pub at: MessageAt,
}

/// One arc of a scored history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArcScore {
    pub kind: ArcKind,
    /// 0 to 1, at the arc's height.
    pub score: f32,
    pub level: Level,
    pub onset: Option<MessageAt>,
    /// The first message that is an imminent threat by the policy.
    pub imminent: Option<MessageAt>,
    /// How far that is aimed at a particular person, 0 to 1.
    #[serde(default)]
    pub imminent_toward_person: Option<f32>,
    /// Levels by score and threats, in the order in which the arc rose to them; rules of the policy are not among them.
    pub reached: Vec<Reached>,
    /// What the assistant did right after the messages that carry the arc, −1 to 2.
    pub assistant_stance: Option<f32>,
    /// By how much that moved as the evidence mounted, −3 to 3: above 0 it gave way.
    #[serde(default)]
    pub assistant_drift: Option<f32>,
    /// Which share of the evidence stands in messages likelier told under a frame than not ([`ArcState::framed_share`]).
    #[serde(default)]
    pub framed_share: Option<f32>,
    /// Where something is said plainly soon after messages under a frame ([`ArcState::leak`]).
    #[serde(default)]
    pub leak: Option<Leak>,
    /// Messages that carry the arc, the strongest first.
    pub evidence: Vec<Evidence>,
    /// The arc's score after every scored user message, in order.
    pub trace: Vec<f32>,
    /// What carries the alarm, where that was asked for ([`Scorer::explain`]) and there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Explanation>,
}

impl ArcScore {
    /// 0 to 1, at the last message.
    pub fn score_now(&self) -> f32 {
        self.trace.last().copied().unwrap_or(0.0)
    }
}

/// What had to be done to read a history; nothing is done in silence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadingNotes {
    pub windows: usize,
    pub tokens: usize,
    /// Messages longer than a window, scored in parts and pooled.
    pub split_messages: usize,
    /// Times a long message was shortened to its end as context.
    pub shortened_contexts: usize,
    /// System and tool messages, which are kept apart and not scored.
    pub kept_apart: usize,
    /// Messages about which the guard refused to answer.
    pub refused: usize,
    /// Of these, messages of which no part could be judged.
    #[serde(default)]
    pub unjudged: usize,
    /// Messages that shared a turn with the message before them, of the same role.
    #[serde(default)]
    pub merged_messages: usize,
    /// Places where a message imitated the prompt's structure and was broken visibly.
    #[serde(default)]
    pub neutralised_marks: usize,
}

/// One history's scores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryScore {
    pub user_id: String,
    pub messages: Vec<ScoredMessage>,
    /// Both arcs, always: harassment, delusion.
    pub arcs: [ArcScore; 2],
    /// What the policy makes of them.
    pub verdict: Verdict,
    /// Toward whom: those who have a part in the evidence, whoever has most first.
    #[serde(default)]
    pub targets: Vec<TargetScore>,
    pub notes: ReadingNotes,
}

impl HistoryScore {
    /// Puts numbers in the place of the words for people.
    pub fn pseudonymise_targets(&mut self) {
        self.targets.iter_mut().for_each(TargetScore::pseudonymise);
    }

    /// Whether there were messages to judge and the guard refused all of them: the level then says nothing.
    pub fn is_unjudged(&self) -> bool {
        self.notes.unjudged > 0 && self.notes.unjudged == self.messages.len()
    }

    pub fn level(&self) -> Level {
        self.verdict.level
    }
}

/// Messages, and what it took to read them: what a reader returns.
type Reading = (Vec<ScoredMessage>, ReadingNotes);

impl Scorer {
    /// A scorer that reads the model's own message heads.
    ///
    /// # Errors
    /// When the model has no heads or no chat control tokens, or the window is too small or larger
    /// than the model's positions.
    pub fn with_heads(model: Model, settings: ScorerSettings) -> Result<Self, ScoreError> {
        if !model.has_heads() {
            return Err(EngineError::Missing("throughline.heads".into()).into());
        }
        let reader = Reader::Heads(heads::HeadReader::new(&model.tokenizer)?);
        Self::new(model, reader, settings)
    }

    /// A scorer that reads the words of a guard model's verdict.
    ///
    /// # Errors
    /// When the window is too small or larger than the model's positions.
    pub fn with_verdicts(model: Model, reader: VerdictReader, settings: ScorerSettings) -> Result<Self, ScoreError> {
        Self::new(model, Reader::Verdict(Box::new(reader)), settings)
    }

    fn new(model: Model, reader: Reader, settings: ScorerSettings) -> Result<Self, ScoreError> {
        let tokens = model.info.window_tokens.unwrap_or(WINDOW_TOKENS_DEFAULT).min(model.info.positions_max);
        let spec = settings.window.unwrap_or_else(|| WindowSpec::with_tokens(tokens));
        spec.check()?;
        if spec.tokens_max > model.info.positions_max {
            return Err(EngineError::TooLong { tokens: spec.tokens_max, max: model.info.positions_max }.into());
        }
        Ok(Self { model, reader, spec, policy: RwLock::new(Arc::new(settings.policy)) })
    }

    /// Whether messages may come with categories: those of a guard that answers in words.
    pub fn names_categories(&self) -> bool {
        matches!(self.reader, Reader::Verdict(_))
    }

    pub fn model(&self) -> &Model {
        &self.model
    }

    /// What levels are decided by.
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Decides levels by another policy from now on. Scores and arcs stay as they are.
    pub fn set_policy(&self, policy: Policy) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }

    /// The window that histories are read in.
    pub fn window(&self) -> &WindowSpec {
        &self.spec
    }

    /// Scores every message of a history and its arcs. The history's sessions must be in the
    /// order of time ([`History::sort_sessions`]). `progress` is called with the number of
    /// messages done so far.
    ///
    /// # Errors
    /// When the engine fails. A message the guard refuses to judge is no error: it is counted.
    pub fn score(&self, history: &History, progress: &mut dyn FnMut(usize)) -> Result<HistoryScore, ScoreError> {
        self.score_in(usize::MAX, history, &mut |done| {
            progress(done);
            true
        })
    }

    /// The same for as long as it is wanted: `go_on` is asked after every piece of a window, with the number of messages done so far.
    ///
    /// # Errors
    /// [`ScoreError::Stopped`] where it is wanted no longer; as [`Self::score`].
    pub fn score_while(
        &self,
        history: &History,
        go_on: &mut dyn FnMut(usize) -> bool,
    ) -> Result<HistoryScore, ScoreError> {
        self.score_in(heads::PIECE_TOKENS, history, go_on)
    }

    fn score_in(&self, piece_tokens: usize, history: &History, go_on: GoOn) -> Result<HistoryScore, ScoreError> {
        let (messages, notes) = self.read(piece_tokens, history, go_on)?;
        let policy = self.policy();
        let walks = ArcKind::ALL.map(|kind| walk((kind, &policy), history, &messages));
        let mut named = Named::default();
        messages.iter().for_each(|message| named.add(message.at, &message.categories));
        let states = walks.each_ref().map(|walk| walk.state.clone());
        let verdict = policy.judge(&Facts { arcs: &states, named: &named });
        let targets = targets(&policy, &toward(history, &messages), states.each_ref().map(ArcState::evidence));
        let arcs = walks.map(|walk| arc(walk, &verdict, &policy));
        Ok(HistoryScore { user_id: history.user_id.clone(), messages, arcs, verdict, targets, notes })
    }

    /// In prefills of so many tokens at most, where heads are read.
    fn read(&self, piece_tokens: usize, history: &History, go_on: GoOn) -> Result<Reading, ScoreError> {
        match &self.reader {
            Reader::Heads(reader) => reader.read(&self.model, (&self.spec, piece_tokens), history, go_on),
            Reader::Verdict(reader) => reader.read(&self.model, &self.spec, history, go_on),
        }
    }
}

fn walk((kind, policy): (ArcKind, &Policy), history: &History, messages: &[ScoredMessage]) -> Walk {
    let mut walk = Walk { state: ArcState::new(kind), trace: Vec::new(), reached: Vec::new() };
    let mut level_max = Level::None;
    for message in messages {
        let from_user = message.role == Role::User;
        walk.state.step(&observation(history, message));
        if from_user {
            walk.trace.push(walk.state.score_now());
            let level = policy.arc_level(&walk.state);
            if level > level_max {
                level_max = level;
                walk.reached.push(Reached { level, at: message.at });
            }
        }
    }
    walk
}

fn arc(walk: Walk, verdict: &Verdict, policy: &Policy) -> ArcScore {
    let Walk { state, trace, reached } = walk;
    let imminent = state.imminent(policy.imminent_min());
    ArcScore {
        kind: state.kind(),
        score: state.score(),
        level: verdict.arc_level(state.kind()),
        onset: state.onset(),
        imminent,
        imminent_toward_person: imminent.and_then(|at| state.threat_toward_person(at)),
        reached,
        assistant_stance: state.assistant_stance(),
        assistant_drift: state.assistant_drift(),
        framed_share: state.framed_share(),
        leak: state.leak(),
        evidence: state.evidence().to_vec(),
        trace,
        explanation: None,
    }
}

fn observation(history: &History, message: &ScoredMessage) -> Observation {
    Observation {
        at: message.at,
        time: history.time(message.at.session, message.at.message),
        from_user: message.role == Role::User,
        score: message.score,
    }
}

/// The people of a history, with the messages about them.
fn toward(history: &History, messages: &[ScoredMessage]) -> Toward {
    let mut toward = Toward::new();
    for message in messages {
        let text = &history.sessions[message.at.session].messages[message.at.message].content;
        toward.step(&observation(history, message), text);
    }
    toward
}

/// One arc, read to the end of a history.
struct Walk {
    state: ArcState,
    trace: Vec<f32>,
    reached: Vec<Reached>,
}
