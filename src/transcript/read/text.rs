//! Plain text, as it is pasted or typed:
//!
//! ```text
//! --- 2026-03-01T20:11
//! User: a question,
//! on two lines
//! Assistant: an answer
//!
//! with two paragraphs
//! ---
//! User: another session
//! ```
//!
//! A line begins a message when it starts with `User:`, `Human:`, `You:`, `Assistant:`, `AI:`,
//! `Bot:`, `ChatGPT:`, `GPT:`, `Claude:`, `Gemini:`, `Bard:`, `Copilot:`, `System:` or `Tool:`, in
//! any case, also as `**User:**`, `## User:` or `You said:`. All further lines belong to it.
//!
//! A new session begins with a message after a line of three dashes or more (a date may follow
//! them), or after two blank lines or more. One blank line separates nothing: turns and paragraphs
//! are often written so. Dashes without a date, or blank lines, before a line that begins no
//! message are part of the message before. Text before the first message of a session is left out
//! and reported. The format cannot tell a label typed inside a message from a true one.

use std::io::BufRead;

use jiff::Timestamp;

use super::collect::{FileSink, Parsed};
use super::problem::{Fault, Place};
use super::records::{Raw, Records, Shape};
use super::value::time_of_text;
use super::{ReadError, json, value};
use crate::transcript::{Message, Role};

/// The role that a line begins to speak in, and what it says.
pub(super) fn label(line: &str) -> Option<(Role, &str)> {
    let bare = line.strip_prefix('#').map_or(line, |rest| rest.trim_start_matches('#').trim_start());
    let bare = bare.strip_prefix("**").or_else(|| bare.strip_prefix("__")).unwrap_or(bare);
    let (name, said) = bare.split_once(':')?;
    let name = name.trim_end_matches(['*', '_']).to_ascii_lowercase();
    let name = name.strip_suffix(" said").unwrap_or(&name);
    let known = matches!(
        name,
        "user"
            | "human"
            | "you"
            | "assistant"
            | "ai"
            | "bot"
            | "chatgpt"
            | "gpt"
            | "claude"
            | "gemini"
            | "bard"
            | "copilot"
            | "system"
            | "tool"
    );
    let said = said.strip_prefix("**").or_else(|| said.strip_prefix("__")).unwrap_or(said);
    known.then(|| value::role(name)).flatten().map(|role| (role, said.trim_start()))
}

/// A line of dashes.
#[derive(Debug, PartialEq, Eq)]
enum Rule {
    Plain,
    Dated(Timestamp),
    /// Words after the dashes that are no date.
    Unread,
}

fn rule(line: &str) -> Option<Rule> {
    let line = line.trim_end();
    if !line.starts_with("---") {
        return None;
    }
    let rest = line.trim_start_matches('-');
    if rest.is_empty() {
        return Some(Rule::Plain);
    }
    let words = rest.strip_prefix([' ', '\t'])?.trim_end_matches("---").trim();
    Some(match time_of_text(words) {
        Ok(Some(time)) => Rule::Dated(time),
        Ok(None) => Rule::Plain,
        Err(_) => Rule::Unread,
    })
}

/// Lines whose meaning the next one decides.
#[derive(Debug, Default)]
struct Held {
    text: String,
    blank_run: u32,
    separates: bool,
    unread_date: bool,
}

/// The session being read.
#[derive(Debug, Default)]
struct Draft {
    parsed: Parsed,
    place: Option<Place>,
    bytes: usize,
    fault: Option<Fault>,
    /// First line, and number of lines, before any message.
    stray: Option<(Place, u64)>,
}

struct Reader<'s, 'c, 'a> {
    sink: &'s mut FileSink<'c, 'a>,
    draft: Draft,
    held: Held,
    limit: usize,
}

/// Reads all sessions of a stream.
///
/// # Errors
/// Only when the temporary file fails.
pub(super) fn read(input: impl BufRead, sink: &mut FileSink<'_, '_>) -> Result<(), ReadError> {
    let limit = sink.limits().record_bytes_max;
    let mut lines = Records::new(input, Shape::TextLines, limit);
    let mut reader = Reader { sink, draft: Draft::default(), held: Held::default(), limit };
    loop {
        let line = match lines.next_line() {
            Ok(None) => break,
            Ok(Some(Raw::TooLong { bytes })) => Err(too_long(bytes, limit)),
            Ok(Some(Raw::Bytes(bytes))) => match std::str::from_utf8(bytes) {
                Ok(line) => Ok(line.to_owned()),
                Err(e) => Err(json::bad_utf8(e.valid_up_to())),
            },
            Err(error) => {
                reader.flush()?;
                reader.sink.broke_off(lines.here(), &error);
                return Ok(());
            }
        };
        let place = lines.place();
        match line {
            Ok(line) => reader.line(&line, place)?,
            Err(fault) => reader.spoil(fault, place),
        }
    }
    reader.flush()
}

fn too_long(bytes: u64, limit: usize) -> Fault {
    Fault::limit("bytes in one session of text", bytes, limit as u64, "record_bytes_max")
}

fn too_many(limit: usize) -> Fault {
    let found = format!("more than {limit} messages in one session");
    Fault::new(found, format!("at most {limit}"), "split the session into several")
}

impl Reader<'_, '_, '_> {
    fn line(&mut self, line: &str, place: Place) -> Result<(), ReadError> {
        if line.trim().is_empty() {
            self.held.blank_run += 1;
            self.held.separates |= self.held.blank_run > 1;
            self.hold("", place);
        } else if let Some(rule) = rule(line) {
            self.held.blank_run = 0;
            match rule {
                Rule::Dated(time) => {
                    self.flush()?;
                    self.draft.parsed.started_at = Some(time);
                }
                Rule::Plain => self.held.separates = true,
                Rule::Unread => (self.held.separates, self.held.unread_date) = (true, true),
            }
            if self.held.separates {
                self.hold(line, place);
            }
        } else if let Some((role, said)) = label(line) {
            let held = std::mem::take(&mut self.held);
            if held.separates && !self.is_blank() {
                self.flush()?;
            }
            self.draft.parsed.notes.unread_times += u64::from(held.unread_date);
            self.draft.place.get_or_insert(place);
            let limit = self.sink.limits().messages_per_session_max;
            if self.draft.parsed.messages.len() >= limit {
                self.spoil(too_many(limit), place);
            }
            if self.draft.fault.is_some() {
                return Ok(());
            }
            self.draft.parsed.messages.push(Message { role, content: String::new(), timestamp: None });
            self.append(said, place);
        } else {
            let held = std::mem::take(&mut self.held);
            if self.draft.fault.is_some() {
                return Ok(());
            }
            if self.draft.parsed.messages.is_empty() {
                self.draft.stray.get_or_insert((place, 0)).1 += 1;
            } else {
                self.append("\n", place);
                self.append(&held.text, place);
                self.append(line, place);
            }
        }
        Ok(())
    }

    fn is_blank(&self) -> bool {
        self.draft.parsed.messages.is_empty() && self.draft.fault.is_none()
    }

    fn hold(&mut self, line: &str, place: Place) {
        if self.draft.fault.is_some() {
            return;
        }
        self.held.text.push_str(line);
        self.held.text.push('\n');
        if self.held.text.len() > self.limit {
            let bytes = self.held.text.len() as u64;
            self.held.text.clear();
            self.spoil(too_long(bytes, self.limit), place);
        }
    }

    /// Adds text to the last message.
    fn append(&mut self, text: &str, place: Place) {
        self.draft.bytes += text.len();
        if self.draft.bytes > self.limit {
            self.spoil(too_long(self.draft.bytes as u64, self.limit), place);
        } else if let Some(message) = self.draft.parsed.messages.last_mut() {
            message.content.push_str(text);
        }
    }

    /// The session will be left out: what was read of it is let go, and what follows is only looked
    /// at for where the session ends.
    fn spoil(&mut self, fault: Fault, place: Place) {
        self.draft.place.get_or_insert(place);
        self.draft.fault.get_or_insert(fault);
        self.draft.parsed.messages = Vec::new();
    }

    /// Ends the session.
    fn flush(&mut self) -> Result<(), ReadError> {
        self.held = Held::default();
        let Draft { mut parsed, place, fault, stray, .. } = std::mem::take(&mut self.draft);
        if let Some((place, lines)) = stray {
            let found = format!("{lines} lines before the first message of a session");
            self.sink.left_out(place, Fault::new(found, "a line that begins with `User:` or `Assistant:`", ""), 1);
        }
        let Some(place) = place else { return Ok(()) };
        match fault {
            Some(fault) => self.sink.left_out(place, fault, 1),
            None => {
                for message in &mut parsed.messages {
                    message.content = message.content.trim_end().trim_start_matches('\n').to_owned();
                }
                self.sink.session(place, parsed, 1)?;
            }
        }
        Ok(())
    }
}
