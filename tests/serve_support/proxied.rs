//! An upstream that answers as is wanted, and a proxy before it.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::cli_support::{folder, write};
use super::other::Other;
use super::{PATIENCE, Server};

pub const CHAT: &str = "/v1/chat/completions";
pub fn head(socket: &mut TcpStream, status: &str, kind: &str) {
    write!(
        socket,
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\nx-request-id: r1\r\nset-cookie: no\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
}

pub fn sent(socket: &mut TcpStream, kind: &str, body: &str) {
    head(socket, "200 OK", kind);
    socket.write_all(body.as_bytes()).unwrap();
}

pub fn whole(socket: &mut TcpStream, text: &str) {
    sent(socket, "application/json", &completion(text));
}

pub fn completion(text: &str) -> String {
    json!({"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "extra": [1.50],
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]})
    .to_string()
}

pub fn chunk(text: &str) -> String {
    let chunk = json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]});
    format!("data: {chunk}\n\n")
}

/// A reply of so many pieces; before each but the first it may wait to be told.
pub fn streamed(socket: &mut TcpStream, pieces: &[&str], next: Option<&Receiver<()>>) {
    head(socket, "200 OK", "text/event-stream");
    for (number, piece) in pieces.iter().enumerate() {
        if let Some(next) = next.filter(|_| number > 0) {
            let _ = next.recv_timeout(PATIENCE);
        }
        if socket.write_all(chunk(piece).as_bytes()).is_err() {
            return;
        }
    }
    let _ = socket.write_all(b"data: [DONE]\n\n");
}

/// With a policy by which the tiny model alarms nobody, unless another is given.
pub fn proxy(home: &Path, upstream: &Other, more: &[&str]) -> Server {
    let calm = folder();
    let calm = write(&calm, "calm.toml", &strict(2.0));
    let policy = if more.contains(&"--policy") { &[][..] } else { &["--policy", calm.to_str().unwrap()] };
    Server::start(home, &[&["--upstream", &upstream.url, "--kernel", "portable"], policy, more].concat())
}

pub fn asks(texts: &[(&str, &str)]) -> Value {
    let message = |(role, content): &(&str, &str)| json!({"role": role, "content": content});
    json!({"model": "m", "user": "ada", "messages": texts.iter().map(message).collect::<Vec<_>>()})
}

pub fn count(server: &Server) -> u64 {
    let stands = server.get("/v1/users/ada");
    if stands.status == 404 { 0 } else { stands.ok()["messages"].as_u64().unwrap() }
}

/// Until so many messages are kept.
pub fn kept(server: &Server, messages: u64) {
    let begun = Instant::now();
    while count(server) != messages {
        assert!(begun.elapsed() < PATIENCE, "{} messages, not {messages}: {}", count(server), server.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A policy by which nothing is alarmed but a reply of such a stance.
pub fn strict(stance_min: f32) -> String {
    format!(
        "schema_version = 1\nname = \"strict\"\nversion = \"1\"\n[levels.none]\n[levels.watch]\nscore_min = 1.0\n[levels.review]\n\
         score_min = 1.0\n[levels.senior]\nscore_min = 1.0\n[levels.urgent]\nimminent_min = 1.0\n[[rules]]\nid = \"reply\"\n\
         why = \"a reply of that stance\"\nlevel = \"senior\"\nassistant_stance_min = {stance_min}\n"
    )
}

/// The stance that replies to a first message are given.
pub fn stances(asked: &str, replies: &[String]) -> Vec<f32> {
    let home = folder();
    let server = Server::start(home.path(), &["--kernel", "portable"]);
    let said = |role: &str, content: &str| json!({"role": role, "content": content});
    let stance = |reply: &String| {
        let draft =
            json!({"user_id": "ada", "session_id": "s", "messages": [said("user", asked), said("assistant", reply)]});
        let out = server.post("/v1/check", &draft).ok();
        let stance: Vec<f32> = serde_json::from_value(out["messages"][1]["stance"].clone()).unwrap();
        stance[2] + 2.0 * stance[3] - stance[0]
    };
    replies.iter().map(stance).collect()
}

pub const ASKED: &str = "she was there again, in my street";
