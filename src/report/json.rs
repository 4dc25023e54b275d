//! JSON lines for machines: `schemas/score.schema.json` describes every field.
//!
//! ```text
//! {"type":"run", …}                       the first line
//! {"type":"message", …}                   every scored message of a user, then
//! {"type":"history", …}                   the user's arcs
//! {"type":"summary", …}                   the last line
//! ```

use std::collections::BTreeSet;
use std::io::{self, Write};

use jiff::Timestamp;
use serde::Serialize;

use super::{RunInfo, Totals};
use crate::arc::{ArcKind, MessageAt};
use crate::scorer::{
    ArcScore, Explanation, HistoryScore, Panel, Part, ReadingNotes, ScoredMessage, TargetScore, Without,
};
use crate::transcript::{History, Role};
use crate::verdict::{Finding, Level, Mitigation, OnFailure, Reason};

/// Grows when a field changes its meaning or goes; a new field does not raise it.
pub const SCHEMA_VERSION: u32 = 1;

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Line<'a> {
    Run {
        schema_version: u32,
        #[serde(flatten)]
        run: &'a RunInfo,
    },
    Message(&'a MessageLine<'a>),
    History(&'a HistoryLine<'a>),
    Summary(&'a Totals),
}

#[derive(Serialize)]
struct MessageLine<'a> {
    user_id: &'a str,
    #[serde(flatten)]
    at: Place<'a>,
    role: Role,
    /// When it was written, or its session began.
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<Timestamp>,
    #[serde(flatten)]
    scores: ScoresLine<'a>,
    /// By the other models.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    others: Vec<ScoresLine<'a>>,
}

/// What a model says of a message.
#[derive(Serialize)]
struct ScoresLine<'a> {
    harassment: [f32; 4],
    delusion: [f32; 4],
    stance: [f32; 4],
    imminent: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    harassment_case: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delusion_case: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    framed: Option<f32>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    categories: &'a [String],
}

/// Both indices count from 0; a message's over all roles of its session.
#[derive(Serialize)]
struct Place<'a> {
    session_id: &'a str,
    session_index: usize,
    message_index: usize,
}

#[derive(Serialize)]
struct HistoryLine<'a> {
    user_id: &'a str,
    /// The highest that any model gives.
    level: Level,
    sessions: usize,
    messages: usize,
    /// Recommended by the policy on what any model says.
    mitigations: BTreeSet<Mitigation>,
    on_failure: OnFailure,
    #[serde(flatten)]
    opinion: OpinionLine<'a>,
    #[serde(flatten)]
    beside: Option<BesideLine<'a>>,
}

/// What a model makes of a history.
#[derive(Serialize)]
struct OpinionLine<'a> {
    arcs: [ArcLine<'a>; 2],
    /// What led to the level.
    findings: Vec<FindingLine<'a>>,
    /// Toward whom the evidence is.
    targets: Vec<TargetLine<'a>>,
    notes: ReadingNotes,
}

/// Where several models read it.
#[derive(Serialize)]
struct BesideLine<'a> {
    agreed_level: Level,
    disagrees: bool,
    /// By the first model.
    own_level: Level,
    others: Vec<OtherLine<'a>>,
}

#[derive(Serialize)]
struct OtherLine<'a> {
    level: Level,
    #[serde(flatten)]
    opinion: OpinionLine<'a>,
}

#[derive(Serialize)]
struct TargetLine<'a> {
    id: u32,
    label: &'a str,
    mentions: u32,
    messages: usize,
    first: Place<'a>,
    last: Place<'a>,
    score: f32,
    level: Level,
    onset: Option<Place<'a>>,
    harassment_share: f32,
    delusion_share: f32,
}

#[derive(Serialize)]
struct ArcLine<'a> {
    kind: ArcKind,
    score: f32,
    score_now: f32,
    level: Level,
    onset: Option<Place<'a>>,
    imminent: Option<ImminentLine<'a>>,
    reached: Vec<ReachedLine<'a>>,
    assistant_stance: Option<f32>,
    assistant_drift: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    framed_share: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leak: Option<LeakLine<'a>>,
    evidence: Vec<EvidenceLine<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<ExplanationLine<'a>>,
}

#[derive(Serialize)]
struct ExplanationLine<'a> {
    carried_by: Option<usize>,
    without: &'a [Without],
    parts: Vec<PartLine<'a>>,
    rest: f32,
}

#[derive(Serialize)]
struct PartLine<'a> {
    messages: Vec<Place<'a>>,
    score: f32,
}

#[derive(Serialize)]
struct ReachedLine<'a> {
    level: Level,
    #[serde(flatten)]
    at: Place<'a>,
}

#[derive(Serialize)]
struct FindingLine<'a> {
    level: Level,
    arc: Option<ArcKind>,
    #[serde(flatten)]
    reason: &'a Reason,
    mitigations: &'a BTreeSet<Mitigation>,
    messages: Vec<Place<'a>>,
    messages_count: usize,
}

#[derive(Serialize)]
struct ImminentLine<'a> {
    #[serde(flatten)]
    at: Place<'a>,
    probability: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    toward_person: Option<f32>,
}

#[derive(Serialize)]
struct LeakLine<'a> {
    #[serde(flatten)]
    at: Place<'a>,
    framed_before: u32,
}

#[derive(Serialize)]
struct EvidenceLine<'a> {
    #[serde(flatten)]
    at: Place<'a>,
    level: u8,
    gain: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    framed: Option<f32>,
}

/// The first line.
///
/// # Errors
/// Those of the writer.
pub fn write_run(out: &mut dyn Write, run: &RunInfo) -> io::Result<()> {
    write(out, &Line::Run { schema_version: SCHEMA_VERSION, run })
}

/// A user's messages and arcs.
///
/// # Errors
/// Those of the writer.
pub fn write_history(out: &mut dyn Write, history: &History, panel: Panel) -> io::Result<()> {
    let user_id = history.user_id.as_str();
    for (index, message) in panel.first().messages.iter().enumerate() {
        // Every model scores the same messages.
        let others = panel.others().iter().filter_map(|other| other.messages.get(index)).map(scores_line);
        let line = MessageLine {
            user_id,
            at: place(history, message.at),
            role: message.role,
            time: history.time(message.at.session, message.at.message),
            scores: scores_line(message),
            others: others.collect(),
        };
        write(out, &Line::Message(&line))?;
    }
    let several = !panel.others().is_empty();
    let line = HistoryLine {
        user_id,
        level: panel.level(),
        sessions: history.sessions.len(),
        messages: history.message_count(),
        mitigations: panel.mitigations(),
        on_failure: panel.on_failure(),
        opinion: opinion_line(history, panel.first()),
        beside: several.then(|| beside_line(history, panel)),
    };
    write(out, &Line::History(&line))
}

fn scores_line(message: &ScoredMessage) -> ScoresLine<'_> {
    let scores = &message.score;
    ScoresLine {
        harassment: scores.harassment,
        delusion: scores.delusion,
        stance: scores.stance,
        imminent: scores.imminent,
        harassment_case: scores.harassment_case,
        delusion_case: scores.delusion_case,
        framed: scores.framed,
        categories: &message.categories,
    }
}

fn opinion_line<'a>(history: &'a History, score: &'a HistoryScore) -> OpinionLine<'a> {
    OpinionLine {
        arcs: score.arcs.each_ref().map(|arc| arc_line(history, score, arc)),
        findings: score.verdict.findings.iter().map(|finding| finding_line(history, finding)).collect(),
        targets: score.targets.iter().map(|target| target_line(history, target)).collect(),
        notes: score.notes,
    }
}

fn beside_line<'a>(history: &'a History, panel: Panel<'a>) -> BesideLine<'a> {
    let other = |score: &'a HistoryScore| OtherLine { level: score.level(), opinion: opinion_line(history, score) };
    BesideLine {
        agreed_level: panel.agreed_level(),
        disagrees: panel.disagrees(),
        own_level: panel.first().level(),
        others: panel.others().iter().map(other).collect(),
    }
}

/// The last line.
///
/// # Errors
/// Those of the writer.
pub fn write_summary(out: &mut dyn Write, totals: &Totals) -> io::Result<()> {
    write(out, &Line::Summary(totals))
}

fn arc_line<'a>(history: &'a History, score: &HistoryScore, arc: &'a ArcScore) -> ArcLine<'a> {
    let probability = |at: MessageAt| {
        let found = score.messages.iter().find(|message| message.at == at);
        found.map_or(0.0, |message| message.score.imminent)
    };
    ArcLine {
        kind: arc.kind,
        score: arc.score,
        score_now: arc.score_now(),
        level: arc.level,
        onset: arc.onset.map(|at| place(history, at)),
        imminent: arc.imminent.map(|at| ImminentLine {
            at: place(history, at),
            probability: probability(at),
            toward_person: arc.imminent_toward_person,
        }),
        reached: arc.reached.iter().map(|one| ReachedLine { level: one.level, at: place(history, one.at) }).collect(),
        assistant_stance: arc.assistant_stance,
        assistant_drift: arc.assistant_drift,
        framed_share: arc.framed_share,
        leak: arc.leak.map(|leak| LeakLine { at: place(history, leak.at), framed_before: leak.framed_before }),
        evidence: arc
            .evidence
            .iter()
            .map(|one| EvidenceLine {
                at: place(history, one.at),
                level: one.level,
                gain: one.gain,
                framed: one.framed,
            })
            .collect(),
        explanation: arc.explanation.as_ref().map(|explanation| explanation_line(history, explanation)),
    }
}

fn explanation_line<'a>(history: &'a History, explanation: &'a Explanation) -> ExplanationLine<'a> {
    let Explanation { carried_by, without, parts, rest } = explanation;
    let part = |part: &Part| PartLine {
        messages: part.messages.iter().map(|at| place(history, *at)).collect(),
        score: part.score,
    };
    ExplanationLine { carried_by: *carried_by, without, parts: parts.iter().map(part).collect(), rest: *rest }
}

fn finding_line<'a>(history: &'a History, finding: &'a Finding) -> FindingLine<'a> {
    FindingLine {
        level: finding.level,
        arc: finding.arc,
        reason: &finding.reason,
        mitigations: &finding.mitigations,
        messages: finding.messages.iter().map(|at| place(history, *at)).collect(),
        messages_count: finding.messages_count,
    }
}

fn target_line<'a>(history: &'a History, target: &'a TargetScore) -> TargetLine<'a> {
    TargetLine {
        id: target.id,
        label: &target.label,
        mentions: target.mentions,
        messages: target.messages,
        first: place(history, target.first),
        last: place(history, target.last),
        score: target.score,
        level: target.level,
        onset: target.onset.map(|at| place(history, at)),
        harassment_share: target.harassment_share,
        delusion_share: target.delusion_share,
    }
}

fn place(history: &History, at: MessageAt) -> Place<'_> {
    Place { session_id: &history.sessions[at.session].session_id, session_index: at.session, message_index: at.message }
}

fn write(out: &mut dyn Write, line: &Line) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}
