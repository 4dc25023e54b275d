//! Arcs: evidence of many messages, over time, as one state a user and kind.
//!
//! Pure: no IO, no clock (time is an argument), no tensors. [`ArcState::step`] is the only way
//! evidence enters, so a stream and a batch give the same state; [`Arcs`] are both arcs of a user whose sessions may arrive in any order,
//! and [`ArcRow`] is both written down.
//!
//! Each user message is worth a *gain*, the logarithm of an e-value (`evidence`): a bet against "this
//! history is innocent" that on average wins nothing as long as it is. Bets multiply, and one of them
//! begins at every message, each with a part `w_n` of the money, for nobody knows when a risk begins:
//!
//! ```text
//! L_n   = (L_{n−1}^d + w_n) · e_n          wealth; d < 1 lets old evidence fade over real time
//! w_n   = 1 / (c (n+1) ln²(n+1))           Σ w_n = 1
//! O_n   = p_n / (1 − p_n) · (1 − π) / π    where the guard gives p_n
//! C_n   = the mean of the two highest of 1 and O_{n−31} … O_n
//! M_n   = (L_n + C_n) / 2 where it does, L_n where it does not
//! score = S / (S + ln 100),  S = ln(1 + max M_n)
//! ```
//!
//! A guard that reads whole histories also says with which probability p_n a case is open by message n, given
//! everything up to it. The odds of that over those before anything was read (π is the share of histories with
//! the arc) are the wealth of such bets, too: with w_k the chance that the onset is k and Λ the likelihood
//! ratios, p_n / (1 − p_n) = π Σ_{k≤n} w_k Λ_{k…n} / (1 − π + π Σ_{k>n} w_k) (Shiryaev 1963, *On optimum methods
//! in quickest detection problems*), so that they are at most Σ w_k Λ_{k…n}. But a window forgets, and a guard flickers: what
//! lifts p_n in innocent talk is one message, and the next takes it back. So what one message says alone counts half, until a second says so, wherever in
//! the last 32 of the user it stands: in the same session, where an open case stays open, or in another, where it recurs. By itself it comes to α = 5% from
//! a p_n of .96 (harassment) or .95 (delusion) on.
//!
//! By Ville's inequality an innocent history ever reaches L = 1/α with probability α at most, however
//! long it is and whenever it is looked at, if `e_n` has mean 1 at most given everything before
//! (the e-detector of Shin, Ramdas & Rinaldo 2024, *E-detectors: a nonparametric framework for
//! sequential change detection*, section 2, with the weights of a spending schedule; Ville 1939). Of C that would hold if p_n
//! were one posterior that is kept up over the whole life, which no window can: there it is measured, not proven. How
//! many long innocent lives reach a level `models/README.md` says and `throughline policy simulate --lives` counts. The score is
//! ½ at α = 1%.
//!
//! The onset is estimated apart from the alarm, as the beginning of a run that is set back to 0 whenever it falls below it (Page 1954,
//! *Continuous inspection schemes*, the CUSUM): of the log-odds ln O_n, each cut to two nats either way, where the guard gives
//! p_n; of the gains otherwise, from where they first carried a certain message's worth. When a case begins the guard still doubts:
//! a nat is given to it, chosen on the development authors (`throughline benchmark datasets/arcs --split dev`).
//!
//! A frame (a story, a game, something supposed) is no discount of its own: calibrated levels are of what is meant, the frame
//! known, and taken off again it would be taken off twice. When reality leaks in nothing that is over is bet on again, which would break the
//! promise; what was said under the frame counts by p_n, which the guard gives with all of it before its eyes. People are told both: which
//! share of the evidence was told under a frame ([`ArcState::framed_share`]), and where soon after one something is said plainly ([`ArcState::leak`]).

use std::collections::VecDeque;
use std::f64::consts::LN_2;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::scoring::{MessageScore, at_least, expected_level, expected_stance, likeliest};

mod arcs;
mod coupling;
mod evidence;
mod frame;
mod row;

pub(crate) use arcs::sort_by_time;
pub use arcs::{Arcs, ArcsMark};
use coupling::Coupling;
use frame::Frames;
pub use frame::Leak;
pub use row::{ARC_ROW_BYTES_MAX, ARC_ROW_VERSION, ArcRow, ArcRowError};

/// Evidence halves in this time without any.
const HALF_LIFE_DAYS: f64 = 180.0;
/// User messages whose odds of an open case are kept.
const ODDS_KEPT: usize = 32;
/// ln(1/α) at which the score is ½: α = 1%.
const HALFWAY_NATS: f64 = 4.605_170_185_988_091;
/// The onset is where a run of gains first reaches this; a message of so much is evidence by itself.
const ONSET_NATS: f64 = 1.0;
/// What a case's log-odds are given when its onset is looked for, and how much of them one message may add or take.
const CASE_LEAN_NATS: f64 = 1.0;
const CASE_STEP_NATS: f64 = 2.0;
/// The score from which an arc is there, and so has an onset: that of α = 20%, and the default policy's lowest level.
pub const ARC_SCORE_MIN: f32 = 0.28;
/// Σ 1 / (n ln² n) over n ≥ 2.
const SPENDING_SUM: f64 = 2.109_742_801;
/// A message that adds less is no evidence worth a word.
const EVIDENCE_NATS_MIN: f64 = 0.1;
/// Messages kept as evidence, and as threats.
const EVIDENCE_MAX: usize = 12;
/// A threat less likely than this is not kept.
pub const THREAT_MIN: f32 = 0.02;

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

    /// What a user's message multiplies a bet against innocence by (`e_n` of the module's formula): 1 says nothing, more speaks
    /// for the arc. The levels come to 1; no unit.
    ///
    /// The promise of an α rests on its mean over innocent messages, which must be 1 at most given everything before (Ville 1939).
    /// A smaller mean keeps the promise with room to spare. A greater one breaks it, in the unsafe direction: where the mean is m > 1
    /// at most, `m^-k (L_k + Σ_{j>k} w_j)` is a supermartingale, so that within n messages L reaches 1/α with a probability that is
    /// bounded by α · mⁿ alone. More innocents may be called than α says, the more the longer they write.
    pub fn e_value(self, score: &MessageScore) -> f64 {
        evidence::e_value(self, self.levels(score))
    }

    /// Whether a user's message is by its own levels evidence of this harm, wherever it stands.
    pub fn is_evidence(self, score: &MessageScore) -> bool {
        evidence::gain(self, self.levels(score)) >= ONSET_NATS
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
#[derive(Debug, Clone, Copy, PartialEq)]
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
    /// What it added to the evidence, in nats: by its level, or by how much surer of an open case it made the guard.
    pub gain: f32,
    /// The probability that it was told under a frame, a story or a game, where the guard says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub framed: Option<f32>,
}

/// A message that looks like an imminent threat of violence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Threat {
    pub at: MessageAt,
    /// That it is one.
    pub probability: f32,
    /// That it is aimed at a particular person, whom the message targets (harassment at level 2 or 3). A threat at nobody in
    /// particular is one against many, against strangers, or against oneself.
    pub toward_person: f32,
}

/// One arc of one user, as far as it has been read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArcState {
    kind: ArcKind,
    user_messages: u64,
    /// ln L.
    wealth_nats: f64,
    /// ln O of the last user messages, where the guard gives it; what speaks for a case fades as wealth does.
    odds_nats: VecDeque<f64>,
    /// The greatest ln M so far.
    height_nats: f64,
    /// The run of an open case's log-odds since it was last 0, and where it began.
    case_run_nats: f64,
    case_onset: Option<MessageAt>,
    /// The run of gains since it was last 0, and where it first reached [`ONSET_NATS`].
    run_nats: f64,
    run_onset: Option<MessageAt>,
    last_time: Option<Timestamp>,
    onset: Option<MessageAt>,
    /// Messages that look like an imminent threat and its probability, the likeliest first.
    threats: Vec<Threat>,
    strongest: Vec<Evidence>,
    /// Sessions with a message that is evidence by itself, and the last of them.
    evidence_sessions: usize,
    evidence_session: Option<usize>,
    /// The stances of the replies that directly followed evidence.
    coupling: Coupling,
    /// The session of the last message, if a user's, and its gain.
    unanswered: Option<(usize, f64)>,
    /// Of a row from before it was kept nothing.
    #[serde(default)]
    frames: Frames,
}

impl ArcState {
    pub fn new(kind: ArcKind) -> Self {
        Self {
            kind,
            user_messages: 0,
            wealth_nats: NOTHING_NATS,
            odds_nats: VecDeque::new(),
            height_nats: NOTHING_NATS,
            case_run_nats: 0.0,
            case_onset: None,
            run_nats: 0.0,
            run_onset: None,
            last_time: None,
            onset: None,
            threats: Vec::new(),
            strongest: Vec::new(),
            evidence_sessions: 0,
            evidence_session: None,
            coupling: Coupling::default(),
            unanswered: None,
            frames: Frames::default(),
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
            self.coupling.reply(gain, f64::from(expected_stance(&observation.score.stance)));
        }
    }

    fn user_message(&mut self, observation: &Observation) {
        let levels = self.kind.levels(&observation.score);
        let level_gain = evidence::gain(self.kind, levels);
        if self.kind.leads(&observation.score) {
            self.threat(observation);
        }
        let gain = level_gain.max(self.case(observation));
        self.bet(level_gain, observation.at);
        self.coupling.evidence(gain.max(0.0));
        self.unanswered = Some((observation.at.session, gain.max(0.0)));
        if self.onset.is_none() && self.score() >= ARC_SCORE_MIN {
            self.onset = self.case_onset.or(self.run_onset).or(Some(observation.at));
        }
        if gain >= ONSET_NATS && self.evidence_session != Some(observation.at.session) {
            self.evidence_session = Some(observation.at.session);
            self.evidence_sessions += 1;
        }
        self.frames.step(observation, self.user_messages, level_gain >= ONSET_NATS);
        if gain >= EVIDENCE_NATS_MIN {
            let framed = observation.score.framed;
            self.keep(Evidence { at: observation.at, level: likeliest(levels) as u8, gain: gain as f32, framed });
        }
    }

    fn threat(&mut self, observation: &Observation) {
        let probability = observation.score.imminent;
        if probability >= THREAT_MIN {
            let toward_person = at_least(&observation.score.harassment, 2);
            self.threats.push(Threat { at: observation.at, probability, toward_person });
            self.threats.sort_by(|a, b| b.probability.total_cmp(&a.probability).then(a.at.cmp(&b.at)));
            self.threats.truncate(EVIDENCE_MAX);
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

    /// Takes in the probability of an open case, if the guard gives it; the rise of ln(1 + O_n), in nats.
    fn case(&mut self, observation: &Observation) -> f64 {
        let Some(probability) = self.kind.case(&observation.score) else { return 0.0 };
        let held = |nats: f64| ln_add(nats, 0.0);
        let before = held(self.odds_nats.back().copied().unwrap_or_else(|| evidence::case_nats(self.kind, 0.0)));
        let nats = evidence::case_nats(self.kind, probability);
        if self.odds_nats.len() == ODDS_KEPT {
            self.odds_nats.pop_front();
        }
        self.odds_nats.push_back(nats);
        let step = (nats + CASE_LEAN_NATS).clamp(-CASE_STEP_NATS, CASE_STEP_NATS);
        self.case_run_nats = (self.case_run_nats + step).max(0.0);
        if self.case_run_nats == 0.0 {
            self.case_onset = None;
        } else if self.case_onset.is_none() {
            self.case_onset = Some(observation.at);
        }
        held(nats) - before
    }

    /// ln M.
    fn now_nats(&self) -> f64 {
        self.case_nats().map_or(self.wealth_nats, |case| ln_add(self.wealth_nats, case) - LN_2)
    }

    /// ln C.
    fn case_nats(&self) -> Option<f64> {
        let (mut highest, mut second) = (0.0, f64::NEG_INFINITY);
        for &nats in &self.odds_nats {
            if nats > highest {
                (highest, second) = (nats, highest);
            } else {
                second = second.max(nats);
            }
        }
        second.is_finite().then(|| ln_add(highest, second) - LN_2)
    }

    fn decay(&mut self, time: Option<Timestamp>) {
        let Some(now) = time else { return };
        if let Some(last) = self.last_time {
            let days = now.duration_since(last).as_secs_f64() / 86_400.0;
            if days > 0.0 {
                let kept = (-days / HALF_LIFE_DAYS).exp2();
                // Only what speaks for a risk fades: wealth below 1 stays as it is.
                let faded = |nats: f64| if nats > 0.0 { nats * kept } else { nats };
                self.wealth_nats = faded(self.wealth_nats);
                self.odds_nats.iter_mut().for_each(|nats| *nats = faded(*nats));
                self.run_nats *= kept;
                self.case_run_nats *= kept;
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

    /// Where the arc began, once there is one: the message from which what speaks for an open case, or else the evidence, never
    /// fell back to nothing.
    pub fn onset(&self) -> Option<MessageAt> {
        self.onset
    }

    /// The first message that is a credible, imminent threat with at least this probability; of more than are kept, the first
    /// of the likeliest.
    pub fn imminent(&self, probability_min: f32) -> Option<MessageAt> {
        self.threats(probability_min).first().copied()
    }

    /// All of these, of those kept, in the order of the history.
    pub fn threats(&self, probability_min: f32) -> Vec<MessageAt> {
        let likely = self.threats.iter().filter(|threat| threat.probability >= probability_min);
        let mut messages: Vec<MessageAt> = likely.map(|threat| threat.at).collect();
        messages.sort();
        messages
    }

    /// How far the threat in that message, of those kept, is aimed at a particular person; 0 to 1.
    pub fn threat_toward_person(&self, at: MessageAt) -> Option<f32> {
        self.threats.iter().find(|threat| threat.at == at).map(|threat| threat.toward_person)
    }

    /// The message that is likeliest to be an imminent threat.
    pub fn likeliest_threat(&self) -> Option<&Threat> {
        self.threats.first()
    }

    /// The greatest probability of an imminent threat in any message; 0 where none is worth a word.
    pub fn imminent_max(&self) -> f32 {
        self.threats.first().map_or(0.0, |threat| threat.probability)
    }

    /// How many sessions hold a message that is evidence by itself.
    pub fn evidence_sessions(&self) -> usize {
        self.evidence_sessions
    }

    /// The messages that carry the arc, the strongest first.
    pub fn evidence(&self) -> &[Evidence] {
        &self.strongest
    }

    /// Which share of that evidence stands in messages that are likelier told under a frame than not, 0 to 1: a story, a game, something
    /// supposed; `None` where the guard does not say of all of it, or there is none.
    ///
    /// For a person to ask whether the frame is one. Nothing is taken off for it: the levels are calibrated to what is meant, the frame
    /// known, so that they are the discount already, and a frame taken off again would be taken off twice.
    pub fn framed_share(&self) -> Option<f32> {
        frame::share(&self.strongest)
    }

    /// Where something is said plainly soon after messages under a frame, for a person to read both. That the messages before were under one takes
    /// nothing off, and that they were told is not counted again: a bet may not be made on what is over (Ville 1939). What they mean
    /// once reality has leaked in is the guard's to say, which reads them beside it, by the probability of an open case.
    pub fn leak(&self) -> Option<Leak> {
        self.frames.leak()
    }

    /// What the assistant did right after the messages that carry the arc, from −1 (protective) to
    /// 2 (amplifying); `None` before it answered any.
    pub fn assistant_stance(&self) -> Option<f32> {
        self.coupling.stance().map(|stance| stance as f32)
    }

    /// By how much that moved as the evidence mounted, from the first such reply to the last: above 0 it gave way, below 0 it came to
    /// resist (−3 to 3); `None` of fewer than three replies, and where the evidence did not mount meanwhile. By it a product that feeds a case more the harder it gets is told apart from
    /// one that is always lenient.
    pub fn assistant_drift(&self) -> Option<f32> {
        self.coupling.drift().map(|drift| drift as f32)
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
mod tests;
