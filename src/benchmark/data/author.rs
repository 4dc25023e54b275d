//! The writing format of `datasets/arcs` and `datasets/contrasts`, as `datasets/README.md` has it.
//!
//! ```text
//! === hale-07 | kind=harassment_escalation | style=casual-lowercase
//! arc harassment onset=2.3 target="Dana, ex-girlfriend"
//! --- 2026-03-01T20:11
//! U h0 d0: a message of the user on one line; \n is a line break inside it
//! A s0: the assistant's reply
//! ```
//!
//! `datasets/check.py` remains the validator of what the files say; this parser holds them to what
//! the figures rest on.

use std::collections::HashMap;
use std::path::Path;

use jiff::Timestamp;

use super::{DataError, Example, Label, Subject, Target, Truth};
use crate::arc::{ArcKind, MessageAt};
use crate::transcript::{History, Message, Role, Session};

/// What the labels of author files are compared with, in the order of their targets.
const HARASSMENT: usize = 0;
const DELUSION: usize = 1;
const STANCE: usize = 2;
const IMMINENT: usize = 3;

/// The kind of minimal pairs, which have no arcs to judge.
pub(super) const CONTRAST: &str = "contrast";
/// The kinds in which the assistant feeds a delusion, and in which it withstands one.
pub(super) const REINFORCED: &str = "delusion_reinforcement";
pub(super) const RESISTED: &str = "delusion_resisted";
/// Characters at which other programs break lines.
const LINE_BREAKS: [char; 9] = ['\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}'];

/// The targets of author files.
pub fn targets() -> Vec<Target> {
    let target = |name: &str, subject, level_min| Target { name: name.into(), subject, level_min };
    vec![
        target("harassment, level 2 or more", Subject::Harassment, 2),
        target("delusion, level 2 or more", Subject::Delusion, 2),
        target("stance, accommodating or more", Subject::Stance, 2),
        target("imminent", Subject::Imminent, 1),
    ]
}

/// One history as far as it was read.
struct Draft {
    line: u64,
    id: String,
    kind: String,
    twin: Option<String>,
    /// Line, kind, session and message from 0.
    arcs: Vec<(u64, ArcKind, MessageAt)>,
    /// Line and session.
    sessions: Vec<(u64, Session)>,
    labels: Vec<Label>,
}

struct Parser<'a> {
    file: &'a Path,
    line: u64,
    drafts: Vec<Draft>,
}

/// The histories of one author's file. `twin_of` counts from the first of them.
///
/// # Errors
/// At the first line that is not of the format, with its place.
pub fn parse(file: &Path, text: &str) -> Result<Vec<Example>, DataError> {
    let mut parser = Parser { file, line: 0, drafts: Vec::new() };
    for line in text.split('\n') {
        parser.line += 1;
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.contains(LINE_BREAKS) {
            return Err(parser.error("a line break other than \\n", "write \\n for a break inside a message"));
        }
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        match line.get(..4) {
            Some("=== ") => parser.header(&line[4..])?,
            Some("arc ") => parser.arc(&line[4..])?,
            Some("--- ") => parser.session(&line[4..])?,
            _ => parser.message(line)?,
        }
    }
    finish(file, parser.drafts)
}

impl Parser<'_> {
    fn error(&self, found: impl Into<String>, hint: &str) -> DataError {
        DataError::line(self.file, self.line, found, hint)
    }

    fn last(&mut self) -> Result<&mut Draft, DataError> {
        let error = self.error("text before the first history", "begin one with `=== ID | kind=… | style=…`");
        self.drafts.last_mut().ok_or(error)
    }

    /// `ID | kind=… | style=… | twin=…`
    fn header(&mut self, rest: &str) -> Result<(), DataError> {
        let hint = "=== ID | kind=… | style=… and, for a twin, | twin=ID";
        let (id, options) = rest.split_once(" |").ok_or_else(|| self.error("a header without options", hint))?;
        if id.is_empty() || id.contains(char::is_whitespace) {
            return Err(self.error("an id that is empty or has spaces", hint));
        }
        let (mut kind, mut style, mut twin) = (None, None, None);
        for option in options.split('|') {
            let (key, value) = option.trim().split_once('=').ok_or_else(|| self.error("no `key=value`", hint))?;
            let slot = match key {
                "kind" => &mut kind,
                "style" => &mut style,
                "twin" => &mut twin,
                _ => return Err(self.error("an option that is not known", hint)),
            };
            if slot.replace(value.to_owned()).is_some() {
                return Err(self.error(format!("`{key}` twice"), hint));
            }
        }
        let is_name = |kind: &String| !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        let kind = kind.filter(is_name).ok_or_else(|| self.error("no kind", hint))?;
        let (line, id) = (self.line, id.to_owned());
        self.drafts.push(Draft { line, id, kind, twin, arcs: Vec::new(), sessions: Vec::new(), labels: Vec::new() });
        Ok(())
    }

    /// `harassment onset=2.3 target="…"`
    fn arc(&mut self, rest: &str) -> Result<(), DataError> {
        let hint = "arc harassment|delusion onset=SESSION.MESSAGE target=\"…\", both counted from 1";
        let wrong = self.error("no arc line", hint);
        let Some((kind, rest)) = rest.split_once(" onset=") else { return Err(wrong) };
        let (onset, target) = rest.split_once(' ').unwrap_or((rest, "target=\"\""));
        let quoted = target.strip_prefix("target=\"").and_then(|t| t.strip_suffix('"'));
        let place = onset.split_once('.').and_then(|(s, m)| Some((number(s)?, number(m)?)));
        let kind = ArcKind::ALL.into_iter().find(|known| known.as_str() == kind);
        let (Some(kind), Some((session, message)), Some(target)) = (kind, place, quoted) else { return Err(wrong) };
        if target.contains('"') {
            return Err(wrong);
        }
        let line = self.line;
        let twice = self.error("a second arc of one kind", hint);
        let draft = self.last()?;
        if draft.arcs.iter().any(|(_, other, _)| *other == kind) {
            return Err(twice);
        }
        draft.arcs.push((line, kind, MessageAt { session, message }));
        Ok(())
    }

    /// `2026-03-01T20:11`
    fn session(&mut self, rest: &str) -> Result<(), DataError> {
        let hint = "--- YYYY-MM-DDTHH:MM, in the order of time";
        let shaped = rest.len() == 16 && rest.bytes().all(|b| b.is_ascii_digit() || b"-T:".contains(&b));
        let start = shaped.then(|| format!("{rest}:00Z").parse::<Timestamp>().ok()).flatten();
        let start = start.ok_or_else(|| self.error("no date of a session", hint))?;
        let line = self.line;
        let backwards = self.error("a session before the one above it", hint);
        let draft = self.last()?;
        if draft.sessions.last().is_some_and(|(_, before)| before.started_at > Some(start)) {
            return Err(backwards);
        }
        let session_id = format!("{}-{:02}", draft.id, draft.sessions.len() + 1);
        draft.sessions.push((line, Session { session_id, started_at: Some(start), messages: Vec::new() }));
        Ok(())
    }

    /// `U h0 d0 !: …` or `A s-1: …`
    fn message(&mut self, line: &str) -> Result<(), DataError> {
        let wrong = self.error("not a line of the format", "U hN dN: …, A sN: …, ===, arc, --- or #");
        let Some((head, content)) = line.split_once(": ") else { return Err(wrong) };
        let Some((role, truths)) = head_of(head) else { return Err(wrong) };
        if content.is_empty() {
            return Err(wrong);
        }
        let early = self.error("a message before the first session", "begin one with `--- YYYY-MM-DDTHH:MM`");
        let assistant_first = self.error("a session that the assistant begins", "the user's message comes first");
        let draft = self.last()?;
        let sessions = draft.sessions.len();
        let Some((_, session)) = draft.sessions.last_mut() else { return Err(early) };
        if session.messages.is_empty() && role == Role::Assistant {
            return Err(assistant_first);
        }
        let at = MessageAt { session: sessions - 1, message: session.messages.len() };
        session.messages.push(Message { role, content: content.replace("\\n", "\n"), timestamp: None });
        draft.labels.extend(truths.into_iter().map(|(target, truth)| Label { target, at: Some(at), truth }));
        Ok(())
    }
}

/// A count from 1, as an index.
fn number(text: &str) -> Option<usize> {
    let digits = !text.is_empty() && text.len() <= 6 && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse::<usize>().ok()?.checked_sub(1)).flatten()
}

/// Role and labels from what stands before the colon.
fn head_of(head: &str) -> Option<(Role, Vec<(usize, Truth)>)> {
    let level = |text: &str, mark: char, from: i8, to: i8| {
        let level = text.strip_prefix(mark)?;
        (from..=to).find(|known| known.to_string() == level)
    };
    if let Some(stance) = head.strip_prefix("A ") {
        return Some((Role::Assistant, vec![(STANCE, Truth::Level(level(stance, 's', -1, 2)?))]));
    }
    let (labels, imminent) = match head.strip_suffix(" !") {
        Some(labels) => (labels, true),
        None => (head, false),
    };
    let (harassment, delusion) = labels.strip_prefix("U ")?.split_once(' ')?;
    let truths = vec![
        (HARASSMENT, Truth::Level(level(harassment, 'h', 0, 3)?)),
        (DELUSION, Truth::Level(level(delusion, 'd', 0, 3)?)),
        (IMMINENT, Truth::Is(imminent)),
    ];
    Some((Role::User, truths))
}

fn finish(file: &Path, drafts: Vec<Draft>) -> Result<Vec<Example>, DataError> {
    let mut places: HashMap<String, usize> = HashMap::new();
    for (index, draft) in drafts.iter().enumerate() {
        if places.insert(draft.id.clone(), index).is_some() {
            return Err(DataError::line(file, draft.line, "an id that stands twice in the file", "give it another"));
        }
    }
    drafts.into_iter().map(|draft| example(file, draft, &places)).collect()
}

fn example(file: &Path, draft: Draft, places: &HashMap<String, usize>) -> Result<Example, DataError> {
    let error = |line, found, hint: &str| Err(DataError::line(file, line, found, hint));
    if draft.sessions.is_empty() {
        return error(draft.line, "a history without a session", "begin one with `--- YYYY-MM-DDTHH:MM`");
    }
    if let Some((line, _)) = draft.sessions.iter().find(|(_, session)| session.messages.is_empty()) {
        return error(*line, "a session without a message", "write one, or take the session out");
    }
    let contrast = draft.kind == CONTRAST;
    if contrast && (draft.twin.is_some() || !draft.arcs.is_empty()) {
        return error(draft.line, "a contrast with an arc or a twin", "contrasts have neither");
    }
    let twin_of = draft.twin.as_ref().map(|id| places.get(id).copied());
    let Some(twin_of) = twin_of.map_or(Some(None), |found| found.map(Some)) else {
        return error(draft.line, "a twin of a history that is not in this file", "name the original's id");
    };
    if draft.twin.as_ref() == Some(&draft.id) {
        return error(draft.line, "a twin of itself", "name the original's id");
    }
    let sessions: Vec<Session> = draft.sessions.into_iter().map(|(_, session)| session).collect();
    let mut arcs = [None, None];
    for (line, kind, at) in draft.arcs {
        if sessions.get(at.session).is_none_or(|session| session.messages.len() <= at.message) {
            return error(line, "an onset outside the history", "SESSION.MESSAGE, both counted from 1");
        }
        arcs[kind as usize] = Some(at);
    }
    let cluster = match &draft.twin {
        Some(original) => original.clone(),
        None if contrast => draft.id.trim_end_matches(|c: char| c.is_ascii_lowercase()).to_owned(),
        None => draft.id.clone(),
    };
    Ok(Example {
        history: History { user_id: draft.id, sessions },
        kind: draft.kind,
        cluster,
        twin_of,
        arcs: (!contrast).then_some(arcs),
        labels: draft.labels,
    })
}
