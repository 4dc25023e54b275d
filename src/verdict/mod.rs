//! Verdicts: from an arc's score to a level an operator acts on. Pure; must not know IO.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::arc::{ARC_SCORE_MIN, ArcState, IMMINENT_AT};

/// What an operator should do, in rising order. A signal for human review, never a diagnosis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing to do.
    None,
    /// Keep reading.
    Watch,
    /// A reviewer should read this history.
    Review,
    /// An experienced reviewer should, soon.
    Senior,
    /// Someone should now: a credible, imminent threat was made.
    Urgent,
}

impl Level {
    pub const ALL: [Self; 5] = [Self::None, Self::Watch, Self::Review, Self::Senior, Self::Urgent];

    /// The name as it stands in output and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Watch => "watch",
            Self::Review => "review",
            Self::Senior => "senior",
            Self::Urgent => "urgent",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|level| level.as_str() == text)
            .ok_or_else(|| format!("unknown level `{text}`; hint: none, watch, review, senior or urgent"))
    }
}

/// Arc scores from which each level holds.
///
/// The defaults are the scores of a false-alarm probability α per history and arc, as [`crate::arc`]
/// promises it of a calibrated model: 20% for `watch`, 5% for `review`, 1% for `senior`. They were chosen on
/// the development histories, whose innocents are hard on purpose; everyday use gives fewer false alarms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    pub watch_score_min: f32,
    pub review_score_min: f32,
    pub senior_score_min: f32,
    /// Probability of an imminent threat from which the level is `urgent` at any score.
    pub imminent_min: f32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            watch_score_min: ARC_SCORE_MIN,
            review_score_min: 0.397,
            senior_score_min: 0.5,
            imminent_min: IMMINENT_AT,
        }
    }
}

impl Policy {
    /// The level of one arc.
    pub fn level(&self, arc: &ArcState) -> Level {
        let score = arc.score();
        if arc.imminent_max() >= self.imminent_min {
            Level::Urgent
        } else if score >= self.senior_score_min {
            Level::Senior
        } else if score >= self.review_score_min {
            Level::Review
        } else if score >= self.watch_score_min {
            Level::Watch
        } else {
            Level::None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arc::{ArcKind, MessageAt, Observation};
    use crate::scoring::MessageScore;

    fn arc(delusion: &[[f32; 4]], imminent: f32) -> ArcState {
        let mut arc = ArcState::new(ArcKind::Delusion);
        for (message, &delusion) in delusion.iter().enumerate() {
            let score = MessageScore { delusion, imminent, ..MessageScore::NOTHING };
            arc.step(&Observation { at: MessageAt { session: 0, message }, time: None, from_user: true, score });
        }
        arc
    }

    #[test]
    fn levels_rise_with_the_score() {
        let policy = Policy::default();
        let (nothing, likely) = ([1.0, 0.0, 0.0, 0.0], [0.6, 0.0, 0.4, 0.0]);
        let found: Vec<Level> = [0, 3, 5, 8].map(|times| policy.level(&arc(&vec![likely; times], 0.0))).to_vec();
        assert_eq!(found, [Level::None, Level::Watch, Level::Review, Level::Senior]);
        assert_eq!(policy.level(&arc(&[nothing; 50], 0.0)), Level::None);
        assert!(Level::None < Level::Watch && Level::Senior < Level::Urgent);
    }

    #[test]
    fn whatever_has_a_level_has_an_onset() {
        let mut watches = 0;
        for thousandths in 0..=1_000 {
            let p = thousandths as f32 / 1_000.0;
            let arc = arc(&[[1.0 - p, 0.0, p, 0.0]; 2], 0.0);
            let level = Policy::default().level(&arc);
            watches += usize::from(level == Level::Watch);
            assert_eq!(level > Level::None, arc.onset().is_some(), "p {p}: {level}, {}", arc.score());
        }
        assert!(watches > 0);
    }

    #[test]
    fn an_imminent_threat_is_urgent_at_any_score() {
        assert_eq!(Policy::default().level(&arc(&[[1.0, 0.0, 0.0, 0.0]], 0.9)), Level::Urgent);
    }

    #[test]
    fn names_are_read_back() {
        for level in Level::ALL {
            assert_eq!(level.as_str().parse::<Level>(), Ok(level));
        }
        assert!("high".parse::<Level>().unwrap_err().contains("hint"));
    }
}
