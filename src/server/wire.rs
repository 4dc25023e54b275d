//! What goes over the wire.

use std::collections::BTreeSet;

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::arc::{ArcKind, MessageAt};
use crate::scorer::{ArcNow, Heard, TargetScore};
use crate::scoring::MessageScore;
use crate::store::KeptMessage;
use crate::transcript::{Message, Role};
use crate::verdict::{Level, Mitigation, Verdict};

mod alarms;
pub(super) mod objects;

pub(super) use alarms::record;
pub use alarms::{AcknowledgeIn, AcknowledgeOut, AlarmOut, AlarmsOut, AlarmsQuery, StreamQuery};

/// A message as it comes.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MessageIn {
    /// `user`, `assistant`, `system` or `tool`; the last two are kept and not scored.
    #[schema(value_type = String, pattern = "^(user|assistant|system|tool)$")]
    pub role: Role,
    pub content: String,
    /// When it was written, not later than when it came; without it, when it came.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub timestamp: Option<Timestamp>,
}

impl MessageIn {
    pub(super) fn into_message(self, now: Timestamp) -> Message {
        Message {
            role: self.role,
            content: self.content,
            timestamp: Some(self.timestamp.map_or(now, |time| millis(time).min(now))),
        }
    }
}

/// A time as it is kept, in whole milliseconds: what is judged now must be what is read again later.
pub(super) fn millis(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}

/// Messages of a user's session, in the order in which they were said. A session whose dated messages are older than what is kept counts
/// where it stands in time; arcs may fall by it, alarms stay.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TurnIn {
    #[schema(min_length = 1, max_length = 256)]
    pub user_id: String,
    #[schema(min_length = 1, max_length = 256)]
    pub session_id: String,
    /// When the session began; without it, when its first message was written.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub session_started_at: Option<Timestamp>,
    #[schema(min_items = 1, max_items = 256)]
    #[serde(deserialize_with = "objects::list")]
    pub messages: Vec<MessageIn>,
    /// The same again with the same key is done once, and answered as the first time. The header `Idempotency-Key` does the same.
    #[schema(min_length = 1, max_length = 256)]
    pub idempotency_key: Option<String>,
}

/// A place in a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Place {
    /// From 0, in the order in which sessions were taken up.
    pub session_index: usize,
    /// From 0, in the session.
    pub message_index: usize,
}

impl From<MessageAt> for Place {
    fn from(at: MessageAt) -> Self {
        Self { session_index: at.session, message_index: at.message }
    }
}

/// One message and its scores.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MessageOut {
    #[serde(flatten)]
    pub at: Place,
    #[schema(value_type = String)]
    pub role: Role,
    #[serde(flatten)]
    pub scores: ScoresOut,
}

impl MessageOut {
    pub(super) fn of(at: MessageAt, role: Role, score: &MessageScore) -> Self {
        Self { at: at.into(), role, scores: score.into() }
    }
}

/// The scores of one message.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ScoresOut {
    /// P(level 0) … P(level 3); of an assistant's message level 0.
    #[schema(value_type = Vec<f32>)]
    pub harassment: [f32; 4],
    #[schema(value_type = Vec<f32>)]
    pub delusion: [f32; 4],
    /// P(−1 protective), P(0 neutral), P(1 accommodating), P(2 amplifying); of a user's message 0.
    #[schema(value_type = Vec<f32>)]
    pub stance: [f32; 4],
    /// Probability of a credible, imminent threat of violence.
    pub imminent: f32,
    /// Probability that a case of harassment is open by this message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub harassment_case: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delusion_case: Option<f32>,
    /// Probability that it speaks under a frame: a story, a game, something supposed, an exercise, a friend's affair. It says nothing
    /// of a risk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub framed: Option<f32>,
}

impl From<&MessageScore> for ScoresOut {
    fn from(score: &MessageScore) -> Self {
        let &MessageScore { harassment, delusion, stance, imminent, harassment_case, delusion_case, framed } = score;
        Self { harassment, delusion, stance, imminent, harassment_case, delusion_case, framed }
    }
}

/// Which of a user's messages.
#[derive(Debug, Clone, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct MessagesQuery {
    /// The number of the first one, from 0.
    #[serde(default)]
    pub first: u64,
}

/// A message that is kept, without what was said.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct KeptOut {
    /// Among the user's messages, from 0, in the order in which they came.
    pub number: u64,
    pub session_id: String,
    #[serde(flatten)]
    pub at: Place,
    #[schema(value_type = String)]
    pub role: Role,
    /// When it was written, or when it came.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub time: Option<Timestamp>,
    /// SHA-256 of the text as it was judged, in UTF-8, hexadecimal: whoever has it can show that it is what was judged. (Of a chat through the proxy,
    /// the parts of a message stand in lines, with the arguments of tool calls.) `null` of messages that an older build kept.
    #[schema(min_length = 64, max_length = 64)]
    pub text_sha256: Option<String>,
    /// As they were given then; `null` of system and tool messages.
    pub scores: Option<ScoresOut>,
}

impl KeptOut {
    pub(super) fn of(number: u64, session_id: &str, message: &KeptMessage) -> Self {
        let &KeptMessage { at, role, time, ref digest, ref score, .. } = message;
        Self {
            number,
            session_id: session_id.to_owned(),
            at: at.into(),
            role,
            time,
            text_sha256: digest.as_ref().map(|digest| HEXLOWER.encode(digest)),
            scores: score.as_ref().map(ScoresOut::from),
        }
    }
}

/// Messages of a user.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MessagesOut {
    /// At most a thousand.
    pub messages: Vec<KeptOut>,
    /// What to ask for as `first` to go on; `null` after the last.
    pub next: Option<u64>,
}

/// An arc as it stands.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ArcOut {
    /// `harassment` or `delusion`.
    #[schema(value_type = String)]
    pub kind: ArcKind,
    /// `none`, `watch`, `review`, `senior` or `urgent`.
    #[schema(value_type = String)]
    pub level: Level,
    /// 0 to 1, at its height.
    pub score: f32,
    /// The same at the last message.
    pub score_now: f32,
    /// Where it began, once there is one.
    pub onset: Option<Place>,
}

impl ArcOut {
    pub(super) fn of(arc: &ArcNow, verdict: &Verdict) -> Self {
        let ArcNow { kind, score, score_now, onset } = *arc;
        Self { kind, level: verdict.arc_level(kind), score, score_now, onset: onset.map(Place::from) }
    }
}

/// The model and the policy that judge now. What was judged before, under others, is told by the records of its alarms.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct JudgedByOut {
    /// Name and version.
    pub model: String,
    /// Of the weights.
    pub model_sha256: String,
    /// Name and version.
    pub policy: String,
    /// Of the policy's file.
    pub policy_sha256: String,
}

/// How a user stands: a signal for human review, not a diagnosis.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct StandingOut {
    /// `none`, `watch`, `review`, `senior` or `urgent`.
    #[schema(value_type = String)]
    pub level: Level,
    /// Harassment and delusion.
    pub arcs: Vec<ArcOut>,
    /// What the policy recommends, such as `rate-limit`; nothing is done by this server.
    pub mitigations: Vec<String>,
    /// `open` or `closed`: whether a reply should go out while no verdict can be had.
    pub on_failure: String,
    /// The levels and rules that hold, with the messages that they rest on (`schemas/score.schema.json`, `finding`).
    #[schema(value_type = Vec<Object>)]
    pub findings: serde_json::Value,
    /// What no person has seen yet; `null` before anybody acknowledged alarms, and of what has none.
    pub since_seen: Option<SinceOut>,
    pub judged_by: JudgedByOut,
}

/// What came after a person last acknowledged alarms comes to by itself, by the messages' levels and threats alone: what a case is read from
/// may be what that person saw. A user's level and mitigations rest on the whole history and do not end when a person has read it; these do,
/// so that `review-before-restoring` is done where it stands there and no longer here. While an alarm waits, its level counts here, too,
/// and all that is recommended stands.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct SinceOut {
    /// `none`, `watch`, `review`, `senior` or `urgent`.
    #[schema(value_type = String)]
    pub level: Level,
    /// What the policy recommends for it.
    pub mitigations: Vec<String>,
}

impl SinceOut {
    /// Of what came since, and of the whole while an alarm of that level waits.
    pub(super) fn of(since: &Verdict, whole: &Verdict, waits: Option<Level>) -> Self {
        let level = waits.map_or(since.level, |level| level.max(since.level));
        let of_whole = waits.map(|_| &whole.mitigations).into_iter().flatten();
        Self { level, mitigations: names(&since.mitigations.iter().chain(of_whole).copied().collect()) }
    }
}

fn names(mitigations: &BTreeSet<Mitigation>) -> Vec<String> {
    mitigations.iter().map(|one| one.as_str().to_owned()).collect()
}

impl StandingOut {
    /// By the arcs and the verdict on them.
    pub(super) fn of(
        (arcs, verdict): (&[ArcNow; 2], &Verdict),
        since_seen: Option<SinceOut>,
        by: &JudgedByOut,
    ) -> Self {
        let on_failure = serde_json::to_value(verdict.on_failure).ok();
        Self {
            level: verdict.level,
            arcs: arcs.iter().map(|arc| ArcOut::of(arc, verdict)).collect(),
            mitigations: names(&verdict.mitigations),
            on_failure: on_failure.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default(),
            findings: serde_json::to_value(&verdict.findings).unwrap_or_default(),
            since_seen,
            judged_by: by.clone(),
        }
    }
}

/// An alarm that a turn raised.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RaisedOut {
    pub id: i64,
    /// `review`, `senior` or `urgent`.
    #[schema(value_type = String)]
    pub level: Level,
}

/// What became of a turn: it is kept when this is answered.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TurnOut {
    /// Scores of the turn's messages of the user and the assistant.
    pub messages: Vec<MessageOut>,
    #[serde(flatten)]
    pub standing: StandingOut,
    /// Whether the turn raised the level, or is itself what a level of `review` or above rests on.
    pub flagged: bool,
    /// Raised by this turn: the level rose to `review` or above, or a new threat was made after the last alarm was acknowledged.
    pub alarm: Option<RaisedOut>,
    /// Messages kept of this user, this turn's among them.
    pub messages_kept: u64,
}

/// A draft to be judged in a user's history.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckIn {
    #[schema(min_length = 1, max_length = 256)]
    pub user_id: String,
    #[schema(min_length = 1, max_length = 256)]
    pub session_id: String,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub session_started_at: Option<Timestamp>,
    /// A prompt, a reply, or both.
    #[schema(min_items = 1, max_items = 256)]
    #[serde(deserialize_with = "objects::list")]
    pub messages: Vec<MessageIn>,
}

/// What a draft would come to. Nothing of it is kept.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct CheckOut {
    pub messages: Vec<MessageOut>,
    /// How the user would stand.
    #[serde(flatten)]
    pub standing: StandingOut,
    /// How the user stands without it.
    #[schema(value_type = String)]
    pub level_before: Level,
    /// Whether the draft would raise the level, or is itself what a level of `review` or above rests on.
    pub flagged: bool,
}

/// A session of a whole history.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionIn {
    pub session_id: String,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    #[schema(min_items = 1)]
    #[serde(deserialize_with = "objects::list")]
    pub messages: Vec<MessageIn>,
}

/// A whole history, of which nothing is kept.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreIn {
    /// In the order of time; at least one has a message.
    #[schema(min_items = 1)]
    #[serde(deserialize_with = "objects::list")]
    pub sessions: Vec<SessionIn>,
}

/// What a whole history comes to.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ScoreOut {
    pub messages: Vec<MessageOut>,
    #[serde(flatten)]
    pub standing: StandingOut,
    /// Windows that were read, tokens computed, and what had to be done to read (`schemas/score.schema.json`, `notes`).
    #[schema(value_type = Object)]
    pub notes: serde_json::Value,
}

/// How a user stands, and their alarms.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct UserOut {
    pub user_id: String,
    pub messages: u64,
    pub sessions: u64,
    /// Under legal hold: nothing is erased.
    pub held: bool,
    #[serde(flatten)]
    pub standing: StandingOut,
    /// The last thousand, the oldest first.
    pub alarms: Vec<AlarmOut>,
    /// Alarms beside them that cannot be opened.
    pub unreadable_alarms: usize,
}

/// Somebody whom a user's evidence is toward.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TargetOut {
    /// Of this user's people; the same as long as the history only grows, unless two are found to be one: then the lower.
    pub id: u32,
    /// The first name or relation as it was written, or `person ID` where the server keeps names to itself.
    pub label: String,
    pub mentions: u32,
    /// User messages about them, and the first and the last that names them.
    pub messages: usize,
    pub first: Place,
    pub last: Place,
    /// Harassment, 0 to 1, of the messages about them alone; the user's level is that of the user's own arc.
    pub score: f32,
    #[schema(value_type = String)]
    pub level: Level,
    pub onset: Option<Place>,
    /// Their part of the evidence of the user's arcs, 0 to 1.
    pub harassment_share: f32,
    pub delusion_share: f32,
}

impl From<TargetScore> for TargetOut {
    fn from(target: TargetScore) -> Self {
        let TargetScore { id, label, mentions, messages, first, last, score, level, onset, .. } = target;
        let (harassment_share, delusion_share) = (target.harassment_share, target.delusion_share);
        let (first, last, onset) = (first.into(), last.into(), onset.map(Place::from));
        Self { id, label, mentions, messages, first, last, score, level, onset, harassment_share, delusion_share }
    }
}

/// Toward whom a user's evidence is, whoever has most of it first.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TargetsOut {
    pub targets: Vec<TargetOut>,
    /// Messages whose text is not there any more, and that say of nobody.
    pub unread_messages: usize,
    pub judged_by: JudgedByOut,
}

/// Whether a user's history is under legal hold.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HoldIn {
    pub held: bool,
}

/// A message's line.
pub(super) fn messages_out(heard: &[Heard]) -> Vec<MessageOut> {
    heard.iter().map(|one| MessageOut::of(one.message.at, one.message.role, &one.message.score)).collect()
}
