//! What waits to be read: bounded by tokens, what people wait for before what they do not.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Tokens a second that are assumed before any were read.
const TOKENS_PER_S_GUESS: f64 = 1_000.0;
/// The weight of the newest measurement of tokens a second.
const RATE_NEW: f64 = 0.1;

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
    tokens: usize,
    tokens_per_s: f64,
    closed: bool,
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
            tokens_per_s: TOKENS_PER_S_GUESS,
            closed: false,
        };
        Self { state: Mutex::new(state), ready: Condvar::new(), tokens_max }
    }

    /// Takes in a job of about so many tokens. One that is larger than the whole queue is taken when nothing else waits.
    ///
    /// # Errors
    /// When there is no room, or no more is done.
    pub fn push(&self, priority: Priority, tokens: usize, job: Job) -> Result<(), Full> {
        let mut state = self.lock();
        if state.closed {
            return Err(Full::Closed);
        }
        if state.tokens > 0 && state.tokens + tokens > self.tokens_max {
            let over = (state.tokens + tokens).saturating_sub(self.tokens_max).min(state.tokens);
            let retry_after_s = (over as f64 / state.tokens_per_s).ceil().clamp(1.0, 600.0) as u64;
            return Err(Full::Busy { waiting_tokens: state.tokens, retry_after_s });
        }
        state.tokens += tokens;
        match priority {
            Priority::Urgent => state.urgent.push_back((tokens, job)),
            Priority::Batch => state.batch.push_back((tokens, job)),
        }
        self.ready.notify_one();
        Ok(())
    }

    /// The next job; waits for one. `None` once the queue is closed and empty.
    pub fn pop(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some((tokens, job)) = state.urgent.pop_front().or_else(|| state.batch.pop_front()) {
                state.tokens -= tokens;
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Notes that so many tokens took so long.
    pub fn measured(&self, tokens: usize, seconds: f64) {
        if tokens > 0 && seconds > 0.0 {
            let mut state = self.lock();
            state.tokens_per_s += RATE_NEW * (tokens as f64 / seconds - state.tokens_per_s);
        }
    }

    /// Takes in nothing more; what waits is still done.
    pub fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_all();
    }

    /// Jobs and tokens that wait.
    pub fn waiting(&self) -> (usize, usize) {
        let state = self.lock();
        (state.urgent.len() + state.batch.len(), state.tokens)
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

    #[test]
    fn what_people_wait_for_goes_first_and_nothing_is_lost_on_closing() {
        let queue = Queue::new(100);
        for (priority, job) in
            [(Priority::Batch, 'a'), (Priority::Urgent, 'b'), (Priority::Batch, 'c'), (Priority::Urgent, 'd')]
        {
            queue.push(priority, 10, job).unwrap();
        }
        queue.close();
        assert_eq!(queue.push(Priority::Urgent, 1, 'e'), Err(Full::Closed));
        assert_eq!(std::iter::from_fn(|| queue.pop()).collect::<String>(), "bdac");
        assert_eq!(queue.waiting(), (0, 0));
    }

    #[test]
    fn a_full_queue_says_when_there_should_be_room() {
        let queue = Queue::new(100);
        queue.push(Priority::Batch, 500, ()).unwrap();
        // 410 tokens must go before another 10 fit; at 100 tokens a second that takes 5 s, rounded up.
        for _ in 0..200 {
            queue.measured(100, 1.0);
        }
        let full = Full::Busy { waiting_tokens: 500, retry_after_s: 5 };
        assert_eq!(queue.push(Priority::Urgent, 10, ()), Err(full), "the large one was taken since nothing waited");
        queue.pop().unwrap();
        queue.push(Priority::Urgent, 100, ()).unwrap();
        assert!(queue.push(Priority::Urgent, 1, ()).is_err());
    }

    #[test]
    fn whoever_waits_is_woken() {
        let queue = Queue::new(100);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| (queue.pop(), queue.pop()));
            queue.push(Priority::Urgent, 1, 7).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20));
            queue.close();
            assert_eq!(waiting.join().unwrap(), (Some(7), None));
        });
    }
}
