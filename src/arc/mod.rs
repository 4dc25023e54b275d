//! Arcs: evidence of many messages, over time, as one state a user and kind.
//!
//! Pure: no IO, no clock (time is an argument), no tensors. [`ArcState::step`] is the only way
//! evidence enters, so a stream and a batch give the same state.
//!
//! This is the first, simple logic. A message's *gain* is how far its P(level ≥ 2) stands above a
//! floor; gains add up, halve over real time, and saturate:
//!
//! ```text
//! gain_i  = max(0, (p_i − FLOOR) / (1 − FLOOR)) · (1 + P_i(level 3))
//! E_n     = E_{n−1} · 2^(−Δt / HALF_LIFE) + gain_n          evidence
//! score   = 1 − exp(−SATURATION · max_n E_n)                 0 to 1
//! ```
//!
//! The sum is what a reviewer can follow: every message's part of the evidence is its gain.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::scoring::{MessageScore, at_least, expected_stance, likeliest};

/// P(level ≥ 2) below this is no evidence: without a floor, long innocent histories add up.
const FLOOR: f32 = 0.25;
/// Evidence halves in this time without any.
const HALF_LIFE_DAYS: f64 = 180.0;
/// How fast the score nears 1: two messages certain of level 2 give 0.86.
const SATURATION: f32 = 1.0;
/// The score at which the onset is fixed once and for all.
const ONSET_SCORE: f32 = 0.35;
/// Messages kept as evidence.
const EVIDENCE_MAX: usize = 12;

/// The two slow harms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArcKind {
    Harassment,
    Delusion,
}

impl ArcKind {
    pub const ALL: [Self; 2] = [Self::Harassment, Self::Delusion];

    /// The name as it stands in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Harassment => "harassment",
            Self::Delusion => "delusion",
        }
    }

    /// The levels of this kind's own scale.
    pub fn levels(self, score: &MessageScore) -> &[f32; 4] {
        match self {
            Self::Harassment => &score.harassment,
            Self::Delusion => &score.delusion,
        }
    }
}

/// Which message of a history: both counted from 0, every role counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MessageAt {
    pub session: usize,
    pub message: usize,
}

/// A scored message on its way into the arcs.
#[derive(Debug, Clone, Copy)]
pub struct Observation {
    pub at: MessageAt,
    /// When it was written, or its session began, if that is known.
    pub time: Option<Timestamp>,
    /// A user message (its levels count) or an assistant's (its stance does).
    pub from_user: bool,
    pub score: MessageScore,
}

/// A message's part in the evidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    pub at: MessageAt,
    /// Its likeliest level on the arc's scale, 0–3.
    pub level: u8,
    /// What it added to the evidence.
    pub gain: f32,
}

/// One arc of one user, as far as it has been read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArcState {
    kind: ArcKind,
    evidence: f32,
    evidence_peak: f32,
    last_time: Option<Timestamp>,
    onset: Option<MessageAt>,
    imminent: Option<MessageAt>,
    imminent_max: f32,
    strongest: Vec<Evidence>,
    /// Σ gain·stance and Σ gain of the user message before each assistant message.
    stance_sum: f32,
    stance_weight: f32,
    last_gain: f32,
}

/// Probability at which a message counts as an imminent threat.
pub const IMMINENT_AT: f32 = 0.5;

impl ArcState {
    pub fn new(kind: ArcKind) -> Self {
        Self {
            kind,
            evidence: 0.0,
            evidence_peak: 0.0,
            last_time: None,
            onset: None,
            imminent: None,
            imminent_max: 0.0,
            strongest: Vec::new(),
            stance_sum: 0.0,
            stance_weight: 0.0,
            last_gain: 0.0,
        }
    }

    pub fn kind(&self) -> ArcKind {
        self.kind
    }

    /// Takes in one message; messages come in the order of the history.
    pub fn step(&mut self, observation: &Observation) {
        self.decay(observation.time);
        if observation.from_user {
            self.user_message(observation);
        } else {
            self.stance_sum += self.last_gain * expected_stance(&observation.score.stance);
            self.stance_weight += self.last_gain;
        }
    }

    fn user_message(&mut self, observation: &Observation) {
        let levels = self.kind.levels(&observation.score);
        let gain = gain(levels);
        self.last_gain = gain;
        if observation.score.imminent > self.imminent_max {
            self.imminent_max = observation.score.imminent;
        }
        if observation.score.imminent >= IMMINENT_AT && self.imminent.is_none() {
            self.imminent = Some(observation.at);
        }
        if gain == 0.0 {
            return;
        }
        self.evidence += gain;
        self.evidence_peak = self.evidence_peak.max(self.evidence);
        if self.onset.is_none() && self.score() >= ONSET_SCORE {
            self.onset = Some(observation.at);
        }
        self.keep(Evidence { at: observation.at, level: likeliest(levels) as u8, gain });
    }

    fn decay(&mut self, time: Option<Timestamp>) {
        let Some(now) = time else { return };
        if let Some(last) = self.last_time {
            let days = now.duration_since(last).as_secs_f64() / 86_400.0;
            if days > 0.0 {
                self.evidence *= (-days / HALF_LIFE_DAYS).exp2() as f32;
            }
        }
        self.last_time = Some(self.last_time.map_or(now, |last| last.max(now)));
    }

    fn keep(&mut self, evidence: Evidence) {
        self.strongest.push(evidence);
        self.strongest.sort_by(|a, b| b.gain.total_cmp(&a.gain).then(a.at.cmp(&b.at)));
        self.strongest.truncate(EVIDENCE_MAX);
    }

    /// 0 to 1: how strong the arc was at its height.
    pub fn score(&self) -> f32 {
        saturate(self.evidence_peak)
    }

    /// 0 to 1: how strong it is at the last message read.
    pub fn score_now(&self) -> f32 {
        saturate(self.evidence)
    }

    /// Where the arc began, once there is one: the message at which the evidence became enough.
    pub fn onset(&self) -> Option<MessageAt> {
        self.onset
    }

    /// The first message that is a credible, imminent threat.
    pub fn imminent(&self) -> Option<MessageAt> {
        self.imminent
    }

    /// The greatest probability of an imminent threat in any message.
    pub fn imminent_max(&self) -> f32 {
        self.imminent_max
    }

    /// The messages that carry the arc, the strongest first.
    pub fn evidence(&self) -> &[Evidence] {
        &self.strongest
    }

    /// What the assistant did right after the messages that carry the arc, from −1 (protective) to
    /// 2 (amplifying); `None` before it answered any.
    pub fn assistant_stance(&self) -> Option<f32> {
        (self.stance_weight > 0.0).then(|| self.stance_sum / self.stance_weight)
    }
}

fn gain(levels: &[f32; 4]) -> f32 {
    ((at_least(levels, 2) - FLOOR) / (1.0 - FLOOR)).max(0.0) * (1.0 + levels[3])
}

fn saturate(evidence: f32) -> f32 {
    1.0 - (-SATURATION * evidence).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(session: usize, message: usize, day: i64, level: usize) -> Observation {
        let mut harassment = [0.0; 4];
        harassment[level] = 1.0;
        Observation {
            at: MessageAt { session, message },
            time: Timestamp::from_second(1_750_000_000 + day * 86_400).ok(),
            from_user: true,
            score: MessageScore { harassment, ..MessageScore::NOTHING },
        }
    }

    fn arc(observations: &[Observation]) -> ArcState {
        let mut arc = ArcState::new(ArcKind::Harassment);
        observations.iter().for_each(|observation| arc.step(observation));
        arc
    }

    #[test]
    fn innocent_messages_never_add_up() {
        let observations: Vec<_> = (0..10_000).map(|i| user(i / 10, i % 10, i as i64 / 10, i % 2)).collect();
        let arc = arc(&observations);
        assert_eq!((arc.score(), arc.onset()), (0.0, None));
    }

    #[test]
    fn evidence_adds_up_across_sessions_and_names_its_messages() {
        let arc = arc(&[user(0, 0, 0, 0), user(1, 2, 3, 2), user(2, 0, 9, 1), user(3, 4, 12, 2)]);
        assert!(arc.score() > 0.85, "{}", arc.score());
        assert_eq!(arc.onset(), Some(MessageAt { session: 1, message: 2 }));
        let at: Vec<_> = arc.evidence().iter().map(|e| (e.at.session, e.at.message)).collect();
        assert_eq!(at, [(1, 2), (3, 4)]);
    }

    #[test]
    fn time_lets_the_state_fade_and_leaves_the_height() {
        let mut arc = arc(&[user(0, 0, 0, 2)]);
        let before = arc.score();
        arc.step(&user(1, 0, 180, 0));
        assert_eq!(arc.score(), before);
        assert!((arc.evidence - 0.5).abs() < 1e-6, "one half-life: {}", arc.evidence);
    }

    #[test]
    fn the_assistants_part_is_weighed_by_what_it_answered() {
        let reply = |stance: [f32; 4], message| Observation {
            from_user: false,
            score: MessageScore { stance, ..MessageScore::NOTHING },
            ..user(0, message, 0, 0)
        };
        let amplifying = [0.0, 0.0, 0.0, 1.0];
        let protective = [1.0, 0.0, 0.0, 0.0];
        let arc = arc(&[user(0, 0, 0, 0), reply(amplifying, 1), user(0, 2, 0, 2), reply(protective, 3)]);
        assert_eq!(arc.assistant_stance(), Some(-1.0), "the reply to an innocent message does not count");
    }

    #[test]
    fn a_stored_state_goes_on_exactly() {
        let observations: Vec<_> = (0..40).map(|i| user(i / 4, i % 4, i as i64, i % 4)).collect();
        let mut stored = arc(&observations[..17]);
        stored = serde_json::from_str(&serde_json::to_string(&stored).unwrap()).unwrap();
        observations[17..].iter().for_each(|observation| stored.step(observation));
        assert_eq!(stored, arc(&observations));
    }
}
