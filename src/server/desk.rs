//! The one thread that owns the model: it takes jobs from the [`Queue`] and does them one after another, but for turns and drafts of
//! different users that wait at once: those are computed side by side (`judge`). What takes more than a window gives way between
//! pieces of its windows to what others wait for.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use lru::LruCache;
use tokio::sync::{broadcast, oneshot};
use tracing::Span;

use super::judging::{Judges, Judging};
use super::metrics::Metrics;
use super::problem::Problem;
use super::queue::{Full, Owned, Priority, Queue, Taken};
use super::user::{Failed, UserLive};
use super::wire::{CheckOut, MessageOut, ScoreOut, StandingOut};
use crate::scorer::{ArcNow, ScoreError, Scorer};
use crate::store::Store;
use crate::transcript::{History, Message};

mod judge;

use judge::{Asked, Purpose};

/// Turns and drafts that are computed side by side.
const BATCH_JOBS_MAX: usize = 32;
/// Alarms that a slow listener may be behind.
pub(super) const ALARMS_BEHIND_MAX: usize = 256;

/// What the desk may hold.
#[derive(Debug, Clone)]
pub struct DeskSettings {
    /// Tokens of turns and drafts that may wait; as many of these and long ones together, and as many of all with whole histories.
    pub queue_tokens_max: usize,
    /// Tokens of turns and drafts, about, that are computed side by side.
    pub batch_tokens_max: usize,
    /// Bytes of keys and values that are held, over all users; some 12 KB a token for the embedded model in bfloat16, 24 KB in f32.
    pub cache_bytes_max: usize,
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

type Reply = oneshot::Sender<Result<Answer, Problem>>;

struct Job {
    work: Work,
    came: Instant,
    deadline: Duration,
    reply: Reply,
    /// Of the request, and of its wait, which ends with it.
    spans: [Span; 2],
}

impl Job {
    fn new(work: Work, deadline: Duration) -> (Self, oneshot::Receiver<Result<Answer, Problem>>) {
        let (reply, answer) = oneshot::channel();
        let spans = [Span::current(), tracing::info_span!("wait")];
        (Self { work, came: Instant::now(), deadline, reply, spans }, answer)
    }

    /// Of a turn or draft.
    fn user_id(&self) -> Option<&str> {
        match &self.work {
            Work::Turn(said, _) | Work::Check(said) => Some(&said.user_id),
            Work::Score(_) | Work::Erase(_) | Work::Forget(_) => None,
        }
    }
}

impl Owned for Job {
    fn owner(&self) -> Option<&str> {
        match &self.work {
            Work::Erase(user_id) => Some(user_id),
            _ => self.user_id(),
        }
    }
}

/// Where jobs are handed in.
pub struct Desk {
    queue: Arc<Queue<Job>>,
    /// What is longer gives way to others: more than a window takes in anew, or than others should wait for.
    long_tokens: usize,
    metrics: Arc<Metrics>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// A turn of more tokens gives way to others, whatever a window takes in: a third to half of a second on two cores.
const LONG_TOKENS: usize = 1_000;
/// Between two looks at whether the thread has ended.
const STOP_PAUSE: Duration = Duration::from_millis(5);

impl Desk {
    /// Starts the thread. Numbers of new alarms go to `alarms`.
    pub fn start(
        (scorer, judges): (Scorer, Arc<Judges>),
        store: Arc<Store>,
        settings: DeskSettings,
        (metrics, alarms): (Arc<Metrics>, broadcast::Sender<i64>),
    ) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::new(settings.queue_tokens_max));
        let (jobs, counted) = (queue.clone(), metrics.clone());
        let long_tokens = scorer.window().fresh_tokens_max().min(LONG_TOKENS);
        let thread = std::thread::Builder::new().name("desk".into()).spawn(move || {
            let judging = judges.current();
            scorer.set_policy(judging.policy.clone());
            let mut worker = Worker::new((&scorer, judges, judging), store, settings, (counted, alarms));
            while let Some(job) = jobs.pop() {
                worker.follow();
                worker.work_off(job, &jobs);
            }
        })?;
        Ok(Self { queue, long_tokens, metrics, thread: Mutex::new(Some(thread)) })
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
        let (job, answer) = Job::new(work, deadline);
        let priority = if tokens > self.long_tokens { priority.max(Priority::Long) } else { priority };
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
        let (job, answer) = Job::new(Work::Erase(user_id), Duration::MAX);
        self.queue.push_always(job).map_err(|full| self.full(full))?;
        match answer.await {
            Ok(Ok(Answer::Erased(known))) => Ok(known),
            Ok(Err(problem)) => Err(problem),
            _ => Err(Problem::broken()),
        }
    }

    /// Lets go of users of whom something went in the store.
    pub fn forget(&self, rows: Vec<i64>) {
        let (job, _) = Job::new(Work::Forget(rows), Duration::MAX);
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

    /// Whether there is room for a turn: the tokens that wait before it, where there is none.
    pub fn full_of(&self) -> Option<usize> {
        let before = self.queue.urgent_tokens();
        (before >= self.queue.tokens_max()).then_some(before)
    }

    /// Jobs and tokens that wait.
    pub fn waiting(&self) -> (usize, usize) {
        self.queue.waiting()
    }

    /// Takes in nothing more, does what waits for so long, and ends the thread. Whether it has ended: what is still being done then has no
    /// caller any more, is not kept, and ends with the process.
    pub fn stop(&self, patience: Duration) -> bool {
        self.queue.close();
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else { return true };
        let begun = Instant::now();
        while !thread.is_finished() {
            if begun.elapsed() >= patience {
                return false;
            }
            std::thread::sleep(STOP_PAUSE);
        }
        if thread.join().is_err() {
            tracing::error!("the desk's thread ended in a panic");
        }
        true
    }
}

/// What is being done as, and the queue of those that it gives way to.
#[derive(Clone, Copy)]
struct Way<'q> {
    queue: &'q Queue<Job>,
    priority: Priority,
}

struct Worker<'a> {
    scorer: &'a Scorer,
    judges: Arc<Judges>,
    judging: Arc<Judging>,
    store: Arc<Store>,
    settings: DeskSettings,
    metrics: Arc<Metrics>,
    alarms: broadcast::Sender<i64>,
    users: LruCache<String, UserLive<'a>>,
    /// Whether everything of the work under way was judged, none of it refused or answered before: then its time says how fast it goes.
    all_judged: bool,
    /// Time that was given to others, within something long.
    given: Duration,
    /// How often users were to be forgotten.
    forgets: u64,
}

impl<'a> Worker<'a> {
    fn new(
        (scorer, judges, judging): (&'a Scorer, Arc<Judges>, Arc<Judging>),
        store: Arc<Store>,
        settings: DeskSettings,
        (metrics, alarms): (Arc<Metrics>, broadcast::Sender<i64>),
    ) -> Self {
        let users =
            LruCache::new(std::num::NonZeroUsize::new(settings.users_max).unwrap_or(std::num::NonZeroUsize::MIN));
        let (given, forgets) = (Duration::ZERO, 0);
        Self { scorer, judges, judging, store, settings, metrics, alarms, users, all_judged: true, given, forgets }
    }

    /// Judges by the policy as it is now.
    fn follow(&mut self) {
        let judging = self.judges.current();
        if !Arc::ptr_eq(&judging, &self.judging) {
            self.scorer.set_policy(judging.policy.clone());
            self.judging = judging;
        }
    }

    /// Does a job, and with an urgent turn or draft those of other users that wait right behind it; how many these were.
    fn work_off(&mut self, first: Taken<Job>, queue: &Queue<Job>) -> usize {
        let Taken { priority, tokens, job } = first;
        let batch = match priority {
            Priority::Urgent => self.gather((tokens, job), queue),
            Priority::Long | Priority::Batch => vec![(tokens, job)],
        };
        let (jobs, taken) = (batch.len(), batch.iter().map(|(tokens, _)| tokens).sum());
        let expected = if priority == Priority::Batch { Duration::ZERO } else { queue.expected(taken) };
        let batch: Vec<_> = batch.into_iter().filter_map(|job| self.wanted(job, expected)).collect();
        let tokens = batch.iter().map(|(tokens, _)| tokens).sum();
        let (begun, given) = (Instant::now(), self.given);
        self.all_judged = true;
        // Whoever's answer was not given is told that something broke.
        if catch_unwind(AssertUnwindSafe(|| self.work(batch, Way { queue, priority }))).is_err() {
            tracing::error!("a job ended in a panic; histories in memory are dropped and read again");
            self.users.clear();
            self.all_judged = false;
        }
        // A whole history reads what it has read before again, for what it carries along: it says little of turns.
        if priority != Priority::Batch && self.all_judged {
            queue.measured(tokens, begun.elapsed().saturating_sub(self.given - given).as_secs_f64());
        }
        self.bound_cache();
        queue.done(priority, taken);
        jobs
    }

    /// Between two pieces of something that takes many: does what goes before it.
    fn give_way(&mut self, Way { queue, priority }: Way) {
        let (begun, given, judged) = (Instant::now(), self.given, self.all_judged);
        // Somebody waits for what is long, too: it goes on when those who wait now are served. Whole histories let everybody go before.
        let mut most = if priority == Priority::Long { queue.urgent_jobs() } else { usize::MAX };
        while most > 0
            && let Some(job) = queue.pop_before(priority)
        {
            // A turn is judged by one policy from its beginning to its end; a whole history, when it was read.
            if priority == Priority::Batch {
                self.follow();
            }
            most = most.saturating_sub(self.work_off(job, queue));
        }
        (self.given, self.all_judged) = (given + begun.elapsed(), judged);
    }

    /// The job, and those that can be computed beside it. Nobody goes before another, and a user's turns go one after the other.
    fn gather(&self, first: (usize, Job), queue: &Queue<Job>) -> Vec<(usize, Job)> {
        let (mut tokens, mut price) = (first.0, self.price(&first));
        let mut batch = vec![first];
        // The queue is locked while it is asked what fits.
        let each = queue.expected(1);
        while batch.len() < BATCH_JOBS_MAX {
            let others = |user: &str| batch.iter().all(|(_, job)| job.user_id().is_some_and(|other| other != user));
            let next = queue.pop_urgent_if(|more, job| {
                let fits = price + self.price_of(more, job) <= self.settings.batch_tokens_max;
                // It must make none of them late.
                let expected = each * u32::try_from(tokens + more).unwrap_or(u32::MAX);
                let in_time = || batch.iter().all(|(_, job)| job.came.elapsed() + expected <= job.deadline);
                fits && job.user_id().is_some_and(others) && in_time()
            });
            let Some(job) = next else { break };
            (tokens, price) = (tokens + job.0, price + self.price(&job));
            batch.push(job);
        }
        batch
    }

    fn price(&self, (tokens, job): &(usize, Job)) -> usize {
        self.price_of(*tokens, job)
    }

    /// About how many tokens must be computed: its own, and those of the user's window whose keys and values are not held. Of a user who
    /// is not in memory a whole window may be.
    fn price_of(&self, tokens: usize, job: &Job) -> usize {
        let Some(user_id) = job.user_id() else { return tokens };
        let cold = self.users.peek(user_id).map_or(self.scorer.window().tokens_max, |user| user.live.cold_tokens());
        tokens + cold
    }

    /// The job, if somebody still waits for it, and what is expected to take so long comes in time.
    fn wanted(&self, (tokens, job): (usize, Job), expected: Duration) -> Option<(usize, Job)> {
        // What is to be erased is erased, whoever still listens.
        if job.reply.is_closed() && !matches!(job.work, Work::Erase(_) | Work::Forget(_)) {
            self.metrics.skipped();
            return None;
        }
        let waited = job.came.elapsed();
        self.metrics.waited(waited);
        // What had to wait and would be late is not begun: under load all that is begun would be, and nobody answered.
        if waited > job.deadline || waited > expected && waited.saturating_add(expected) > job.deadline {
            self.metrics.skipped();
            // Whoever asked may be gone.
            let _ = job.reply.send(Err(Problem::late(waited.as_millis())));
            return None;
        }
        Some((tokens, job))
    }

    fn work(&mut self, batch: Vec<(usize, Job)>, way: Way) {
        let mut asked = Vec::new();
        for (_, Job { work, reply, spans: [span, waited], .. }) in batch {
            drop(waited);
            let answer = match work {
                Work::Turn(said, key) => {
                    asked.push(Asked { said, purpose: Purpose::Turn(key), reply, span });
                    continue;
                }
                Work::Check(said) => {
                    asked.push(Asked { said, purpose: Purpose::Check, reply, span });
                    continue;
                }
                Work::Score(history) => self.score(&history, &reply, way),
                Work::Erase(user_id) => {
                    self.users.pop(&user_id);
                    self.store.erase(&user_id).map(Answer::Erased).map_err(|error| Failed::Store(error).told())
                }
                Work::Forget(rows) => Ok(Answer::Erased(self.forget(&rows))),
            };
            // Whoever asked may be gone.
            let _ = reply.send(answer);
        }
        if !asked.is_empty() {
            self.metrics.together(asked.len());
            self.judge(asked, way);
        }
    }

    /// Why something was not done; what nobody waited for any more is counted.
    fn told(&self, failed: Failed) -> Problem {
        if matches!(failed, Failed::Score(ScoreError::Stopped)) {
            self.metrics.skipped();
        }
        failed.told()
    }

    fn forget(&mut self, rows: &[i64]) -> bool {
        self.forgets += 1;
        let of = |user: &UserLive| rows.contains(&user.row.id);
        let gone: Vec<String> = self.users.iter().filter(|(_, user)| of(user)).map(|(id, _)| id.clone()).collect();
        gone.iter().for_each(|user_id| drop(self.users.pop(user_id)));
        !gone.is_empty()
    }

    /// A whole history, for as long as somebody waits for it.
    fn score(&mut self, history: &History, reply: &Reply, way: Way) -> Result<Answer, Problem> {
        let score = self.scorer.score_while(history, &mut |_| {
            self.give_way(way);
            !reply.is_closed()
        });
        let score = score.map_err(|error| {
            self.all_judged = false;
            self.told(Failed::Score(error))
        })?;
        self.metrics.read(score.notes.tokens, score.messages.len(), score.notes.split_messages);
        let arcs = score.arcs.each_ref().map(|arc| ArcNow {
            kind: arc.kind,
            score: arc.score,
            score_now: arc.score_now(),
            onset: arc.onset,
        });
        let messages = score.messages.iter().map(|one| MessageOut::of(one.at, one.role, &one.score));
        Ok(Answer::Score(ScoreOut {
            messages: messages.collect(),
            standing: StandingOut::of((&arcs, &score.verdict), None, &self.judging.by),
            notes: serde_json::to_value(score.notes).unwrap_or_default(),
        }))
    }

    /// Lets go of keys and values of those who were silent longest, until the rest fits.
    fn bound_cache(&mut self) {
        let mut held: usize = self.users.iter().map(|(_, user)| user.live.cached_bytes()).sum();
        for (_, user) in self.users.iter_mut().rev() {
            if held <= self.settings.cache_bytes_max {
                break;
            }
            held -= user.live.cached_bytes();
            user.live.forget_cache();
        }
        self.metrics.cached(held, self.users.len());
    }
}
