//! Models by `org/name`, from a Hugging Face hub into its shared cache.
//!
//! hf-hub does the transfers and keeps the cache that the Python tools use too. What it does not do
//! is done here: `HF_HUB_OFFLINE`, choosing the files a model needs, and checking what arrived.
//! Large files are named by their SHA-256 on a hub; a file that has another is removed again.
//! Small files are named by a git SHA-1 there; their SHA-256 is recorded, not checked.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::HEXLOWER;
use hf_hub::progress::{DownloadEvent, Progress, ProgressEvent, ProgressHandler};
use hf_hub::{HFClient, HFError, HFRepositorySync, RepoTypeModel};
use sha2::{Digest, Sha256};

use super::EngineError;
use super::weights::Bytes;

/// The largest index of shards that is read, in bytes.
const INDEX_BYTES_MAX: u64 = 64 << 20;
/// Shards of one checkpoint that are accepted.
const SHARDS_MAX: usize = 1_000;
/// Files of a repository that are looked through for a `.gguf`.
const LISTED_FILES_MAX: usize = 10_000;

/// Called during a download with the file's name, the bytes that are there, and all it has.
pub type OnProgress = Arc<dyn Fn(&str, u64, u64) + Send + Sync>;

/// Where and how models are fetched.
#[derive(Clone, Default)]
pub struct HubSettings {
    /// The hub; `None` takes `HF_ENDPOINT`, or <https://huggingface.co>.
    pub endpoint: Option<String>,
    /// The token; `None` takes `HF_TOKEN`, or the file the hub's own tools keep it in.
    pub token: Option<String>,
    /// The cache; `None` takes `HF_HUB_CACHE`, or `hub` below `HF_HOME`.
    pub cache: Option<PathBuf>,
    /// Only what the cache has is used, and no connection is made.
    pub offline: bool,
    pub progress: Option<OnProgress>,
}

impl HubSettings {
    /// As the environment says. hf-hub reads the other variables itself.
    pub fn from_env() -> Self {
        let offline = std::env::var("HF_HUB_OFFLINE").is_ok_and(|value| is_yes(&value));
        Self { offline, ..Self::default() }
    }
}

/// The values that the hub's own tools take for yes.
fn is_yes(value: &str) -> bool {
    ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str())
}

/// A file of a fetched model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedFile {
    pub name: String,
    pub path: PathBuf,
    pub bytes: u64,
    /// Hexadecimal.
    pub sha256: String,
    /// Whether the hub named the same SHA-256.
    pub checked: bool,
}

/// A fetched model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// A folder of Hugging Face files, or one GGUF file.
    pub path: PathBuf,
    pub files: Vec<FetchedFile>,
}

/// Fetches a model as the environment says, and tells where it is.
///
/// # Errors
/// As [`fetch_with`].
pub fn fetch(name: &str) -> Result<PathBuf, EngineError> {
    Ok(fetch_with(name, &HubSettings::from_env())?.path)
}

/// Fetches the files of a model that are not in the cache yet.
///
/// # Errors
/// When the name is not `org/name`, the hub has no such model or refuses it, a file is missing or
/// is not what the hub says, or, offline, when the cache lacks a file.
pub fn fetch_with(name: &str, settings: &HubSettings) -> Result<Fetched, EngineError> {
    let Some((owner, model)) = name.split_once('/').filter(|(owner, model)| is_part(owner) && is_part(model)) else {
        return Err(EngineError::Hub(format!("`{name}` is no model of a hub; hint: write `org/name`")));
    };
    let mut builder = HFClient::builder();
    if let Some(endpoint) = &settings.endpoint {
        builder = builder.endpoint(endpoint);
    }
    if let Some(token) = &settings.token {
        builder = builder.token(token);
    }
    if let Some(cache) = &settings.cache {
        builder = builder.cache_dir(cache);
    }
    let client = builder.build_sync().map_err(|error| EngineError::Hub(error.to_string()))?;
    let hub = Hub { name, repository: client.model(owner, model), settings, files: Vec::new() };
    hub.fetch()
}

fn is_part(part: &str) -> bool {
    let plain = part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    plain && !part.is_empty() && !part.starts_with('.')
}

/// One model being fetched.
struct Hub<'a> {
    name: &'a str,
    repository: HFRepositorySync<RepoTypeModel>,
    settings: &'a HubSettings,
    files: Vec<FetchedFile>,
}

impl Hub<'_> {
    fn fetch(mut self) -> Result<Fetched, EngineError> {
        let Some(config) = self.optional("config.json")? else {
            let path = self.gguf()?;
            return Ok(Fetched { path, files: self.files });
        };
        self.required("tokenizer.json")?;
        for name in ["tokenizer_config.json", "chat_template.jinja", "generation_config.json"] {
            self.optional(name)?;
        }
        match self.optional("model.safetensors.index.json")? {
            Some(index) => {
                for shard in shard_names(&index)? {
                    self.required(&shard)?;
                }
            }
            None => {
                self.required("model.safetensors")?;
            }
        }
        let folder = config.parent().unwrap_or(Path::new("")).to_owned();
        Ok(Fetched { path: folder, files: self.files })
    }

    /// The one GGUF file of a repository that has no `config.json`.
    fn gguf(&mut self) -> Result<PathBuf, EngineError> {
        if self.settings.offline {
            return Err(self.missing("config.json"));
        }
        let info = self.repository.info().send().map_err(|error| self.failed(&error))?;
        let names = info.siblings.unwrap_or_default().into_iter().map(|sibling| sibling.rfilename);
        let found: Vec<String> = names.take(LISTED_FILES_MAX).filter(|name| name.ends_with(".gguf")).collect();
        match found.as_slice() {
            [one] => {
                // Beside the weights, for files that do not carry their tokenizer.
                self.optional("tokenizer.json")?;
                self.required(one)
            }
            [] => Err(self.missing("config.json")),
            many => Err(EngineError::Hub(format!(
                "`{}` has {} .gguf files ({}); hint: download one and give its path",
                self.name,
                many.len(),
                many.join(", ")
            ))),
        }
    }

    fn required(&mut self, file: &str) -> Result<PathBuf, EngineError> {
        self.optional(file)?.ok_or_else(|| self.missing(file))
    }

    fn missing(&self, file: &str) -> EngineError {
        let name = self.name;
        EngineError::Hub(if self.settings.offline {
            format!("`{name}`: `{file}` is not in the cache; hint: unset HF_HUB_OFFLINE to fetch it")
        } else {
            format!(
                "`{name}` has no `{file}`; hint: a model needs config.json, tokenizer.json and *.safetensors, or one .gguf"
            )
        })
    }

    fn failed(&self, error: &HFError) -> EngineError {
        let hint = match error {
            HFError::AuthRequired { .. } | HFError::Forbidden { .. } => {
                "; hint: accept the model's licence on the hub and set HF_TOKEN"
            }
            HFError::RepoNotFound { .. } => "; hint: check the name; a private or gated model needs HF_TOKEN",
            HFError::Request { .. } => "; hint: is the hub reachable? HF_HUB_OFFLINE=1 uses the cache alone",
            _ => "",
        };
        EngineError::Hub(format!("`{}`: {error}{hint}", self.name))
    }

    fn optional(&mut self, file: &str) -> Result<Option<PathBuf>, EngineError> {
        let progress =
            self.settings.progress.clone().map(|report| Progress::new(Reporter { file: file.to_owned(), report }));
        let sent = self
            .repository
            .download_file()
            .filename(file)
            .local_files_only(self.settings.offline)
            .maybe_progress(progress)
            .send();
        let path = match sent {
            Ok(path) => path,
            Err(HFError::EntryNotFound { .. } | HFError::LocalEntryNotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.failed(&error)),
        };
        let fetched = check(file, &path)?;
        self.files.push(fetched);
        Ok(Some(path))
    }
}

/// Reads a file through; the cache names a large one by the SHA-256 that the hub gave.
fn check(name: &str, path: &Path) -> Result<FetchedFile, EngineError> {
    let io = |source| EngineError::io(path, source);
    let blob = path.canonicalize().map_err(io)?;
    let mapped = Bytes::map(&blob)?;
    let (bytes, sha256) = (mapped.as_ref().len() as u64, HEXLOWER.encode(&Sha256::digest(mapped.as_ref())));
    drop(mapped);
    let named = blob.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_lowercase();
    let is_sha256 = named.len() == 64 && named.chars().all(|c| c.is_ascii_hexdigit());
    if is_sha256 && named != sha256 {
        // Else the next run would take it from the cache.
        for broken in [path, &blob] {
            std::fs::remove_file(broken).map_err(io)?;
        }
        return Err(EngineError::Hub(format!(
            "`{name}` has the SHA-256 {sha256}, the hub says {named}; hint: the file was removed, fetch it again"
        )));
    }
    Ok(FetchedFile { name: name.to_owned(), path: path.to_owned(), bytes, sha256, checked: is_sha256 })
}

/// The shards an index names.
fn shard_names(index: &Path) -> Result<BTreeSet<String>, EngineError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let bytes = std::fs::metadata(index).map_err(|source| EngineError::io(index, source))?.len();
    if bytes > INDEX_BYTES_MAX {
        let (value, max) = (bytes as usize, INDEX_BYTES_MAX as usize);
        return Err(EngineError::Shape { name: "shard index bytes", value, max });
    }
    let text = std::fs::read(index).map_err(|source| EngineError::io(index, source))?;
    let index: Index = serde_json::from_slice(&text)
        .map_err(|error| EngineError::Config(format!("model.safetensors.index.json: {error}")))?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    if names.len() > SHARDS_MAX {
        return Err(EngineError::Shape { name: "safetensors shards", value: names.len(), max: SHARDS_MAX });
    }
    match names.iter().find(|name| !is_part(name)) {
        Some(name) => Err(EngineError::Config(format!("model.safetensors.index.json: shard name `{name}`"))),
        None => Ok(names),
    }
}

struct Reporter {
    file: String,
    report: OnProgress,
}

impl ProgressHandler for Reporter {
    fn on_progress(&self, event: &ProgressEvent) {
        if let ProgressEvent::Download(DownloadEvent::Progress { files }) = event {
            for file in files {
                (self.report)(&self.file, file.bytes_completed, file.total_bytes);
            }
        }
    }
}
