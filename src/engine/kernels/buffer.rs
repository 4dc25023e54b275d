//! Memory that begins at a cache line.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use half::bf16;

/// A cache line, which is a whole number of any element.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// What may stand in such memory.
///
/// # Safety
/// Zero bytes are a value of it, and a cache line is a whole number of it.
pub(in crate::engine) unsafe trait Plain: Copy + Send + Sync + 'static {}

// SAFETY: numbers of one, two or four bytes, of which zero bytes are zero.
unsafe impl Plain for f32 {}
unsafe impl Plain for bf16 {}
unsafe impl Plain for i8 {}
unsafe impl Plain for u8 {}

/// A vector of elements, zero at first, whose memory begins at a cache line.
pub(in crate::engine) struct Aligned<E> {
    lines: Vec<Line>,
    length: usize,
    element: PhantomData<E>,
}

impl<E: Plain> Aligned<E> {
    pub fn zeros(length: usize) -> Self {
        let lines = vec![Line([0; 64]); length.saturating_mul(size_of::<E>()).div_ceil(64)];
        Self { lines, length, element: PhantomData }
    }
}

impl<E: Plain> Deref for Aligned<E> {
    type Target = [E];

    fn deref(&self) -> &[E] {
        // SAFETY: `length` elements fit the lines, which are aligned for them, and whose bytes are values of them from the first.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.length) }
    }
}

impl<E: Plain> DerefMut for Aligned<E> {
    fn deref_mut(&mut self) -> &mut [E] {
        // SAFETY: as for `deref`.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.length) }
    }
}
