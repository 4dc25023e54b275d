//! A model's weights, packed for a kernel.

use rayon::prelude::*;

use candle_core::quantized::QMatMul;
use candle_core::{Device, Tensor};

use super::super::EngineError;
use super::super::config::RopeLayout;
use super::super::kernels::{Aligned, Kernel, KernelName, Packed, rows};
use super::super::model::llama::{Layer as Read, Linear as ReadLinear, rope_frequencies};
use super::super::weights::Loader;
use super::linear::Linear;

/// One transformer block's weights.
pub(super) struct Layer<K: Kernel> {
    pub attention_norm: Vec<f32>, // (C)
    pub q: Linear<K>,             // (H·D, C)
    pub kv: Linear<K>,            // (2·K·D, C): keys, then values
    pub o: Linear<K>,             // (C, H·D)
    pub mlp_norm: Vec<f32>,       // (C)
    pub gate: Linear<K>,          // (I, C)
    pub up: Linear<K>,            // (I, C)
    pub down: Linear<K>,          // (C, I)
}

pub(super) struct Weights<K: Kernel> {
    pub embedding: Aligned<K::Element>, // (V, C)
    pub layers: Vec<Layer<K>>,          // L
    pub norm: Vec<f32>,                 // (C)
    /// `(V, C)`, `None` when tied to the embedding.
    pub output: Option<Packed<K::Element>>,
    /// The angular frequencies of RoPE: `(D/2)`.
    pub frequencies: Vec<f32>,
    hidden_size: usize,
}

impl<K: Kernel> Weights<K> {
    /// Reads a model and packs it for the kernel of that name; as many layers as there are threads stand in memory unpacked.
    pub fn load(loader: &Loader, kernel: KernelName) -> Result<Self, EngineError> {
        let config = loader.config;
        let ends = loader.ends()?;
        let layers = (0..config.layers).into_par_iter().map(|index| {
            let read = loader.layer(index)?;
            Layer::pack(&read, loader, kernel)
        });
        let numbers = dense(&ends.embedding)?;
        let mut embedding = Aligned::zeros(numbers.len());
        rows::write(numbers.into_iter(), &mut embedding);
        let output = ends.output.as_ref().map(dense).transpose()?;
        Ok(Self {
            embedding,
            layers: layers.collect::<Result<_, _>>()?,
            norm: ends.norm.to_vec1()?,
            output: output.map(|matrix| Packed::of_rows::<K>(&matrix, config.hidden_size)),
            frequencies: rope_frequencies(config, ends.rope_factors.as_deref()),
            hidden_size: config.hidden_size,
        })
    }

    /// The embedding as the matrix of an output that is tied to it.
    pub fn tied_output(&self) -> Packed<K::Element> {
        Packed::of_rows::<K>(&self.embedding, self.hidden_size)
    }
}

impl<K: Kernel> Layer<K> {
    /// Queries, keys and values stay in `K`'s own numbers, whatever the kernel: a tenth to a sixth of the products, and in eight bits half of what
    /// would be lost in digits.
    fn pack(read: &Read, loader: &Loader, kernel: KernelName) -> Result<Self, EngineError> {
        let (config, depth) = (loader.config, loader.config.hidden_size);
        let plain = |linear: &ReadLinear, depth: usize| -> Result<Linear<K>, EngineError> {
            Ok(Linear::pack(kernel, &dense(&linear.weight)?, depth, bias(linear)?))
        };
        let rotated = |linear: &ReadLinear| -> Result<(Vec<f32>, Option<Vec<f32>>), EngineError> {
            let (matrix, bias) = (dense(&linear.weight)?, bias(linear)?);
            Ok(match config.rope_layout {
                RopeLayout::Halves => (matrix, bias),
                RopeLayout::Interleaved => {
                    (as_halves(&matrix, config.head_dim, depth), bias.map(|b| as_halves(&b, config.head_dim, 1)))
                }
            })
        };
        let (q, q_bias) = rotated(&read.q)?;
        let (mut kv, k_bias) = rotated(&read.k)?;
        kv.extend(dense(&read.v.weight)?);
        let kv_bias = match (k_bias, bias(&read.v)?) {
            (Some(k), Some(v)) => Some([k, v].concat()),
            _ => None,
        };
        Ok(Self {
            attention_norm: read.attention_norm.to_vec1()?,
            q: Linear::pack(K::NAME, &q, depth, q_bias),
            kv: Linear::pack(K::NAME, &kv, depth, kv_bias),
            o: plain(&read.o, config.heads * config.head_dim)?,
            mlp_norm: read.mlp_norm.to_vec1()?,
            gate: plain(&read.gate, depth)?,
            up: plain(&read.up, depth)?,
            down: plain(&read.down, config.intermediate_size)?,
        })
    }
}

/// A dense matrix's numbers, row by row.
fn dense(matrix: &QMatMul) -> Result<Vec<f32>, EngineError> {
    match matrix {
        QMatMul::Tensor(tensor) | QMatMul::TensorF16(tensor) => Ok(tensor.flatten_all()?.to_vec1()?),
        QMatMul::QTensor(tensor) => Ok(tensor.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1()?),
    }
}

fn bias(linear: &ReadLinear) -> Result<Option<Vec<f32>>, EngineError> {
    Ok(linear.bias.as_ref().map(Tensor::to_vec1).transpose()?)
}

/// Rows `2i, 2i + 1` of every head put at `i, i + D/2`. Queries and keys are changed alike, so no score changes.
fn as_halves(rows: &[f32], head_dim: usize, width: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(rows.len());
    for head in rows.chunks_exact(head_dim * width) {
        for start in [0, 1] {
            for row in head.chunks_exact(width).skip(start).step_by(2) {
                out.extend_from_slice(row);
            }
        }
    }
    out
}
