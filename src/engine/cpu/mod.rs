//! The Llama architecture on the CPU, whole: blocks of rows through packed products.
//!
//! Letters in shapes as in `model/llama.rs`; `R` rows of a block. A forward pass cuts every sequence into blocks of
//! [`BLOCK`] tokens. A block goes through a whole layer by itself, with all that lies between the products in a scratch
//! the size of a processor's cache; blocks of one layer run side by side and need of each other only keys and values, which
//! are made one layer ahead. Where there would be fewer blocks than threads, their rows are divided. Keys and values stand in blocks that
//! begin at multiples of [`BLOCK`] from the sequence's beginning, wherever a prefix ends: the last block of one is copied and gone on with,
//! so that attention sums as ever. Nothing is padded to a longest sequence, memory grows with the tokens, and the last layer
//! is computed at the rows that are read alone. Every row is summed in an order of its own: what comes out is the same, to
//! the last bit, for any number of threads, any neighbours in the batch, and however the tokens came. Weights, and the rows that they multiply,
//! may be in eight bits; attention and all that is kept are in the kernel's numbers.

use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};

use rayon::prelude::*;

use super::cache::{COLUMN_TOKENS, new_owner};
use super::config::LlamaConfig;
use super::kernels::{Aligned, Element, Kernel, KernelName, PANEL_MAX, Packed, Product, multiply, rows};
use super::{Backend, EngineError, KvCache, Output, Read, Sequence, check_sequence};

mod attention;
mod cache;
mod layer;
mod linear;
mod weights;

use cache::{Block as KvBlock, Column};
use layer::Scratch;
use weights::Weights;

/// Tokens of a block, a whole number of panels of any kernel.
const BLOCK: usize = COLUMN_TOKENS;
/// Rows into which a block may be divided, and what a block costs beside them, by reading the weights, in rows: what
/// `throughline model speed --threads 1` says of `--shape 1x8` to `1x64`.
const ROWS: [usize; 4] = [BLOCK, BLOCK / 4 * 3, BLOCK / 2, BLOCK / 4];
const BLOCK_COST: usize = 8;
/// Blocks a thread from which on dividing them would gain little.
const BLOCKS_MANY: usize = 4;

/// A model in memory, computed by kernel `K`.
pub(super) struct CpuBackend<K: Kernel> {
    config: LlamaConfig,
    /// `K`'s own, or that of weights in eight bits beside it.
    kernel: KernelName,
    /// Of the caches that it makes.
    owner: u64,
    weights: Weights<K>,
    /// The vocabulary's matrix packed, when logits were asked for.
    output: OnceLock<Packed<K::Element>>,
    scratch: Mutex<Vec<Scratch<K>>>,
}

/// The keys and values of a batch: `[layer][block]`.
type Made<E> = Vec<Vec<KvBlock<E>>>;

/// Where the keys and values that are made for a sequence stand.
struct Place {
    /// Blocks of its prefix that are whole, and shared.
    whole: usize,
    /// Tokens of the prefix in the first block that is made.
    kept: usize,
    /// That block among those of the batch, and how many are the sequence's.
    first: usize,
    count: usize,
}

/// Some rows of one sequence on their way through the layers.
struct Block {
    sequence: usize,
    /// The place of each row in its sequence, the prefix included.
    positions: Vec<usize>,
    x: Aligned<f32>, // (R, C), rows padded to panels
    cos: Vec<f32>,   // (R, D/2)
    sin: Vec<f32>,   // (R, D/2)
    /// The tokens of its sequence, without the prefix, before its first row.
    first: usize,
    /// Its keys and values where it shares their block with others.
    made: Vec<f32>, // (R, 2·K·D)
}

impl<K: Kernel> CpuBackend<K> {
    /// Packs the weights that `loader` reads for the kernel of that name, whose products other than with weights are `K`'s.
    ///
    /// # Errors
    /// When they cannot be read, or the processor lacks the kernel's instructions.
    pub fn load(loader: &super::weights::Loader, kernel: KernelName) -> Result<Self, EngineError> {
        const { assert!(BLOCK.is_multiple_of(K::PANEL) && K::PANEL <= PANEL_MAX) };
        if let Some(lacking) = [K::NAME, kernel].into_iter().find(|name| !name.is_available()) {
            return Err(EngineError::Unsupported(format!("this processor or build has no kernel `{lacking}`")));
        }
        let (config, owner) = (loader.config.clone(), new_owner());
        let weights = Weights::load(loader, kernel)?;
        Ok(Self { config, kernel, owner, weights, output: OnceLock::new(), scratch: Mutex::default() })
    }

    /// Elements from a row of `x` to the next.
    fn x_stride(&self) -> usize {
        self.config.hidden_size.next_multiple_of(K::PANEL)
    }

    /// Runs `work` with a scratch of its own.
    fn with_scratch<R>(&self, work: impl FnOnce(&mut Scratch<K>) -> R) -> R {
        let pool = || self.scratch.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let pooled = pool().pop();
        let mut scratch = pooled.unwrap_or_else(|| Scratch::new(&self.config, self.kernel));
        let result = work(&mut scratch);
        pool().push(scratch);
        result
    }

    fn block(&self, sequence: usize, first: usize, positions: Vec<usize>) -> Block {
        let half = self.weights.frequencies.len();
        let angles = |f: fn(f32) -> f32| {
            // The product is rounded to f32 before the cosine, as transformers does.
            let of = |&m: &usize| self.weights.frequencies.iter().map(move |&w| f(m as f32 * w));
            let mut table = Vec::with_capacity(positions.len() * half);
            table.extend(positions.iter().flat_map(of));
            table
        };
        let (cos, sin) = (angles(f32::cos), angles(f32::sin));
        let x = Aligned::zeros(positions.len() * self.x_stride());
        Block { sequence, positions, x, cos, sin, first, made: Vec::new() }
    }

    /// The batch's blocks of so many rows, embedded.
    fn embed(&self, batch: &[Sequence], rows: usize) -> Vec<Block> {
        let (c, stride) = (self.config.hidden_size, self.x_stride());
        let mut blocks = Vec::new();
        for (index, sequence) in batch.iter().enumerate() {
            let before = sequence.prefix.map_or(0, KvCache::tokens);
            for own in divided(sequence.tokens.len(), rows) {
                let positions = (before + own.start..before + own.end).collect();
                let mut block = self.block(index, own.start, positions);
                for (row, &id) in block.x.chunks_exact_mut(stride).zip(&sequence.tokens[own]) {
                    let embedding = &self.weights.embedding[id as usize * c..][..c];
                    row.iter_mut().zip(embedding).for_each(|(x, e)| *x = e.to_f32());
                }
                blocks.push(block);
            }
        }
        blocks
    }

    /// The blocks that hold the rows asked for alone, out of blocks of so many rows.
    fn gather(&self, batch: &[Sequence], blocks: &[Block], rows: usize) -> Vec<Block> {
        let stride = self.x_stride();
        let mut gathered = Vec::new();
        let mut first = 0;
        for (index, sequence) in batch.iter().enumerate() {
            let before = sequence.prefix.map_or(0, KvCache::tokens);
            for wanted in wanted(sequence.read).chunks(BLOCK) {
                let mut block = self.block(index, 0, wanted.iter().map(|at| before + at).collect());
                for (row, at) in block.x.chunks_exact_mut(stride).zip(wanted) {
                    let block = first + at / BLOCK * BLOCK.div_ceil(rows) + at % BLOCK / rows;
                    row.copy_from_slice(&blocks[block].x[at % BLOCK % rows * stride..][..stride]);
                }
                gathered.push(block);
            }
            first += divided(sequence.tokens.len(), rows).count();
        }
        gathered
    }

    /// Runs all layers. Returns the read rows before the final norm, and keys and values.
    fn layers(&self, going_on: &GoingOn<K::Element>) -> (Vec<Block>, Made<K::Element>) {
        let GoingOn { batch, prefixes, places } = going_on;
        let rows = rows_of_blocks(batch, rayon::current_num_threads());
        let mut blocks = self.embed(batch, rows);
        let mut made: Made<K::Element> = Vec::with_capacity(self.config.layers);
        made.push(self.blocks(going_on, &mut blocks, 0, |scratch, block| self.keys_values(scratch, 0, block)));
        for layer in 0..self.config.layers {
            let last = layer + 1 == self.config.layers;
            if last {
                blocks = self.gather(batch, &blocks, rows);
            }
            let here = &made[layer];
            let seen = |block: &Block| {
                let place = &places[block.sequence];
                let prefix = prefixes[block.sequence][..place.whole].iter().map(|column| &column.layers[layer]);
                prefix.chain(&here[place.first..][..place.count]).collect()
            };
            if last {
                blocks.par_iter_mut().with_max_len(1).for_each(|block| {
                    self.with_scratch(|scratch| self.layer(scratch, layer, block, seen(block)));
                });
            } else {
                let next = self.blocks(going_on, &mut blocks, layer + 1, |scratch, block| {
                    self.layer(scratch, layer, block, seen(block));
                    self.keys_values(scratch, layer + 1, block);
                });
                made.push(next);
            }
        }
        (blocks, made)
    }

    /// The blocks of keys and values of a layer, with what the prefixes have in them.
    fn begun(&self, going_on: &GoingOn<K::Element>, layer: usize) -> Vec<KvBlock<K::Element>> {
        let GoingOn { batch, prefixes, places } = going_on;
        let of = |index: usize| {
            let Place { whole, kept, count, .. } = places[index];
            (0..count).map(move |number| {
                let tokens = (kept + batch[index].tokens.len() - number * BLOCK).min(BLOCK);
                match prefixes[index].get(whole).filter(|_| number == 0 && kept > 0) {
                    Some(column) => column.layers[layer].grown::<K>(&self.config, kept, tokens),
                    None => KvBlock::zeros::<K>(&self.config, tokens),
                }
            })
        };
        (0..batch.len()).flat_map(of).collect()
    }

    /// Runs `work` on every block, side by side; the keys and values of the layer that it leaves in the scratch, in blocks of their own.
    fn blocks(
        &self,
        going_on: &GoingOn<K::Element>,
        blocks: &mut [Block],
        layer: usize,
        work: impl Fn(&mut Scratch<K>, &mut Block) + Sync,
    ) -> Vec<KvBlock<K::Element>> {
        let mut next = self.begun(going_on, layer);
        let places = &going_on.places;
        if blocks.len() == next.len() && places.iter().all(|place| place.kept == 0) {
            blocks.par_iter_mut().zip(&mut next).with_max_len(1).for_each(|(block, kv)| {
                self.with_scratch(|scratch| {
                    work(scratch, block);
                    self.put(scratch.keys_values(), 0, kv);
                });
            });
        } else {
            blocks.par_iter_mut().with_max_len(1).for_each(|block| {
                self.with_scratch(|scratch| {
                    work(scratch, block);
                    block.made.clear();
                    block.made.extend_from_slice(scratch.keys_values());
                });
            });
            for block in blocks {
                let Place { kept, first, .. } = places[block.sequence];
                self.put_across(&block.made, kept + block.first, &mut next[first..]);
            }
        }
        next
    }

    /// Puts rows of keys and values into a sequence's blocks, from that token on.
    fn put_across(&self, mut made: &[f32], mut token: usize, kv: &mut [KvBlock<K::Element>]) {
        let stride = self.kv_stride();
        while !made.is_empty() {
            let within = token % BLOCK;
            let (here, rest) = made.split_at(made.len().min((BLOCK - within) * stride));
            self.put(here, within, &mut kv[token / BLOCK]);
            token += here.len() / stride;
            made = rest;
        }
    }

    /// The final norm of every row of the blocks, in order: `(rows, C)` each.
    fn hidden(&self, blocks: &[Block]) -> Vec<Vec<f32>> {
        let (c, eps) = (self.config.hidden_size, self.config.rms_eps as f32);
        let rows = blocks.iter().flat_map(|block| block.x.chunks_exact(self.x_stride()));
        K::with_features(
            #[inline(always)]
            || rows.map(|row| rows::rms_norm::<K>(&row[..c], &self.weights.norm, eps).collect()).collect(),
        )
    }

    /// The sequence's cache: the whole columns of its prefix, and those made for it.
    fn extended(
        &self,
        (going_on, index): (&GoingOn<K::Element>, usize),
        made: &mut [std::vec::IntoIter<KvBlock<K::Element>>],
    ) -> KvCache {
        let (sequence, place) = (&going_on.batch[index], &going_on.places[index]);
        let mut columns: Vec<_> = sequence.prefix.map_or(&[][..], KvCache::columns)[..place.whole].to_vec();
        let mut bytes: usize = going_on.prefixes[index][..place.whole].iter().map(|column| column.bytes()).sum();
        for _ in 0..place.count {
            let layers = made.iter_mut().filter_map(Iterator::next).collect();
            let column = Column::<K::Element> { layers };
            bytes += column.bytes();
            columns.push(Arc::new(column));
        }
        let tokens = sequence.prefix.map_or(0, KvCache::tokens) + sequence.tokens.len();
        KvCache::of_columns(self.owner, columns, (tokens, bytes))
    }

    /// `(rows, C)` → `(rows, V)`
    fn logits(&self, hidden: &[Vec<f32>]) -> Vec<Vec<f32>> {
        let output = match &self.weights.output {
            Some(output) => output,
            None => self.output.get_or_init(|| self.weights.tied_output()),
        };
        let depth = output.groups * K::Element::GROUP;
        let mut a = Aligned::<K::Element>::zeros(hidden.len() * depth);
        for (row, hidden) in a.chunks_exact_mut(depth).zip(hidden) {
            rows::write(hidden.iter().copied(), row);
        }
        let columns: Vec<Vec<f32>> = (0..output.count)
            .into_par_iter()
            .map(|panel| {
                let mut out = vec![0.0; hidden.len() * K::PANEL];
                let b = output.some::<K>(panel, 1);
                let (rows, out_stride) = (hidden.len(), K::PANEL);
                multiply::<K>(Product { a: &a, a_stride: depth, rows, b, out: &mut out, out_stride, add: false });
                out
            })
            .collect();
        let row = |at: usize| {
            let mut row: Vec<f32> = columns.iter().flat_map(|out| &out[at * K::PANEL..][..K::PANEL]).copied().collect();
            row.truncate(self.config.vocab_size);
            row
        };
        (0..hidden.len()).map(row).collect()
    }
}

/// A batch, what its prefixes hold, and where what is made for it stands.
struct GoingOn<'a, E> {
    batch: &'a [Sequence<'a>],
    prefixes: Vec<Vec<&'a Column<E>>>,
    places: Vec<Place>,
}

impl<'a, E: Element> GoingOn<'a, E> {
    fn new(batch: &'a [Sequence<'a>]) -> Self {
        let columns =
            |prefix: &'a KvCache| prefix.columns().iter().filter_map(|column| column.downcast_ref()).collect();
        let prefixes = batch.iter().map(|sequence| sequence.prefix.map_or(Vec::new(), columns)).collect();
        let places = batch.iter().scan(0, |next, sequence| {
            let before = sequence.prefix.map_or(0, KvCache::tokens);
            let (whole, kept) = (before / BLOCK, before % BLOCK);
            let (first, count) = (*next, (kept + sequence.tokens.len()).div_ceil(BLOCK));
            *next += count;
            Some(Place { whole, kept, first, count })
        });
        Self { batch, prefixes, places: places.collect() }
    }
}

/// The tokens of a sequence in blocks, each divided into so many rows.
fn divided(tokens: usize, rows: usize) -> impl Iterator<Item = Range<usize>> {
    (0..tokens).step_by(BLOCK).flat_map(move |first| {
        let end = tokens.min(first + BLOCK);
        (first..end).step_by(rows).map(move |first| first..end.min(first + rows))
    })
}

/// Rows into which blocks are divided so that these threads are done first, each taking the next block when it is free.
fn rows_of_blocks(batch: &[Sequence], threads: usize) -> usize {
    let blocks = |rows| batch.iter().flat_map(move |sequence| divided(sequence.tokens.len(), rows));
    if blocks(BLOCK).count() >= BLOCKS_MANY * threads {
        return BLOCK;
    }
    let done = |rows: &usize| {
        let mut busy = vec![0; threads];
        for block in blocks(*rows) {
            if let Some(next) = busy.iter_mut().min() {
                *next += block.len() + BLOCK_COST;
            }
        }
        busy.into_iter().max()
    };
    ROWS.into_iter().min_by_key(done).unwrap_or(BLOCK)
}

/// The rows asked for, each once and in order.
fn wanted(read: Read) -> Vec<usize> {
    let (Read::Hidden(positions) | Read::Logits(positions)) = read else { return Vec::new() };
    let mut positions = positions.to_vec();
    positions.sort_unstable();
    positions.dedup();
    positions
}

impl<K: Kernel> Backend for CpuBackend<K> {
    fn config(&self) -> &LlamaConfig {
        &self.config
    }

    fn forward(&self, batch: &[Sequence]) -> Result<Vec<Output>, EngineError> {
        batch.iter().try_for_each(|sequence| check_sequence(&self.config, self.owner, sequence))?;
        let going_on = GoingOn::new(batch);
        let (read, made) = self.layers(&going_on);
        let hidden = self.hidden(&read);
        let mut hidden = hidden.into_iter();
        let mut made: Vec<_> = made.into_iter().map(Vec::into_iter).collect();
        let mut outputs = Vec::with_capacity(batch.len());
        for (index, sequence) in batch.iter().enumerate() {
            let at = wanted(sequence.read);
            let mut rows: Vec<Vec<f32>> = hidden.by_ref().take(at.len()).collect();
            if matches!(sequence.read, Read::Logits(_)) && !rows.is_empty() {
                rows = self.logits(&rows);
            }
            // Comparisons with NaN are false: it would pass for innocence.
            if !rows.iter().flatten().all(|number| number.is_finite()) {
                return Err(EngineError::NotFinite);
            }
            let (Read::Hidden(asked) | Read::Logits(asked)) = sequence.read else {
                outputs.push(Output { rows, cache: self.extended((&going_on, index), &mut made) });
                continue;
            };
            let in_order = |position: &usize| rows[at.partition_point(|known| known < position)].clone();
            let rows = asked.iter().map(in_order).collect();
            outputs.push(Output { rows, cache: self.extended((&going_on, index), &mut made) });
        }
        Ok(outputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_divided_where_threads_would_wait() {
        let ids = vec![0; 4_096];
        let rows = |tokens: &[usize], threads| {
            let sequence = |&count: &usize| Sequence { prefix: None, tokens: &ids[..count], read: Read::Nothing };
            rows_of_blocks(&tokens.iter().map(sequence).collect::<Vec<_>>(), threads)
        };
        assert_eq!(rows(&[64], 1), 64);
        assert_eq!((rows(&[64], 2), rows(&[64], 16), rows(&[90], 2)), (32, 16, 48));
        assert_eq!((rows(&[64, 64], 2), rows(&[2_048], 2)), (64, 64));
        let blocks: Vec<_> = divided(90, 48).collect();
        assert_eq!(blocks, [0..48, 48..64, 64..90]);
    }
}
