//! What each target does with its bytes, and what must hold whatever they are.
//!
//! `fuzz/` runs these by libFuzzer; `tests/fuzz_seeds.rs` runs them on `fuzz/seeds` as ordinary tests.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

mod arc;
mod benchmark;
mod chat;
mod configuration;
mod model;
mod server;
mod store;
mod transcripts;
mod upstream;

/// Does something with bytes, and panics where what must hold does not.
pub type Target = fn(&[u8]);

/// Every target by its name.
pub const ALL: [(&str, Target); 17] = [
    ("access", configuration::access),
    ("arc", arc::stream),
    ("author", benchmark::author),
    ("categories", configuration::categories),
    ("chat", chat::hostile),
    ("gguf", model::gguf),
    ("labels", benchmark::labels),
    ("model_json", model::json),
    ("policy", configuration::policy),
    ("safetensors", model::safetensors),
    ("scores", benchmark::scores),
    ("server", server::request),
    ("settings", configuration::served),
    ("store", store::sealed),
    ("template", model::template),
    ("transcripts", transcripts::transcripts),
    ("upstream", upstream::reply),
];

/// Runs a target by its name.
///
/// # Panics
/// Where what must hold does not, and where there is no such target.
pub fn run(name: &str, bytes: &[u8]) {
    let (_, target) = ALL.iter().find(|(known, _)| *known == name).expect("a target of that name");
    target(bytes);
}

/// A folder for files that are written anew for every input; one a target and process.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    /// The path of a file with this content.
    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).expect("a temporary file");
        path
    }
}

/// What stands before the first line that is `===`, and what stands after it.
fn halves(bytes: &[u8]) -> (&[u8], &[u8]) {
    const LINE: &[u8] = b"\n===\n";
    match bytes.windows(LINE.len()).position(|part| part == LINE) {
        Some(at) => (&bytes[..=at], &bytes[at + LINE.len()..]),
        None => (bytes, &[]),
    }
}
