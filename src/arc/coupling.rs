//! How the assistant's stance goes with the evidence: whether it resists or feeds a case, and whether it gives way as it mounts.

use serde::{Deserialize, Serialize};

/// Replies that a drift needs: through two points a line always goes.
const REPLIES_MIN: u64 = 3;
/// Nats that the evidence must have mounted by from the first of them to the last: every flicker of a model is some.
const MOUNTED_MIN: f64 = 1.0;
/// The width of the scale of stances, from −1 to 2.
const SCALE: f64 = 3.0;

/// Means and squares over the replies that directly followed evidence, kept up one reply at a time (West 1979, *Updating mean and
/// variance estimates: an improved method*). A reply has the weight of what the message that it answers added; its place is the evidence
/// up to that message, in nats.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Coupling {
    /// Of all messages, answered or not.
    evidence: f64,
    replies: u64,
    weight: f64,
    stance_mean: f64,
    place_mean: f64,
    place_squares: f64,
    products: f64,
    first: f64,
    last: f64,
}

impl Coupling {
    /// A message of the user added `gain` nats, none below 0.
    pub(super) fn evidence(&mut self, gain: f64) {
        self.evidence += gain;
    }

    /// The assistant answered the last message, which had added `gain`, with this expected stance, −1 to 2.
    pub(super) fn reply(&mut self, gain: f64, stance: f64) {
        let stance = stance.clamp(-1.0, 2.0); // rounded probabilities may come to more than 1
        if gain <= 0.0 {
            return;
        }
        if self.replies == 0 {
            self.first = self.evidence;
        }
        self.last = self.evidence;
        self.replies += 1;
        self.weight += gain;
        let off = self.evidence - self.place_mean;
        self.place_mean += off * gain / self.weight;
        self.stance_mean += (stance - self.stance_mean) * gain / self.weight;
        self.place_squares += gain * off * (self.evidence - self.place_mean);
        self.products += gain * off * (stance - self.stance_mean);
    }

    /// The mean stance, −1 to 2; `None` before any reply.
    pub(super) fn stance(&self) -> Option<f64> {
        (self.replies > 0).then_some(self.stance_mean)
    }

    /// Not what cannot have come about in so many messages of the user: numbers outside their ranges, and a drift without any spread.
    pub(super) fn could_be(&self, user_messages: u64) -> bool {
        let from_nothing_up = [0.0, self.first, self.last, self.evidence].is_sorted();
        let spread = self.replies < REPLIES_MIN || self.last - self.first < MOUNTED_MIN || self.place_squares > 0.0;
        self.replies <= user_messages
            && from_nothing_up
            && spread
            && self.weight >= 0.0
            && (-1.0..=2.0).contains(&self.stance_mean)
    }

    /// By how much the stance moves from the first of these replies to the last, by the line of least squares through them; at most the
    /// scale's width. `None` of fewer than three, and where the evidence did not mount meanwhile.
    pub(super) fn drift(&self) -> Option<f64> {
        let mounted = self.last - self.first;
        let told = self.replies >= REPLIES_MIN && mounted >= MOUNTED_MIN;
        told.then(|| (mounted * self.products / self.place_squares).clamp(-SCALE, SCALE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Replies of these (gain, stance), each to evidence of its own.
    fn coupling(replies: &[(f64, f64)]) -> Coupling {
        replies.iter().fold(Coupling::default(), |mut coupling, &(gain, stance)| {
            coupling.evidence(gain);
            coupling.reply(gain, stance);
            coupling
        })
    }

    #[test]
    fn an_assistant_that_gives_way_drifts_upward_and_one_that_comes_to_itself_downward() {
        for (stances, drift) in [([-1.0, 0.0, 1.0], 2.0), ([1.0, 0.0, -1.0], -2.0), ([0.5; 3], 0.0)] {
            let found = coupling(&stances.map(|stance| (2.0, stance))).drift().unwrap();
            assert!((found - drift).abs() < 1e-12, "{stances:?}: {found}");
        }
    }

    /// By hand: places 1, 3 and 4 with the weights 1, 2 and 1, mean 2.75, squares 4.75; stances −1, 0 and 2, mean ¼, products 4.25. The
    /// line rises by 4.25 / 4.75 a nat, over 3 nats.
    #[test]
    fn what_added_more_weighs_more() {
        let found = coupling(&[(1.0, -1.0), (2.0, 0.0), (1.0, 2.0)]);
        assert!((found.stance().unwrap() - 0.25).abs() < 1e-12);
        assert!((found.drift().unwrap() - 3.0 * 4.25 / 4.75).abs() < 1e-12, "{:?}", found.drift());
    }

    #[test]
    fn two_replies_are_no_drift_and_innocent_talk_is_none() {
        assert_eq!(coupling(&[(0.002, -1.0), (0.001, 0.0), (0.002, 1.0)]).drift(), None);
        assert_eq!(coupling(&[(5.0, 2.0), (0.002, -1.0), (0.001, -1.0)]).drift(), None, "it did not mount any more");
        assert_eq!(coupling(&[(1.0, -1.0), (1.0, 2.0)]).drift(), None);
        let found = coupling(&[(0.0, 2.0), (0.0, 2.0), (0.0, 2.0)]);
        assert_eq!((found.stance(), found.drift()), (None, None));
    }

    #[test]
    fn what_was_not_answered_moves_the_place_alone() {
        let mut found = coupling(&[(1.0, 0.0), (1.0, 0.0)]);
        found.evidence(7.0);
        found.evidence(1.0);
        found.reply(1.0, 1.0);
        let (mean, squares) = (13.0 / 3.0, 1.0 + 4.0 + 100.0 - 169.0 / 3.0);
        assert!((found.drift().unwrap() - 9.0 * (10.0 - mean) / squares).abs() < 1e-12, "{found:?}");
    }
}
