//! One user: how they stand, acknowledgement, legal hold, erasure.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use jiff::Timestamp;

use crate::server::App;
use crate::server::auth::Scope;
use crate::server::desk::{Work, standing};
use crate::server::front::{Body, UserId};
use crate::server::problem::Problem;
use crate::server::queue::Priority;
use crate::server::wire::{AcknowledgeIn, AcknowledgeOut, AlarmOut, HoldIn, UserOut};

/// Bytes of a reviewer's note.
const NOTE_BYTES_MAX: usize = 16 << 10;

/// How a user stands.
#[utoipa::path(get, path = "/v1/users/{user_id}", tag = "users", params(("user_id" = String, Path)),
    responses((status = 200, body = UserOut), (status = 404, body = Problem)))]
pub(in crate::server) async fn stands(
    State(app): State<Arc<App>>,
    UserId(user_id): UserId,
    headers: HeaderMap,
) -> Result<Json<UserOut>, Problem> {
    app.allow(&headers, Scope::Read)?;
    let asked = user_id.clone();
    let (row, sessions, alarms) =
        app.store(move |store| Ok((store.user(&asked)?, store.history(&asked)?, store.alarms_of(&asked)?))).await?;
    let sessions = sessions.ok_or_else(Problem::unknown_user)?;
    Ok(Json(UserOut {
        user_id,
        messages: row.messages,
        sessions: row.sessions,
        held: row.held,
        standing: standing(&sessions, app.scorer.policy()),
        alarms: alarms.into_iter().map(AlarmOut::from).collect(),
    }))
}

/// Note that a person saw every alarm of a user that waited. The state stays as it is.
#[utoipa::path(post, path = "/v1/users/{user_id}/acknowledge", tag = "users", params(("user_id" = String, Path)),
    request_body = AcknowledgeIn, responses((status = 200, body = AcknowledgeOut), (status = 404, body = Problem)))]
pub(in crate::server) async fn acknowledge(
    State(app): State<Arc<App>>,
    UserId(user_id): UserId,
    headers: HeaderMap,
    Body(seen, _): Body<AcknowledgeIn>,
) -> Result<Json<AcknowledgeOut>, Problem> {
    let caller = app.allow(&headers, Scope::Review)?;
    crate::server::front::check_id("by", &seen.by)?;
    if seen.note.len() > NOTE_BYTES_MAX {
        let detail = format!("the note has {} bytes, the limit is {NOTE_BYTES_MAX}", seen.note.len());
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail, "a shorter note"));
    }
    let by = format!("{} ({})", seen.by, caller.name());
    let done = app.store(move |store| store.acknowledge(&user_id, &by, &seen.note, Timestamp::now())).await?;
    done.map(|acknowledged| Json(AcknowledgeOut { acknowledged })).ok_or_else(Problem::unknown_user)
}

/// Set or lift a legal hold, under which nothing of a user is erased.
#[utoipa::path(put, path = "/v1/users/{user_id}/hold", tag = "users", params(("user_id" = String, Path)),
    request_body = HoldIn, responses((status = 204), (status = 404, body = Problem)))]
pub(in crate::server) async fn hold(
    State(app): State<Arc<App>>,
    UserId(user_id): UserId,
    headers: HeaderMap,
    Body(hold, _): Body<HoldIn>,
) -> Result<StatusCode, Problem> {
    let caller = app.allow(&headers, Scope::Admin)?;
    let known = app.store(move |store| store.hold(&user_id, hold.held)).await?;
    tracing::info!(by = caller.name(), held = hold.held, "a legal hold was set or lifted");
    if known { Ok(StatusCode::NO_CONTENT) } else { Err(Problem::unknown_user()) }
}

/// Erase a user: everything that is kept, and the key that it was sealed under.
#[utoipa::path(delete, path = "/v1/users/{user_id}", tag = "users", params(("user_id" = String, Path)),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(in crate::server) async fn erase(
    State(app): State<Arc<App>>,
    UserId(user_id): UserId,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let caller = app.allow(&headers, Scope::Admin)?;
    let asked = user_id.clone();
    let known = app.store(move |store| store.erase(&asked)).await?;
    // What is in memory is of no use any more; a turn that comes before this is refused by the store.
    app.desk.ask(Work::Forget(user_id), Priority::Urgent, 0, app.settings.deadline).await?;
    tracing::info!(by = caller.name(), "a user was erased");
    if known { Ok(StatusCode::NO_CONTENT) } else { Err(Problem::unknown_user()) }
}
