//! Finding a model's files and reading them: the embedded model, a folder, a GGUF file, a hub.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::cache::new_owner;
use super::config::LlamaConfig;
use super::cpu::CpuBackend;
use super::heads::Heads;
use super::kernels::{self, KernelName, PANEL_MAX};
use super::weights::{Bytes, Gguf, Loader, Source};
use super::{Backend, CandleBackend, EngineError, Model, Tokenizer, gguf_tokenizer, pick_device};

/// The weights that travel in the binary.
#[cfg(feature = "embedded-model")]
static EMBEDDED: &[u8] = include_bytes!("../../models/throughline-guard.gguf");

/// Shards of one safetensors checkpoint that are accepted.
const SHARDS_MAX: usize = 1_000;
/// The largest JSON file of a model folder, in bytes.
const JSON_BYTES_MAX: u64 = 64 << 20;

/// Where a model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSource {
    /// The weights inside the binary (feature `embedded-model`).
    Embedded,
    /// A folder of Hugging Face files, or one GGUF file.
    Path(PathBuf),
    /// `org/name` on a hub (feature `hub`).
    Hub(String),
}

impl ModelSource {
    /// `embedded`, an existing path, or `org/name`.
    ///
    /// # Errors
    /// When it is none of the three.
    pub fn parse(text: &str) -> Result<Self, EngineError> {
        let path = Path::new(text);
        let hub_name = text.split('/').count() == 2
            && text.split('/').all(|part| {
                !part.is_empty()
                    && !part.starts_with('.')
                    && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
            });
        match text {
            "embedded" => Ok(Self::Embedded),
            _ if path.exists() => Ok(Self::Path(path.to_owned())),
            _ if hub_name => Ok(Self::Hub(text.to_owned())),
            _ => Err(EngineError::NotFound(text.to_owned())),
        }
    }
}

/// What a model is, for people and for records.
#[derive(Debug, Clone, Serialize)]
pub struct ModelInfo {
    /// The name in its files, or the path's or hub's.
    pub name: String,
    /// The version in its files.
    pub version: Option<String>,
    /// Where it was read from.
    pub source: String,
    /// SHA-256 of the weights, hexadecimal; of several files: over their digests in name order.
    pub sha256: String,
    pub weights_bytes: u64,
    pub parameters: usize,
    pub layers: usize,
    pub hidden_size: usize,
    pub vocab_size: usize,
    pub positions_max: usize,
    /// The window in tokens the model was trained with, where its files say so.
    pub window_tokens: Option<usize>,
    /// Whether the model carries message heads; `temperatures` then has their calibration.
    pub message_heads: bool,
    pub temperatures: BTreeMap<String, f32>,
    pub device: String,
    pub dtype: String,
    /// Bytes of one token's keys and values, without what [`super::KvCache`] fills up.
    #[serde(skip)]
    pub cache_token_bytes: usize,
    /// What computes, on a CPU.
    #[serde(skip)]
    pub kernel: Option<KernelName>,
}

/// How a model is held in memory and computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadSettings {
    /// Quantised weights are widened at load as long as the whole model then takes at most this
    /// many bytes: dense matrix products are faster and exact. Larger models stay
    /// quantised, and are computed by candle.
    pub dense_bytes_max: usize,
    /// What computes on a CPU; `None`: the fastest that the processor can run, of those whose numbers leave the weights within
    /// `dense_bytes_max`. A GPU is used only where no kernel is named.
    pub kernel: Option<KernelName>,
}

impl Default for LoadSettings {
    fn default() -> Self {
        Self { dense_bytes_max: 4 << 30, kernel: None }
    }
}

/// Loads a model with the default settings ([`load_with`]).
///
/// # Errors
/// As [`load_with`].
pub fn load(source: &ModelSource) -> Result<Model, EngineError> {
    load_with(source, &LoadSettings::default())
}

/// Loads a model. A file on disk is mapped: do not truncate it while it is in use.
///
/// # Errors
/// When files are missing, broken, too large or describe a computation the engine does not have.
pub fn load_with(source: &ModelSource, settings: &LoadSettings) -> Result<Model, EngineError> {
    match source {
        ModelSource::Embedded => load_embedded(settings),
        ModelSource::Path(path) if path.is_dir() => load_folder(path, settings),
        ModelSource::Path(path) => {
            let name = path.display().to_string();
            load_gguf(Bytes::map(path)?, Origin { name: &name, folder: path.parent() }, settings)
        }
        #[cfg(feature = "hub")]
        ModelSource::Hub(name) => {
            let mut model = load_with(&ModelSource::Path(super::hub::fetch(name)?), settings)?;
            model.info.source = name.clone();
            Ok(model)
        }
        #[cfg(not(feature = "hub"))]
        ModelSource::Hub(name) => {
            Err(EngineError::Hub(format!("`{name}`: this build has no hub; hint: build with --features hub")))
        }
    }
}

#[cfg(feature = "embedded-model")]
fn load_embedded(settings: &LoadSettings) -> Result<Model, EngineError> {
    load_gguf(Bytes::Static(EMBEDDED), Origin { name: "embedded", folder: None }, settings)
}

#[cfg(not(feature = "embedded-model"))]
fn load_embedded(_settings: &LoadSettings) -> Result<Model, EngineError> {
    Err(EngineError::NotFound("embedded (this build has none; hint: build with --features embedded-model)".into()))
}

/// What a GGUF file is called, and where its companions may be.
struct Origin<'a> {
    name: &'a str,
    folder: Option<&'a Path>,
}

fn load_gguf(bytes: Bytes, origin: Origin, settings: &LoadSettings) -> Result<Model, EngineError> {
    let sha256 = HEXLOWER.encode(&Sha256::digest(bytes.as_ref()));
    let weights_bytes = bytes.as_ref().len() as u64;
    let gguf = Gguf::parse(bytes)?;
    let config = LlamaConfig::from_gguf(&gguf.content)?;
    let heads = Heads::read(&gguf, config.hidden_size)?;
    let beside = origin.folder.map(|folder| folder.join("tokenizer.json")).filter(|path| path.exists());
    let tokenizer = match (gguf.string("tokenizer.huggingface.json"), beside) {
        (Some(json), _) => Tokenizer::from_json(json.as_bytes())?,
        (None, Some(path)) => Tokenizer::from_json(&read_json(&path)?)?,
        (None, None) => Tokenizer::from_json(&gguf_tokenizer::tokenizer_json(&gguf.content)?)?,
    };
    let chat_template = gguf.string("tokenizer.chat_template").map(str::to_owned);
    let info = ModelInfo {
        name: gguf.string("general.name").unwrap_or(origin.name).to_owned(),
        version: gguf.string("throughline.model_version").map(str::to_owned),
        window_tokens: window_tokens(&gguf),
        message_heads: heads.is_some(),
        temperatures: heads.as_ref().map(Heads::temperatures).unwrap_or_default(),
        ..describe(&config, origin.name)
    };
    let (backend, info) = ready(&Source::Gguf(gguf), &config, settings)?.described(info);
    let info = ModelInfo { sha256, weights_bytes, ..info };
    Ok(Model { backend, tokenizer, chat_template, info, heads })
}

fn window_tokens(gguf: &Gguf) -> Option<usize> {
    gguf.content.metadata.get("throughline.window_tokens")?.to_u32().ok().map(|tokens| tokens as usize)
}

fn load_folder(folder: &Path, settings: &LoadSettings) -> Result<Model, EngineError> {
    let json = read_json(&folder.join("config.json"))?;
    let config = LlamaConfig::from_hf_json(&String::from_utf8_lossy(&json))?;
    let shards = shards(folder)?;
    let (sha256, weights_bytes) = digest_files(&shards)?;
    let tokenizer = Tokenizer::from_json(&read_json(&folder.join("tokenizer.json"))?)?;
    let chat_template = chat_template(folder)?;
    let ready = ready(&Source::safetensors(&shards)?, &config, settings)?;
    let (backend, info) = ready.described(describe(&config, &folder.display().to_string()));
    let info = ModelInfo { sha256, weights_bytes, ..info };
    Ok(Model { backend, tokenizer, chat_template, info, heads: None })
}

/// A backend, and what it computes on and in.
struct Ready {
    backend: Box<dyn Backend>,
    device: String,
    dtype: String,
    kernel: Option<KernelName>,
    /// Of one number of keys and values.
    number_bytes: usize,
}

impl Ready {
    fn described(self, info: ModelInfo) -> (Box<dyn Backend>, ModelInfo) {
        let Self { backend, device, dtype, kernel, number_bytes } = self;
        let config = backend.config();
        let cache_token_bytes = 2 * config.layers * config.kv_heads * config.head_dim * number_bytes;
        (backend, ModelInfo { device, dtype, kernel, cache_token_bytes, ..info })
    }
}

/// Reads the weights into the backend that fits device, kernel and size.
fn ready(source: &Source, config: &LlamaConfig, settings: &LoadSettings) -> Result<Ready, EngineError> {
    let (device, dtype) = if settings.kernel.is_some() { (Device::Cpu, DType::F32) } else { pick_device()? };
    let numbers = if device.is_cpu() { config.padded_parameter_count(PANEL_MAX) } else { config.parameter_count() };
    let fits = |weight_bytes: usize| numbers.saturating_mul(weight_bytes) <= settings.dense_bytes_max;
    let kernel = settings.kernel.unwrap_or_else(|| KernelName::best_that_fits(|name| fits(name.weight_bytes())));
    if !kernel.is_available() {
        return Err(EngineError::Unsupported(format!("this processor or build has no kernel `{kernel}`")));
    }
    let weight_bytes = if device.is_cpu() { kernel.weight_bytes() } else { dtype.size_in_bytes() };
    let widen = fits(weight_bytes);
    let loader = Loader { source, config, device: &device, dtype, widen };
    let dense = widen || matches!(source, Source::Safetensors(_));
    if let Some(named) = settings.kernel.filter(|named| !dense && *named != KernelName::Candle) {
        return Err(EngineError::Unsupported(format!(
            "kernel `{named}` needs the weights widened, {numbers} numbers of {weight_bytes} bytes; the limit is {} bytes; hint: \
             name `candle`, or none",
            settings.dense_bytes_max
        )));
    }
    let backend: Box<dyn Backend> = match kernel.floating() {
        _ if !device.is_cpu() || !dense => candle(&loader)?,
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        KernelName::AmxBf16 => Box::new(CpuBackend::<kernels::AmxBf16>::load(&loader, kernel)?),
        #[cfg(target_arch = "x86_64")]
        KernelName::Avx512Bf16 => Box::new(CpuBackend::<kernels::Avx512Bf16>::load(&loader, kernel)?),
        #[cfg(target_arch = "x86_64")]
        KernelName::Avx512 => Box::new(CpuBackend::<kernels::Avx512>::load(&loader, kernel)?),
        #[cfg(target_arch = "x86_64")]
        KernelName::Avx2 => Box::new(CpuBackend::<kernels::Avx2>::load(&loader, kernel)?),
        #[cfg(target_arch = "aarch64")]
        KernelName::Neon => Box::new(CpuBackend::<kernels::Neon>::load(&loader, kernel)?),
        KernelName::Portable => Box::new(CpuBackend::<kernels::Portable>::load(&loader, kernel)?),
        _ => candle(&loader)?,
    };
    let kernel = if dense { kernel } else { KernelName::Candle };
    Ok(match device.is_cpu() {
        true => {
            let (dtype, number_bytes) = (kernel.dtype().into(), kernel.number_bytes());
            let device = match kernel.floating() {
                beside if beside != kernel => format!("cpu, {kernel} beside {beside}"),
                _ => format!("cpu, {kernel}"),
            };
            Ready { backend, device, dtype, kernel: Some(kernel), number_bytes }
        }
        false => Ready {
            backend,
            device: format!("{:?}", device.location()),
            dtype: "bf16".into(),
            kernel: None,
            number_bytes: 2,
        },
    })
}

fn candle(loader: &Loader) -> Result<Box<dyn Backend>, EngineError> {
    Ok(Box::new(CandleBackend { llama: loader.load()?, owner: new_owner() }))
}

fn describe(config: &LlamaConfig, source: &str) -> ModelInfo {
    ModelInfo {
        name: source.to_owned(),
        version: None,
        source: source.to_owned(),
        sha256: String::new(),
        weights_bytes: 0,
        parameters: config.parameter_count(),
        layers: config.layers,
        hidden_size: config.hidden_size,
        vocab_size: config.vocab_size,
        positions_max: config.positions_max,
        window_tokens: None,
        message_heads: false,
        temperatures: BTreeMap::new(),
        device: String::new(),
        dtype: String::new(),
        cache_token_bytes: 0,
        kernel: None,
    }
}

/// The safetensors files of a folder: those its index names, or `model.safetensors`.
fn shards(folder: &Path) -> Result<Vec<PathBuf>, EngineError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let index = folder.join("model.safetensors.index.json");
    if !index.exists() {
        return Ok(vec![folder.join("model.safetensors")]);
    }
    let index: Index = serde_json::from_slice(&read_json(&index)?)
        .map_err(|error| EngineError::Config(format!("model.safetensors.index.json: {error}")))?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    if names.len() > SHARDS_MAX {
        return Err(EngineError::Shape { name: "safetensors shards", value: names.len(), max: SHARDS_MAX });
    }
    names
        .into_iter()
        .map(|name| {
            // A name with a separator would let an index point outside its folder.
            let plain = Path::new(&name).file_name().is_some_and(|file| file == name.as_str());
            if plain { Ok(folder.join(name)) } else { Err(EngineError::Config(format!("shard name `{name}`"))) }
        })
        .collect()
}

/// The template of `chat_template.jinja`, or of `tokenizer_config.json`.
fn chat_template(folder: &Path) -> Result<Option<String>, EngineError> {
    let jinja = folder.join("chat_template.jinja");
    if jinja.exists() {
        return Ok(Some(String::from_utf8_lossy(&read_json(&jinja)?).into_owned()));
    }
    let path = folder.join("tokenizer_config.json");
    if !path.exists() {
        return Ok(None);
    }
    let config: serde_json::Value = serde_json::from_slice(&read_json(&path)?)
        .map_err(|error| EngineError::Config(format!("tokenizer_config.json: {error}")))?;
    Ok(config["chat_template"].as_str().map(str::to_owned))
}

fn read_json(path: &Path) -> Result<Vec<u8>, EngineError> {
    let length = std::fs::metadata(path).map_err(|source| EngineError::io(path, source))?.len();
    if length > JSON_BYTES_MAX {
        return Err(EngineError::Shape {
            name: "JSON file bytes",
            value: length as usize,
            max: JSON_BYTES_MAX as usize,
        });
    }
    std::fs::read(path).map_err(|source| EngineError::io(path, source))
}

/// SHA-256 and size of a checkpoint: the file's own, or over the digests of its shards.
fn digest_files(paths: &[PathBuf]) -> Result<(String, u64), EngineError> {
    let mut bytes_total = 0;
    let mut digests = Vec::with_capacity(paths.len());
    for path in paths {
        let bytes = Bytes::map(path)?;
        bytes_total += bytes.as_ref().len() as u64;
        digests.push(Sha256::digest(bytes.as_ref()));
    }
    let digest = match digests.as_slice() {
        [one] => HEXLOWER.encode(one),
        many => HEXLOWER.encode(&Sha256::digest(many.concat())),
    };
    Ok((digest, bytes_total))
}
