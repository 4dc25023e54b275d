//! Products by AMX: eight tiles of 16 rows of 64 bytes, and an instruction that multiplies one by another and adds the product to a third
//! (Intel 64 and IA-32 Architectures Software Developer's Manual, vol. 1, chapter 18).
//!
//! Panels are packed as for [`Avx512Bf16`]: sixteen groups along the depth of sixteen neighbouring columns are a tile as they stand. A block of
//! 32 × 32 sums stays in four tiles over the whole depth, two of rows and two of columns beside them: each is loaded once for two products.
//! What is left of rows or depth has tiles of fewer rows, never numbers made up: the instruction sums each row by itself, sixteen groups at
//! a time, so that a row's result does not depend on the rows beside it.
//!
//! Stable Rust has no intrinsics for it: an instruction is a function of one line of assembly. That what one of them leaves in a tile is there
//! for the next, and that none has to be named as overwritten, rests on the compiler: it uses no tiles where nobody asks for them. They are
//! released when a product is done, so that no thread is switched with eight kilobytes of them.

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::sync::OnceLock;

use half::bf16;

use super::tile::compiled_for;
use super::x86::softmax_512;
use super::{Avx512Bf16, Element, Kernel, KernelName, Operands, Packed, Product, int8, multiply};

/// Rows of a tile.
const TILE_ROWS: usize = 16;
/// Bytes of a row of a tile.
const ROW_BYTES: usize = 64;
/// Columns of a tile of sums.
const COLUMNS: usize = ROW_BYTES / size_of::<f32>();
/// Groups along the depth that one instruction multiplies.
const DEEP: usize = TILE_ROWS;
/// Columns of a block.
const WIDE: usize = 2 * COLUMNS;

/// What a processor with AMX can multiply in tiles.
#[derive(Clone, Copy)]
pub(super) enum Numbers {
    Bf16,
    Int8,
}

/// Whether the processor multiplies bfloat16 in tiles, Linux lets this process do so, and what comes out is right. To be asked where
/// [`KernelName::Avx512Bf16`] is available.
pub(super) fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| has(Numbers::Bf16) && is_permitted() && bf16_is_right())
}

/// The same of eight bits, where bfloat16 is available, and [`KernelName::Avx512Vnni`].
pub(super) fn int8_is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| has(Numbers::Int8) && int8::amx_is_right())
}

/// CPUID leaf 7, EDX (SDM vol. 2A, table 3-8).
fn has(numbers: Numbers) -> bool {
    const AMX_TILE: u32 = 1 << 24;
    let feature = match numbers {
        Numbers::Bf16 => 1 << 22,
        Numbers::Int8 => 1 << 25,
    };
    __cpuid_count(7, 0).edx & (AMX_TILE | feature) == AMX_TILE | feature
}

/// Asks Linux for the room that a thread's tiles need, once for all threads (Documentation/arch/x86/xstate.rst). It refuses where it keeps no
/// tiles.
fn is_permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_int = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_ulong = 18;
    // SAFETY: the call takes two numbers and reads no memory.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

/// A product of whole numbers, which is exact in any order, with rows and depth left over, as by plain arithmetic: verdicts must not hang on
/// tiles that are not what they are taken for.
pub(super) fn bf16_is_right() -> bool {
    const ROWS: usize = 41;
    const DEPTH: usize = 38;
    let number = |i: usize| ((i * 7919) % 17) as f32 - 8.0;
    let a: [bf16; ROWS * DEPTH] = std::array::from_fn(|i| bf16::from_f32(number(i)));
    let b: [f32; AmxBf16::PANEL * DEPTH] = std::array::from_fn(|i| number(i + 3));
    let packed = Packed::of_rows::<AmxBf16>(&b, DEPTH);
    let mut out = vec![0.0; ROWS * AmxBf16::PANEL];
    let out_stride = AmxBf16::PANEL;
    let panels = packed.panels::<AmxBf16>();
    multiply::<AmxBf16>(Product {
        a: &a,
        a_stride: DEPTH,
        rows: ROWS,
        b: panels,
        out: &mut out,
        out_stride,
        add: false,
    });
    out.iter().enumerate().all(|(at, found)| {
        let (row, column) = (at / out_stride, at % out_stride);
        let (a, b) = (&a[row * DEPTH..][..DEPTH], &b[column * DEPTH..][..DEPTH]);
        *found == a.iter().zip(b).map(|(a, b)| a.to_f32() * b).sum::<f32>()
    })
}

/// The rows of a block's tiles: those of sums, 0 and 1 of the first rows, 2 and 3 of the second; of rows, 4 and 5; of columns, 6 and 7.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    /// Rows of the block.
    pub rows: usize,
    /// Groups of four bytes along the depth.
    pub groups: usize,
}

/// What `ldtilecfg` reads (SDM vol. 1, table 18-2).
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Shape {
    /// Shapes this thread's tiles, all of them zero after it.
    ///
    /// # Safety
    /// The processor has AMX, and Linux permitted it.
    pub unsafe fn configure(self) {
        let mut wanted =
            Configuration { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        let first = self.rows.min(TILE_ROWS);
        let second = self.rows - first;
        let (depth, whole) = (self.groups * 4, ROW_BYTES);
        let tiles = [
            (first, whole),
            (first, whole),
            (second, whole),
            (second, whole),
            (first, depth),
            (second, depth),
            (self.groups, whole),
            (self.groups, whole),
        ];
        // A tile without rows has no bytes in a row, either.
        for (tile, (rows, bytes)) in tiles.into_iter().enumerate().filter(|(_, (rows, _))| *rows > 0) {
            wanted.rows[tile] = rows as u8;
            wanted.row_bytes[tile] = bytes as u16;
        }
        // SAFETY: what is read are 64 bytes, a configuration of the first palette.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const wanted, options(readonly, nostack, preserves_flags)) }
    }
}

/// Lets go of this thread's tiles.
///
/// # Safety
/// As for [`Shape::configure`].
pub(super) unsafe fn release() {
    unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) }
}

/// Fills a tile with zeros.
///
/// # Safety
/// Here and below: the tiles are [configured](Shape::configure), and what is loaded and stored, `stride` bytes from row to row, lies in its
/// buffer.
#[inline(always)]
unsafe fn zero<const TILE: u8>() {
    unsafe { asm!("tilezero tmm{}", const TILE, options(nomem, nostack, preserves_flags)) }
}

#[inline(always)]
unsafe fn load<const TILE: u8>(from: *const u8, stride: usize) {
    unsafe {
        asm!("tileloadd tmm{}, [{} + {}*1]", const TILE, in(reg) from, in(reg) stride,
            options(readonly, nostack, preserves_flags));
    }
}

#[inline(always)]
unsafe fn store<const TILE: u8>(to: *mut u8, stride: usize) {
    unsafe {
        asm!("tilestored [{} + {}*1], tmm{}", in(reg) to, in(reg) stride, const TILE,
            options(nostack, preserves_flags));
    }
}

/// `sums + a · b`, in bfloat16: the products of even and odd depths are added up apart, then both to the sums.
#[inline(always)]
unsafe fn dot<const SUMS: u8, const A: u8, const B: u8>() {
    unsafe {
        asm!("tdpbf16ps tmm{}, tmm{}, tmm{}", const SUMS, const A, const B, options(nomem, nostack, preserves_flags));
    }
}

/// `sums + a · b`, signed integers of eight bits times unsigned ones.
#[inline(always)]
unsafe fn dot_int8<const SUMS: u8, const A: u8, const B: u8>() {
    unsafe {
        asm!("tdpbsud tmm{}, tmm{}, tmm{}", const SUMS, const A, const B, options(nomem, nostack, preserves_flags));
    }
}

/// bfloat16 with AMX: 32 × 32 sums in four of eight tiles.
#[derive(Clone, Copy)]
pub(in crate::engine) struct AmxBf16;

// SAFETY: `with_features` enables what the functions between the products use; `product` needs AMX alone, whose instructions the compiler does
// not have to know.
unsafe impl Kernel for AmxBf16 {
    const NAME: KernelName = KernelName::AmxBf16;
    type Element = bf16;
    const PANEL: usize = Avx512Bf16::PANEL;
    const ROWS: usize = 2 * TILE_ROWS;
    const FUSED: bool = true;

    compiled_for!("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16");
    softmax_512!();

    #[inline(always)]
    unsafe fn product(operands: &Operands<bf16>) {
        debug_assert!(operands.groups > 0, "there would be nothing to write");
        let whole = operands.rows / Self::ROWS * Self::ROWS;
        for rows in [0..whole, whole..operands.rows].into_iter().filter(|rows| !rows.is_empty()) {
            let deep = operands.groups / DEEP * DEEP;
            for depth in [0..deep, deep..operands.groups].into_iter().filter(|depth| !depth.is_empty()) {
                let shape = Shape { rows: rows.len().min(Self::ROWS), groups: depth.len().min(DEEP) };
                let steps = depth.len() / shape.groups;
                // SAFETY: the caller's promise; rows, panels and groups are those of the operands.
                unsafe {
                    shape.configure();
                    for column in (0..operands.panels * Self::PANEL).step_by(WIDE) {
                        for row in rows.clone().step_by(Self::ROWS) {
                            block(&operands.block(row, column, depth.start), shape.rows > TILE_ROWS, steps);
                        }
                    }
                }
            }
        }
        // SAFETY: no tile is needed any more.
        unsafe { release() };
    }
}

/// The operands of a block, in bytes.
struct Block {
    a: *const u8,
    a_stride: usize,
    b: *const u8,
    out: *mut u8,
    out_stride: usize,
    add: bool,
}

impl Operands<bf16> {
    /// The block that begins at a row and a column, from a group along the depth on.
    #[inline(always)]
    unsafe fn block(&self, row: usize, column: usize, group: usize) -> Block {
        const PANEL: usize = AmxBf16::PANEL;
        let (panel, within) = (column / PANEL, column % PANEL);
        // SAFETY: the caller's promise, passed on.
        unsafe {
            Block {
                a: self.a.add(row * self.a_stride + group * bf16::GROUP).cast(),
                a_stride: self.a_stride * size_of::<bf16>(),
                b: self.b.add(panel * self.b_stride + (group * PANEL + within) * bf16::GROUP).cast(),
                out: self.out.add(row * self.out_stride + column).cast(),
                out_stride: self.out_stride * size_of::<f32>(),
                add: self.add || group > 0,
            }
        }
    }
}

/// A block of 32 columns, and of as many rows as the tiles are configured for: more than 16 where there are `two` tiles of them.
///
/// # Safety
/// The block's operands lie inside their buffers, and the tiles are configured for it.
#[inline(always)]
unsafe fn block(block: &Block, two: bool, steps: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        begin(if block.add { Some(block.out) } else { None }, block.out_stride, two);
        let (mut a, mut b) = (block.a, block.b);
        for _ in 0..steps {
            load_step(a, block.a_stride, b, two);
            dot::<0, 4, 6>();
            dot::<1, 4, 7>();
            if two {
                dot::<2, 5, 6>();
                dot::<3, 5, 7>();
            }
            // Behind the last step there may be nothing.
            (a, b) = (a.wrapping_add(ROW_BYTES), b.wrapping_add(DEEP * B_STRIDE));
        }
        end(block.out, block.out_stride, two);
    }
}

/// Bytes from a group of a panel to the next.
const B_STRIDE: usize = AmxBf16::PANEL * 4;

/// Begins a block's sums: with what stands there, or with zeros.
#[inline(always)]
unsafe fn begin(with: Option<*mut u8>, stride: usize, two: bool) {
    // SAFETY: the caller's promise, as in all that follows.
    unsafe {
        match with {
            Some(sums) => {
                load::<0>(sums, stride);
                load::<1>(sums.add(ROW_BYTES), stride);
                if two {
                    load::<2>(sums.add(TILE_ROWS * stride), stride);
                    load::<3>(sums.add(TILE_ROWS * stride + ROW_BYTES), stride);
                }
            }
            None => {
                zero::<0>();
                zero::<1>();
                if two {
                    zero::<2>();
                    zero::<3>();
                }
            }
        }
    }
}

/// Loads a step along the depth: 64 bytes of every row, and as many groups of 32 columns as they are.
#[inline(always)]
unsafe fn load_step(a: *const u8, a_stride: usize, b: *const u8, two: bool) {
    unsafe {
        load::<6>(b, B_STRIDE);
        load::<7>(b.add(ROW_BYTES), B_STRIDE);
        load::<4>(a, a_stride);
        if two {
            load::<5>(a.add(TILE_ROWS * a_stride), a_stride);
        }
    }
}

/// Puts a block's sums there.
#[inline(always)]
unsafe fn end(sums: *mut u8, stride: usize, two: bool) {
    unsafe {
        store::<0>(sums, stride);
        store::<1>(sums.add(ROW_BYTES), stride);
        if two {
            store::<2>(sums.add(TILE_ROWS * stride), stride);
            store::<3>(sums.add(TILE_ROWS * stride + ROW_BYTES), stride);
        }
    }
}

/// `dots = a · b` of a block of integers: `rows` rows `a_stride` bytes apart, 32 columns of a panel, and `steps` times 64 along the depth.
///
/// # Safety
/// The operands lie inside their buffers, and the tiles are configured for so many rows, of 16 groups.
#[inline(always)]
pub(super) unsafe fn int8_dots(
    a: *const i8,
    a_stride: usize,
    b: *const u8,
    (rows, steps): (usize, usize),
    dots: &mut int8::Block<i32>,
) {
    let two = rows > TILE_ROWS;
    let mut a: *const u8 = a.cast();
    let mut b = b;
    // SAFETY: the caller's promise; there is room for 32 rows of 32 integers.
    unsafe {
        begin(None, 0, two);
        for _ in 0..steps {
            load_step(a, a_stride, b, two);
            dot_int8::<0, 4, 6>();
            dot_int8::<1, 4, 7>();
            if two {
                dot_int8::<2, 5, 6>();
                dot_int8::<3, 5, 7>();
            }
            // Behind the last step there may be nothing.
            (a, b) = (a.wrapping_add(ROW_BYTES), b.wrapping_add(DEEP * B_STRIDE));
        }
        end(dots.0.as_mut_ptr().cast(), size_of_val(&dots.0[0]), two);
    }
}

/// Adds ones times ones to the sums of four tiles, `steps` times each. Returns how many products that were: the total of the sums.
pub(super) fn ones(numbers: Numbers, steps: usize) -> f64 {
    let one: [u8; TILE_ROWS * ROW_BYTES] = match numbers {
        Numbers::Bf16 => std::array::from_fn(|at| bf16::ONE.to_le_bytes()[at % 2]),
        Numbers::Int8 => [1; TILE_ROWS * ROW_BYTES],
    };
    let mut sums = [[[0u8; 4]; WIDE]; 2 * TILE_ROWS];
    // SAFETY: this is called where the kernel is available; `one` is a tile, the sums are four.
    unsafe {
        Shape { rows: 2 * TILE_ROWS, groups: DEEP }.configure();
        load::<4>(one.as_ptr(), ROW_BYTES);
        load::<6>(one.as_ptr(), ROW_BYTES);
        match numbers {
            Numbers::Bf16 => (0..steps).for_each(|_| {
                dot::<0, 4, 6>();
                dot::<1, 4, 6>();
                dot::<2, 4, 6>();
                dot::<3, 4, 6>();
            }),
            Numbers::Int8 => (0..steps).for_each(|_| {
                dot_int8::<0, 4, 6>();
                dot_int8::<1, 4, 6>();
                dot_int8::<2, 4, 6>();
                dot_int8::<3, 4, 6>();
            }),
        }
        end(sums.as_mut_ptr().cast(), size_of_val(&sums[0]), true);
        release();
    }
    let number = |sum: &[u8; 4]| match numbers {
        Numbers::Bf16 => f64::from(f32::from_le_bytes(*sum)),
        Numbers::Int8 => f64::from(i32::from_le_bytes(*sum)),
    };
    sums.iter().flatten().map(number).sum()
}
