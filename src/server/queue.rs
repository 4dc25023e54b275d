//! What waits to be read: bounded by tokens, in lanes, what people wait for before what gives way to it.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Tokens a second that are assumed before any were read.
const TOKENS_PER_S_GUESS: f64 = 1_000.0;
/// What is done counts for the rate until about so many seconds of work were done after it.
const RATE_MEMORY_S: f64 = 5.0;

/// What is done first; whatever is not urgent gives way, while it is done, to what stands before it here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Somebody waits for a reply.
    Urgent,
    /// The same, but so long that others are not to wait until it is done.
    Long,
    /// Whole histories.
    Batch,
}

impl Priority {
    const COUNT: usize = 3;
}

/// Whose a job is, where jobs of one owner must be done in the order in which they came.
pub trait Owned {
    fn owner(&self) -> Option<&str>;
}

/// A job, and as what it was taken in.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken<Job> {
    pub priority: Priority,
    pub tokens: usize,
    pub job: Job,
}

/// Jobs in the order in which they are done.
pub struct Queue<Job> {
    state: Mutex<State<Job>>,
    ready: Condvar,
    tokens_max: usize,
}

struct State<Job> {
    lanes: [Lane<Job>; Priority::COUNT],
    /// Whose long job is being done.
    long_under_way: Option<String>,
    /// Jobs that were ever taken in.
    count: u64,
    rate: Rate,
    closed: bool,
}

/// Jobs of one priority, the earliest first.
struct Lane<Job> {
    jobs: VecDeque<Waiting<Job>>,
    /// Of jobs that wait, and of those that are being done.
    tokens: usize,
}

struct Waiting<Job> {
    /// The lower, the earlier it came.
    number: u64,
    /// What it was asked as: what waits behind its owner's long job is not long itself.
    asked: Priority,
    tokens: usize,
    job: Job,
}

impl<Job> Lane<Job> {
    fn new() -> Self {
        Self { jobs: VecDeque::new(), tokens: 0 }
    }
}

impl<Job> State<Job> {
    /// Tokens that wait or are being done, of that priority and what goes before it.
    fn tokens_to(&self, priority: Priority) -> usize {
        self.lanes[..=priority as usize].iter().map(|lane| lane.tokens).sum()
    }
}

impl<Job: Owned> State<Job> {
    /// The lane that a job is done in: no job of an owner goes before an earlier one.
    fn lane_for(&self, priority: Priority, job: &Job) -> Priority {
        let Some(owner) = job.owner().filter(|_| priority == Priority::Urgent) else { return priority };
        let of_owner = |waiting: &Waiting<Job>| waiting.job.owner() == Some(owner);
        let behind = self.long_under_way.as_deref() == Some(owner)
            || self.lanes[Priority::Long as usize].jobs.iter().any(of_owner);
        if behind { Priority::Long } else { priority }
    }

    fn put(&mut self, priority: Priority, asked: Priority, (tokens, job): (usize, Job)) {
        let (number, lane) = (self.count, &mut self.lanes[priority as usize]);
        lane.tokens += tokens;
        lane.jobs.push_back(Waiting { number, asked, tokens, job });
        self.count += 1;
    }

    fn take(&mut self, priority: Priority) -> Option<Taken<Job>> {
        let Waiting { tokens, job, .. } = self.lanes[priority as usize].jobs.pop_front()?;
        if priority == Priority::Long {
            self.long_under_way = job.owner().map(str::to_owned);
        }
        Some(Taken { priority, tokens, job })
    }

    /// The next of what somebody waits for, in the order in which it came: what is long gives way once it is begun, and is begun in its turn.
    fn take_waited_for(&mut self) -> Option<Taken<Job>> {
        let first = |lane: Priority| self.lanes[lane as usize].jobs.front().map(|waiting| (waiting.number, lane));
        let (_, next) = [Priority::Urgent, Priority::Long].into_iter().filter_map(first).min()?;
        self.take(next)
    }

    /// Nothing of this owner is before them any more: what is not long itself, up to the next that is, gives way no longer.
    fn let_go_on(&mut self, owner: &str) {
        let [urgent, long, _] = &mut self.lanes;
        let mut stays = VecDeque::new();
        let mut behind = false;
        for waiting in long.jobs.drain(..) {
            let is_owners = waiting.job.owner() == Some(owner);
            behind |= is_owners && waiting.asked == Priority::Long;
            if !is_owners || behind {
                stays.push_back(waiting);
                continue;
            }
            long.tokens -= waiting.tokens;
            urgent.tokens += waiting.tokens;
            let place = urgent.jobs.partition_point(|other| other.number < waiting.number);
            urgent.jobs.insert(place, waiting);
        }
        long.jobs = stays;
    }
}

/// Tokens a second, over the last seconds of work: of a short job as of a long one what they share of the time, not of the count.
struct Rate {
    tokens: f64,
    seconds: f64,
}

impl Rate {
    fn guess() -> Self {
        Self { tokens: TOKENS_PER_S_GUESS, seconds: 1.0 }
    }

    fn measured(&mut self, tokens: usize, seconds: f64) {
        let kept = (-seconds / RATE_MEMORY_S).exp();
        self.tokens = self.tokens * kept + tokens as f64;
        self.seconds = self.seconds * kept + seconds;
    }

    fn seconds(&self, tokens: usize) -> f64 {
        tokens as f64 * self.seconds / self.tokens
    }
}

/// Why a job was not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// So many tokens wait; seconds until there should be room.
    Busy {
        waiting_tokens: usize,
        retry_after_s: u64,
    },
    Closed,
}

impl<Job: Owned> Queue<Job> {
    pub fn new(tokens_max: usize) -> Self {
        let lanes = std::array::from_fn(|_| Lane::new());
        let state = State { lanes, long_under_way: None, count: 0, rate: Rate::guess(), closed: false };
        Self { state: Mutex::new(state), ready: Condvar::new(), tokens_max }
    }

    /// Takes in a job of about so many tokens. One that is larger than the whole queue is taken when nothing else waits before it.
    ///
    /// # Errors
    /// When there is no room, what waits would take longer than the caller does, or no more is done.
    pub fn push(&self, priority: Priority, (tokens, patience): (usize, Duration), job: Job) -> Result<(), Full> {
        let mut state = self.lock();
        if state.closed {
            return Err(Full::Closed);
        }
        let seconds = |tokens: usize| state.rate.seconds(tokens);
        let (asked, priority) = (priority, state.lane_for(priority, &job));
        // What comes after it gives way, while it waits and while it is being done.
        let before = state.tokens_to(priority);
        let over = (before + tokens).saturating_sub(self.tokens_max).min(before);
        // Whoever is next is not turned away, however long it may take.
        let late = if before == 0 { 0.0 } else { seconds(before + tokens) - patience.as_secs_f64() };
        if over > 0 || late > 0.0 {
            let retry_after_s = seconds(over).max(late).ceil().clamp(1.0, 600.0) as u64;
            return Err(Full::Busy { waiting_tokens: before, retry_after_s });
        }
        state.put(priority, asked, (tokens, job));
        self.ready.notify_one();
        Ok(())
    }

    /// Takes in a job that must be done whatever waits, and that no tokens are counted for.
    ///
    /// # Errors
    /// When no more is done.
    pub fn push_always(&self, job: Job) -> Result<(), Full> {
        let mut state = self.lock();
        if state.closed {
            return Err(Full::Closed);
        }
        let priority = state.lane_for(Priority::Urgent, &job);
        state.put(priority, Priority::Urgent, (0, job));
        self.ready.notify_one();
        Ok(())
    }

    /// The next job, whose tokens count as waiting until it is [`Queue::done`]; waits for one. `None` once the queue is closed and
    /// empty.
    pub fn pop(&self) -> Option<Taken<Job>> {
        let mut state = self.lock();
        loop {
            if let Some(next) = state.take_waited_for().or_else(|| state.take(Priority::Batch)) {
                return Some(next);
            }
            if state.closed {
                return None;
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The next job that what is being done gives way to, if one waits.
    pub fn pop_before(&self, priority: Priority) -> Option<Taken<Job>> {
        let mut state = self.lock();
        match priority {
            Priority::Urgent => None,
            Priority::Long => state.take(Priority::Urgent),
            Priority::Batch => state.take_waited_for(),
        }
    }

    /// The next urgent job, if there is one and it fits, by its tokens and itself: for whoever can do it beside another. Nobody goes before
    /// another.
    pub fn pop_urgent_if(&self, fits: impl FnOnce(usize, &Job) -> bool) -> Option<(usize, Job)> {
        let urgent = &mut self.lock().lanes[Priority::Urgent as usize];
        let next = urgent.jobs.pop_front_if(|waiting| fits(waiting.tokens, &waiting.job))?;
        Some((next.tokens, next.job))
    }

    /// Jobs that were taken in as that are done, of so many tokens.
    pub fn done(&self, priority: Priority, tokens: usize) {
        let mut state = self.lock();
        state.lanes[priority as usize].tokens -= tokens;
        if priority == Priority::Long
            && let Some(owner) = state.long_under_way.take()
        {
            state.let_go_on(&owner);
        }
    }

    /// How long a job of about so many tokens takes, by those before it.
    pub fn expected(&self, tokens: usize) -> Duration {
        Duration::from_secs_f64(self.lock().rate.seconds(tokens))
    }

    /// Notes that a job of about so many tokens took so long: what it was taken in as, whatever else had to be read for it.
    pub fn measured(&self, tokens: usize, seconds: f64) {
        if tokens > 0 && seconds > 0.0 {
            // A database that stood still once says little about what comes next.
            self.lock().rate.measured(tokens, seconds.min(RATE_MEMORY_S));
        }
    }

    /// Takes in nothing more; what waits is still done.
    pub fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_all();
    }

    /// Jobs that wait, and tokens that wait or are being read.
    pub fn waiting(&self) -> (usize, usize) {
        let state = self.lock();
        (state.lanes.iter().map(|lane| lane.jobs.len()).sum(), state.tokens_to(Priority::Batch))
    }

    /// Urgent jobs that wait.
    pub fn urgent_jobs(&self) -> usize {
        self.lock().lanes[Priority::Urgent as usize].jobs.len()
    }

    /// Of the tokens that wait or are being read, those of urgent jobs.
    pub fn urgent_tokens(&self) -> usize {
        self.lock().tokens_to(Priority::Urgent)
    }

    pub fn tokens_max(&self) -> usize {
        self.tokens_max
    }

    fn lock(&self) -> MutexGuard<'_, State<Job>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(3_600);

    /// Behind a colon, whose it is.
    impl Owned for &'static str {
        fn owner(&self) -> Option<&str> {
            self.split_once(':').map(|(_, owner)| owner)
        }
    }

    type Jobs = Queue<&'static str>;

    fn push(queue: &Jobs, priority: Priority, tokens: usize, job: &'static str) -> Result<(), Full> {
        queue.push(priority, (tokens, PATIENCE), job)
    }

    /// A queue of so many tokens, of which a hundred are done in a second.
    fn slow(tokens_max: usize) -> Jobs {
        let queue = Queue::new(tokens_max);
        (0..200).for_each(|_| queue.measured(100, 1.0));
        queue
    }

    fn taken(priority: Priority, tokens: usize, job: &'static str) -> Option<Taken<&'static str>> {
        Some(Taken { priority, tokens, job })
    }

    /// What is left, in the order in which it is done.
    fn all(queue: &Jobs) -> Vec<&'static str> {
        let mut done = Vec::new();
        queue.close();
        while let Some(Taken { priority, tokens, job }) = queue.pop() {
            queue.done(priority, tokens);
            done.push(job);
        }
        done
    }

    #[test]
    fn what_people_wait_for_goes_first_and_nothing_is_lost_on_closing() {
        let queue = Queue::new(100);
        let lanes = [Priority::Batch, Priority::Urgent, Priority::Long, Priority::Batch, Priority::Urgent];
        for (priority, job) in lanes.into_iter().zip(["a", "b", "c", "d", "e"]) {
            push(&queue, priority, 10, job).unwrap();
        }
        queue.push_always("f").unwrap();
        queue.close();
        assert_eq!(push(&queue, Priority::Urgent, 1, "g"), Err(Full::Closed));
        assert_eq!(queue.push_always("g"), Err(Full::Closed));
        assert_eq!(all(&queue), ["b", "c", "e", "f", "a", "d"]);
        assert_eq!(queue.waiting(), (0, 0));
    }

    #[test]
    fn a_full_queue_says_when_there_should_be_room() {
        let queue = slow(100);
        push(&queue, Priority::Urgent, 500, "a").unwrap();
        // 410 tokens must go before another 10 fit; at 100 tokens a second that takes 5 s, rounded up.
        let full = Full::Busy { waiting_tokens: 500, retry_after_s: 5 };
        assert_eq!(push(&queue, Priority::Urgent, 10, "b"), Err(full), "the large one was taken since nothing waited");
        assert_eq!(push(&queue, Priority::Batch, 10, "b"), Err(full));
        let Taken { priority, tokens, .. } = queue.pop().unwrap();
        assert!(push(&queue, Priority::Urgent, 10, "b").is_err(), "what is being read counts");
        queue.done(priority, tokens);
        push(&queue, Priority::Urgent, 100, "b").unwrap();
        assert!(push(&queue, Priority::Urgent, 1, "c").is_err());
    }

    #[test]
    fn whoever_would_be_too_late_is_told_at_once() {
        let queue = slow(1_000);
        push(&queue, Priority::Urgent, 400, "a").unwrap();
        // 400 tokens before it and 10 of its own take 4.1 s.
        let late = Full::Busy { waiting_tokens: 400, retry_after_s: 4 };
        assert_eq!(queue.push(Priority::Urgent, (10, Duration::from_secs(1)), "b"), Err(late));
        queue.push(Priority::Urgent, (10, Duration::from_secs(5)), "c").unwrap();
    }

    #[test]
    fn what_gives_way_makes_nobody_late_whether_it_waits_or_is_being_done() {
        for gives_way in [Priority::Long, Priority::Batch] {
            let (queue, soon) = (slow(800), Duration::from_millis(150));
            push(&queue, gives_way, 900, "a").unwrap();
            assert!(push(&queue, gives_way, 10, "x").is_err(), "it has all the room that there is for its like");
            queue.push(Priority::Urgent, (10, soon), "b").unwrap();
            assert_eq!(queue.pop_before(gives_way), taken(Priority::Urgent, 10, "b"));
            assert!(queue.push(Priority::Urgent, (10, soon), "c").is_err(), "b is not done");
            queue.done(Priority::Urgent, 10);
            assert_eq!(queue.pop(), taken(gives_way, 900, "a"));
            queue.push(Priority::Urgent, (10, soon), "c").unwrap();
            assert_eq!((queue.waiting(), queue.urgent_tokens()), ((1, 910), 10));
            assert_eq!(queue.pop_before(gives_way), taken(Priority::Urgent, 10, "c"));
            queue.done(Priority::Urgent, 10);
            assert_eq!(queue.pop_before(gives_way), None);
            queue.done(gives_way, 900);
            assert_eq!(queue.waiting(), (0, 0));
        }
    }

    #[test]
    fn whole_histories_give_way_to_long_turns_and_nothing_to_its_like() {
        let queue = Queue::new(100);
        for (priority, job) in [(Priority::Batch, "a"), (Priority::Long, "b"), (Priority::Urgent, "c")] {
            push(&queue, priority, 10, job).unwrap();
        }
        assert_eq!(queue.pop_before(Priority::Urgent), None);
        assert_eq!(queue.pop_before(Priority::Batch), taken(Priority::Long, 10, "b"), "it came first");
        assert_eq!(queue.pop_before(Priority::Long), taken(Priority::Urgent, 10, "c"));
        assert_eq!((queue.pop_before(Priority::Long), queue.pop_before(Priority::Batch)), (None, None));
        // However much is urgent, what is long is begun in its turn.
        push(&queue, Priority::Urgent, 10, "d").unwrap();
        push(&queue, Priority::Long, 10, "e").unwrap();
        push(&queue, Priority::Urgent, 10, "f").unwrap();
        assert_eq!(all(&queue), ["d", "e", "f", "a"]);
    }

    #[test]
    fn no_job_goes_before_an_earlier_one_of_its_owner() {
        let queue = Queue::new(100);
        for (priority, job) in [(Priority::Urgent, "a:ada"), (Priority::Long, "b:ada"), (Priority::Urgent, "c:ada")] {
            push(&queue, priority, 10, job).unwrap();
        }
        push(&queue, Priority::Urgent, 10, "d:eve").unwrap();
        queue.push_always("e:ada").unwrap();
        assert_eq!(queue.pop(), taken(Priority::Urgent, 10, "a:ada"));
        queue.done(Priority::Urgent, 10);
        assert_eq!(queue.pop(), taken(Priority::Long, 10, "b:ada"));
        push(&queue, Priority::Long, 10, "f:eve").unwrap();
        push(&queue, Priority::Urgent, 10, "g:ada").unwrap();
        push(&queue, Priority::Long, 10, "h:ada").unwrap();
        push(&queue, Priority::Urgent, 10, "i:ada").unwrap();
        assert_eq!(queue.pop_before(Priority::Long), taken(Priority::Urgent, 10, "d:eve"));
        queue.done(Priority::Urgent, 10);
        assert_eq!(queue.pop_before(Priority::Long), None, "the rest is ada's, of whom one is under way, or long");
        queue.done(Priority::Long, 10);
        // What waited for that alone gives way no longer.
        assert_eq!((queue.urgent_jobs(), queue.urgent_tokens()), (3, 20));
        assert_eq!(all(&queue), ["c:ada", "e:ada", "f:eve", "g:ada", "h:ada", "i:ada"]);
        assert_eq!(queue.waiting(), (0, 0));
        let queue = Queue::new(100);
        push(&queue, Priority::Long, 10, "a:ada").unwrap();
        let Some(Taken { priority, tokens, .. }) = queue.pop() else { panic!("nothing waits") };
        queue.done(priority, tokens);
        push(&queue, Priority::Urgent, 10, "b:ada").unwrap();
        assert_eq!(queue.pop(), taken(Priority::Urgent, 10, "b:ada"), "what was long is done");
    }

    #[test]
    fn nobody_goes_before_another_where_jobs_are_done_together() {
        let queue = Queue::new(100);
        for job in ["a", "b", "c"] {
            push(&queue, Priority::Urgent, 10, job).unwrap();
        }
        assert_eq!(queue.pop(), taken(Priority::Urgent, 10, "a"));
        assert_eq!(queue.pop_urgent_if(|tokens, job| (tokens, *job) == (10, "b")), Some((10, "b")));
        assert_eq!(queue.pop_urgent_if(|_, job| *job != "c"), None);
        assert_eq!(queue.waiting(), (1, 30), "what is being done counts");
        queue.done(Priority::Urgent, 20);
        assert_eq!(queue.waiting(), (1, 10));
    }

    #[test]
    fn a_rate_is_of_time_and_not_of_jobs() {
        let queue = Jobs::new(100);
        // Nine short jobs and a long one, again and again: 1,000 tokens in 2 s.
        for _ in 0..100 {
            (0..9).for_each(|_| queue.measured(100, 0.1));
            queue.measured(100, 1.1);
        }
        let seconds = queue.expected(1_000).as_secs_f64();
        assert!((1.5..2.7).contains(&seconds), "{seconds}");
    }

    #[test]
    fn whoever_waits_is_woken() {
        let queue = Queue::new(100);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| (queue.pop(), queue.pop()));
            push(&queue, Priority::Urgent, 1, "a").unwrap();
            std::thread::sleep(Duration::from_millis(20));
            queue.close();
            assert_eq!(waiting.join().unwrap(), (taken(Priority::Urgent, 1, "a"), None));
        });
    }
}
