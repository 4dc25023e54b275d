//! Toward whom a user's evidence is.

use serde::{Deserialize, Serialize};

use crate::arc::{Evidence, MessageAt};
use crate::target::Toward;
use crate::verdict::{Level, Policy};

/// Someone the user's evidence is toward.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetScore {
    /// Of this user's people; the same as long as the history only grows, unless two are found to be one: then the lower.
    pub id: u32,
    /// The first name or relation as it was written, or `person ID`.
    pub label: String,
    pub mentions: u32,
    /// User messages about them.
    pub messages: usize,
    /// The first and the last that names them.
    pub first: MessageAt,
    pub last: MessageAt,
    /// Harassment, 0 to 1, of the messages about them alone and without what the guard says of the whole history.
    pub score: f32,
    /// What the policy makes of that; the user's level is that of the user's own arc.
    pub level: Level,
    pub onset: Option<MessageAt>,
    /// Their part of the evidence of the user's arcs, 0 to 1.
    pub harassment_share: f32,
    pub delusion_share: f32,
}

impl TargetScore {
    /// Puts a number in the place of words.
    pub fn pseudonymise(&mut self) {
        self.label = format!("person {}", self.id);
    }
}

/// Those whom the evidence of a user's arcs is toward, whoever has most first.
pub fn targets(policy: &Policy, toward: &Toward, evidence: [&[Evidence]; 2]) -> Vec<TargetScore> {
    let target = |one: crate::target::Target| TargetScore {
        id: one.id.0,
        label: one.label,
        mentions: one.mentions,
        messages: one.messages,
        first: one.first,
        last: one.last,
        score: one.state.score(),
        level: policy.arc_level(&one.state),
        onset: one.state.onset(),
        harassment_share: one.shares[0],
        delusion_share: one.shares[1],
    };
    toward.targets(evidence).into_iter().map(target).collect()
}
