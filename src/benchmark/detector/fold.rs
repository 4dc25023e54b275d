//! Baselines that fold the levels of the user's messages into one score, message by message.

use super::Family;
use crate::benchmark::metrics::Moments;

/// Messages that the mean of the last few is over.
const RECENT: usize = 5;
/// Weights of the newest message in the fast and the slow moving average.
const FAST: f64 = 0.3;
const SLOW: f64 = 0.05;

/// Every fold and what it is called beside its model's name.
pub(super) const FOLDS: [(Family, &str); 6] = [
    (Family::Last, "last message in context"),
    (Family::Recent, "mean of the last 5"),
    (Family::Mean, "mean"),
    (Family::Max, "max"),
    (Family::Skewness, "skewness"),
    (Family::Slope, "EWMA slope"),
];

/// One fold on its way through a history.
#[derive(Debug, Clone)]
pub struct Fold {
    family: Family,
    moments: Moments,
    max: f64,
    recent: [f64; RECENT],
    fast: f64,
    slow: f64,
}

impl Fold {
    /// Nothing read; a family that is no fold is the mean.
    pub fn new(family: Family) -> Self {
        Self { family, moments: Moments::default(), max: 0.0, recent: [0.0; RECENT], fast: 0.0, slow: 0.0 }
    }

    /// Takes in one more user message's expected level over 3; the score with it.
    pub fn push(&mut self, level: f64) -> f64 {
        self.recent[self.moments.count() % RECENT] = level;
        self.moments.push(level);
        self.max = self.max.max(level);
        self.fast += FAST * (level - self.fast);
        self.slow += SLOW * (level - self.slow);
        match self.family {
            Family::Last => level,
            Family::Recent => self.recent.iter().sum::<f64>() / self.moments.count().min(RECENT) as f64,
            Family::Max => self.max,
            Family::Skewness => self.moments.skewness().unwrap_or(0.0),
            Family::Slope => self.fast - self.slow,
            _ => self.moments.mean().unwrap_or(0.0),
        }
    }
}
