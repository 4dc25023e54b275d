//! One user: how they stand, acknowledgement, legal hold, erasure.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json};
use jiff::Timestamp;

use crate::arc::{ArcKind, MessageAt};
use crate::scorer::TargetScore;
use crate::server::App;
use crate::server::auth::{Caller, Scope};
use crate::server::front::{Asked, Body, UserId, bearer, check_id};
use crate::server::judging::Judging;
use crate::server::problem::Problem;
use crate::server::user::{standing, tell_of_alarm, toward, unseen_alarm};
use crate::server::wire::{
    AcknowledgeIn, AcknowledgeOut, AlarmOut, HoldIn, KeptOut, MessagesOut, MessagesQuery, TargetOut, TargetsOut,
    UserOut, record,
};
use crate::store::{KeptSession, NewAlarm, Seen, Store, StoreError};
use crate::verdict::Level;

/// Characters of a reviewer's note.
const NOTE_CHARS_MAX: usize = 4_096;
/// Messages in one answer.
const MESSAGES_MAX: u64 = 1_000;
/// How often what came after an alarm is judged again because more came meanwhile.
const TRIES: usize = 8;

/// How a user stands.
#[utoipa::path(get, path = "/v1/users/{user_id}", tag = "users", params(("user_id" = String, Path)),
    responses((status = 200, body = UserOut), (status = 404, body = Problem, content_type = "application/problem+json"), (status = 401, body = Problem, content_type = "application/problem+json"), (status = 403, body = Problem, content_type = "application/problem+json"), (status = 500, body = Problem, content_type = "application/problem+json"), (status = 503, body = Problem, content_type = "application/problem+json"), (status = 400, body = Problem, content_type = "application/problem+json"), (status = 422, body = Problem, content_type = "application/problem+json"), (status = 429, body = Problem, content_type = "application/problem+json")))]
pub(in crate::server) async fn stands(
    State(app): State<Arc<App>>,
    UserId(user_id): UserId,
) -> Result<Json<UserOut>, Problem> {
    let asked = user_id.clone();
    let (row, sessions, alarms) =
        app.store(move |store| Ok((store.user(&asked)?, store.scores(&asked)?, store.alarms_of(&asked)?))).await?;
    let sessions = sessions.ok_or_else(Problem::unknown_user)?;
    Ok(Json(UserOut {
        user_id,
        messages: row.messages,
        sessions: row.sessions,
        held: row.held,
        standing: standing(&sessions, &row, &app.judges.current()),
        alarms: alarms.alarms.into_iter().map(AlarmOut::from).collect(),
        unreadable_alarms: alarms.unreadable,
    }))
}

/// What is kept of a user's messages, for tokens with the scopes `read` and `review`: places, times, scores, and digests of what was said, a thousand at a time.
#[utoipa::path(get, path = "/v1/users/{user_id}/messages", tag = "users", params(("user_id" = String, Path), MessagesQuery),
    responses((status = 200, body = MessagesOut), (status = 404, body = Problem, content_type = "application/problem+json"), (status = 401, body = Problem, content_type = "application/problem+json"), (status = 403, body = Problem, content_type = "application/problem+json"), (status = 500, body = Problem, content_type = "application/problem+json"), (status = 503, body = Problem, content_type = "application/problem+json"), (status = 400, body = Problem, content_type = "application/problem+json"), (status = 422, body = Problem, content_type = "application/problem+json"), (status = 429, body = Problem, content_type = "application/problem+json")))]
pub(in crate::server) async fn messages(
    State(app): State<Arc<App>>,
    UserId(user_id): UserId,
    headers: HeaderMap,
    Asked(asked): Asked<MessagesQuery>,
) -> Result<Json<MessagesOut>, Problem> {
    // Who guesses a short text can tell by its digest whether it was said: it takes both.
    app.allow(bearer(&headers), Scope::Read)?;
    let (first, end) = (asked.first, asked.first.saturating_add(MESSAGES_MAX));
    // What comes between the two makes the last page one that is not the last.
    let read = move |store: &Store| Ok((store.scores_of(&user_id, first..end)?, store.user(&user_id)?));
    let (sessions, row) = app.store(read).await?;
    let sessions = sessions.ok_or_else(Problem::unknown_user)?;
    let found =
        sessions.iter().flat_map(|session| session.messages.iter().map(|message| (&session.session_id, message)));
    let messages = found.zip(first..).map(|((session_id, message), number)| KeptOut::of(number, session_id, message));
    Ok(Json(MessagesOut { messages: messages.collect(), next: (end < row.messages).then_some(end) }))
}

/// Toward whom a user's evidence is, for tokens with the scopes `read` and `review`: who is who is read from what was said, with a model of English that is wrong once in thirty links.
#[utoipa::path(get, path = "/v1/users/{user_id}/targets", tag = "users", params(("user_id" = String, Path)),
    responses((status = 200, body = TargetsOut), (status = 404, body = Problem, content_type = "application/problem+json"), (status = 401, body = Problem, content_type = "application/problem+json"), (status = 403, body = Problem, content_type = "application/problem+json"), (status = 429, body = Problem, content_type = "application/problem+json"), (status = 500, body = Problem, content_type = "application/problem+json"), (status = 503, body = Problem, content_type = "application/problem+json"), (status = 400, body = Problem, content_type = "application/problem+json"), (status = 422, body = Problem, content_type = "application/problem+json")))]
pub(in crate::server) async fn targets(
    State(app): State<Arc<App>>,
    UserId(user_id): UserId,
    headers: HeaderMap,
) -> Result<Json<TargetsOut>, Problem> {
    // What users call people was said by them: it takes both.
    app.allow(bearer(&headers), Scope::Read)?;
    let (judging, pseudonymous) = (app.judges.current(), app.settings.pseudonymous_targets);
    let judged_by = judging.by.clone();
    // A whole history is opened for it: one at a time. The semaphore is never closed.
    let _alone = app.opened.acquire().await.map_err(|_| Problem::broken())?;
    let read = move |store: &Store| Ok(store.history(&user_id)?.map(|sessions| toward(&sessions, &judging)));
    let (mut found, unread_messages) = app.store(read).await?.ok_or_else(Problem::unknown_user)?;
    if pseudonymous {
        found.iter_mut().for_each(TargetScore::pseudonymise);
    }
    Ok(Json(TargetsOut { targets: found.into_iter().map(TargetOut::from).collect(), unread_messages, judged_by }))
}

/// Note that a person saw the alarms of a user that waited: every one, or those up to the one that they looked at (`up_to`). What was said after that one nobody saw: it raises an alarm with the acknowledgement, unless one of its level waits. The state stays as it is; what came since is told beside it (`since_seen`).
#[utoipa::path(post, path = "/v1/users/{user_id}/acknowledge", tag = "users", params(("user_id" = String, Path)),
    request_body = AcknowledgeIn, responses((status = 200, body = AcknowledgeOut), (status = 404, body = Problem, content_type = "application/problem+json"), (status = 400, body = Problem, content_type = "application/problem+json"), (status = 409, body = Problem, content_type = "application/problem+json"), (status = 408, body = Problem, content_type = "application/problem+json"), (status = 413, body = Problem, content_type = "application/problem+json"), (status = 415, body = Problem, content_type = "application/problem+json"), (status = 422, body = Problem, content_type = "application/problem+json"), (status = 429, body = Problem, content_type = "application/problem+json"), (status = 401, body = Problem, content_type = "application/problem+json"), (status = 403, body = Problem, content_type = "application/problem+json"), (status = 500, body = Problem, content_type = "application/problem+json"), (status = 503, body = Problem, content_type = "application/problem+json"), (status = 507, body = Problem, content_type = "application/problem+json")))]
pub(in crate::server) async fn acknowledge(
    State(app): State<Arc<App>>,
    UserId(user_id): UserId,
    Extension(caller): Extension<Caller>,
    Body(seen, _): Body<AcknowledgeIn>,
) -> Result<Json<AcknowledgeOut>, Problem> {
    check_id("by", &seen.by)?;
    let chars = seen.note.chars().count();
    if chars > NOTE_CHARS_MAX {
        let detail = format!("the note has {chars} characters, the limit is {NOTE_CHARS_MAX}");
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail, "a shorter note");
        return Err(problem.beyond(chars, NOTE_CHARS_MAX));
    }
    if let Some(id) = seen.up_to.filter(|id| *id < 1) {
        let detail = format!("up_to is {id}, the least id of an alarm is 1");
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail, "the id of an alarm, or leave it out");
        return Err(problem.beyond(usize::try_from(id).ok(), 1));
    }
    let by = format!("{} ({})", seen.by, caller.name());
    let done = match seen.up_to {
        Some(up_to) => app.look_up_to(Look { user_id, up_to, by, note: seen.note }).await?,
        None => app.store(move |store| store.acknowledge(&user_id, &by, &seen.note, Timestamp::now())).await?,
    };
    done.map(|acknowledged| Json(AcknowledgeOut { acknowledged })).ok_or_else(Problem::unknown_user)
}

/// A person's look at the alarms of a user up to one.
struct Look {
    user_id: String,
    up_to: i64,
    by: String,
    note: String,
}

/// What was noted: how many alarms had waited, and which was raised. `None` of a user who is not known.
type Noted = Option<(usize, Option<(i64, Level)>)>;

impl App {
    /// Notes it, and tells of the alarm that what came after is worth; how many had waited.
    async fn look_up_to(self: &Arc<Self>, look: Look) -> Result<Option<usize>, Problem> {
        // A whole history may be opened for it, see `targets`.
        let _alone = self.opened.acquire().await.map_err(|_| Problem::broken())?;
        let app = self.clone();
        // All of it in one piece: whoever asked may go away, and the alarm is told all the same.
        let note = move |store: &Store| {
            let Some((acknowledged, raised)) = look.note(store, &app)? else { return Ok(None) };
            if let Some(raised) = raised {
                tell_of_alarm(raised, &app.metrics, &app.alarms);
            }
            Ok(Some(acknowledged))
        };
        self.store(note).await
    }
}

impl Look {
    /// Keeps it, behind what comes meanwhile.
    fn note(&self, store: &Store, app: &App) -> Result<Noted, StoreError> {
        let (judging, keeps_content) = (app.judges.current(), app.settings.desk.keep_content);
        for _ in 1..TRIES {
            match self.try_to_note(store, &judging, keeps_content) {
                Err(StoreError::WentOn) => {}
                done => return done,
            }
        }
        self.try_to_note(store, &judging, keeps_content)
    }

    /// Keeps it with the alarm that what came after is worth; refused where more came since that was read.
    fn try_to_note(&self, store: &Store, judging: &Judging, keeps_content: bool) -> Result<Noted, StoreError> {
        let Self { user_id, up_to, by, note } = self;
        let Some(user) = store.seen_up_to(user_id, *up_to)? else {
            return Ok((store.user(user_id)?.id != 0).then_some((0, None)));
        };
        let sessions = store.scores(user_id)?.ok_or(StoreError::WentOn)?;
        let raised = unseen_alarm(&sessions, &user, &judging.policy).zip(last_place(&sessions));
        // What was said is opened for an alarm alone.
        let targets = match &raised {
            Some(_) if keeps_content => Some(toward(&store.history(user_id)?.unwrap_or_default(), judging).0),
            _ => None,
        };
        let record = raised.as_ref().map(|((_, verdict), _)| record(verdict, &judging.by, targets)).unwrap_or_default();
        let alarm = raised.map(|((level, verdict), at)| {
            let arcs = ArcKind::ALL.map(|kind| verdict.arc_level(kind));
            NewAlarm { level, arcs, at, verdict: &record }
        });
        let now = Timestamp::now();
        let seen = Seen { user_id, up_to: *up_to, user, alarm, by, note, now };
        let (acknowledged, id) = store.acknowledge_up_to(&seen)?;
        Ok(Some((acknowledged, id.zip(alarm.map(|alarm| alarm.level)))))
    }
}

/// The last message that is kept: whoever looks at an alarm that was raised there has seen it.
fn last_place(sessions: &[KeptSession]) -> Option<MessageAt> {
    sessions.iter().flat_map(|session| &session.messages).next_back().map(|message| message.at)
}

/// Set or lift a legal hold, under which nothing of a user is erased; it may be set before the user's first turn.
#[utoipa::path(put, path = "/v1/users/{user_id}/hold", tag = "users", params(("user_id" = String, Path)),
    request_body = HoldIn, responses((status = 204), (status = 404, body = Problem, content_type = "application/problem+json"), (status = 400, body = Problem, content_type = "application/problem+json"), (status = 408, body = Problem, content_type = "application/problem+json"), (status = 413, body = Problem, content_type = "application/problem+json"), (status = 415, body = Problem, content_type = "application/problem+json"), (status = 422, body = Problem, content_type = "application/problem+json"), (status = 429, body = Problem, content_type = "application/problem+json"), (status = 401, body = Problem, content_type = "application/problem+json"), (status = 403, body = Problem, content_type = "application/problem+json"), (status = 500, body = Problem, content_type = "application/problem+json"), (status = 503, body = Problem, content_type = "application/problem+json"), (status = 507, body = Problem, content_type = "application/problem+json")))]
pub(in crate::server) async fn hold(
    State(app): State<Arc<App>>,
    UserId(user_id): UserId,
    Extension(caller): Extension<Caller>,
    Body(hold, _): Body<HoldIn>,
) -> Result<StatusCode, Problem> {
    if !app.store(move |store| store.hold(&user_id, hold.held, Timestamp::now())).await? {
        return Err(Problem::unknown_user());
    }
    tracing::info!(by = caller.name(), held = hold.held, "a legal hold was set or lifted");
    Ok(StatusCode::NO_CONTENT)
}

/// Erase a user: everything that is kept, and the key that it was sealed under.
#[utoipa::path(delete, path = "/v1/users/{user_id}", tag = "users", params(("user_id" = String, Path)),
    responses((status = 204), (status = 404, body = Problem, content_type = "application/problem+json"), (status = 409, body = Problem, content_type = "application/problem+json"), (status = 401, body = Problem, content_type = "application/problem+json"), (status = 403, body = Problem, content_type = "application/problem+json"), (status = 500, body = Problem, content_type = "application/problem+json"), (status = 503, body = Problem, content_type = "application/problem+json"), (status = 400, body = Problem, content_type = "application/problem+json"), (status = 422, body = Problem, content_type = "application/problem+json"), (status = 429, body = Problem, content_type = "application/problem+json"), (status = 507, body = Problem, content_type = "application/problem+json")))]
pub(in crate::server) async fn erase(
    State(app): State<Arc<App>>,
    UserId(user_id): UserId,
    Extension(caller): Extension<Caller>,
) -> Result<StatusCode, Problem> {
    if !app.desk.erase(user_id).await? {
        return Err(Problem::unknown_user());
    }
    tracing::info!(by = caller.name(), "a user was erased");
    Ok(StatusCode::NO_CONTENT)
}
