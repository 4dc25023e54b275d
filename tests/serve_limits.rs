//! What the sidecar refuses, whom, and how it stops.

#![cfg(feature = "server")]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use serve_support::cli_support::{code, folder, text, throughline, write};
use serve_support::{Server, conversation, said, turn};
use ureq::http::Method;

mod serve_support;

#[test]
fn errors_name_the_value_and_a_hint_and_never_the_text() {
    let home = folder();
    let server = Server::start(
        home.path(),
        &["--body-bytes-max", "20000", "--turn-bytes-max", "9999", "--history-messages-max", "3"],
    );
    let secret = "SECRETWORD";
    let post =
        |body: &str, headers: &[(&str, &str)]| server.ask(Method::POST, "/v1/turns", headers, Some(body)).unwrap();
    let is_json = [("content-type", "application/json")];
    let unread = [
        (post(&format!("{{\"user_id\": \"{secret}\", "), &is_json), 400, "no JSON"),
        (post(&format!("{{\"user_id\": 3, \"{secret}\": 1}}"), &is_json), 422, "user_id is of another kind"),
        (post(&format!("{{\"user_id\": \"ada\", \"{secret}\": 1}}"), &is_json), 422, "… is no field"),
        (post(secret, &[("content-type", "text/plain")]), 415, "application/json"),
        (post(&format!("\"{}\"", secret.repeat(3_000)), &is_json), 413, "30002 bytes, the limit is 20000"),
        (server.post("/v1/turns", &turn("", "s", &[said("user", secret)])), 422, "user_id has 0 characters"),
        (server.post("/v1/turns", &turn(&"x".repeat(257), "s", &[said("user", secret)])), 422, "257"),
        (server.post("/v1/turns", &turn("ada", "s", &[])), 422, "0 messages"),
        (server.post("/v1/turns", &turn("ada", "s", &vec![said("user", secret); 4])), 507, "the limit is 3"),
        (
            server.post("/v1/turns", &turn("ada", "s", &[said("user", &secret.repeat(1_000))])),
            413,
            "10000 bytes are said",
        ),
        (server.get("/v1/turns"), 405, "method"),
        (server.get("/v1/alarms/stream?open=true"), 400, "query"),
        (server.ask(Method::GET, "/v1/alarms/stream", &[("last-event-id", "1x")], None).unwrap(), 400, "Last-Event-ID"),
        (server.post("/v1/turns", &turn("ada", "s", &[said(secret, "x")])), 422, "kind"),
        (
            server.post_with("/v1/turns", &[("x-deadline-ms", "0")], &turn("a", "s", &[said("user", "x")])),
            400,
            "X-Deadline-Ms is 0",
        ),
        (server.post("/v1/score", &json!({"sessions": []})), 422, "sessions is empty"),
        (
            server.post("/v1/moderations", &json!({"input": [{"type": "image_url", "image_url": {"url": secret}}]})),
            422,
            "image",
        ),
        (server.get("/v1/users/nobody"), 404, "nothing is kept"),
        (server.get("/v1/alarms?after=x"), 400, "query"),
        (server.get("/nowhere"), 404, "nothing at this path"),
    ];
    let long = unread[9].0.json();
    assert_eq!((&long["value"], &long["limit"]), (&json!(10_000), &json!(9_999)), "for programs, too: {long}");
    for (reply, status, part) in unread {
        let told = reply.problem(status);
        assert!(told.contains(part), "{told}");
        assert!(!reply.text.contains(secret), "{reply:?}");
    }
    server.get("/v1/users/ada").problem(404);
    server.post("/v1/turns", &turn("ada", "s", &[said("user", secret), said("system", secret), said("tool", "")])).ok();
    let (status, log) = server.stop();
    assert_eq!(status, Some(0));
    assert!(!log.contains(secret), "{log}");
}

#[test]
fn whoever_has_no_token_or_not_that_scope_is_turned_away() {
    let home = folder();
    let tokens = home.path().join("tokens.toml");
    let token = |name: &str, scopes: &[&str]| {
        let scopes = scopes.iter().flat_map(|scope| ["--scope", scope]);
        let made = throughline().arg("token").arg(name).args(scopes).output().unwrap();
        assert_eq!(code(&made), 0, "{made:?}");
        (text(&made.stdout), text(&made.stderr).trim().to_owned())
    };
    let (ingest, reader) = (token("bot", &["ingest"]), token("desk", &["read", "review"]));
    let (viewer, reviewer) = (token("view", &["read"]), token("rev", &["review"]));
    let all = [&ingest.0, &reader.0, &viewer.0, &reviewer.0].map(String::as_str).join("\n");
    std::fs::write(&tokens, all).unwrap();
    assert!(!std::fs::read_to_string(&tokens).unwrap().contains(&ingest.1), "the token itself is not kept");
    let mut server = Server::start(home.path(), &["--tokens", tokens.to_str().unwrap()]);
    let asked = turn("ada", "s", &conversation(1)[0]);
    server.post("/v1/turns", &asked).problem(401);
    assert_eq!(server.get("/healthz").status, 200, "whether it lives is no secret");
    server.with_token(Some("tl_wrong")).post("/v1/turns", &asked).problem(401);
    server.with_token(Some(&reader.1)).post("/v1/turns", &asked).problem(403);
    server.with_token(Some(&ingest.1)).post("/v1/turns", &asked).ok();
    for path in ["/v1/users/ada", "/v1/alarms", "/v1/alarms/stream", "/metrics"] {
        server.get(path).problem(403);
    }
    server.delete("/v1/users/ada").problem(403);
    for path in ["/v1/users/ada/targets", "/v1/users/ada/messages"] {
        server.with_token(Some(&viewer.1)).get(path).problem(403);
        server.with_token(Some(&reviewer.1)).get(path).problem(403);
        server.with_token(Some(&reader.1)).get(path).ok();
    }
    server.get("/v1/users/ada").ok();
    server.post("/v1/users/ada/acknowledge", &json!({"by": "rev"})).ok();
    server.delete("/v1/users/ada").problem(403);
    server.put("/v1/users/ada/hold", &json!({"held": true})).problem(403);
    // Tokens are changed while the server goes on; a file that cannot be used changes nothing.
    let admin = token("boss", &["admin"]);
    std::fs::write(&tokens, &admin.0).unwrap();
    std::thread::sleep(Duration::from_millis(1_200));
    assert_eq!(server.with_token(Some(&admin.1)).delete("/v1/users/ada").status, 204);
    server.with_token(Some(&ingest.1)).post("/v1/turns", &asked).problem(401);
    std::fs::write(&tokens, "tokens = 3").unwrap();
    std::thread::sleep(Duration::from_millis(1_200));
    assert_eq!(server.with_token(Some(&admin.1)).delete("/v1/users/ada").status, 404);
    server.until_logged("it stays as it was");
}

#[test]
fn beyond_this_machine_it_listens_with_tokens_alone_and_no_page_may_ask() {
    let home = folder();
    let refused = throughline().args(["serve", "--bind", "0.0.0.0:0", "--folder"]).arg(home.path()).output().unwrap();
    assert_eq!(code(&refused), 2);
    let refused = text(&refused.stderr);
    assert!(refused.contains("--tokens") && refused.contains("hint"), "{refused}");
    let server = Server::start(home.path(), &[]);
    let body = turn("ada", "s", &[said("user", "x")]).to_string();
    let json = ("content-type", "application/json");
    for page in [("origin", "http://evil.example"), ("sec-fetch-site", "same-origin"), ("host", "evil.example:8787")] {
        server.ask(Method::POST, "/v1/turns", &[json, page], Some(&body)).unwrap().problem(403);
        server.ask(Method::GET, "/v1/alarms", &[page], None).unwrap().problem(403);
    }
    server.ask(Method::POST, "/v1/turns", &[json, ("sec-fetch-site", "none")], Some(&body)).unwrap().ok();
}

#[test]
fn one_server_has_a_folder() {
    let home = folder();
    let server = Server::start(home.path(), &[]);
    let second = Server::try_start(home.path(), &[]).err().unwrap();
    assert!(second.contains("another server") && second.contains("hint"), "{second}");
    server.kill();
    Server::start(home.path(), &[]);
}

#[test]
fn whoever_has_no_token_is_turned_away_before_a_body_is_read() {
    let home = folder();
    let made = throughline().args(["token", "bot", "--scope", "ingest"]).output().unwrap();
    let tokens = write(&home, "tokens.toml", &text(&made.stdout));
    let server = Server::start(home.path(), &["--tokens", tokens.to_str().unwrap()]);
    let mut stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // The body that is announced never comes.
    let head = "POST /v1/turns HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9999\r\n\r\n{";
    stream.write_all(head.as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    assert!(line.contains("401"), "{line}");
}

/// Half a minute of waiting, and no work.
#[test]
fn a_body_that_does_not_come_is_not_waited_for_for_ever() {
    let home = folder();
    let server = Server::start(home.path(), &[]);
    let begin = |head: &str| {
        let mut stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        BufReader::new(stream)
    };
    let begun = std::time::Instant::now();
    let mut halves = begin(
        "POST /v1/turns HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9999\r\n\r\n{",
    );
    let mut line = String::new();
    halves.read_line(&mut line).unwrap();
    assert!(line.contains("408") && begun.elapsed() >= Duration::from_secs(29), "{line} after {:?}", begun.elapsed());
    assert_eq!(server.get("/readyz").status, 200, "others are served");
}

#[test]
fn a_half_sent_request_does_not_keep_the_server() {
    let home = folder();
    let server = Server::start(home.path(), &["--drain-seconds", "1"]);
    let mut stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    let head =
        "POST /v1/turns HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9999\r\n\r\n{";
    stream.write_all(head.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let (status, log) = server.stop();
    assert_eq!(status, Some(0), "{log}");
    assert!(log.contains("are left"), "{log}");
}

#[test]
fn whoever_waits_for_a_reply_does_not_wait_for_whole_histories() {
    let home = folder();
    // A history alone may be larger than the queue: the room of turns is their own.
    let server = Server::start(home.path(), &["--queue-tokens-max", "1000"]);
    let messages: Vec<Value> =
        (0..1_500).map(|i| said("user", &format!("{i} {}", "the garden again, ".repeat(12)))).collect();
    let whole = json!({"sessions": [{"session_id": "s", "messages": messages}]});
    std::thread::scope(|scope| {
        let batch = scope.spawn(|| {
            let begun = std::time::Instant::now();
            server.post("/v1/score", &whole).ok();
            begun.elapsed()
        });
        std::thread::sleep(Duration::from_millis(100));
        let begun = std::time::Instant::now();
        server.post("/v1/turns", &turn("ada", "s", &[said("user", "hello")])).ok();
        // What is judged without a history of its user's is one to the desk, and a small one.
        server.post("/v1/moderations", &json!({"input": "hello"})).ok();
        let waited = begun.elapsed();
        assert_eq!(server.get("/readyz").status, 200);
        let batch = batch.join().unwrap();
        assert!(waited < batch / 3, "{waited:?} beside {batch:?}");
    });
    // What nobody waits for any more is not read to its end.
    let late = server.post_with("/v1/score", &[("x-deadline-ms", "100")], &whole);
    late.problem(503);
    let begun = std::time::Instant::now();
    while !server.get("/metrics").text.contains("throughline_skipped_total 1") {
        assert!(begun.elapsed() < Duration::from_secs(2), "{}", server.get("/metrics").text);
        std::thread::sleep(Duration::from_millis(5));
    }
    let long = json!({"sessions": [{"session_id": "s", "messages": [said("user", &"x".repeat(300_000))]}]});
    server.post("/v1/score", &long).problem(413);
    // One that waits longer than it wants is told when the time has come.
    std::thread::scope(|scope| {
        scope.spawn(|| server.post("/v1/score", &whole).ok());
        std::thread::sleep(Duration::from_millis(50));
        let begun = std::time::Instant::now();
        let late = server.post_with("/v1/score", &[("x-deadline-ms", "40")], &whole);
        assert!(matches!(late.status, 429 | 503), "{late:?}");
        assert!(late.header("retry-after").is_some() && begun.elapsed() < Duration::from_secs(2), "{late:?}");
    });
}

#[test]
fn an_overloaded_server_says_when_to_come_back() {
    let home = folder();
    let server = Server::start(home.path(), &["--queue-tokens-max", "3000"]);
    let long = "the garden again, ".repeat(400);
    let statuses: Vec<(u16, Option<String>)> = std::thread::scope(|scope| {
        let one = |number: usize| {
            let (server, long) = (&server, &long);
            scope.spawn(move || {
                let reply = server.post("/v1/turns", &turn(&format!("u{number}"), "s", &[said("user", long)]));
                if reply.status != 200 {
                    reply.problem(429);
                }
                (reply.status, reply.header("retry-after").map(str::to_owned))
            })
        };
        let all: Vec<_> = (0..24).map(one).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let (served, refused): (Vec<_>, Vec<_>) = statuses.into_iter().partition(|(status, _)| *status == 200);
    assert!(!served.is_empty() && !refused.is_empty(), "{served:?} {refused:?}");
    for (_, after) in refused {
        assert!((1..=600).contains(&after.unwrap().parse::<u64>().unwrap()));
    }
    // It goes on at once.
    server.post("/v1/turns", &turn("late", "s", &[said("user", "hello")])).ok();
    assert_eq!(server.get("/readyz").status, 200);
    let metrics = server.get("/metrics").text;
    assert!(metrics.contains("throughline_refused_total") && metrics.ends_with("# EOF\n"), "{metrics}");
}

/// Each is a small history of its own: none is served within another, whose callers would wait for all that come after them.
#[test]
fn very_many_texts_at_once_are_answered_one_after_the_other() {
    let home = folder();
    let server = Server::start(home.path(), &["--deadline-ms", "60000"]);
    let asked = json!({"input": "the garden again"});
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..200).map(|_| scope.spawn(|| server.post("/v1/moderations", &asked).status)).collect();
        assert!(all.into_iter().all(|one| one.join().unwrap() == 200));
    });
    // Whoever asks about another text meanwhile is served between windows still.
    assert_eq!(server.stop().0, Some(0));
}

#[test]
fn a_time_to_come_counts_as_now() {
    let home = folder();
    let server = Server::start(home.path(), &["--kernel", "portable"]);
    let now = || jiff::Timestamp::now().to_string();
    // What both said is the same; one of them dates the first of it long after the second.
    let of = |user: &str, first: &str| {
        let say = |session: &str, time: &str| {
            let said = json!({"role": "user", "content": "the garden, she was there again", "timestamp": time});
            server.post("/v1/turns", &turn(user, session, &[said])).ok()["arcs"].clone()
        };
        say("s1", first);
        say("s2", &now())
    };
    let (early, late) = (of("ada", "9999-01-01T00:00:00Z"), of("bo", &now()));
    for (a, b) in early.as_array().unwrap().iter().zip(late.as_array().unwrap()) {
        let score = |arc: &Value| arc["score_now"].as_f64().unwrap();
        assert!((score(a) - score(b)).abs() < 1e-4 && score(a) > 0.1, "{a} {b}");
    }
}

#[test]
fn what_was_taken_in_is_answered_when_the_server_stops() {
    let home = folder();
    let server = Server::start(home.path(), &[]);
    let long = "the garden again, ".repeat(300);
    let answers: Vec<u16> = std::thread::scope(|scope| {
        let one = |number: usize| {
            let (server, long) = (&server, &long);
            scope.spawn(move || {
                server.post("/v1/turns", &turn(&format!("u{number}"), "s", &[said("user", long)])).status
            })
        };
        let all: Vec<_> = (0..6).map(one).collect();
        std::thread::sleep(Duration::from_millis(150));
        server.terminate();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let (status, log) = server.ended();
    assert_eq!(status, Some(0), "{log}");
    assert!(answers.iter().all(|status| *status == 200), "{answers:?}");
    let server = Server::start(home.path(), &[]);
    for number in 0..6 {
        assert_eq!(server.get(&format!("/v1/users/u{number}")).ok()["messages"], json!(1));
    }
}

#[test]
fn a_token_is_answered_so_often_and_no_oftener() {
    let home = folder();
    let token = |name: &str, rate: Option<u32>| {
        let sha256: String = throughline::server::digest(name).iter().map(|byte| format!("{byte:02x}")).collect();
        let rate = rate.map(|rate| format!("requests_per_minute = {rate}\n")).unwrap_or_default();
        format!("[[tokens]]\nname = \"{name}\"\nsha256 = \"{sha256}\"\nscopes = [\"read\"]\n{rate}")
    };
    let tokens = home.path().join("tokens.toml");
    std::fs::write(&tokens, token("slow", Some(12)) + &token("fast", None)).unwrap();
    let mut server = Server::start(home.path(), &["--tokens", tokens.to_str().unwrap()]);
    // A sixth of 12 at once, then one every five seconds.
    for _ in 0..2 {
        server.with_token(Some("slow")).get("/v1/alarms").ok();
    }
    let refused = server.with_token(Some("slow")).get("/v1/alarms");
    assert!(refused.problem(429).contains("12 a minute"));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=6).contains(&wait), "{wait}");
    server.with_token(Some("fast")).get("/v1/alarms").ok();
    // Names stand in records: without one, the file is no better than before.
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    std::fs::write(&tokens, token(" ", None)).unwrap();
    server.with_token(Some("fast")).get("/v1/alarms").ok();
    server.until_logged("token 1 of the file: its name has 1 characters");
    let refused = throughline().args(["token", "", "--scope", "read"]).output().unwrap();
    assert!(code(&refused) == 2 && text(&refused.stderr).contains("name"), "{refused:?}");
    // That another token was added does not let this one begin anew.
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    std::fs::write(&tokens, token("slow", Some(12)) + &token("fast", None) + &token("third", None)).unwrap();
    server.with_token(Some("third")).get("/v1/alarms").ok();
    server.with_token(Some("slow")).get("/v1/alarms").problem(429);
}

#[test]
fn without_an_upstream_nothing_is_proxied() {
    let home = folder();
    let server = Server::start(home.path(), &[]);
    let asked = json!({"user": "ada", "messages": [{"role": "user", "content": "Hello"}]});
    assert!(server.post("/v1/chat/completions", &asked).problem(501).contains("--upstream"));
    server.get("/v1/users/ada").problem(404);
}

#[test]
fn the_doctor_says_what_keeps_a_server_from_starting() {
    let (home, data) = (folder(), folder());
    let doctor = |more: &[&str]| {
        let arguments = ["doctor", "--model", serve_support::cli_support::MODEL, "--bind", "127.0.0.1:0", "--folder"];
        throughline().args(arguments).arg(data.path()).args(more).output().unwrap()
    };
    let well = doctor(&[]);
    assert_eq!(code(&well), 0, "{well:?}");
    let told = text(&well.stdout);
    for line in [
        "ok    model",
        "tokens a second",
        "ok    policy",
        "note  store",
        "note  tokens",
        "ok    port",
        "ok    settings",
    ] {
        assert!(told.contains(line), "no {line:?}: {told}");
    }
    assert!(told.contains("memory     keys and values may take") && told.contains("--cache-mib-max"), "{told}");
    assert!(data.path().read_dir().unwrap().next().is_none(), "nothing is made");
    let rule = "[[rules]]\nid = \"nine\"\nwhy = \"w\"\ncategory = \"S9\"\nlevel = \"review\"\n";
    let rules = write(&home, "rules.toml", &(include_str!("../policies/default.toml").to_owned() + rule));
    let waits = doctor(&["--policy", rules.to_str().unwrap()]);
    assert!(code(&waits) == 2 && text(&waits.stdout).contains("rule nine of the policy waits"), "{waits:?}");
    let refused = Server::try_start(data.path(), &["--policy", rules.to_str().unwrap()]).err().unwrap();
    assert!(refused.contains("rule nine of the policy waits"), "{refused}");
    let server = Server::start(data.path(), &[]);
    server.post("/v1/turns", &turn("ada", "s", &conversation(1)[0])).ok();
    let beside = doctor(&[]);
    assert!(text(&beside.stdout).contains("users 1, messages 2"), "{beside:?}");
    let policy = write(&home, "policy.toml", "levels = 3");
    let (taken, policy) = (server.url.strip_prefix("http://").unwrap(), policy.to_str().unwrap());
    let ill = doctor(&[
        "--tokens",
        "/nowhere/tokens.toml",
        "--tls-certificate",
        "/nowhere/a.pem",
        "--tls-key",
        "/nowhere/b.pem",
        "--policy",
        policy,
    ]);
    assert_eq!(code(&ill), 2, "{ill:?}");
    let told = text(&ill.stdout);
    for line in ["FAIL  tokens", "FAIL  settings", "FAIL  policy", "a.pem"] {
        assert!(told.contains(line), "no {line:?}: {told}");
    }
    let arguments = ["doctor", "--model", serve_support::cli_support::MODEL, "--folder", "/nowhere", "--bind", taken];
    let taken = throughline().args(arguments).output().unwrap();
    assert!(code(&taken) == 2 && text(&taken.stdout).contains("FAIL  port"), "{taken:?}");
}

/// A text that is read for much longer than its caller waits.
#[test]
fn a_stop_does_not_wait_for_what_nobody_waits_for() {
    let home = folder();
    let sizes = ["--turn-bytes-max", "16000000", "--body-bytes-max", "20000000", "--drain-seconds", "1"];
    let server = Server::start(home.path(), &[&sizes[..], &["--kernel", "portable"]].concat());
    let long = turn("ada", "s", &[said("user", &"a b c d ".repeat(1_900_000))]);
    server.post_with("/v1/turns", &[("x-deadline-ms", "1000")], &long).problem(503);
    let begun = std::time::Instant::now();
    let (code, log) = server.stop();
    assert_eq!(code, Some(0));
    assert!(log.contains("it is left, and not kept"), "it was read sooner than a test can stop it: {log}");
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    let server = Server::start(home.path(), &[]);
    assert_eq!(server.get("/v1/users/ada").status, 404, "it was not acknowledged, and is not kept");
}
