//! Traces of requests, to an OpenTelemetry collector: what took how long, and nothing of who said what.

#![cfg(feature = "otel")]

use std::io::Write;
use std::time::{Duration, Instant};

use serve_support::cli_support::folder;
use serve_support::other::Other;
use serve_support::{PATIENCE, Server, conversation, turn};

mod serve_support;

const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;

#[test]
fn a_request_is_a_part_of_its_callers_trace_and_says_nothing_of_anybody() {
    let home = folder();
    let collector = Other::start(|_, socket| {
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
    });
    let server = Server::start(home.path(), &["--otlp", collector.url.trim_end_matches("/v1")]);
    let parent = [("traceparent", &*format!("00-{TRACE:032x}-00f067aa0ba902b7-01"))];
    server.post_with("/v1/turns", &parent, &turn("ada-lovelace", "s", &conversation(1)[0])).ok();
    server.get("/v1/users/ada-lovelace").ok();
    // What is left goes out when the server stops.
    let (status, log) = server.stop();
    assert_eq!(status, Some(0), "{log}");
    let (mut all, mut of_trace, begun) = (String::new(), 0, Instant::now());
    while !all.contains("GET /v1/users/{user_id}") {
        assert!(begun.elapsed() < PATIENCE, "{all}");
        let Ok(asked) = collector.asked.recv_timeout(Duration::from_secs(5)) else { continue };
        assert!(asked.headers.starts_with("post /v1/traces http/1.1"), "{}", asked.headers);
        all += &asked.body;
        of_trace += asked.bytes.windows(16).filter(|bytes| *bytes == TRACE.to_be_bytes()).count();
    }
    for told in ["POST /v1/turns", "wait", "judge", "close", "service.name", "throughline", "http.response.status_code"]
    {
        assert!(all.contains(told), "{told} is not in {all:?}");
    }
    assert_eq!(of_trace, 4, "the turn, its wait, its judging and its end");
    for secret in ["ada", "lovelace", "garden"] {
        assert!(!all.contains(secret), "{secret} is in {all:?}");
    }
}
