//! The kernel of 64-bit ARM. Without such a machine, with Debian's `gcc-aarch64-linux-gnu`, `g++-aarch64-linux-gnu` and `qemu-user-static`:
//!
//! ```text
//! export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
//! export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64-static -L /usr/aarch64-linux-gnu"
//! cargo test --target aarch64-unknown-linux-gnu --no-default-features --features engine --test engine_golden
//! ```

use std::arch::aarch64::{float32x4_t, vdupq_n_f32, vfmaq_f32, vld1q_f32, vst1q_f32};

use super::tile::{compiled_for, product_by_tiles, tile_by_rows};
use super::{Kernel, KernelName, Vectors};

/// f32 with NEON: 6 × 16 sums in 24 of 32 registers.
#[derive(Clone, Copy)]
pub(in crate::engine) struct Neon;

// SAFETY: `with_features` enables NEON, which is all that is used.
unsafe impl Kernel for Neon {
    const NAME: KernelName = KernelName::Neon;
    type Element = f32;
    const FUSED: bool = true;

    compiled_for!("neon");

    product_by_tiles!(6);
}

// SAFETY: as above.
unsafe impl Vectors for Neon {
    type Sums = float32x4_t;
    type Groups = float32x4_t;
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> float32x4_t {
        // SAFETY: the feature is enabled by `with_features`; so in all that follows.
        unsafe { vdupq_n_f32(0.0) }
    }

    #[inline(always)]
    unsafe fn load_sums(from: *const f32) -> float32x4_t {
        unsafe { vld1q_f32(from) }
    }

    #[inline(always)]
    unsafe fn store_sums(to: *mut f32, sums: float32x4_t) {
        unsafe { vst1q_f32(to, sums) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> float32x4_t {
        unsafe { vld1q_f32(from) }
    }

    #[inline(always)]
    unsafe fn broadcast(from: *const f32) -> float32x4_t {
        unsafe { vdupq_n_f32(from.read()) }
    }

    #[inline(always)]
    unsafe fn dot(sums: float32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vfmaq_f32(sums, a, b) }
    }

    tile_by_rows!(4, [1, 2, 3, 4, 5, 6]);
}
