//! What a kernel reaches when nothing but the product is left: operands in the caches next to the core, no thread waiting. And what its
//! instruction reaches when nothing but that is left: operands in registers.

use std::hint::black_box;
use std::time::{Duration, Instant};

#[cfg(target_arch = "x86_64")]
use super::int8;
use super::{Aligned, Element, Kernel, Packed, Product, Vectors, multiply, rows};
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use super::{AmxBf16, amx};

/// Depth of the product, as deep as a small model is wide: a tile then has little to do but multiply, and both operands fit a
/// second-level cache: they take 128 to 384 KiB. No power of two: rows would all fall on the same lines of the first level.
const DEPTH: usize = 576;
/// Tiles of rows that share a panel.
const TILES: usize = 8;
const LASTS: Duration = Duration::from_millis(60);
/// The best of them counts: what disturbs only slows.
const ROUNDS: usize = 5;
/// Times that every chain of sums is added to between two looks at the clock; sums of so many ones are exact in f32.
const STEPS: usize = 100_000;
/// The same for a choice between kernels, and how often.
#[cfg(target_arch = "x86_64")]
const GLANCE_STEPS: usize = 2_000;
#[cfg(target_arch = "x86_64")]
const GLANCES: usize = 31;
/// Products between two looks at the clock.
const CALLS: usize = 100;

#[derive(Clone, Copy)]
pub(super) enum Ceiling {
    /// Our tile, operands in the nearest caches.
    Product,
    /// Its instruction alone, operands in registers.
    Instruction,
}

impl Ceiling {
    /// Floating-point operations a second over all threads of the pool. `None`: the kernel multiplies and adds by two instructions, of
    /// which the compiler would move one out of a loop that has nothing else in it.
    pub fn measure<K: Vectors>(self) -> Option<f64> {
        match self {
            Self::Product => Some(fastest(products::<K>)),
            Self::Instruction => K::FUSED.then(|| fastest(instructions::<K>)),
        }
    }

    /// The same of bfloat16 in tiles.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    pub fn measure_amx(self) -> f64 {
        match self {
            Self::Product => fastest(products::<AmxBf16>),
            Self::Instruction => fastest(|| rate(|| amx::ones(amx::Numbers::Bf16, STEPS))),
        }
    }

    /// The same of products in eight bits.
    #[cfg(target_arch = "x86_64")]
    pub fn measure_int8(self, by: int8::By) -> f64 {
        match self {
            Self::Product => fastest(move || int8_products(by)),
            Self::Instruction => fastest(move || rate(|| by.ones(STEPS))),
        }
    }
}

/// Operations a second over all threads of the pool, in the best round.
fn fastest(on_this_thread: impl Fn() -> f64 + Sync) -> f64 {
    let round = |_| rayon::broadcast(|_| on_this_thread()).into_iter().sum::<f64>();
    (0..ROUNDS).map(round).fold(0.0, f64::max)
}

/// Operations a second of work that returns how many products it made: a multiplication and an addition each.
fn rate(mut work: impl FnMut() -> f64) -> f64 {
    let (start, mut products) = (Instant::now(), 0.0);
    while start.elapsed() < LASTS {
        products += work();
    }
    2.0 * products / start.elapsed().as_secs_f64()
}

/// Operations a second of the instruction.
fn instructions<K: Vectors>() -> f64 {
    rate(|| chains::<K>(STEPS))
}

/// How many times the operations a second of the other's instruction this one's makes, on one thread: the median of pairs of glances, each a
/// few dozen microseconds, so that what disturbs falls on both alike.
#[cfg(target_arch = "x86_64")]
pub(super) fn advantage<K: Vectors, Other: Vectors>() -> f64 {
    let mut ratios: Vec<f64> = (0..GLANCES).map(|_| glance::<K>() / glance::<Other>()).collect();
    ratios.sort_by(f64::total_cmp);
    ratios[GLANCES / 2]
}

#[cfg(target_arch = "x86_64")]
fn glance<K: Vectors>() -> f64 {
    let start = Instant::now();
    chains::<K>(GLANCE_STEPS) / start.elapsed().as_secs_f64()
}

/// In as many chains of sums as a large tile has, or a small one: they fit the registers, and none waits for its own last sum.
fn chains<K: Vectors>(steps: usize) -> f64 {
    if K::ROWS * K::COLUMNS >= 24 { ones::<K, 24>(steps) } else { ones::<K, 12>(steps) }
}

/// Adds ones times ones to `CHAINS` registers of sums, `steps` times each. Returns how many products that were: the total of the sums.
fn ones<K: Vectors, const CHAINS: usize>(steps: usize) -> f64 {
    let one = black_box(vec![K::Element::from_f32(1.0); K::LANES * K::Element::GROUP]);
    // From memory that the compiler cannot know: chains that begin alike would be taken for one.
    let mut numbers = black_box(vec![0.0f32; CHAINS * K::LANES]);
    K::with_features(
        #[inline(always)]
        || {
            // SAFETY: `one` holds a register of groups, `numbers` as many registers of sums as there are chains.
            unsafe {
                let (a, b) = (K::broadcast(one.as_ptr()), K::load(one.as_ptr()));
                let mut sums = [K::zero(); CHAINS];
                for (chain, sum) in sums.iter_mut().enumerate() {
                    *sum = K::load_sums(numbers.as_ptr().add(chain * K::LANES));
                }
                for _ in 0..steps {
                    for sum in &mut sums {
                        *sum = K::dot(*sum, a, b);
                    }
                }
                for (chain, sum) in sums.iter().enumerate() {
                    K::store_sums(numbers.as_mut_ptr().add(chain * K::LANES), *sum);
                }
            }
        },
    );
    numbers.iter().copied().map(f64::from).sum()
}

/// Operations a second of the tile.
fn products<K: Kernel>() -> f64 {
    let rows = TILES * K::ROWS;
    let mut a = Aligned::<K::Element>::zeros(rows * DEPTH);
    rows::write((0..rows * DEPTH).map(|i| (i % 7) as f32), &mut a);
    let packed = Packed::<K::Element>::of_rows::<K>(&vec![0.5; K::PANEL * DEPTH], DEPTH);
    let mut out = vec![0.0; rows * K::PANEL];
    rate(|| {
        for _ in 0..CALLS {
            let b = packed.panels::<K>();
            let out = black_box(&mut out);
            multiply::<K>(Product { a: &a, a_stride: DEPTH, rows, b, out, out_stride: K::PANEL, add: false });
        }
        (CALLS * rows * packed.groups * K::Element::GROUP * K::PANEL) as f64
    })
}

/// Operations a second of the tile in eight bits.
#[cfg(target_arch = "x86_64")]
fn int8_products(by: int8::By) -> f64 {
    let rows = TILES * by.rows();
    let numbers: Vec<f32> = (0..rows * DEPTH).map(|i| (i % 7) as f32).collect();
    let mut a = int8::Rows::zeros(rows, DEPTH);
    a.quantise(&numbers, DEPTH, rows);
    let b = int8::Matrix::of_rows(by, &vec![0.5; int8::PANEL * DEPTH], DEPTH);
    let mut out = vec![0.0; rows * int8::PANEL];
    rate(|| {
        for _ in 0..CALLS {
            let (out, out_stride) = (black_box(&mut out[..]), int8::PANEL);
            int8::multiply(int8::Product { a: &a, rows, b: &b, panels: 0..1, out, out_stride, add: false });
        }
        (CALLS * rows * DEPTH * int8::PANEL) as f64
    })
}

#[cfg(test)]
mod tests {
    use super::super::{KernelName, Portable};
    use super::*;

    /// No chain and no step may be left out, or the ceiling would be too high: 1,000 steps of 12 chains, one product a lane and element of
    /// a group.
    fn counts<K: Vectors>() {
        if K::NAME.is_available() {
            let expected = 1_000 * 12 * K::LANES * K::Element::GROUP;
            assert_eq!(ones::<K, 12>(1_000), expected as f64, "{}", K::NAME);
        }
    }

    #[test]
    fn every_product_of_every_chain_is_made() {
        counts::<Portable>();
        #[cfg(target_arch = "x86_64")]
        {
            counts::<super::super::Avx2>();
            counts::<super::super::Avx512>();
            counts::<super::super::Avx512Bf16>();
            if KernelName::Avx512Vnni.is_available() {
                assert_eq!(int8::By::Vnni.ones(1_000), f64::from(1_000 * 24 * 16 * 4));
            }
        }
        #[cfg(target_arch = "aarch64")]
        counts::<super::super::Neon>();
    }

    #[test]
    fn a_kernel_without_an_instruction_of_its_own_has_no_such_ceiling() {
        assert_eq!(KernelName::Portable.instruction_ceiling(), None);
        assert_eq!(KernelName::Candle.instruction_ceiling(), None);
        assert_eq!(KernelName::Candle.ceiling(), None);
    }
}
