//! The kernels of x86-64.

use std::arch::x86_64::{
    __m256, __m512, __m512bh, __m512i, _mm256_broadcast_ss, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_setzero_ps,
    _mm256_storeu_ps, _mm512_dpbf16_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_set1_epi32,
    _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
};

use half::bf16;

use super::tile::{compiled_for, tile_by_rows};
use super::{Kernel, KernelName};

/// f32 with AVX2 and FMA: 6 × 16 sums in 12 of 16 registers.
#[derive(Clone, Copy)]
pub(in crate::engine) struct Avx2;

/// f32 with AVX-512: 6 × 64 sums in 24 of 32 registers.
#[derive(Clone, Copy)]
pub(in crate::engine) struct Avx512;

/// bfloat16 with AVX512-BF16: a lane multiplies two neighbours and adds both to its sum in f32.
#[derive(Clone, Copy)]
pub(in crate::engine) struct Avx512Bf16;

// SAFETY: `with_features` enables AVX2 and FMA, which are all that is used.
unsafe impl Kernel for Avx2 {
    const NAME: KernelName = KernelName::Avx2;
    type Element = f32;
    type Sums = __m256;
    type Groups = __m256;
    const LANES: usize = 8;
    const FUSED: bool = true;

    compiled_for!("avx2,fma");

    #[inline(always)]
    unsafe fn zero() -> __m256 {
        // SAFETY: the features are enabled by `with_features`; so in all that follows.
        unsafe { _mm256_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn load_sums(from: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store_sums(to: *mut f32, sums: __m256) {
        unsafe { _mm256_storeu_ps(to, sums) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn broadcast(from: *const f32) -> __m256 {
        unsafe { _mm256_broadcast_ss(&*from) }
    }

    #[inline(always)]
    unsafe fn dot(sums: __m256, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, sums) }
    }

    tile_by_rows!(2, [1, 2, 3, 4, 5, 6]);
}

// SAFETY: `with_features` enables the AVX-512 features that are used.
unsafe impl Kernel for Avx512 {
    const NAME: KernelName = KernelName::Avx512;
    type Element = f32;
    type Sums = __m512;
    type Groups = __m512;
    const LANES: usize = 16;
    const FUSED: bool = true;

    compiled_for!("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq");

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn load_sums(from: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store_sums(to: *mut f32, sums: __m512) {
        unsafe { _mm512_storeu_ps(to, sums) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn broadcast(from: *const f32) -> __m512 {
        unsafe { _mm512_set1_ps(from.read()) }
    }

    #[inline(always)]
    unsafe fn dot(sums: __m512, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, sums) }
    }

    tile_by_rows!(4, [1, 2, 3, 4, 5, 6]);
}

// SAFETY: `with_features` enables the AVX-512 features that are used, AVX512-BF16 among them.
unsafe impl Kernel for Avx512Bf16 {
    const NAME: KernelName = KernelName::Avx512Bf16;
    type Element = bf16;
    type Sums = __m512;
    type Groups = __m512i;
    const LANES: usize = 16;
    const FUSED: bool = true;

    compiled_for!("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16");

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn load_sums(from: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store_sums(to: *mut f32, sums: __m512) {
        unsafe { _mm512_storeu_ps(to, sums) }
    }

    #[inline(always)]
    unsafe fn load(from: *const bf16) -> __m512i {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn broadcast(from: *const bf16) -> __m512i {
        unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn dot(sums: __m512, a: __m512i, b: __m512i) -> __m512 {
        // SAFETY: both types are 512 bits without a meaning of their own.
        unsafe {
            let [a, b] = [a, b].map(|groups| std::mem::transmute::<__m512i, __m512bh>(groups));
            _mm512_dpbf16_ps(sums, a, b)
        }
    }

    tile_by_rows!(4, [1, 2, 3, 4, 5, 6]);
}
