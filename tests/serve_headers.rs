//! Heads of requests and answers: how large one may be, what every answer says to browsers, and whether all statuses are described.

#![cfg(feature = "server")]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use serde_json::Value;
use serve_support::cli_support::folder;
use serve_support::{PATIENCE, Server, said, turn};
use ureq::http::Method;

mod serve_support;

/// What every answer says to whoever shows it.
const TO_BROWSERS: [(&str, &str); 4] = [
    ("x-content-type-options", "nosniff"),
    ("cache-control", "no-store"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ("referrer-policy", "no-referrer"),
];

/// The largest head, in bytes, and the most fields of one.
const HEAD_BYTES_MAX: usize = 64 << 10;
const FIELDS_MAX: usize = 100;

/// The head of what is answered to these bytes, in lower case, line by line.
fn head(server: &Server, asked: &str) -> Vec<String> {
    let mut stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(asked.as_bytes()).unwrap();
    let lines = BufReader::new(stream).lines().map(|line| line.unwrap().to_lowercase());
    lines.take_while(|line| !line.is_empty()).collect()
}

#[test]
fn every_answer_says_that_nothing_here_is_for_browsers() {
    let home = folder();
    let server = Server::start(home.path(), &[]);
    let turn = turn("ada", "s", &[said("user", "Good morning")]);
    let page = [("origin", "http://evil.example")];
    let answers = [
        (200, server.get("/healthz")),
        (200, server.get("/openapi.json")),
        (200, server.get("/metrics")),
        (200, server.post("/v1/turns", &turn)),
        (204, server.delete("/v1/users/ada")),
        (403, server.ask(Method::GET, "/v1/alarms", &page, None).unwrap()),
        (404, server.get("/nowhere")),
        (405, server.get("/v1/turns")),
        (415, server.ask(Method::POST, "/v1/turns", &[("content-type", "text/plain")], Some("x")).unwrap()),
    ];
    for (status, answer) in answers {
        assert_eq!(answer.status, status, "{answer:?}");
        for (name, value) in TO_BROWSERS {
            assert_eq!(answer.header(name), Some(value), "{answer:?}");
        }
    }
    // A stream says by itself how it is cached.
    let stream = head(&server, "GET /v1/alarms/stream HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert!(stream.contains(&"content-type: text/event-stream".to_owned()), "{stream:?}");
    for (name, value) in TO_BROWSERS {
        let lines = stream.iter().filter(|line| line.starts_with(&format!("{name}:")));
        assert_eq!(lines.collect::<Vec<_>>(), [&format!("{name}: {value}")], "{stream:?}");
    }
}

#[test]
fn a_head_that_is_too_large_is_told_so() {
    let home = folder();
    let server = Server::start(home.path(), &[]);
    let begin = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n";
    let status = |asked: &str| head(&server, asked)[0].split_whitespace().nth(1).unwrap().to_owned();
    let long = |bytes: usize| format!("{begin}x: {}", "x".repeat(bytes - begin.len() - "x: ".len()));
    let end = "\r\n\r\n";
    assert_eq!(status(&(long(HEAD_BYTES_MAX - 1_024) + end)), "200");
    // Its end is not waited for. Nor is more sent than is read: the system takes an answer back that came before something unread.
    assert_eq!(status(&long(HEAD_BYTES_MAX)), "431");
    let many = |fields: usize| format!("{begin}{}\r\n", "x: 1\r\n".repeat(fields - 1));
    assert_eq!(status(&many(FIELDS_MAX)), "200");
    assert_eq!(status(&many(FIELDS_MAX + 1)), "431");
    assert_eq!(server.get("/healthz").status, 200, "it goes on");
}

/// What is looked at before a handler is asked, or by its extractors, may be at fault on every route that has it.
#[test]
fn the_description_names_what_every_route_may_answer() {
    let description: Value = serde_json::from_str(&throughline::server::openapi()).unwrap();
    let paths = description["paths"].as_object().unwrap();
    let routes = paths.iter().flat_map(|(path, methods)| {
        methods.as_object().unwrap().iter().map(move |(method, route)| (format!("{method} {path}"), route))
    });
    let mut scoped = 0;
    for (name, route) in routes {
        let mut statuses = Vec::new();
        // Routes without a token say so by a list of their own.
        if route["security"].is_null() {
            scoped += 1;
            statuses.extend(["401", "403", "429"]);
        }
        if route["requestBody"].is_object() {
            statuses.extend(["400", "408", "413", "415", "422"]);
        }
        if name.contains("{user_id}") {
            statuses.extend(["400", "422"]);
        }
        let told = route["responses"].as_object().unwrap();
        for status in statuses {
            assert!(told.contains_key(status) || told.contains_key("4XX"), "{name} does not tell of {status}");
        }
    }
    assert!(scoped > 10, "{scoped}");
}
