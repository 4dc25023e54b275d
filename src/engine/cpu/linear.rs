//! The weights of a product and the rows that they multiply: in the kernel's numbers, or both in eight bits.

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use super::super::kernels::int8;
use super::super::kernels::{Aligned, Element, Kernel, KernelName, Packed, Product, multiply};
use super::BLOCK;

/// A matrix `(out, in)` packed, with an optional bias `(out)`.
pub(super) struct Linear<K: Kernel> {
    matrix: Matrix<K>,
    pub bias: Option<Vec<f32>>,
}

enum Matrix<K: Kernel> {
    Packed(Packed<K::Element>),
    #[cfg(target_arch = "x86_64")]
    Int8(int8::Matrix),
}

/// Where a product is put.
pub(super) struct Out<'a> {
    pub numbers: &'a mut [f32],
    /// Numbers from a row to the next.
    pub stride: usize,
    /// Whether it is added to what stands there.
    pub add: bool,
}

impl<K: Kernel> Linear<K> {
    /// Packs a matrix `(out, depth)`, row by row as weights are stored, for the kernel of that name.
    #[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "no kernel has eight bits there"))]
    pub fn pack(kernel: KernelName, matrix: &[f32], depth: usize, bias: Option<Vec<f32>>) -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(by) = int8::By::of(kernel) {
            return Self { matrix: Matrix::Int8(int8::Matrix::of_rows(by, matrix, depth)), bias };
        }
        Self { matrix: Matrix::Packed(Packed::of_rows::<K>(matrix, depth)), bias }
    }

    /// Panels of `PANEL` columns of what is put out.
    pub fn panels(&self) -> usize {
        match &self.matrix {
            Matrix::Packed(matrix) => matrix.count,
            #[cfg(target_arch = "x86_64")]
            Matrix::Int8(matrix) => matrix.panels(),
        }
    }

    /// `out (rows, panels × PANEL) = a · matrixᵀ` by these panels of the matrix, the bias left out.
    pub fn multiply(&self, a: &Operand<K>, rows: usize, panels: Range<usize>, out: Out) {
        let Out { numbers: out, stride: out_stride, add } = out;
        match &self.matrix {
            Matrix::Packed(matrix) => {
                let b = matrix.some::<K>(panels.start, panels.len());
                multiply::<K>(Product { a: &a.numbers, a_stride: a.stride, rows, b, out, out_stride, add });
            }
            #[cfg(target_arch = "x86_64")]
            Matrix::Int8(b) => int8::multiply(int8::Product { a: &a.int8, rows, b, panels, out, out_stride, add }),
        }
    }
}

/// A block's rows, to be multiplied by weights.
pub(super) struct Operand<K: Kernel> {
    pub numbers: Aligned<K::Element>, // (R, columns), rows filled up with zeros to whole groups
    /// Elements from a row to the next.
    pub stride: usize,
    /// The same in eight bits; no rows where weights are not in them.
    #[cfg(target_arch = "x86_64")]
    int8: int8::Rows,
}

impl<K: Kernel> Operand<K> {
    /// Room for a block's rows, for the kernel of that name.
    #[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "no kernel has eight bits there"))]
    pub fn zeros(kernel: KernelName, columns: usize) -> Self {
        let stride = columns.next_multiple_of(K::Element::GROUP);
        Self {
            numbers: Aligned::zeros(BLOCK * stride),
            stride,
            #[cfg(target_arch = "x86_64")]
            int8: int8::Rows::zeros(if int8::By::of(kernel).is_some() { BLOCK } else { 0 }, columns),
        }
    }

    /// Makes the first rows, as they have been written, ready to be multiplied.
    #[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "they are ready there"))]
    pub fn written(&mut self, rows: usize) {
        #[cfg(target_arch = "x86_64")]
        self.int8.quantise(&self.numbers, self.stride, rows);
    }
}
