//! One block of rows through one layer.

use super::super::config::LlamaConfig;
use super::super::kernels::{Aligned, Element, Kernel, KernelName, rows};
use super::attention::AttentionScratch;
use super::cache::Block as KvBlock;
use super::linear::{Linear, Operand, Out};
use super::{BLOCK, Block, CpuBackend};

/// What stands between the products of a block: made once a thread, used again by every block.
pub(super) struct Scratch<K: Kernel> {
    h: Operand<K>,              // (R, C): normalised rows
    wide: Aligned<f32>,         // (R, H·D) or (R, 2·K·D): projections before they are rotated
    kv_elements: usize,         // of keys and values in `wide`
    pub q: Aligned<K::Element>, // (R, H·D): rotated, scaled queries
    pub mixed: Operand<K>,      // (R, H·D): what attention gives
    gate: Aligned<f32>,         // (R, PANEL)
    up: Aligned<f32>,           // (R, PANEL)
    gated: Operand<K>,          // (R, I)
    pub attention: AttentionScratch<K>,
}

/// Elements from a row of an operand to the next: whole groups.
pub(super) fn depth<K: Kernel>(columns: usize) -> usize {
    columns.next_multiple_of(K::Element::GROUP)
}

impl<K: Kernel> Scratch<K> {
    pub fn new(config: &LlamaConfig, kernel: KernelName) -> Self {
        let q = config.heads * config.head_dim;
        let wide = q.max(2 * config.kv_heads * config.head_dim).next_multiple_of(K::PANEL);
        Self {
            h: Operand::zeros(kernel, config.hidden_size),
            wide: Aligned::zeros(BLOCK * wide),
            kv_elements: 0,
            q: Aligned::zeros(BLOCK * depth::<K>(q)),
            mixed: Operand::zeros(kernel, q),
            gate: Aligned::zeros(BLOCK * K::PANEL),
            up: Aligned::zeros(BLOCK * K::PANEL),
            gated: Operand::zeros(kernel, config.intermediate_size),
            attention: AttentionScratch::new(config),
        }
    }

    /// The keys and values that were made last.
    pub fn keys_values(&self) -> &[f32] {
        &self.wide[..self.kv_elements]
    }
}

impl<K: Kernel> CpuBackend<K> {
    /// The keys and values of a block's rows in a layer, from what the layer before left in `x`: in the scratch, until they are
    /// [put](Self::put) in their places.
    pub(super) fn keys_values(&self, scratch: &mut Scratch<K>, layer: usize, block: &Block) {
        let weights = &self.weights.layers[layer];
        let (rows, d) = (block.positions.len(), self.config.head_dim);
        self.normalise(block, &weights.attention_norm, &mut scratch.h);
        let stride = self.project(&scratch.h, rows, &weights.kv, &mut scratch.wide); // (R, 2·K·D)
        let width = self.config.kv_heads * d;
        K::with_features(
            #[inline(always)]
            || {
                for (token, row) in scratch.wide.chunks_exact_mut(stride).take(rows).enumerate() {
                    for key in row[..width].chunks_exact_mut(d) {
                        rows::rotate(key, block.cos(token), block.sin(token));
                    }
                }
            },
        );
        scratch.kv_elements = rows * stride;
    }

    /// Puts rows of keys and values `(R, 2·K·D)` into a block of them, from that token of it on.
    pub(super) fn put(&self, made: &[f32], first: usize, kv: &mut KvBlock<K::Element>) {
        let d = self.config.head_dim;
        let width = self.config.kv_heads * d;
        let stride = self.kv_stride();
        K::with_features(
            #[inline(always)]
            || {
                for (token, row) in made.chunks_exact(stride).enumerate() {
                    let (keys, values) = row[..2 * width].split_at(width);
                    for (head, (key, value)) in keys.chunks_exact(d).zip(values.chunks_exact(d)).enumerate() {
                        kv.put::<K>(head, first + token, (key, value));
                    }
                }
            },
        );
    }

    /// Numbers from a row of keys and values to the next, before they are put in their places.
    pub(super) fn kv_stride(&self) -> usize {
        (2 * self.config.kv_heads * self.config.head_dim).next_multiple_of(K::PANEL)
    }

    /// A block's rows through a layer: `x` is replaced. `seen`: keys and values of the sequence's tokens, in order.
    pub(super) fn layer(
        &self,
        scratch: &mut Scratch<K>,
        layer: usize,
        block: &mut Block,
        seen: Vec<&KvBlock<K::Element>>,
    ) {
        let weights = &self.weights.layers[layer];
        let rows = block.positions.len();
        self.normalise(block, &weights.attention_norm, &mut scratch.h);
        self.queries(scratch, layer, block);
        self.attend(scratch, block, &seen);
        self.add_product(&mut scratch.mixed, rows, &weights.o, &mut block.x);
        self.normalise(block, &weights.mlp_norm, &mut scratch.h);
        self.gated(scratch, layer, rows);
        self.add_product(&mut scratch.gated, rows, &weights.down, &mut block.x);
    }

    /// `x (R, C)` → `h (R, C)`
    fn normalise(&self, block: &Block, weight: &[f32], h: &mut Operand<K>) {
        let (c, eps) = (self.config.hidden_size, self.config.rms_eps as f32);
        let x = block.x.chunks_exact(self.x_stride());
        K::with_features(
            #[inline(always)]
            || {
                for (x, h) in x.zip(h.numbers.chunks_exact_mut(h.stride)) {
                    rows::write(rows::rms_norm::<K>(&x[..c], weight, eps), h);
                }
            },
        );
    }

    /// `out (R, columns) = h · matrixᵀ + bias`; returns the stride of `out`.
    fn project(&self, h: &Operand<K>, rows: usize, linear: &Linear<K>, out: &mut [f32]) -> usize {
        let panels = 0..linear.panels();
        let stride = panels.len() * K::PANEL;
        linear.multiply(h, rows, panels, Out { numbers: &mut *out, stride, add: false });
        if let Some(bias) = &linear.bias {
            out.chunks_exact_mut(stride).take(rows).for_each(|row| rows::add(row, bias));
        }
        stride
    }

    /// `x (R, C) += a · matrixᵀ + bias`
    fn add_product(&self, a: &mut Operand<K>, rows: usize, linear: &Linear<K>, x: &mut [f32]) {
        let stride = self.x_stride();
        if let Some(bias) = &linear.bias {
            x.chunks_exact_mut(stride).for_each(|row| rows::add(row, bias));
        }
        a.written(rows);
        linear.multiply(a, rows, 0..linear.panels(), Out { numbers: x, stride, add: true });
    }

    /// `h (R, C)` → `q (R, H·D)`, rotated and scaled by `log₂ e / √D`: the softmax is taken in powers of two.
    fn queries(&self, scratch: &mut Scratch<K>, layer: usize, block: &Block) {
        let (rows, d) = (block.positions.len(), self.config.head_dim);
        let linear = &self.weights.layers[layer].q;
        let stride = self.project(&scratch.h, rows, linear, &mut scratch.wide); // (R, H·D)
        let width = self.config.heads * d;
        let scale = std::f32::consts::LOG2_E / (d as f32).sqrt();
        let out = scratch.q.chunks_exact_mut(depth::<K>(width));
        K::with_features(
            #[inline(always)]
            || {
                for (at, (row, out)) in scratch.wide.chunks_exact_mut(stride).zip(out).take(rows).enumerate() {
                    for (head, out) in row[..width].chunks_exact_mut(d).zip(out.chunks_exact_mut(d)) {
                        rows::rotate(head, block.cos(at), block.sin(at));
                        rows::write(head.iter().map(|x| x * scale), out);
                    }
                }
            },
        );
    }

    /// `h (R, C)` → `gated (R, I)`, a panel of columns at a time.
    fn gated(&self, scratch: &mut Scratch<K>, layer: usize, rows: usize) {
        let weights = &self.weights.layers[layer];
        let (gate, up) = (&weights.gate, &weights.up);
        scratch.h.written(rows);
        for panel in 0..gate.panels() {
            let first = panel * K::PANEL;
            let columns = K::PANEL.min(self.config.intermediate_size - first);
            for (linear, out) in [(gate, &mut scratch.gate), (up, &mut scratch.up)] {
                let stride = K::PANEL;
                linear.multiply(&scratch.h, rows, panel..panel + 1, Out { numbers: &mut *out, stride, add: false });
                if let Some(bias) = &linear.bias {
                    let bias = &bias[first..first + columns];
                    out.chunks_exact_mut(stride).take(rows).for_each(|row| rows::add(row, bias));
                }
            }
            let both = scratch.gate.chunks_exact(K::PANEL).zip(scratch.up.chunks_exact(K::PANEL));
            let out = scratch.gated.numbers.chunks_exact_mut(scratch.gated.stride);
            K::with_features(
                #[inline(always)]
                || {
                    for ((gate, up), out) in both.zip(out).take(rows) {
                        rows::swiglu::<K>(&gate[..columns], &up[..columns], &mut out[first..first + columns]);
                    }
                },
            );
        }
    }
}

impl Block {
    fn cos(&self, row: usize) -> &[f32] {
        let half = self.cos.len() / self.positions.len();
        &self.cos[row * half..][..half]
    }

    fn sin(&self, row: usize) -> &[f32] {
        let half = self.sin.len() / self.positions.len();
        &self.sin[row * half..][..half]
    }
}
