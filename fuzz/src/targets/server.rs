//! The sidecar over its own socket: bodies, headers, paths, and bytes that are no HTTP at all.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use throughline::engine::{ModelSource, load};
use throughline::scorer::{Scorer, ScorerSettings};
use throughline::server::{Access, App, DeskSettings, ServerSettings};
use throughline::store::{MasterKey, Retention, Store};
use throughline::verdict::Policy;

use super::Folder;

/// Until an answer comes.
const PATIENCE: Duration = Duration::from_secs(8);
/// Methods and paths; `{}` is the input's first line.
const ROUTES: [(&str, &str); 14] = [
    ("POST", "/v1/turns"),
    ("POST", "/v1/check"),
    ("POST", "/v1/score"),
    ("POST", "/v1/moderations"),
    ("POST", "/beta/litellm_basic_guardrail_api"),
    ("POST", "/v1/users/{}/acknowledge"),
    ("PUT", "/v1/users/{}/hold"),
    ("GET", "/v1/users/{}"),
    ("DELETE", "/v1/users/{}"),
    ("GET", "/v1/alarms?{}"),
    ("GET", "/{}"),
    ("PUT", "/v1/turns"),
    ("GET", "/v1/users/ada/messages?first={}"),
    ("POST", "/v1/chat/completions"),
];
/// Headers that have the input's first line as their value, one of them at a time.
const HEADERS: [&str; 4] = ["idempotency-key", "x-throughline-user", "x-deadline-ms", "content-type"];

/// A server of its own, one a process, on the tiny model.
pub(super) struct Sidecar {
    address: SocketAddr,
    connection: Mutex<Option<BufReader<TcpStream>>>,
}

pub(super) struct Reply {
    pub status: u16,
    is_json: bool,
    body: Vec<u8>,
}

/// The first line goes into path and headers, the rest is the body; the last byte says where it is sent. The server answers, never
/// with a failure of its own, and goes on.
pub fn request(data: &[u8]) {
    let Some((&how, bytes)) = data.split_last() else { return };
    let sidecar = Sidecar::shared();
    // That path never ends to answer.
    if bytes.windows(6).any(|part| part == b"stream") {
        return;
    }
    if how == u8::MAX {
        sidecar.raw(bytes);
        assert_eq!(sidecar.ask("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n".as_bytes()).status, 200);
        return;
    }
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (line, body) = (&bytes[..end], bytes.get(end + 1..).unwrap_or_default());
    let (method, path) = ROUTES[usize::from(how & 15) % ROUTES.len()];
    let header = HEADERS[usize::from(how >> 4 & 3)];
    let kind = if header == "content-type" { "" } else { "\r\ncontent-type: application/json" };
    let path = path.replace("{}", &encoded(line));
    let about = path.starts_with("/v1/users").then(|| json!({"user_id": String::from_utf8_lossy(line)}));
    if let Some(user) = &about {
        sidecar.hello(user);
    }
    let line = line.iter().copied().filter(|byte| *byte >= b' ' && *byte != 0x7f).collect::<Vec<u8>>();
    let before = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n{header}: ", body.len());
    let request = [before.as_bytes(), &line, kind.as_bytes(), b"\r\n\r\n", body].concat();
    // What is said a second time goes on from the first.
    for _ in 0..=(how >> 6 & 1) {
        sidecar.ask(&request);
    }
    match about {
        Some(user) => sidecar.forget(&user),
        None => serde_json::from_slice(body).map_or((), |body| sidecar.forget(&body)),
    }
}

/// For a path: what is no ordinary character is written by its number, but for signs that are written so already.
fn encoded(line: &[u8]) -> String {
    let one = |byte: &u8| match byte {
        b'%' | b'&' | b'=' | b'/' | b'-' | b'.' | b'_' => char::from(*byte).to_string(),
        _ if byte.is_ascii_alphanumeric() => char::from(*byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    line.iter().map(one).collect()
}

impl Sidecar {
    fn shared() -> &'static Self {
        static SIDECAR: OnceLock<Sidecar> = OnceLock::new();
        SIDECAR.get_or_init(|| Self::with(settings()))
    }

    pub(super) fn with(settings: ServerSettings) -> Self {
        let folder = Folder::new();
        let weights = folder.file("model.gguf", include_bytes!("../../../tests/golden/tiny-heads/model.gguf"));
        let model = load(&ModelSource::Path(weights)).expect("the tiny model");
        let scoring = ScorerSettings { window: None, policy: Policy::default() };
        let scorer = Scorer::with_heads(model, scoring).expect("a model with heads");
        let key = MasterKey::random().expect("a key");
        let store = Store::open(folder.0.path(), &key).expect("a store");
        let access = Access::new(None).expect("no tokens");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a listener");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            let _kept = folder;
            let prepared = settings.prepare().expect("settings");
            let app = App::start(scorer, store, access, prepared).expect("a thread");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                app.serve(listener, std::future::pending()).await.expect("a server");
            });
        });
        Self { address, connection: Mutex::default() }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("a server that listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("an option");
        stream
    }

    /// Sends bytes as they are, and reads whatever comes.
    fn raw(&self, bytes: &[u8]) {
        let mut stream = self.connect();
        // A server that hangs up in the middle has answered.
        let sent = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
        let mut answer = Vec::new();
        if sent.is_ok() && stream.read_to_end(&mut answer).is_ok() {
            assert!(!answer.starts_with(b"HTTP/1.1 500"), "{}", String::from_utf8_lossy(&answer));
        }
    }

    /// What is answered to a request that asks for the connection's end, of whatever form.
    pub(super) fn ask_once(&self, request: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        let mut answer = Vec::new();
        let read = stream.write_all(request).and_then(|()| stream.read_to_end(&mut answer));
        // A reply that fails in the middle ends without its end.
        assert!(read.is_ok() || !answer.is_empty(), "no answer: {read:?}");
        answer
    }

    /// What is answered to one request.
    pub(super) fn ask(&self, request: &[u8]) -> Reply {
        let mut kept = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let mut connection = kept.take().unwrap_or_else(|| BufReader::new(self.connect()));
        let sent = connection.get_mut().write_all(request);
        let (reply, stays) = match sent.and_then(|()| answer(&mut connection)) {
            Ok(answered) => answered,
            Err(error) => panic!("no answer: {error}"),
        };
        if stays {
            *kept = Some(connection);
        }
        let text = String::from_utf8_lossy(&reply.body);
        assert_ne!(reply.status, 500, "{text}");
        assert!(!reply.is_json || serde_json::from_slice::<Value>(&reply.body).is_ok(), "{text}");
        reply
    }

    /// A first turn of a user.
    fn hello(&self, user: &Value) {
        let mut turn = json!({"session_id": "1", "messages": [{"role": "user", "content": "hello"}]});
        turn["user_id"] = user["user_id"].clone();
        self.ask(&with_body("POST", "/v1/turns", &turn));
    }

    /// Erases whomever a body names, so that every input finds the same server.
    pub(super) fn forget(&self, body: &Value) {
        let data = &body["request_data"];
        for id in [&body["user_id"], &data["user_api_key_end_user_id"], &data["user_api_key_user_id"]] {
            let Some(id) = id.as_str().filter(|id| id.len() < 1_024) else { continue };
            let path: String = id.bytes().map(|byte| format!("%{byte:02X}")).collect();
            self.ask(&with_body("PUT", &format!("/v1/users/{path}/hold"), &json!({"held": false})));
            self.ask(&with_body("DELETE", &format!("/v1/users/{path}"), &Value::Null));
        }
    }
}

pub(super) fn with_body(method: &str, path: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let length = body.len();
    let head = "host: localhost\r\ncontent-type: application/json";
    format!("{method} {path} HTTP/1.1\r\n{head}\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

/// An answer, and whether the connection stays.
fn answer(connection: &mut BufReader<TcpStream>) -> std::io::Result<(Reply, bool)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if connection.read_line(&mut head)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    let head = head.to_ascii_lowercase();
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    let length = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    connection.read_exact(&mut body)?;
    let is_json = header("content-type").is_some_and(|kind| kind.contains("json"));
    Ok((Reply { status, is_json, body }, header("connection") != Some("close")))
}

pub(super) fn settings() -> ServerSettings {
    ServerSettings {
        desk: DeskSettings {
            queue_tokens_max: 1 << 20,
            batch_tokens_max: 1 << 9,
            cache_bytes_max: 1 << 20,
            users_max: 8,
            history_messages_max: 64,
            keep_content: true,
        },
        policy: None,
        pseudonymous_users: false,
        pseudonymous_targets: false,
        body_bytes_max: 1 << 14,
        turn_bytes_max: 1 << 12,
        retention: Retention::default(),
        deadline: Duration::from_secs(5),
        drain: Duration::from_secs(1),
        tls: None,
        webhooks: None,
        proxy: None,
    }
}
