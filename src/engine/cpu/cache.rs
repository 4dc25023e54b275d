//! Keys and values, packed as the operands that attention multiplies by.

use super::super::config::LlamaConfig;
use super::super::kernels::{Aligned, Element, Kernel, Panels, place};

/// Keys and values of at most [`super::BLOCK`] consecutive tokens in one layer, which begin at a multiple of it. Keys are filled up to a whole
/// panel: a block of one token takes as much room for them as one of a panel's columns.
pub(super) struct Block<E> {
    pub tokens: usize,
    keys: Aligned<E>,   // a matrix (tokens, D) a key/value head: a key is a column
    values: Aligned<E>, // a matrix (D, tokens) a key/value head: a token is a step of the depth
}

/// The block of the same tokens in every layer.
pub(in crate::engine) struct Column<E> {
    pub(super) layers: Vec<Block<E>>,
}

impl<E: Element> Column<E> {
    pub(super) fn bytes(&self) -> usize {
        let elements: usize = self.layers.iter().map(|block| block.keys.len() + block.values.len()).sum();
        elements * size_of::<E>()
    }
}

/// Sizes of one head's matrix, in panels and groups.
struct Shape {
    panels: usize,
    groups: usize,
}

impl Shape {
    fn keys<K: Kernel>(tokens: usize, head_dim: usize) -> Self {
        Self { panels: tokens.div_ceil(K::PANEL), groups: head_dim.div_ceil(K::Element::GROUP) }
    }

    fn values<K: Kernel>(tokens: usize, head_dim: usize) -> Self {
        Self { panels: head_dim.div_ceil(K::PANEL), groups: tokens.div_ceil(K::Element::GROUP) }
    }

    fn elements<K: Kernel>(&self) -> usize {
        self.panels * self.groups * K::PANEL * K::Element::GROUP
    }

    fn of_head<'a, K: Kernel>(&self, data: &'a [K::Element], head: usize) -> Panels<'a, K::Element> {
        let size = self.elements::<K>();
        let stride = size / self.panels;
        Panels { data: &data[head * size..][..size], count: self.panels, offset: 0, stride, groups: self.groups }
    }
}

impl<E: Element> Block<E> {
    pub fn zeros<K: Kernel<Element = E>>(config: &LlamaConfig, tokens: usize) -> Self {
        let size = |shape: Shape| config.kv_heads * shape.elements::<K>();
        Self {
            tokens,
            keys: Aligned::zeros(size(Shape::keys::<K>(tokens, config.head_dim))),
            values: Aligned::zeros(size(Shape::values::<K>(tokens, config.head_dim))),
        }
    }

    /// A block of so many tokens, the first `kept` of them this one's. What stood behind those is to be written over, and where it is not, it is
    /// finite and no row sees it.
    pub fn grown<K: Kernel<Element = E>>(&self, config: &LlamaConfig, kept: usize, tokens: usize) -> Self {
        let mut grown = Self::zeros::<K>(config, tokens);
        // A panel of keys is the same however many follow: whole ones are taken over. Of values the depth grows, panel by panel.
        let shapes = |tokens| (Shape::keys::<K>(tokens, config.head_dim), Shape::values::<K>(tokens, config.head_dim));
        let ((keys, values), (old_keys, old_values)) = (shapes(tokens), shapes(self.tokens));
        let (kept_keys, kept_values) = shapes(kept);
        let group = K::PANEL * E::GROUP;
        for head in 0..config.kv_heads {
            let new = &mut grown.keys[head * keys.elements::<K>()..];
            let old = &self.keys[head * old_keys.elements::<K>()..];
            let count = kept_keys.elements::<K>();
            new[..count].copy_from_slice(&old[..count]);
            let new = grown.values[head * values.elements::<K>()..].chunks_mut(values.groups * group);
            let old = self.values[head * old_values.elements::<K>()..].chunks(old_values.groups * group);
            for (new, old) in new.zip(old).take(values.panels) {
                let count = kept_values.groups * group;
                new[..count].copy_from_slice(&old[..count]);
            }
        }
        grown
    }

    /// Puts one token's key and value of one head in their places.
    #[inline(always)]
    pub fn put<K: Kernel<Element = E>>(&mut self, head: usize, token: usize, (key, value): (&[f32], &[f32])) {
        let keys = Shape::keys::<K>(self.tokens, key.len());
        let data = &mut self.keys[head * keys.elements::<K>()..][..keys.elements::<K>()];
        for (at, &number) in key.iter().enumerate() {
            data[place::<K>(keys.groups, token, at)] = E::from_f32(number);
        }
        let values = Shape::values::<K>(self.tokens, value.len());
        let data = &mut self.values[head * values.elements::<K>()..][..values.elements::<K>()];
        for (at, &number) in value.iter().enumerate() {
            data[place::<K>(values.groups, at, token)] = E::from_f32(number);
        }
    }

    /// One head's keys as the columns of a product.
    pub fn keys<K: Kernel<Element = E>>(&self, head: usize, head_dim: usize) -> Panels<'_, E> {
        Shape::keys::<K>(self.tokens, head_dim).of_head::<K>(&self.keys, head)
    }

    /// One head's values as the depth of a product.
    pub fn values<K: Kernel<Element = E>>(&self, head: usize, head_dim: usize) -> Panels<'_, E> {
        Shape::values::<K>(self.tokens, head_dim).of_head::<K>(&self.values, head)
    }
}
