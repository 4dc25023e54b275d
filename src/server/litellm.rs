//! `POST /beta/litellm_basic_guardrail_api`: LiteLLM's generic guardrail (its documentation, *Generic Guardrail API*, beta), so that its proxy asks
//! here before a prompt goes out and before a reply comes back.
//!
//! LiteLLM sends the whole conversation with every request: all its texts, and beside them, where it has them, the messages with their roles. Of a
//! request what the user said since the assistant last spoke is judged, and where there are texts alone, the last of them; of a response
//! every text is the assistant's. These are judged in the user's history and, where LiteLLM says whose it is, kept as turns. A reply that
//! is streamed may be asked about again and again as it grows: every version is judged, and the first is kept. Images and tool calls
//! are not read.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::App;
use super::desk::{Said, Work};
use super::front::{Body, check_id};
use super::problem::Problem;
use super::proxy::{ChatMessage, fresh};
use super::queue::Priority;
use super::routes::tokens;
use super::wire::{millis, objects};
use crate::transcript::{History, Message, Role, Session};
use crate::verdict::Level;

/// From this level on a message that it rests on is blocked, where the configuration names none.
const BLOCK_AT: Level = Level::Urgent;

/// What LiteLLM asks; whatever else stands beside it is not looked at.
#[derive(Debug, Deserialize, ToSchema)]
pub struct GuardrailIn {
    /// The texts of the conversation, the oldest first, whoever they are from.
    #[serde(default)]
    pub texts: Vec<String>,
    /// The conversation with its roles, of a request.
    #[serde(default, deserialize_with = "objects::list_or_null")]
    pub structured_messages: Option<Vec<ChatMessage>>,
    pub input_type: InputType,
    #[serde(default, deserialize_with = "objects::one_or_null")]
    pub request_data: Option<RequestData>,
    /// One a request and its response.
    #[serde(default)]
    pub litellm_call_id: Option<String>,
    /// One a conversation, where the client sends it: its session.
    #[serde(default)]
    pub litellm_trace_id: Option<String>,
    #[serde(default, deserialize_with = "objects::one_or_null")]
    pub additional_provider_specific_params: Option<Params>,
}

/// Before the model or after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum InputType {
    Request,
    Response,
}

/// Whose conversation it is.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct RequestData {
    /// The `user` of the request.
    #[serde(default)]
    pub user_api_key_end_user_id: Option<String>,
    /// The owner of the key.
    #[serde(default)]
    pub user_api_key_user_id: Option<String>,
}

/// What the operator sets in LiteLLM's configuration.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct Params {
    /// From which level on a message that it rests on is blocked: `review`, `senior`, `urgent` (unless set), or `none` for never.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub block_at: Option<Level>,
    /// Whether turns are kept, so that the next is judged with them; they are unless this says `false`.
    #[serde(default)]
    pub keep: Option<bool>,
}

/// What LiteLLM is to do.
#[derive(Debug, Serialize, ToSchema)]
pub struct GuardrailOut {
    /// `NONE` or `BLOCKED`.
    pub action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked_reason: Option<&'static str>,
}

/// Judge a prompt or a reply for LiteLLM.
#[utoipa::path(post, path = "/beta/litellm_basic_guardrail_api", tag = "drop-ins", request_body = GuardrailIn,
    params(("X-Deadline-Ms" = Option<u64>, Header, minimum = 1, maximum = 600_000, nullable = false, description = "Milliseconds until the caller gives up")),
    responses((status = 200, body = GuardrailOut), (status = 400, body = Problem, content_type = "application/problem+json"), (status = 408, body = Problem, content_type = "application/problem+json"), (status = 413, body = Problem, content_type = "application/problem+json"),
              (status = 415, body = Problem, content_type = "application/problem+json"), (status = 422, body = Problem, content_type = "application/problem+json"), (status = 429, body = Problem, content_type = "application/problem+json"), (status = 507, body = Problem, content_type = "application/problem+json"),
              (status = 401, body = Problem, content_type = "application/problem+json"), (status = 403, body = Problem, content_type = "application/problem+json"), (status = 500, body = Problem, content_type = "application/problem+json"), (status = 503, body = Problem, content_type = "application/problem+json"), (status = 409, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn guardrail(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Body(mut asked, _): Body<GuardrailIn>,
) -> Result<Json<GuardrailOut>, Problem> {
    let (role, texts) = said(&mut asked);
    let now = millis(Timestamp::now());
    let message = |content| Message { role, content, timestamp: Some(now) };
    let messages: Vec<Message> = texts.into_iter().filter(|text| !text.is_empty()).map(message).collect();
    if messages.is_empty() {
        return Ok(Json(GuardrailOut { action: "NONE", blocked_reason: None }));
    }
    app.bound_turn(&messages)?;
    let deadline = app.deadline(&headers)?;
    let params = asked.additional_provider_specific_params.unwrap_or_default();
    let data = asked.request_data.unwrap_or_default();
    let user = data.user_api_key_end_user_id.or(data.user_api_key_user_id).filter(|id| !id.is_empty());
    let Some(user_id) = user else {
        let session = Session { session_id: String::new(), started_at: None, messages };
        let alone = History { user_id: String::new(), sessions: vec![session] };
        let out = app.scored(alone, Priority::Urgent, deadline).await?;
        return Ok(Json(decided(out.standing.level, out.standing.level >= Level::Review, params.block_at)));
    };
    check_id("the user's id", &user_id)?;
    let user_id = app.known_as(user_id);
    let session_id = asked.litellm_trace_id.filter(|id| !id.is_empty()).unwrap_or_else(|| "litellm".into());
    check_id("litellm_trace_id", &session_id)?;
    let turn = || Said {
        user_id: user_id.clone(),
        session_id: session_id.clone(),
        session_started_at: None,
        messages: messages.clone(),
        now,
    };
    let out = app.considered(turn(), deadline).await?;
    let decided = decided(out.standing.level, out.flagged, params.block_at);
    if params.keep != Some(false) {
        // The same call may be asked about again: it is kept once.
        let key = asked.litellm_call_id.filter(|id| check_id("litellm_call_id", id).is_ok());
        let text: Vec<&str> = messages.iter().map(|message| message.content.as_str()).collect();
        let request = key.map(|id| (format!("litellm {role:?} {id}"), app.store.digest(text.join("\n").as_bytes())));
        let kept = app.desk.ask(Work::Turn(turn(), request), Priority::Urgent, tokens(&messages), deadline).await;
        // That another text of this call is kept is no reason to stop the reply.
        if let Err(problem) = kept
            && problem.status != StatusCode::UNPROCESSABLE_ENTITY.as_u16()
        {
            // What is to be blocked is, whatever else fails: an error lets it pass where LiteLLM is to fail open.
            if decided.blocked_reason.is_none() {
                return Err(problem);
            }
            tracing::warn!(detail = problem.detail, "a turn that is blocked could not be kept");
        }
    }
    Ok(Json(decided))
}

/// Whose texts are judged, and which.
fn said(asked: &mut GuardrailIn) -> (Role, Vec<String>) {
    let mut texts = std::mem::take(&mut asked.texts);
    match (asked.input_type, &asked.structured_messages) {
        (InputType::Response, _) => (Role::Assistant, texts),
        (InputType::Request, Some(messages)) if !messages.is_empty() => {
            (Role::User, fresh(messages).into_iter().map(|(_, text)| text).collect())
        }
        (InputType::Request, _) => (Role::User, texts.pop().into_iter().collect()),
    }
}

/// Blocks what a level rests on that is high enough.
fn decided(level: Level, flagged: bool, block_at: Option<Level>) -> GuardrailOut {
    let at = block_at.unwrap_or(BLOCK_AT);
    let blocked = flagged && at > Level::None && level >= at;
    let blocked_reason = blocked.then_some("held for review by a person");
    GuardrailOut { action: if blocked { "BLOCKED" } else { "NONE" }, blocked_reason }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_is_what_the_user_said_last_and_a_response_the_assistants() {
        let read = |asked: serde_json::Value| said(&mut serde_json::from_value(asked).unwrap());
        let of = |role, texts: &[&str]| (role, texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        let told = |role: &str, content: serde_json::Value| json!({"role": role, "content": content});
        let parts = json!([{"type": "text", "text": "a threat"}, {"type": "text", "text": "thanks"}]);
        let texts = json!(["be kind", "hello", "a threat", "thanks"]);
        let request = |messages: serde_json::Value| json!({"input_type": "request", "texts": texts, "structured_messages": messages});
        let asked = json!([told("system", json!("be kind")), told("assistant", json!("hello")), told("user", parts)]);
        assert_eq!(read(request(asked)), of(Role::User, &["a threat\nthanks"]));
        // What a tool says is not the user's.
        let called = json!({"role": "assistant", "content": null, "tool_calls": [{"id": "1"}]});
        let tool = json!([told("user", json!("sum it up")), called, told("tool", json!("a threat"))]);
        assert_eq!(read(request(tool)), of(Role::User, &[]));
        for nobody in [json!(null), json!([])] {
            assert_eq!(read(request(nobody)), of(Role::User, &["thanks"]));
        }
        let response = json!({"input_type": "response", "texts": ["one", "two"]});
        assert_eq!(read(response), of(Role::Assistant, &["one", "two"]));
    }

    #[test]
    fn only_what_a_level_rests_on_is_blocked() {
        let action = |level, flagged, at| decided(level, flagged, at).action;
        assert_eq!(action(Level::Urgent, true, None), "BLOCKED");
        assert_eq!(action(Level::Urgent, false, None), "NONE", "innocent talk of somebody who is reviewed");
        assert_eq!(action(Level::Senior, true, None), "NONE");
        assert_eq!(action(Level::Senior, true, Some(Level::Review)), "BLOCKED");
        assert_eq!(action(Level::Watch, true, Some(Level::Review)), "NONE");
        assert_eq!(action(Level::Urgent, true, Some(Level::None)), "NONE");
    }
}
