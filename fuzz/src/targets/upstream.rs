//! The proxy and what an upstream answers it: streams of events, whole replies, and bytes that are no HTTP at all.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::json;
use throughline::server::{HoldBack, ProxySettings, ServerSettings, UpstreamSettings};
use throughline::verdict::Level;

use super::server::{Sidecar, settings, with_body};

/// How the bytes are sent: behind which head; without one they are the whole answer.
const HEADS: [&str; 4] = [
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n",
    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n",
    "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n",
    "",
];
/// What is still held is let go of, and the upstream given up on.
const PATIENCE: Duration = Duration::from_millis(200);

/// A server of its own before an upstream that answers what it is given, one a process.
struct Proxied {
    sidecar: Sidecar,
    answer: Arc<Mutex<Vec<u8>>>,
}

/// An upstream answers with these bytes; the last says behind which head, and whether a stream was asked for. The client is answered, never
/// with a failure of the server's own, and whoever comes next, too.
pub fn reply(data: &[u8]) {
    static PROXIED: OnceLock<Proxied> = OnceLock::new();
    let Some((&how, bytes)) = data.split_last() else { return };
    let proxied = PROXIED.get_or_init(Proxied::start);
    let head = HEADS[usize::from(how & 3)];
    *proxied.answer.lock().unwrap_or_else(PoisonError::into_inner) = [head.as_bytes(), bytes].concat();
    let asked = json!({"model": "m", "user": "ada", "stream": how & 4 != 0, "messages": [{"role": "user", "content": "hello"}]});
    let request = String::from_utf8_lossy(&with_body("POST", "/v1/chat/completions", &asked)).replacen(
        "\r\n",
        "\r\nconnection: close\r\n",
        1,
    );
    let answer = proxied.sidecar.ask_once(request.as_bytes());
    assert!(
        answer.starts_with(b"HTTP/1.1 ") && !answer.starts_with(b"HTTP/1.1 500"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    assert_eq!(proxied.sidecar.ask(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").status, 200);
    proxied.sidecar.forget(&json!({"user_id": "ada"}));
}

impl Proxied {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let base_url = format!("http://{}/v1", listener.local_addr().expect("an address"));
        let answer = Arc::<Mutex<Vec<u8>>>::default();
        let given = answer.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let bytes = given.lock().unwrap_or_else(PoisonError::into_inner).clone();
                // Whoever hangs up in the middle has read enough.
                let _ = serve(socket, &bytes);
            }
        });
        let upstream = UpstreamSettings { base_url, key: None, patience: PATIENCE };
        let hold = HoldBack { bytes: Some(64), time: PATIENCE };
        let proxy = ProxySettings { block_at: Level::Senior, hold, reply_bytes_max: 1 << 14 };
        let sidecar = Sidecar::with(ServerSettings { proxy: Some((upstream, proxy)), ..settings() });
        Self { sidecar, answer }
    }
}

/// Reads a request, and answers with the bytes.
fn serve(socket: TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    let mut socket = BufReader::new(socket);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if socket.read_line(&mut line)? <= 2 {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    std::io::copy(&mut socket.by_ref().take(length), &mut std::io::sink())?;
    socket.get_mut().write_all(bytes)
}
