//! The Llama architecture, whole, in candle's operations (Touvron et al. 2023, arXiv:2302.13971; Llama 3,
//! arXiv:2407.21783): for GPUs, for weights that stay quantised, and to hold the kernels of the CPU against.
//!
//! Letters in shapes: `T` tokens of all sequences of the batch, one after the other; `t` tokens of
//! one sequence; `s` its keys (prefix and own); `C` hidden size; `H` heads; `K` key/value heads;
//! `G = H / K`; `D` head size; `V` vocabulary. A batch has no padding: everything between the
//! attentions treats `T` rows alike, and each attention sees its own sequence alone.

use candle_core::quantized::QMatMul;
use candle_core::{D, DType, Device, IndexOp, Module, Result, Tensor};
use candle_nn::{ops, rotary_emb};

use crate::engine::cache::KvCache;
use crate::engine::config::{LlamaConfig, RopeLayout};

/// Queries whose scores stand in memory at a time: attention memory grows as `block × s`, not `s²`.
const QUERY_BLOCK: usize = 256;

/// A weight matrix `(out, in)` with an optional bias `(out)`.
pub(in crate::engine) struct Linear {
    pub weight: QMatMul,
    pub bias: Option<Tensor>,
}

impl Linear {
    /// `(T, in)` → `(T, out)`
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.weight.forward(x)?; // (T, out)
        match &self.bias {
            Some(bias) => y.broadcast_add(bias), // (T, out)
            None => Ok(y),
        }
    }
}

/// One transformer block's weights.
pub(in crate::engine) struct Layer {
    pub attention_norm: Tensor, // (C)
    pub q: Linear,              // (H·D, C)
    pub k: Linear,              // (K·D, C)
    pub v: Linear,              // (K·D, C)
    pub o: Linear,              // (C, H·D)
    pub mlp_norm: Tensor,       // (C)
    pub gate: Linear,           // (I, C)
    pub up: Linear,             // (I, C)
    pub down: Linear,           // (C, I)
}

/// A model's weights, and the RoPE tables made from its configuration.
pub(in crate::engine) struct Llama {
    pub config: LlamaConfig,
    pub embedding: QMatMul,      // (V, C)
    pub layers: Vec<Layer>,      // L
    pub norm: Tensor,            // (C)
    pub output: Option<QMatMul>, // (V, C), `None` when tied to the embedding or absent
    pub rope: Rope,
}

/// `cos(m·θ_i)` and `sin(m·θ_i)` for every position `m` (Su et al. 2021, arXiv:2104.09864, eq. 15).
pub(in crate::engine) struct Rope {
    cos: Tensor, // (P, D/2)
    sin: Tensor, // (P, D/2)
    layout: RopeLayout,
}

impl Rope {
    /// `factors`, as GGUF's `rope_freqs.weight` has them, divide the frequencies; without them the
    /// configuration's llama3 scaling is applied.
    pub fn new(config: &LlamaConfig, factors: Option<&[f32]>, device: &Device) -> Result<Self> {
        let frequencies = rope_frequencies(config, factors);
        let (positions, half) = (config.positions_max, frequencies.len());
        let angles = |f: fn(f32) -> f32| -> Result<Tensor> {
            // The product is rounded to f32 before the cosine, as transformers does.
            let table: Vec<f32> =
                (0..positions).flat_map(|m| frequencies.iter().map(move |&w| f(m as f32 * w))).collect();
            Tensor::from_vec(table, (positions, half), device) // (P, D/2)
        };
        Ok(Self { cos: angles(f32::cos)?, sin: angles(f32::sin)?, layout: config.rope_layout })
    }

    /// The rows of `positions` (T): two tensors `(T, D/2)`.
    fn rows(&self, positions: &Tensor, dtype: DType) -> Result<(Tensor, Tensor)> {
        let cos = self.cos.index_select(positions, 0)?.to_dtype(dtype)?; // (T, D/2)
        let sin = self.sin.index_select(positions, 0)?.to_dtype(dtype)?; // (T, D/2)
        Ok((cos, sin))
    }

    /// Rotates `(T, heads·D)` into `(heads, T, D)`.
    fn rotate(&self, x: &Tensor, head_dim: usize, (cos, sin): &(Tensor, Tensor)) -> Result<Tensor> {
        let (tokens, width) = x.dims2()?;
        let x = x.reshape((1, tokens, width / head_dim, head_dim))?.transpose(1, 2)?.contiguous()?; // (1, heads, T, D)
        let rotated = match self.layout {
            RopeLayout::Halves => rotary_emb::rope(&x, cos, sin)?,
            RopeLayout::Interleaved => rotary_emb::rope_i(&x, cos, sin)?,
        };
        rotated.squeeze(0) // (heads, T, D)
    }
}

/// The angular frequencies `θ_i = base^(-2i/D)`, scaled.
pub(in crate::engine) fn rope_frequencies(config: &LlamaConfig, factors: Option<&[f32]>) -> Vec<f32> {
    let half = config.head_dim / 2;
    let plain = (0..half).map(|i| {
        let exponent = (2 * i) as f32 / config.head_dim as f32;
        1.0 / (config.rope_theta as f32).powf(exponent)
    });
    if let Some(factors) = factors {
        return plain.zip(factors).map(|(w, factor)| w / factor).collect();
    }
    let Some(scaling) = config.rope_scaling else { return plain.collect() };
    let low = scaling.original_positions / scaling.low_freq_factor;
    let high = scaling.original_positions / scaling.high_freq_factor;
    plain
        .map(|w| {
            let wavelength = 2.0 * std::f64::consts::PI / f64::from(w);
            if wavelength > low {
                (f64::from(w) / scaling.factor) as f32
            } else if wavelength < high {
                w
            } else {
                let smooth = (scaling.original_positions / wavelength - scaling.low_freq_factor)
                    / (scaling.high_freq_factor - scaling.low_freq_factor);
                ((1.0 - smooth) * f64::from(w) / scaling.factor + smooth * f64::from(w)) as f32
            }
        })
        .collect()
}

/// One sequence's place in a packed batch.
pub(in crate::engine) struct Span<'a> {
    /// Keys and values of the prefix layer by layer, each `(K, s, D)`; empty where there is none.
    pub prefix: &'a [(Tensor, Tensor)],
    pub prefix_tokens: usize,
    pub tokens: &'a [u32],
}

impl Llama {
    fn device(&self) -> &Device {
        self.norm.device()
    }

    /// Runs every block over the packed batch. Returns the hidden states before the final norm
    /// `(T, C)` and each sequence's keys and values, its prefix's included.
    pub fn forward(&self, owner: u64, batch: &[Span]) -> Result<(Tensor, Vec<KvCache>)> {
        let ids: Vec<u32> = batch.iter().flat_map(|span| span.tokens.iter().copied()).collect();
        let positions: Vec<u32> =
            batch.iter().flat_map(|span| (0..span.tokens.len()).map(|i| (span.prefix_tokens + i) as u32)).collect();
        let total = ids.len();
        let ids = Tensor::from_vec(ids, total, self.device())?; // (T)
        let positions = Tensor::from_vec(positions, total, self.device())?; // (T)
        let dtype = self.norm.dtype();
        let rope = self.rope.rows(&positions, dtype)?; // (T, D/2) twice

        let mut caches: Vec<Vec<(Tensor, Tensor)>> = vec![Vec::with_capacity(self.layers.len()); batch.len()];
        let mut x = self.embedding.embedding(&ids)?.to_dtype(dtype)?; // (T, C)
        for (index, layer) in self.layers.iter().enumerate() {
            let h = ops::rms_norm(&x, &layer.attention_norm, self.config.rms_eps as f32)?; // (T, C)
            let q = self.rope.rotate(&layer.q.forward(&h)?, self.config.head_dim, &rope)?; // (H, T, D)
            let k = self.rope.rotate(&layer.k.forward(&h)?, self.config.head_dim, &rope)?; // (K, T, D)
            let v = self.split_heads(&layer.v.forward(&h)?)?; // (K, T, D)
            let mut outputs = Vec::with_capacity(batch.len());
            let mut start = 0;
            for (span, cache) in batch.iter().zip(&mut caches) {
                let length = span.tokens.len();
                let own = (k.narrow(1, start, length)?, v.narrow(1, start, length)?); // (K, t, D)
                let (keys, values) = append(span.prefix.get(index), own)?; // (K, s, D)
                outputs.push(attend(&q.narrow(1, start, length)?, &keys, &values)?); // (t, H·D)
                cache.push((keys, values));
                start += length;
            }
            x = (x + layer.o.forward(&Tensor::cat(&outputs, 0)?)?)?; // (T, C)
            let h = ops::rms_norm(&x, &layer.mlp_norm, self.config.rms_eps as f32)?; // (T, C)
            let gated = (ops::silu(&layer.gate.forward(&h)?)? * layer.up.forward(&h)?)?; // (T, I)
            x = (x + layer.down.forward(&gated)?)?; // (T, C)
        }
        let tokens = batch.iter().map(|span| span.prefix_tokens + span.tokens.len());
        Ok((
            x,
            caches.into_iter().zip(tokens).map(|(layers, tokens)| KvCache::of_tensors(owner, layers, tokens)).collect(),
        ))
    }

    /// `(T, K·D)` → `(K, T, D)`
    fn split_heads(&self, x: &Tensor) -> Result<Tensor> {
        let (tokens, width) = x.dims2()?;
        let head_dim = self.config.head_dim;
        x.reshape((tokens, width / head_dim, head_dim))?.transpose(0, 1)?.contiguous() // (K, T, D)
    }

    /// The final norm of the rows asked for: `(T, C)` → `(rows, C)`.
    pub fn hidden(&self, x: &Tensor, rows: &Tensor) -> Result<Tensor> {
        let picked = x.index_select(rows, 0)?; // (rows, C)
        ops::rms_norm(&picked, &self.norm, self.config.rms_eps as f32) // (rows, C)
    }

    /// `(rows, C)` → `(rows, V)` in f32.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        let output = self.output.as_ref().unwrap_or(&self.embedding);
        output.forward(hidden)?.to_dtype(DType::F32) // (rows, V)
    }
}

/// The prefix's keys and values followed by a sequence's own: `(K, s, D)` twice.
fn append(prefix: Option<&(Tensor, Tensor)>, own: (Tensor, Tensor)) -> Result<(Tensor, Tensor)> {
    match prefix {
        Some((keys, values)) => Ok((Tensor::cat(&[keys, &own.0], 1)?, Tensor::cat(&[values, &own.1], 1)?)),
        None => Ok((own.0.contiguous()?, own.1.contiguous()?)),
    }
}

/// Causal grouped-query attention (Ainslie et al. 2023, arXiv:2305.13245) of one sequence:
/// softmax(q·kᵀ/√D + mask)·v, a block of queries at a time.
///
/// `q (H, t, D)`, `keys` and `values (K, s, D)` → `(t, H·D)`. Query `i` sees the keys `0..=s-t+i`.
fn attend(q: &Tensor, keys: &Tensor, values: &Tensor) -> Result<Tensor> {
    let (heads, queries, head_dim) = q.dims3()?;
    let (kv_heads, key_count, _) = keys.dims3()?;
    let groups = heads / kv_heads;
    let past = key_count - queries;
    let scaled = (q * (1.0 / (head_dim as f64).sqrt()))?; // (H, t, D)
    let mut blocks = Vec::with_capacity(queries.div_ceil(QUERY_BLOCK));
    for start in (0..queries).step_by(QUERY_BLOCK) {
        let rows = QUERY_BLOCK.min(queries - start);
        let seen = past + start + rows; // keys any query of the block may see
        let block = scaled.narrow(1, start, rows)?.contiguous()?.reshape((kv_heads, groups * rows, head_dim))?; // (K, G·n, D)
        let keys = keys.narrow(1, 0, seen)?; // (K, seen, D)
        let values = values.narrow(1, 0, seen)?.contiguous()?; // (K, seen, D)
        let scores = block.matmul(&keys.t()?.contiguous()?)?.reshape((kv_heads, groups, rows, seen))?; // (K, G, n, seen)
        let mask = causal_mask(rows, seen, q.dtype(), q.device())?; // (n, seen)
        let weights = ops::softmax_last_dim(&scores.broadcast_add(&mask)?)?; // (K, G, n, seen)
        let mixed = weights.reshape((kv_heads, groups * rows, seen))?.matmul(&values)?; // (K, G·n, D)
        blocks.push(mixed.reshape((heads, rows, head_dim))?); // (H, n, D)
    }
    let mixed = Tensor::cat(&blocks, 1)?; // (H, t, D)
    mixed.transpose(0, 1)?.contiguous()?.reshape((queries, heads * head_dim)) // (t, H·D)
}

/// 0 where query `i` of `rows` may see key `j` of `seen`, −∞ above the diagonal: `(rows, seen)`.
fn causal_mask(rows: usize, seen: usize, dtype: DType, device: &Device) -> Result<Tensor> {
    let first = seen - rows; // the last key that query 0 sees
    let mask: Vec<f32> =
        (0..rows).flat_map(|i| (0..seen).map(move |j| if j > first + i { f32::NEG_INFINITY } else { 0.0 })).collect();
    Tensor::from_vec(mask, (rows, seen), device)?.to_dtype(dtype) // (rows, seen)
}

/// A `(rows, n)` tensor as one vector a row, in f32.
pub(in crate::engine) fn rows_f32(x: &Tensor) -> Result<Vec<Vec<f32>>> {
    let rows = x.dim(D::Minus2)?;
    let x = x.to_dtype(DType::F32)?; // (rows, n)
    (0..rows).map(|row| x.i(row)?.to_vec1::<f32>()).collect()
}
