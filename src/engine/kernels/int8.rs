//! Products with weights in eight bits, by `vpdpbusd` or in tiles of AMX: twice the numbers an instruction of those in bfloat16, at the price of
//! digits.
//!
//! Vector-wise quantisation (Dettmers et al. 2022, arXiv:2208.07339, section 3.1), with a scale for fewer numbers than a whole row: a weight is
//! an integer of −127..=127 times its column's scale, an activation one times the scale of its row and of [`SHARED`] neighbours along the
//! depth, taken anew from the greatest of them. With `g` for those neighbours:
//!
//! ```text
//! out[r, c] = column_scale[c] · Σ_g row_scale[r, g] · Σ_{k in g} a[r, k] · w[c, k]
//! ```
//!
//! The instruction multiplies unsigned bytes by signed ones: weights stand in memory as `w + 128`, and a sum begins at `−128 · Σ a`, which
//! makes up for it. Inner sums are exact, and the outer one is taken in the order of the depth: a row's result does not depend on the rows
//! beside it, nor on the instruction. A matrix, or room for rows, is made only where [`super::KernelName::Avx512Vnni`] is available.

use std::arch::x86_64::{
    __m512i, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_storeu_ps,
    _mm512_storeu_si512,
};
use std::hint::black_box;
use std::ops::Range;

#[cfg(target_os = "linux")]
use super::amx;
use super::rows::ROUND;
use super::tile::compiled_for;
use super::{Aligned, Avx512, Avx512Bf16, Element, Kernel, KernelName};

/// Neighbours along the depth that a lane multiplies and adds up at once.
const FOUR: usize = 4;
/// Neighbours of a row that share a scale: an outlier takes digits from no others.
pub(super) const SHARED: usize = 192;
/// Depths are filled up with zeros to a whole number of so many: an AMX tile has them in a row.
const DEEP: usize = 64;
/// The greatest integer, of both signs.
const INTEGER_MAX: f32 = 127.0;
// The sum of a scale's products is exact in f32.
const _: () =
    assert!(SHARED.is_multiple_of(DEEP) && DEEP.is_multiple_of(FOUR) && SHARED * 127 * 127 < 1 << f32::MANTISSA_DIGITS);
const LANES: usize = 16;
/// A tile has 6 × 64 sums in 24 of 32 registers.
const COLUMNS: usize = 4;
const ROWS: usize = 6;
/// As many columns as of the kernel that computes the rest.
pub(super) const PANEL: usize = LANES * COLUMNS;
const _: () = assert!(PANEL == Avx512Bf16::PANEL && PANEL == Avx512::PANEL);

compiled_for!("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni");

/// Rounds numbers to integers, the greatest in size to ±127. Returns what one is worth, and the sum of them.
///
/// Where one is infinite or not a number, so is the worth: it comes through all products that it is in.
#[inline(always)]
fn quantise<E: Element>(numbers: &[E], integers: &mut [i8]) -> (f32, i32) {
    const SIGN: u32 = 1 << 31;
    // Without the sign, floats are ordered as their bits are: infinity above all numbers, and NaN above it.
    let greatest = numbers.iter().fold(0, |greatest, number| (number.to_f32().to_bits() & !SIGN).max(greatest));
    let greatest = f32::from_bits(greatest);
    let factor = INTEGER_MAX / greatest;
    let factor = if factor.is_finite() { factor } else { 0.0 };
    let mut sum = 0;
    for (integer, number) in integers.iter_mut().zip(numbers) {
        *integer = number.to_f32().mul_add(factor, ROUND).to_bits() as i8;
        sum += i32::from(*integer);
    }
    (greatest / INTEGER_MAX, sum)
}

/// The instructions that multiply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum By {
    Vnni,
    #[cfg(target_os = "linux")]
    Amx,
}

impl By {
    /// Those of a kernel, if weights are in eight bits there.
    pub fn of(kernel: KernelName) -> Option<Self> {
        match kernel {
            KernelName::Avx512Vnni => Some(Self::Vnni),
            #[cfg(target_os = "linux")]
            KernelName::AmxInt8 => Some(Self::Amx),
            _ => None,
        }
    }

    /// Rows that share what is loaded of a panel.
    pub(super) fn rows(self) -> usize {
        match self {
            Self::Vnni => ROWS,
            #[cfg(target_os = "linux")]
            Self::Amx => BLOCK,
        }
    }

    /// Adds ones times ones, `steps` times to each of as many sums as a block or tile has. Returns how many products that were: the total of
    /// the sums.
    pub(super) fn ones(self, steps: usize) -> f64 {
        match self {
            Self::Vnni => ones(steps),
            #[cfg(target_os = "linux")]
            Self::Amx => amx::ones(amx::Numbers::Int8, steps),
        }
    }
}

/// A matrix of weights in eight bits, packed into panels as [`super::tile`] has them.
pub(in crate::engine) struct Matrix {
    by: By,
    data: Aligned<u8>,
    scales: Aligned<f32>, // (panels × PANEL): 0 where there is no column
    depth: usize,
}

impl Matrix {
    /// Rounds and packs a matrix `(columns, depth)`, row by row as weights are stored.
    pub fn of_rows(by: By, matrix: &[f32], depth: usize) -> Self {
        let columns = (matrix.len() / depth).next_multiple_of(PANEL);
        let fours = depth.next_multiple_of(DEEP) / FOUR;
        let mut data = Aligned::<u8>::zeros(columns * fours * FOUR);
        let mut scales = Aligned::<f32>::zeros(columns);
        let mut integers = vec![0i8; fours * FOUR];
        for (column, (numbers, scale)) in matrix.chunks_exact(depth).zip(scales.iter_mut()).enumerate() {
            (*scale, _) = with_features(
                #[inline(always)]
                || quantise(numbers, &mut integers),
            );
            let first = column / PANEL * fours * PANEL + column % PANEL;
            for (at, four) in integers.chunks_exact(FOUR).enumerate() {
                let packed = &mut data[(first + at * PANEL) * FOUR..][..FOUR];
                // Of a byte in two's complement it is the same as adding 128.
                packed.iter_mut().zip(four).for_each(|(byte, integer)| *byte = integer.cast_unsigned() ^ 0x80);
            }
        }
        Self { by, data, scales, depth }
    }

    pub fn panels(&self) -> usize {
        self.scales.len() / PANEL
    }
}

/// What numbers of a row share that share a scale.
#[derive(Clone, Copy, Default)]
struct Shared {
    scale: f32,
    /// −128 times the sum of the integers.
    start: i32,
}

/// Rows of activations in eight bits.
pub(in crate::engine) struct Rows {
    data: Aligned<i8>,   // (R, depth), rows filled up with zeros to whole tiles
    shared: Vec<Shared>, // (R, depth / SHARED)
    depth: usize,
}

impl Rows {
    /// Room for so many rows of `depth` numbers, zero at first.
    pub fn zeros(rows: usize, depth: usize) -> Self {
        let shared = vec![Shared::default(); rows * depth.div_ceil(SHARED)];
        Self { data: Aligned::zeros(rows * depth.next_multiple_of(DEEP)), shared, depth }
    }

    /// Takes over rows of numbers, rounded: as many of the first ones as there is room for.
    pub fn quantise<E: Element>(&mut self, numbers: &[E], stride: usize, rows: usize) {
        // A processor that lacks the instructions has no room for rows, either.
        if self.shared.is_empty() {
            return;
        }
        let (depth, width) = (self.depth, self.depth.next_multiple_of(DEEP));
        let shared = self.shared.chunks_exact_mut(depth.div_ceil(SHARED));
        let rows = numbers.chunks(stride).zip(self.data.chunks_exact_mut(width)).zip(shared).take(rows);
        with_features(
            #[inline(always)]
            || {
                for ((numbers, integers), shared) in rows {
                    let groups = numbers[..depth].chunks(SHARED).zip(integers.chunks_mut(SHARED));
                    for ((numbers, integers), shared) in groups.zip(shared) {
                        let (scale, sum) = quantise(numbers, integers);
                        *shared = Shared { scale, start: -128 * sum };
                    }
                }
            },
        );
    }
}

/// `out (rows, panels × PANEL) = a · bᵀ` by these panels of `b`, or added to it.
pub(in crate::engine) struct Product<'a> {
    pub a: &'a Rows,
    pub rows: usize,
    pub b: &'a Matrix,
    pub panels: Range<usize>,
    pub out: &'a mut [f32],
    pub out_stride: usize,
    pub add: bool,
}

/// Computes a product, panel by panel, so that a panel is read from memory once for all rows.
///
/// # Panics
/// When an operand does not fit its buffer.
pub(in crate::engine) fn multiply(product: Product) {
    let Product { a, rows, b, panels, out, out_stride, add } = product;
    if rows == 0 || panels.is_empty() {
        return;
    }
    let (a_stride, groups) = (a.depth.next_multiple_of(DEEP), a.depth.div_ceil(SHARED));
    assert!(a.data.len() >= rows * a_stride, "a of {} numbers: {rows} rows of {a_stride}", a.data.len());
    assert!(a.depth == b.depth && panels.end <= b.panels(), "a of the depth {}, b of {}", a.depth, b.depth);
    assert!(out.len() >= (rows - 1) * out_stride + panels.len() * PANEL, "out of {} numbers: {rows} rows", out.len());
    let tile = |row: usize, (at, panel): (usize, usize)| {
        // SAFETY: the three assertions above.
        unsafe {
            Tile {
                a: a.data.as_ptr().add(row * a_stride),
                a_stride,
                shared: a.shared.as_ptr().add(row * groups),
                groups,
                b: b.data.as_ptr().add(panel * PANEL * a_stride),
                scales: b.scales.as_ptr().add(panel * PANEL),
                out: out.as_mut_ptr().add(row * out_stride + at * PANEL),
                out_stride,
                add,
            }
        }
    };
    with_features(
        #[inline(always)]
        // SAFETY: tiles lie inside their buffers, as they are made; `with_features` enables the instructions, and a matrix is made for AMX only
        // where that is available.
        || unsafe {
            match b.by {
                By::Vnni => by_vnni(rows, panels, tile),
                #[cfg(target_os = "linux")]
                By::Amx => by_amx(rows, panels, tile),
            }
        },
    );
}

/// Tile by tile of a panel, so that a panel is read from memory once for all rows. A tile begins at a row, and at a panel among those of the
/// product and of the matrix.
#[inline(always)]
unsafe fn by_vnni(rows: usize, panels: Range<usize>, mut tile: impl FnMut(usize, (usize, usize)) -> Tile) {
    for panel in panels.enumerate() {
        for row in (0..rows).step_by(ROWS) {
            let tile = tile(row, panel);
            // SAFETY: the caller's promise, passed on.
            unsafe {
                match rows - row {
                    1 => run::<1>(&tile),
                    2 => run::<2>(&tile),
                    3 => run::<3>(&tile),
                    4 => run::<4>(&tile),
                    5 => run::<5>(&tile),
                    _ => run::<ROWS>(&tile),
                }
            }
        }
    }
}

/// A tile's operands, all inside their buffers.
struct Tile {
    a: *const i8,
    /// Bytes from a row of `a` to the next.
    a_stride: usize,
    /// Of the first row; `groups` of them on are the next row's.
    shared: *const Shared,
    groups: usize,
    /// A panel, from its first four on, and its columns' scales.
    b: *const u8,
    scales: *const f32,
    out: *mut f32,
    out_stride: usize,
    /// Whether the product is added to what `out` holds.
    add: bool,
}

/// One tile of `ROWS × COLUMNS` registers.
///
/// # Safety
/// The tile's operands lie inside their buffers, and the instructions are enabled.
#[inline(always)]
unsafe fn run<const ROWS: usize>(tile: &Tile) {
    // SAFETY: every address is rows × stride or fours × panel into a buffer, as the caller promises.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); COLUMNS]; ROWS];
        let (mut a, mut b) = (tile.a, tile.b);
        for group in 0..tile.groups {
            let mut dots = [[_mm512_setzero_si512(); COLUMNS]; ROWS];
            for (row, dots) in dots.iter_mut().enumerate() {
                *dots = [_mm512_set1_epi32((*tile.shared.add(row * tile.groups + group)).start); COLUMNS];
            }
            for _ in 0..(tile.a_stride - group * SHARED).min(SHARED) / FOUR {
                let mut columns = [_mm512_setzero_si512(); COLUMNS];
                for (column, slot) in columns.iter_mut().enumerate() {
                    *slot = _mm512_loadu_si512(b.add(column * LANES * FOUR).cast());
                }
                for (row, dots) in dots.iter_mut().enumerate() {
                    let four = _mm512_set1_epi32(a.add(row * tile.a_stride).cast::<i32>().read_unaligned());
                    for (dot, column) in dots.iter_mut().zip(&columns) {
                        *dot = _mm512_dpbusd_epi32(*dot, *column, four);
                    }
                }
                a = a.add(FOUR);
                b = b.add(PANEL * FOUR);
            }
            for (row, (sums, dots)) in sums.iter_mut().zip(&dots).enumerate() {
                let scale = _mm512_set1_ps((*tile.shared.add(row * tile.groups + group)).scale);
                for (sum, dot) in sums.iter_mut().zip(dots) {
                    *sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(*dot), scale, *sum);
                }
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            for (column, sum) in sums.iter().enumerate() {
                let out = tile.out.add(row * tile.out_stride + column * LANES);
                let scales = _mm512_loadu_ps(tile.scales.add(column * LANES));
                let scaled = if tile.add {
                    _mm512_fmadd_ps(*sum, scales, _mm512_loadu_ps(out))
                } else {
                    _mm512_mul_ps(*sum, scales)
                };
                _mm512_storeu_ps(out, scaled);
            }
        }
    }
}

/// Whether a product in tiles is to the last bit that of vectors, with rows and depth left over.
#[cfg(target_os = "linux")]
pub(super) fn amx_is_right() -> bool {
    const ROWS: usize = 41;
    const DEPTH: usize = SHARED + 70;
    let numbers = |count: usize| -> Vec<f32> { (0..count).map(|i| ((i * 7919) % 1009) as f32 / 504.0 - 1.0).collect() };
    let mut a = Rows::zeros(ROWS, DEPTH);
    a.quantise(&numbers(ROWS * DEPTH), DEPTH, ROWS);
    let product = |by: By| {
        let b = Matrix::of_rows(by, &numbers(PANEL * DEPTH), DEPTH);
        let mut out = vec![0.0; ROWS * PANEL];
        multiply(Product { a: &a, rows: ROWS, b: &b, panels: 0..1, out: &mut out, out_stride: PANEL, add: false });
        out
    };
    product(By::Vnni) == product(By::Amx)
}

/// Columns and rows of what AMX sums at a time.
#[cfg(target_os = "linux")]
const BLOCK: usize = 32;
#[cfg(target_os = "linux")]
const _: () = assert!(PANEL.is_multiple_of(BLOCK));

/// Integers, or numbers, of a block.
#[cfg(target_os = "linux")]
#[repr(C, align(64))]
pub(super) struct Block<E>(pub [[E; BLOCK]; BLOCK]);

#[cfg(target_os = "linux")]
impl Tile {
    /// The same of half the panel's columns: the first, or the second.
    #[inline(always)]
    unsafe fn half(&self, half: usize) -> Self {
        let first = half * BLOCK;
        // SAFETY: a panel has two such halves.
        unsafe {
            Self { b: self.b.add(first * FOUR), scales: self.scales.add(first), out: self.out.add(first), ..*self }
        }
    }
}

/// Block by block of a panel's halves, whole ones first.
#[cfg(target_os = "linux")]
#[inline(always)]
unsafe fn by_amx(rows: usize, panels: Range<usize>, mut tile: impl FnMut(usize, (usize, usize)) -> Tile) {
    let whole = rows / BLOCK * BLOCK;
    for rows in [0..whole, whole..rows].into_iter().filter(|rows| !rows.is_empty()) {
        let count = rows.len().min(BLOCK);
        // SAFETY: the caller's promise, passed on.
        unsafe {
            amx::Shape { rows: count, groups: DEEP / FOUR }.configure();
            for panel in panels.clone().enumerate() {
                for half in [0, 1] {
                    for row in rows.clone().step_by(BLOCK) {
                        run_block(&tile(row, panel).half(half), count);
                    }
                }
            }
            amx::release();
        }
    }
}

/// One block of so many rows, for which tiles are configured: the sums of [`run`], in its order.
///
/// # Safety
/// As for [`run`].
#[cfg(target_os = "linux")]
#[inline(always)]
unsafe fn run_block(tile: &Tile, rows: usize) {
    let mut dots = Block([[0i32; BLOCK]; BLOCK]);
    let mut sums = Block([[0f32; BLOCK]; BLOCK]);
    // SAFETY: every address is rows × stride or fours × panel into a buffer, as the caller promises.
    unsafe {
        for group in 0..tile.groups {
            let first = group * SHARED;
            let steps = (tile.a_stride - first).min(SHARED) / DEEP;
            amx::int8_dots(tile.a.add(first), tile.a_stride, tile.b.add(first * PANEL), (rows, steps), &mut dots);
            for (row, (sums, dots)) in sums.0.iter_mut().zip(&dots.0).enumerate().take(rows) {
                let shared = &*tile.shared.add(row * tile.groups + group);
                for (sum, dot) in sums.iter_mut().zip(dots) {
                    *sum = ((dot + shared.start) as f32).mul_add(shared.scale, *sum);
                }
            }
        }
        for (row, sums) in sums.0.iter().enumerate().take(rows) {
            for (column, sum) in sums.iter().enumerate() {
                let (out, scale) = (tile.out.add(row * tile.out_stride + column), *tile.scales.add(column));
                *out = if tile.add { sum.mul_add(scale, *out) } else { sum * scale };
            }
        }
    }
}

/// Adds ones times ones to a tile's registers of sums, `steps` times each. Returns how many products that were: the total of the sums.
fn ones(steps: usize) -> f64 {
    const CHAINS: usize = ROWS * COLUMNS;
    // From memory that the compiler cannot know: chains that begin alike would be taken for one.
    let one = black_box([1u8; LANES * FOUR]);
    let mut numbers = black_box([[0i32; LANES]; CHAINS]);
    with_features(
        #[inline(always)]
        || {
            // SAFETY: what is loaded and stored is a register's 64 bytes each.
            unsafe {
                let one: __m512i = _mm512_loadu_si512(one.as_ptr().cast());
                let mut sums = [_mm512_setzero_si512(); CHAINS];
                for (sum, numbers) in sums.iter_mut().zip(&numbers) {
                    *sum = _mm512_loadu_si512(numbers.as_ptr().cast());
                }
                for _ in 0..steps {
                    for sum in &mut sums {
                        *sum = _mm512_dpbusd_epi32(*sum, one, one);
                    }
                }
                for (sum, numbers) in sums.iter().zip(&mut numbers) {
                    _mm512_storeu_si512(numbers.as_mut_ptr().cast(), *sum);
                }
            }
        },
    );
    numbers.iter().flatten().copied().map(f64::from).sum()
}
