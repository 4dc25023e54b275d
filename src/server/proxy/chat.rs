//! What is read of a request for a chat completion, and what is answered instead of a reply.

use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::server::front::{check_id, text_header};
use crate::server::problem::Problem;
use crate::server::wire::objects;
use crate::transcript::Role;

/// A request for a chat completion (OpenAI's API reference, *Create chat completion*): what is read here. All of it goes to the upstream as it
/// came.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ChatIn {
    #[schema(min_items = 1)]
    #[serde(deserialize_with = "objects::list")]
    pub messages: Vec<ChatMessage>,
    /// Whose conversation it is, where no header says so.
    #[serde(default)]
    pub safety_identifier: Option<String>,
    /// The same, as it was called before.
    #[serde(default)]
    pub user: Option<String>,
}

/// A message of the conversation.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ChatMessage {
    pub role: String,
    #[serde(default)]
    pub content: Option<Content>,
    /// What an assistant asked tools for: the arguments are read.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Object>>)]
    pub tool_calls: Value,
}

/// A text, or parts of one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Content {
    Text(String),
    Parts(#[serde(deserialize_with = "objects::list")] Vec<ContentPart>),
}

/// A part: of text and refusals the text is read, nothing of others.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ContentPart {
    #[serde(default)]
    pub text: Option<String>,
    #[serde(default)]
    pub refusal: Option<String>,
}

impl Content {
    fn texts(&self) -> Vec<&str> {
        match self {
            Self::Text(text) => vec![text],
            Self::Parts(parts) => {
                let texts = parts.iter().flat_map(|part| [&part.text, &part.refusal]);
                texts.flatten().map(String::as_str).collect()
            }
        }
    }
}

impl ChatMessage {
    fn text(&self) -> String {
        let mut texts: Vec<&str> = self.content.iter().flat_map(Content::texts).collect();
        texts.extend(arguments(&self.tool_calls).map(|(_, text)| text));
        texts.retain(|text| !text.is_empty());
        texts.join("\n")
    }

    fn asks_tools(&self) -> bool {
        self.tool_calls.as_array().is_some_and(|calls| !calls.is_empty())
    }

    /// Of a user or an assistant, with a text.
    fn said(&self) -> Option<(Role, String)> {
        let role = match self.role.as_str() {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            _ => return None,
        };
        Some((role, self.text())).filter(|(_, text)| !text.is_empty())
    }
}

/// Whose conversation it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ids {
    pub user: String,
    /// `None`: to be made of the conversation's first message.
    pub session: Option<String>,
}

/// The messages without what the assistant says at their end, where it asks no tools there: that is a reply which the upstream is to go on
/// with. It answers nothing yet.
fn asked(messages: &[ChatMessage]) -> &[ChatMessage] {
    let ends = |message: &ChatMessage| message.role == "user" || message.asks_tools();
    let end = messages.iter().rposition(ends).map_or(0, |last| last + 1);
    &messages[..end]
}

/// What the user said since the assistant last spoke: the last of all.
pub(in crate::server) fn fresh(messages: &[ChatMessage]) -> Vec<(Role, String)> {
    let asked = asked(messages);
    let since = asked.iter().rposition(|message| message.role == "assistant").map_or(0, |last| last + 1);
    asked[since..].iter().filter_map(ChatMessage::said).collect()
}

impl ChatIn {
    /// Everything that was said, in order, but for a reply that was only begun.
    pub(super) fn all(&self) -> Vec<(Role, String)> {
        asked(&self.messages).iter().filter_map(ChatMessage::said).collect()
    }

    /// [`fresh`] of its messages.
    pub(super) fn fresh(&self) -> Vec<(Role, String)> {
        fresh(&self.messages)
    }

    pub(super) fn ids(&self, headers: &HeaderMap) -> Result<Ids, Problem> {
        let named = [self.safety_identifier.clone(), self.user.clone()].into_iter().flatten().find(|id| !id.is_empty());
        let user = text_header(headers, "x-throughline-user")?.or(named).ok_or_else(|| {
            let detail = "the request does not say whose conversation it is";
            let hint = "the header X-Throughline-User, or `safety_identifier` or `user` in the body";
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail, hint)
        })?;
        check_id("the user's id", &user)?;
        Ok(Ids { user, session: text_header(headers, "x-throughline-session")? })
    }
}

/// Instead of a reply to a prompt that is blocked: what Azure's service answers, which SDKs know.
pub(super) fn blocked_prompt() -> Response {
    let error = json!({"error": {
        "message": "held for review by a person", "type": "invalid_request_error", "param": "messages", "code": "content_filter",
    }});
    (StatusCode::BAD_REQUEST, Json(error)).into_response()
}

/// Where in a reply something is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Voice {
    Text,
    /// The arguments of the tool call of this number: what is sent to others may stand there.
    Tool(u64),
    /// What is spoken, as a text.
    Audio,
    /// In a whole message, beside pieces of it.
    Whole,
}

/// What a message of a reply says, or the next piece of it says more; `None` where that cannot be read. Reasoning is not among it.
pub(super) fn spoken(message: &Value) -> Option<Vec<(Voice, String)>> {
    if !message.is_object() && !message.is_null() {
        return None;
    }
    let mut all = Vec::new();
    for field in [message.get("content"), message.get("refusal")].into_iter().flatten() {
        let content = Option::<Content>::deserialize(field).ok()?;
        let texts = content.iter().flat_map(Content::texts);
        all.extend(texts.map(|text| (Voice::Text, text.to_owned())));
    }
    let called = message.pointer("/function_call/arguments").and_then(Value::as_str);
    let audio = message.pointer("/audio/transcript").and_then(Value::as_str);
    let calls = message.get("tool_calls").into_iter().flat_map(arguments);
    let calls = calls.chain(called.map(|text| (Voice::Tool(0), text)));
    let others = calls.chain(audio.map(|text| (Voice::Audio, text)));
    all.extend(others.map(|(voice, text)| (voice, text.to_owned())));
    all.retain(|(_, text)| !text.is_empty());
    Some(all)
}

/// All that a whole message says; `None` where that cannot be read.
pub(super) fn said_in(message: &Value) -> Option<String> {
    let texts: Vec<String> = spoken(message)?.into_iter().map(|(_, text)| text).collect();
    Some(texts.join("\n"))
}

/// The arguments of tool calls, of functions and of tools that take a text.
fn arguments(calls: &Value) -> impl Iterator<Item = (Voice, &str)> {
    calls.as_array().into_iter().flatten().enumerate().filter_map(|(at, call)| {
        let number = call.get("index").and_then(Value::as_u64).unwrap_or(at as u64);
        let text = call.pointer("/function/arguments").or_else(|| call.pointer("/custom/input"))?;
        Some((Voice::Tool(number), text.as_str()?))
    })
}

/// The texts of a whole reply, by choice; `None` where it is no chat completion.
pub(super) fn texts(reply: &Value) -> Option<Vec<String>> {
    reply.get("choices")?.as_array()?.iter().map(|choice| said_in(choice.get("message")?)).collect()
}

/// A whole reply with nothing left in it.
pub(super) fn emptied(mut reply: Value) -> Value {
    let choices = reply.get_mut("choices").and_then(Value::as_array_mut);
    for choice in choices.into_iter().flatten() {
        let index = choice.get("index").cloned().unwrap_or(json!(0));
        *choice = json!({"index": index, "message": {"role": "assistant", "content": "", "refusal": null},
            "logprobs": null, "finish_reason": "content_filter"});
    }
    reply
}

/// The end of a streamed reply that was blocked.
pub(super) fn blocked_end(choices: &[u32]) -> Vec<u8> {
    let choice =
        |index: &u32| json!({"index": index, "delta": {}, "logprobs": null, "finish_reason": "content_filter"});
    let none = [0];
    let choices: Vec<Value> = if choices.is_empty() { &none } else { choices }.iter().map(choice).collect();
    let chunk = json!({"id": "chatcmpl-held", "object": "chat.completion.chunk", "created": 0, "model": "", "choices": choices});
    format!("data: {chunk}\n\ndata: [DONE]\n\n").into_bytes()
}

/// The end of a streamed reply that failed.
pub(super) fn failed_end(problem: &Problem) -> Vec<u8> {
    let error =
        json!({"error": {"message": problem.detail, "type": "server_error", "param": null, "code": problem.status}});
    format!("data: {error}\n\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(body: Value) -> ChatIn {
        serde_json::from_value(body).unwrap()
    }

    #[test]
    fn what_is_new_is_what_the_user_said_since_the_assistant_spoke() {
        let asked = chat(json!({"model": "x", "temperature": 0, "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Good morning"},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "1"}, "odd"]},
            {"role": "tool", "content": "42", "tool_call_id": "1"},
            {"role": "assistant", "content": "Morning!"},
            {"role": "user", "content": [{"type": "text", "text": "One"}, {"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "two"}]},
            {"role": "user", "content": "three"},
        ]}));
        let texts = |said: Vec<(Role, String)>| said.into_iter().map(|(_, text)| text).collect::<Vec<_>>();
        assert_eq!(texts(asked.fresh()), ["One\ntwo", "three"]);
        assert_eq!(texts(asked.all()), ["Good morning", "Morning!", "One\ntwo", "three"]);
        let called =
            json!([{"id": "1", "type": "function", "function": {"name": "mail", "arguments": "{\"to\": \"her\"}"}}]);
        let called = chat(json!({"messages": [{"role": "assistant", "content": "Sent.", "tool_calls": called}]}));
        assert_eq!(texts(called.all()), ["Sent.\n{\"to\": \"her\"}"]);
        let again =
            chat(json!({"messages": [{"role": "assistant", "content": "Hello"}, {"role": "tool", "content": "x"}]}));
        assert!(again.fresh().is_empty());
    }

    #[test]
    fn a_reply_that_is_only_begun_answers_nothing() {
        let texts = |said: Vec<(Role, String)>| said.into_iter().map(|(_, text)| text).collect::<Vec<_>>();
        let (user, begun) =
            (json!({"role": "user", "content": "X"}), json!({"role": "assistant", "content": "Well, "}));
        let (empty, system) =
            (json!({"role": "assistant", "content": ""}), json!({"role": "system", "content": "Go on."}));
        for more in [vec![&empty], vec![&begun], vec![&begun, &empty], vec![&begun, &system]] {
            let messages: Vec<&Value> = [&begun, &user].into_iter().chain(more).collect();
            let asked = chat(json!({"messages": messages}));
            assert_eq!(texts(asked.fresh()), ["X"], "{messages:?}");
            assert_eq!(texts(asked.all()), ["Well, ", "X"], "{messages:?}");
        }
        let called =
            json!({"role": "assistant", "content": null, "tool_calls": [{"id": "1", "function": {"arguments": "{}"}}]});
        let tool = json!({"role": "tool", "content": "42"});
        let asked = chat(json!({"messages": [user, called, tool, begun]}));
        assert!(asked.fresh().is_empty(), "it was judged when the tools were asked");
        assert_eq!(texts(asked.all()), ["X", "{}"]);
    }

    #[test]
    fn the_header_says_whose_it_is_before_the_body_does() {
        let mut headers = HeaderMap::new();
        let asked = chat(json!({"messages": [], "user": "b", "safety_identifier": "a"}));
        assert_eq!(asked.ids(&headers).unwrap(), Ids { user: "a".into(), session: None });
        headers.insert("x-throughline-user", "c".parse().unwrap());
        headers.insert("x-throughline-session", "7".parse().unwrap());
        assert_eq!(asked.ids(&headers).unwrap(), Ids { user: "c".into(), session: Some("7".into()) });
        let nobody = chat(json!({"messages": [], "user": ""}));
        assert!(nobody.ids(&HeaderMap::new()).unwrap_err().hint.contains("X-Throughline-User"));
    }

    #[test]
    fn nothing_said_is_left_in_a_blocked_reply() {
        let reply = json!({"id": "1", "model": "m", "usage": {"total_tokens": 3}, "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "secret", "tool_calls": ["secret"]}, "finish_reason": "stop"},
            {"index": 1, "message": {"role": "assistant", "content": null, "refusal": "secret"}, "logprobs": "secret"},
        ]});
        assert_eq!(texts(&reply).unwrap(), ["secret", "secret"]);
        let emptied = emptied(reply);
        assert!(!emptied.to_string().contains("secret"), "{emptied}");
        assert_eq!(emptied["choices"][1]["finish_reason"], "content_filter");
        assert_eq!(emptied["usage"]["total_tokens"], 3);
        assert_eq!(texts(&json!({"error": {}})), None);
        let calls = json!([{"function": {"name": "f", "arguments": "{}"}}, {"custom": {"input": "her street"}}, 7]);
        let message =
            json!({"content": null, "reasoning_content": "hm", "tool_calls": calls, "audio": {"transcript": "aloud"}});
        assert_eq!(texts(&json!({"choices": [{"message": message}]})).unwrap(), ["{}\nher street\naloud"]);
    }

    #[test]
    fn parts_of_a_reply_are_read_and_what_cannot_be_is_no_reply() {
        let of = |message: Value| texts(&json!({"choices": [{"message": message}]}));
        let parts = json!([{"type": "text", "text": "her"}, {"type": "thinking", "thinking": []}, {"type": "refusal", "refusal": "no"},
            {"type": "text", "text": "street"}]);
        assert_eq!(of(json!({"content": parts})).unwrap(), ["her\nno\nstreet"]);
        assert_eq!(of(json!({"content": null, "refusal": null})).unwrap(), [""]);
        for content in
            [json!(7), json!(true), json!({"text": "her"}), json!(["her", 7]), json!([{"text": {"value": "her"}}])]
        {
            assert_eq!(of(json!({"content": content})), None, "{content}");
        }
        assert_eq!(of(json!("her street")), None);
    }
}
