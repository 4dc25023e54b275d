//! How much a message matters to the windows after it.

use crate::scoring::{MessageScore, at_least, expected_stance};

/// Evidence below this weight is not carried into later windows.
const WEIGHT_MIN: f32 = 0.2;

/// A message's P(level ≥ 2), its imminence, or how far its stance is from neutral; 0 where it is not carried.
pub(super) fn carried_weight(score: &MessageScore) -> f32 {
    let weight = at_least(&score.harassment, 2)
        .max(at_least(&score.delusion, 2))
        .max(score.imminent)
        .max(expected_stance(&score.stance).abs() / 2.0);
    if weight >= WEIGHT_MIN { weight } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::scoring::CumulativeLogits;
    use crate::transcript::Role;

    /// A message's logits, and its weight by hand.
    #[derive(Deserialize)]
    struct Example {
        role: Role,
        harassment: [f32; 3],
        delusion: [f32; 3],
        stance: [f32; 3],
        imminent: f32,
        weight: f32,
    }

    /// `models/training/test_training.py` holds the weights of training to the same file.
    #[test]
    fn weights_are_those_of_training() {
        let text = include_str!("../../models/training/carried-weights.json");
        for one in serde_json::from_str::<Vec<Example>>(text).unwrap() {
            let Example { harassment, delusion, stance, imminent, .. } = one;
            let (harassment_case, delusion_case, framed) = (None, None, None);
            let logits =
                CumulativeLogits { harassment, delusion, stance, imminent, harassment_case, delusion_case, framed };
            let found = carried_weight(&MessageScore::from_logits(one.role, &logits));
            assert!((found - one.weight).abs() < 1e-4, "{logits:?}: {found}, by hand {}", one.weight);
        }
    }
}
