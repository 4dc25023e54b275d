//! Causal grouped-query attention (Ainslie et al. 2023, arXiv:2305.13245) of a block of rows, key block by key block with
//! a running softmax (Dao 2023, arXiv:2307.08691, algorithm 1): memory does not grow with the keys.

use super::super::config::LlamaConfig;
use super::super::kernels::{Aligned, Kernel, Product, multiply, rows};
use super::cache::Block as KvBlock;
use super::layer::{Scratch, depth};
use super::{BLOCK, Block, CpuBackend};

/// Key blocks whose scores stand in memory at a time.
const STRIP_BLOCKS: usize = 4;
const STRIP: usize = STRIP_BLOCKS * BLOCK; // keys

pub(super) struct AttentionScratch<K: Kernel> {
    scores: Aligned<f32>,         // (R, STRIP)
    weights: Aligned<K::Element>, // (R, STRIP)
    mixed: Vec<Aligned<f32>>,     // (R, D) a head of the group, rows padded to panels
    running: Vec<rows::Running>,  // (G, R)
}

impl<K: Kernel> AttentionScratch<K> {
    pub fn new(config: &LlamaConfig) -> Self {
        let groups = config.heads / config.kv_heads;
        let width = config.head_dim.next_multiple_of(K::PANEL);
        Self {
            scores: Aligned::zeros(BLOCK * STRIP),
            weights: Aligned::zeros(BLOCK * STRIP),
            mixed: (0..groups).map(|_| Aligned::zeros(BLOCK * width)).collect(),
            running: vec![rows::Running::NOTHING; groups * BLOCK],
        }
    }
}

/// A key block, and the position of its first token.
struct Keys<'a, E> {
    first: usize,
    block: &'a KvBlock<E>,
}

impl<K: Kernel> CpuBackend<K> {
    /// `q (R, H·D)` → `mixed (R, H·D)`: softmax(q·kᵀ)·v, the row at position `p` seeing the keys `0..=p` of `seen`.
    pub(super) fn attend(&self, scratch: &mut Scratch<K>, block: &Block, seen: &[&KvBlock<K::Element>]) {
        let config = &self.config;
        let last = block.positions.iter().copied().max().unwrap_or(0);
        let firsts = seen.iter().scan(0, |next, block| {
            let first = *next;
            *next += block.tokens;
            Some(first)
        });
        let keys = firsts.zip(seen).map(|(first, block)| Keys { first, block });
        let keys: Vec<Keys<K::Element>> = keys.take_while(|keys| keys.first <= last).collect();
        let groups = config.heads / config.kv_heads;
        for kv_head in 0..config.kv_heads {
            scratch.attention.running.fill(rows::Running::NOTHING);
            scratch.attention.mixed.iter_mut().for_each(|mixed| mixed.fill(0.0));
            for strip in keys.chunks(STRIP_BLOCKS) {
                for group in 0..groups {
                    self.strip(scratch, block, strip, (kv_head, group));
                }
            }
            for group in 0..groups {
                self.finish(scratch, block.positions.len(), (kv_head, group));
            }
        }
    }

    /// Mixes a strip of key blocks into one head's rows.
    fn strip(
        &self,
        scratch: &mut Scratch<K>,
        block: &Block,
        strip: &[Keys<K::Element>],
        (kv_head, group): (usize, usize),
    ) {
        let (d, rows) = (self.config.head_dim, block.positions.len());
        let head = kv_head * (self.config.heads / self.config.kv_heads) + group;
        let q_stride = depth::<K>(self.config.heads * d);
        let out_stride = d.next_multiple_of(K::PANEL);
        let Scratch { q, attention, .. } = scratch;
        let AttentionScratch { scores, weights, mixed, running } = attention;
        for (at, keys) in strip.iter().enumerate() {
            let b = keys.block.keys::<K>(kv_head, d);
            let out = &mut scores[at * BLOCK..];
            multiply::<K>(Product {
                a: &q[head * d..],
                a_stride: q_stride,
                rows,
                b,
                out,
                out_stride: STRIP,
                add: false,
            });
        }
        let width = strip.len() * BLOCK;
        let mixed = &mut mixed[group];
        let each = scores.chunks_exact_mut(STRIP).zip(weights.chunks_exact_mut(STRIP));
        let each = each.zip(mixed.chunks_exact_mut(out_stride)).zip(&mut running[group * BLOCK..]);
        K::with_features(
            #[inline(always)]
            || {
                for ((((scores, weights), mixed), running), &position) in each.zip(&block.positions) {
                    for (keys, scores) in strip.iter().zip(scores.chunks_exact_mut(BLOCK)) {
                        let visible = (position + 1).saturating_sub(keys.first).min(keys.block.tokens);
                        scores[visible..].fill(f32::NEG_INFINITY);
                    }
                    let factor = running.take::<K>(&scores[..width], &mut weights[..width]);
                    if factor != 1.0 {
                        mixed.iter_mut().for_each(|x| *x *= factor);
                    }
                }
            },
        );
        for (at, keys) in strip.iter().enumerate() {
            let b = keys.block.values::<K>(kv_head, d);
            let a = &weights[at * BLOCK..];
            multiply::<K>(Product { a, a_stride: STRIP, rows, b, out: &mut *mixed, out_stride, add: true });
        }
    }

    /// Divides one head's rows by their sums, and puts them where the output projection reads them.
    fn finish(&self, scratch: &mut Scratch<K>, rows: usize, (kv_head, group): (usize, usize)) {
        let d = self.config.head_dim;
        let head = kv_head * (self.config.heads / self.config.kv_heads) + group;
        let Scratch { mixed: out, attention, .. } = scratch;
        let out = out.numbers.chunks_exact_mut(out.stride);
        let mixed = attention.mixed[group].chunks_exact(d.next_multiple_of(K::PANEL));
        let running = &attention.running[group * BLOCK..];
        K::with_features(
            #[inline(always)]
            || {
                for ((mixed, running), out) in mixed.zip(running).zip(out).take(rows) {
                    let scale = 1.0 / running.sum;
                    rows::write(mixed[..d].iter().map(|x| x * scale), &mut out[head * d..][..d]);
                }
            },
        );
    }
}
