//! The shape of a Llama model, from a `config.json` or from GGUF metadata, checked before use.

use candle_core::quantized::gguf_file::{Content, Value};
use serde::Deserialize;

use super::EngineError;

/// The longest context the engine accepts, in tokens: Llama 3.2's own.
pub const POSITIONS_MAX: usize = 131_072;
/// The largest vocabulary, hidden or intermediate size that is believed.
const DIMENSION_MAX: usize = 1 << 20;
const LAYERS_MAX: usize = 1_024;
const HEAD_DIM_MAX: usize = 1_024;

/// How Llama 3.1+ stretches RoPE (`rope_type: "llama3"`; Llama 3.1 release notes, and
/// transformers' `_compute_llama3_parameters`): wavelengths above `original / low_freq_factor` are
/// slowed by `factor`, those below `original / high_freq_factor` kept, in between blended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Llama3Rope {
    pub factor: f64,
    pub low_freq_factor: f64,
    pub high_freq_factor: f64,
    pub original_positions: f64,
}

/// Which two of a head's numbers RoPE rotates together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeLayout {
    /// `i` with `i + D/2`: Hugging Face checkpoints.
    Halves,
    /// `2i` with `2i + 1`: GGUF files of the architecture `llama`, whose q and k rows were permuted.
    Interleaved,
}

/// Everything that fixes the computation of a Llama model but its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct LlamaConfig {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub rms_eps: f64,
    pub rope_theta: f64,
    pub rope_scaling: Option<Llama3Rope>,
    pub rope_layout: RopeLayout,
    pub positions_max: usize,
    pub tie_embeddings: bool,
    pub attention_bias: bool,
    pub mlp_bias: bool,
}

impl LlamaConfig {
    /// Numbers in the weights of all layers, the embedding and an untied output.
    pub fn parameter_count(&self) -> usize {
        let embeddings = self.vocab_size * self.hidden_size * if self.tie_embeddings { 1 } else { 2 };
        self.layers_parameter_count() + embeddings
    }

    /// The same where every matrix has its rows filled up to a whole number of `panel`: what stands in memory, packed.
    pub fn padded_parameter_count(&self, panel: usize) -> usize {
        let padded = |size: usize| size.next_multiple_of(panel);
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let (c, i) = (self.hidden_size, self.intermediate_size);
        let projections = c * (padded(q) + padded(2 * kv) + 2 * padded(i)) + padded(c) * (q + i);
        self.layers * projections + 2 * padded(self.vocab_size) * c
    }

    /// Numbers in the matrices of all layers.
    fn layers_parameter_count(&self) -> usize {
        let q = self.heads * self.head_dim;
        let kv = self.kv_heads * self.head_dim;
        let attention = self.hidden_size * (2 * q + 2 * kv);
        let mlp = 3 * self.hidden_size * self.intermediate_size;
        self.layers * (attention + mlp)
    }

    /// Floating-point operations to prefill one token of a sequence of `tokens`, the output matrix left out: two for every
    /// weight of the layers, and four for every number of every key that is seen, of which there are half on average.
    pub fn prefill_flop_per_token(&self, tokens: usize) -> f64 {
        let weights = 2.0 * self.layers_parameter_count() as f64;
        let attention = 4.0 * (self.layers * self.heads * self.head_dim) as f64 * (tokens as f64 + 1.0) / 2.0;
        weights + attention
    }

    /// Bytes read and written to prefill one token of a sequence of `tokens` that goes through the layers `rows` rows at a time (both at
    /// least 1), every number taking `number_bytes`. Every pass of rows reads all weights of the layers once, and the keys and values of
    /// all tokens up to its last; every token's keys and values are written once. With `p = ⌈tokens / rows⌉` passes, `W` weights and
    /// `2·L·K·D` numbers of keys and values a token, that is for the whole sequence
    ///
    /// ```text
    /// number_bytes · (p·W + 2·L·K·D · (tokens + rows·p·(p − 1)/2 + tokens))
    /// ```
    ///
    /// With `rows = tokens` nothing is read twice: less cannot come from memory. Embedding and output are left out, and what lies between
    /// the products, which may stay in the caches.
    pub fn prefill_bytes_per_token(&self, tokens: usize, rows: usize, number_bytes: usize) -> f64 {
        let (tokens, rows) = (tokens.max(1), rows.max(1));
        let passes = tokens.div_ceil(rows) as f64;
        let keys_values = (2 * self.layers * self.kv_heads * self.head_dim) as f64;
        let tokens_read = rows as f64 * passes * (passes - 1.0) / 2.0 + tokens as f64;
        let numbers = passes * self.layers_parameter_count() as f64 + keys_values * (tokens as f64 + tokens_read);
        number_bytes as f64 * numbers / tokens as f64
    }

    /// Refuses shapes that no Llama has, before anything is allocated for them.
    fn checked(self) -> Result<Self, EngineError> {
        let within = |name: &'static str, value: usize, max: usize| {
            if (1..=max).contains(&value) { Ok(()) } else { Err(EngineError::Shape { name, value, max }) }
        };
        within("vocab_size", self.vocab_size, DIMENSION_MAX)?;
        within("hidden_size", self.hidden_size, DIMENSION_MAX)?;
        within("intermediate_size", self.intermediate_size, DIMENSION_MAX)?;
        within("num_hidden_layers", self.layers, LAYERS_MAX)?;
        within("num_attention_heads", self.heads, self.hidden_size)?;
        within("num_key_value_heads", self.kv_heads, self.heads)?;
        within("head_dim", self.head_dim, HEAD_DIM_MAX)?;
        within("max_position_embeddings", self.positions_max, usize::MAX)?;
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(EngineError::Unsupported(format!(
                "{} attention heads over {} key/value heads; hint: the first must be a multiple of the second",
                self.heads, self.kv_heads
            )));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(EngineError::Unsupported(format!("head_dim {} is odd, RoPE needs pairs", self.head_dim)));
        }
        Ok(Self { positions_max: self.positions_max.min(POSITIONS_MAX), ..self })
    }

    /// Reads a Hugging Face `config.json` of `LlamaForCausalLM` or a model with the same computation.
    ///
    /// # Errors
    /// When a field is missing or out of its limits, or asks for a computation this engine does
    /// not have (another architecture, activation or RoPE scaling): never a silent approximation.
    pub fn from_hf_json(json: &str) -> Result<Self, EngineError> {
        let raw: HfConfig = serde_json::from_str(json).map_err(|error| EngineError::Config(error.to_string()))?;
        raw.refuse_unsupported()?;
        let (rope_theta, rope_scaling) = raw.rope()?;
        Self {
            vocab_size: raw.vocab_size,
            hidden_size: raw.hidden_size,
            intermediate_size: raw.intermediate_size,
            layers: raw.num_hidden_layers,
            heads: raw.num_attention_heads,
            kv_heads: raw.num_key_value_heads.unwrap_or(raw.num_attention_heads),
            head_dim: raw.head_dim.unwrap_or(raw.hidden_size / raw.num_attention_heads.max(1)),
            rms_eps: raw.rms_norm_eps,
            rope_theta,
            rope_scaling,
            rope_layout: RopeLayout::Halves,
            positions_max: raw.max_position_embeddings,
            tie_embeddings: raw.tie_word_embeddings,
            attention_bias: raw.attention_bias,
            mlp_bias: raw.mlp_bias,
        }
        .checked()
    }

    /// Reads the metadata of a GGUF file (keys `llama.*`, GGUF specification).
    ///
    /// # Errors
    /// When the architecture is not `llama`, or a key is missing or out of its limits.
    pub fn from_gguf(content: &Content) -> Result<Self, EngineError> {
        let metadata = Metadata(content);
        let architecture = metadata.string("general.architecture").unwrap_or_default();
        if architecture != "llama" {
            return Err(EngineError::Unsupported(format!(
                "GGUF architecture `{architecture}`; hint: the engine runs `llama`"
            )));
        }
        let hidden_size = metadata.count("llama.embedding_length")?;
        let heads = metadata.count("llama.attention.head_count")?;
        let embedding = content
            .tensor_infos
            .get("token_embd.weight")
            .ok_or_else(|| EngineError::Missing("token_embd.weight".into()))?;
        Self {
            vocab_size: embedding.shape.dims().first().copied().unwrap_or(0),
            hidden_size,
            intermediate_size: metadata.count("llama.feed_forward_length")?,
            layers: metadata.count("llama.block_count")?,
            heads,
            kv_heads: metadata.count("llama.attention.head_count_kv").unwrap_or(heads),
            head_dim: metadata.count("llama.attention.key_length").unwrap_or(hidden_size / heads.max(1)),
            rms_eps: metadata.number("llama.attention.layer_norm_rms_epsilon")?,
            rope_theta: metadata.number("llama.rope.freq_base").unwrap_or(10_000.0),
            rope_scaling: None, // stands in the tensor `rope_freqs.weight` instead
            rope_layout: RopeLayout::Interleaved,
            positions_max: metadata.count("llama.context_length")?,
            tie_embeddings: !content.tensor_infos.contains_key("output.weight"),
            attention_bias: content.tensor_infos.contains_key("blk.0.attn_q.bias"),
            mlp_bias: content.tensor_infos.contains_key("blk.0.ffn_up.bias"),
        }
        .checked()
    }
}

/// GGUF metadata by key, whatever integer width the writer chose.
struct Metadata<'a>(&'a Content);

impl Metadata<'_> {
    fn get(&self, key: &str) -> Result<&Value, EngineError> {
        self.0.metadata.get(key).ok_or_else(|| EngineError::Missing(key.to_owned()))
    }

    fn count(&self, key: &str) -> Result<usize, EngineError> {
        let value = self.get(key)?.to_u64().map_err(|error| EngineError::Config(format!("{key}: {error}")))?;
        usize::try_from(value).map_err(|error| EngineError::Config(format!("{key}: {error}")))
    }

    fn number(&self, key: &str) -> Result<f64, EngineError> {
        match self.get(key)? {
            Value::F32(value) => Ok(f64::from(*value)),
            Value::F64(value) => Ok(*value),
            other => Err(EngineError::Config(format!("{key}: expected a float, found {:?}", other.value_type()))),
        }
    }

    fn string(&self, key: &str) -> Option<String> {
        self.0.metadata.get(key)?.to_string().ok().cloned()
    }
}

/// `config.json` as transformers writes it; 5.x moved the RoPE fields into `rope_parameters`.
#[derive(Deserialize)]
struct HfConfig {
    #[serde(default)]
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    #[serde(default = "default_eps")]
    rms_norm_eps: f64,
    rope_theta: Option<f64>,
    rope_scaling: Option<HfRope>,
    rope_parameters: Option<HfRope>,
    #[serde(default = "default_positions")]
    max_position_embeddings: usize,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default = "default_activation")]
    hidden_act: String,
}

#[derive(Deserialize, Clone)]
struct HfRope {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
}

fn default_eps() -> f64 {
    1e-6
}

fn default_positions() -> usize {
    2_048
}

fn default_activation() -> String {
    "silu".into()
}

impl HfConfig {
    fn refuse_unsupported(&self) -> Result<(), EngineError> {
        if self.model_type != "llama" {
            return Err(EngineError::Unsupported(format!(
                "model_type `{}`; hint: the engine runs `llama`",
                self.model_type
            )));
        }
        if self.hidden_act != "silu" {
            return Err(EngineError::Unsupported(format!("hidden_act `{}`; hint: Llama uses `silu`", self.hidden_act)));
        }
        Ok(())
    }

    fn rope(&self) -> Result<(f64, Option<Llama3Rope>), EngineError> {
        let rope = self.rope_parameters.as_ref().or(self.rope_scaling.as_ref());
        let theta = self.rope_theta.or(rope.and_then(|r| r.rope_theta)).unwrap_or(10_000.0);
        let Some(rope) = rope else { return Ok((theta, None)) };
        match rope.rope_type.as_deref() {
            None | Some("default") => Ok((theta, None)),
            Some("llama3") => {
                let need = |name: &str, value: Option<f64>| {
                    value.filter(|v| v.is_finite() && *v > 0.0).ok_or_else(|| EngineError::Missing(name.into()))
                };
                let scaling = Llama3Rope {
                    factor: need("rope_scaling.factor", rope.factor)?,
                    low_freq_factor: need("rope_scaling.low_freq_factor", rope.low_freq_factor)?,
                    high_freq_factor: need("rope_scaling.high_freq_factor", rope.high_freq_factor)?,
                    original_positions: need(
                        "rope_scaling.original_max_position_embeddings",
                        rope.original_max_position_embeddings,
                    )?,
                };
                Ok((theta, Some(scaling)))
            }
            Some(other) => Err(EngineError::Unsupported(format!(
                "RoPE scaling `{other}`; hint: `default` and `llama3` are implemented"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The embedded model's.
    fn small() -> LlamaConfig {
        LlamaConfig {
            vocab_size: 16_238,
            hidden_size: 576,
            intermediate_size: 1_536,
            layers: 16,
            heads: 9,
            kv_heads: 3,
            head_dim: 64,
            rms_eps: 1e-5,
            rope_theta: 100_000.0,
            rope_scaling: None,
            rope_layout: RopeLayout::Halves,
            positions_max: 4_096,
            tie_embeddings: true,
            attention_bias: false,
            mlp_bias: false,
        }
    }

    /// Llama 3.2's of a thousand million.
    fn large() -> LlamaConfig {
        let sizes = LlamaConfig { hidden_size: 2_048, intermediate_size: 8_192, heads: 32, kv_heads: 8, ..small() };
        LlamaConfig { vocab_size: 128_256, rope_theta: 500_000.0, positions_max: POSITIONS_MAX, ..sizes }
    }

    /// The numbers that `benches/FLOOR.md` works out by hand.
    #[test]
    fn operations_and_bytes_of_a_token_are_those_of_hand_arithmetic() {
        assert_eq!(small().prefill_flop_per_token(512), 122_701_824.0);
        assert_eq!(small().prefill_bytes_per_token(512, 512, 2), 245_760.0);
        assert_eq!(small().prefill_bytes_per_token(512, 64, 2), 1_837_056.0);
        assert_eq!(large().prefill_flop_per_token(2_048), 2_080_440_320.0);
        assert_eq!(large().prefill_bytes_per_token(2_048, 2_048, 2), 1_015_808.0);
        assert_eq!(large().prefill_bytes_per_token(2_048, 64, 2), 30_982_144.0);
    }

    /// 100 tokens by 64: two passes, which read the keys of 64 and of 100 tokens.
    #[test]
    fn a_last_pass_of_few_rows_reads_all_weights_too() {
        let numbers = 2.0 * 56_623_104.0 + 6_144.0 * (100.0 + 164.0);
        assert_eq!(small().prefill_bytes_per_token(100, 64, 4), 4.0 * numbers / 100.0);
        // More rows than there are tokens are one pass; and nothing divides by zero.
        assert_eq!(small().prefill_bytes_per_token(3, 64, 2), small().prefill_bytes_per_token(3, 3, 2));
        assert_eq!(small().prefill_bytes_per_token(0, 0, 2), small().prefill_bytes_per_token(1, 1, 2));
    }
}
