//! What the server counts, in the Prometheus text format (OpenMetrics 1.0).

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::verdict::Level;

/// Upper bounds of time, in seconds.
const SECONDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Upper bounds of jobs.
const JOBS: [f64; 6] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByRoute {
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRoute {
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByLevel {
    level: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByStage {
    stage: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    result: String,
}

/// All counts of one server.
pub struct Metrics {
    registry: Registry,
    requests: Family<ByRoute, Counter>,
    seconds: Family<OfRoute, Histogram>,
    waited: Histogram,
    together: Histogram,
    stored: Histogram,
    refused: Counter,
    skipped: Counter,
    late: Counter,
    tokens: Counter,
    messages: Counter,
    split: Counter,
    turns: Family<ByLevel, Counter>,
    alarms: Family<ByLevel, Counter>,
    histories: Family<ByResult, Counter>,
    recomputed: Counter,
    replies: Family<ByResult, Counter>,
    added: Family<ByStage, Histogram>,
    held: Histogram,
    webhooks: Family<ByResult, Counter>,
    cached: Gauge,
    users: Gauge,
    queue_jobs: Gauge,
    queue_tokens: Gauge,
    store_answers: Gauge,
    unkept: Counter,
    open_alarms: Gauge<u64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let timed = || Histogram::new(SECONDS);
        let mut all = Self {
            registry: Registry::with_prefix("throughline"),
            requests: Family::default(),
            seconds: Family::new_with_constructor(timed),
            waited: timed(),
            together: Histogram::new(JOBS),
            stored: timed(),
            refused: Counter::default(),
            skipped: Counter::default(),
            late: Counter::default(),
            tokens: Counter::default(),
            messages: Counter::default(),
            split: Counter::default(),
            turns: Family::default(),
            alarms: Family::default(),
            histories: Family::default(),
            recomputed: Counter::default(),
            replies: Family::default(),
            added: Family::new_with_constructor(timed),
            held: timed(),
            webhooks: Family::default(),
            cached: Gauge::default(),
            users: Gauge::default(),
            queue_jobs: Gauge::default(),
            queue_tokens: Gauge::default(),
            store_answers: Gauge::default(),
            unkept: Counter::default(),
            open_alarms: Gauge::default(),
        };
        all.register();
        // Levels stand there from the start, so that the first alarm is a rise.
        for level in Level::ALL {
            let label = ByLevel { level: level.as_str().into() };
            drop(all.turns.get_or_create(&label));
            drop(all.alarms.get_or_create(&label));
        }
        all
    }
}

impl Metrics {
    fn register(&mut self) {
        let Self { registry, .. } = self;
        registry.register("requests", "Requests answered", self.requests.clone());
        registry.register_with_unit("request", "Time to an answer", Unit::Seconds, self.seconds.clone());
        registry.register_with_unit("queue_wait", "Time that jobs waited", Unit::Seconds, self.waited.clone());
        registry.register("batch_turns", "Turns and drafts computed side by side", self.together.clone());
        registry.register_with_unit("store_write", "Time to keep a turn", Unit::Seconds, self.stored.clone());
        registry.register("refused", "Jobs refused because the queue was full", self.refused.clone());
        registry.register("skipped", "Jobs whose caller was gone or whose deadline had passed", self.skipped.clone());
        registry.register("late", "Callers whose deadline passed", self.late.clone());
        registry.register("tokens", "Tokens computed", self.tokens.clone());
        registry.register("messages", "Messages scored", self.messages.clone());
        registry.register("split_messages", "Messages longer than a window, read in parts", self.split.clone());
        registry.register("turns", "Turns kept, by the level that the user came to", self.turns.clone());
        registry.register("alarms", "Alarms raised", self.alarms.clone());
        registry.register("histories", "Histories needed: held in memory, or recalled", self.histories.clone());
        let recomputed = "Tokens of windows that were let go and must be computed again";
        registry.register("recomputed_tokens", recomputed, self.recomputed.clone());
        registry.register("replies", "Replies proxied, by what became of them", self.replies.clone());
        registry.register_with_unit(
            "proxy_added",
            "Time that judging added to a reply",
            Unit::Seconds,
            self.added.clone(),
        );
        registry.register_with_unit(
            "proxy_held",
            "Time that parts of streamed replies were held",
            Unit::Seconds,
            self.held.clone(),
        );
        registry.register("webhooks", "Alarms sent to webhooks, by whether they were taken", self.webhooks.clone());
        registry.register_with_unit("cached", "Keys and values that are held", Unit::Bytes, self.cached.clone());
        registry.register("users_in_memory", "Users whose histories are held", self.users.clone());
        registry.register("queue_jobs", "Jobs that wait", self.queue_jobs.clone());
        registry.register("queue_tokens", "Tokens that wait, about", self.queue_tokens.clone());
        registry.register("store_answers", "Whether the database answers", self.store_answers.clone());
        registry.register("unkept_texts", "Texts that went out and could not be kept", self.unkept.clone());
        registry.register("open_alarms", "Alarms that wait for a person", self.open_alarms.clone());
    }

    /// Everything as text, with what is only known when asked: jobs and tokens that wait, and alarms that do, where the database
    /// answers; else they stay what they were.
    pub fn text(&self, (jobs, tokens): (usize, usize), open_alarms: Option<u64>) -> String {
        self.queue_jobs.set(jobs as i64);
        self.queue_tokens.set(tokens as i64);
        self.store_answers.set(i64::from(open_alarms.is_some()));
        if let Some(open_alarms) = open_alarms {
            self.open_alarms.set(open_alarms);
        }
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    pub(super) fn answered(&self, route: &str, status: u16, took: Duration) {
        self.requests.get_or_create(&ByRoute { route: route.into(), status }).inc();
        self.seconds.get_or_create(&OfRoute { route: route.into() }).observe(took.as_secs_f64());
    }

    pub(super) fn waited(&self, time: Duration) {
        self.waited.observe(time.as_secs_f64());
    }

    /// So many turns and drafts are computed side by side.
    pub(super) fn together(&self, jobs: usize) {
        self.together.observe(jobs as f64);
    }

    pub(super) fn refused(&self) {
        self.refused.inc();
    }

    pub(super) fn skipped(&self) {
        self.skipped.inc();
    }

    pub(super) fn late(&self) {
        self.late.inc();
    }

    pub(super) fn read(&self, tokens: usize, messages: usize, split: usize) {
        self.tokens.inc_by(tokens as u64);
        self.messages.inc_by(messages as u64);
        self.split.inc_by(split as u64);
    }

    pub(super) fn kept(&self, took: Duration, level: Level) {
        self.stored.observe(took.as_secs_f64());
        self.turns.get_or_create(&ByLevel { level: level.as_str().into() }).inc();
    }

    pub(super) fn alarmed(&self, level: Level) {
        self.alarms.get_or_create(&ByLevel { level: level.as_str().into() }).inc();
    }

    /// Whether a history was in memory.
    pub(super) fn remembered(&self, found: bool) {
        let result = if found { "held" } else { "recalled" };
        self.histories.get_or_create(&ByResult { result: result.into() }).inc();
    }

    /// So many tokens of a user's window are to be computed again.
    pub(super) fn recomputed(&self, tokens: usize) {
        self.recomputed.inc_by(tokens as u64);
    }

    pub(super) fn proxied(&self, result: &str) {
        self.replies.get_or_create(&ByResult { result: result.into() }).inc();
    }

    pub(super) fn added(&self, stage: &'static str, took: Duration) {
        self.added.get_or_create(&ByStage { stage }).observe(took.as_secs_f64());
    }

    pub(super) fn held(&self, time: Duration) {
        self.held.observe(time.as_secs_f64());
    }

    /// A text that went out could not be kept.
    pub(super) fn lost(&self) {
        self.unkept.inc();
    }

    #[cfg(feature = "outbound")]
    pub(super) fn sent(&self, result: &str) {
        self.webhooks.get_or_create(&ByResult { result: result.into() }).inc();
    }

    pub(super) fn cached(&self, bytes: usize, users: usize) {
        self.cached.set(bytes as i64);
        self.users.set(users as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dashboards_and_rules_ask_for_is_counted() {
        let metrics = Metrics::default();
        metrics.answered("/v1/turns", 200, Duration::ZERO);
        metrics.remembered(true);
        metrics.proxied("ok");
        metrics.added("prompt", Duration::ZERO);
        metrics.webhooks.get_or_create(&ByResult { result: "taken".into() }).inc();
        let text = metrics.text((0, 0), Some(0));
        let mut asked = 0;
        for file in [include_str!("../../deploy/grafana.json"), include_str!("../../deploy/prometheus-rules.yml")] {
            let words = file.split(|c: char| !c.is_ascii_lowercase() && c != '_');
            for name in words.filter(|word| word.starts_with("throughline_")) {
                assert!(text.lines().any(|line| line.split(['{', ' ']).next() == Some(name)), "{name} in {text}");
                asked += 1;
            }
        }
        assert!(asked > 30, "{asked}");
    }
}
