//! The matrix product: `out = a · bᵀ` with `b` packed into panels.
//!
//! A panel holds `PANEL` columns of the result: for each group along the depth, the groups of all its columns side by
//! side, so that one load gives a register of neighbours (Goto & van de Geijn 2008, *Anatomy of high-performance matrix
//! multiplication*, whose micro-kernel this is). `a` stays as it is, row by row: a group of it is broadcast. A tile of
//! `ROWS × PANEL` sums stays in registers over the whole depth. Every sum is taken in the order of the depth, whatever the
//! number of rows: a row's result does not depend on the rows beside it.

use super::{Aligned, Element, Kernel, Vectors};

/// A tile's operands, all inside their buffers.
pub(in crate::engine) struct Tile<E> {
    pub a: *const E,
    /// Elements from a row of `a` to the next.
    pub a_stride: usize,
    /// A panel, from its first group on.
    pub b: *const E,
    pub groups: usize,
    pub out: *mut f32,
    pub out_stride: usize,
    /// Whether the product is added to what `out` holds.
    pub add: bool,
}

/// One tile of `ROWS × COLUMNS` registers.
///
/// # Safety
/// The tile's operands lie inside their buffers, and the instructions of `K` are enabled.
#[inline(always)]
pub(super) unsafe fn run<K: Vectors, const ROWS: usize, const COLUMNS: usize>(tile: &Tile<K::Element>) {
    let group = K::Element::GROUP;
    // SAFETY: every address is `rows × stride` or `groups × panel` into a buffer, as the caller promises.
    unsafe {
        let mut sums = [[K::zero(); COLUMNS]; ROWS];
        if tile.add {
            for (row, sums) in sums.iter_mut().enumerate() {
                for (column, sum) in sums.iter_mut().enumerate() {
                    *sum = K::load_sums(tile.out.add(row * tile.out_stride + column * K::LANES));
                }
            }
        }
        let mut b = tile.b;
        let mut a = tile.a;
        for _ in 0..tile.groups {
            let mut columns = [K::load(b); COLUMNS];
            for (column, slot) in columns.iter_mut().enumerate().skip(1) {
                *slot = K::load(b.add(column * K::LANES * group));
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                let broadcast = K::broadcast(a.add(row * tile.a_stride));
                for (sum, column) in sums.iter_mut().zip(&columns) {
                    *sum = K::dot(*sum, broadcast, *column);
                }
            }
            b = b.add(K::PANEL * group);
            a = a.add(group);
        }
        for (row, sums) in sums.iter().enumerate() {
            for (column, sum) in sums.iter().enumerate() {
                K::store_sums(tile.out.add(row * tile.out_stride + column * K::LANES), *sum);
            }
        }
    }
}

/// A packed matrix, or a part of one.
#[derive(Clone, Copy)]
pub(in crate::engine) struct Panels<'a, E> {
    pub data: &'a [E],
    /// Panels used.
    pub count: usize,
    /// Elements from the start of `data` to the first group used.
    pub offset: usize,
    /// Elements from a panel to the next.
    pub stride: usize,
    /// Groups along the depth.
    pub groups: usize,
}

/// A packed matrix.
pub(in crate::engine) struct Packed<E> {
    pub data: Aligned<E>,
    pub count: usize,
    pub groups: usize,
}

impl<E: Element> Packed<E> {
    /// Room for `columns × depth` numbers, zero at first.
    pub fn zeros<K: Kernel<Element = E>>(columns: usize, depth: usize) -> Self {
        let (count, groups) = (columns.div_ceil(K::PANEL), depth.div_ceil(E::GROUP));
        Self { data: Aligned::zeros(count * groups * K::PANEL * E::GROUP), count, groups }
    }

    /// Packs a matrix `(columns, depth)`, row by row as weights are stored.
    pub fn of_rows<K: Kernel<Element = E>>(matrix: &[impl Element], depth: usize) -> Self {
        let mut packed = Self::zeros::<K>(matrix.len() / depth, depth);
        for (column, row) in matrix.chunks_exact(depth).enumerate() {
            for (at, number) in row.iter().enumerate() {
                packed.data[place::<K>(packed.groups, column, at)] = E::from_f32(number.to_f32());
            }
        }
        packed
    }

    /// All of it, as an operand.
    pub fn panels<K: Kernel<Element = E>>(&self) -> Panels<'_, E> {
        let stride = self.groups * K::PANEL * E::GROUP;
        Panels { data: &self.data, count: self.count, offset: 0, stride, groups: self.groups }
    }

    /// `count` panels from `first` on.
    pub fn some<K: Kernel<Element = E>>(&self, first: usize, count: usize) -> Panels<'_, E> {
        let all = self.panels::<K>();
        Panels { offset: first * all.stride, count, ..all }
    }
}

/// Where the number of a column at a depth stands among panels of so many groups.
#[inline(always)]
pub(in crate::engine) fn place<K: Kernel>(groups: usize, column: usize, depth: usize) -> usize {
    let group = K::Element::GROUP;
    let (panel, within) = (column / K::PANEL, column % K::PANEL);
    ((panel * groups + depth / group) * K::PANEL + within) * group + depth % group
}

/// `out (rows, panels × PANEL) = a (rows, groups × GROUP) · bᵀ`, or added to it.
pub(in crate::engine) struct Product<'a, E> {
    pub a: &'a [E],
    pub a_stride: usize,
    pub rows: usize,
    pub b: Panels<'a, E>,
    pub out: &'a mut [f32],
    pub out_stride: usize,
    pub add: bool,
}

/// Computes a product.
///
/// # Panics
/// When an operand does not fit its buffer.
pub(in crate::engine) fn multiply<K: Kernel>(product: Product<K::Element>) {
    let Product { a, a_stride, rows, b, out, out_stride, add } = product;
    if rows == 0 || b.count == 0 {
        return;
    }
    let depth = b.groups * K::Element::GROUP;
    assert!(a.len() >= (rows - 1) * a_stride + depth, "a of {} elements: {rows} rows of {depth}", a.len());
    assert!(out.len() >= (rows - 1) * out_stride + b.count * K::PANEL, "out of {} numbers: {rows} rows", out.len());
    let used = b.offset + (b.count - 1) * b.stride + depth * K::PANEL;
    assert!(b.data.len() >= used, "b of {} elements: {used} are used", b.data.len());
    let operands = Operands {
        a: a.as_ptr(),
        a_stride,
        rows,
        b: b.data[b.offset..].as_ptr(),
        b_stride: b.stride,
        panels: b.count,
        groups: b.groups,
        out: out.as_mut_ptr(),
        out_stride,
        add,
    };
    K::with_features(
        #[inline(always)]
        // SAFETY: the three assertions above; `with_features` enables the instructions.
        || unsafe { K::product(&operands) },
    );
}

/// A product's operands, all inside their buffers.
pub(in crate::engine) struct Operands<E> {
    pub a: *const E,
    /// Elements from a row of `a` to the next.
    pub a_stride: usize,
    pub rows: usize,
    /// The first panel, from its first group on.
    pub b: *const E,
    /// Elements from a panel to the next.
    pub b_stride: usize,
    pub panels: usize,
    pub groups: usize,
    pub out: *mut f32,
    pub out_stride: usize,
    /// Whether the product is added to what `out` holds.
    pub add: bool,
}

/// The body of [`Kernel::product`] for kernels of vectors: tile by tile of a panel, so that a panel is read from memory once for all rows.
///
/// # Safety
/// The operands lie inside their buffers, and the instructions of `K` are enabled.
#[inline(always)]
pub(super) unsafe fn by_tiles<K: Vectors>(operands: &Operands<K::Element>) {
    let &Operands { a, a_stride, rows, b, b_stride, panels, groups, out, out_stride, add } = operands;
    for panel in 0..panels {
        for row in (0..rows).step_by(K::ROWS) {
            // SAFETY: the caller's promise, passed on.
            unsafe {
                let tile = Tile {
                    a: a.add(row * a_stride),
                    a_stride,
                    b: b.add(panel * b_stride),
                    groups,
                    out: out.add(row * out_stride + panel * K::PANEL),
                    out_stride,
                    add,
                };
                K::tile(K::ROWS.min(rows - row), &tile);
            }
        }
    }
}

/// The body of [`Vectors::tile`]: the number of rows made a constant.
macro_rules! tile_by_rows {
    ($columns:literal, [$($rows:literal),+]) => {
        const COLUMNS: usize = $columns;

        #[inline(always)]
        unsafe fn tile(rows: usize, tile: &super::Tile<Self::Element>) {
            // SAFETY: the caller's promise, passed on.
            unsafe {
                match rows {
                    $($rows => super::tile::run::<Self, $rows, $columns>(tile),)+
                    _ => unreachable!("a tile of {rows} rows"),
                }
            }
        }
    };
}
/// The product of a kernel of vectors, by tiles of so many rows.
macro_rules! product_by_tiles {
    ($rows:literal) => {
        const PANEL: usize = Self::LANES * Self::COLUMNS;
        const ROWS: usize = $rows;

        #[inline(always)]
        unsafe fn product(operands: &super::Operands<Self::Element>) {
            // SAFETY: the caller's promise, passed on.
            unsafe { super::tile::by_tiles::<Self>(operands) }
        }
    };
}
/// A function that runs its argument compiled for these instructions; it may be called only where the processor has them.
macro_rules! compiled_for {
    ($features:literal) => {
        #[inline(always)]
        fn with_features<R>(work: impl FnOnce() -> R) -> R {
            #[target_feature(enable = $features)]
            unsafe fn enabled<R>(work: impl FnOnce() -> R) -> R {
                work()
            }
            // SAFETY: kernels, and products in int8, are used only where the processor has these features.
            unsafe { enabled(work) }
        }
    };
}
pub(super) use {compiled_for, product_by_tiles, tile_by_rows};
