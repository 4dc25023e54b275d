//! Figures, each a pure function of scores and labels, with its source.
//!
//! A figure that is not defined on what it is given (no positive, no pair) is `None`, never 0.

use serde::{Serialize, Serializer};

pub mod agreement;
pub mod bootstrap;
pub mod calibration;
pub mod coreference;
pub mod early;
pub mod ranking;
pub mod risk;

/// A value with its interval; all `None` where it is not defined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Figure {
    pub value: Option<f64>,
    /// 2.5th and 97.5th percentile of the bootstrap.
    pub low: Option<f64>,
    pub high: Option<f64>,
}

/// Named values, in the order of tables.
pub type Values = Vec<(&'static str, Option<f64>)>;

/// Named figures, in the order of tables; an object in JSON.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures(pub Vec<(&'static str, Figure)>);

impl Figures {
    /// The figure of a name; undefined where there is none.
    pub fn get(&self, name: &str) -> Figure {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, figure)| *figure).unwrap_or_default()
    }
}

impl Serialize for Figures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, figure)| (name, figure)))
    }
}

/// The mean; `None` of nothing.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Mean and skewness of values as they come (Terriberry 2007, *Computing higher-order moments online*; the third of the
/// central moments by the update of Welford).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Moments {
    count: usize,
    mean: f64,
    /// Σ (x − mean)² and Σ (x − mean)³.
    second: f64,
    third: f64,
}

impl Moments {
    pub fn push(&mut self, value: f64) {
        let before = self.count as f64;
        self.count += 1;
        let count = self.count as f64;
        let delta = value - self.mean;
        let step = delta / count;
        let term = delta * step * before;
        self.mean += step;
        self.third += term * step * (count - 2.0) - 3.0 * step * self.second;
        self.second += term;
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// `None` of nothing.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then_some(self.mean)
    }

    /// g₁ = m₃ / m₂^(3/2) (Joanes & Gill 1998): how far a few high values stand out among many low ones;
    /// `None` where nothing varies.
    pub fn skewness(&self) -> Option<f64> {
        let count = self.count as f64;
        (self.second > 1e-18 * count).then(|| (self.third / count) / (self.second / count).powf(1.5))
    }
}

/// The median, of an even count the mean of both in the middle; `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.len().checked_sub(1)? / 2, sorted.len() / 2);
    Some((sorted[low] + sorted[high]) / 2.0)
}
