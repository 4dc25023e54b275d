//! Eight lanes in plain Rust, for processors without a kernel of their own.

use super::tile::{product_by_tiles, tile_by_rows};
use super::{Kernel, KernelName, Vectors};

#[derive(Clone, Copy)]
pub(in crate::engine) struct Portable;

// SAFETY: no instructions beyond the target's own.
unsafe impl Kernel for Portable {
    const NAME: KernelName = KernelName::Portable;
    type Element = f32;
    const FUSED: bool = false;

    #[inline(always)]
    fn with_features<R>(work: impl FnOnce() -> R) -> R {
        work()
    }

    product_by_tiles!(2);
}

// SAFETY: as above.
unsafe impl Vectors for Portable {
    type Sums = [f32; 8];
    type Groups = [f32; 8];
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> [f32; 8] {
        [0.0; 8]
    }

    #[inline(always)]
    unsafe fn load_sums(from: *const f32) -> [f32; 8] {
        // SAFETY: eight numbers stand there.
        unsafe { from.cast::<[f32; 8]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store_sums(to: *mut f32, sums: [f32; 8]) {
        // SAFETY: there is room for eight numbers.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(sums) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> [f32; 8] {
        // SAFETY: eight numbers stand there.
        unsafe { from.cast::<[f32; 8]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn broadcast(from: *const f32) -> [f32; 8] {
        // SAFETY: a number stands there.
        [unsafe { from.read() }; 8]
    }

    #[inline(always)]
    unsafe fn dot(mut sums: [f32; 8], a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(&b)) {
            *sum += a * b;
        }
        sums
    }

    tile_by_rows!(2, [1, 2]);
}
