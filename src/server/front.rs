//! What every request passes: the caller, the body's form, time and status, security headers.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, MatchedPath, Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;
use tracing::Instrument;

use super::auth::{Caller, Refused, Scope};
use super::problem::Problem;
use super::wire::objects::Object;
use super::{App, trace};

/// Milliseconds until a caller gives up.
const DEADLINE: HeaderName = HeaderName::from_static("x-deadline-ms");
/// The longest deadline.
const DEADLINE_MAX: Duration = Duration::from_secs(600);
/// How long a body may take to come.
const BODY_PATIENCE: Duration = Duration::from_secs(30);
/// Characters of an id.
const ID_CHARS_MAX: usize = 256;
/// Bytes of a field's name that is told.
const FIELD_BYTES_MAX: usize = 64;

/// Around every request: counts it, and says to browsers that nothing here is for them.
pub(super) async fn around(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let known = app.access.is_known(bearer(request.headers()));
    let span = trace::request(request.method(), &route, known.then_some(request.headers()));
    let mut response = match app.expects(request.headers()) {
        Ok(()) => next.run(request).instrument(span.clone()).await,
        Err(problem) => problem.into_response(),
    };
    trace::answered(&span, response.status().as_u16());
    app.metrics.answered(&route, response.status().as_u16(), begun.elapsed());
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Before a route of that scope, and before any of the body is read: who asks, for the handler.
pub(super) async fn scoped(
    State((app, scope)): State<(Arc<App>, Scope)>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let caller = app.access.admit(bearer(request.headers()), scope).map_err(refused)?;
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

/// The token of a request: of `Authorization: Bearer`, or of `x-api-key`, which LiteLLM sends.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    if let Some(key) = headers.get("x-api-key") {
        return key.to_str().ok();
    }
    authorized(headers)
}

/// The token of `Authorization: Bearer`.
pub(super) fn authorized(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// A header that is text, where it is there.
pub(super) fn text_header(headers: &HeaderMap, name: &'static str) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = std::str::from_utf8(value.as_bytes()).map_err(|_| {
        Problem::new(StatusCode::BAD_REQUEST, format!("the header {name} is no UTF-8"), "UTF-8, or leave it out")
    })?;
    check_id(name, text)?;
    Ok(Some(text.to_owned()))
}

impl App {
    /// Without tokens, whoever reaches the port may do anything: but no page that a browser on this machine has open, under its own
    /// name or under one that was made to point here.
    fn expects(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let hint = "start the server with --tokens";
        if !self.access.is_open() {
            return Ok(());
        }
        let site = headers.get("sec-fetch-site").is_some_and(|site| site != "none");
        if site || headers.contains_key(header::ORIGIN) {
            let detail = "a browser's page asks, and this server has no tokens";
            return Err(Problem::new(StatusCode::FORBIDDEN, detail, hint));
        }
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        if is_here(host) {
            return Ok(());
        }
        let detail = "the Host header names another machine, and this server has no tokens";
        Err(Problem::new(StatusCode::FORBIDDEN, detail, hint))
    }

    /// What a user is called from here on, in all that is kept and told.
    pub(super) fn known_as(&self, user_id: String) -> String {
        if self.settings.pseudonymous_users { self.store.pseudonym(&user_id) } else { user_id }
    }

    /// Who asks, if they may.
    pub(super) fn allow(&self, bearer: Option<&str>, scope: Scope) -> Result<Caller, Problem> {
        self.access.check(bearer, scope).map_err(refused)
    }

    /// How long the caller waits.
    pub(super) fn deadline(&self, headers: &HeaderMap) -> Result<Duration, Problem> {
        let Some(value) = headers.get(&DEADLINE) else { return Ok(self.settings.deadline) };
        let (millis, limit) = (value.to_str().ok().and_then(|text| text.parse().ok()), DEADLINE_MAX.as_millis());
        let time = millis.map(Duration::from_millis).filter(|time| !time.is_zero() && *time <= DEADLINE_MAX);
        time.ok_or_else(|| {
            let found = millis.map_or_else(|| "no such number".to_owned(), |millis| millis.to_string());
            let detail = format!("X-Deadline-Ms is {found}, the limits are 1 and {limit}");
            let problem = Problem::new(StatusCode::BAD_REQUEST, detail, "milliseconds, or leave the header out");
            problem.beyond(millis.map(|millis| millis as usize), if millis == Some(0) { 1 } else { limit as usize })
        })
    }
}

fn refused(refused: Refused) -> Problem {
    match refused {
        Refused::Unknown => {
            let detail = "no bearer token, or none that is known";
            Problem::new(StatusCode::UNAUTHORIZED, detail, "Authorization: Bearer TOKEN, one of the --tokens file")
        }
        Refused::Scope(scope) => Problem::new(
            StatusCode::FORBIDDEN,
            format!("the token has not the scope {scope:?}").to_lowercase(),
            "a token with that scope in the --tokens file",
        ),
        Refused::Often { per_minute, retry_after_s } => {
            let detail = format!("more requests than the token's {per_minute} a minute");
            let hint = "wait the seconds named; requests_per_minute in the --tokens file";
            let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, detail, hint);
            Problem { retry_after_s: Some(retry_after_s), ..problem.beyond(None, per_minute as usize) }
        }
    }
}

/// Whether a Host header names this machine.
fn is_here(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A JSON body. Errors name a place, never what stands there.
pub(super) struct Body<T>(pub T, pub Vec<u8>);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Problem> {
        let kind =
            request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if kind != "application/json" {
            let detail = "the body is not said to be JSON";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail, "Content-Type: application/json"));
        }
        let limit = app.settings.body_bytes_max;
        let said: Option<usize> =
            request.headers().get(header::CONTENT_LENGTH).and_then(|said| said.to_str().ok()?.parse().ok());
        let read = tokio::time::timeout(BODY_PATIENCE, axum::body::Bytes::from_request(request, app)).await;
        let read = read.map_err(|_| {
            let detail = format!("the body did not come within {} s", BODY_PATIENCE.as_secs());
            Problem::new(StatusCode::REQUEST_TIMEOUT, detail, "send it again")
        })?;
        let bytes = read.map_err(|rejection| match rejection {
            BytesRejection::FailedToBufferBody(body) if body.status() == StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                match said {
                    Some(bytes) => format!("the body has {bytes} bytes, the limit is {limit}"),
                    None => format!("the body is longer than {limit} bytes"),
                },
                "send it in parts, or start the server with a larger --body-bytes-max",
            )
            .beyond(said, limit),
            _ => Problem::new(StatusCode::BAD_REQUEST, "the body did not come whole", "send it again"),
        })?;
        Ok(Self(read_json(&bytes)?, bytes.to_vec()))
    }
}

fn read_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let read = serde_json::from_slice(bytes).map(|Object(read)| read);
    read.map_err(|error| {
        let (what, status) = match error.classify() {
            serde_json::error::Category::Data => {
                // Read again for the place alone: a body that can be read does not pay for it.
                let bytes = &mut serde_json::Deserializer::from_slice(bytes);
                let again = serde_path_to_error::deserialize::<_, Object<T>>(bytes);
                let place = again.err().map_or_else(String::new, |error| place(error.path()));
                (what_of_a_field(&place, &error), StatusCode::UNPROCESSABLE_ENTITY)
            }
            _ => ("it is no JSON".to_owned(), StatusCode::BAD_REQUEST),
        };
        let detail = format!("the body: {what} (line {}, column {})", error.line(), error.column());
        Problem::new(status, detail, "GET /openapi.json says what is read")
    })
}

/// What is wrong with the field at a place, or in it. Of what serde says, the names of fields that are read are told alone.
fn what_of_a_field(place: &str, error: &serde_json::Error) -> String {
    let text = error.to_string();
    let quoted = |kind: &str| text.strip_prefix(kind)?.split('`').next();
    let of = |name: &str| if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") };
    match (quoted("missing field `"), quoted("duplicate field `"), quoted("unknown field `")) {
        (Some(name), ..) => format!("{} is missing", of(name)),
        (_, Some(name), _) => format!("{} stands there twice", of(name)),
        (_, _, Some(_)) => format!("{place} is no field that is read"),
        _ if place.is_empty() => "it is of another kind than is read".to_owned(),
        _ => format!("{place} is of another kind than is read"),
    }
}

/// Where in the body it is, such as `messages[3].role`. A key that does not look like a field's name may be something that was said.
fn place(path: &serde_path_to_error::Path) -> String {
    let mut place = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => place += &format!("[{index}]"),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                let is_name = key.len() <= FIELD_BYTES_MAX
                    && key.bytes().all(|byte| matches!(byte, b'_' | b'a'..=b'z' | b'0'..=b'9'));
                let dot = if place.is_empty() { "" } else { "." };
                place += &format!("{dot}{}", if is_name { key } else { "…" });
            }
            Segment::Unknown => place += "…",
        }
    }
    place
}

/// The user of a path.
pub(super) struct UserId(pub String);

impl FromRequestParts<Arc<App>> for UserId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let Path(id) = Path::<String>::from_request_parts(parts, app)
            .await
            .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "the user's id is no UTF-8", "percent-encode it"))?;
        check_id("the user's id", &id)?;
        Ok(Self(app.known_as(id)))
    }
}

/// The query of a path.
pub(super) struct Asked<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Arc<App>> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let Query(asked) = Query::<T>::from_request_parts(parts, app).await.map_err(|_| {
            let detail = "a parameter of the query is unknown or of another kind";
            Problem::new(StatusCode::BAD_REQUEST, detail, "GET /openapi.json says what is read")
        })?;
        Ok(Self(asked))
    }
}

/// Ids are short, and not empty.
pub(super) fn check_id(what: &str, id: &str) -> Result<(), Problem> {
    let chars = id.chars().count();
    let (limit, hint) = match chars {
        0 => (1, "one of your own choice: what has none would be taken for another's"),
        1..=ID_CHARS_MAX => return Ok(()),
        _ => (ID_CHARS_MAX, "a digest of it, if it is long"),
    };
    let detail = format!("{what} has {chars} characters, the limits are 1 and {ID_CHARS_MAX}");
    Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail, hint).beyond(chars, limit))
}

/// An answer that is JSON already.
pub(super) fn json(bytes: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], bytes).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::wire::TurnIn;

    #[test]
    fn a_field_is_named_and_what_stands_in_it_is_not() {
        let turn = |messages: &str| format!(r#"{{"user_id": "ada", "session_id": "s", "messages": [{messages}]}}"#);
        let said = r#"{"role": "user", "content": "secret"}"#;
        let told = |body: &str| {
            let problem = read_json::<TurnIn>(body.as_bytes()).unwrap_err();
            assert!(!problem.detail.contains("secret"), "{}", problem.detail);
            (problem.status, problem.detail.split(" (").next().unwrap_or_default().to_owned())
        };
        let unreadable = |what: &str| (422, format!("the body: {what}"));
        assert!(read_json::<TurnIn>(turn(said).as_bytes()).is_ok());
        assert_eq!(told("{}"), unreadable("user_id is missing"));
        assert_eq!(told(r#"{"user_id": "a", "user_id": "b"}"#), unreadable("user_id stands there twice"));
        assert_eq!(told(&turn(r#"{"role": "user"}"#)), unreadable("messages[0].content is missing"));
        let other = format!(r#"{said}, {{"role": "secret", "content": ""}}"#);
        assert_eq!(told(&turn(&other)), unreadable("messages[1].role is of another kind than is read"));
        let more = |key: &str| turn(&format!(r#"{{"role": "user", "content": "", "{key}": 1}}"#));
        assert_eq!(told(&more("name")), unreadable("messages[0].name is no field that is read"));
        assert_eq!(told(&more("a secret that was said")), unreadable("messages[0].… is no field that is read"));
        assert_eq!(
            told(&turn(r#"["user", "secret", null]"#)),
            unreadable("messages[0] is of another kind than is read")
        );
        assert_eq!(told(r#"["secret", "s", null, [], null]"#), unreadable("it is of another kind than is read"));
        assert_eq!(told(r#""secret""#), unreadable("it is of another kind than is read"));
        assert_eq!(told(&(turn(said) + "secret")).0, 400);
        assert_eq!(told(r#"{"user_id": secret"#).0, 400);
    }

    #[test]
    fn only_names_of_this_machine_are_here() {
        for host in ["localhost", "LOCALHOST:8787", "127.0.0.1", "127.0.0.1:80", "127.8.9.1:1", "[::1]", "[::1]:8787"] {
            assert!(is_here(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:8787",
            "localhost.evil.example",
            "10.0.0.1",
            "[::2]:80",
            "localhost:x",
            "127.0.0.1.evil",
        ] {
            assert!(!is_here(host), "{host}");
        }
    }
}
