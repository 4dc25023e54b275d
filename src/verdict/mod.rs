//! Verdicts: from the state of a user's arcs to a level an operator acts on, with its reasons. Pure; must not know IO.
//!
//! Three things are kept apart: the score of one message ([`crate::scoring`]), the state of a user
//! ([`crate::arc`]), and what a [`Policy`] makes of it: a [`Verdict`] with one [`Finding`] for every level and
//! rule that led to it, each with its messages.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::arc::{ArcKind, MessageAt};

#[cfg(feature = "policy")]
mod file;
mod policy;
mod rule;

#[cfg(feature = "policy")]
pub use file::{DEFAULT_POLICY_TOML, PolicyError, PolicyFile};
pub use policy::{Facts, LevelSettings, Levels, Mitigation, Named, OnFailure, POLICY_SCHEMA_VERSION, Policy};
pub use rule::Rule;

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

/// What led to a level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "lowercase")]
pub enum Reason {
    /// The arc's score stands at or above the level's.
    Score { score: f32 },
    /// Messages are credible, imminent threats.
    Imminent {
        /// Of the likeliest.
        probability: f32,
        /// The probability that this one is aimed at a particular person; else at many, at strangers, or at oneself.
        toward_person: f32,
    },
    /// A rule of the policy holds.
    Rule { id: String, why: String },
}

/// One level or rule that holds, with the messages it rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// `none` of a rule that only adds mitigations.
    pub level: Level,
    /// The arc it is about, if it is about one.
    pub arc: Option<ArcKind>,
    pub reason: Reason,
    /// Of its level and, where it is one, of the rule.
    pub mitigations: BTreeSet<Mitigation>,
    /// In the order of the history; of more than twelve of a category the first, of an arc the strongest, of threats the likeliest.
    pub messages: Vec<MessageAt>,
    /// How many there are in all.
    pub messages_count: usize,
}

/// What a policy makes of a user. A signal for human review, never a diagnosis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The highest level of its findings.
    pub level: Level,
    /// Recommended by the levels and rules that hold.
    pub mitigations: BTreeSet<Mitigation>,
    /// What becomes of the next reply if no verdict can be had in time.
    pub on_failure: OnFailure,
    /// Levels of the arcs first, then rules in the policy's order.
    pub findings: Vec<Finding>,
}

impl Verdict {
    /// The highest level of what is about an arc.
    pub fn arc_level(&self, kind: ArcKind) -> Level {
        let about = self.findings.iter().filter(|finding| finding.arc == Some(kind));
        about.map(|finding| finding.level).max().unwrap_or(Level::None)
    }
}

#[cfg(test)]
mod tests;
