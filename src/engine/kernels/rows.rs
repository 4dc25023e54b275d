//! What stands between the matrix products, row by row: plain Rust that is compiled once a kernel.
//!
//! Functions that loop are called inside [`Kernel::with_features`], where the compiler has that kernel's vectors. Sums and
//! maxima run in `LANES` independent lanes, since the compiler may not reorder a sum by itself.

use super::{Element, Kernel};

/// Independent lanes of a sum or maximum.
const LANES: usize = 16;

/// `a · b + c`, in one instruction where the kernel has it.
#[inline(always)]
fn fused<K: Kernel>(a: f32, b: f32, c: f32) -> f32 {
    if K::FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// 1.5 · 2²³: adding it rounds a number below 2²² to an integer, which then stands in the low bits.
pub(super) const ROUND: f32 = 12_582_912.0;

/// e^r for |r| ≤ ½ ln 2, to about 1 ulp: the polynomial of Cephes' `expf` (Moshier 1992).
#[inline(always)]
fn exp_near_zero<K: Kernel>(r: f32) -> f32 {
    let mut p = 1.987_569_1e-4;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = fused::<K>(p, r, c);
    }
    fused::<K>(p * r, r, r) + 1.0
}

/// 2^(n − m) of two integers that were shifted by [`ROUND`], −126 ≤ n − m ≤ 127.
#[inline(always)]
fn power_of_two(n: f32, m: f32) -> f32 {
    f32::from_bits(n.to_bits().wrapping_sub(m.to_bits()).wrapping_add(127) << 23)
}

/// e^x to about 2 ulp, 0 below −87 and ∞ above 88.
#[inline(always)]
pub(in crate::engine) fn exp<K: Kernel>(x: f32) -> f32 {
    const LOWEST: f32 = -87.0;
    const HIGHEST: f32 = 88.0;
    let clamped = x.clamp(LOWEST, HIGHEST);
    let shifted = fused::<K>(clamped, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    // ln 2 in two parts, the first exact in few bits.
    let r = fused::<K>(n, 2.121_944_4e-4, fused::<K>(n, -0.693_359_4, clamped));
    let y = exp_near_zero::<K>(r) * power_of_two(shifted, ROUND);
    let y = if x > HIGHEST { f32::INFINITY } else { y };
    if x < LOWEST { 0.0 } else { y }
}

/// 2^(score − whole) of a whole number, 0 where that is below 2⁻¹²⁶. Another `whole` gives the same digits with another
/// exponent.
#[inline(always)]
pub(in crate::engine) fn exp2_below<K: Kernel>(score: f32, whole: f32) -> f32 {
    let lowest = whole - 126.0;
    let clamped = if score < lowest { lowest } else { score };
    let shifted = clamped + ROUND;
    let r = (clamped - (shifted - ROUND)) * std::f32::consts::LN_2;
    let y = exp_near_zero::<K>(r) * power_of_two(shifted, whole + ROUND);
    if score < lowest { 0.0 } else { y }
}

/// Folds a row in independent lanes.
#[inline(always)]
fn fold(row: &[f32], start: f32, step: impl Fn(f32, f32) -> f32, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = step(*lane, x);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane = step(*lane, x);
    }
    lanes.into_iter().fold(start, join)
}

/// [`Kernel::greatest`] in plain Rust.
#[inline(always)]
pub(super) fn greatest(scores: &[f32]) -> f32 {
    // Unlike `f32::max`, it keeps NaN.
    let greater = |a: f32, b: f32| if b > a || b.is_nan() { b } else { a };
    fold(scores, f32::NEG_INFINITY, greater, greater)
}

/// [`Kernel::powers_of_two`] in plain Rust.
#[inline(always)]
pub(super) fn powers_of_two<K: Kernel>(scores: &[f32], whole: f32, powers: &mut [K::Element]) -> f32 {
    assert_eq!(scores.len(), powers.len());
    let mut lanes = [0.0; LANES];
    for (scores, powers) in scores.chunks(LANES).zip(powers.chunks_mut(LANES)) {
        for ((lane, &score), power) in lanes.iter_mut().zip(scores).zip(powers) {
            let w = exp2_below::<K>(score, whole);
            *lane += w;
            *power = K::Element::from_f32(w);
        }
    }
    lanes.into_iter().sum()
}

/// RMSNorm (Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4): `x / √(mean(x²) + ε) · weight`.
#[inline(always)]
pub(in crate::engine) fn rms_norm<K: Kernel>(x: &[f32], weight: &[f32], eps: f32) -> impl Iterator<Item = f32> {
    let squares = fold(x, 0.0, |sum, x| fused::<K>(x, x, sum), |a, b| a + b);
    let scale = 1.0 / (squares / x.len() as f32 + eps).sqrt();
    x.iter().zip(weight).map(move |(x, w)| x * scale * w)
}

/// Writes numbers as elements.
#[inline(always)]
pub(in crate::engine) fn write<E: Element>(numbers: impl Iterator<Item = f32>, out: &mut [E]) {
    for (slot, number) in out.iter_mut().zip(numbers) {
        *slot = E::from_f32(number);
    }
}

/// SwiGLU (Shazeer 2020, arXiv:2002.05202, eq. 6): `gate · σ(gate) · up`.
#[inline(always)]
pub(in crate::engine) fn swiglu<K: Kernel>(gate: &[f32], up: &[f32], out: &mut [K::Element]) {
    write(gate.iter().zip(up).map(|(&g, &u)| g / (1.0 + exp::<K>(-g)) * u), out);
}

#[inline(always)]
pub(in crate::engine) fn add(row: &mut [f32], bias: &[f32]) {
    for (x, b) in row.iter_mut().zip(bias) {
        *x += b;
    }
}

/// RoPE of one head in place, `i` with `i + D/2` (Su et al. 2021, arXiv:2104.09864, eq. 34).
#[inline(always)]
pub(in crate::engine) fn rotate(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (low, high) = head.split_at_mut(cos.len());
    for ((a, b), (c, s)) in low.iter_mut().zip(high).zip(cos.iter().zip(sin)) {
        (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
    }
}

/// The running softmax of one query, in powers of two: a whole number at or above the greatest score so far, and the sum of
/// `2^(score − whole)`. That it is whole makes every weight and every rescaling exact but for the exponent: weights are
/// rounded alike wherever a strip of keys begins.
#[derive(Clone, Copy)]
pub(in crate::engine) struct Running {
    whole: f32,
    pub sum: f32,
}

impl Running {
    pub const NOTHING: Self = Self { whole: f32::NEG_INFINITY, sum: 0.0 };
    /// Beyond it no whole number can be told from its neighbours: no model that works has such scores.
    const SCORE_MAX: f32 = 4.0e6;

    /// Called inside [`Kernel::with_features`]. Takes further scores in, −∞ where a key is not seen, and writes their weights `2^(score − whole)`. Returns the
    /// factor for what was mixed before (Milakov & Gimelshein 2018, arXiv:1805.02867, algorithm 3). A score that is NaN or
    /// beyond all measure makes the sum NaN: what comes of it is refused in the end.
    #[inline(always)]
    pub fn take<K: Kernel>(&mut self, scores: &[f32], weights: &mut [K::Element]) -> f32 {
        // SAFETY: this runs with the kernel's instructions.
        let here = unsafe { K::greatest(scores) };
        if here == f32::NEG_INFINITY || here.is_nan() || here.abs() > Self::SCORE_MAX {
            weights.fill(K::Element::default());
            self.sum = if here == f32::NEG_INFINITY { self.sum } else { f32::NAN };
            return 1.0;
        }
        let whole = self.whole.max(here.ceil());
        let factor = exp2_below::<K>(self.whole, whole);
        // SAFETY: as above; no score is NaN, for the greatest would be.
        let sum = unsafe { K::powers_of_two(scores, whole, weights) };
        *self = Self { whole, sum: self.sum * factor + sum };
        factor
    }
}
