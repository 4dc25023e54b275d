//! What one message is worth: from its levels to an e-value.

use super::ArcKind;

/// Shares of the levels 0–3 among user messages, and of histories with the arc: what the probabilities of a message are held against.
///
/// Counted on the labels of the training histories in `datasets/arcs`; `models/training/reference.py --check` counts again, and
/// fails where what it finds differs by more than 0.01.
struct Reference {
    /// All messages: the odds a calibrated model starts from.
    all: [f64; 4],
    /// Messages from the onset on.
    risk: [f64; 4],
    /// The share of histories that hold the arc.
    histories: f64,
    /// Messages of histories without an arc; levels 2 and 3, which do not occur there, at [`SLIP`].
    benign: [f64; 4],
}

/// How often a message of an innocent history is allowed to look like level 2, and like level 3: no
/// label says so, but a model slips, and one slip must not be an alarm.
const SLIP: f64 = 0.005;

const HARASSMENT: Reference = Reference {
    histories: 0.238,
    all: [0.847, 0.077, 0.065, 0.011],
    risk: [0.345, 0.104, 0.471, 0.080],
    benign: [0.930, 0.060, SLIP, SLIP],
};
const DELUSION: Reference = Reference {
    histories: 0.182,
    all: [0.870, 0.052, 0.048, 0.030],
    risk: [0.314, 0.029, 0.404, 0.252],
    benign: [0.950, 0.040, SLIP, SLIP],
};

/// The share of messages that show the risk once it is there; everyday use goes on beside it.
const RISK_SHARE: f64 = 0.3;

/// The message's e-value, 1 − RISK_SHARE at least.
///
/// A calibrated model's probabilities are likelihoods times `all`, so that the likelihood ratio of
/// "a risk is building" to "an innocent history" is
///
/// ```text
/// LR = Σ_k P(k) risk_k / all_k  /  Σ_k P(k) benign_k / all_k
/// e  = (1 − RISK_SHARE) + RISK_SHARE · LR
/// ```
///
/// Its mean over innocent messages is 1 as long as `benign` is true of them, and e is never below
/// 1 − RISK_SHARE: an innocent message is weak evidence of innocence (the mixture, or bet, of Ramdas
/// et al. 2023, *Game-theoretic statistics and safe anytime-valid inference*, section 3).
pub(super) fn e_value(kind: ArcKind, levels: &[f32; 4]) -> f64 {
    let reference = reference(kind);
    let likelihood = |shares: &[f64; 4]| -> f64 {
        levels.iter().zip(shares).zip(&reference.all).map(|((&p, share), all)| f64::from(p) * share / all).sum()
    };
    let ratio = likelihood(&reference.risk) / likelihood(&reference.benign);
    1.0 - RISK_SHARE + RISK_SHARE * ratio
}

/// ln of the message's e-value: what it adds to the evidence, in nats.
pub(super) fn gain(kind: ArcKind, levels: &[f32; 4]) -> f64 {
    e_value(kind, levels).ln()
}

/// The probability of an open case is taken to lie this far from 0 and from 1: the few hundred innocent histories that it was
/// calibrated on and held against cannot show that a model may be surer.
const CASE_DOUBT: f64 = 0.001;

/// ln of the odds of an open case over those before anything was read, in nats.
pub(super) fn case_nats(kind: ArcKind, probability: f32) -> f64 {
    let logit = |p: f64| (p / (1.0 - p)).ln();
    logit(f64::from(probability).clamp(CASE_DOUBT, 1.0 - CASE_DOUBT)) - logit(reference(kind).histories)
}

fn reference(kind: ArcKind) -> &'static Reference {
    match kind {
        ArcKind::Harassment => &HARASSMENT,
        ArcKind::Delusion => &DELUSION,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn higher_levels_are_worth_more_and_innocence_little() {
        for kind in ArcKind::ALL {
            let certain: Vec<f64> = (0..4)
                .map(|level| {
                    let mut levels = [0.0; 4];
                    levels[level] = 1.0;
                    gain(kind, &levels)
                })
                .collect();
            assert!(certain[0] < 0.0 && certain[0] >= (1.0 - RISK_SHARE).ln(), "{kind:?}: {certain:?}");
            assert!(certain[1] < 0.5, "{kind:?}: {certain:?}");
            assert!(certain[2] > 3.0 && certain[3] > 1.6, "{kind:?}: {certain:?}");
        }
    }

    /// By hand from the shares, as 0.7 + 0.3 · LR: 0.471 / 0.005 of a sure level 2 of harassment, 0.314 / 0.950 of a sure level
    /// 0 of delusion, and (0.345 / 0.847 + 0.104 / 0.077) / (0.930 / 0.847 + 0.060 / 0.077) of doubt between 0 and 1.
    #[test]
    fn e_values_are_the_formulas() {
        let near = |kind: ArcKind, levels: [f32; 4], by_hand: f64| {
            let found = e_value(kind, &levels);
            assert!((found - by_hand).abs() < 1e-5, "{kind:?} {levels:?}: {found}");
            assert!((gain(kind, &levels) - by_hand.ln()).abs() < 1e-5, "{kind:?} {levels:?}");
        };
        near(ArcKind::Harassment, [0.0, 0.0, 1.0, 0.0], 28.96);
        near(ArcKind::Delusion, [1.0, 0.0, 0.0, 0.0], 0.799_158);
        near(ArcKind::Harassment, [0.5, 0.5, 0.0, 0.0], 0.980_943);
    }

    #[test]
    fn what_was_expected_before_reading_is_no_evidence() {
        assert!(case_nats(ArcKind::Harassment, HARASSMENT.histories as f32).abs() < 1e-6);
        assert!(case_nats(ArcKind::Delusion, 0.5) > 1.0);
    }

    #[test]
    fn an_innocent_messages_mean_e_value_is_one() {
        for (kind, reference) in [(ArcKind::Harassment, HARASSMENT), (ArcKind::Delusion, DELUSION)] {
            let mean: f64 = (0..4)
                .map(|level| {
                    let mut levels = [0.0; 4];
                    levels[level] = 1.0;
                    reference.benign[level] * e_value(kind, &levels)
                })
                .sum();
            assert!((0.99..=1.0 + 1e-9).contains(&mean), "{kind:?}: {mean}");
        }
    }
}
