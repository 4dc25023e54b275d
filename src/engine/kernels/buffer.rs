//! Memory that begins at a cache line.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use super::Element;

/// A cache line, which is a whole number of any element.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// A vector of elements, zero at first, whose memory begins at a cache line.
pub(in crate::engine) struct Aligned<E> {
    lines: Vec<Line>,
    length: usize,
    element: PhantomData<E>,
}

impl<E: Element> Aligned<E> {
    pub fn zeros(length: usize) -> Self {
        let lines = vec![Line([0; 64]); length.saturating_mul(size_of::<E>()).div_ceil(64)];
        Self { lines, length, element: PhantomData }
    }
}

impl<E: Element> Deref for Aligned<E> {
    type Target = [E];

    fn deref(&self) -> &[E] {
        // SAFETY: `length` elements fit the lines, which are aligned for them; zero bytes are a valid `f32` and `bf16`,
        // the only elements there are.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.length) }
    }
}

impl<E: Element> DerefMut for Aligned<E> {
    fn deref_mut(&mut self) -> &mut [E] {
        // SAFETY: as for `deref`.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.length) }
    }
}
