//! ChatGPT data exports: a JSON list of conversations, each a tree of nodes.
//!
//! ```json
//! [{"title": "…", "create_time": 1772395860.5, "conversation_id": "c1", "current_node": "n2",
//!   "mapping": {"n1": {"id": "n1", "parent": null, "message": null},
//!               "n2": {"id": "n2", "parent": "n1", "message": {
//!                  "author": {"role": "user"}, "create_time": 1772395861.0, "recipient": "all",
//!                  "content": {"content_type": "text", "parts": ["hello"]}, "metadata": {}}}}}]
//! ```
//!
//! The *active branch* is what the person saw last: from `current_node` up through the parents to
//! the root. Edited and regenerated turns hang on other branches; they are counted, not read.
//! Without a usable `current_node` the branch of the newest leaf is taken, with a notice.
//!
//! On the branch, hidden nodes (`is_visually_hidden_from_conversation`), system messages, custom
//! instructions and the model's reasoning are [`Role::System`]; what tools returned, and what was
//! sent to a recipient other than `all`, is [`Role::Tool`].

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::collect::{Notes, Parsed};
use super::problem::Fault;
use super::turns;
use super::value::{self, At, kind, wrong_type};
use crate::transcript::{Message, Role};

/// Reads one conversation.
pub(super) fn conversation(record: &Value) -> Result<Parsed, Fault> {
    let record = turns::object(record, "an object with `mapping`")?;
    let mapping = match record.get("mapping") {
        Some(Value::Object(mapping)) => mapping,
        Some(other) => return Err(wrong_type(other, "`mapping`", "an object of nodes")),
        None => {
            return Err(Fault::new("no `mapping`", "an object of nodes", "is it another format? name it"));
        }
    };
    let mut notes = Notes::default();
    let branch = active_branch(record, mapping, &mut notes);
    let mut messages = Vec::new();
    for (index, node) in branch.iter().enumerate() {
        if let Some(message) = node.get("message").filter(|m| !m.is_null()) {
            messages.push(message_of(message, index, &mut notes)?);
        }
    }
    let with_text = mapping.values().filter(|node| has_parts(node)).count();
    let on_branch = branch.iter().filter(|node| has_parts(node)).count();
    notes.other_branches = (with_text - on_branch) as u64;
    Ok(Parsed {
        user_id: value::id_of(record, &["user_id"])?,
        session_id: value::id_of(record, &["conversation_id", "id"])?,
        started_at: turns::time(record.get("create_time"), &mut notes),
        messages,
        notes,
    })
}

/// The nodes of the active branch, from the root down.
fn active_branch<'v>(record: &Value, mapping: &'v Map<String, Value>, notes: &mut Notes) -> Vec<&'v Value> {
    let named = record.get("current_node").and_then(Value::as_str).and_then(|id| mapping.get_key_value(id));
    let start = named.or_else(|| {
        if !mapping.is_empty() {
            let fault =
                Fault::new("no `current_node` among the nodes", "the id of a node", "the newest leaf was taken");
            notes.notices.push(fault);
        }
        newest_leaf(mapping)
    });
    let mut seen = HashSet::new();
    let mut branch = Vec::new();
    let mut next = start;
    while let Some((id, node)) = next {
        if !seen.insert(id.as_str()) {
            notes.notices.push(Fault::new(
                "a circle of parents",
                "a branch that ends at a root",
                "each node was read once",
            ));
            break;
        }
        branch.push(node);
        let parent = node.get("parent").and_then(Value::as_str);
        next = parent.and_then(|id| mapping.get_key_value(id));
        if parent.is_some() && next.is_none() {
            notes.notices.push(Fault::new(
                "a parent that is not there",
                "a branch that ends at a root",
                "what stood before it is missing from the file; the rest was read",
            ));
        }
    }
    branch.reverse();
    branch
}

/// The leaf with the latest message, the greatest id among equals.
fn newest_leaf(mapping: &Map<String, Value>) -> Option<(&String, &Value)> {
    let parents: HashSet<&str> = mapping.values().filter_map(|node| node.get("parent")?.as_str()).collect();
    let time = |node: &Value| node.get("message").and_then(|m| m.get("create_time")?.as_f64()).unwrap_or(f64::MIN);
    mapping
        .iter()
        .filter(|(id, _)| !parents.contains(id.as_str()))
        .max_by(|(id_a, a), (id_b, b)| time(a).total_cmp(&time(b)).then_with(|| id_a.cmp(id_b)))
}

/// Whether a node holds a message, for the count of those not read.
fn has_parts(node: &Value) -> bool {
    let Some(content) = node.get("message").and_then(|m| m.get("content")) else {
        return false;
    };
    let blank = |v: &Value| v.as_str().is_some_and(|s| s.trim().is_empty());
    match content.get("parts") {
        Some(Value::Array(parts)) => parts.iter().any(|part| !blank(part)),
        _ => content.get("text").or_else(|| content.get("result")).is_some_and(|text| !blank(text)),
    }
}

fn message_of(message: &Value, index: usize, notes: &mut Notes) -> Result<Message, Fault> {
    let at = |field| At { list: "active branch", index, field };
    let Value::Object(fields) = message else {
        return Err(wrong_type(message, at("message"), "an object"));
    };
    let author = fields.get("author").and_then(|author| author.get("role")).unwrap_or(&Value::Null);
    let role = value::role_of(author, at("message.author.role"))?;
    let content = fields.get("content").unwrap_or(&Value::Null);
    let content_type = content.get("content_type").and_then(Value::as_str).unwrap_or("text");
    let metadata = fields.get("metadata");
    let hidden = metadata.and_then(|m| m.get("is_visually_hidden_from_conversation")) == Some(&Value::Bool(true));
    let recipient = fields.get("recipient").and_then(Value::as_str).unwrap_or("all");
    let role = if hidden || role == Role::System || is_inner(content_type) {
        Role::System
    } else if role == Role::Tool || recipient != "all" {
        Role::Tool
    } else {
        role
    };
    let mut lines = text_of(content, content_type, at("message.content"))?;
    lines.extend(attachments(metadata, &lines));
    Ok(Message { role, content: lines.join("\n"), timestamp: turns::time(fields.get("create_time"), notes) })
}

/// Content that the person neither wrote nor was answered: instructions, memory, reasoning.
fn is_inner(content_type: &str) -> bool {
    matches!(content_type, "user_editable_context" | "model_editable_context" | "thoughts" | "reasoning_recap")
}

/// The text of a content, in lines to be joined.
fn text_of(content: &Value, content_type: &str, at: At) -> Result<Vec<String>, Fault> {
    let fields = match content {
        Value::Null => return Ok(Vec::new()),
        Value::String(text) => return Ok(vec![text.clone()]),
        Value::Object(fields) => fields,
        other => return Err(wrong_type(other, at, "an object with `parts`")),
    };
    let strings = |names: &[&str]| -> Vec<String> {
        names.iter().filter_map(|name| Some(fields.get(*name)?.as_str()?.to_owned())).collect()
    };
    Ok(match (content_type, fields.get("parts")) {
        ("thoughts", _) => {
            let thoughts = fields.get("thoughts").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            thoughts.iter().filter_map(|t| Some(t.get("content")?.as_str()?.to_owned())).collect()
        }
        ("user_editable_context", _) => strings(&["user_profile", "user_instructions"]),
        (_, Some(Value::Array(parts))) => parts_of(parts, at)?,
        (_, Some(other)) if !other.is_null() => {
            return Err(Fault::new(format!("{} in `parts` of {at}", kind(other)), "a list of parts", ""));
        }
        _ => strings(&["text", "result", "content", "model_set_context"]),
    })
}

fn parts_of(parts: &[Value], at: At) -> Result<Vec<String>, Fault> {
    let mut lines = Vec::new();
    for part in parts {
        // The role plays no part here: a node has one author.
        lines.extend(value::pieces(part, Role::User, at)?.into_iter().map(|piece| piece.text));
    }
    lines.retain(|line| !line.is_empty());
    Ok(lines)
}

/// Files named beside the content. A picture is named there and stands in the parts too.
fn attachments(metadata: Option<&Value>, lines: &[String]) -> Vec<String> {
    let files = metadata.and_then(|m| m.get("attachments")?.as_array()).map(Vec::as_slice).unwrap_or_default();
    let has_image = lines.iter().any(|line| line == "[image]");
    let mut out = Vec::new();
    for file in files.iter().filter_map(Value::as_object) {
        let mime = ["mime_type", "mimeType"].iter().find_map(|n| file.get(*n)?.as_str()).unwrap_or_default();
        match (mime.starts_with("image/"), value::attachment_name(file)) {
            (true, _) if has_image => {}
            (true, _) => out.push("[image]".to_owned()),
            (false, Some(name)) => out.push(format!("[attachment: {name}]")),
            (false, None) => out.push("[attachment]".to_owned()),
        }
    }
    out
}
