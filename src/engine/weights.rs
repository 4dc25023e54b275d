//! Weights from safetensors (one file or shards) and GGUF, under one set of names.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::quantized::gguf_file::{Content, TensorInfo};
use candle_core::quantized::{QMatMul, QTensor};
use candle_core::safetensors::MmapedSafetensors;
use candle_core::{DType, Device, Tensor};
use memmap2::Mmap;

use super::EngineError;
use super::config::LlamaConfig;
use super::model::llama::{Layer, Linear, Llama, Rope};

/// More numbers than a byte holds in any quantisation.
const NUMBERS_PER_BYTE_MAX: usize = 8;

/// A model file's bytes: inside the binary, or mapped from disk.
pub(super) enum Bytes {
    #[cfg_attr(not(feature = "embedded-model"), expect(dead_code, reason = "only the embedded model is static"))]
    Static(&'static [u8]),
    Mapped(Mmap),
}

impl Bytes {
    /// Maps a file.
    pub fn map(path: &Path) -> Result<Self, EngineError> {
        let file = std::fs::File::open(path).map_err(|source| EngineError::io(path, source))?;
        // SAFETY: the mapping is read-only. Truncating a model file while it is in use is outside
        // what any reader of mapped files can defend against; the documentation of `load` says so.
        let map = unsafe { Mmap::map(&file) }.map_err(|source| EngineError::io(path, source))?;
        Ok(Self::Mapped(map))
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Static(bytes) => bytes,
            Self::Mapped(map) => map,
        }
    }
}

/// A GGUF file: its header, and the bytes its tensors are read from.
pub(super) struct Gguf {
    pub content: Content,
    bytes: Bytes,
}

impl Gguf {
    /// Reads the header. Lengths are checked against the file before anything is allocated.
    pub fn parse(bytes: Bytes) -> Result<Self, EngineError> {
        // candle 0.11.1 divides by the file's own `general.alignment`: 0 there would end the process.
        let read = std::panic::catch_unwind(|| Content::read(&mut Cursor::new(bytes.as_ref())));
        let content = read.map_err(|_| EngineError::Config("a GGUF header that cannot be read".into()))??;
        // candle multiplies sizes without looking, where a product that overflows would pass for a small tensor; and takes the
        // bytes of an empty one for aligned numbers, which they need not be.
        let numbers_max = bytes.as_ref().len().saturating_mul(NUMBERS_PER_BYTE_MAX);
        let held = |info: &TensorInfo| {
            let numbers = info.shape.dims().iter().try_fold(1usize, |numbers, &size| numbers.checked_mul(size));
            numbers.is_some_and(|numbers| (1..=numbers_max).contains(&numbers))
        };
        if let Some((name, info)) = content.tensor_infos.iter().find(|(_, info)| !held(info)) {
            let shape = info.shape.dims();
            return Err(EngineError::Config(format!(
                "tensor {name} of the shape {shape:?}, which is empty or not held by the file"
            )));
        }
        Ok(Self { content, bytes })
    }

    /// A string of the metadata, if it is there and a string.
    pub fn string(&self, key: &str) -> Option<&str> {
        self.content.metadata.get(key)?.to_string().ok().map(String::as_str)
    }

    fn tensor(&self, name: &str, device: &Device) -> Result<QTensor, EngineError> {
        Ok(self.content.tensor(&mut Cursor::new(self.bytes.as_ref()), name, device)?)
    }

    /// A small tensor as f32 numbers, flattened; `None` when the file has none of that name.
    pub fn numbers(&self, name: &str) -> Result<Option<Vec<f32>>, EngineError> {
        if !self.content.tensor_infos.contains_key(name) {
            return Ok(None);
        }
        let tensor = self.tensor(name, &Device::Cpu)?.dequantize(&Device::Cpu)?;
        Ok(Some(tensor.flatten_all()?.to_vec1::<f32>()?))
    }
}

/// Where weights come from.
pub(super) enum Source {
    Gguf(Gguf),
    Safetensors(MmapedSafetensors),
}

impl Source {
    /// Maps one or more safetensors files.
    pub fn safetensors(paths: &[PathBuf]) -> Result<Self, EngineError> {
        // SAFETY: as for `Bytes::map`.
        Ok(Self::Safetensors(unsafe { MmapedSafetensors::multi(paths) }?))
    }
}

/// A weight's name in both kinds of file.
struct Name {
    hf: String,
    gguf: String,
}

impl Name {
    fn global(hf: &str, gguf: &str) -> Self {
        Self { hf: hf.into(), gguf: gguf.into() }
    }

    fn of_layer(layer: usize, hf: &str, gguf: &str) -> Self {
        Self { hf: format!("model.layers.{layer}.{hf}"), gguf: format!("blk.{layer}.{gguf}") }
    }

    fn with_suffix(&self, suffix: &str) -> Self {
        Self { hf: format!("{}.{suffix}", self.hf), gguf: format!("{}.{suffix}", self.gguf) }
    }
}

/// Reads a whole model onto a device, computing in `dtype`.
pub(super) struct Loader<'a> {
    pub source: &'a Source,
    pub config: &'a LlamaConfig,
    pub device: &'a Device,
    pub dtype: DType,
    /// Whether quantised matrices are widened to `dtype`.
    pub widen: bool,
}

/// What stands before and after the layers.
pub(super) struct Ends {
    pub embedding: QMatMul,      // (V, C)
    pub norm: Tensor,            // (C)
    pub output: Option<QMatMul>, // (V, C), `None` when tied to the embedding
    /// GGUF's divisors of RoPE's frequencies: `(D/2)`.
    pub rope_factors: Option<Vec<f32>>,
}

impl Loader<'_> {
    /// # Errors
    /// When a tensor is missing, has another shape than the configuration says, or does not fit
    /// its file.
    pub fn load(&self) -> Result<Llama, EngineError> {
        let layers = (0..self.config.layers).map(|index| self.layer(index)).collect::<Result<Vec<_>, _>>()?;
        let Ends { embedding, norm, output, rope_factors } = self.ends()?;
        let rope = Rope::new(self.config, rope_factors.as_deref(), self.device)?;
        Ok(Llama { embedding, layers, norm, output, rope, config: self.config.clone() })
    }

    /// Everything but the layers.
    pub fn ends(&self) -> Result<Ends, EngineError> {
        let config = self.config;
        let c = config.hidden_size;
        let rope_factors = match self.source {
            Source::Gguf(gguf) => gguf.numbers("rope_freqs.weight")?,
            Source::Safetensors(_) => None,
        };
        if rope_factors.as_ref().is_some_and(|f| f.len() != config.head_dim / 2) {
            return Err(EngineError::Config(format!(
                "rope_freqs.weight has {} factors, expected head_dim / 2 = {}",
                rope_factors.map_or(0, |f| f.len()),
                config.head_dim / 2
            )));
        }
        let output = Name::global("lm_head.weight", "output.weight");
        Ok(Ends {
            embedding: self
                .matrix(&Name::global("model.embed_tokens.weight", "token_embd.weight"), (config.vocab_size, c))?,
            norm: self.vector(&Name::global("model.norm.weight", "output_norm.weight"), c)?,
            output: if config.tie_embeddings { None } else { Some(self.matrix(&output, (config.vocab_size, c))?) },
            rope_factors,
        })
    }

    /// One layer's weights.
    pub fn layer(&self, index: usize) -> Result<Layer, EngineError> {
        let config = self.config;
        let (c, i) = (config.hidden_size, config.intermediate_size);
        let (q, kv) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        let attention = |hf: &str, gguf: &str, shape| {
            self.linear(&Name::of_layer(index, &format!("self_attn.{hf}"), gguf), shape, config.attention_bias)
        };
        let mlp = |hf: &str, gguf: &str, shape| {
            self.linear(&Name::of_layer(index, &format!("mlp.{hf}"), gguf), shape, config.mlp_bias)
        };
        Ok(Layer {
            attention_norm: self.vector(&Name::of_layer(index, "input_layernorm.weight", "attn_norm.weight"), c)?,
            q: attention("q_proj", "attn_q", (q, c))?,
            k: attention("k_proj", "attn_k", (kv, c))?,
            v: attention("v_proj", "attn_v", (kv, c))?,
            o: attention("o_proj", "attn_output", (c, q))?,
            mlp_norm: self.vector(&Name::of_layer(index, "post_attention_layernorm.weight", "ffn_norm.weight"), c)?,
            gate: mlp("gate_proj", "ffn_gate", (i, c))?,
            up: mlp("up_proj", "ffn_up", (i, c))?,
            down: mlp("down_proj", "ffn_down", (c, i))?,
        })
    }

    fn linear(&self, name: &Name, shape: (usize, usize), bias: bool) -> Result<Linear, EngineError> {
        Ok(Linear {
            weight: self.matrix(&name.with_suffix("weight"), shape)?,
            bias: if bias { Some(self.vector(&name.with_suffix("bias"), shape.0)?) } else { None },
        })
    }

    /// A vector `(n)`, dense.
    fn vector(&self, name: &Name, length: usize) -> Result<Tensor, EngineError> {
        let tensor = match self.source {
            Source::Gguf(gguf) => gguf.tensor(&name.gguf, self.device)?.dequantize(self.device)?,
            Source::Safetensors(files) => files.load(&name.hf, self.device)?,
        };
        expect_shape(name, tensor.dims(), &[length])?;
        Ok(tensor.to_dtype(self.dtype)?)
    }

    /// A matrix `(out, in)`: dense, or quantised when the whole model would be too large dense.
    fn matrix(&self, name: &Name, shape: (usize, usize)) -> Result<QMatMul, EngineError> {
        let expected = [shape.0, shape.1];
        match self.source {
            Source::Gguf(gguf) => {
                let tensor = gguf.tensor(&name.gguf, self.device)?;
                expect_shape(name, tensor.shape().dims(), &expected)?;
                if self.widen {
                    let dense = tensor.dequantize(self.device)?.to_dtype(self.dtype)?;
                    Ok(QMatMul::Tensor(dense))
                } else {
                    Ok(QMatMul::from_arc(Arc::new(tensor))?)
                }
            }
            Source::Safetensors(files) => {
                let tensor = files.load(&name.hf, self.device)?;
                expect_shape(name, tensor.dims(), &expected)?;
                Ok(QMatMul::Tensor(tensor.to_dtype(self.dtype)?))
            }
        }
    }
}

fn expect_shape(name: &Name, found: &[usize], expected: &[usize]) -> Result<(), EngineError> {
    if found == expected {
        return Ok(());
    }
    Err(EngineError::Config(format!("tensor {} has the shape {found:?}, the configuration says {expected:?}", name.hf)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A GGUF file (version 3) of these tensors and metadata, as many as are told.
    fn gguf(tensors: &[u8], metadata: &[u8]) -> &'static [u8] {
        let count = |bytes: &[u8]| u64::from(!bytes.is_empty()).to_le_bytes();
        let version = 3u32.to_le_bytes();
        [b"GGUF", &version[..], &count(tensors), &count(metadata), metadata, tensors].concat().leak()
    }

    fn named(name: &str, rest: &[u8]) -> Vec<u8> {
        [&(name.len() as u64).to_le_bytes()[..], name.as_bytes(), rest].concat()
    }

    fn error_of(file: &'static [u8]) -> String {
        Gguf::parse(Bytes::Static(file)).err().expect("an error").to_string()
    }

    #[test]
    fn an_alignment_of_zero_is_an_error_and_not_the_end_of_the_process() {
        let alignment = |value: u32| {
            const U32: u32 = 4;
            gguf(&[], &named("general.alignment", &[U32.to_le_bytes(), value.to_le_bytes()].concat()))
        };
        assert!(Gguf::parse(Bytes::Static(alignment(32))).is_ok());
        let error = error_of(alignment(0));
        assert!(error.contains("GGUF header"), "{error}");
    }

    #[test]
    fn a_tensor_that_is_empty_or_whose_size_overflows_is_refused() {
        let tensor = |sizes: [u64; 2]| {
            let [rows, columns] = sizes.map(u64::to_le_bytes);
            // Two dimensions, f32, at the beginning of the data.
            gguf(&named("t", &[&2u32.to_le_bytes()[..], &columns, &rows, &[0; 4], &[0; 8]].concat()), &[])
        };
        assert!(Gguf::parse(Bytes::Static(tensor([2, 3]))).is_ok());
        for sizes in [[0, 3], [2, 0], [1 << 62, 1], [1 << 32, 1 << 32], [u64::MAX, 2]] {
            let error = error_of(tensor(sizes));
            assert!(error.contains("tensor t") && error.contains("not held by the file"), "{error}");
        }
    }
}
