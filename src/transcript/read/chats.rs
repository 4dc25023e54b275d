//! The formats whose records are an object with a list of turns: native, OpenAI, ShareGPT and
//! WildChat or LMSYS. Fields not named here are ignored.

use serde_json::Value;

use super::collect::{Notes, Parsed};
use super::problem::Fault;
use super::turns::{self, TurnFields};
use super::value;

/// Native JSON lines, and OpenAI chat lines, which have other names for the ids:
///
/// ```json
/// {"user_id": "u1", "session_id": "s1", "started_at": "2026-03-01T20:11:00Z",
///  "messages": [{"role": "user", "content": "hello", "timestamp": "2026-03-01T20:11:05Z"}]}
/// {"user": "u1", "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]}
/// ```
pub(super) fn native(record: &Value) -> Result<Parsed, Fault> {
    let record = turns::object(record, "an object with `messages`")?;
    let fields = TurnFields {
        list: "messages",
        role: &["role"],
        content: &["content", "refusal"],
        time: &["timestamp", "created_at"],
    };
    let mut notes = Notes::default();
    let messages = turns::messages(record, fields, &mut notes)?;
    let start = turns::first(record, &["started_at", "timestamp", "created_at", "created"]).map(|(_, v)| v);
    Ok(Parsed {
        user_id: value::id_of(record, &["user_id", "user"])?,
        session_id: value::id_of(record, &["session_id", "conversation_id", "id"])?,
        started_at: turns::time(start, &mut notes),
        messages,
        notes,
    })
}

/// ShareGPT: `{"id": "c1", "conversations": [{"from": "human", "value": "hello"}]}`.
pub(super) fn sharegpt(record: &Value) -> Result<Parsed, Fault> {
    let record = turns::object(record, "an object with `conversations`")?;
    let fields = TurnFields {
        list: "conversations",
        role: &["from", "role"],
        content: &["value", "content", "text"],
        time: &["timestamp"],
    };
    let mut notes = Notes::default();
    let messages = turns::messages(record, fields, &mut notes)?;
    let start = turns::first(record, &["timestamp", "created_at"]).map(|(_, v)| v);
    Ok(Parsed {
        user_id: value::id_of(record, &["user_id", "user"])?,
        session_id: value::id_of(record, &["id", "conversation_id"])?,
        started_at: turns::time(start, &mut notes),
        messages,
        notes,
    })
}

/// WildChat and LMSYS:
///
/// ```json
/// {"conversation_hash": "c1", "hashed_ip": "u1", "timestamp": "2023-04-09T00:02:53+00:00",
///  "conversation": [{"role": "user", "content": "hello", "timestamp": null}]}
/// {"conversation_id": "c1", "tstamp": 1680000000.0, "conversation": [{"role": "user", "content": "hello"}]}
/// ```
///
/// WildChat's `timestamp` of a record is that of its last turn, so the turns' own come first.
pub(super) fn wildchat(record: &Value) -> Result<Parsed, Fault> {
    let record = turns::object(record, "an object with `conversation`")?;
    let fields = TurnFields { list: "conversation", role: &["role"], content: &["content"], time: &["timestamp"] };
    let mut notes = Notes::default();
    let messages = turns::messages(record, fields, &mut notes)?;
    let mut user_id = value::id_of(record, &["user_id", "hashed_ip"])?;
    if user_id.is_none() {
        user_id = turns::list(record, "conversation")?.iter().find_map(|turn| value::id(turn.get("hashed_ip")));
    }
    let dated = messages.iter().any(|m| m.timestamp.is_some());
    let start = turns::first(record, &["tstamp", "timestamp"]).filter(|_| !dated).map(|(_, v)| v);
    Ok(Parsed {
        user_id,
        session_id: value::id_of(record, &["conversation_hash", "conversation_id"])?,
        started_at: turns::time(start, &mut notes),
        messages,
        notes,
    })
}
