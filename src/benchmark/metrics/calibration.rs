//! Whether probabilities mean what they say.

use serde::Serialize;

use super::ranking::Scored;

/// Bins of equal width.
pub const BINS: usize = 15;

/// Scores of one bin.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bin {
    pub count: usize,
    /// Mean of the probabilities that were said.
    pub said: f64,
    /// Share of positives.
    pub found: f64,
}

/// The points of a reliability diagram (DeGroot & Fienberg 1983): bins ((m−1)/15, m/15], those with
/// anything in them.
pub fn reliability(scored: &[Scored]) -> Vec<Bin> {
    let mut bins = vec![(0usize, 0.0, 0usize); BINS];
    for (score, positive) in scored {
        let bin = (score * BINS as f64).ceil().clamp(1.0, BINS as f64) as usize - 1;
        let (count, sum, positives) = &mut bins[bin];
        *count += 1;
        *sum += score;
        *positives += usize::from(*positive);
    }
    let filled = bins.into_iter().filter(|(count, ..)| *count > 0);
    let bin = |(count, sum, positives)| Bin { count, said: sum / count as f64, found: positives as f64 / count as f64 };
    filled.map(bin).collect()
}

/// Expected calibration error: Σ |B_m|/n · |found − said| (Naeini et al. 2015; Guo et al. 2017, eq. 3).
pub fn expected_calibration_error(scored: &[Scored]) -> Option<f64> {
    let bins = reliability(scored);
    let weighted: f64 = bins.iter().map(|bin| bin.count as f64 * (bin.found - bin.said).abs()).sum();
    (!scored.is_empty()).then(|| weighted / scored.len() as f64)
}
