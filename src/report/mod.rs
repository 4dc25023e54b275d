//! Scores → JSON lines ([`json`]), a terminal summary ([`terminal`]), one self-contained page
//! ([`html`]).
//!
//! Everything is written into what the caller gives; this room opens no file. It must not know
//! models: what a page says of one stands in [`RunInfo`]. Machines read places counted from 0,
//! people read them counted from 1.

use serde::Serialize;

use crate::scorer::{HistoryScore, Panel};
use crate::transcript::History;
use crate::verdict::{Level, Mitigation, Policy, PolicyFile};

pub mod html;
pub mod json;
pub mod safe;
mod svg;
pub mod terminal;
mod view;

pub use view::{
    ArcView, EvidenceView, MostUrgent, OpinionView, PlaceView, RuleView, SessionView, TargetView, UserView,
};

/// What stands on everything that people read.
pub const NOTICE: &str = "A signal for human review, not a diagnosis.";

/// What α is, of one model.
const ALPHA_NOTE: &str = "α: with a calibrated model at most this share of innocent histories ever comes to so high a score of one arc; where the model \
                          tells of open cases, that is measured, not proven.";

/// Characters of a model's name and version that are shown.
const TITLE_CHARS_MAX: usize = 200;

/// The model that scored.
#[derive(Debug, Clone, Serialize)]
pub struct ModelLine {
    pub name: String,
    pub version: Option<String>,
    pub sha256: String,
    pub source: String,
    /// `heads`, or the family of a guard whose verdict was read.
    pub reading: String,
    pub device: String,
    pub dtype: String,
}

impl ModelLine {
    /// Its name and version, fit to be shown.
    fn title(&self) -> String {
        let version = self.version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
        safe::line(&format!("{}{version}", self.name), TITLE_CHARS_MAX)
    }
}

/// The policy that judged.
#[derive(Debug, Clone, Serialize)]
pub struct PolicyLine {
    pub name: String,
    pub version: String,
    /// Of the file.
    pub sha256: String,
    pub watch_score_min: f32,
    pub review_score_min: f32,
    pub senior_score_min: f32,
    pub imminent_min: f32,
    /// Rules beside the levels.
    pub rules: usize,
}

impl From<&PolicyFile> for PolicyLine {
    fn from(file: &PolicyFile) -> Self {
        let policy = &file.policy;
        Self {
            name: policy.name.clone(),
            version: policy.version.clone(),
            sha256: file.sha256.clone(),
            watch_score_min: policy.score_min(Level::Watch),
            review_score_min: policy.score_min(Level::Review),
            senior_score_min: policy.score_min(Level::Senior),
            imminent_min: policy.imminent_min(),
            rules: policy.rules.len(),
        }
    }
}

/// What was run: the same for the same input, whenever and with however many threads.
#[derive(Debug, Clone, Serialize)]
pub struct RunInfo {
    pub throughline_version: &'static str,
    pub model: ModelLine,
    /// Those that read the same beside it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub other_models: Vec<ModelLine>,
    /// Of the first model.
    pub window_tokens: usize,
    pub policy: PolicyLine,
    pub redacted: bool,
}

impl RunInfo {
    /// All of them, in the order in which they were named.
    /// What α is, wherever people are shown one.
    fn alpha_note(&self) -> String {
        match self.other_models.len() + 1 {
            1 => ALPHA_NOTE.into(),
            models => format!(
                "{ALPHA_NOTE} Of {models} models the highest counts, so that their shares add up: {models} times α."
            ),
        }
    }

    fn models(&self) -> impl Iterator<Item = &ModelLine> {
        std::iter::once(&self.model).chain(&self.other_models)
    }
}

/// Histories by level.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LevelCounts {
    pub none: u64,
    pub watch: u64,
    pub review: u64,
    pub senior: u64,
    pub urgent: u64,
}

impl LevelCounts {
    fn slot(&mut self, level: Level) -> &mut u64 {
        match level {
            Level::None => &mut self.none,
            Level::Watch => &mut self.watch,
            Level::Review => &mut self.review,
            Level::Senior => &mut self.senior,
            Level::Urgent => &mut self.urgent,
        }
    }

    /// Histories at this level.
    pub fn get(mut self, level: Level) -> u64 {
        *self.slot(level)
    }
}

/// What a run came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    pub users: u64,
    pub sessions: u64,
    /// Messages of all roles.
    pub messages: u64,
    /// Messages with scores: the user's and the assistant's.
    pub scored_messages: u64,
    pub levels: LevelCounts,
    pub windows: u64,
    pub tokens: u64,
    /// Messages longer than a window, scored in parts.
    pub split_messages: u64,
    /// Times a long message was shortened to its end where it was only context.
    pub shortened_contexts: u64,
    /// System and tool messages, not scored.
    pub kept_apart: u64,
    /// Messages about which the guard refused to answer.
    pub refused: u64,
    /// Histories of which the guard judged no message at all; their level says nothing.
    pub unjudged_histories: u64,
    /// Messages that shared a turn of a prompt with the one before them.
    pub merged_messages: u64,
    /// Places where a message imitated the structure of a prompt, broken visibly.
    pub neutralised_marks: u64,
    pub files: u64,
    pub skipped_files: u64,
    pub records: u64,
    /// Records that could not be read.
    pub left_out: u64,
    /// Messages without text, dropped.
    pub empty_messages: u64,
    /// Messages off the active branch of an export, not read.
    pub other_branches: u64,
    /// Times that could not be read.
    pub unread_times: u64,
    /// Halves of characters, replaced by U+FFFD.
    pub half_characters: u64,
    /// Sessions renamed because the user had the id already.
    pub repeated_sessions: u64,
    /// Sessions that their user had already, word for word, read once.
    pub copied_sessions: u64,
    /// Problems of all kinds met while reading.
    pub problems: u64,
}

impl Totals {
    /// Counts one more history; what several models had to do to read it, of each.
    pub fn add(&mut self, history: &History, panel: Panel) {
        self.users += 1;
        self.sessions += history.sessions.len() as u64;
        self.messages += history.message_count() as u64;
        self.scored_messages += panel.first().messages.len() as u64;
        *self.levels.slot(panel.level()) += 1;
        self.kept_apart += panel.first().notes.kept_apart as u64;
        for score in panel.all() {
            self.read(score);
        }
    }

    fn read(&mut self, score: &HistoryScore) {
        let notes = score.notes;
        self.windows += notes.windows as u64;
        self.tokens += notes.tokens as u64;
        self.split_messages += notes.split_messages as u64;
        self.shortened_contexts += notes.shortened_contexts as u64;
        self.refused += notes.refused as u64;
        self.unjudged_histories += u64::from(score.is_unjudged());
        self.merged_messages += notes.merged_messages as u64;
        self.neutralised_marks += notes.neutralised_marks as u64;
    }

    /// Whether anything was not read, or not judged.
    pub fn incomplete(&self) -> bool {
        self.left_out > 0 || self.skipped_files > 0 || self.refused > 0
    }

    /// The counts that are not zero, in words: what was done to the text on the way.
    pub fn remarks(&self) -> Vec<String> {
        [
            (self.left_out, "records that could not be read, left out"),
            (self.skipped_files, "files skipped"),
            (self.refused, "messages the guard refused to judge"),
            (self.unjudged_histories, "histories of which the guard judged no message: their level says nothing"),
            (self.split_messages, "messages longer than a window, scored in parts"),
            (self.shortened_contexts, "times a long message was shortened where it was only context"),
            (self.merged_messages, "messages that shared a turn with the one before"),
            (self.neutralised_marks, "places that imitated a prompt's structure, broken visibly"),
            (self.kept_apart, "system and tool messages, not scored"),
            (self.empty_messages, "messages without text, dropped"),
            (self.other_branches, "messages of edited or regenerated branches, not read"),
            (self.unread_times, "times that could not be read"),
            (self.half_characters, "halves of characters, replaced by U+FFFD"),
            (self.repeated_sessions, "sessions renamed because their user had the id already"),
            (self.copied_sessions, "sessions that their user had already, word for word, read once"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{what}: {count}"))
        .collect()
    }
}

/// What is said of users that are not shown.
fn not_shown(left_out: u64) -> Option<String> {
    let users = count(left_out as usize, "user");
    (left_out > 0).then(|| format!("{users} more, none more urgent than these, are not shown; --output writes all"))
}

/// `0.39 (α 6%)`, an arc's score and what it stands for; the score alone where it promises nothing, and where it is none that an arc has.
fn score_words(score: f32) -> String {
    let alpha = Policy::alpha(score).filter(|_| score < 1.0);
    match alpha.map(|alpha| 100.0 * alpha) {
        None => format!("{score:.2}"),
        Some(percent) if percent < 0.1 => format!("{score:.2} (α below 0.1%)"),
        Some(percent) if percent < 1.0 => format!("{score:.2} (α {percent:.1}%)"),
        Some(percent) => format!("{score:.2} (α {percent:.0}%)"),
    }
}

/// `1 session`, `2 sessions`.
fn count(number: usize, of: &str) -> String {
    format!("{number} {of}{}", if number == 1 { "" } else { "s" })
}

/// `rate-limit, memory-off`.
fn names(mitigations: &[Mitigation]) -> String {
    mitigations.iter().map(|one| one.as_str()).collect::<Vec<_>>().join(", ")
}

/// What an assistant did, in words, from its expected stance (−1 to 2).
pub fn stance_words(stance: f32) -> &'static str {
    match stance {
        _ if stance <= -0.25 => "resisted",
        _ if stance < 0.4 => "stayed neutral",
        _ if stance < 1.2 => "went along",
        _ => "reinforced",
    }
}

/// What became of it as the evidence mounted, in words, from its drift (−3 to 3); `None` where it stayed much as it was.
pub fn drift_words(drift: f32) -> Option<&'static str> {
    match drift {
        _ if drift >= 0.5 => Some("gave way as the evidence mounted"),
        _ if drift <= -0.5 => Some("came to resist as the evidence mounted"),
        _ => None,
    }
}

/// What is said after a share of an arc's evidence that was told under a frame.
pub const FRAMED_WORDS: &str =
    "is likely told under a frame (a story, a game, something supposed, a friend's affair): ask whether it is one";

#[cfg(test)]
mod tests {
    use super::*;

    /// α = 1 / (100^(s / (1 − s)) − 1): at ½ that is 1 / 99, at 0.6 it is 1 / 999.
    #[test]
    fn a_score_is_told_with_the_alpha_it_stands_for() {
        let known = [(0.28, 0.200_2), (0.372, 0.069_93), (0.5, 1.0 / 99.0), (0.6, 1.0 / 999.0), (0.75, 1e-6)];
        for (score, alpha) in known {
            let found = Policy::alpha(score).unwrap();
            assert!((found / alpha - 1.0).abs() < 1e-3, "{score}: {found} is not {alpha}");
        }
        // 100^(0.13 / 0.87) is 1.99, which is α = 1.01: no promise.
        assert_eq!([0.0, 0.13, f32::INFINITY, f32::NAN].map(Policy::alpha), [None; 4]);
        assert_eq!(Policy::alpha(1.0), Some(0.0));
        for (score, words) in [
            (0.39, "0.39 (α 6%)"),
            (0.14, "0.14 (α 90%)"),
            (0.55, "0.55 (α 0.4%)"),
            (0.7, "0.70 (α below 0.1%)"),
            (0.13, "0.13"),
            (1.0, "1.00"),
        ] {
            assert_eq!(score_words(score), words);
        }
    }
}
