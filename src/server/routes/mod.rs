//! What is asked, one handler each.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;

use super::App;
use super::desk::{Answer, Said, Work};
use super::front::{Body, check_id, json, text_header};
use super::openapi::openapi;
use super::problem::Problem;
use super::queue::Priority;
use super::wire::{CheckIn, CheckOut, MessageIn, ScoreIn, ScoreOut, TurnIn, TurnOut, millis};
use crate::transcript::{History, Message, Session};

pub(super) mod alarms;
pub(super) mod users;

/// Messages of one turn or draft.
pub(super) const TURN_MESSAGES_MAX: usize = 256;
/// Bytes of text that make a token, about.
const TOKEN_BYTES: usize = 3;
/// Tokens around a message.
const WRAP_TOKENS: usize = 8;

/// About how many tokens messages are, for the queue.
pub(super) fn tokens(messages: &[Message]) -> usize {
    messages.iter().map(|message| message.content.len() / TOKEN_BYTES + WRAP_TOKENS).sum()
}

impl App {
    /// Whether no more is said at once than is read at once.
    pub(super) fn bound_turn(&self, messages: &[Message]) -> Result<(), Problem> {
        if messages.is_empty() || messages.len() > TURN_MESSAGES_MAX {
            let detail = format!("{} messages, the limits are 1 and {TURN_MESSAGES_MAX}", messages.len());
            let hint = "send a long history in parts, in order";
            let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail, hint);
            return Err(problem.beyond(messages.len(), if messages.is_empty() { 1 } else { TURN_MESSAGES_MAX }));
        }
        self.bound_bytes(messages)
    }

    fn bound_bytes(&self, messages: &[Message]) -> Result<(), Problem> {
        let (bytes, limit) =
            (messages.iter().map(|one| one.content.len()).sum::<usize>(), self.settings.turn_bytes_max);
        if bytes > limit {
            let detail = format!("{bytes} bytes are said at once, the limit is {limit}");
            let hint = "send its beginning and its end, or start the server with a larger --turn-bytes-max: it is read at once, while its caller waits";
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail, hint).beyond(bytes, limit));
        }
        Ok(())
    }

    /// What is said in a turn or draft, within its limits.
    fn said(
        &self,
        (user_id, session_id): (String, String),
        session_started_at: Option<Timestamp>,
        messages: Vec<MessageIn>,
    ) -> Result<Said, Problem> {
        check_id("user_id", &user_id)?;
        check_id("session_id", &session_id)?;
        let now = millis(Timestamp::now());
        let messages: Vec<Message> = messages.into_iter().map(|message| message.into_message(now)).collect();
        self.bound_turn(&messages)?;
        Ok(Said {
            user_id: self.known_as(user_id),
            session_id,
            session_started_at: session_started_at.map(|time| millis(time).min(now)),
            messages,
            now,
        })
    }
}

/// Append messages of a user's session.
///
/// They are judged in the user's history, kept, and then answered.
#[utoipa::path(post, path = "/v1/turns", tag = "turns", request_body = TurnIn,
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 256, nullable = false, description = "The same again with the same key is done once"),
           ("X-Deadline-Ms" = Option<u64>, Header, minimum = 1, maximum = 600_000, nullable = false, description = "Milliseconds until the caller gives up")),
    responses((status = 200, body = TurnOut), (status = 400, body = Problem, content_type = "application/problem+json"), (status = 408, body = Problem, content_type = "application/problem+json"), (status = 413, body = Problem, content_type = "application/problem+json"), (status = 415, body = Problem, content_type = "application/problem+json"), (status = 422, body = Problem, content_type = "application/problem+json"), (status = 429, body = Problem, content_type = "application/problem+json"), (status = 507, body = Problem, content_type = "application/problem+json"), (status = 401, body = Problem, content_type = "application/problem+json"), (status = 403, body = Problem, content_type = "application/problem+json"), (status = 500, body = Problem, content_type = "application/problem+json"), (status = 503, body = Problem, content_type = "application/problem+json"), (status = 409, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn turn(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Body(turn, bytes): Body<TurnIn>,
) -> Result<Response, Problem> {
    let key = text_header(&headers, "idempotency-key")?.or(turn.idempotency_key);
    key.as_deref().map_or(Ok(()), |key| check_id("the idempotency key", key))?;
    let request = key.map(|key| (key, app.store.digest(&bytes)));
    let ids = (turn.user_id, turn.session_id);
    let said = app.said(ids, turn.session_started_at, turn.messages)?;
    let (tokens, deadline) = (tokens(&said.messages), app.deadline(&headers)?);
    match app.desk.ask(Work::Turn(said, request), Priority::Urgent, tokens, deadline).await? {
        Answer::Turn(answer, again) => {
            let mut response = json(answer);
            if again {
                response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
            }
            Ok(response)
        }
        _ => Err(Problem::broken()),
    }
}

/// Judge a draft in a user's history without keeping it.
#[utoipa::path(post, path = "/v1/check", tag = "turns", request_body = CheckIn,
    params(("X-Deadline-Ms" = Option<u64>, Header, minimum = 1, maximum = 600_000, nullable = false, description = "Milliseconds until the caller gives up")),
    responses((status = 200, body = CheckOut), (status = 400, body = Problem, content_type = "application/problem+json"), (status = 408, body = Problem, content_type = "application/problem+json"), (status = 413, body = Problem, content_type = "application/problem+json"), (status = 415, body = Problem, content_type = "application/problem+json"), (status = 422, body = Problem, content_type = "application/problem+json"), (status = 429, body = Problem, content_type = "application/problem+json"), (status = 401, body = Problem, content_type = "application/problem+json"), (status = 403, body = Problem, content_type = "application/problem+json"), (status = 500, body = Problem, content_type = "application/problem+json"), (status = 503, body = Problem, content_type = "application/problem+json"), (status = 409, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn check(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Body(draft, _): Body<CheckIn>,
) -> Result<Json<CheckOut>, Problem> {
    let ids = (draft.user_id, draft.session_id);
    let said = app.said(ids, draft.session_started_at, draft.messages)?;
    let deadline = app.deadline(&headers)?;
    app.considered(said, deadline).await.map(Json)
}

impl App {
    pub(super) async fn considered(&self, said: Said, deadline: Duration) -> Result<CheckOut, Problem> {
        let tokens = tokens(&said.messages);
        match self.desk.ask(Work::Check(said), Priority::Urgent, tokens, deadline).await? {
            Answer::Check(out) => Ok(out),
            _ => Err(Problem::broken()),
        }
    }

    pub(super) async fn scored(
        &self,
        history: History,
        priority: Priority,
        deadline: Duration,
    ) -> Result<ScoreOut, Problem> {
        let tokens = history.sessions.iter().map(|session| tokens(&session.messages)).sum();
        match self.desk.ask(Work::Score(history), priority, tokens, deadline).await? {
            Answer::Score(out) => Ok(out),
            _ => Err(Problem::broken()),
        }
    }
}

/// Judge a whole history, of which nothing is kept.
#[utoipa::path(post, path = "/v1/score", tag = "turns", request_body = ScoreIn,
    params(("X-Deadline-Ms" = Option<u64>, Header, minimum = 1, maximum = 600_000, nullable = false, description = "Milliseconds until the caller gives up")),
    responses((status = 200, body = ScoreOut), (status = 400, body = Problem, content_type = "application/problem+json"), (status = 408, body = Problem, content_type = "application/problem+json"), (status = 413, body = Problem, content_type = "application/problem+json"), (status = 415, body = Problem, content_type = "application/problem+json"), (status = 422, body = Problem, content_type = "application/problem+json"), (status = 429, body = Problem, content_type = "application/problem+json"), (status = 401, body = Problem, content_type = "application/problem+json"), (status = 403, body = Problem, content_type = "application/problem+json"), (status = 500, body = Problem, content_type = "application/problem+json"), (status = 503, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn score(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Body(asked, _): Body<ScoreIn>,
) -> Result<Json<ScoreOut>, Problem> {
    let session = |session: super::wire::SessionIn| Session {
        session_id: session.session_id,
        started_at: session.started_at.map(millis),
        messages: session
            .messages
            .into_iter()
            .map(|message| Message {
                role: message.role,
                content: message.content,
                timestamp: message.timestamp.map(millis),
            })
            .collect(),
    };
    let sessions: Vec<Session> = asked.sessions.into_iter().map(session).collect();
    let empty = sessions.iter().position(|session| session.messages.is_empty());
    if let Some(place) =
        empty.map(|index| format!("sessions[{index}].messages")).or(sessions.is_empty().then(|| "sessions".into()))
    {
        let problem =
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{place} is empty"), "sessions with messages");
        return Err(problem.beyond(0, 1));
    }
    for message in sessions.iter().flat_map(|session| &session.messages) {
        app.bound_bytes(std::slice::from_ref(message))?;
    }
    let deadline = app.deadline(&headers)?;
    app.scored(History { user_id: String::new(), sessions }, Priority::Batch, deadline).await.map(Json)
}

/// Whether the process lives, and the thread that judges: without it, nothing but a new process helps.
#[utoipa::path(get, path = "/healthz", tag = "operation", security(()),
    responses((status = 200, body = String), (status = 500, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn healthy(State(app): State<Arc<App>>) -> Result<&'static str, Problem> {
    if app.desk.is_alive() { Ok("ok\n") } else { Err(Problem::broken()) }
}

/// Whether turns can be taken in now: there is room in the queue, and the store can be written.
#[utoipa::path(get, path = "/readyz", tag = "operation", security(()),
    responses((status = 200, body = String), (status = 429, body = Problem, content_type = "application/problem+json"), (status = 500, body = Problem, content_type = "application/problem+json"),
              (status = 503, body = Problem, content_type = "application/problem+json"), (status = 507, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn ready(State(app): State<Arc<App>>) -> Result<&'static str, Problem> {
    if let Some(waiting) = app.desk.full_of() {
        return Err(Problem::busy(waiting, app.settings.desk.queue_tokens_max, 1));
    }
    if !app.desk.is_alive() {
        return Err(Problem::broken());
    }
    app.store(|store| store.check_writable()).await?;
    Ok("ready\n")
}

/// Counts, in the Prometheus text format.
#[utoipa::path(get, path = "/metrics", tag = "operation",
    responses((status = 200, body = String, content_type = "application/openmetrics-text"), (status = 401, body = Problem, content_type = "application/problem+json"), (status = 403, body = Problem, content_type = "application/problem+json"), (status = 429, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    // Counts are asked for most when the database is away.
    let open_alarms = app.store(|store| store.open_alarms()).await.ok();
    let text = app.metrics.text(app.desk.waiting(), open_alarms);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// This description.
#[utoipa::path(get, path = "/openapi.json", tag = "operation", security(()), responses((status = 200, body = Object)))]
pub(super) async fn description() -> Response {
    json(openapi().into_bytes())
}

/// Any other path.
pub(super) async fn nowhere() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is nothing at this path", "GET /openapi.json lists what there is")
}

/// A path that is there, asked in another way.
pub(super) async fn not_so() -> Problem {
    let detail = "this path is not asked with this method";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail, "GET /openapi.json lists what there is")
}
