//! Alarms of all users: as a list, and as they come.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};

use crate::server::auth::Scope;
use crate::server::front::{Asked, bearer, text_header};
use crate::server::problem::Problem;
use crate::server::wire::{AlarmOut, AlarmsOut, AlarmsQuery, StreamQuery};
use crate::server::{App, Waiting};
use crate::store::Alarm;

/// Between signs of life on a stream without alarms.
const ALIVE: Duration = Duration::from_secs(15);
/// Between looks for alarms that another server of the same database raised.
const LOOK: Duration = Duration::from_secs(1);

/// Alarms of all users, the oldest first; to tokens with the scopes `read` and `review` with toward whom they are.
#[utoipa::path(get, path = "/v1/alarms", tag = "alarms", params(AlarmsQuery),
    responses((status = 200, body = AlarmsOut), (status = 400, body = Problem, content_type = "application/problem+json"), (status = 401, body = Problem, content_type = "application/problem+json"), (status = 403, body = Problem, content_type = "application/problem+json"), (status = 429, body = Problem, content_type = "application/problem+json"), (status = 500, body = Problem, content_type = "application/problem+json"), (status = 503, body = Problem, content_type = "application/problem+json")))]
pub(in crate::server) async fn list(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Asked(asked): Asked<AlarmsQuery>,
) -> Result<Json<AlarmsOut>, Problem> {
    let list = app.store(move |store| store.alarms(asked.after, asked.open)).await?;
    told(list.unreadable);
    let alarms = list.alarms.into_iter().map(teller(&app, bearer(&headers))).collect();
    Ok(Json(AlarmsOut { alarms, unreadable: list.unreadable }))
}

/// How alarms are told to whoever holds this token, which has the scope `read`: with toward whom they are, where it has `review` too.
fn teller(app: &App, bearer: Option<&str>) -> impl Fn(Alarm) -> AlarmOut + use<> {
    // What users call people was said by them: it takes both.
    let reviews = app.allow(bearer, Scope::Review).is_ok();
    // Where text goes after days, what users call people must not be told for longer because an alarm stays.
    let pseudonymous = app.settings.pseudonymous_targets || app.settings.retention.content_days.is_some();
    move |alarm| match reviews {
        true => AlarmOut::for_reviewers(alarm, pseudonymous),
        false => AlarmOut::from(alarm),
    }
}

/// Tells the log of alarms that do not open.
fn told(unreadable: usize) {
    if unreadable > 0 {
        tracing::error!(unreadable, "alarms cannot be opened; `throughline store check` tells more");
    }
}

/// A listener on its way through alarms.
struct Listener {
    app: Arc<App>,
    after: i64,
    waiting: Waiting,
    /// Looked at again and again: a token that is taken back ends the stream.
    bearer: Option<String>,
    news: broadcast::Receiver<i64>,
    stopping: watch::Receiver<bool>,
}

/// Alarms as they come, as server-sent events of the kind `alarm`.
///
/// Each has its number as id: a client that comes back with `Last-Event-ID` (or `after`) misses none. Without either the stream begins
/// with the next alarm. What they tell is what the list does.
#[utoipa::path(get, path = "/v1/alarms/stream", tag = "alarms", params(StreamQuery,
    ("Last-Event-ID" = Option<i64>, Header, nullable = false, description = "Go on after the alarm of this number")),
    responses((status = 200, content_type = "text/event-stream", body = String), (status = 400, body = Problem, content_type = "application/problem+json"), (status = 401, body = Problem, content_type = "application/problem+json"), (status = 403, body = Problem, content_type = "application/problem+json"), (status = 422, body = Problem, content_type = "application/problem+json"), (status = 429, body = Problem, content_type = "application/problem+json"), (status = 500, body = Problem, content_type = "application/problem+json"), (status = 503, body = Problem, content_type = "application/problem+json")))]
pub(in crate::server) async fn stream(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Asked(asked): Asked<StreamQuery>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let (news, stopping) = (app.alarms.subscribe(), app.stopping.subscribe());
    let last = text_header(&headers, "last-event-id")?.map(|text| {
        let detail = "Last-Event-ID is no number of an alarm";
        text.parse().map_err(|_| Problem::new(StatusCode::BAD_REQUEST, detail, "the id of the last event, or none"))
    });
    let after = match last.transpose()?.or(asked.after) {
        Some(after) => after,
        None => app.store(|store| store.last_alarm()).await?,
    };
    let bearer = bearer(&headers).map(str::to_owned);
    let listener = Listener { app, after, waiting: Waiting::new(), bearer, news, stopping };
    let events = unfold(listener, |mut listener| async move {
        let event = listener.next().await?;
        Some((Ok(event), listener))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE)))
}

impl Listener {
    /// The next alarm; `None` when the server stops.
    async fn next(&mut self) -> Option<Event> {
        loop {
            self.app.allow(self.bearer.as_deref(), Scope::Read).ok()?;
            if let Some(alarm) = self.waiting.pop_front() {
                self.after = alarm.id;
                let event = Event::default().id(alarm.id.to_string()).event("alarm");
                return event.json_data(teller(&self.app, self.bearer.as_deref())(alarm)).ok();
            }
            let after = self.after;
            match self.app.store(move |store| store.alarms(after, false)).await {
                Ok(list) if !list.alarms.is_empty() => {
                    told(list.unreadable);
                    self.waiting = list.alarms.into();
                }
                // The client comes back and goes on where it was.
                Err(_) => return None,
                Ok(_) => {
                    tokio::select! {
                        news = self.news.recv() => if matches!(news, Err(RecvError::Closed)) { return None },
                        // Another process may have raised one.
                        () = tokio::time::sleep(if self.app.store.is_shared() { LOOK } else { ALIVE }) => {},
                        stopping = self.stopping.wait_for(|stopping| *stopping) => { let _ = stopping; return None },
                    }
                }
            }
        }
    }
}
