//! Thresholds that hold beyond what they were chosen on.

/// The most failures among `trials` after which it may be said, with this confidence, that no more than `rate` of all fail: those whose
/// Clopper–Pearson upper bound (Clopper & Pearson 1934, *The use of confidence or fiducial limits*) is `rate` at most. `None` where
/// not even no failure would be enough: too few trials.
///
/// ```text
/// u_k ≤ rate  ⇔  P(Bin(trials, rate) ≤ k) ≤ 1 − confidence        u_k: the upper bound of k failures
/// ```
///
/// The left side grows with k. So when thresholds are tried from the highest down, each a test of "more than `rate` fail", the last
/// that is passed is the one after which so many failed, and the confidence holds of it although many were tried: fixed sequence
/// testing (Angelopoulos, Bates, Candès, Jordan & Lei 2022, *Learn then Test: calibrating predictive algorithms to achieve risk
/// control*).
pub fn failures_allowed(trials: usize, rate: f64, confidence: f64) -> Option<usize> {
    let (limit_nats, odds_nats) = ((1.0 - confidence).ln(), (rate / (1.0 - rate)).ln());
    // ln P(Bin = k) and ln P(Bin ≤ k): of many trials the first few are too unlikely for a number itself.
    let mut exactly = trials as f64 * (-rate).ln_1p();
    let mut at_most = exactly;
    let mut allowed = None;
    for failures in 0..trials {
        if at_most > limit_nats {
            break;
        }
        allowed = Some(failures);
        exactly += ((trials - failures) as f64 / (failures + 1) as f64).ln() + odds_nats;
        at_most += (exactly - at_most).exp().ln_1p();
    }
    allowed
}
