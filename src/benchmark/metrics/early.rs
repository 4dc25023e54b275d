//! How early an alarm comes, and what it costs to wait.

use super::{mean, median};

/// One history and when a detector raised its alarm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision {
    pub positive: bool,
    /// How many messages of the user had been read at the alarm, from 1; `None` without one.
    pub read: Option<usize>,
}

/// ERDE_o, the early risk detection error (Losada & Crestani 2016, §2.2), over all decisions:
///
/// ```text
/// false positive  c_fp = the share of positives      true positive  lc_o(k) = 1 − 1/(1 + e^(k−o))
/// false negative  c_fn = 1                           true negative  0
/// ```
///
/// k counts the user's messages from the first one on, as published: an arc that begins late costs
/// even a detector that answers at once.
pub fn erde(decisions: &[Decision], o: f64) -> Option<f64> {
    let positives = decisions.iter().filter(|decision| decision.positive).count();
    let false_positive = positives as f64 / decisions.len().max(1) as f64;
    let cost = |decision: &Decision| match (decision.positive, decision.read) {
        (true, Some(read)) => 1.0 - 1.0 / (1.0 + (read as f64 - o).exp()),
        (true, None) => 1.0,
        (false, Some(_)) => false_positive,
        (false, None) => 0.0,
    };
    (positives > 0).then(|| mean(&decisions.iter().map(cost).collect::<Vec<_>>()))?
}

/// F-latency (Sadeque, Xu & Bethard 2018, eq. 2–4): F1 · (1 − median over true positives of
/// P(k)), where P(k) = −1 + 2/(1 + e^(−p(k−1))) and p puts P at ½ for a history of median length.
pub fn f_latency(decisions: &[Decision], messages_median: f64) -> Option<f64> {
    let count = |positive: bool, alarm: bool| {
        decisions.iter().filter(|d| d.positive == positive && d.read.is_some() == alarm).count() as f64
    };
    let (hits, false_alarms, misses) = (count(true, true), count(false, true), count(true, false));
    if hits + misses == 0.0 || messages_median <= 1.0 {
        return None;
    }
    if hits == 0.0 {
        return Some(0.0);
    }
    let p = 3f64.ln() / (messages_median - 1.0);
    let penalty = |read: usize| -1.0 + 2.0 / (1.0 + (-p * (read as f64 - 1.0)).exp());
    let found = decisions.iter().filter(|decision| decision.positive);
    let penalties: Vec<f64> = found.filter_map(|decision| decision.read.map(penalty)).collect();
    let f1 = 2.0 * hits / (2.0 * hits + false_alarms + misses);
    Some(f1 * (1.0 - median(&penalties)?))
}

/// How far an alarm stands from the labelled onset; negative is early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delay {
    pub messages: i64,
    pub user_messages: i64,
    pub sessions: i64,
}
