//! Models by name, from a hub on the loopback interface that the test makes.

#![cfg(feature = "hub")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};
use throughline::engine::hub::{Fetched, HubSettings, fetch_with};
use throughline::engine::{EngineError, ModelSource, load};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const NAME: &str = "org/tiny";

/// A file of the hub: what it serves and the ETag it names.
#[derive(Clone)]
struct Served {
    bytes: Vec<u8>,
    etag: String,
}

/// A request: method, path, authorization.
type Seen = Arc<Mutex<Vec<(String, String, Option<String>)>>>;

struct LoopbackHub {
    endpoint: String,
    seen: Seen,
    cache: tempfile::TempDir,
}

impl LoopbackHub {
    fn start(files: BTreeMap<String, Served>, token: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let seen: Seen = Seen::default();
        let log = Arc::clone(&seen);
        // The thread ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (files, log) = (files.clone(), Arc::clone(&log));
                std::thread::spawn(move || answer(stream, &files, token, &log));
            }
        });
        Self { endpoint, seen, cache: tempfile::tempdir().unwrap() }
    }

    fn settings(&self) -> HubSettings {
        HubSettings {
            endpoint: Some(self.endpoint.clone()),
            token: Some("hf_test".into()),
            cache: Some(self.cache.path().to_owned()),
            ..HubSettings::default()
        }
    }

    fn fetch(&self) -> Result<Fetched, EngineError> {
        fetch_with(NAME, &self.settings())
    }

    fn requests(&self, method: &str) -> usize {
        self.seen.lock().unwrap().iter().filter(|(seen, ..)| seen == method).count()
    }
}

fn answer(stream: TcpStream, files: &BTreeMap<String, Served>, token: Option<&str>, log: &Seen) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let mut words = line.split_whitespace().map(str::to_owned);
        let (Some(method), Some(path)) = (words.next(), words.next()) else { return };
        let mut authorization = None;
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header).unwrap_or(0) == 0 || header.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = header.split_once(':')
                && name.eq_ignore_ascii_case("authorization")
            {
                authorization = Some(value.trim().to_owned());
            }
        }
        log.lock().unwrap().push((method.clone(), path.clone(), authorization.clone()));
        let allowed = token.is_none_or(|token| authorization == Some(format!("Bearer {token}")));
        let file = path.strip_prefix(&format!("/{NAME}/resolve/main/")).and_then(|name| files.get(name));
        let listing = serde_json::json!({
            "id": NAME, "sha": COMMIT,
            "siblings": files.keys().map(|name| serde_json::json!({"rfilename": name})).collect::<Vec<_>>(),
        });
        let (status, etag, body) = match file {
            _ if !allowed => ("401 Unauthorized", "", Vec::new()),
            Some(file) => ("200 OK", file.etag.as_str(), file.bytes.clone()),
            None if path.starts_with(&format!("/api/models/{NAME}")) => {
                ("200 OK", "", listing.to_string().into_bytes())
            }
            None => ("404 Not Found", "", Vec::new()),
        };
        let code = if status.starts_with("404") { "X-Error-Code: EntryNotFound\r\n" } else { "" };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nETag: \"{etag}\"\r\nX-Repo-Commit: {COMMIT}\r\n{code}\r\n",
            body.len()
        );
        let body = if method == "HEAD" { Vec::new() } else { body };
        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).is_err() {
            return;
        }
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// A tiny model as a hub serves it: weights named by SHA-256, the rest by forty digits.
fn model(folder: &str) -> BTreeMap<String, Served> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(golden(folder)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let bytes = std::fs::read(&path).unwrap();
        let sha256 = sha256(&bytes);
        let etag =
            if name.ends_with(".safetensors") || name.ends_with(".gguf") { sha256 } else { sha256[..40].to_owned() };
        files.insert(name, Served { bytes, etag });
    }
    files
}

#[test]
fn a_model_is_fetched_recorded_and_loads() {
    for folder in ["tiny-plain", "tiny-sharded"] {
        let files = model(folder);
        let hub = LoopbackHub::start(files.clone(), None);
        let fetched = hub.fetch().unwrap();
        for file in &fetched.files {
            assert_eq!(file.sha256, sha256(&files[&file.name].bytes), "{}", file.name);
            assert_eq!(file.checked, file.name.ends_with(".safetensors"), "{}", file.name);
        }
        assert!(fetched.files.iter().any(|file| file.checked));
        assert!(!fetched.files.iter().any(|file| file.name == "golden.json"), "only what a model needs");
        let loaded = load(&ModelSource::Path(fetched.path)).unwrap();
        let direct = load(&ModelSource::Path(golden(folder))).unwrap();
        assert_eq!(loaded.info.sha256, direct.info.sha256);
    }
}

#[test]
fn a_repository_of_one_gguf_file_is_fetched() {
    let mut files = model("gguf-mixed");
    files.remove("golden.json");
    let hub = LoopbackHub::start(files.clone(), None);
    let fetched = hub.fetch().unwrap();
    assert!(fetched.path.ends_with("model.gguf"));
    let other = files["model.gguf"].clone();
    files.insert("other.gguf".into(), other);
    let error = LoopbackHub::start(files, None).fetch().unwrap_err().to_string();
    assert!(error.contains("model.gguf, other.gguf") && error.contains("hint"), "{error}");
}

#[test]
fn the_second_use_is_from_the_cache_and_offline_makes_no_connection() {
    let hub = LoopbackHub::start(model("tiny-plain"), None);
    let offline = HubSettings { offline: true, ..hub.settings() };
    let error = fetch_with(NAME, &offline).unwrap_err().to_string();
    assert!(error.contains("not in the cache") && error.contains("HF_HUB_OFFLINE"), "{error}");
    assert_eq!(hub.seen.lock().unwrap().len(), 0);

    let first = hub.fetch().unwrap();
    let downloads = hub.requests("GET");
    assert!(downloads > 0);
    assert_eq!(hub.fetch().unwrap(), first);
    assert_eq!(hub.requests("GET"), downloads, "nothing is downloaded twice");

    let before = hub.seen.lock().unwrap().len();
    assert_eq!(fetch_with(NAME, &offline).unwrap(), first);
    assert_eq!(hub.seen.lock().unwrap().len(), before);
}

#[test]
fn a_missing_file_is_named() {
    for name in ["tokenizer.json", "model.safetensors", "config.json"] {
        let mut files = model("tiny-plain");
        files.remove(name);
        let error = LoopbackHub::start(files, None).fetch().unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("hint"), "{error}");
    }
}

#[test]
fn weights_that_are_not_what_the_hub_says_are_refused_and_removed() {
    let mut files = model("tiny-plain");
    let weights = files.get_mut("model.safetensors").unwrap();
    let named = weights.etag.clone();
    weights.bytes[5_000] ^= 1;
    let found = sha256(&weights.bytes);
    let hub = LoopbackHub::start(files, None);
    for _ in 0..2 {
        let error = hub.fetch().unwrap_err().to_string();
        assert!(error.contains(&named) && error.contains(&found) && error.contains("hint"), "{error}");
    }
    let left = std::fs::read_dir(hub.cache.path().join("models--org--tiny/blobs")).unwrap();
    assert!(left.flatten().all(|entry| entry.file_name().to_str() != Some(&named)));
}

#[test]
fn the_token_is_sent_and_a_gated_model_says_what_to_do() {
    let hub = LoopbackHub::start(model("tiny-plain"), Some("hf_test"));
    hub.fetch().unwrap();
    let seen = hub.seen.lock().unwrap();
    assert!(seen.iter().all(|(_, _, authorization)| authorization.as_deref() == Some("Bearer hf_test")), "{seen:?}");

    let hub = LoopbackHub::start(model("tiny-plain"), Some("hf_other"));
    let error = hub.fetch().unwrap_err().to_string();
    assert!(error.contains("HF_TOKEN"), "{error}");
    assert!(!error.contains("hf_test"), "no secret in an error: {error}");
}

#[test]
fn progress_is_reported() {
    let hub = LoopbackHub::start(model("tiny-plain"), None);
    let seen: Arc<Mutex<Vec<(String, u64, u64)>>> = Arc::default();
    let log = Arc::clone(&seen);
    let report = move |file: &str, done: u64, all: u64| log.lock().unwrap().push((file.to_owned(), done, all));
    fetch_with(NAME, &HubSettings { progress: Some(Arc::new(report)), ..hub.settings() }).unwrap();
    let seen = seen.lock().unwrap();
    assert!(
        seen.iter().any(|(file, done, all)| file == "model.safetensors" && done == all && *all > 90_000),
        "{seen:?}"
    );
}

#[test]
fn a_name_that_is_no_name_reaches_no_hub() {
    let hub = LoopbackHub::start(model("tiny-plain"), None);
    for name in ["tiny", "../x", "a/b/c", "org/", "org/..", "org/a b"] {
        let error = fetch_with(name, &hub.settings()).unwrap_err().to_string();
        assert!(error.contains("hint"), "{error}");
    }
    assert_eq!(hub.seen.lock().unwrap().len(), 0);
}
