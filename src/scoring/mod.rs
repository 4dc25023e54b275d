//! From logits to calibrated probabilities of a message. Must not know IO or where logits come from.

use serde::{Deserialize, Serialize};

use crate::transcript::Role;

/// What a guard says of one message: a probability for every level.
///
/// Harassment and delusion are judged on user messages, stance on assistant messages; the fields
/// that do not apply to a role are certain of "nothing in play" (level 0).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MessageScore {
    /// P(level 0), …, P(level 3).
    pub harassment: [f32; 4],
    /// P(level 0), …, P(level 3).
    pub delusion: [f32; 4],
    /// P(−1 protective), P(0 neutral), P(1 accommodating), P(2 amplifying).
    pub stance: [f32; 4],
    /// Probability of a credible, imminent threat of violence.
    pub imminent: f32,
    /// Probability that a case of harassment is open by this message: that a careful reviewer who has read the
    /// history up to here would have opened one, here or before. `None` of a guard that judges messages alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub harassment_case: Option<f32>,
    /// The same of delusion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delusion_case: Option<f32>,
    /// Probability that what the message says of people, acts or beliefs is put under a frame: as a story, a game, something
    /// supposed, an exercise, or the affair of a friend who may be the user. Honest frames and others alike, so that it says nothing
    /// of a risk; the levels are of what is meant, the frame known. `None` of a guard that has no such head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub framed: Option<f32>,
}

/// Logits of a message's heads: entry `k` of an ordinal head is `logit P(y > k)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CumulativeLogits {
    pub harassment: [f32; 3],
    pub delusion: [f32; 3],
    pub stance: [f32; 3],
    pub imminent: f32,
    pub harassment_case: Option<f32>,
    pub delusion_case: Option<f32>,
    pub framed: Option<f32>,
}

impl MessageScore {
    /// Nothing in play.
    pub const NOTHING: Self = Self {
        harassment: [1.0, 0.0, 0.0, 0.0],
        delusion: [1.0, 0.0, 0.0, 0.0],
        stance: [0.0, 1.0, 0.0, 0.0],
        imminent: 0.0,
        harassment_case: None,
        delusion_case: None,
        framed: None,
    };

    /// The fields that the role's heads give; the others as in [`MessageScore::NOTHING`].
    pub fn from_logits(role: Role, logits: &CumulativeLogits) -> Self {
        match role {
            Role::User => Self {
                harassment: level_probabilities(logits.harassment),
                delusion: level_probabilities(logits.delusion),
                imminent: sigmoid(logits.imminent),
                harassment_case: logits.harassment_case.map(sigmoid),
                delusion_case: logits.delusion_case.map(sigmoid),
                framed: logits.framed.map(sigmoid),
                ..Self::NOTHING
            },
            Role::Assistant => Self { stance: level_probabilities(logits.stance), ..Self::NOTHING },
            Role::System | Role::Tool => Self::NOTHING,
        }
    }

    /// The score of a message read in parts, `other` after `self`: of each field, the part that says most.
    pub fn pooled(self, other: Self) -> Self {
        let more = |a: [f32; 4], b: [f32; 4]| if expected_level(&a) >= expected_level(&b) { a } else { b };
        Self {
            harassment: more(self.harassment, other.harassment),
            delusion: more(self.delusion, other.delusion),
            // Of stance, the part furthest from neutral.
            stance: if stance_strength(&self.stance) >= stance_strength(&other.stance) {
                self.stance
            } else {
                other.stance
            },
            imminent: self.imminent.max(other.imminent),
            // Of an open case the later part, which knows all before it.
            harassment_case: other.harassment_case.or(self.harassment_case),
            delusion_case: other.delusion_case.or(self.delusion_case),
            // Of a frame the part that says most of a risk: a story and then a plain threat is told plainly.
            framed: if risk(&self) > risk(&other) {
                self.framed.or(other.framed)
            } else {
                other.framed.or(self.framed)
            },
        }
    }
}

/// `Σ k·P(k)`, 0 to 3.
pub fn expected_level(levels: &[f32; 4]) -> f32 {
    levels.iter().zip([0.0, 1.0, 2.0, 3.0]).map(|(p, level)| p * level).sum()
}

/// `Σ s·P(s)` over the stances −1, 0, 1, 2.
pub fn expected_stance(stance: &[f32; 4]) -> f32 {
    expected_level(stance) - 1.0
}

/// The higher of the expected levels.
fn risk(score: &MessageScore) -> f32 {
    expected_level(&score.harassment).max(expected_level(&score.delusion))
}

fn stance_strength(stance: &[f32; 4]) -> f32 {
    expected_stance(stance).abs()
}

/// `P(level ≥ at_least)`.
pub fn at_least(levels: &[f32; 4], level: usize) -> f32 {
    levels.iter().skip(level).sum()
}

/// The level with the greatest probability; the lower one of equals.
pub fn likeliest(levels: &[f32; 4]) -> usize {
    (1..4).fold(0, |best, level| if levels[level] > levels[best] { level } else { best })
}

/// `P(y = k)` from `logit P(y > k)` (cumulative-link model, McCullagh 1980, eq. 2.1). Classifiers of thresholds
/// that were trained apart may cross; between those the probability is 0.
fn level_probabilities(logits: [f32; 3]) -> [f32; 4] {
    let mut above = logits.map(sigmoid);
    above[1] = above[1].min(above[0]);
    above[2] = above[2].min(above[1]);
    [1.0 - above[0], above[0] - above[1], above[1] - above[2], above[2]]
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn probabilities_are_probabilities(logits in prop::array::uniform3(-200.0f32..200.0)) {
            let levels = level_probabilities(logits);
            prop_assert!(levels.iter().all(|p| (0.0..=1.0).contains(p)), "{levels:?}");
            prop_assert!((levels.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn levels_follow_the_cumulative_link() {
        // P(y>0) = .9, P(y>1) = .5, P(y>2) = .1 by their log-odds.
        let levels = level_probabilities([9f32.ln(), 0.0, -9f32.ln()]);
        for (found, expected) in levels.iter().zip([0.1, 0.4, 0.4, 0.1]) {
            assert!((found - expected).abs() < 1e-6, "{levels:?}");
        }
        assert!((expected_level(&levels) - 1.5).abs() < 1e-6);
    }

    #[test]
    fn of_a_message_in_parts_the_part_that_says_most_tells_the_frame() {
        let part = |level: usize, framed: f32| {
            let mut harassment = [0.0; 4];
            harassment[level] = 1.0;
            MessageScore { harassment, framed: Some(framed), ..MessageScore::NOTHING }
        };
        assert_eq!(part(0, 0.9).pooled(part(3, 0.1)).framed, Some(0.1));
        assert_eq!(part(3, 0.9).pooled(part(0, 0.1)).framed, Some(0.9));
    }

    #[test]
    fn a_head_speaks_only_of_its_role() {
        let logits = CumulativeLogits {
            harassment: [5.0; 3],
            delusion: [5.0; 3],
            stance: [5.0; 3],
            imminent: 5.0,
            harassment_case: Some(5.0),
            delusion_case: None,
            framed: Some(5.0),
        };
        let assistant = MessageScore::from_logits(Role::Assistant, &logits);
        assert_eq!(assistant.harassment, MessageScore::NOTHING.harassment);
        assert!(assistant.stance[3] > 0.9);
        let user = MessageScore::from_logits(Role::User, &logits);
        assert_eq!(user.stance, MessageScore::NOTHING.stance);
        assert!(user.delusion[3] > 0.9 && user.harassment_case > Some(0.9));
        assert_eq!((assistant.harassment_case, user.delusion_case, assistant.framed), (None, None, None));
        assert!(user.framed > Some(0.9));
    }
}
