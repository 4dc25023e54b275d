//! Nothing is kept for longer than was said: a step now and then, beside everything else.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::App;
use crate::store::Retention;

/// Between steps while there is more to do.
const STEP: Duration = Duration::from_secs(1);
/// Between looks whether there is.
const LOOK: Duration = Duration::from_secs(600);

impl App {
    /// Drops and erases what is old, until the server stops.
    pub(super) async fn retain(self: Arc<Self>) {
        let retention = self.settings.retention;
        if retention == Retention::default() {
            return;
        }
        let mut stopping = self.stopping.subscribe();
        loop {
            let mut pause = LOOK;
            // What failed was told to the log, and is tried again.
            if let Ok(done) = self.store(move |store| store.retain(&retention, Timestamp::now())).await {
                if done.erased > 0 || done.dropped > 0 {
                    tracing::info!(
                        users = done.erased,
                        messages = done.dropped,
                        "old users were erased, old content dropped"
                    );
                    self.desk.forget(done.users);
                }
                pause = if done.more { STEP } else { LOOK };
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {},
                stopping = stopping.wait_for(|stopping| *stopping) => { let _ = stopping; return },
            }
        }
    }
}
