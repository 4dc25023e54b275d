//! `POST /v1/chat/completions`: an OpenAI-compatible proxy. The prompt is judged in the user's history and kept before it goes to the upstream that
//! the operator named, and the reply before the user sees it: whole, or piece by piece as it clears ([`held`]).
//!
//! Clients send the whole conversation each time: what the user said since the assistant last spoke is new; of a user of whom nothing is
//! kept, as much of it is as one turn may hold. A reply that the client begins for the upstream to go on with passes, and is not kept. A request that
//! comes again within the hour is kept once. Text is read, the arguments of tool calls among it: images and reasoning pass.
//! Where no verdict can be had, the policy's `on_failure` for the user's highest alarm so far decides; what was said is then kept as soon as it can be
//! ([`later`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body as HttpBody;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use data_encoding::HEXLOWER;
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
mod later;
mod stream;
mod upstream;

pub(super) use chat::fresh;
pub use chat::{ChatIn, ChatMessage};
pub use held::HoldBack;
use later::{Later, Place, Turn};
pub(super) use upstream::Upstream;
use upstream::{Failed, passed_on};
pub use upstream::{UpstreamError, UpstreamSettings};

const LEVEL: HeaderName = HeaderName::from_static("x-throughline-level");
const ALARM: HeaderName = HeaderName::from_static("x-throughline-alarm");
/// What a user says twice in the same words within this time is a request that came again.
const SAME_REQUEST: Duration = Duration::from_secs(3_600);
/// How long what was said waits to be kept, each time it is tried, and seconds after which it is tried again: some two minutes in all.
const KEEP_PATIENCE: Duration = Duration::from_secs(60);
const KEEP_PAUSES_S: [u64; 7] = [1, 2, 4, 8, 16, 32, 60];

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
    later: Later,
}

impl Proxy {
    pub fn new(upstream: Upstream, settings: ProxySettings) -> Self {
        Self { upstream, settings, later: Later::default() }
    }

    /// Conversations of which something could not be kept so far.
    pub fn unkept_conversations(&self) -> usize {
        self.later.conversations()
    }
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

impl Judged {
    fn header(self) -> HeaderValue {
        HeaderValue::from_static(self.level.as_str())
    }
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
/// The body goes to the upstream as it is. Headers of the answer: `X-Throughline-Level`, the user's level after the reply, or after the prompt where
/// the reply is streamed, since headers go before it; and `X-Throughline-Alarm` where the prompt raised one. A prompt that is blocked is answered
/// with status 400 and code `content_filter`; a reply that is, ends with that finish reason.
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

/// Says the level that the prompt came to, where none stands there after the reply, and the alarm that it raised.
fn with_level(mut response: Response, prompt: Option<(Judged, Option<i64>)>) -> Response {
    if let Some((judged, alarm)) = prompt {
        response.headers_mut().entry(LEVEL).or_insert(judged.header());
        alarm.map(|id| response.headers_mut().insert(ALARM, HeaderValue::from(id)));
    }
    response
}

/// Whether this was no fault of the caller's, so that the policy says what becomes of the reply.
fn is_own(problem: &Problem) -> bool {
    problem.status >= 500
        || [StatusCode::TOO_MANY_REQUESTS, StatusCode::CONFLICT].iter().any(|status| problem.status == status.as_u16())
}

fn too_long(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_GATEWAY, detail, "a larger --reply-bytes-max")
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
            format!("chat-{}", HEXLOWER.encode(&digest[..8]))
        });
        let user_id = app.known_as(ids.user);
        Ok(Self { app: app.clone(), user_id, session_id, deadline: app.deadline(headers)? })
    }

    fn place(&self) -> Place {
        (self.user_id.clone(), self.session_id.clone())
    }

    fn said(&self, messages: Vec<Message>) -> Said {
        let (user_id, session_id) = self.place();
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
        let turn = Turn { messages: said, key: self.key(asked) };
        let kept = self.keep(&turn, self.deadline).await;
        self.app.metrics.added("prompt", begun.elapsed());
        match kept {
            Ok(kept) => Ok(Some((self.judged_as(kept.level, kept.flagged), kept.alarm.map(|alarm| alarm.id)))),
            Err(problem) => {
                // It was said, whatever becomes of the reply; where the turn was kept after all, it is not kept twice.
                if is_own(&problem) {
                    self.keep_later(turn);
                }
                self.unjudged(problem).await?;
                Ok(None)
            }
        }
    }

    /// The same for a request that comes again soon: of a client that tries again, or of a user who wants another reply or more of it.
    fn key(&self, asked: &ChatIn) -> String {
        let hour = Timestamp::now().as_second() / SAME_REQUEST.as_secs() as i64;
        let all = asked.all().into_iter().map(|(role, text)| format!("{role:?} {text}"));
        let all = [self.session_id.clone()].into_iter().chain(all).collect::<Vec<_>>().join("\0");
        format!("chat {hour} {}", HEXLOWER.encode(&self.app.store.digest(all.as_bytes())))
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

    async fn keep(&self, turn: &Turn, deadline: Duration) -> Result<Kept, Problem> {
        let count = tokens(&turn.messages);
        // The key says it all: what is new in a request depends on what was kept before.
        let request = Some((turn.key.clone(), self.app.store.digest(turn.key.as_bytes())));
        let work = Work::Turn(self.said(turn.messages.clone()), request);
        match self.app.desk.ask(work, Priority::Urgent, count, deadline).await? {
            Answer::Turn(answer, _) => serde_json::from_slice(&answer).map_err(|_| Problem::broken()),
            _ => Err(Problem::broken()),
        }
    }

    /// Keeps what was said though nobody waits for it any more, after what of the conversation is still to be kept.
    fn keep_later(&self, turn: Turn) {
        let Some(proxy) = &self.app.proxy else { return };
        match proxy.later.push(self.place(), turn) {
            Ok(true) => self.app.background.spawn(self.clone().keep_waiting()),
            Ok(false) => {}
            Err(turn) => self.lost(&turn, "too much waits to be kept"),
        }
    }

    /// Keeps what waits of the conversation, one turn after the other.
    async fn keep_waiting(self) {
        let Some(proxy) = &self.app.proxy else { return };
        let (place, mut pauses_s) = (self.place(), &KEEP_PAUSES_S[..]);
        while let Some((turn, _room)) = proxy.later.next(&place) {
            let kept = self.keep_patiently(&turn, pauses_s).await;
            // What is behind one that was tried for so long is tried once: it came meanwhile, and more would come than goes.
            pauses_s = if kept.is_ok() { &KEEP_PAUSES_S } else { &[] };
            if let Err(problem) = kept {
                self.lost(&turn, &problem.detail);
            }
        }
    }

    async fn keep_patiently(&self, turn: &Turn, pauses_s: &[u64]) -> Result<Kept, Problem> {
        let mut kept = self.keep(turn, KEEP_PATIENCE).await;
        for pause in pauses_s {
            if kept.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_secs(*pause)).await;
            kept = self.keep(turn, KEEP_PATIENCE).await;
        }
        kept
    }

    /// Counts and logs what is not kept at all.
    fn lost(&self, turn: &Turn, detail: &str) {
        turn.messages.iter().for_each(|_| self.app.metrics.lost());
        tracing::error!(detail, "what was said could not be kept");
    }

    /// Whether something of the conversation is still to be kept.
    fn is_behind(&self) -> bool {
        self.app.proxy.as_ref().is_some_and(|proxy| proxy.later.holds(&self.place()))
    }

    /// A reply's texts, each in a message.
    fn replied(&self, texts: Vec<String>) -> Vec<Message> {
        let now = Some(millis(Timestamp::now()));
        let message = |content| Message { role: Role::Assistant, content, timestamp: now };
        texts.into_iter().filter(|text| !text.is_empty()).map(message).collect()
    }

    /// Keeps what the user sees of a reply, before the last of it goes out; not before the prompt.
    async fn keep_reply(&self, texts: Vec<String>) {
        let messages = self.replied(texts);
        if messages.is_empty() {
            return;
        }
        let turn = Turn { messages, key: format!("reply {}", Timestamp::now().as_nanosecond()) };
        if self.is_behind() || self.keep(&turn, self.deadline).await.is_err() {
            self.keep_later(turn);
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
                return Err(too_long(format!("the reply is longer than {limit} bytes")));
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
        let mut response = if judged.is_some_and(|judged| judged.blocked) {
            app.metrics.proxied("reply_blocked");
            axum::Json(chat::emptied(read)).into_response()
        } else {
            self.keep_reply(texts).await;
            app.metrics.proxied("delivered");
            body.into_response()
        };
        judged.map(|judged| response.headers_mut().insert(LEVEL, judged.header()));
        Ok(response)
    }

    /// Judges the choices of a reply, each as if it were the only one: the worst of them; what no verdict can be had of, as the policy says. `None`
    /// where nothing was judged.
    async fn reply_judged(&self, texts: &[String]) -> Result<Option<Judged>, Problem> {
        let mut all: Option<Judged> = None;
        for message in self.replied(texts.to_vec()) {
            match self.judged(message).await {
                Ok(judged) => {
                    let before = all.unwrap_or(judged);
                    let (level, blocked) = (before.level.max(judged.level), before.blocked || judged.blocked);
                    all = Some(Judged { level, blocked });
                }
                // A reply is as long as the upstream makes it: the user is not to blame.
                Err(problem) => self.unjudged(problem).await?,
            }
        }
        Ok(all)
    }
}
