//! What people are shown of one user: ids and quotes already safe, places counted from 1.

use std::collections::HashMap;

use jiff::Timestamp;

use super::{RunInfo, safe};
use crate::arc::{ArcKind, Evidence, Leak, MessageAt};
use crate::scorer::{ArcScore, Explanation, HistoryScore, Panel, ReadingNotes, TargetScore, Without};
use crate::scoring::expected_stance;
use crate::transcript::{History, Role};
use crate::verdict::{Finding, Level, Mitigation, Reason};

/// Characters of an id that are shown.
const ID_CHARS_MAX: usize = 80;
/// Users shown to people; `--output` has all.
const USERS_SHOWN_MAX: usize = 1_000;
/// Targets shown to people, and the part of the evidence that one has at least.
const TARGETS_SHOWN_MAX: usize = 5;
const TARGET_SHARE_MIN: f32 = 0.05;
/// Of an arc's evidence that was told under a frame, what is worth a word.
const FRAMED_SHARE_MIN: f32 = 0.25;
/// Characters of a message that are quoted.
const QUOTE_CHARS_MAX: usize = 160;

/// One user.
#[derive(Debug, Clone)]
pub struct UserView {
    pub user_id: String,
    pub level: Level,
    pub messages: usize,
    pub sessions: Vec<SessionView>,
    /// Harassment, delusion; of several models', by the one that gives the highest level.
    pub arcs: [ArcView; 2],
    /// What each of several models says.
    pub opinions: Vec<OpinionView>,
    /// Whether one would have a person read what another sees nothing in.
    pub disagreement: bool,
    /// Rules of the policy that hold, in words.
    pub rules: Vec<RuleView>,
    /// What the policy recommends.
    pub mitigations: Vec<Mitigation>,
    /// Toward whom the evidence is, for users at `review` or above: whoever has most first.
    pub targets: Vec<TargetView>,
    pub notes: ReadingNotes,
}

/// What one of several models says of a user.
#[derive(Debug, Clone)]
pub struct OpinionView {
    pub model: String,
    pub level: Level,
    /// Of harassment and of delusion.
    pub scores: [f32; 2],
    /// Whether what is shown of the user is by this one.
    pub is_shown: bool,
}

/// Someone a user's evidence is toward.
#[derive(Debug, Clone)]
pub struct TargetView {
    pub label: String,
    /// Parts of the evidence of harassment and of delusion, 0 to 1; `None` where the user has no such arc.
    pub shares: [Option<f32>; 2],
    pub score: f32,
    pub level: Level,
    pub mentions: u32,
    pub first: PlaceView,
    pub last: PlaceView,
    pub onset: Option<PlaceView>,
}

/// A rule that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleView {
    pub id: String,
    pub why: String,
    /// `none` where it only adds mitigations.
    pub level: Level,
    /// What it rests on, in words: an arc, or messages by their places.
    pub rests_on: String,
}

/// A session's place on the time line.
#[derive(Debug, Clone)]
pub struct SessionView {
    pub session_id: String,
    /// `2026-01-31`, in UTC.
    pub date: Option<String>,
    /// User messages of the history before it.
    pub user_messages_before: usize,
}

/// One arc.
#[derive(Debug, Clone)]
pub struct ArcView {
    pub kind: ArcKind,
    /// At its height.
    pub score: f32,
    /// At the last message.
    pub score_now: f32,
    pub level: Level,
    pub onset: Option<PlaceView>,
    pub imminent: Option<ThreatView>,
    pub assistant_stance: Option<f32>,
    pub assistant_drift: Option<f32>,
    /// The share of the evidence that is likely told under a frame, where that is worth a word.
    pub framed_share: Option<f32>,
    /// Where something is said plainly soon after messages under a frame, in words.
    pub leak: Option<String>,
    /// The strongest first.
    pub evidence: Vec<EvidenceView>,
    /// The score after each user message.
    pub trace: Vec<f32>,
    /// How few messages carry the alarm, in words.
    pub explanation: Option<String>,
}

/// Where a message stands.
#[derive(Debug, Clone)]
pub struct PlaceView {
    /// From 1.
    pub session_number: usize,
    /// From 1, over all roles of the session.
    pub message_number: usize,
    pub session_id: String,
    /// `2026-01-31`, in UTC.
    pub date: Option<String>,
    /// Which of the user's own messages it is, from 0.
    pub user_message: usize,
}

/// A message that is an imminent threat.
#[derive(Debug, Clone)]
pub struct ThreatView {
    pub place: PlaceView,
    /// Against whom, in words.
    pub toward: &'static str,
}

/// A message that counts.
#[derive(Debug, Clone)]
pub struct EvidenceView {
    pub place: PlaceView,
    pub level: u8,
    pub gain: f32,
    /// Its share of the evidence that is shown, 0 to 1.
    pub share: f32,
    /// The message, shortened; `None` where content is not to be shown.
    pub quote: Option<String>,
    /// What the assistant did next, −1 to 2.
    pub reply_stance: Option<f32>,
}

impl UserView {
    /// The view of a scored history; without any content when `redacted`.
    pub fn new(history: &History, panel: Panel, run: &RunInfo, redacted: bool) -> Self {
        let score = panel.leading();
        let mut user_messages: HashMap<MessageAt, usize> = HashMap::new();
        for message in score.messages.iter().filter(|message| message.role == Role::User) {
            user_messages.insert(message.at, user_messages.len());
        }
        let looking = Looking { history, score, redacted, user_messages };
        let mut before = 0;
        let sessions = history.sessions.iter().map(|session| {
            let view = SessionView {
                session_id: safe::line(&session.session_id, ID_CHARS_MAX),
                date: session.start().map(date),
                user_messages_before: before,
            };
            before += session.messages.iter().filter(|message| message.role == Role::User).count();
            view
        });
        Self {
            user_id: safe::line(&history.user_id, ID_CHARS_MAX),
            level: score.level(),
            messages: history.message_count(),
            sessions: sessions.collect(),
            arcs: score.arcs.each_ref().map(|arc| looking.arc(arc)),
            rules: rules(&score.verdict.findings),
            opinions: opinions(panel, run),
            disagreement: panel.disagrees(),
            mitigations: panel.mitigations().into_iter().collect(),
            targets: looking.targets(),
            notes: score.notes,
        }
    }

    /// The dates of the first and the last dated session.
    pub fn dates(&self) -> Option<(&str, &str)> {
        let mut dates = self.sessions.iter().filter_map(|session| session.date.as_deref());
        let first = dates.next()?;
        Some((first, dates.next_back().unwrap_or(first)))
    }

    /// The highest score of its arcs.
    pub fn score_max(&self) -> f32 {
        self.arcs.iter().fold(0.0, |max, arc| arc.score.max(max))
    }
}

fn opinions(panel: Panel, run: &RunInfo) -> Vec<OpinionView> {
    if panel.others().is_empty() {
        return Vec::new();
    }
    let opinion = |(model, score): (_, &HistoryScore)| OpinionView {
        model,
        level: score.level(),
        scores: score.arcs.each_ref().map(|arc| arc.score),
        is_shown: std::ptr::eq(score, panel.leading()),
    };
    run.models().map(super::ModelLine::title).zip(panel.all()).map(opinion).collect()
}

/// The most urgent users of a run, as many as are shown: memory must not grow with the number of users.
#[derive(Debug, Default)]
pub struct MostUrgent {
    users: Vec<UserView>,
    left_out: u64,
}

impl MostUrgent {
    /// Takes in one more user.
    pub fn add(&mut self, user: UserView) {
        self.users.push(user);
        if self.users.len() >= 2 * USERS_SHOWN_MAX {
            self.cut();
        }
    }

    /// The users shown, in the order in which a reviewer wants them: level, then score, then id; and how many others
    /// there are, none of them more urgent.
    pub fn shown(&mut self) -> (&[UserView], u64) {
        self.cut();
        (&self.users, self.left_out)
    }

    fn cut(&mut self) {
        self.users.sort_by(|a, b| {
            b.level.cmp(&a.level).then(b.score_max().total_cmp(&a.score_max())).then_with(|| a.user_id.cmp(&b.user_id))
        });
        self.left_out += self.users.len().saturating_sub(USERS_SHOWN_MAX) as u64;
        self.users.truncate(USERS_SHOWN_MAX);
    }
}

struct Looking<'a> {
    history: &'a History,
    score: &'a HistoryScore,
    redacted: bool,
    user_messages: HashMap<MessageAt, usize>,
}

impl Looking<'_> {
    fn arc(&self, arc: &ArcScore) -> ArcView {
        let total: f32 = arc.evidence.iter().map(|evidence| evidence.gain).sum();
        ArcView {
            kind: arc.kind,
            score: arc.score,
            score_now: arc.score_now(),
            level: arc.level,
            onset: arc.onset.map(|at| self.place(at)),
            imminent: arc.imminent.map(|at| ThreatView {
                place: self.place(at),
                toward: toward_words(arc.imminent_toward_person.unwrap_or(0.0)),
            }),
            assistant_stance: arc.assistant_stance,
            assistant_drift: arc.assistant_drift,
            framed_share: arc.framed_share.filter(|share| *share >= FRAMED_SHARE_MIN),
            leak: arc.leak.map(|leak| self.leak(leak)),
            evidence: arc.evidence.iter().map(|evidence| self.evidence(evidence, total)).collect(),
            trace: arc.trace.clone(),
            explanation: arc.explanation.as_ref().and_then(in_words),
        }
    }

    fn targets(&self) -> Vec<TargetView> {
        let there = self.score.arcs.each_ref().map(|arc| arc.level > Level::None);
        let shares = |one: &TargetScore| {
            let [harassment, delusion] = there;
            [harassment.then_some(one.harassment_share), delusion.then_some(one.delusion_share)]
        };
        let has_part = |one: &&TargetScore| shares(one).into_iter().flatten().any(|share| share >= TARGET_SHARE_MIN);
        let shown = self.score.targets.iter().filter(|_| self.score.level() >= Level::Review).filter(has_part);
        let target = |one: &TargetScore| TargetView {
            label: safe::line(&one.label, ID_CHARS_MAX),
            shares: shares(one),
            score: one.score,
            level: one.level,
            mentions: one.mentions,
            first: self.place(one.first),
            last: self.place(one.last),
            onset: one.onset.map(|at| self.place(at)),
        };
        shown.take(TARGETS_SHOWN_MAX).map(target).collect()
    }

    fn place(&self, at: MessageAt) -> PlaceView {
        let session = &self.history.sessions[at.session];
        PlaceView {
            session_number: at.session + 1,
            message_number: at.message + 1,
            session_id: safe::line(&session.session_id, ID_CHARS_MAX),
            date: self.history.time(at.session, at.message).map(date),
            user_message: self.user_messages.get(&at).copied().unwrap_or(0),
        }
    }

    fn leak(&self, leak: Leak) -> String {
        let Leak { at, framed_before } = leak;
        let (place, told) = (self.place(at), super::count(framed_before as usize, "message"));
        let (session, message) = (place.session_number, place.message_number);
        format!("session {session}, message {message} speaks plainly, after {told} under a frame: read both")
    }

    fn evidence(&self, evidence: &Evidence, total: f32) -> EvidenceView {
        let at = evidence.at;
        let messages = &self.history.sessions[at.session].messages;
        let reply = self
            .score
            .messages
            .iter()
            .skip_while(|message| message.at <= at)
            .take_while(|message| message.at.session == at.session && message.role == Role::Assistant)
            .next();
        EvidenceView {
            place: self.place(at),
            level: evidence.level,
            gain: evidence.gain,
            share: if total > 0.0 { evidence.gain / total } else { 0.0 },
            quote: (!self.redacted).then(|| safe::line(&messages[at.message].content, QUOTE_CHARS_MAX)),
            reply_stance: reply.map(|message| expected_stance(&message.score.stance)),
        }
    }
}

/// Whom a threat is against, as far as the message tells.
fn toward_words(person: f32) -> &'static str {
    match person {
        _ if person >= 0.5 => "toward a particular person",
        _ => "toward nobody in particular that the message tells: many, strangers, or the user",
    }
}

/// The rules that hold, each once, with all it rests on.
fn rules(findings: &[Finding]) -> Vec<RuleView> {
    let mut rules: Vec<RuleView> = Vec::new();
    for finding in findings {
        let Reason::Rule { id, why } = &finding.reason else { continue };
        let rests_on = rests_on(finding);
        match rules.iter_mut().find(|rule| rule.id == *id) {
            Some(rule) => rule.rests_on += &format!("; {rests_on}"),
            None => {
                let why = safe::line(why, usize::MAX).trim_end_matches('.').to_owned();
                rules.push(RuleView { id: id.clone(), why, level: finding.level, rests_on });
            }
        }
    }
    rules
}

/// Parts of a score that are named to people.
const PARTS_SHOWN: usize = 3;
/// Messages of a rule that are named to people.
const RULE_MESSAGES_SHOWN: usize = 3;

fn rests_on(finding: &Finding) -> String {
    let arc = finding.arc.map(|kind| format!("the {} arc", kind.as_str())).into_iter();
    let shown = finding.messages.iter().take(RULE_MESSAGES_SHOWN);
    let places = shown.map(|at| format!("session {}, message {}", at.session + 1, at.message + 1));
    let more = finding.messages_count.saturating_sub(RULE_MESSAGES_SHOWN);
    let more = (more > 0).then(|| format!("{more} more"));
    arc.chain([places.chain(more).collect::<Vec<_>>().join("; ")]).collect::<Vec<_>>().join(": ")
}

/// `read without its 3 strongest messages and the replies to them, it would be none (0.12): 0.30 falls to session 2, message 3; …`.
fn in_words(explanation: &Explanation) -> Option<String> {
    let last = |without: &&Without| explanation.carried_by.is_none_or(|count| without.messages == count);
    let Without { messages, score, level } = explanation.without.iter().rfind(last)?;
    let strongest = match messages {
        1 => "its strongest message and the reply to it".to_owned(),
        _ => format!("its {messages} strongest messages and the replies to them"),
    };
    let still = if explanation.carried_by.is_some() { "" } else { "still " };
    let shown = explanation.parts.iter().take(PARTS_SHOWN).map(|part| {
        let more = part.messages.len().saturating_sub(1);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let first = part.messages.first().map(|at| format!("session {}, message {}", at.session + 1, at.message + 1));
        format!("{:.2} falls to {}{more}", part.score, first.unwrap_or_default())
    });
    let parts = shown.collect::<Vec<_>>().join("; ");
    Some(format!("read without {strongest}, it would {still}be {level} ({score:.2}): {parts}"))
}

fn date(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(user_id: String, level: Level) -> UserView {
        let arc = |kind| ArcView {
            kind,
            score: 0.0,
            score_now: 0.0,
            level,
            onset: None,
            imminent: None,
            assistant_stance: None,
            assistant_drift: None,
            framed_share: None,
            leak: None,
            evidence: Vec::new(),
            trace: Vec::new(),
            explanation: None,
        };
        let arcs = ArcKind::ALL.map(arc);
        let notes = ReadingNotes::default();
        UserView {
            user_id,
            level,
            messages: 1,
            sessions: Vec::new(),
            arcs,
            opinions: Vec::new(),
            disagreement: false,
            rules: Vec::new(),
            mitigations: Vec::new(),
            targets: Vec::new(),
            notes,
        }
    }

    #[test]
    fn of_many_users_the_most_urgent_are_shown_and_the_others_counted() {
        let mut users = MostUrgent::default();
        let total = 5 * USERS_SHOWN_MAX;
        for number in 0..total {
            let level = if number % 500 == 7 { Level::Review } else { Level::None };
            users.add(view(format!("user-{number:06}"), level));
        }
        let (shown, left_out) = users.shown();
        assert_eq!(shown.len() as u64 + left_out, total as u64);
        assert_eq!(shown.len(), USERS_SHOWN_MAX);
        assert_eq!(shown.iter().filter(|user| user.level == Level::Review).count(), 10);
        assert_eq!((shown[0].user_id.as_str(), shown[10].user_id.as_str()), ("user-000007", "user-000000"));
    }
}
