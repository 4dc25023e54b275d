//! `POST /v1/moderations` in the shape of OpenAI's (API reference, *Moderations*; categories of `omni-moderation-latest`), so that a product that
//! asks there asks here by changing a base URL.
//!
//! A text by itself is judged without any history, which is what this project holds to be too little: with the headers
//! `X-Throughline-User` and `X-Throughline-Session` it is judged as that user's next message. Categories that the
//! model knows nothing of are never flagged, with a score of 0.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::App;
use super::desk::Said;
use super::front::{Body, text_header};
use super::problem::Problem;
use super::queue::Priority;
use super::wire::{MessageOut, StandingOut, millis, objects};
use crate::transcript::{History, Message, Role, Session};
use crate::verdict::Level;

/// Texts of one request.
const INPUTS_MAX: usize = 64;
/// All categories, in the order of the reference.
const CATEGORIES: [&str; 13] = [
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
];
/// From this probability a category is flagged.
const FLAG_MIN: f32 = 0.5;

/// What is asked; `model` and whatever else stands beside the input is not looked at.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ModerationIn {
    pub input: InputIn,
}

/// A text, texts, or the parts of one text.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum InputIn {
    Text(String),
    Texts(Vec<String>),
    Parts(#[serde(deserialize_with = "objects::list")] Vec<PartIn>),
}

/// A part of one text.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum PartIn {
    Text {
        text: String,
    },
    /// Refused: images are not read.
    ImageUrl {},
}

/// What is answered.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModerationOut {
    pub id: String,
    pub model: String,
    /// One a text, in order.
    pub results: Vec<ResultOut>,
}

/// One text.
#[derive(Debug, Serialize, ToSchema)]
pub struct ResultOut {
    pub flagged: bool,
    pub categories: BTreeMap<&'static str, bool>,
    pub category_scores: BTreeMap<&'static str, f32>,
    pub category_applied_input_types: BTreeMap<&'static str, Vec<&'static str>>,
}

/// Judge texts in the shape of OpenAI's moderation.
#[utoipa::path(post, path = "/v1/moderations", tag = "drop-ins", request_body = ModerationIn,
    params(("X-Throughline-User" = Option<String>, Header, min_length = 1, max_length = 256, nullable = false, description = "Judge each text as this user's next message"),
           ("X-Throughline-Session" = Option<String>, Header, min_length = 1, max_length = 256, nullable = false, description = "In this session; without it, in a new one"),
           ("X-Deadline-Ms" = Option<u64>, Header, minimum = 1, maximum = 600_000, nullable = false, description = "Milliseconds until the caller gives up")),
    responses((status = 200, body = ModerationOut), (status = 400, body = Problem, content_type = "application/problem+json"), (status = 408, body = Problem, content_type = "application/problem+json"), (status = 409, body = Problem, content_type = "application/problem+json"), (status = 413, body = Problem, content_type = "application/problem+json"), (status = 415, body = Problem, content_type = "application/problem+json"), (status = 422, body = Problem, content_type = "application/problem+json"), (status = 429, body = Problem, content_type = "application/problem+json"), (status = 401, body = Problem, content_type = "application/problem+json"), (status = 403, body = Problem, content_type = "application/problem+json"), (status = 500, body = Problem, content_type = "application/problem+json"), (status = 503, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn moderations(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Body(asked, _): Body<ModerationIn>,
) -> Result<Json<ModerationOut>, Problem> {
    let texts = texts(asked.input)?;
    let bytes: usize = texts.iter().map(String::len).sum();
    if bytes > app.settings.turn_bytes_max {
        let detail = format!("{bytes} bytes of text, the limit is {}", app.settings.turn_bytes_max);
        let problem = Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail, "several requests");
        return Err(problem.beyond(bytes, app.settings.turn_bytes_max));
    }
    let user = text_header(&headers, "x-throughline-user")?.map(|id| app.known_as(id));
    let session = text_header(&headers, "x-throughline-session")?;
    let deadline = app.deadline(&headers)?;
    let mut results = Vec::with_capacity(texts.len());
    let begun = Instant::now();
    for text in texts {
        let user = user.as_ref().map(|id| (id.clone(), session.clone()));
        let left = deadline.saturating_sub(begun.elapsed());
        results.push(app.moderated(text, user, left).await?);
    }
    let info = app.judges.model();
    let version = info.version.as_deref().map(|version| format!("-{version}")).unwrap_or_default();
    let id = format!("modr-{:x}", Timestamp::now().as_nanosecond());
    Ok(Json(ModerationOut { id, model: format!("{}{version}", info.name), results }))
}

fn texts(input: InputIn) -> Result<Vec<String>, Problem> {
    let unread = |detail: String, hint: &str| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail, hint);
    let texts = match input {
        InputIn::Text(text) => vec![text],
        InputIn::Texts(texts) => texts,
        InputIn::Parts(parts) => {
            let text = parts.into_iter().map(|part| match part {
                PartIn::Text { text } => Ok(text),
                PartIn::ImageUrl { .. } => Err(unread("an image is among the parts".into(), "text alone is read")),
            });
            vec![text.collect::<Result<Vec<String>, Problem>>()?.join("\n")]
        }
    };
    if texts.is_empty() || texts.len() > INPUTS_MAX {
        let detail = format!("{} texts, the limits are 1 and {INPUTS_MAX}", texts.len());
        return Err(
            unread(detail, "several requests").beyond(texts.len(), if texts.is_empty() { 1 } else { INPUTS_MAX })
        );
    }
    Ok(texts)
}

impl App {
    async fn moderated(
        &self,
        text: String,
        user: Option<(String, Option<String>)>,
        deadline: Duration,
    ) -> Result<ResultOut, Problem> {
        let now = millis(Timestamp::now());
        let message = Message { role: Role::User, content: text, timestamp: Some(now) };
        match user {
            Some((user_id, session_id)) => {
                // No session of a user has an empty id: this is a new one.
                let session_id = session_id.unwrap_or_default();
                let said = Said { user_id, session_id, session_started_at: None, messages: vec![message], now };
                let out = self.considered(said, deadline).await?;
                Ok(self.result(&out.messages, &out.standing, out.flagged))
            }
            None => {
                let session = Session { session_id: String::new(), started_at: None, messages: vec![message] };
                let out = self
                    .scored(History { user_id: String::new(), sessions: vec![session] }, Priority::Urgent, deadline)
                    .await?;
                let flagged = out.standing.level >= Level::Review;
                Ok(self.result(&out.messages, &out.standing, flagged))
            }
        }
    }

    fn result(&self, messages: &[MessageOut], standing: &StandingOut, flagged: bool) -> ResultOut {
        let (mut harassment, mut imminent) = (0.0, 0.0);
        if let Some(last) = messages.last() {
            harassment = last.scores.harassment[2] + last.scores.harassment[3];
            imminent = last.scores.imminent;
        }
        let threat = standing.level == Level::Urgent && imminent >= self.judges.current().policy.imminent_min();
        let score = |category: &str| match category {
            "harassment" => harassment,
            "harassment/threatening" => harassment * imminent,
            "violence" => imminent,
            _ => 0.0,
        };
        let of = |category: &'static str| (category, score(category));
        let scores: BTreeMap<_, _> = CATEGORIES.into_iter().map(of).collect();
        let flags: BTreeMap<_, _> = scores
            .iter()
            .map(|(category, score)| (*category, *score >= FLAG_MIN || *category == "violence" && threat))
            .collect();
        let types = CATEGORIES.into_iter().map(|category| (category, vec!["text"])).collect();
        ResultOut {
            flagged: flagged || flags.values().any(|flag| *flag),
            categories: flags,
            category_scores: scores,
            category_applied_input_types: types,
        }
    }
}
