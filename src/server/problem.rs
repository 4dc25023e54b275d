//! Errors as they go out: `application/problem+json` (RFC 9457) with a hint. No text of a transcript stands in them.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::store::StoreError;

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// The HTTP status again.
    pub status: u16,
    /// What kind of problem, always the same words.
    pub title: &'static str,
    /// What was found, and the limit where there is one.
    pub detail: String,
    /// What to do.
    pub hint: String,
    /// The number that was found, where it is known, and the limit that it went beyond; both stand in `detail`, with what they count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Seconds after which to try again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
}

impl Problem {
    pub fn new(status: StatusCode, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            status: status.as_u16(),
            title: status.canonical_reason().unwrap_or("error"),
            detail: detail.into(),
            hint: hint.into(),
            value: None,
            limit: None,
            retry_after_s: None,
        }
    }

    /// With the number that was found, if it is known, and its limit.
    pub fn beyond(self, value: impl Into<Option<usize>>, limit: usize) -> Self {
        Self { value: value.into().map(|value| value as u64), limit: Some(limit as u64), ..self }
    }

    pub fn unknown_user() -> Self {
        Self::new(StatusCode::NOT_FOUND, "nothing is kept of this user", "ids are compared byte by byte")
    }

    /// Nothing more is taken in for now.
    pub fn busy(waiting_tokens: usize, limit_tokens: usize, retry_after_s: u64) -> Self {
        let detail = format!(
            "some {waiting_tokens} tokens wait to be read: with these it would be more than the limit of {limit_tokens}, or take longer \
             than the deadline"
        );
        let hint = "try again after the seconds named, or with a longer X-Deadline-Ms";
        let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, detail, hint);
        Self { retry_after_s: Some(retry_after_s), ..problem.beyond(waiting_tokens, limit_tokens) }
    }

    pub fn late(waited_ms: u128) -> Self {
        let problem = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the deadline passed after {waited_ms} ms; what was begun may yet be kept"),
            "send a turn again with the same idempotency key; a longer X-Deadline-Ms",
        );
        Self { retry_after_s: Some(1), ..problem }
    }

    /// No more of a user can be kept, and so no more is judged.
    pub fn full_history(messages: u64, limit: u64) -> Self {
        let problem = Self::new(
            StatusCode::INSUFFICIENT_STORAGE,
            format!("{messages} messages are kept of this user, the limit is {limit}"),
            "a larger --history-messages-max: until then this user is not judged",
        );
        Self { value: Some(messages), limit: Some(limit), ..problem }
    }

    pub fn stopping() -> Self {
        let problem =
            Self::new(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping", "send it to another, or try again");
        Self { retry_after_s: Some(1), ..problem }
    }

    /// Why the store did not do it. What is no refusal but a failure is logged.
    pub fn of_store(error: StoreError) -> Self {
        if !matches!(error, StoreError::Held | StoreError::WentOn) {
            tracing::error!(%error, "the store failed");
        }
        error.into()
    }

    pub fn broken() -> Self {
        let detail = "the server could not do this; nothing was kept";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail, "its log says why")
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let status = match error {
            StoreError::Held | StoreError::WentOn => StatusCode::CONFLICT,
            StoreError::Full | StoreError::LittleRoom { .. } => StatusCode::INSUFFICIENT_STORAGE,
            StoreError::Busy { .. }
            | StoreError::ReadOnly
            | StoreError::Gone { .. }
            | StoreError::Unreachable(_)
            | StoreError::Slow { .. }
            | StoreError::Unsure => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        // Addresses and what a database says of itself are for the log.
        if let StoreError::Unreachable(_) = error {
            let problem = Self::new(status, "the database cannot be reached", "try again; the server's log says why");
            return Self { retry_after_s: Some(1), ..problem };
        }
        if let StoreError::Other(_) | StoreError::Open { .. } | StoreError::Damaged(_) | StoreError::Gone { .. } = error
        {
            return Self::new(status, "the database failed", "the server's log says why");
        }
        let room = match error {
            StoreError::LittleRoom { free_bytes, least_bytes } => (Some(free_bytes), Some(least_bytes)),
            _ => (None, None),
        };
        let again = matches!(error, StoreError::Busy { .. } | StoreError::Slow { .. } | StoreError::Unsure);
        let text = error.to_string();
        let (detail, hint) = text.split_once("; hint: ").unwrap_or((&text, "its log says more"));
        let (value, limit) = room;
        Self { retry_after_s: again.then_some(1), value, limit, ..Self::new(status, detail, hint) }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry = self.retry_after_s;
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = retry {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
