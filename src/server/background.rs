//! Work that goes on though nobody waits for its answer; a server that stops waits for it.

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{Instrument, Span};

/// How many tasks run.
pub(super) struct Background {
    running: watch::Sender<usize>,
}

/// One of them; also where it panics.
struct Running(watch::Sender<usize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running -= 1);
    }
}

impl Background {
    pub fn new() -> Self {
        Self { running: watch::channel(0).0 }
    }

    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.running.send_modify(|running| *running += 1);
        let running = Running(self.running.clone());
        let work = async move {
            work.await;
            drop(running);
        };
        tokio::spawn(work.instrument(Span::current()));
    }

    /// Until all is done, or for so long.
    pub async fn done(&self, patience: Duration) {
        let mut running = self.running.subscribe();
        if tokio::time::timeout(patience, running.wait_for(|running| *running == 0)).await.is_err() {
            let left = *self.running.borrow();
            tracing::warn!(left, "some work in the background was not done and is left");
        }
    }
}
