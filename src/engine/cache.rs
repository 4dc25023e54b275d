//! Keys and values of a prefix, to go on from: shared, never changed.

use std::any::Any;
use std::sync::Arc;

use candle_core::Tensor;

use super::EngineError;

/// Keys and values of a prefix. Cloning shares the memory: that is how a prefix branches.
#[derive(Clone, Default)]
pub struct KvCache {
    tokens: usize,
    held: Held,
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

    pub(super) fn of_tensors(layers: Vec<(Tensor, Tensor)>, tokens: usize) -> Self {
        Self { tokens, held: Held::Tensors(layers) }
    }

    /// Layer by layer; none where nothing is held.
    ///
    /// # Errors
    /// When another kind of backend made them.
    pub(super) fn tensors(&self) -> Result<&[(Tensor, Tensor)], EngineError> {
        match &self.held {
            Held::Nothing => Ok(&[]),
            Held::Tensors(layers) => Ok(layers),
            Held::Segments(_) => Err(foreign()),
        }
    }

    /// A prefix and a segment of `tokens` more.
    pub(super) fn with_segment(prefix: Option<&Self>, segment: Arc<dyn Any + Send + Sync>, tokens: usize) -> Self {
        let mut segments = match prefix.map(|prefix| &prefix.held) {
            Some(Held::Segments(segments)) => segments.clone(),
            _ => Vec::new(),
        };
        segments.push(segment);
        Self { tokens: prefix.map_or(0, Self::tokens) + tokens, held: Held::Segments(segments) }
    }

    /// The segments, as the backend that made them knows them.
    ///
    /// # Errors
    /// When another kind of backend made them.
    pub(super) fn segments<S: 'static>(&self) -> Result<Vec<&S>, EngineError> {
        match &self.held {
            Held::Nothing => Ok(Vec::new()),
            Held::Tensors(_) => Err(foreign()),
            Held::Segments(segments) => {
                segments.iter().map(|segment| segment.downcast_ref().ok_or_else(foreign)).collect()
            }
        }
    }
}

fn foreign() -> EngineError {
    EngineError::Unsupported("a prefix that another backend computed".into())
}
