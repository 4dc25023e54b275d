//! Arcs: evidence of many messages, over time, as one state a user and kind.
//!
//! Pure: no IO, no clock (time is an argument), no tensors. [`ArcState::step`] is the only way
//! evidence enters, so a stream and a batch give the same state.
//!
//! Each user message is worth a *gain*, the logarithm of an e-value (`evidence`): a bet against "this
//! history is innocent" that on average wins nothing as long as it is. Bets multiply, and one of them
//! begins at every message, each with a part `w_n` of the money, for nobody knows when a risk begins:
//!
//! ```text
//! L_n   = (L_{n−1}^d + w_n) · e_n          wealth; d < 1 lets old evidence fade over real time
//! w_n   = 1 / (c (n+1) ln²(n+1))           Σ w_n = 1
//! C_n   = p_n / (1 − p_n) · (1 − π) / π    where the guard gives p_n
//! M_n   = (L_n + C_n) / 2, or L_n where it does not
//! score = S / (S + ln 100),  S = ln(1 + max M_n)
//! ```
//!
//! A guard that reads whole histories also says with which probability p_n a case is open by message n, given
//! everything up to it. The odds of that over those before anything was read (π is the share of histories with
//! the arc) are the wealth of such bets, too: with w_k the chance that the onset is k and Λ the likelihood
//! ratios, p_n / (1 − p_n) = π Σ_{k≤n} w_k Λ_{k…n} / (1 − π + π Σ_{k>n} w_k) (Shiryaev 1963, *On optimum methods
//! in quickest detection problems*), so that C_n ≤ Σ w_k Λ_{k…n}. The mean of both is a bet as good.
//!
//! By Ville's inequality an innocent history ever reaches M = 1/α with probability α at most, however
//! long it is and whenever it is looked at, if `e_n` has mean 1 at most given everything before
//! (the e-detector of Shin, Ramdas & Rinaldo 2024, *E-detectors: a nonparametric framework for
//! sequential change detection*, section 2, with the weights of a spending schedule; Ville 1939). That is, if
//! the model is calibrated on such histories: an assumption, not a fact, and `models/README.md` says how
//! often it was kept. The score is ½ at α = 1%.
//!
//! The onset is estimated apart from the alarm: the message from which the gains, added up and set
//! back to 0 whenever they fall below it (Page 1954, the CUSUM), first carried a certain message's worth.

use std::f64::consts::LN_2;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::scoring::{MessageScore, expected_level, expected_stance, likeliest};

mod evidence;

/// Evidence halves in this time without any.
const HALF_LIFE_DAYS: f64 = 180.0;
/// ln(1/α) at which the score is ½: α = 1%.
const HALFWAY_NATS: f64 = 4.605_170_185_988_091;
/// The onset is where a run of gains first reaches this.
const ONSET_NATS: f64 = 1.0;
/// The score from which an arc is there, and so has an onset: that of α = 20%, and the default policy's lowest level.
pub const ARC_SCORE_MIN: f32 = 0.28;
/// Σ 1 / (n ln² n) over n ≥ 2.
const SPENDING_SUM: f64 = 2.109_742_801;
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

    /// The probability of this kind's own open case.
    pub fn case(self, score: &MessageScore) -> Option<f32> {
        match self {
            Self::Harassment => score.harassment_case,
            Self::Delusion => score.delusion_case,
        }
    }

    /// Whether a message says at least as much of this harm as of the other: an imminent threat is counted where it
    /// belongs, and in both where nothing tells them apart.
    fn leads(self, score: &MessageScore) -> bool {
        let own = expected_level(self.levels(score));
        Self::ALL.iter().all(|other| own >= expected_level(other.levels(score)))
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
    /// What it added to the evidence, in nats.
    pub gain: f32,
}

/// One arc of one user, as far as it has been read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArcState {
    kind: ArcKind,
    user_messages: u64,
    /// ln L.
    wealth_nats: f64,
    /// ln C of the last user message, where the guard gives it.
    case_nats: Option<f64>,
    /// The greatest ln M so far.
    height_nats: f64,
    /// Since when an open case has been likelier than not.
    case_onset: Option<MessageAt>,
    /// The run of gains since it was last 0, and where it first reached [`ONSET_NATS`].
    run_nats: f64,
    run_onset: Option<MessageAt>,
    last_time: Option<Timestamp>,
    onset: Option<MessageAt>,
    imminent: Option<MessageAt>,
    imminent_max: f32,
    strongest: Vec<Evidence>,
    /// Σ gain·stance and Σ gain of the user messages that an assistant message directly answered.
    stance_sum: f32,
    stance_weight: f32,
    /// The session of the last message, if a user's, and its gain.
    unanswered: Option<(usize, f32)>,
}

/// Probability at which a message counts as an imminent threat.
pub const IMMINENT_AT: f32 = 0.5;

impl ArcState {
    pub fn new(kind: ArcKind) -> Self {
        Self {
            kind,
            user_messages: 0,
            wealth_nats: NOTHING_NATS,
            case_nats: None,
            height_nats: NOTHING_NATS,
            case_onset: None,
            run_nats: 0.0,
            run_onset: None,
            last_time: None,
            onset: None,
            imminent: None,
            imminent_max: 0.0,
            strongest: Vec::new(),
            stance_sum: 0.0,
            stance_weight: 0.0,
            unanswered: None,
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
        } else if let Some((session, gain)) = self.unanswered.take()
            && session == observation.at.session
        {
            self.stance_sum += gain * expected_stance(&observation.score.stance);
            self.stance_weight += gain;
        }
    }

    fn user_message(&mut self, observation: &Observation) {
        let levels = self.kind.levels(&observation.score);
        let gain = evidence::gain(self.kind, levels);
        self.unanswered = Some((observation.at.session, gain.max(0.0) as f32));
        if self.kind.leads(&observation.score) {
            self.threat(observation);
        }
        self.case(observation);
        self.bet(gain, observation.at);
        if self.onset.is_none() && self.score() >= ARC_SCORE_MIN {
            self.onset = self.case_onset.or(self.run_onset).or(Some(observation.at));
        }
        if gain > 0.0 {
            self.keep(Evidence { at: observation.at, level: likeliest(levels) as u8, gain: gain as f32 });
        }
    }

    fn threat(&mut self, observation: &Observation) {
        self.imminent_max = self.imminent_max.max(observation.score.imminent);
        if observation.score.imminent >= IMMINENT_AT && self.imminent.is_none() {
            self.imminent = Some(observation.at);
        }
    }

    fn bet(&mut self, gain: f64, at: MessageAt) {
        self.user_messages += 1;
        let stake = (self.user_messages + 1) as f64;
        let stake_nats = -(SPENDING_SUM * stake * stake.ln().powi(2)).ln();
        self.wealth_nats = gain + ln_add(self.wealth_nats, stake_nats);
        self.height_nats = self.height_nats.max(self.now_nats());
        self.run_nats = (self.run_nats + gain).max(0.0);
        if self.run_nats == 0.0 {
            self.run_onset = None;
        } else if self.run_nats >= ONSET_NATS && self.run_onset.is_none() {
            self.run_onset = Some(at);
        }
    }

    fn case(&mut self, observation: &Observation) {
        let Some(probability) = self.kind.case(&observation.score) else { return };
        self.case_nats = Some(evidence::case_nats(self.kind, probability));
        if probability < 0.5 {
            self.case_onset = None;
        } else if self.case_onset.is_none() {
            self.case_onset = Some(observation.at);
        }
    }

    /// ln M.
    fn now_nats(&self) -> f64 {
        self.case_nats.map_or(self.wealth_nats, |case| ln_add(self.wealth_nats, case) - LN_2)
    }

    fn decay(&mut self, time: Option<Timestamp>) {
        let Some(now) = time else { return };
        if let Some(last) = self.last_time {
            let days = now.duration_since(last).as_secs_f64() / 86_400.0;
            if days > 0.0 {
                let kept = (-days / HALF_LIFE_DAYS).exp2();
                // Only what speaks for a risk fades: wealth below 1 stays as it is.
                let fade = |nats: f64| if nats > 0.0 { nats * kept } else { nats };
                self.wealth_nats = fade(self.wealth_nats);
                self.case_nats = self.case_nats.map(fade);
                self.run_nats *= kept;
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
        score(self.height_nats)
    }

    /// 0 to 1: how strong it is at the last message read.
    pub fn score_now(&self) -> f32 {
        score(self.now_nats())
    }

    /// Where the arc began, once there is one: the message from which an open case stayed likelier than not, or else
    /// from which the evidence never fell back to nothing.
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

/// ln M before the first message: less than any stake.
const NOTHING_NATS: f64 = -1e3;

/// ln(eᵃ + eᵇ), without overflow.
fn ln_add(a: f64, b: f64) -> f64 {
    a.max(b) + (-(a - b).abs()).exp().ln_1p()
}

fn score(wealth_nats: f64) -> f32 {
    let nats = ln_add(wealth_nats, 0.0);
    (nats / (nats + HALFWAY_NATS)) as f32
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
        // One in twenty with a grudge, as in innocent histories.
        let observations: Vec<_> =
            (0..10_000).map(|i| user(i / 10, i % 10, i as i64 / 10, usize::from(i % 20 == 0))).collect();
        let arc = arc(&observations);
        assert!(arc.score() < 0.1, "{}", arc.score());
        assert_eq!(arc.onset(), None);
    }

    #[test]
    fn evidence_adds_up_across_sessions_and_names_its_messages() {
        let arc = arc(&[user(0, 0, 0, 0), user(1, 2, 3, 2), user(2, 0, 9, 0), user(3, 4, 12, 2)]);
        assert!(arc.score() > 0.5, "{}", arc.score());
        assert_eq!(arc.onset(), Some(MessageAt { session: 1, message: 2 }), "the first of the run, not the alarm");
        let at: Vec<_> = arc.evidence().iter().map(|e| (e.at.session, e.at.message)).collect();
        assert_eq!(at, [(1, 2), (3, 4)]);
    }

    fn with_case(mut observation: Observation, probability: f32) -> Observation {
        observation.score.harassment_case = Some(probability);
        observation
    }

    #[test]
    fn an_open_case_is_evidence_by_itself_and_dates_the_onset() {
        let arc = arc(&[0.01, 0.6, 0.2, 0.7, 0.999, 0.9].map(|p| {
            let message = (p * 1e3) as usize;
            with_case(user(0, message, 0, 0), p)
        }));
        // ln of 999 times the odds against, halved, is over ln 100.
        assert!(arc.score() > 0.5, "{}", arc.score());
        assert_eq!(arc.onset(), Some(MessageAt { session: 0, message: 700 }), "since when it stayed likelier than not");
        assert!(arc.score_now() < arc.score());
    }

    #[test]
    fn a_case_that_the_guard_doubts_takes_nothing_from_the_levels_but_half() {
        let levels: Vec<_> = (0..6).map(|i| user(0, i, 0, 2)).collect();
        let doubted: Vec<_> = levels.iter().map(|o| with_case(*o, 1e-6)).collect();
        let (levels, doubted) = (arc(&levels), arc(&doubted));
        assert!((levels.now_nats() - doubted.now_nats() - LN_2).abs() < 1e-6);
    }

    #[test]
    fn certainty_is_no_infinity() {
        for p in [0.0, 1.0, f32::MIN_POSITIVE] {
            assert!(arc(&[with_case(user(0, 0, 0, 0), p)]).now_nats().is_finite(), "{p}");
        }
    }

    #[test]
    fn an_old_slip_is_not_the_onset() {
        let mut observations: Vec<_> = (0..20).map(|i| user(0, i, 0, if i == 19 { 2 } else { 0 })).collect();
        observations.extend((0..40).map(|i| user(1, i, 1, 0)));
        observations.extend([user(2, 0, 2, 2), user(2, 2, 2, 2), user(2, 4, 2, 3)]);
        assert_eq!(arc(&observations).onset(), Some(MessageAt { session: 2, message: 0 }));
    }

    #[test]
    fn an_imminent_threat_counts_in_the_arc_it_belongs_to() {
        let mut threat = user(0, 0, 0, 3);
        threat.score.imminent = 0.9;
        threat.score.delusion = [0.0, 1.0, 0.0, 0.0];
        let imminent = |kind, observation: &Observation| {
            let mut arc = ArcState::new(kind);
            arc.step(observation);
            arc.imminent()
        };
        assert_eq!(imminent(ArcKind::Harassment, &threat), Some(threat.at));
        assert_eq!(imminent(ArcKind::Delusion, &threat), None);
        threat.score.delusion = threat.score.harassment;
        assert_eq!(imminent(ArcKind::Delusion, &threat), Some(threat.at), "both, where nothing tells them apart");
    }

    #[test]
    fn time_lets_the_state_fade_and_leaves_the_height() {
        let mut arc = arc(&[user(0, 0, 0, 2), user(0, 2, 0, 2)]);
        let (height, nats) = (arc.score(), arc.wealth_nats);
        arc.decay(Timestamp::from_second(1_750_000_000 + 180 * 86_400).ok());
        assert_eq!(arc.score(), height);
        assert!(nats > 0.0 && (arc.wealth_nats - nats / 2.0).abs() < 1e-9, "one half-life: {}", arc.wealth_nats);
    }

    /// Ville's bound, by simulation: of histories drawn from the innocent shares of the levels, as few as promised ever
    /// reach the score of α = 1%, however long they are.
    #[test]
    fn innocent_histories_alarm_no_more_often_than_promised() {
        const HISTORIES: usize = 4_000;
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            // xorshift64* (Vigna 2016)
            random ^= random >> 12;
            random ^= random << 25;
            random ^= random >> 27;
            (random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
        };
        let mut level = || match next() {
            x if x < 0.944 => 0,
            x if x < 0.99 => 1,
            x if x < 0.995 => 2,
            _ => 3,
        };
        let alarms = (0..HISTORIES)
            .filter(|_| {
                let history: Vec<_> = (0..400).map(|i| user(i / 10, i % 10, 0, level())).collect();
                arc(&history).score() >= 0.5
            })
            .count();
        // Three standard deviations above 1%.
        assert!(alarms <= 59, "{alarms} of {HISTORIES}");
    }

    fn reply(session: usize, message: usize, stance: [f32; 4]) -> Observation {
        let score = MessageScore { stance, ..MessageScore::NOTHING };
        Observation { from_user: false, score, ..user(session, message, 0, 0) }
    }

    #[test]
    fn only_the_reply_right_after_a_message_counts() {
        let (amplifying, protective) = ([0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0]);
        let mut observations = vec![user(0, 0, 0, 2), reply(0, 1, protective), reply(0, 2, amplifying)];
        assert_eq!(arc(&observations).assistant_stance(), Some(-1.0), "the second of two replies");
        observations.extend([user(0, 3, 0, 2), reply(1, 0, amplifying)]);
        assert_eq!(arc(&observations).assistant_stance(), Some(-1.0), "the beginning of the next session");
    }

    #[test]
    fn the_assistants_part_is_weighed_by_what_it_answered() {
        let amplifying = [0.0, 0.0, 0.0, 1.0];
        let protective = [1.0, 0.0, 0.0, 0.0];
        let arc = arc(&[user(0, 0, 0, 0), reply(0, 1, amplifying), user(0, 2, 0, 2), reply(0, 3, protective)]);
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
