//! `POST /v1/chat/completions`: an OpenAI-compatible proxy. The prompt is judged in the user's history and kept before it goes to the upstream that
//! the operator named, and the reply before the user sees it: whole, or piece by piece as it clears ([`held`]).
//!
//! Clients send the whole conversation each time: what the user said since the assistant last spoke is new; of a user of whom nothing is
//! kept, as much of it is as one turn may hold. A request that comes again within the hour is kept once. Text is read, the arguments of tool calls among it: images and reasoning pass.
//! Where no verdict can be had, the policy's `on_failure` for the user's highest level so far decides.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body as HttpBody;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::App;
use super::desk::{Answer, Said, Work};
use super::front::{Body, authorized, bearer};
use super::problem::Problem;
use super::queue::Priority;
use super::routes::{TURN_MESSAGES_MAX, tokens};
use super::wire::millis;
use crate::transcript::{Message, Role};
use crate::verdict::{Level, OnFailure};

mod chat;
mod held;
mod stream;
mod upstream;

pub use chat::ChatIn;
pub use held::HoldBack;
pub(super) use upstream::Upstream;
use upstream::{Failed, passed_on};
pub use upstream::{UpstreamError, UpstreamSettings};

const LEVEL: HeaderName = HeaderName::from_static("x-throughline-level");
const ALARM: HeaderName = HeaderName::from_static("x-throughline-alarm");
/// What a user says twice in the same words within this time is a request that came again.
const SAME_REQUEST: Duration = Duration::from_secs(3_600);
/// How long what was delivered waits to be kept, each time it is tried, and how often it is.
const KEEP_PATIENCE: Duration = Duration::from_secs(60);
const KEEP_TRIES: u32 = 5;

/// How replies are proxied.
#[derive(Debug, Clone)]
pub struct ProxySettings {
    /// From this level on a message that it rests on is blocked; `none` blocks nothing.
    pub block_at: Level,
    pub hold: HoldBack,
    /// The longest reply, in bytes.
    pub reply_bytes_max: usize,
}

/// A proxy's parts.
pub(super) struct Proxy {
    pub upstream: Upstream,
    pub settings: ProxySettings,
}

/// One conversation on its way through.
#[derive(Clone)]
struct Conversation {
    app: Arc<App>,
    user_id: String,
    session_id: String,
    deadline: Duration,
}

/// How a text was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Judged {
    level: Level,
    blocked: bool,
}

/// What is read of the answer to a turn.
#[derive(Deserialize)]
struct Kept {
    level: Level,
    /// Answers of older builds, which are given again, say nothing of it.
    #[serde(default)]
    flagged: bool,
    alarm: Option<KeptAlarm>,
}

#[derive(Deserialize)]
struct KeptAlarm {
    id: i64,
}

/// Ask the upstream for a reply, both sides judged.
///
/// The body goes to the upstream as it is. Headers of the answer: `X-Throughline-Level`, and `X-Throughline-Alarm` where the prompt raised one. A
/// prompt that is blocked is answered with status 400 and code `content_filter`; a reply that is, ends with that finish reason.
#[utoipa::path(post, path = "/v1/chat/completions", tag = "drop-ins", request_body = ChatIn,
    params(("X-Throughline-User" = Option<String>, Header, min_length = 1, max_length = 256, nullable = false, description = "Whose conversation it is; without it, `safety_identifier` or `user` of the body"),
           ("X-Throughline-Session" = Option<String>, Header, min_length = 1, max_length = 256, nullable = false, description = "Which conversation; without it, one for each first message"),
           ("X-Deadline-Ms" = Option<u64>, Header, minimum = 1, maximum = 600_000, nullable = false, description = "Milliseconds that each judgement may take")),
    responses((status = 200, description = "The upstream's answer", content((Object = "application/json"), (String = "text/event-stream"))),
              (status = "4XX", description = "The upstream's answer, a blocked prompt, or a problem", content((Object = "application/json"), (Problem = "application/problem+json"))),
              (status = "5XX", description = "The upstream's answer, or a problem", content((Object = "application/json"), (Problem = "application/problem+json")))))]
pub(super) async fn completions(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Body(asked, bytes): Body<ChatIn>,
) -> Result<Response, Problem> {
    let proxy = app.proxy.as_ref().ok_or_else(no_upstream)?;
    let conversation = Conversation::of(&app, &headers, &asked)?;
    let prompt = conversation.prompt(&asked).await?;
    if prompt.is_some_and(|(judged, _)| judged.blocked) {
        app.metrics.proxied("prompt_blocked");
        return Ok(with_level(chat::blocked_prompt(), prompt));
    }
    let caller = headers.get(header::AUTHORIZATION).filter(|_| !app.is_own_token(&headers));
    let reply = proxy.upstream.ask(bytes.into(), caller).await;
    let reply = reply.map_err(no_reply).inspect_err(|_| app.metrics.proxied("failed"))?;
    let status = StatusCode::from_u16(reply.status()).unwrap_or(StatusCode::BAD_GATEWAY);
    let passed = passed_on(reply.headers());
    let streamed =
        passed.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    let mut response = match status.is_success() && streamed {
        true => HttpBody::from_stream(stream::relayed(conversation, reply)).into_response(),
        false => {
            let whole = conversation.whole(reply, status).await;
            whole.inspect_err(|_| app.metrics.proxied("failed"))?
        }
    };
    *response.status_mut() = status;
    response.headers_mut().extend(passed);
    Ok(with_level(response, prompt))
}

fn no_upstream() -> Problem {
    let hint = "start the server with --upstream URL";
    Problem::new(StatusCode::NOT_IMPLEMENTED, "this server has no upstream to ask for replies", hint)
}

fn with_level(mut response: Response, prompt: Option<(Judged, Option<i64>)>) -> Response {
    if let Some((judged, alarm)) = prompt {
        response.headers_mut().insert(LEVEL, HeaderValue::from_static(judged.level.as_str()));
        alarm.map(|id| response.headers_mut().insert(ALARM, HeaderValue::from(id)));
    }
    response
}

/// Whether this was no fault of the caller's, so that the policy says what becomes of the reply.
fn is_own(problem: &Problem) -> bool {
    problem.status >= 500
        || [StatusCode::TOO_MANY_REQUESTS, StatusCode::CONFLICT].iter().any(|status| problem.status == status.as_u16())
}

fn no_reply(failed: Failed) -> Problem {
    let status = match failed {
        Failed::Silent => StatusCode::GATEWAY_TIMEOUT,
        Failed::Unreachable | Failed::Broken => StatusCode::BAD_GATEWAY,
    };
    Problem::new(status, failed.to_string(), "try again; what the user said is kept")
}

/// The first message of a conversation from which on one turn may hold the rest; what is new is never left out.
fn first_that_fits(all: &[(Role, String)], new: usize, bytes_max: usize) -> usize {
    let mut bytes: usize = all[new..].iter().map(|(_, text)| text.len()).sum();
    let fits = |(number, (_, text)): &(usize, &(Role, String))| {
        bytes += text.len();
        bytes <= bytes_max && all.len() - number <= TURN_MESSAGES_MAX
    };
    all[..new].iter().enumerate().rev().take_while(fits).last().map_or(new, |(number, _)| number)
}

impl App {
    /// Whether `Authorization` is a token of this server's own, which goes nowhere else.
    fn is_own_token(&self, headers: &HeaderMap) -> bool {
        !self.access.is_open() && authorized(headers) == bearer(headers)
    }

    /// What becomes of a reply of this user's while no verdict can be had.
    async fn on_failure(self: &Arc<Self>, user_id: &str) -> OnFailure {
        let user_id = user_id.to_owned();
        let level = match self.store(move |store| store.user(&user_id)).await {
            Ok(row) => row.alarmed[2].unwrap_or(Level::None),
            // Of whom nothing can be known now, the worst is to be thought.
            Err(_) => Level::Urgent,
        };
        self.judges.current().policy.levels.of(level).on_failure
    }
}

impl Conversation {
    fn of(app: &Arc<App>, headers: &HeaderMap, asked: &ChatIn) -> Result<Self, Problem> {
        let ids = asked.ids(headers)?;
        let session_id = ids.session.unwrap_or_else(|| {
            let first = asked.all().into_iter().find(|(role, _)| *role == Role::User).map(|(_, text)| text);
            let digest = app.store.digest(first.unwrap_or_default().as_bytes());
            format!("chat-{}", hex(&digest[..8]))
        });
        Ok(Self { app: app.clone(), user_id: ids.user, session_id, deadline: app.deadline(headers)? })
    }

    fn said(&self, messages: Vec<Message>) -> Said {
        let (user_id, session_id) = (self.user_id.clone(), self.session_id.clone());
        Said { user_id, session_id, session_started_at: None, messages, now: millis(Timestamp::now()) }
    }

    /// Judges what the user says and keeps it; `None` where there is nothing new, or no verdict and the policy lets it pass.
    async fn prompt(&self, asked: &ChatIn) -> Result<Option<(Judged, Option<i64>)>, Problem> {
        let begun = Instant::now();
        let said = self.fresh(asked).await?;
        if said.is_empty() {
            return Ok(None);
        }
        self.app.bound_turn(&said)?;
        let key = self.key(asked);
        let kept = self.keep(said.clone(), &key, self.deadline).await;
        self.app.metrics.added("prompt", begun.elapsed());
        match kept {
            Ok(kept) => Ok(Some((self.judged_as(kept.level, kept.flagged), kept.alarm.map(|alarm| alarm.id)))),
            Err(problem) => {
                // It was said, whatever becomes of the reply; where the turn was kept after all, it is not kept twice.
                if is_own(&problem) {
                    self.keep_later(said, key);
                }
                self.unjudged(problem).await?;
                Ok(None)
            }
        }
    }

    /// The same for a request that comes again soon: of a client that tries again, or of a user who wants another reply.
    fn key(&self, asked: &ChatIn) -> String {
        let hour = Timestamp::now().as_second() / SAME_REQUEST.as_secs() as i64;
        let all = asked.all().into_iter().map(|(role, text)| format!("{role:?} {text}"));
        let all = [self.session_id.clone()].into_iter().chain(all).collect::<Vec<_>>().join("\0");
        format!("chat {hour} {}", hex(&self.app.store.digest(all.as_bytes())))
    }

    /// What is new in a request; of a user of whom nothing is kept, as much of the conversation before it as one turn may hold.
    async fn fresh(&self, asked: &ChatIn) -> Result<Vec<Message>, Problem> {
        let now = Some(millis(Timestamp::now()));
        let message = |(role, content)| Message { role, content, timestamp: now };
        let fresh = asked.fresh();
        let user_id = self.user_id.clone();
        // Where that cannot be known, nothing is taken in twice.
        let known = self.app.store(move |store| store.user(&user_id)).await.map_or(true, |row| row.messages > 0);
        if known || fresh.is_empty() {
            return Ok(fresh.into_iter().map(message).collect());
        }
        let all = asked.all();
        let first = first_that_fits(&all, all.len() - fresh.len(), self.app.settings.turn_bytes_max);
        if first > 0 {
            tracing::warn!(
                messages = first,
                "a conversation that was begun elsewhere is longer than one turn: its beginning is not taken in"
            );
        }
        Ok(all.into_iter().skip(first).map(message).collect())
    }

    /// Judges a draft.
    async fn judged(&self, message: Message) -> Result<Judged, Problem> {
        let out = self.app.considered(self.said(vec![message]), self.deadline).await?;
        Ok(self.judged_as(out.standing.level, out.flagged))
    }

    /// Blocks what a level rests on that is high enough.
    fn judged_as(&self, level: Level, flagged: bool) -> Judged {
        let block_at = self.app.proxy.as_ref().map_or(Level::None, |proxy| proxy.settings.block_at);
        Judged { level, blocked: flagged && block_at > Level::None && level >= block_at }
    }

    /// What no verdict could be had of passes where the policy says so.
    async fn unjudged(&self, problem: Problem) -> Result<(), Problem> {
        if !is_own(&problem) || self.app.on_failure(&self.user_id).await == OnFailure::Closed {
            return Err(problem);
        }
        self.app.metrics.proxied("unjudged");
        tracing::warn!(detail = problem.detail, "no verdict: the policy lets it pass");
        Ok(())
    }

    async fn keep(&self, messages: Vec<Message>, key: &str, deadline: Duration) -> Result<Kept, Problem> {
        let count = tokens(&messages);
        // The key says it all: what is new in a request depends on what was kept before.
        let request = Some((key.to_owned(), self.app.store.digest(key.as_bytes())));
        match self.app.desk.ask(Work::Turn(self.said(messages), request), Priority::Urgent, count, deadline).await? {
            Answer::Turn(answer, _) => serde_json::from_slice(&answer).map_err(|_| Problem::broken()),
            _ => Err(Problem::broken()),
        }
    }

    /// Keeps what was said though nobody waits for it any more.
    fn keep_later(&self, messages: Vec<Message>, key: String) {
        let conversation = self.clone();
        self.app.background.spawn(async move {
            let mut found = None;
            for tried in 0..KEEP_TRIES {
                match conversation.keep(messages.clone(), &key, KEEP_PATIENCE).await {
                    Ok(_) => return,
                    Err(problem) => found = Some(problem),
                }
                tokio::time::sleep(Duration::from_secs(1 << tried)).await;
            }
            let detail = found.map(|problem| problem.detail).unwrap_or_default();
            tracing::error!(detail, "what was said could not be kept");
        });
    }

    /// A reply's texts, each in a message.
    fn replied(&self, texts: Vec<String>) -> Vec<Message> {
        let now = Some(millis(Timestamp::now()));
        let message = |content| Message { role: Role::Assistant, content, timestamp: now };
        texts.into_iter().filter(|text| !text.is_empty()).map(message).collect()
    }

    /// Keeps what the user sees of a reply, before the last of it goes out.
    async fn keep_reply(&self, texts: Vec<String>) {
        let messages = self.replied(texts);
        if messages.is_empty() {
            return;
        }
        let key = format!("reply {}", Timestamp::now().as_nanosecond());
        if self.keep(messages.clone(), &key, self.deadline).await.is_err() {
            self.keep_later(messages, key);
        }
    }

    /// A reply that is not streamed: read to its end, judged, kept.
    async fn whole(&self, mut reply: upstream::Reply, status: StatusCode) -> Result<Response, Problem> {
        let app = &self.app;
        let limit = app.proxy.as_ref().map_or(0, |proxy| proxy.settings.reply_bytes_max);
        let mut body = Vec::new();
        while let Some(bytes) = reply.chunk().await.map_err(no_reply)? {
            body.extend_from_slice(&bytes);
            if body.len() > limit {
                let detail = format!("the reply is longer than {limit} bytes");
                return Err(Problem::new(StatusCode::BAD_GATEWAY, detail, "a larger --reply-bytes-max"));
            }
        }
        if !status.is_success() {
            return Ok(body.into_response());
        }
        let begun = Instant::now();
        let unread = || {
            Problem::new(StatusCode::BAD_GATEWAY, "the upstream's answer is no chat completion", "is --upstream right?")
        };
        let read: Value = serde_json::from_slice(&body).map_err(|_| unread())?;
        let texts = chat::texts(&read).ok_or_else(unread)?;
        let judged = self.reply_judged(&texts).await?;
        app.metrics.added("reply", begun.elapsed());
        if judged.blocked {
            app.metrics.proxied("reply_blocked");
            return Ok(axum::Json(chat::emptied(read)).into_response());
        }
        self.keep_reply(texts).await;
        app.metrics.proxied("delivered");
        Ok(body.into_response())
    }

    /// Judges the choices of a reply, each as if it were the only one; what no verdict can be had of, as the policy says.
    async fn reply_judged(&self, texts: &[String]) -> Result<Judged, Problem> {
        let mut all = Judged { level: Level::None, blocked: false };
        for message in self.replied(texts.to_vec()) {
            match self.judged(message).await {
                Ok(judged) => {
                    all = Judged { level: all.level.max(judged.level), blocked: all.blocked || judged.blocked };
                }
                // A reply is as long as the upstream makes it: the user is not to blame.
                Err(problem) => self.unjudged(problem).await?,
            }
        }
        Ok(all)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
