//! The time line of a user's arcs, as numbers for the page's drawing.
//!
//! x is the order of the user's own messages, y an arc's score from 0 to 1. A trace longer than
//! the drawing is wide keeps the highest score of each column.

use super::{ArcView, PolicyLine, UserView};
use crate::arc::ArcKind;

/// The drawing's size, and the room around the plot, in its own units.
pub const WIDTH: f32 = 720.0;
pub const HEIGHT: f32 = 220.0;
pub const LEFT: f32 = 62.0;
pub const RIGHT: f32 = 12.0;
pub const TOP: f32 = 14.0;
pub const BOTTOM: f32 = 34.0;
/// Columns of the longest trace drawn.
const COLUMNS_MAX: usize = 600;
/// Between two dates, so that they can be read.
const DATE_WIDTH: f32 = 62.0;

/// All of one drawing.
pub struct Timeline {
    pub lines: Vec<Line>,
    pub thresholds: Vec<Threshold>,
    pub sessions: Vec<SessionMark>,
    pub points: Vec<Point>,
    /// What it shows, in words.
    pub description: String,
}

pub struct Line {
    pub class: &'static str,
    /// The `points` of a polyline.
    pub points: String,
}

pub struct Threshold {
    pub name: &'static str,
    pub y: f32,
}

pub struct SessionMark {
    pub x: f32,
    /// The date where there is room for it.
    pub label: Option<String>,
    /// The date ends at the mark instead of beginning there.
    pub label_ends: bool,
    pub title: String,
}

pub struct Point {
    pub x: f32,
    pub y: f32,
    pub class: &'static str,
    /// A circle, or a diamond.
    pub round: bool,
    pub title: String,
}

impl Timeline {
    pub fn new(user: &UserView, policy: &PolicyLine) -> Self {
        let count = user.arcs.iter().map(|arc| arc.trace.len()).max().unwrap_or(0);
        let threshold = |name, score| Threshold { name, y: y(score) };
        Self {
            lines: user.arcs.iter().map(|arc| line(arc, count)).collect(),
            thresholds: vec![
                threshold("watch", policy.watch_score_min),
                threshold("review", policy.review_score_min),
                threshold("senior", policy.senior_score_min),
            ],
            sessions: sessions(user, count),
            points: user.arcs.iter().flat_map(|arc| points(arc, count)).collect(),
            description: description(user),
        }
    }
}

fn x(index: usize, count: usize) -> f32 {
    let part = if count > 1 { index.min(count - 1) as f32 / (count - 1) as f32 } else { 0.5 };
    LEFT + part * (WIDTH - LEFT - RIGHT)
}

fn y(score: f32) -> f32 {
    TOP + (1.0 - score.clamp(0.0, 1.0)) * (HEIGHT - TOP - BOTTOM)
}

fn class(kind: ArcKind) -> &'static str {
    match kind {
        ArcKind::Harassment => "harassment",
        ArcKind::Delusion => "delusion",
    }
}

fn line(arc: &ArcView, count: usize) -> Line {
    let columns = arc.trace.len().min(COLUMNS_MAX);
    let points: Vec<String> = (0..columns)
        .map(|column| {
            let (from, to) = (column * arc.trace.len() / columns, (column + 1) * arc.trace.len() / columns);
            let score = arc.trace[from..to].iter().fold(0.0f32, |max, score| score.max(max));
            format!("{:.1},{:.1}", x(to - 1, count), y(score))
        })
        .collect();
    Line { class: class(arc.kind), points: points.join(" ") }
}

fn sessions(user: &UserView, count: usize) -> Vec<SessionMark> {
    let mut free_from = 0.0;
    let numbered = user.sessions.iter().enumerate();
    numbered
        .map(|(index, session)| {
            let x = x(session.user_messages_before, count);
            let date = session.date.as_deref().unwrap_or("no date");
            let label_ends = x > WIDTH - DATE_WIDTH;
            let label_from = if label_ends { x - DATE_WIDTH } else { x };
            let label = (label_from >= free_from).then(|| {
                free_from = label_from + DATE_WIDTH;
                date.to_owned()
            });
            SessionMark {
                x,
                label,
                label_ends,
                title: format!("session {}, {date}, {}", index + 1, session.session_id),
            }
        })
        .collect()
}

fn points(arc: &ArcView, count: usize) -> impl Iterator<Item = Point> + '_ {
    arc.evidence.iter().map(move |evidence| {
        let place = &evidence.place;
        let score = arc.trace.get(place.user_message).copied().unwrap_or(0.0);
        let quote = evidence.quote.as_deref().map(|quote| format!(": {quote}")).unwrap_or_default();
        Point {
            x: x(place.user_message, count),
            y: y(score),
            class: class(arc.kind),
            round: arc.kind == ArcKind::Harassment,
            title: format!(
                "{}, session {}, message {}, level {}{quote}",
                class(arc.kind),
                place.session_number,
                place.message_number,
                evidence.level
            ),
        }
    })
}

fn description(user: &UserView) -> String {
    let arcs = user.arcs.iter().map(|arc| {
        let since = arc
            .onset
            .as_ref()
            .map(|onset| format!(", since session {}, message {}", onset.session_number, onset.message_number));
        let (kind, level) = (arc.kind.as_str(), arc.level);
        format!("{kind} reaches {:.2}, level {level}{}", arc.score, since.unwrap_or_default())
    });
    let arcs: Vec<String> = arcs.collect();
    format!("Over {} sessions, {}. The table below has the same messages.", user.sessions.len(), arcs.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arc(kind: ArcKind, trace: Vec<f32>) -> ArcView {
        ArcView {
            kind,
            score: 0.5,
            score_now: 0.5,
            level: crate::verdict::Level::Watch,
            onset: None,
            imminent: None,
            assistant_stance: None,
            assistant_drift: None,
            framed_share: None,
            leak: None,
            evidence: Vec::new(),
            explanation: None,
            trace,
        }
    }

    #[test]
    fn a_long_trace_keeps_its_peaks_and_its_size() {
        let mut trace = vec![0.0; 50_000];
        trace[31_400] = 1.0;
        let line = line(&arc(ArcKind::Delusion, trace), 50_000);
        assert_eq!(line.points.split(' ').count(), COLUMNS_MAX);
        assert_eq!(line.points.matches(&format!(",{TOP:.1}")).count(), 1);
    }

    #[test]
    fn a_history_of_one_message_is_drawn_in_the_middle() {
        let middle = LEFT + (WIDTH - LEFT - RIGHT) / 2.0;
        assert_eq!(line(&arc(ArcKind::Harassment, vec![0.0]), 1).points, format!("{middle:.1},{:.1}", HEIGHT - BOTTOM));
        assert_eq!(line(&arc(ArcKind::Harassment, Vec::new()), 0).points, "");
    }
}
