//! The sidecar as a proxy: nothing of a blocked reply reaches a client, and everything else does as it came.

#![cfg(feature = "outbound")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use serve_support::cli_support::{folder, write};
use serve_support::other::{Asked, Other};
use serve_support::{PATIENCE, Reply, Server};

mod serve_support;

const CHAT: &str = "/v1/chat/completions";
fn head(socket: &mut TcpStream, status: &str, kind: &str) {
    write!(
        socket,
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\nx-request-id: r1\r\nset-cookie: no\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
}

fn sent(socket: &mut TcpStream, kind: &str, body: &str) {
    head(socket, "200 OK", kind);
    socket.write_all(body.as_bytes()).unwrap();
}

fn whole(socket: &mut TcpStream, text: &str) {
    sent(socket, "application/json", &completion(text));
}

fn completion(text: &str) -> String {
    json!({"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "extra": [1.50],
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]})
    .to_string()
}

fn chunk(text: &str) -> String {
    let chunk = json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]});
    format!("data: {chunk}\n\n")
}

/// A reply of so many pieces; before each but the first it may wait to be told.
fn streamed(socket: &mut TcpStream, pieces: &[&str], next: Option<&Receiver<()>>) {
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
fn proxy(home: &Path, upstream: &Other, more: &[&str]) -> Server {
    let calm = folder();
    let calm = write(&calm, "calm.toml", &strict(2.0));
    let policy = if more.contains(&"--policy") { &[][..] } else { &["--policy", calm.to_str().unwrap()] };
    Server::start(home, &[&["--upstream", &upstream.url, "--kernel", "portable"], policy, more].concat())
}

fn asks(texts: &[(&str, &str)]) -> Value {
    let message = |(role, content): &(&str, &str)| json!({"role": role, "content": content});
    json!({"model": "m", "user": "ada", "messages": texts.iter().map(message).collect::<Vec<_>>()})
}

fn count(server: &Server) -> u64 {
    let stands = server.get("/v1/users/ada");
    if stands.status == 404 { 0 } else { stands.ok()["messages"].as_u64().unwrap() }
}

/// Until so many messages are kept.
fn kept(server: &Server, messages: u64) {
    let begun = Instant::now();
    while count(server) != messages {
        assert!(begun.elapsed() < PATIENCE, "{} messages, not {messages}: {}", count(server), server.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A policy by which nothing is alarmed but a reply of such a stance.
fn strict(stance_min: f32) -> String {
    format!(
        "schema_version = 1\nname = \"strict\"\nversion = \"1\"\n[levels.none]\n[levels.watch]\nscore_min = 1.0\n[levels.review]\n\
         score_min = 1.0\n[levels.senior]\nscore_min = 1.0\n[levels.urgent]\nimminent_min = 1.0\n[[rules]]\nid = \"reply\"\n\
         why = \"a reply of that stance\"\nlevel = \"senior\"\nassistant_stance_min = {stance_min}\n"
    )
}

/// The stance that replies to a first message are given.
fn stances(asked: &str, replies: &[String]) -> Vec<f32> {
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

const ASKED: &str = "she was there again, in my street";

#[test]
fn a_reply_passes_as_it_came_and_both_sides_are_kept() {
    let home = folder();
    let upstream = Other::start(|_, socket| whole(socket, "Good morning to you!"));
    let server = proxy(home.path(), &upstream, &[]);
    let first = asks(&[("system", "Be kind."), ("user", "Good morning")]);
    let headers = [("authorization", "Bearer sk-caller"), ("x-throughline-session", "s1"), ("cookie", "no")];
    let reply = server.post_with(CHAT, &headers, &first);
    assert_eq!((reply.status, reply.text.as_str()), (200, completion("Good morning to you!").as_str()));
    assert_eq!(reply.header("x-throughline-level"), Some("none"));
    assert_eq!((reply.header("x-request-id"), reply.header("set-cookie")), (Some("r1"), None));
    let asked = upstream.asked();
    assert_eq!(asked.body, first.to_string());
    assert!(asked.headers.contains("authorization: bearer sk-caller"), "{}", asked.headers);
    assert!(!asked.headers.contains("throughline") && !asked.headers.contains("cookie"), "{}", asked.headers);
    assert_eq!(count(&server), 2);
    // The client sends everything again: what is new is kept.
    let more = [("user", "Good morning"), ("assistant", "Good morning to you!"), ("user", "It rains")];
    server.post_with(CHAT, &headers, &asks(&more)).ok();
    assert_eq!(count(&server), 4);
    // The same once more, for another reply: the user said it once.
    server.post_with(CHAT, &headers, &asks(&more)).ok();
    assert_eq!(count(&server), 5);
    let stands = server.get("/v1/users/ada").ok();
    assert_eq!(stands["sessions"], 1, "{stands}");
    assert!(
        server.log().lines().all(|line| !line.contains("morning") && !line.contains("sk-caller")),
        "{}",
        server.log()
    );
}

#[test]
fn of_a_user_who_is_not_known_the_whole_conversation_is_taken_in() {
    let home = folder();
    let upstream = Other::start(|_, socket| whole(socket, "Yes."));
    let server = proxy(home.path(), &upstream, &[]);
    let texts = [("user", "One"), ("assistant", "Two"), ("user", "Three")];
    server.post(CHAT, &asks(&texts)).ok();
    assert_eq!(count(&server), 4);
    server.post(CHAT, &asks(&texts)).ok();
    assert_eq!(count(&server), 5, "asked again, it is kept once");
    // Without a session's name the first message makes one: another conversation is another session.
    server.post(CHAT, &asks(&[("user", "Uno")])).ok();
    assert_eq!(server.get("/v1/users/ada").ok()["sessions"], 2);
}

#[test]
fn of_a_long_conversation_as_much_is_taken_in_as_one_turn_may_hold() {
    let home = folder();
    let upstream = Other::start(|_, socket| whole(socket, "Yes."));
    let server = proxy(home.path(), &upstream, &["--turn-bytes-max", "256"]);
    let long = "it rains ".repeat(20);
    let texts = [("user", "One"), ("assistant", &*long), ("user", "Two"), ("assistant", "Three"), ("user", &*long)];
    // The last user message and the two before it fit; what came before would not.
    server.post(CHAT, &asks(&texts)).ok();
    assert_eq!(count(&server), 4);
    server.until_logged("its beginning is not taken in");
    assert!(server.log().contains("messages=2"), "{}", server.log());
    // What is new is never cut: it is refused.
    assert!(server.post(CHAT, &asks(&[("user", &long.repeat(2))])).problem(413).contains("--turn-bytes-max"));
}

#[test]
fn whoever_does_not_say_whose_it_is_is_told() {
    let home = folder();
    let upstream = Other::start(|_, socket| whole(socket, "Yes."));
    let server = proxy(home.path(), &upstream, &[]);
    let told = server.post(CHAT, &json!({"messages": [{"role": "user", "content": "x"}]})).problem(422);
    assert!(told.contains("X-Throughline-User"), "{told}");
    upstream.was_not_asked();
    let named = [("x-throughline-user", "bo")];
    server.post_with(CHAT, &named, &json!({"messages": [{"role": "user", "content": "x"}]})).ok();
    assert_eq!(server.get("/v1/users/bo").ok()["messages"], 2);
}

#[test]
fn a_blocked_prompt_goes_nowhere_and_is_kept() {
    let home = folder();
    let eager = strict(-1.0).replacen("[levels.review]\nscore_min = 1.0", "[levels.review]\nscore_min = 0.0", 1);
    let eager = eager.replacen("[levels.watch]\nscore_min = 1.0", "[levels.watch]\nscore_min = 0.0", 1);
    let policy = write(&home, "eager.toml", &eager);
    let upstream = Other::start(|_, socket| whole(socket, "Yes."));
    let server = proxy(home.path(), &upstream, &["--policy", policy.to_str().unwrap(), "--block-at", "review"]);
    let reply = server.post(CHAT, &asks(&[("user", ASKED)]));
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (400, &json!("content_filter")), "{reply:?}");
    assert_eq!(reply.header("x-throughline-level"), Some("review"));
    assert!(reply.header("x-throughline-alarm").is_some());
    upstream.was_not_asked();
    assert_eq!(count(&server), 1);
}

#[test]
fn nothing_of_a_blocked_reply_reaches_the_client() {
    const SECRET: &str = "the garden is mine tonight";
    let home = folder();
    let policy = write(&home, "strict.toml", &strict(-1.0));
    let upstream = Other::start(|asked, socket| {
        // Said in a text, or in what a tool is to send to somebody.
        let called =
            |text: &str| json!({"tool_calls": [{"index": 0, "function": {"name": "mail", "arguments": text}}]});
        let stream = asked["stream"] == true;
        match (stream, asked["tools"].is_array()) {
            (true, false) => streamed(socket, &["the garden ", "is mine ", "tonight"], None),
            (false, false) => whole(socket, SECRET),
            (true, true) => {
                let event = |text| json!({"choices": [{"index": 0, "delta": called(text)}]});
                let events = ["the garden ", "is mine ", "tonight"].map(|text| format!("data: {}\n\n", event(text)));
                sent(socket, "text/event-stream", &(events.concat() + "data: [DONE]\n\n"));
            }
            (false, true) => {
                let message =
                    json!({"choices": [{"index": 0, "message": called(SECRET), "finish_reason": "tool_calls"}]});
                sent(socket, "application/json", &message.to_string());
            }
        }
    });
    for (hold, tools) in [("whole", false), ("256", false), ("whole", true), ("256", true)] {
        let home = folder();
        let more = ["--policy", policy.to_str().unwrap(), "--block-at", "senior", "--hold-back", hold];
        let server = proxy(home.path(), &upstream, &more);
        let mut asked = asks(&[("user", ASKED)]);
        if tools {
            asked["tools"] = json!([]);
        }
        let reply = server.post(CHAT, &asked);
        assert_eq!(reply.status, 200);
        assert_eq!(reply.json()["choices"][0]["finish_reason"], "content_filter", "{reply:?}");
        asked["stream"] = json!(true);
        let streamed = server.post(CHAT, &asked);
        assert_eq!(streamed.header("content-type"), Some("text/event-stream"));
        assert!(
            streamed.text.contains("content_filter") && streamed.text.ends_with("data: [DONE]\n\n"),
            "{streamed:?}"
        );
        for reply in [reply, streamed] {
            assert!(["garden", "mine", "tonight"].iter().all(|word| !reply.text.contains(word)), "{reply:?}");
        }
        assert_eq!(count(&server), 1, "the user saw nothing of it");
        let metrics = server.get("/metrics").text;
        assert!(metrics.contains("throughline_replies_total{result=\"reply_blocked\"} 2"), "{metrics}");
    }
}

/// Reads a streamed answer bit by bit.
struct Client {
    socket: BufReader<TcpStream>,
    seen: String,
}

impl Client {
    fn ask(server: &Server, asked: &Value) -> Self {
        let at = server.url.strip_prefix("http://").unwrap();
        let mut socket = TcpStream::connect(at).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let body = asked.to_string();
        write!(
            socket,
            "POST {CHAT} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        Self { socket: BufReader::new(socket), seen: String::new() }
    }

    /// Until such a text was seen.
    fn until(&mut self, text: &str) {
        while !self.seen.contains(text) {
            let mut line = String::new();
            assert!(self.socket.read_line(&mut line).unwrap() > 0, "it ended without {text:?}: {}", self.seen);
            self.seen += &line;
        }
    }

    fn rest(mut self) -> String {
        let mut rest = Vec::new();
        self.socket.read_to_end(&mut rest).unwrap();
        self.seen + &String::from_utf8_lossy(&rest)
    }
}

/// Pieces of which the first clears and both together do not, and the stance between.
fn pieces() -> (String, String, f32) {
    let words =
        ["the garden", "she watches", "it rains again", "my street is mine", "they sent a signal", "good night"];
    let pairs: Vec<(String, String)> = words
        .iter()
        .flat_map(|a| words.iter().filter(move |b| a != *b).map(move |b| (format!("{a}, "), format!("{b} and {b}"))))
        .collect();
    let replies: Vec<String> = pairs.iter().flat_map(|(a, b)| [a.trim_end().to_owned(), format!("{a}{b}")]).collect();
    let stances = stances(ASKED, &replies);
    let rises = stances.chunks(2).map(|pair| pair[1] - pair[0]);
    let (best, rise) = rises.enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    assert!(rise > 0.01, "some reply grows worse: {rise}");
    let (a, b) = pairs[best].clone();
    (a, b, stances[2 * best] + rise / 2.0)
}

#[test]
fn a_reply_that_grows_worse_ends_where_it_does() {
    let (first, second, between) = pieces();
    let home = folder();
    let policy = write(&home, "strict.toml", &strict(between));
    let (tell, next) = channel();
    let (one, two) = (first.clone(), second.clone());
    let upstream = Other::start(move |_, socket| streamed(socket, &[&one, &two], Some(&next)));
    let more = ["--policy", policy.to_str().unwrap(), "--block-at", "senior", "--hold-back-ms", "50"];
    let server = proxy(home.path(), &upstream, &more);
    let mut asked = asks(&[("user", ASKED)]);
    asked["stream"] = json!(true);
    let mut client = Client::ask(&server, &asked);
    // It goes out though the upstream is silent: what was said was judged.
    client.until(first.trim_end());
    tell.send(()).unwrap();
    let seen = client.rest();
    let second = second.split_whitespace().next().unwrap().to_owned();
    assert!(!seen.contains(&second) && seen.contains("content_filter"), "{seen}");
    kept(&server, 2);
}

#[test]
fn what_a_client_saw_is_kept_though_it_goes_away() {
    let home = folder();
    let (tell, next) = channel();
    let upstream = Other::start(move |_, socket| {
        streamed(socket, &["Good morning to you, ", "and a long ", "day"], Some(&next));
    });
    let server = proxy(home.path(), &upstream, &["--hold-back-ms", "20"]);
    let mut asked = asks(&[("user", "Hello")]);
    asked["stream"] = json!(true);
    let mut client = Client::ask(&server, &asked);
    client.until("Good morning");
    drop(client);
    drop(tell);
    kept(&server, 2);
    assert_eq!(server.stop().0, Some(0));
}

#[test]
fn a_reply_is_whole_however_it_breaks() {
    let home = folder();
    let events = [": comment\n\n", &chunk("Guten "), &chunk("Tag, größe"), &chunk(" Welt")].concat();
    let sent = events.clone() + "data: {\"choices\": [], \"usage\": {\"total_tokens\": 3}}\n\ndata: [DONE]\n\n";
    let expected = sent.clone();
    let upstream = Other::start(move |asked, socket| {
        head(socket, "200 OK", "text/event-stream");
        for part in sent.as_bytes().chunks(asked["size"].as_u64().unwrap() as usize) {
            socket.write_all(part).unwrap();
            socket.flush().unwrap();
        }
    });
    for (number, size) in [1, 7, 50, 10_000].into_iter().enumerate() {
        let server = proxy(folder().path(), &upstream, &["--hold-back", if number == 0 { "whole" } else { "4" }]);
        let mut asked = asks(&[("user", "Hello")]);
        (asked["stream"], asked["size"]) = (json!(true), json!(size));
        let reply = server.post(CHAT, &asked);
        assert_eq!((reply.status, &reply.text), (200, &expected), "in parts of {size}");
        assert_eq!(count(&server), 2);
    }
    assert_eq!(home.path().read_dir().unwrap().count(), 0);
}

#[test]
fn an_upstream_that_fails_is_told_as_it_is() {
    let upstream = Other::start(|asked, socket| match asked["how"].as_str().unwrap() {
        "busy" => {
            write!(socket, "HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n{{\"error\": 1}}").unwrap();
        }
        "silent" => std::thread::sleep(Duration::from_millis(1_500)),
        "html" => {
            head(socket, "200 OK", "text/html");
            socket.write_all(b"<p>hello").unwrap();
        }
        "broken" => {
            write!(
                socket,
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9999\r\n\r\n{}",
                chunk("Good morning, my friend")
            )
            .unwrap();
        }
        "strange" => {
            head(socket, "200 OK", "text/event-stream");
            write!(socket, "{}data: what is this\n\n", chunk("Good morning")).unwrap();
        }
        _ => {
            head(socket, "200 OK", "application/json");
            socket.write_all(completion(&"long ".repeat(2_000)).as_bytes()).unwrap();
        }
    });
    let home = folder();
    let server = proxy(home.path(), &upstream, &["--upstream-seconds", "1", "--reply-bytes-max", "5000"]);
    let ask = |how: &str| {
        let mut asked = asks(&[("user", how)]);
        asked["how"] = json!(how);
        server.post(CHAT, &asked)
    };
    let busy = ask("busy");
    assert_eq!((busy.status, busy.header("retry-after"), busy.text.as_str()), (429, Some("7"), "{\"error\": 1}"));
    assert!(ask("silent").problem(504).contains("silent"));
    assert!(ask("html").problem(502).contains("no chat completion"));
    assert!(ask("long").problem(502).contains("--reply-bytes-max"));
    let broken = ask("broken");
    assert!(broken.text.contains("broke off") && !broken.text.contains("[DONE]"), "{broken:?}");
    let strange = ask("strange");
    assert!(strange.text.contains("no chunk") && !strange.text.contains("what is this"), "{strange:?}");
    let nobody = Other { url: "http://127.0.0.1:9/v1".into(), asked: channel().1 };
    let home = folder();
    let server = proxy(home.path(), &nobody, &[]);
    assert!(server.post(CHAT, &asks(&[("user", "Hello")])).problem(502).contains("cannot be reached"));
    assert_eq!(count(&server), 1, "what the user said is kept");
}

#[test]
fn where_no_verdict_can_be_had_the_policy_says_what_becomes_of_it() {
    let upstream = Other::start(|_, socket| whole(socket, "Yes."));
    let hasty = [("x-deadline-ms", "1")];
    let long = "she was there again and it rains ".repeat(60);
    for (on_failure, passes) in [("open", true), ("closed", false)] {
        let home = folder();
        let policy = strict(2.0).replace("[levels.none]", &format!("[levels.none]\non_failure = \"{on_failure}\""));
        let policy = write(&home, "policy.toml", &policy);
        let server = proxy(home.path(), &upstream, &["--policy", policy.to_str().unwrap()]);
        let reply = server.post_with(CHAT, &hasty, &asks(&[("user", &long)]));
        if passes {
            assert_eq!((reply.status, reply.header("x-throughline-level")), (200, None), "{reply:?}");
            upstream.asked();
            // It is kept as soon as it can be.
            kept(&server, 2);
            assert!(server.get("/metrics").text.contains("result=\"unjudged\""));
        } else {
            assert!(reply.problem(503).contains("deadline"));
            upstream.was_not_asked();
        }
    }
}

#[test]
fn a_token_of_the_servers_own_goes_nowhere_else() {
    let home = folder();
    let upstream = Other::start(|_, socket| whole(socket, "Yes."));
    let sha256: String = throughline::server::digest("tl_own").iter().map(|byte| format!("{byte:02x}")).collect();
    let tokens = format!("[[tokens]]\nname = \"bot\"\nsha256 = \"{sha256}\"\nscopes = [\"ingest\"]\n");
    let tokens = write(&home, "tokens.toml", &tokens);
    let arguments = ["--tokens", tokens.to_str().unwrap()];
    let ask = |server: &Server, headers: &[(&str, &str)]| -> (Reply, Option<Asked>) {
        let reply = server.post_with(CHAT, headers, &asks(&[("user", "Hello")]));
        (reply, upstream.asked.try_recv().ok())
    };
    let server = proxy(folder().path(), &upstream, &arguments);
    let (reply, asked) = ask(&server, &[("authorization", "Bearer sk-other")]);
    assert!(reply.status == 401 && asked.is_none(), "{reply:?}");
    let (_, asked) = ask(&server, &[("authorization", "Bearer tl_own")]);
    assert!(!asked.unwrap().headers.contains("authorization"));
    let (_, asked) = ask(&server, &[("x-api-key", "tl_own"), ("authorization", "Bearer sk-other")]);
    let headers = asked.unwrap().headers;
    assert!(headers.contains("bearer sk-other") && !headers.contains("tl_own"), "{headers}");
    let (_, asked) = ask(&server, &[("x-api-key", "tl_own"), ("authorization", "Bearer tl_own")]);
    assert!(!asked.unwrap().headers.contains("tl_own"), "though it is sent twice");
    let key = write(&home, "key", "sk-configured\n");
    let with_key = [&arguments[..], &["--upstream-key-file", key.to_str().unwrap()]].concat();
    let server = proxy(folder().path(), &upstream, &with_key);
    let (_, asked) = ask(&server, &[("x-api-key", "tl_own"), ("authorization", "Bearer sk-other")]);
    assert!(asked.unwrap().headers.contains("bearer sk-configured"));
}
