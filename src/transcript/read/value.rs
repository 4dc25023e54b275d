//! The small readings that all formats share: roles by their many names, times, ids, and content
//! that is text or a list of parts.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;
use serde_json::Value;

use super::problem::Fault;
use crate::transcript::Role;

/// What a JSON value is, for an error that must not show it.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The place of a field in a record, written only when it is needed.
#[derive(Debug, Clone, Copy)]
pub(super) struct At {
    pub list: &'static str,
    pub index: usize,
    pub field: &'static str,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let At { list, index, field } = self;
        if field.is_empty() { write!(f, "`{list}[{index}]`") } else { write!(f, "`{list}[{index}].{field}`") }
    }
}

/// A value of the wrong type.
pub(super) fn wrong_type(value: &Value, place: impl fmt::Display, expected: &str) -> Fault {
    Fault::new(format!("{} in {place}", kind(value)), expected, "")
}

/// The role behind a name, without case and surrounding space.
pub(super) fn role(name: &str) -> Option<Role> {
    Some(match name.trim().to_ascii_lowercase().as_str() {
        "user" | "human" | "prompter" | "you" | "customer" => Role::User,
        "assistant" | "ai" | "gpt" | "chatgpt" | "claude" | "bot" | "chatbot" | "model" | "bing" | "bard"
        | "gemini" | "copilot" => Role::Assistant,
        "system" | "developer" => Role::System,
        "tool" | "function" | "function_call" | "function_response" | "tool_call" | "tool_response" | "tool_result"
        | "observation" | "ipython" => Role::Tool,
        _ => return None,
    })
}

pub(super) const ROLE_HINT: &str =
    "known roles: user, human, assistant, gpt, system, developer, tool, function and the like";

/// The role in a field.
pub(super) fn role_of(value: &Value, at: At) -> Result<Role, Fault> {
    let Value::String(name) = value else {
        return Err(wrong_type(value, at, "the name of a role"));
    };
    role(name).ok_or_else(|| Fault::new(format!("an unknown role in {at}"), "the name of a role", ROLE_HINT))
}

/// A time that is there and cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UnreadTime;

/// Reads a time: RFC 3339, the same without a zone (then UTC) or without the time of day, a
/// calendar date of 1990 to 2100 written as 12 or 14 digits (`202603012011`, `20260301201100`), or
/// unix seconds; a number of 10¹¹ or more is milliseconds, of 10¹⁴ or more microseconds, of 10¹⁷
/// or more nanoseconds.
pub(super) fn time(value: &Value) -> Result<Option<Timestamp>, UnreadTime> {
    match value {
        Value::Null => Ok(None),
        Value::Number(n) => match (n.as_i64(), n.as_f64()) {
            (Some(whole), _) => unix_whole(whole).map(Some),
            (None, Some(seconds)) => unix(seconds).map(Some),
            _ => Err(UnreadTime),
        },
        Value::String(text) => time_of_text(text),
        _ => Err(UnreadTime),
    }
}

/// [`time`] of text; blank text is no time.
pub(super) fn time_of_text(text: &str) -> Result<Option<Timestamp>, UnreadTime> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    if text.len() >= 9 && text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return match text.parse::<i64>() {
            Ok(whole) => unix_whole(whole).map(Some),
            Err(_) => text.parse().map_err(|_| UnreadTime).and_then(unix).map(Some),
        };
    }
    // A zone by name would need a time zone database, and would be taken for UTC without one.
    if text.contains('[') {
        return Err(UnreadTime);
    }
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(Some(instant));
    }
    let (text, utc) = match text.strip_suffix("UTC").or_else(|| text.strip_suffix("GMT")) {
        Some(rest) => (rest.trim_end(), true),
        None => (text, false),
    };
    if let (true, Ok(instant)) = (utc, format!("{text}Z").parse::<Timestamp>()) {
        return Ok(Some(instant));
    }
    let has_offset = text.get(10..).is_some_and(|rest| rest.contains(['+', '-', 'Z', 'z']));
    if has_offset {
        return Err(UnreadTime);
    }
    let civil: DateTime = text.parse().map_err(|_| UnreadTime)?;
    Offset::UTC.to_timestamp(civil).map(Some).map_err(|_| UnreadTime)
}

/// The calendar date that 12 or 14 digits write, in UTC. As milliseconds they would be of 1976 or
/// of the 27th century.
fn compact(n: i64) -> Option<Timestamp> {
    let n = match n {
        199_001_010_000..210_101_010_000 => n * 100,
        19_900_101_000_000..21_010_101_000_000 => n,
        _ => return None,
    };
    let two = |place: i64| (n / place % 100) as i8;
    let (month, day) = (two(100_000_000), two(1_000_000));
    let civil = DateTime::new((n / 10_000_000_000) as i16, month, day, two(10_000), two(100), two(1), 0).ok()?;
    Offset::UTC.to_timestamp(civil).ok()
}

fn unix_whole(n: i64) -> Result<Timestamp, UnreadTime> {
    if let Some(time) = compact(n) {
        return Ok(time);
    }
    match n.unsigned_abs() {
        0..100_000_000_000 => Timestamp::from_second(n),
        100_000_000_000..100_000_000_000_000 => Timestamp::from_millisecond(n),
        100_000_000_000_000..100_000_000_000_000_000 => Timestamp::from_microsecond(n),
        _ => Timestamp::from_nanosecond(n.into()),
    }
    .map_err(|_| UnreadTime)
}

/// A time with a fraction, to the microsecond.
fn unix(n: f64) -> Result<Timestamp, UnreadTime> {
    if let Some(time) = compact(n as i64).filter(|_| n.fract() == 0.0) {
        return Ok(time);
    }
    let microseconds = match n.abs() {
        size if size < 1e11 => n * 1e6,
        size if size < 1e14 => n * 1e3,
        size if size < 1e17 => n,
        size if size < 1e20 => n / 1e3,
        _ => return Err(UnreadTime),
    };
    Timestamp::from_microsecond(microseconds.round() as i64).map_err(|_| UnreadTime)
}

/// An id: text, or a number. Blank text is none.
pub(super) fn id(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
        Value::Number(n) => Some(n.to_string()),
        _ => None,
    }
}

/// The first of the fields that holds an id; a list or object there is a fault.
pub(super) fn id_of(record: &Value, names: &[&str]) -> Result<Option<String>, Fault> {
    for name in names {
        if let Some(found) = id(record.get(name)) {
            return Ok(Some(found));
        }
        if let Some(value @ (Value::Array(_) | Value::Object(_) | Value::Bool(_))) = record.get(name) {
            return Err(wrong_type(value, format_args!("`{name}`"), "a string"));
        }
    }
    Ok(None)
}

/// What one message says, in the role that says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub role: Role,
    pub text: String,
}

/// Reads content: text, one part, or a list of parts. Text is joined with newlines as long as the
/// role stays the same: calls and results of tools are [`Role::Tool`], reasoning is
/// [`Role::System`], and pictures, sound and files leave `[image]`, `[audio]`, `[attachment: name]`.
pub(super) fn pieces(content: &Value, role: Role, at: At) -> Result<Vec<Piece>, Fault> {
    let mut out: Vec<Piece> = Vec::new();
    let parts = match content {
        Value::Array(parts) => parts.as_slice(),
        one => std::slice::from_ref(one),
    };
    for part in parts {
        let Some(piece) = piece(part, role, at)? else {
            continue;
        };
        push(&mut out, piece);
    }
    Ok(out)
}

/// Adds a piece, to the last one where the role is the same.
pub(super) fn push(out: &mut Vec<Piece>, piece: Piece) {
    match out.last_mut() {
        Some(last) if last.role == piece.role => {
            if !piece.text.is_empty() {
                if !last.text.is_empty() {
                    last.text.push('\n');
                }
                last.text.push_str(&piece.text);
            }
        }
        _ => out.push(piece),
    }
}

fn piece(part: &Value, role: Role, at: At) -> Result<Option<Piece>, Fault> {
    let part = match part {
        Value::Null => return Ok(None),
        Value::String(text) => {
            return Ok(Some(Piece { role, text: text.clone() }));
        }
        Value::Object(part) => part,
        other => return Err(wrong_type(other, at, "text, or a list of parts")),
    };
    let text_in = |names: &[&str]| names.iter().find_map(|n| part.get(*n)?.as_str()).map(str::to_owned);
    let name = ["type", "content_type"].iter().find_map(|n| part.get(*n)?.as_str()).unwrap_or("text");
    let said = |text: Option<String>| Some(Piece { role, text: text.unwrap_or_default() });
    let tool = |text: String| Some(Piece { role: Role::Tool, text });
    Ok(match name {
        "text" | "input_text" | "output_text" | "audio_transcription" | "refusal" => {
            said(text_in(&["text", "refusal"]))
        }
        "thinking" | "reasoning" | "thoughts" | "redacted_thinking" => {
            Some(Piece { role: Role::System, text: text_in(&["thinking", "text", "content"]).unwrap_or_default() })
        }
        "tool_use" | "tool_call" | "function_call" => tool(call(part)),
        "tool_result" | "tool_response" => tool(match part.get("content") {
            Some(inner) => pieces_flat(inner, at)?,
            None => text_in(&["text", "output"]).unwrap_or_default(),
        }),
        _ if name.contains("image") => said(Some("[image]".into())),
        _ if name.contains("audio") => said(Some("[audio]".into())),
        _ => said(Some(match (text_in(&["text"]), attachment_name(part)) {
            (Some(text), _) => text,
            (None, Some(file)) => format!("[attachment: {file}]"),
            (None, None) => "[attachment]".into(),
        })),
    })
}

/// The text of a tool's result, one level of parts deep.
fn pieces_flat(inner: &Value, at: At) -> Result<String, Fault> {
    let parts = match inner {
        Value::Array(parts) => parts.as_slice(),
        one => std::slice::from_ref(one),
    };
    let mut lines = Vec::new();
    for part in parts {
        match part {
            Value::Null => {}
            Value::String(text) => lines.push(text.as_str()),
            Value::Object(o) => lines.push(o.get("text").and_then(Value::as_str).unwrap_or("[attachment]")),
            other => return Err(wrong_type(other, at, "text, or a list of parts")),
        }
    }
    Ok(lines.join("\n"))
}

/// A call of a tool: its name and what was sent.
pub(super) fn call(part: &serde_json::Map<String, Value>) -> String {
    let inner = part.get("function").and_then(Value::as_object).unwrap_or(part);
    let name = inner.get("name").and_then(Value::as_str).unwrap_or("tool");
    let sent = ["arguments", "input"].iter().find_map(|n| inner.get(*n));
    match sent {
        None | Some(Value::Null) => format!("{name}()"),
        Some(Value::String(text)) => format!("{name}({text})"),
        Some(other) => format!("{name}({other})"),
    }
}

/// The name of a file in a part, wherever the format keeps it.
pub(super) fn attachment_name(part: &serde_json::Map<String, Value>) -> Option<&str> {
    let inner = part.get("file").and_then(Value::as_object).unwrap_or(part);
    let names = ["file_name", "filename", "name", "title"];
    names.iter().find_map(|n| inner.get(*n)?.as_str()).filter(|name| !name.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(value: Value) -> String {
        time(&value).map_or("unread".into(), |t| t.map_or("none".into(), |t| t.to_string()))
    }

    #[test]
    fn reads_times_of_all_kinds_as_the_same_instant() {
        // `date -u -d @1772395860` says 2026-03-01T20:11:00Z.
        for value in [
            json!("2026-03-01T20:11:00Z"),
            json!("2026-03-01T21:11:00+01:00"),
            json!("2026-03-01 20:11:00"),
            json!("2026-03-01T20:11"),
            json!("2026-03-01 20:11:00 UTC"),
            json!(1772395860),
            json!(1772395860.0),
            json!(1772395860000_i64),
            json!(1772395860000000_i64),
            json!("1772395860"),
            json!("1772395860.0"),
        ] {
            assert_eq!(shown(value.clone()), "2026-03-01T20:11:00Z", "{value}");
        }
        for value in [json!("20260301201100"), json!("202603012011"), json!(20260301201100_i64), json!(202603012011.0)]
        {
            assert_eq!(shown(value.clone()), "2026-03-01T20:11:00Z", "{value}");
        }
        // No calendar dates: milliseconds.
        assert_eq!(shown(json!("209913012011")), "1976-08-26T13:10:12.011Z");
        assert_eq!(shown(json!("20261301201100")), "2612-01-21T19:13:21.1Z");
        assert_eq!(shown(json!("2026-03-01")), "2026-03-01T00:00:00Z");
        assert_eq!(shown(json!(1772395860.25)), "2026-03-01T20:11:00.25Z");
    }

    #[test]
    fn refuses_times_that_say_nothing_certain() {
        for value in [
            json!("yesterday"),
            json!("2026-13-01"),
            json!("2026-03-01T20:11:00[Europe/Paris]"),
            json!("2026-03-01T20:11:00+99:00"),
            json!(1e300),
            json!(true),
            json!([1]),
            json!("2026"),
        ] {
            assert_eq!(shown(value.clone()), "unread", "{value}");
        }
        assert_eq!(shown(json!("  ")), "none");
        assert_eq!(shown(json!(null)), "none");
    }

    #[test]
    fn keeps_tools_and_reasoning_out_of_what_was_said() {
        let at = At { list: "messages", index: 0, field: "content" };
        let content = json!([
            {"type": "thinking", "thinking": "hm"},
            {"type": "text", "text": "a"}, "b",
            {"type": "image_url", "image_url": {"url": "x"}},
            {"type": "tool_use", "name": "find", "input": {"q": 1}},
            {"type": "tool_result", "content": [{"type": "text", "text": "r"}]},
            {"type": "document", "title": "cv.pdf"}, null
        ]);
        let got = pieces(&content, Role::Assistant, at).unwrap();
        let got: Vec<_> = got.iter().map(|p| (p.role.as_str(), p.text.as_str())).collect();
        assert_eq!(
            got,
            [
                ("system", "hm"),
                ("assistant", "a\nb\n[image]"),
                ("tool", "find({\"q\":1})\nr"),
                ("assistant", "[attachment: cv.pdf]"),
            ]
        );
        assert!(pieces(&json!([1]), Role::User, at).is_err());
        assert!(pieces(&json!(true), Role::User, at).is_err());
    }
}
