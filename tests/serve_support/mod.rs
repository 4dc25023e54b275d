//! A server of its own for each test, on the tiny model and a free port.

#![allow(dead_code, reason = "every test file uses a part")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::Method;

#[path = "../cli_support/mod.rs"]
pub mod cli_support;
pub mod other;
pub mod proxied;

use cli_support::{MODEL, throughline};

/// Until the server listens, and until it stops.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// By which the tiny model alarms somebody in nearly everything, and calls nothing imminent.
pub const EAGER: &str = r#"
schema_version = 1
name = "eager"
version = "1"
[levels.none]
[levels.watch]
score_min = 0.01
[levels.review]
score_min = 0.02
[levels.senior]
score_min = 1.0
[levels.urgent]
imminent_min = 1.0
"#;

pub struct Server {
    child: Child,
    pub url: String,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    agent: Agent,
    pub token: Option<String>,
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub text: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body of a success.
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()
    }

    /// The detail and hint of a problem of that status.
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], json!(status));
        assert!(!problem["hint"].as_str().unwrap().is_empty(), "{self:?}");
        format!("{} {}", problem["detail"].as_str().unwrap(), problem["hint"].as_str().unwrap())
    }
}

impl Server {
    pub fn start(folder: &Path, arguments: &[&str]) -> Self {
        Self::try_start(folder, arguments).unwrap_or_else(|log| panic!("no server: {log}"))
    }

    /// The server, or what it said instead.
    pub fn try_start(folder: &Path, arguments: &[&str]) -> Result<Self, String> {
        let mut child = throughline()
            .args(["serve", "--model", MODEL, "--bind", "127.0.0.1:0", "--threads", "1", "--folder"])
            .arg(folder)
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (kept, lines) = (log.clone(), BufReader::new(child.stderr.take().unwrap()).lines());
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                *kept.lock().unwrap() += &(line + "\n");
            }
        });
        let agent =
            Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build().new_agent();
        let mut server = Self { child, url: String::new(), log, reader: Some(reader), agent, token: None };
        let begun = Instant::now();
        loop {
            let log = server.log();
            if let Some(rest) = log.split("listening on ").nth(1).filter(|rest| rest.contains('\n')) {
                server.url = rest.split_whitespace().next().unwrap().to_owned();
                return Ok(server);
            }
            if server.child.try_wait().unwrap().is_some() || begun.elapsed() > PATIENCE {
                std::thread::sleep(Duration::from_millis(50));
                return Err(server.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits for words of the log, which is read beside the answers and may come after them.
    pub fn until_logged(&self, words: &str) {
        let begun = Instant::now();
        while !self.log().contains(words) {
            assert!(begun.elapsed() < PATIENCE, "{words:?} is not in the log: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until a count of its metrics is so high.
    pub fn until_counted(&self, name: &str, at_least: f64) {
        let begun = Instant::now();
        loop {
            let text = self.get("/metrics").text;
            let count = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<f64>().ok());
            if count.unwrap_or_else(|| panic!("no {name} in {text}")) >= at_least {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{text}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn with_token(&mut self, token: Option<&str>) -> &Self {
        self.token = token.map(str::to_owned);
        self
    }

    pub fn get(&self, path: &str) -> Reply {
        self.ask(Method::GET, path, &[], None).unwrap()
    }

    pub fn delete(&self, path: &str) -> Reply {
        self.ask(Method::DELETE, path, &[], None).unwrap()
    }

    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.post_with(path, &[], body)
    }

    pub fn post_with(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
        let headers = [headers, &[("content-type", "application/json")]].concat();
        self.ask(Method::POST, path, &headers, Some(&body.to_string())).unwrap()
    }

    pub fn put(&self, path: &str, body: &Value) -> Reply {
        self.ask(Method::PUT, path, &[("content-type", "application/json")], Some(&body.to_string())).unwrap()
    }

    /// Any request; an error where the server is not there.
    pub fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> Result<Reply, ureq::Error> {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut response = self.agent.run(request.body(body.unwrap_or_default().to_owned()).unwrap())?;
        let headers = response.headers().iter();
        let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
        Ok(Reply { status: response.status().as_u16(), headers, text: response.body_mut().read_to_string()? })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; the exit code and the whole log.
    pub fn stop(self) -> (Option<i32>, String) {
        self.terminate();
        self.ended()
    }

    /// The exit code and the whole log, once it has ended.
    pub fn ended(mut self) -> (Option<i32>, String) {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not stop: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        };
        self.reader.take().unwrap().join().unwrap();
        (status.code(), self.log())
    }

    pub fn terminate(&self) {
        let kill = std::process::Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(kill.unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn said(role: &str, content: &str) -> Value {
    json!({"role": role, "content": content, "timestamp": "2026-03-01T10:00:00Z"})
}

pub fn turn(user: &str, session: &str, messages: &[Value]) -> Value {
    json!({"user_id": user, "session_id": session, "messages": messages})
}

/// Turns of ada about her landlady, until one raises an alarm.
pub fn alarm_about_a_landlady(server: &Server) {
    let talk = [
        said("user", "My landlady Ottoline lied about me again."),
        said("assistant", "What happened?"),
        said("user", "She will be sorry. Ottoline always is."),
    ];
    let raises = |_| !server.post("/v1/turns", &turn("ada", "s", &talk)).ok()["alarm"].is_null();
    assert!((0..8).any(raises), "no alarm");
}

/// Turns of a user and an assistant.
pub fn conversation(turns: usize) -> Vec<Vec<Value>> {
    let words = ["the garden", "she was there again", "rain tonight", "they sent a sign", "my street"];
    let message = |i: usize| words.iter().cycle().skip(i).take(3 + i % 5).copied().collect::<Vec<_>>().join(", ");
    (0..turns).map(|i| vec![said("user", &message(2 * i)), said("assistant", &message(2 * i + 1))]).collect()
}
