//! Replies that are streamed: what is blocked ends where it does, and what clears goes out in time.

#![cfg(feature = "outbound")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::channel;

use serde_json::{Value, json};
use serve_support::cli_support::{folder, write};
use serve_support::other::Other;
use serve_support::proxied::*;
use serve_support::{PATIENCE, Server};

mod serve_support;

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
        let levels = [&reply, &streamed].map(|reply| reply.header("x-throughline-level"));
        assert_eq!(
            levels,
            [Some("senior"), Some("none")],
            "after the reply, and where headers go before it, after the prompt"
        );
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
fn what_has_no_words_goes_out_in_time() {
    let home = folder();
    let (tell, next) = channel();
    let upstream = Other::start(move |_, socket| streamed(socket, &["保护花园", "今晚"], Some(&next)));
    let server = proxy(home.path(), &upstream, &["--hold-back-ms", "50"]);
    let mut asked = asks(&[("user", "Hello")]);
    asked["stream"] = json!(true);
    let mut client = Client::ask(&server, &asked);
    // The upstream is silent, and nothing says where a word ends.
    client.until("保护花园");
    tell.send(()).unwrap();
    assert!(client.rest().contains("今晚"));
    kept(&server, 2);
}

#[test]
fn events_that_are_held_are_bounded_as_text_is() {
    let upstream = Other::start(|asked, socket| {
        streamed(socket, &vec!["a "; asked["pieces"].as_u64().unwrap() as usize], None);
    });
    let home = folder();
    let server = proxy(home.path(), &upstream, &["--hold-back", "whole", "--reply-bytes-max", "1024"]);
    // 200 and 600 bytes of text, some 14 and 42 KB of events.
    for (pieces, passes) in [(100, true), (300, false)] {
        let mut asked = asks(&[("user", "Hello")]);
        (asked["stream"], asked["pieces"]) = (json!(true), json!(pieces));
        let reply = server.post(CHAT, &asked);
        assert_eq!(reply.text.ends_with("data: [DONE]\n\n"), passes, "{reply:?}");
        assert_eq!(reply.text.contains("longer than 16384 bytes"), !passes, "{reply:?}");
        assert_eq!(reply.text.contains("chat.completion.chunk"), passes, "nothing of it goes out");
    }
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
fn what_a_client_saw_is_kept_though_the_server_stops() {
    let home = folder();
    let (tell, next) = channel();
    let upstream = Other::start(move |_, socket| {
        streamed(socket, &["Good morning to you, ", "and a long ", "day"], Some(&next));
    });
    let server = proxy(home.path(), &upstream, &["--hold-back-ms", "20", "--drain-seconds", "1"]);
    let mut asked = asks(&[("user", "Hello")]);
    asked["stream"] = json!(true);
    let mut client = Client::ask(&server, &asked);
    client.until("Good morning");
    // The upstream says nothing more, for longer than anybody is waited for.
    assert_eq!(server.stop().0, Some(0));
    kept(&proxy(home.path(), &upstream, &[]), 2);
    drop(tell);
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
        let kept = folder();
        let server = proxy(kept.path(), &upstream, &["--hold-back", if number == 0 { "whole" } else { "4" }]);
        let mut asked = asks(&[("user", "Hello")]);
        (asked["stream"], asked["size"]) = (json!(true), json!(size));
        let reply = server.post(CHAT, &asked);
        assert_eq!((reply.status, &reply.text), (200, &expected), "in parts of {size}");
        assert_eq!(count(&server), 2);
    }
    assert_eq!(home.path().read_dir().unwrap().count(), 0);
}
