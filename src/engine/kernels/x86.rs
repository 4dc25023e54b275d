//! The kernels of x86-64.

use std::arch::x86_64::{
    __m256, __m256bh, __m256i, __m512, __m512bh, __m512i, __mmask16, _CMP_GE_OQ, _CMP_UNORD_Q,
    _MM_FROUND_TO_NEAREST_INT, _mm256_broadcast_ss, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_mask_storeu_epi16,
    _mm256_setzero_ps, _mm256_storeu_ps, _mm512_add_ps, _mm512_cmp_ps_mask, _mm512_cvtneps_pbh, _mm512_dpbf16_ps,
    _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_loadu_ps, _mm512_mask_storeu_ps,
    _mm512_maskz_scalef_ps, _mm512_max_ps, _mm512_reduce_add_ps, _mm512_reduce_max_ps, _mm512_roundscale_ps,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps, _mm512_sub_ps,
};

use half::bf16;

use super::tile::{compiled_for, product_by_tiles, tile_by_rows};
use super::{Kernel, KernelName, Vectors};

/// The softmax's functions of a kernel with AVX-512, sixteen scores at a time.
macro_rules! softmax_512 {
    () => {
        #[inline(always)]
        unsafe fn greatest(scores: &[f32]) -> f32 {
            // SAFETY: the caller's promise, passed on.
            unsafe { super::x86::greatest(scores) }
        }

        #[inline(always)]
        unsafe fn powers_of_two(scores: &[f32], whole: f32, powers: &mut [Self::Element]) -> f32 {
            assert_eq!(scores.len(), powers.len());
            // SAFETY: the caller's promise, passed on; every power has a place.
            unsafe { super::x86::powers_of_two(scores, whole, powers.as_mut_ptr()) }
        }
    };
}
#[cfg(target_os = "linux")]
pub(super) use softmax_512;

/// Sixteen numbers of a slice from there on, `lacking` where it has no more, and which of them it has.
#[inline(always)]
unsafe fn sixteen(numbers: &[f32], from: usize, lacking: __m512) -> (__m512, __mmask16) {
    let here = (numbers.len() - from).min(16);
    let mask = (u32::MAX >> (32 - here)) as __mmask16;
    // SAFETY: what is not in the slice is not read.
    (unsafe { _mm512_mask_loadu_ps(lacking, mask, numbers.as_ptr().add(from)) }, mask)
}

#[inline(always)]
pub(super) unsafe fn greatest(scores: &[f32]) -> f32 {
    // SAFETY: the caller enables the instructions.
    unsafe {
        let lowest = _mm512_set1_ps(f32::NEG_INFINITY);
        let (mut greatest, mut none) = (lowest, 0);
        for from in (0..scores.len()).step_by(16) {
            let (scores, _) = sixteen(scores, from, lowest);
            greatest = _mm512_max_ps(greatest, scores);
            none |= _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(scores, scores);
        }
        if none == 0 { _mm512_reduce_max_ps(greatest) } else { f32::NAN }
    }
}

/// Numbers of which sixteen are stored at a time.
pub(super) trait Sixteen: Sized {
    /// Stores those that the mask names.
    unsafe fn store(to: *mut Self, mask: __mmask16, numbers: __m512);
}

impl Sixteen for f32 {
    #[inline(always)]
    unsafe fn store(to: *mut Self, mask: __mmask16, numbers: __m512) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_mask_storeu_ps(to, mask, numbers) }
    }
}

impl Sixteen for bf16 {
    /// To nearest, ties to even; for numbers that are 0 or at least 2⁻¹²⁶ as [`super::Element::from_f32`].
    #[inline(always)]
    unsafe fn store(to: *mut Self, mask: __mmask16, numbers: __m512) {
        // SAFETY: the caller's promise; both types are 256 bits without a meaning of their own.
        unsafe {
            let rounded = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(numbers));
            _mm256_mask_storeu_epi16(to.cast(), mask, rounded);
        }
    }
}

#[inline(always)]
pub(super) unsafe fn powers_of_two<E: Sixteen>(scores: &[f32], whole: f32, powers: *mut E) -> f32 {
    // 2^r for |r| ≤ ½, to about 1 ulp: the polynomial of Cephes' `exp2f` (Moshier 1992).
    const FIRST: f32 = 1.535_336_2e-4;
    const NEXT: [f32; 6] = [1.339_887_4e-3, 9.618_437e-3, 5.550_332_5e-2, 2.402_264_8e-1, std::f32::consts::LN_2, 1.0];
    // SAFETY: the caller enables the instructions; every power has a place.
    unsafe {
        let (lacking, lowest) = (_mm512_set1_ps(f32::NEG_INFINITY), _mm512_set1_ps(whole - 126.0));
        let mut sums = _mm512_setzero_ps();
        for from in (0..scores.len()).step_by(16) {
            let (scores, there) = sixteen(scores, from, lacking);
            let counts = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(scores, lowest);
            let scores = _mm512_max_ps(scores, lowest);
            let n = _mm512_roundscale_ps::<_MM_FROUND_TO_NEAREST_INT>(scores);
            let r = _mm512_sub_ps(scores, n);
            let mut power = _mm512_set1_ps(FIRST);
            for c in NEXT {
                power = _mm512_fmadd_ps(power, r, _mm512_set1_ps(c));
            }
            let power = _mm512_maskz_scalef_ps(counts, power, _mm512_sub_ps(n, _mm512_set1_ps(whole)));
            sums = _mm512_add_ps(sums, power);
            E::store(powers.add(from), there, power);
        }
        _mm512_reduce_add_ps(sums)
    }
}

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
    const FUSED: bool = true;

    compiled_for!("avx2,fma");

    product_by_tiles!(6);
}

// SAFETY: as above.
unsafe impl Vectors for Avx2 {
    type Sums = __m256;
    type Groups = __m256;
    const LANES: usize = 8;

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
    const FUSED: bool = true;

    compiled_for!("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq");

    product_by_tiles!(6);
    softmax_512!();
}

// SAFETY: as above.
unsafe impl Vectors for Avx512 {
    type Sums = __m512;
    type Groups = __m512;
    const LANES: usize = 16;

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
    const FUSED: bool = true;

    compiled_for!("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16");

    product_by_tiles!(6);
    softmax_512!();
}

// SAFETY: as above.
unsafe impl Vectors for Avx512Bf16 {
    type Sums = __m512;
    type Groups = __m512i;
    const LANES: usize = 16;

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
