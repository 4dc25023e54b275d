//! The one thread that owns the model: it takes jobs from the [`Queue`] and does them one after another.
//!
//! A turn is judged on the user's [`Live`] history, which is held in memory while there is room, and recalled from the store where it
//! is not; it is kept before it is answered. What is in memory never decides: where the store says otherwise, it is read again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use jiff::Timestamp;
use lru::LruCache;
use tokio::sync::{broadcast, oneshot};

use super::metrics::Metrics;
use super::problem::Problem;
use super::queue::{Full, Priority, Queue};
use super::user::{Failed, UserLive};
use super::wire::{CheckOut, MessageOut, RaisedOut, ScoreOut, StandingOut, TurnOut, messages_out};
use crate::arc::{ArcKind, MessageAt};
use crate::scorer::{ArcNow, Heard, Scorer};
use crate::store::{KeptMessage, NewAlarm, NewTurn, Request, Store, StoreError, UserRow};
use crate::transcript::{History, Message};
use crate::verdict::{Level, Verdict};

/// How often a turn is judged again because another process wrote meanwhile.
const TRIES: usize = 8;
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
    /// A user to be forgotten, in memory and in the store; after the turns that came before, and before those that come after.
    Erase(String),
    /// Users of whom something went in the store, by their rows: what of it is in memory goes, too.
    Forget(Vec<i64>),
}

/// What is answered.
#[derive(Debug)]
pub enum Answer {
    /// JSON of a [`TurnOut`], and whether it had been given before.
    Turn(Vec<u8>, bool),
    Check(CheckOut),
    Score(ScoreOut),
    /// Whether there was anything.
    Erased(bool),
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
    thread: Mutex<Option<JoinHandle<()>>>,
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
            while let Some((tokens, job)) = jobs.pop() {
                worker.done((tokens, job), &jobs);
                jobs.done(tokens);
            }
        })?;
        Ok(Self { queue, metrics, thread: Mutex::new(Some(thread)) })
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
        self.queue.push(priority, (tokens, deadline), job).map_err(|full| self.full(full))?;
        match tokio::time::timeout(deadline, answer).await {
            Ok(answered) => answered.unwrap_or_else(|_| Err(Problem::broken())),
            Err(_) => {
                self.metrics.late();
                Err(Problem::late(deadline.as_millis()))
            }
        }
    }

    /// Erases a user, however much waits.
    ///
    /// # Errors
    /// When the user is held, or the store fails.
    pub async fn erase(&self, user_id: String) -> Result<bool, Problem> {
        let (reply, answer) = oneshot::channel();
        let job = Job { work: Work::Erase(user_id), came: Instant::now(), deadline: Duration::MAX, reply };
        self.queue.push_always(job).map_err(|full| self.full(full))?;
        match answer.await {
            Ok(Ok(Answer::Erased(known))) => Ok(known),
            Ok(Err(problem)) => Err(problem),
            _ => Err(Problem::broken()),
        }
    }

    /// Lets go of users of whom something went in the store.
    pub fn forget(&self, rows: Vec<i64>) {
        let (reply, _) = oneshot::channel();
        let job = Job { work: Work::Forget(rows), came: Instant::now(), deadline: Duration::MAX, reply };
        // A desk that stops forgets everything.
        let _ = self.queue.push_always(job);
    }

    fn full(&self, full: Full) -> Problem {
        self.metrics.refused();
        match full {
            Full::Busy { waiting_tokens, retry_after_s } => {
                Problem::busy(waiting_tokens, self.queue.tokens_max(), retry_after_s)
            }
            Full::Closed => Problem::stopping(),
        }
    }

    /// Whether the thread lives.
    pub fn is_alive(&self) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Jobs and tokens that wait.
    pub fn waiting(&self) -> (usize, usize) {
        self.queue.waiting()
    }

    /// Takes in nothing more, does what waits, and ends the thread.
    pub fn stop(&self) {
        self.queue.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the desk's thread ended in a panic");
        }
    }
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

    fn done(&mut self, (tokens, job): (usize, Job), queue: &Queue<Job>) {
        let Job { work, came, deadline, reply } = job;
        // What is to be erased is erased, whoever still listens.
        if reply.is_closed() && !matches!(work, Work::Erase(_) | Work::Forget(_)) {
            self.metrics.skipped();
            return;
        }
        let waited = came.elapsed();
        self.metrics.waited(waited);
        let whole = matches!(work, Work::Score(_));
        let expected = if whole { Duration::ZERO } else { queue.expected(tokens) };
        // What had to wait and would be late is not begun: under load all that is begun would be, and nobody answered.
        if waited > deadline || waited > expected && waited.saturating_add(expected) > deadline {
            self.metrics.skipped();
            // Whoever asked may be gone.
            let _ = reply.send(Err(Problem::late(waited.as_millis())));
            return;
        }
        let begun = Instant::now();
        let answer = catch_unwind(AssertUnwindSafe(|| self.work(work, queue))).unwrap_or_else(|_| {
            tracing::error!("a job ended in a panic; histories in memory are dropped and read again");
            self.users.clear();
            Err(Problem::broken())
        });
        // A whole history pauses for others: its time is not its own.
        if !whole {
            queue.measured(tokens, begun.elapsed().as_secs_f64());
        }
        self.bound_cache();
        let _ = reply.send(answer);
    }

    fn work(&mut self, work: Work, queue: &Queue<Job>) -> Result<Answer, Problem> {
        match work {
            Work::Turn(said, request) => self.turn(&said, request.as_ref()),
            Work::Check(said) => self.check(&said),
            Work::Score(history) => self.score(&history, queue),
            Work::Erase(user_id) => {
                self.users.pop(&user_id);
                self.store.erase(&user_id).map(Answer::Erased).map_err(|error| Failed::Store(error).told())
            }
            Work::Forget(rows) => {
                let of = |user: &UserLive| rows.contains(&user.row.id);
                let gone: Vec<String> =
                    self.users.iter().filter(|(_, user)| of(user)).map(|(id, _)| id.clone()).collect();
                gone.iter().for_each(|user_id| drop(self.users.pop(user_id)));
                Ok(Answer::Erased(!gone.is_empty()))
            }
        }
    }

    fn turn(&mut self, said: &Said, request: Option<&(String, [u8; 32])>) -> Result<Answer, Problem> {
        for _ in 0..TRIES {
            if let Some((key, asked)) = request
                && let Some(answered) = self.store.answered(&said.user_id, key)?
            {
                if answered.asked == *asked {
                    return Ok(Answer::Turn(answered.answer, true));
                }
                let detail = "another turn was sent with this idempotency key";
                return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail, "a new key for each turn"));
            }
            match self.try_turn(said, request) {
                Ok(answer) => return Ok(Answer::Turn(answer, false)),
                // Another process wrote: what is in memory is old.
                Err(Failed::Store(StoreError::WentOn)) => continue,
                // Whether it was kept is asked of its idempotency key; without one, nobody could tell it from another's turn.
                Err(Failed::Store(StoreError::Unsure)) if request.is_some() => continue,
                Err(failed) => return Err(failed.told()),
            }
        }
        Err(StoreError::WentOn.into())
    }

    /// Judges a turn and keeps it; whatever fails, memory does not run ahead of the store.
    fn try_turn(&mut self, said: &Said, request: Option<&(String, [u8; 32])>) -> Result<Vec<u8>, Failed> {
        let row = self.store.user(&said.user_id)?;
        let messages_kept = row.messages + said.messages.len() as u64;
        let messages_max = self.settings.history_messages_max;
        if messages_kept > messages_max {
            tracing::warn!(messages_max, "a user's history is full: turns of theirs are not judged");
            return Err(Failed::Told(Problem::full_history(row.messages, messages_max)));
        }
        let mut user = self.user(&said.user_id, &row)?;
        let level_before = user.live.verdict().level;
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
        kept.iter().for_each(|message| user.step_since(message));
        let raised = user.raises(&verdict, self.scorer.policy()).zip(kept.last().map(|message| message.at));
        let answer = |alarm: Option<i64>| {
            let alarm = alarm.zip(raised).map(|(id, (level, _))| RaisedOut { id, level });
            let standing = StandingOut::of(&arcs, &verdict);
            let flagged = flagged(level_before, &verdict, &heard);
            let out = TurnOut { messages: messages_out(&heard), standing, flagged, alarm, messages_kept };
            serde_json::to_vec(&out).unwrap_or_default()
        };
        let verdict_json = serde_json::to_vec(&verdict).unwrap_or_default();
        let arc_levels = ArcKind::ALL.map(|kind| verdict.arc_level(kind));
        let begun = Instant::now();
        let (id, alarm) = self.store.keep(&NewTurn {
            user_id: &said.user_id,
            user: row,
            new_session: begins.then_some((said.session_id.as_str(), said.session_started_at)),
            messages: &kept,
            alarm: raised.map(|(level, at)| NewAlarm { level, arcs: arc_levels, at, verdict: &verdict_json }),
            request: request.map(|(key, asked)| Request { key, asked: *asked, answer: &answer }),
            now: said.now,
        })?;
        self.metrics.kept(begun.elapsed(), verdict.level);
        if let (Some(alarm), Some((level, _))) = (alarm, raised) {
            self.metrics.alarmed(level);
            tracing::info!(alarm, level = level.as_str(), "an alarm was raised");
            // Nobody listens where this fails.
            let _ = self.alarms.send(alarm);
        }
        // What is left of the row is read with the next turn.
        user.row = UserRow { id, messages: messages_kept, sessions: row.sessions + u64::from(begins), ..row };
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
        let out = CheckOut {
            messages: messages_out(&heard),
            standing: StandingOut::of(&arcs, &verdict),
            level_before,
            flagged: flagged(level_before, &verdict, &heard),
        };
        // Drafts of users of whom nothing is kept must not push others out.
        if row.messages > 0 {
            self.users.put(said.user_id.clone(), user);
        }
        Ok(Answer::Check(out))
    }

    /// A whole history. Between its windows, whoever waits for a reply is served.
    fn score(&mut self, history: &History, queue: &Queue<Job>) -> Result<Answer, Problem> {
        let scorer = self.scorer;
        let mut serve = |_| {
            while let Some((tokens, job)) = queue.pop_urgent() {
                self.done((tokens, job), queue);
                queue.done_urgent(tokens);
            }
        };
        let score = scorer.score(history, &mut serve).map_err(|error| Failed::Score(error).told())?;
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
        let held = self.users.pop(user_id).and_then(|user| user.in_step(row));
        self.metrics.remembered(held.is_some());
        match held {
            Some(user) => Ok(user),
            None => UserLive::recall(self.scorer, &self.store.history(user_id)?.unwrap_or_default(), row),
        }
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

/// Whether what was heard raised the level, or is itself what a level of `review` or above rests on.
fn flagged(before: Level, verdict: &Verdict, heard: &[Heard]) -> bool {
    let carried = |at: MessageAt| verdict.findings.iter().any(|finding| finding.messages.contains(&at));
    verdict.level > before || verdict.level >= Level::Review && heard.iter().any(|one| carried(one.message.at))
}
