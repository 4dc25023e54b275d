//! Keys and values of a prefix, to go on from: shared, never changed.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::Tensor;

/// Tokens of a whole column of the CPU kernels' caches.
pub(super) const COLUMN_TOKENS: usize = 64;

/// Keys and values of a prefix. Cloning shares the memory: that is how a prefix branches.
#[derive(Clone, Default)]
pub struct KvCache {
    tokens: usize,
    /// What its tokens take at most, of shared memory too.
    bytes: usize,
    /// Of the backend that computed it; 0 where nothing is held.
    owner: u64,
    held: Held,
}

/// A number that no other backend of this process has.
pub(super) fn new_owner() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// What a backend keeps of a prefix, in its own form.
#[derive(Clone, Default)]
enum Held {
    #[default]
    Nothing,
    /// candle: layer by layer, each `(K, s, D)`; going on makes new tensors.
    Tensors(Vec<(Tensor, Tensor)>),
    /// The CPU kernels: columns of [`COLUMN_TOKENS`], the last perhaps of fewer, or of more than count; whole ones are shared as they are.
    Columns(Vec<AnyColumn>),
}

/// Keys and values of some consecutive tokens in all layers, as the backend that made them knows them.
pub(super) type AnyColumn = Arc<dyn Any + Send + Sync>;

impl KvCache {
    /// Tokens whose keys and values are held.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Bytes that keys and values take, with what they are filled up by.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Its beginning of so many tokens, or all of it. The memory is shared.
    pub fn first(&self, tokens: usize) -> Self {
        if tokens == 0 {
            return Self::default();
        }
        if tokens >= self.tokens {
            return self.clone();
        }
        let cut = |tensor: &Tensor| tensor.narrow(1, 0, tokens).ok();
        let held = match &self.held {
            Held::Columns(columns) => Some(Held::Columns(columns[..tokens.div_ceil(COLUMN_TOKENS)].to_vec())),
            Held::Tensors(layers) => {
                let layers = layers.iter().map(|(keys, values)| Some((cut(keys)?, cut(values)?)));
                layers.collect::<Option<_>>().map(Held::Tensors)
            }
            Held::Nothing => None,
        };
        // What cannot be cut is computed again.
        held.map_or_else(Self::default, |held| Self { tokens, held, ..*self })
    }

    /// Whether both go on from one beginning, which they hold once.
    pub fn shares_with(&self, other: &Self) -> bool {
        matches!((self.columns(), other.columns()), ([a, ..], [b, ..]) if Arc::ptr_eq(a, b))
    }

    /// Whether this backend computed it, or nobody did.
    pub(super) fn belongs_to(&self, owner: u64) -> bool {
        self.owner == owner || self.tokens == 0
    }

    pub(super) fn of_tensors(owner: u64, layers: Vec<(Tensor, Tensor)>, tokens: usize) -> Self {
        let size = |tensor: &Tensor| tensor.elem_count() * tensor.dtype().size_in_bytes();
        let bytes = layers.iter().map(|(keys, values)| size(keys) + size(values)).sum();
        Self { tokens, bytes, owner, held: Held::Tensors(layers) }
    }

    /// Layer by layer; none where nothing is held.
    pub(super) fn tensors(&self) -> &[(Tensor, Tensor)] {
        if let Held::Tensors(layers) = &self.held { layers } else { &[] }
    }

    /// Columns that hold so many tokens, and take so many bytes.
    pub(super) fn of_columns(owner: u64, columns: Vec<AnyColumn>, (tokens, bytes): (usize, usize)) -> Self {
        Self { tokens, bytes, owner, held: Held::Columns(columns) }
    }

    /// The columns; none where nothing is held.
    pub(super) fn columns(&self) -> &[AnyColumn] {
        if let Held::Columns(columns) = &self.held { columns } else { &[] }
    }
}
