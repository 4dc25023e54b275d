//! The one thread that owns the model: it takes jobs from the [`Queue`] and does them one after another.
//!
//! A turn is judged on the user's [`Live`] history, which is held in memory while there is room, and recalled from the store where it
//! is not; it is kept before it is answered. What is in memory never decides: where the store says otherwise, it is read again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use jiff::Timestamp;
use lru::LruCache;
use tokio::sync::{broadcast, oneshot};

use super::metrics::Metrics;
use super::problem::Problem;
use super::queue::{Full, Priority, Queue};
use super::wire::{CheckOut, MessageOut, RaisedOut, ScoreOut, StandingOut, TurnOut, messages_out};
use crate::arc::{ArcKind, ArcState, MessageAt, Observation};
use crate::scorer::{ArcNow, Heard, Live, ScoreError, Scorer};
use crate::store::{KeptMessage, KeptSession, NewAlarm, NewTurn, Request, Store, StoreError, UserRow};
use crate::transcript::{History, Message, Role};
use crate::verdict::{Facts, Level, Named, Policy, Reason, Verdict};

/// How often a turn is judged again because another process wrote meanwhile.
const TRIES: usize = 4;
/// Alarms that a slow listener may be behind.
pub(super) const ALARMS_BEHIND_MAX: usize = 256;

/// What the desk may hold.
#[derive(Debug, Clone)]
pub struct DeskSettings {
    /// Tokens that may wait.
    pub queue_tokens_max: usize,
    /// Tokens whose keys and values are held, over all users; about 12 KB each for the embedded model.
    pub cache_tokens_max: usize,
    /// Users whose histories are held in memory.
    pub users_max: usize,
    /// Messages of one user.
    pub history_messages_max: u64,
    /// Whether what was said is kept, or its scores alone.
    pub keep_content: bool,
}

/// Messages of a user's session.
#[derive(Debug)]
pub struct Said {
    pub user_id: String,
    pub session_id: String,
    pub session_started_at: Option<Timestamp>,
    pub messages: Vec<Message>,
    pub now: Timestamp,
}

/// What is asked.
#[derive(Debug)]
pub enum Work {
    /// To be kept; with an idempotency key and the digest of what was asked.
    Turn(Said, Option<(String, [u8; 32])>),
    /// To be judged alone.
    Check(Said),
    /// A whole history.
    Score(History),
    /// Nothing more is known of this user.
    Forget(String),
}

/// What is answered.
#[derive(Debug)]
pub enum Answer {
    /// JSON of a [`TurnOut`], and whether it had been given before.
    Turn(Vec<u8>, bool),
    Check(CheckOut),
    Score(ScoreOut),
    Forgotten,
}

struct Job {
    work: Work,
    came: Instant,
    deadline: Duration,
    reply: oneshot::Sender<Result<Answer, Problem>>,
}

/// Where jobs are handed in.
pub struct Desk {
    queue: Arc<Queue<Job>>,
    metrics: Arc<Metrics>,
    thread: std::sync::Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Desk {
    /// Starts the thread. Numbers of new alarms go to `alarms`.
    pub fn start(
        scorer: Arc<Scorer>,
        store: Arc<Store>,
        settings: DeskSettings,
        (metrics, alarms): (Arc<Metrics>, broadcast::Sender<i64>),
    ) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::new(settings.queue_tokens_max));
        let (jobs, counted) = (queue.clone(), metrics.clone());
        let thread = std::thread::Builder::new().name("desk".into()).spawn(move || {
            let mut worker = Worker::new(&scorer, store, settings, (counted, alarms));
            while let Some(job) = jobs.pop() {
                worker.done(job, &jobs);
            }
        })?;
        Ok(Self { queue, metrics, thread: std::sync::Mutex::new(Some(thread)) })
    }

    /// Hands in a job of about so many tokens and waits for its answer. A caller who goes away before it is begun is not served.
    ///
    /// # Errors
    /// When there is no room, the deadline passes, or the work fails.
    pub async fn ask(
        &self,
        work: Work,
        priority: Priority,
        tokens: usize,
        deadline: Duration,
    ) -> Result<Answer, Problem> {
        let (reply, answer) = oneshot::channel();
        let job = Job { work, came: Instant::now(), deadline, reply };
        self.queue.push(priority, tokens, job).map_err(|full| {
            self.metrics.refused();
            match full {
                Full::Busy { waiting_tokens, retry_after_s } => {
                    Problem::busy(waiting_tokens, self.queue.tokens_max(), retry_after_s)
                }
                Full::Closed => Problem::stopping(),
            }
        })?;
        answer.await.unwrap_or_else(|_| Err(Problem::broken()))
    }

    /// Jobs and tokens that wait.
    pub fn waiting(&self) -> (usize, usize) {
        self.queue.waiting()
    }

    /// Takes in nothing more, does what waits, and ends the thread.
    pub fn stop(&self) {
        self.queue.close();
        let thread = self.thread.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the desk's thread ended in a panic");
        }
    }
}

/// A user's history in memory.
struct UserLive<'a> {
    live: Live<'a>,
    /// Messages that were kept when it was last in step with the store.
    messages: u64,
    sessions: u64,
    session_id: Option<String>,
}

struct Worker<'a> {
    scorer: &'a Scorer,
    store: Arc<Store>,
    settings: DeskSettings,
    metrics: Arc<Metrics>,
    alarms: broadcast::Sender<i64>,
    users: LruCache<String, UserLive<'a>>,
}

impl<'a> Worker<'a> {
    fn new(
        scorer: &'a Scorer,
        store: Arc<Store>,
        settings: DeskSettings,
        (metrics, alarms): (Arc<Metrics>, broadcast::Sender<i64>),
    ) -> Self {
        let users =
            LruCache::new(std::num::NonZeroUsize::new(settings.users_max).unwrap_or(std::num::NonZeroUsize::MIN));
        Self { scorer, store, settings, metrics, alarms, users }
    }

    fn done(&mut self, job: Job, queue: &Queue<Job>) {
        let Job { work, came, deadline, reply } = job;
        if reply.is_closed() {
            self.metrics.skipped();
            return;
        }
        let waited = came.elapsed();
        self.metrics.waited(waited);
        if waited > deadline {
            self.metrics.skipped();
            // Whoever asked may be gone.
            let _ = reply.send(Err(Problem::late(waited.as_millis())));
            return;
        }
        let (begun, before) = (Instant::now(), self.metrics.tokens());
        let answer = catch_unwind(AssertUnwindSafe(|| self.work(work))).unwrap_or_else(|_| {
            tracing::error!("a job ended in a panic; histories in memory are dropped and read again");
            self.users.clear();
            Err(Problem::broken())
        });
        queue.measured((self.metrics.tokens() - before) as usize, begun.elapsed().as_secs_f64());
        self.bound_cache();
        let _ = reply.send(answer);
    }

    fn work(&mut self, work: Work) -> Result<Answer, Problem> {
        match work {
            Work::Turn(said, request) => self.turn(&said, request.as_ref()),
            Work::Check(said) => self.check(&said),
            Work::Score(history) => self.score(&history),
            Work::Forget(user_id) => {
                self.users.pop(&user_id);
                Ok(Answer::Forgotten)
            }
        }
    }

    fn turn(&mut self, said: &Said, request: Option<&(String, [u8; 32])>) -> Result<Answer, Problem> {
        if let Some((key, asked)) = request
            && let Some(answered) = self.store.answered(&said.user_id, key)?
        {
            if answered.asked == *asked {
                return Ok(Answer::Turn(answered.answer, true));
            }
            let detail = "another turn was sent with this idempotency key";
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail, "a new key for each turn"));
        }
        for _ in 0..TRIES {
            match self.try_turn(said, request) {
                Ok(answer) => return Ok(Answer::Turn(answer, false)),
                // Another process wrote: what is in memory is old.
                Err(Failed::Store(StoreError::WentOn)) => continue,
                Err(failed) => return Err(failed.told()),
            }
        }
        Err(StoreError::WentOn.into())
    }

    /// Judges a turn and keeps it; whatever fails, memory does not run ahead of the store.
    fn try_turn(&mut self, said: &Said, request: Option<&(String, [u8; 32])>) -> Result<Vec<u8>, Failed> {
        let row = self.store.user(&said.user_id)?;
        let messages_max = self.settings.history_messages_max;
        if row.messages + said.messages.len() as u64 > messages_max {
            return Err(Failed::Told(Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                format!("{} messages are kept of this user, the limit is {messages_max}", row.messages),
                "a larger --history-messages-max",
            )));
        }
        let mut user = self.user(&said.user_id, &row)?;
        let begins = user.session_id.as_deref() != Some(&said.session_id);
        if begins {
            user.live.begin_session(said.session_started_at);
        }
        let first = user.live.next_place();
        let before = user.live.notes();
        let heard = user.live.hear_all(&said.messages)?;
        let after = user.live.notes();
        self.metrics.read(after.tokens - before.tokens, heard.len(), after.split_messages - before.split_messages);
        let verdict = user.live.verdict();
        let arcs = user.live.arcs().each_ref().map(ArcNow::of);
        let kept = self.kept(said, first, &heard);
        let raised = raises(&verdict, &row, first, &kept);
        let messages_kept = row.messages + said.messages.len() as u64;
        let answer = |alarm: Option<i64>| {
            let alarm = alarm.zip(raised).map(|(id, (level, _))| RaisedOut { id, level });
            let out = TurnOut {
                messages: messages_out(&heard),
                standing: StandingOut::of(&arcs, &verdict),
                alarm,
                messages_kept,
            };
            serde_json::to_vec(&out).unwrap_or_default()
        };
        let verdict_json = serde_json::to_vec(&verdict).unwrap_or_default();
        let begun = Instant::now();
        let alarm = self.store.keep(&NewTurn {
            user_id: &said.user_id,
            after_messages: user.messages,
            new_session: begins.then_some((said.session_id.as_str(), said.session_started_at)),
            messages: &kept,
            alarm: raised.map(|(level, at)| NewAlarm { level, at, verdict: &verdict_json }),
            request: request.map(|(key, asked)| Request { key, asked: *asked, answer: &answer }),
            now: said.now,
        })?;
        self.metrics.kept(begun.elapsed(), verdict.level);
        if let (Some(id), Some((level, _))) = (alarm, raised) {
            self.metrics.alarmed(level);
            tracing::info!(alarm = id, level = level.as_str(), "an alarm was raised");
            // Nobody listens where this fails.
            let _ = self.alarms.send(id);
        }
        user.messages = messages_kept;
        user.sessions += u64::from(begins);
        user.session_id = Some(said.session_id.clone());
        self.users.put(said.user_id.clone(), user);
        Ok(answer(alarm))
    }

    /// The turn's messages as they are kept.
    fn kept(&self, said: &Said, first: MessageAt, heard: &[Heard]) -> Vec<KeptMessage> {
        let kept = |(index, message): (usize, &Message)| {
            let at = MessageAt { message: first.message + index, ..first };
            let score = heard.iter().find(|one| one.message.at == at).map(|one| one.message.score);
            let content = self.settings.keep_content.then(|| message.content.clone());
            KeptMessage { at, role: message.role, content, time: message.timestamp, score }
        };
        said.messages.iter().enumerate().map(kept).collect()
    }

    fn check(&mut self, said: &Said) -> Result<Answer, Problem> {
        let row = self.store.user(&said.user_id)?;
        let mut user = self.user(&said.user_id, &row).map_err(Failed::told)?;
        let begins = user.session_id.as_deref() != Some(&said.session_id);
        let level_before = user.live.verdict().level;
        let before = user.live.notes().tokens;
        let heard = user.live.consider(begins.then_some(said.session_started_at), &said.messages);
        let heard = heard.map_err(|error| Failed::Score(error).told())?;
        self.metrics.read(user.live.notes().tokens - before, heard.len(), 0);
        let last = heard.last().map(|one| (one.arcs, one.verdict.clone()));
        let (arcs, verdict) =
            last.unwrap_or_else(|| (user.live.arcs().each_ref().map(ArcNow::of), user.live.verdict()));
        let carried = |at: MessageAt| verdict.findings.iter().any(|finding| finding.messages.contains(&at));
        let flagged = verdict.level > level_before
            || verdict.level >= Level::Review && heard.iter().any(|one| carried(one.message.at));
        let out = CheckOut {
            messages: messages_out(&heard),
            standing: StandingOut::of(&arcs, &verdict),
            level_before,
            flagged,
        };
        self.users.put(said.user_id.clone(), user);
        Ok(Answer::Check(out))
    }

    fn score(&self, history: &History) -> Result<Answer, Problem> {
        let score = self.scorer.score(history, &mut |_| {}).map_err(|error| Failed::Score(error).told())?;
        self.metrics.read(score.notes.tokens, score.messages.len(), score.notes.split_messages);
        let arcs = score.arcs.each_ref().map(|arc| ArcNow {
            kind: arc.kind,
            score: arc.score,
            score_now: arc.trace.last().copied().unwrap_or(0.0),
            onset: arc.onset,
        });
        let messages = score.messages.iter().map(|one| MessageOut::of(one.at, one.role, &one.score));
        Ok(Answer::Score(ScoreOut {
            messages: messages.collect(),
            standing: StandingOut::of(&arcs, &score.verdict),
            notes: serde_json::to_value(score.notes).unwrap_or_default(),
        }))
    }

    /// The user's history, out of memory where it is in step with the store, else recalled.
    fn user(&mut self, user_id: &str, row: &UserRow) -> Result<UserLive<'a>, Failed> {
        if let Some(user) = self.users.pop(user_id)
            && (user.messages, user.sessions) == (row.messages, row.sessions)
        {
            self.metrics.remembered(true);
            return Ok(user);
        }
        self.metrics.remembered(false);
        let mut user = UserLive { live: self.scorer.live()?, messages: 0, sessions: 0, session_id: None };
        for session in self.store.history(user_id)?.unwrap_or_default() {
            user.live.begin_session(session.started_at);
            user.messages += session.messages.len() as u64;
            user.sessions += 1;
            user.session_id = Some(session.session_id);
            for kept in session.messages {
                let readable = kept.content.is_some();
                let message =
                    Message { role: kept.role, content: kept.content.unwrap_or_default(), timestamp: kept.time };
                match readable {
                    true => user.live.recall(&message, kept.score)?,
                    false => user.live.recall_unread(&message, kept.score),
                }
            }
        }
        Ok(user)
    }

    /// Lets go of keys and values of those who were silent longest, until the rest fits.
    fn bound_cache(&mut self) {
        let mut held: usize = self.users.iter().map(|(_, user)| user.live.cached_tokens()).sum();
        for (_, user) in self.users.iter_mut().rev() {
            if held <= self.settings.cache_tokens_max {
                break;
            }
            held -= user.live.cached_tokens();
            user.live.forget_cache();
        }
        self.metrics.cached(held, self.users.len());
    }
}

/// Why a turn was not done.
enum Failed {
    Store(StoreError),
    Score(ScoreError),
    Told(Problem),
}

impl Failed {
    fn told(self) -> Problem {
        match self {
            Self::Store(error) => {
                tracing::error!(%error, "the store failed");
                error.into()
            }
            Self::Score(error) => {
                tracing::error!(%error, "the model failed");
                Problem::broken()
            }
            Self::Told(problem) => problem,
        }
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<ScoreError> for Failed {
    fn from(error: ScoreError) -> Self {
        Self::Score(error)
    }
}

/// The alarm that a turn raises: where the level rises to `review` or above past every alarm before it, or where one of its messages
/// is an imminent threat and no alarm waits for a person. Old evidence raises none again.
fn raises(verdict: &Verdict, row: &UserRow, first: MessageAt, kept: &[KeptMessage]) -> Option<(Level, MessageAt)> {
    let last = kept.last()?.at;
    let threat = verdict
        .findings
        .iter()
        .filter(|finding| matches!(finding.reason, Reason::Imminent { .. }))
        .flat_map(|finding| &finding.messages)
        .find(|at| **at >= first);
    let rises = verdict.level >= Level::Review && row.alarm_level.is_none_or(|before| verdict.level > before);
    match threat {
        Some(at) if rises || !row.open_alarm => Some((verdict.level, *at)),
        _ => rises.then_some((verdict.level, last)),
    }
}

/// How a user stands by what is kept: the arcs walked again over the scores.
pub(super) fn standing(sessions: &[KeptSession], policy: &Policy) -> StandingOut {
    let mut arcs = ArcKind::ALL.map(ArcState::new);
    for session in sessions {
        let start = session.started_at.or_else(|| session.messages.iter().find_map(|message| message.time));
        for message in &session.messages {
            let Some(score) = message.score else { continue };
            let (time, from_user) = (message.time.or(start), message.role == Role::User);
            arcs.iter_mut().for_each(|arc| arc.step(&Observation { at: message.at, time, from_user, score }));
        }
    }
    let verdict = policy.judge(&Facts { arcs: &arcs, named: &Named::default() });
    StandingOut::of(&arcs.each_ref().map(ArcNow::of), &verdict)
}
