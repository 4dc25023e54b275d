//! Claude data exports: a JSON list of conversations.
//!
//! ```json
//! [{"uuid": "c1", "created_at": "2026-03-01T20:11:00Z", "account": {"uuid": "u1"},
//!   "chat_messages": [{"sender": "human", "text": "hello", "created_at": "2026-03-01T20:11:05Z",
//!                      "content": [{"type": "text", "text": "hello"}],
//!                      "attachments": [{"file_name": "cv.pdf"}], "files": [{"file_name": "a.png"}]}]}]
//! ```
//!
//! `content` is read, and `text` where `content` says nothing. A file leaves `[attachment: name]`;
//! an attachment without a name is text pasted by the person, and is read.

use serde_json::Value;

use super::collect::{Notes, Parsed};
use super::problem::Fault;
use super::turns;
use super::value::{self, At, Piece, wrong_type};
use crate::transcript::{Message, Role};

/// Reads one conversation.
pub(super) fn conversation(record: &Value) -> Result<Parsed, Fault> {
    let record = turns::object(record, "an object with `chat_messages`")?;
    let mut notes = Notes::default();
    let mut messages = Vec::new();
    for (index, turn) in turns::list(record, "chat_messages")?.iter().enumerate() {
        let at = |field| At { list: "chat_messages", index, field };
        if !turn.is_object() {
            return Err(wrong_type(turn, at(""), "an object with `sender` and `content`"));
        }
        let sender = turn.get("sender").unwrap_or(&Value::Null);
        let role = value::role_of(sender, at("sender"))?;
        let timestamp = turns::time(turn.get("created_at"), &mut notes);
        for piece in pieces(turn, role, at)? {
            messages.push(Message { role: piece.role, content: piece.text, timestamp });
        }
    }
    Ok(Parsed {
        user_id: record.get("account").and_then(|account| value::id(account.get("uuid"))),
        session_id: value::id_of(record, &["uuid"])?,
        started_at: turns::time(record.get("created_at"), &mut notes),
        messages,
        notes,
    })
}

fn pieces(turn: &Value, role: Role, at: impl Fn(&'static str) -> At) -> Result<Vec<Piece>, Fault> {
    let mut out = value::pieces(turn.get("content").unwrap_or(&Value::Null), role, at("content"))?;
    if out.iter().all(|piece| piece.text.trim().is_empty()) {
        out = value::pieces(turn.get("text").unwrap_or(&Value::Null), role, at("text"))?;
    }
    for field in ["attachments", "files"] {
        let files = match turn.get(field) {
            None | Some(Value::Null) => continue,
            Some(Value::Array(files)) => files,
            Some(other) => return Err(wrong_type(other, at(field), "a list of files")),
        };
        for file in files.iter().filter_map(Value::as_object) {
            let pasted = file.get("extracted_content").and_then(Value::as_str);
            let text = match (value::attachment_name(file), pasted) {
                (Some(name), _) => format!("[attachment: {name}]"),
                (None, Some(pasted)) => pasted.to_owned(),
                (None, None) => "[attachment]".to_owned(),
            };
            value::push(&mut out, Piece { role, text });
        }
    }
    if out.is_empty() {
        out.push(Piece { role, text: String::new() });
    }
    Ok(out)
}
