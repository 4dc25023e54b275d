//! Turns that are objects of a role and a content, as most formats have them.

use jiff::Timestamp;
use serde_json::Value;

use super::collect::Notes;
use super::problem::Fault;
use super::value::{self, At, Piece, kind, wrong_type};
use crate::transcript::Message;

/// Names of the fields of a turn, the first that is there counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct TurnFields {
    pub list: &'static str,
    pub role: &'static [&'static str],
    pub content: &'static [&'static str],
    pub time: &'static [&'static str],
}

/// The record as an object.
pub(super) fn object<'v>(record: &'v Value, expected: &str) -> Result<&'v Value, Fault> {
    match record {
        Value::Object(_) => Ok(record),
        Value::Array(_) => {
            let hint = "a JSON list of records is read from a file that ends in .json";
            Err(Fault::new("a list", expected, hint))
        }
        other => Err(Fault::new(kind(other), expected, "")),
    }
}

/// The list of turns of a record.
pub(super) fn list<'v>(record: &'v Value, name: &str) -> Result<&'v [Value], Fault> {
    match record.get(name) {
        Some(Value::Array(turns)) => Ok(turns),
        Some(other) => Err(wrong_type(other, format_args!("`{name}`"), "a list of messages")),
        None => Err(Fault::new(format!("no `{name}`"), "a list of messages", "is it another format? name it")),
    }
}

/// A time in a field; one that cannot be read is noted, and nothing is dated by it.
pub(super) fn time(value: Option<&Value>, notes: &mut Notes) -> Option<Timestamp> {
    value::time(value?).unwrap_or_else(|_| {
        notes.unread_times += 1;
        None
    })
}

/// The first of the fields that is there and not null.
pub(super) fn first<'v>(record: &'v Value, names: &[&'static str]) -> Option<(&'static str, &'v Value)> {
    names.iter().find_map(|name| Some((*name, record.get(*name).filter(|v| !v.is_null())?)))
}

/// Reads all turns of a record.
pub(super) fn messages(record: &Value, fields: TurnFields, notes: &mut Notes) -> Result<Vec<Message>, Fault> {
    let mut out = Vec::new();
    for (index, turn) in list(record, fields.list)?.iter().enumerate() {
        let at = |field| At { list: fields.list, index, field };
        if !turn.is_object() {
            return Err(wrong_type(turn, at(""), "an object with a role and a content"));
        }
        let Some((role_field, role)) = first(turn, fields.role) else {
            return Err(Fault::new(
                format!("no role in {}", at("")),
                format!("a `{}`", fields.role[0]),
                value::ROLE_HINT,
            ));
        };
        let role = value::role_of(role, at(role_field))?;
        let timestamp = time(first(turn, fields.time).map(|(_, v)| v), notes);
        let mut pieces = match first(turn, fields.content) {
            Some((field, content)) => value::pieces(content, role, at(field))?,
            None => Vec::new(),
        };
        calls(turn, &mut pieces);
        if pieces.is_empty() {
            // An empty turn is counted as one.
            pieces.push(Piece { role, text: String::new() });
        }
        out.extend(pieces.into_iter().map(|p| Message { role: p.role, content: p.text, timestamp }));
    }
    Ok(out)
}

/// What an assistant sent to tools stands beside the content in the OpenAI formats.
fn calls(turn: &Value, pieces: &mut Vec<Piece>) {
    let many = turn.get("tool_calls").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let one = turn.get("function_call");
    for sent in many.iter().chain(one).filter_map(Value::as_object) {
        value::push(pieces, Piece { role: crate::transcript::Role::Tool, text: value::call(sent) });
    }
}
