//! What waits to be read: bounded by tokens, what people wait for before what they do not.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Tokens a second that are assumed before any were read.
const TOKENS_PER_S_GUESS: f64 = 1_000.0;
/// What is done counts for the rate until about so many seconds of work were done after it.
const RATE_MEMORY_S: f64 = 5.0;

/// What is done first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Somebody waits for a reply.
    Urgent,
    /// Whole histories.
    Batch,
}

/// Jobs in the order in which they are done.
pub struct Queue<Job> {
    state: Mutex<State<Job>>,
    ready: Condvar,
    tokens_max: usize,
}

struct State<Job> {
    urgent: VecDeque<(usize, Job)>,
    batch: VecDeque<(usize, Job)>,
    /// Of jobs that wait, and of those that are being done.
    tokens: usize,
    /// Of these, those of batch work, which gives way.
    batch_tokens: usize,
    /// Those of batch work that is being done.
    paused: usize,
    rate: Rate,
    closed: bool,
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

impl<Job> Queue<Job> {
    pub fn new(tokens_max: usize) -> Self {
        let state = State {
            urgent: VecDeque::new(),
            batch: VecDeque::new(),
            tokens: 0,
            batch_tokens: 0,
            paused: 0,
            rate: Rate::guess(),
            closed: false,
        };
        Self { state: Mutex::new(state), ready: Condvar::new(), tokens_max }
    }

    /// Takes in a job of about so many tokens. One that is larger than the whole queue is taken when nothing else waits.
    ///
    /// # Errors
    /// When there is no room, what waits would take longer than the caller does, or no more is done.
    pub fn push(&self, priority: Priority, (tokens, patience): (usize, Duration), job: Job) -> Result<(), Full> {
        let mut state = self.lock();
        if state.closed {
            return Err(Full::Closed);
        }
        let seconds = |tokens: usize| state.rate.seconds(tokens);
        // Batch work gives way: whoever is urgent waits for what is urgent, and for what is being done.
        let before = match priority {
            Priority::Urgent => state.tokens - state.batch_tokens,
            Priority::Batch => state.tokens,
        };
        let over = (before + tokens).saturating_sub(self.tokens_max).min(before);
        // Whoever is next is not turned away, however long it may take.
        let late = if before == 0 { 0.0 } else { seconds(before + tokens) - patience.as_secs_f64() };
        if over > 0 || late > 0.0 {
            let retry_after_s = seconds(over).max(late).ceil().clamp(1.0, 600.0) as u64;
            return Err(Full::Busy { waiting_tokens: before, retry_after_s });
        }
        state.tokens += tokens;
        match priority {
            Priority::Urgent => state.urgent.push_back((tokens, job)),
            Priority::Batch => {
                state.batch_tokens += tokens;
                state.batch.push_back((tokens, job));
            }
        }
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
        state.urgent.push_back((0, job));
        self.ready.notify_one();
        Ok(())
    }

    /// The next job and its tokens, which count as waiting until they are [`Queue::done`]; waits for one. `None` once the queue is
    /// closed and empty.
    pub fn pop(&self) -> Option<(usize, Job)> {
        let mut state = self.lock();
        loop {
            if let Some(next) = state.urgent.pop_front() {
                return Some(next);
            }
            if let Some((tokens, job)) = state.batch.pop_front() {
                state.paused = tokens;
                return Some((tokens, job));
            }
            if state.closed {
                return None;
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The next urgent job, if there is one and it fits, by its tokens and itself: for whoever can do it beside another. Nobody goes before
    /// another.
    pub fn pop_urgent_if(&self, fits: impl FnOnce(usize, &Job) -> bool) -> Option<(usize, Job)> {
        self.lock().urgent.pop_front_if(|(tokens, job)| fits(*tokens, job))
    }

    /// The first urgent job that fits, whatever waits before it: for whoever does batch work, pauses, and cannot do all there is.
    pub fn pop_urgent_that(&self, fits: impl Fn(&Job) -> bool) -> Option<(usize, Job)> {
        let mut state = self.lock();
        let at = state.urgent.iter().position(|(_, job)| fits(job))?;
        state.urgent.remove(at)
    }

    /// A job is done that came while batch work paused.
    pub fn done_urgent(&self, tokens: usize) {
        self.lock().tokens -= tokens;
    }

    /// A job is done that [`Queue::pop`] gave.
    pub fn done(&self, tokens: usize) {
        let mut state = self.lock();
        state.tokens -= tokens;
        state.batch_tokens -= std::mem::take(&mut state.paused);
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
        (state.urgent.len() + state.batch.len(), state.tokens)
    }

    /// Of these, the tokens of those for which somebody waits.
    pub fn urgent_tokens(&self) -> usize {
        let state = self.lock();
        state.tokens - state.batch_tokens
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

    const LONG: Duration = Duration::from_secs(3_600);

    fn push<Job>(queue: &Queue<Job>, priority: Priority, tokens: usize, job: Job) -> Result<(), Full> {
        queue.push(priority, (tokens, LONG), job)
    }

    #[test]
    fn what_people_wait_for_goes_first_and_nothing_is_lost_on_closing() {
        let queue = Queue::new(100);
        let jobs = [(Priority::Batch, 'a'), (Priority::Urgent, 'b'), (Priority::Batch, 'c'), (Priority::Urgent, 'd')];
        for (priority, job) in jobs {
            push(&queue, priority, 10, job).unwrap();
        }
        queue.push_always('e').unwrap();
        queue.close();
        assert_eq!(push(&queue, Priority::Urgent, 1, 'f'), Err(Full::Closed));
        assert_eq!(queue.push_always('f'), Err(Full::Closed));
        let mut done = String::new();
        while let Some((tokens, job)) = queue.pop() {
            queue.done(tokens);
            done.push(job);
        }
        assert_eq!(done, "bdeac");
        assert_eq!(queue.waiting(), (0, 0));
    }

    #[test]
    fn a_full_queue_says_when_there_should_be_room() {
        let queue = Queue::new(100);
        for _ in 0..200 {
            queue.measured(100, 1.0);
        }
        push(&queue, Priority::Urgent, 500, ()).unwrap();
        // 410 tokens must go before another 10 fit; at 100 tokens a second that takes 5 s, rounded up.
        let full = Full::Busy { waiting_tokens: 500, retry_after_s: 5 };
        assert_eq!(push(&queue, Priority::Urgent, 10, ()), Err(full), "the large one was taken since nothing waited");
        assert_eq!(push(&queue, Priority::Batch, 10, ()), Err(full));
        let (tokens, ()) = queue.pop().unwrap();
        assert!(push(&queue, Priority::Urgent, 10, ()).is_err(), "what is being read counts");
        queue.done(tokens);
        push(&queue, Priority::Urgent, 100, ()).unwrap();
        assert!(push(&queue, Priority::Urgent, 1, ()).is_err());
    }

    #[test]
    fn whoever_would_be_too_late_is_told_at_once() {
        let queue = Queue::new(1_000);
        for _ in 0..200 {
            queue.measured(100, 1.0);
        }
        push(&queue, Priority::Urgent, 400, 'a').unwrap();
        // 400 tokens before it and 10 of its own take 4.1 s.
        let late = Full::Busy { waiting_tokens: 400, retry_after_s: 4 };
        assert_eq!(queue.push(Priority::Urgent, (10, Duration::from_secs(1)), 'b'), Err(late));
        queue.push(Priority::Urgent, (10, Duration::from_secs(5)), 'c').unwrap();
        // Batch work in front of it does not make an urgent job late, whether it waits or is being done.
        let queue = Queue::new(800);
        for _ in 0..200 {
            queue.measured(100, 1.0);
        }
        push(&queue, Priority::Batch, 900, 'a').unwrap();
        assert!(
            push(&queue, Priority::Batch, 10, 'x').is_err(),
            "it has all the room there is for histories, and leaves that for turns"
        );
        queue.push(Priority::Urgent, (10, Duration::from_millis(150)), 'b').unwrap();
        assert_eq!(queue.pop(), Some((10, 'b')));
        assert!(queue.push(Priority::Urgent, (10, Duration::from_millis(150)), 'c').is_err(), "b is not done");
        queue.done(10);
        assert_eq!(queue.pop(), Some((900, 'a')));
        queue.push(Priority::Urgent, (10, Duration::from_millis(150)), 'c').unwrap();
        assert_eq!(queue.pop_urgent_if(|_, _| true), Some((10, 'c')));
        queue.done_urgent(10);
        assert_eq!(queue.pop_urgent_if(|_, _| true), None);
        queue.done(900);
        assert_eq!(queue.waiting(), (0, 0));
    }

    #[test]
    fn nobody_goes_before_another_where_jobs_are_done_together() {
        let queue = Queue::new(100);
        for job in ['a', 'b', 'c'] {
            push(&queue, Priority::Urgent, 10, job).unwrap();
        }
        assert_eq!(queue.pop(), Some((10, 'a')));
        assert_eq!(queue.pop_urgent_if(|tokens, job| (tokens, *job) == (10, 'b')), Some((10, 'b')));
        assert_eq!(queue.pop_urgent_if(|_, job| *job != 'c'), None);
        assert_eq!(queue.waiting(), (1, 30), "what is being done counts");
        queue.done(20);
        assert_eq!(queue.waiting(), (1, 10));
    }

    #[test]
    fn whoever_pauses_takes_the_first_that_it_can_do() {
        let queue = Queue::new(100);
        for job in ['a', 'b', 'c'] {
            push(&queue, Priority::Urgent, 10, job).unwrap();
        }
        assert_eq!(queue.pop_urgent_that(|job| *job != 'a'), Some((10, 'b')));
        assert_eq!(queue.pop_urgent_that(|job| *job == 'x'), None);
        assert_eq!(queue.pop(), Some((10, 'a')), "whoever was passed over keeps the place");
        assert_eq!(queue.urgent_tokens(), 30, "what is being done counts");
    }

    #[test]
    fn a_rate_is_of_time_and_not_of_jobs() {
        let queue = Queue::<()>::new(100);
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
            push(&queue, Priority::Urgent, 1, 7).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            queue.close();
            assert_eq!(waiting.join().unwrap(), (Some((1, 7)), None));
        });
    }
}
