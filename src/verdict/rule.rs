//! Rules beside the levels of a policy.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::policy::{Facts, Levels, Mitigation, carriers, named, share, worded};
use super::{Finding, Level, Reason};
use crate::arc::{ArcKind, ArcState};

/// A rule beside the levels: where all its conditions hold, it raises the level to its own and adds its mitigations.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its name in every verdict.
    pub id: String,
    /// In words, for the reviewer.
    pub why: String,
    /// The level it raises to; none where it only adds mitigations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    #[serde(default)]
    pub mitigations: BTreeSet<Mitigation>,
    /// The arc it looks at; either where not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arc: Option<ArcKind>,
    /// The arc's score at its height.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score_min: Option<f32>,
    /// The arc's score at the last message read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score_now_min: Option<f32>,
    /// Sessions that the arc's evidence stands in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions_min: Option<usize>,
    /// What the assistant did after the messages that carry the arc, −1 (protective) to 2 (amplifying).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assistant_stance_min: Option<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assistant_stance_max: Option<f32>,
    /// A category that a guard model named, by its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Messages of the category.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_min: Option<usize>,
}

impl Rule {
    fn looks_at_arcs(&self) -> bool {
        self.arc.is_some()
            || self.score_min.is_some()
            || self.score_now_min.is_some()
            || self.sessions_min.is_some()
            || self.assistant_stance_min.is_some()
            || self.assistant_stance_max.is_some()
    }

    /// The arcs for which all conditions hold; one `None` where it looks at no arc, and they do.
    pub(super) fn holds_for<'a>(&'a self, facts: &'a Facts) -> impl Iterator<Item = Option<&'a ArcState>> {
        let named = |id: &String| facts.named.get(id).0 >= self.messages_min.unwrap_or(1);
        let named = self.category.as_ref().is_none_or(named);
        let arcs = facts.arcs.iter().filter(move |arc| named && self.looks_at_arcs() && self.holds(arc)).map(Some);
        arcs.chain((named && !self.looks_at_arcs()).then_some(None))
    }

    fn holds(&self, arc: &ArcState) -> bool {
        let stance = arc.assistant_stance();
        self.arc.is_none_or(|kind| kind == arc.kind())
            && self.score_min.is_none_or(|min| arc.score() >= min)
            && self.score_now_min.is_none_or(|min| arc.score_now() >= min)
            && self.sessions_min.is_none_or(|min| arc.evidence_sessions() >= min)
            && self.assistant_stance_min.is_none_or(|min| stance.is_some_and(|stance| stance >= min))
            && self.assistant_stance_max.is_none_or(|max| stance.is_some_and(|stance| stance <= max))
    }

    /// It rests on the messages of its category, where it has one, else on those of the arc.
    pub(super) fn finding(&self, arc: Option<&ArcState>, facts: &Facts, levels: &Levels) -> Finding {
        let (messages_count, messages) = match (&self.category, arc) {
            (Some(id), _) => {
                let (count, first) = facts.named.get(id);
                (count, first.to_vec())
            }
            (None, Some(arc)) => (carriers(arc).len(), carriers(arc)),
            (None, None) => (0, Vec::new()),
        };
        let of_level = self.level.iter().flat_map(|level| levels.of(*level).mitigations.iter());
        Finding {
            level: self.level.unwrap_or(Level::None),
            arc: arc.map(ArcState::kind),
            reason: Reason::Rule { id: self.id.clone(), why: self.why.clone() },
            mitigations: self.mitigations.iter().chain(of_level).copied().collect(),
            messages,
            messages_count,
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        named("id", &self.id)?;
        worded("why", &self.why)?;
        if self.why.trim().is_empty() {
            return Err("why is empty; hint: a reviewer reads it".into());
        }
        for (key, value) in [("score_min", self.score_min), ("score_now_min", self.score_now_min)] {
            value.map_or(Ok(()), |value| share(key, value))?;
        }
        let stances =
            [("assistant_stance_min", self.assistant_stance_min), ("assistant_stance_max", self.assistant_stance_max)];
        for (key, value) in stances {
            if let Some(value) = value.filter(|value| !(-1.0..=2.0).contains(value)) {
                return Err(format!("{key} is {value}, the limits are -1 and 2; hint: -1 protective, 2 amplifying"));
            }
        }
        if let (Some(min), Some(max)) = (self.assistant_stance_min, self.assistant_stance_max)
            && min > max
        {
            return Err(format!(
                "assistant_stance_min is {min}, more than assistant_stance_max, {max}; hint: no stance is both"
            ));
        }
        for (key, count) in [("sessions_min", self.sessions_min), ("messages_min", self.messages_min)] {
            if count == Some(0) {
                return Err(format!("{key} is 0, which always holds; hint: 1 or more"));
            }
        }
        for (key, value) in [("score_min", self.score_min), ("score_now_min", self.score_now_min)] {
            if value == Some(0.0) {
                return Err(format!("{key} is 0, which always holds; hint: more than 0"));
            }
        }
        self.category.as_ref().map_or(Ok(()), |id| named("category", id))?;
        if self.messages_min.is_some() && self.category.is_none() {
            return Err(
                "messages_min counts messages of a category, and there is none; hint: category = \"S15\"".into()
            );
        }
        let beside_arc = Self { arc: None, ..self.clone() };
        if !beside_arc.looks_at_arcs() && self.category.is_none() {
            return Err("no condition, it would always hold; hint: score_min, category, …".into());
        }
        if self.level == Some(Level::None) || (self.level.is_none() && self.mitigations.is_empty()) {
            return Err("it changes nothing; hint: a level above none, or mitigations".into());
        }
        Ok(())
    }
}
