//! The inference engine: token ids in, hidden states, head logits or vocabulary logits out.
//!
//! The only room that sees candle. It must not know histories, sessions or categories. What others
//! use is [`Backend`] (one model on one device), [`Model`] (a backend with its tokenizer and
//! heads) and [`KvCache`] (a prefix to share or branch).
//!
//! There are two backends: `cpu`, ours, on the matrix products of `kernels`; and candle's operations (`model/llama.rs`) for
//! GPUs and for weights too large to be widened. [`KernelName`] says which computes.
//!
//! A batch is a list of sequences without padding; the answer for a sequence does not depend on
//! its neighbours in the batch, on the number of threads, or on whether its prefix was computed
//! in the same call. `tests/engine_*.rs` name the tolerances: none for the kernels of the CPU.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};

mod cache;
pub mod config;
mod cpu;
mod gguf_tokenizer;
mod heads;
#[cfg(feature = "hub")]
pub mod hub;
mod kernels;
mod load;
mod model;
mod tokenizer;
mod weights;

pub use cache::KvCache;
pub use heads::HeadLogits;
pub use kernels::KernelName;
pub use load::{LoadSettings, ModelInfo, ModelSource, load, load_with};
pub use tokenizer::Tokenizer;

use config::LlamaConfig;
use model::llama::{Llama, Span, rows_f32};

/// Why the engine could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{name} is {value}, the limit is {max}; hint: this file does not describe a Llama model")]
    Shape { name: &'static str, value: usize, max: usize },
    #[error("unsupported model: {0}")]
    Unsupported(String),
    #[error("model configuration: {0}")]
    Config(String),
    #[error("the model has no `{0}`")]
    Missing(String),
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    #[error("{tokens} tokens in one sequence, the model's limit is {max}; hint: use a smaller window")]
    TooLong { tokens: usize, max: usize },
    #[error(
        "token id {id} is not in the vocabulary of {vocab_size}; hint: the tokenizer does not belong to this model"
    )]
    TokenId { id: u32, vocab_size: usize },
    #[error("position {position} was asked for in a sequence of {tokens} tokens")]
    Position { position: usize, tokens: usize },
    #[error(
        "model `{0}` was not found; hint: give a folder with config.json, tokenizer.json and *.safetensors, a .gguf file, or `org/name` of a hub"
    )]
    NotFound(String),
    #[error(
        "the model answers with a number that is not finite; hint: its weights are damaged, get the file again and try `throughline model verify`"
    )]
    NotFinite,
    #[error("hub: {0}")]
    Hub(String),
    #[error("inference: {0}")]
    Candle(#[from] candle_core::Error),
}

impl EngineError {
    fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}

/// Which numbers of a sequence are wanted. Positions count its own tokens from 0, prefix excluded.
#[derive(Debug, Clone, Copy)]
pub enum Read<'a> {
    /// Only keys and values.
    Nothing,
    /// The final hidden state, `(C)` numbers, at each position.
    Hidden(&'a [usize]),
    /// The vocabulary's logits, `(V)` numbers, at each position.
    Logits(&'a [usize]),
}

/// One sequence of a batch.
#[derive(Clone, Copy)]
pub struct Sequence<'a> {
    /// Tokens that were computed before and stand in front of `tokens`.
    pub prefix: Option<&'a KvCache>,
    pub tokens: &'a [u32],
    pub read: Read<'a>,
}

/// What came out of one sequence.
pub struct Output {
    /// A row for every position asked for, in that order.
    pub rows: Vec<Vec<f32>>,
    /// Keys and values of prefix and tokens, to go on from.
    pub cache: KvCache,
}

/// A model on a device.
pub trait Backend: Send + Sync {
    fn config(&self) -> &LlamaConfig;

    /// One forward pass over all sequences.
    ///
    /// # Errors
    /// When a sequence is empty or longer than the model's positions, a token id is not in the
    /// vocabulary, a position lies beyond its sequence's tokens, a number that was asked for is not
    /// finite, or the device fails.
    fn forward(&self, batch: &[Sequence]) -> Result<Vec<Output>, EngineError>;
}

/// Whether a sequence can be computed at all.
fn check_sequence(config: &LlamaConfig, owner: u64, sequence: &Sequence) -> Result<(), EngineError> {
    if !sequence.prefix.is_none_or(|prefix| prefix.belongs_to(owner)) {
        return Err(EngineError::Unsupported("a prefix that another model computed".into()));
    }
    let own = sequence.tokens.len();
    let positions = match sequence.read {
        Read::Nothing => &[][..],
        Read::Hidden(positions) | Read::Logits(positions) => positions,
    };
    // A row beyond its own tokens would be another sequence's.
    if let Some(&position) = positions.iter().find(|position| **position >= own) {
        return Err(EngineError::Position { position, tokens: own });
    }
    if own == 0 {
        return Err(EngineError::Position { position: 0, tokens: 0 });
    }
    let tokens = own + sequence.prefix.map_or(0, KvCache::tokens);
    if tokens > config.positions_max {
        return Err(EngineError::TooLong { tokens, max: config.positions_max });
    }
    match sequence.tokens.iter().find(|id| **id as usize >= config.vocab_size) {
        Some(&id) => Err(EngineError::TokenId { id, vocab_size: config.vocab_size }),
        None => Ok(()),
    }
}

/// The Llama architecture through candle.
struct CandleBackend {
    llama: Llama,
    owner: u64,
}

impl CandleBackend {
    fn read(&self, x: &Tensor, start: usize, read: Read) -> Result<Vec<Vec<f32>>, EngineError> {
        let (Read::Hidden(positions) | Read::Logits(positions)) = read else { return Ok(Vec::new()) };
        if positions.is_empty() {
            return Ok(Vec::new());
        }
        let rows: Vec<u32> = positions.iter().map(|position| (start + position) as u32).collect();
        let rows = Tensor::new(rows, x.device())?; // (rows)
        let hidden = self.llama.hidden(x, &rows)?; // (rows, C)
        let wanted = if matches!(read, Read::Logits(_)) { self.llama.logits(&hidden)? } else { hidden };
        let rows = rows_f32(&wanted)?;
        // Comparisons with NaN are false: it would pass for innocence.
        if rows.iter().flatten().all(|number| number.is_finite()) { Ok(rows) } else { Err(EngineError::NotFinite) }
    }
}

impl Backend for CandleBackend {
    fn config(&self) -> &LlamaConfig {
        &self.llama.config
    }

    fn forward(&self, batch: &[Sequence]) -> Result<Vec<Output>, EngineError> {
        batch.iter().try_for_each(|sequence| check_sequence(&self.llama.config, self.owner, sequence))?;
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        fn span<'a>(sequence: &Sequence<'a>) -> Span<'a> {
            let prefix_tokens = sequence.prefix.map_or(0, KvCache::tokens);
            let prefix = sequence.prefix.map_or(&[][..], KvCache::tensors);
            Span { prefix, prefix_tokens, tokens: sequence.tokens }
        }
        let spans: Vec<Span> = batch.iter().map(span).collect();
        let (x, caches) = self.llama.forward(self.owner, &spans)?; // (T, C)
        let mut start = 0;
        let mut outputs = Vec::with_capacity(batch.len());
        for (sequence, cache) in batch.iter().zip(caches) {
            outputs.push(Output { rows: self.read(&x, start, sequence.read)?, cache });
            start += sequence.tokens.len();
        }
        Ok(outputs)
    }
}

/// Tokens that go on from a prefix, and the positions among them at which heads are read.
#[derive(Clone, Copy)]
pub struct GoesOn<'a> {
    pub prefix: Option<&'a KvCache>,
    pub tokens: &'a [u32],
    pub positions: &'a [usize],
}

/// A backend with what belongs to it.
pub struct Model {
    backend: Box<dyn Backend>,
    pub tokenizer: Tokenizer,
    /// The template that the model's own files carry (Jinja), if any.
    pub chat_template: Option<String>,
    pub info: ModelInfo,
    heads: Option<heads::Heads>,
}

impl Model {
    pub fn backend(&self) -> &dyn Backend {
        self.backend.as_ref()
    }

    /// Whether the model carries message heads.
    pub fn has_heads(&self) -> bool {
        self.heads.is_some()
    }

    /// The heads' logits at positions of each sequence, one row of results a sequence.
    ///
    /// # Errors
    /// As [`Backend::forward`]; and when the model has no heads.
    pub fn head_logits(&self, batch: &[(&[u32], &[usize])]) -> Result<Vec<Vec<HeadLogits>>, EngineError> {
        let sequences: Vec<Sequence> = batch
            .iter()
            .map(|(tokens, positions)| Sequence { prefix: None, tokens, read: Read::Hidden(positions) })
            .collect();
        let outputs = self.backend.forward(&sequences)?;
        outputs.iter().map(|output| self.judged(output)).collect()
    }

    /// The heads' logits at positions of tokens that go on from prefixes, computed side by side, and keys and values to go on from.
    ///
    /// # Errors
    /// As [`Model::head_logits`].
    pub fn head_logits_after(&self, batch: &[GoesOn]) -> Result<Vec<(Vec<HeadLogits>, KvCache)>, EngineError> {
        let sequences: Vec<Sequence> = batch
            .iter()
            .map(|one| Sequence { prefix: one.prefix, tokens: one.tokens, read: Read::Hidden(one.positions) })
            .collect();
        let outputs = self.backend.forward(&sequences)?;
        outputs.into_iter().map(|output| Ok((self.judged(&output)?, output.cache))).collect()
    }

    fn judged(&self, output: &Output) -> Result<Vec<HeadLogits>, EngineError> {
        let heads = self.heads.as_ref().ok_or_else(|| EngineError::Missing("throughline.heads".into()))?;
        output.rows.iter().map(|row| heads.logits(row)).collect()
    }
}

/// The device that is used: the first GPU where the build has one, else the CPU.
fn pick_device() -> Result<(Device, DType), EngineError> {
    #[cfg(feature = "cuda")]
    if candle_core::utils::cuda_is_available() {
        return Ok((Device::new_cuda(0)?, DType::BF16));
    }
    #[cfg(feature = "metal")]
    if candle_core::utils::metal_is_available() {
        return Ok((Device::new_metal(0)?, DType::BF16));
    }
    Ok((Device::Cpu, DType::F32))
}
