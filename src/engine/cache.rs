//! Keys and values of a prefix, to go on from: shared, never changed.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::Tensor;

/// Keys and values of a prefix. Cloning shares the memory: that is how a prefix branches.
#[derive(Clone, Default)]
pub struct KvCache {
    tokens: usize,
    /// What its tokens take, of shared memory too.
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
    /// The CPU kernels: one segment a call that went on, the earlier ones shared as they are.
    Segments(Vec<Arc<dyn Any + Send + Sync>>),
}

impl KvCache {
    /// Tokens whose keys and values are held.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Bytes that keys and values take, with what they are filled up by.
    pub fn bytes(&self) -> usize {
        self.bytes
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

    /// A prefix and a segment of `tokens` more, which takes so many bytes.
    pub(super) fn with_segment(
        owner: u64,
        prefix: Option<&Self>,
        segment: Arc<dyn Any + Send + Sync>,
        (tokens, bytes): (usize, usize),
    ) -> Self {
        let mut segments = match prefix.map(|prefix| &prefix.held) {
            Some(Held::Segments(segments)) => segments.clone(),
            _ => Vec::new(),
        };
        segments.push(segment);
        let (tokens, bytes) = (prefix.map_or(0, Self::tokens) + tokens, prefix.map_or(0, Self::bytes) + bytes);
        Self { tokens, bytes, owner, held: Held::Segments(segments) }
    }

    /// The segments, as the backend that made them knows them; none where nothing is held.
    pub(super) fn segments<S: 'static>(&self) -> Vec<&S> {
        let Held::Segments(segments) = &self.held else { return Vec::new() };
        segments.iter().filter_map(|segment| segment.downcast_ref()).collect()
    }
}
