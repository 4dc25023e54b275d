//! Every kernel that this processor can run, against sums in f64.

use half::bf16;

use super::*;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
#[cfg(target_arch = "x86_64")]
mod int8;

/// Relative to the sum of the products' sizes: one rounding an addition, at worst.
const F32_PRODUCT_ERROR_MAX: f64 = 1e-6;
/// Both operands are rounded to 8 bits before the reference sees them: what is left is the sum's own rounding.
const BF16_PRODUCT_ERROR_MAX: f64 = 1e-6;
const EXP_RELATIVE_ERROR_MAX: f64 = 4e-7;

/// Numbers between −1 and 1, the same in every run (Knuth's MMIX generator, TAOCP vol. 2, 3.3.4).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn vector(&mut self, length: usize) -> Vec<f32> {
        (0..length).map(|_| self.next()).collect()
    }
}

fn products_agree<K: Kernel>(error_max: f64) {
    let mut numbers = Numbers(7);
    let shapes = [
        (1, 1usize, 1),
        (1, 7, 130),
        (5, 64, 64),
        (6, 576, 192),
        (7, 33, 65),
        (16, 66, 64),
        (17, 64, 20),
        (32, 65, 96),
        (45, 130, 70),
        (64, 100, 31),
    ];
    for (rows, depth, columns) in shapes {
        let stride = depth.next_multiple_of(K::Element::GROUP) + 2;
        let mut a = vec![K::Element::default(); rows * stride];
        for row in a.chunks_exact_mut(stride) {
            rows::write(numbers.vector(depth).into_iter(), row);
        }
        let matrix = numbers.vector(columns * depth);
        let packed = Packed::of_rows::<K>(&matrix, depth);
        let out_stride = packed.count * K::PANEL + 3;
        let before = numbers.vector(rows * out_stride);
        for add in [false, true] {
            let mut out = before.clone();
            multiply::<K>(Product {
                a: &a,
                a_stride: stride,
                rows,
                b: packed.panels::<K>(),
                out: &mut out,
                out_stride,
                add,
            });
            for row in 0..rows {
                for column in 0..columns {
                    let terms = (0..depth).map(|at| {
                        let b = K::Element::from_f32(matrix[column * depth + at]).to_f32();
                        f64::from(a[row * stride + at].to_f32()) * f64::from(b)
                    });
                    let start = if add { f64::from(before[row * out_stride + column]) } else { 0.0 };
                    let (sum, size) =
                        terms.fold((start, start.abs()), |(sum, size), term| (sum + term, size + term.abs()));
                    let found = f64::from(out[row * out_stride + column]);
                    assert!(
                        (found - sum).abs() <= error_max * size.max(1e-30),
                        "{rows}×{depth}×{columns} at ({row}, {column}): {found}, expected {sum}"
                    );
                }
                // What lies beside the panels is somebody else's.
                let beside = row * out_stride + packed.count * K::PANEL..(row + 1) * out_stride;
                assert_eq!(out[beside.clone()], before[beside]);
            }
        }
    }
}

fn a_row_does_not_depend_on_its_neighbours<K: Kernel>() {
    let mut numbers = Numbers(9);
    let (rows, depth, columns) = (45, 102, 70);
    let mut a = vec![K::Element::default(); rows * depth];
    rows::write(numbers.vector(rows * depth).into_iter(), &mut a);
    let packed = Packed::of_rows::<K>(&numbers.vector(columns * depth), depth);
    let out_stride = packed.count * K::PANEL;
    let product = |a: &[K::Element], rows: usize| {
        let mut out = vec![0.0; rows * out_stride];
        let b = packed.panels::<K>();
        multiply::<K>(Product { a, a_stride: depth, rows, b, out: &mut out, out_stride, add: false });
        out
    };
    let together = product(&a, rows);
    for row in 0..rows {
        assert_eq!(product(&a[row * depth..][..depth], 1), together[row * out_stride..][..out_stride]);
    }
}

/// Weights that are 0 may stand beside any value: keys and values that are added to a block change no sum that was taken before.
fn a_depth_that_grows_changes_nothing<K: Kernel>() {
    let mut numbers = Numbers(13);
    let (rows, deepest, columns) = (33, 64, 64);
    let values = numbers.vector(columns * deepest);
    let weights = numbers.vector(rows * deepest);
    let before = numbers.vector(rows * columns);
    for depth in [1, 2, 7, 31, 32, 33, 63] {
        let product = |deep: usize| {
            let values: Vec<f32> = values.chunks_exact(deepest).flat_map(|column| &column[..deep]).copied().collect();
            let packed = Packed::of_rows::<K>(&values, deep);
            let mut a = vec![K::Element::default(); rows * deepest];
            for (a, weights) in a.chunks_exact_mut(deepest).zip(weights.chunks_exact(deepest)) {
                rows::write(weights[..depth].iter().copied(), a);
            }
            let width = packed.count * K::PANEL;
            let mut out = vec![0.0; rows * width];
            out.chunks_exact_mut(width)
                .zip(before.chunks_exact(columns))
                .for_each(|(out, row)| out[..columns].copy_from_slice(row));
            let b = packed.panels::<K>();
            multiply::<K>(Product { a: &a, a_stride: deepest, rows, b, out: &mut out, out_stride: width, add: true });
            out
        };
        assert_eq!(product(depth), product(deepest), "{depth} of {deepest}");
    }
}

fn exponentials_agree<K: Kernel>() {
    let error = |x: f32| {
        let found = K::with_features(
            #[inline(always)]
            || rows::exp::<K>(x),
        );
        (f64::from(found) - f64::from(x).exp()).abs() / f64::from(x).exp()
    };
    let mut numbers = Numbers(3);
    for _ in 0..20_000 {
        let x = numbers.next() * 86.0;
        assert!(error(x) <= EXP_RELATIVE_ERROR_MAX, "e^{x}: relative error {}", error(x));
    }
    for _ in 0..20_000 {
        let (score, whole) = (numbers.next() * 55.0, (numbers.next() * 55.0).round());
        let found = K::with_features(
            #[inline(always)]
            || [whole, whole + 9.0].map(|whole| rows::exp2_below::<K>(score, whole)),
        );
        let expected = (f64::from(score) - f64::from(whole)).exp2();
        assert!((f64::from(found[0]) - expected).abs() <= EXP_RELATIVE_ERROR_MAX * expected, "2^({score} − {whole})");
        assert_eq!(found[0], found[1] * 512.0);
    }
    let power = |score: f32, whole: f32| {
        K::with_features(
            #[inline(always)]
            // SAFETY: the instructions are enabled.
            || unsafe { K::powers_of_two(&[score], whole, &mut [K::Element::default()]) },
        )
    };
    for _ in 0..20_000 {
        let whole = (numbers.next() * 55.0).round();
        let score = whole - 126.0 * numbers.next().abs();
        let expected = (f64::from(score) - f64::from(whole)).exp2();
        let found = power(score, whole);
        assert!((f64::from(found) - expected).abs() <= EXP_RELATIVE_ERROR_MAX * expected, "2^({score} − {whole})");
        assert!(
            found == 0.0 || found < 2f32.powi(-117) || found == power(score, whole + 9.0) * 512.0,
            "{score}, {whole}"
        );
    }
    assert_eq!([power(-126.01, 0.0), power(f32::NEG_INFINITY, 3.0), power(7.0, 7.0)], [0.0, 0.0, 1.0]);
    assert_eq!(power(4e6 - 3.0, 4e6), 0.125);
    assert_eq!(rows::exp2_below::<K>(f32::NEG_INFINITY, 0.0), 0.0);
    assert_eq!(rows::exp2_below::<K>(5.0, 5.0), 1.0);
    assert!(rows::exp2_below::<K>(f32::NAN, 5.0).is_nan());
    let exp = |x: f32| {
        K::with_features(
            #[inline(always)]
            || rows::exp::<K>(x),
        )
    };
    assert_eq!(
        [f32::NEG_INFINITY, -100.0, 0.0, 89.0, f32::INFINITY].map(exp),
        [0.0, 0.0, 1.0, f32::INFINITY, f32::INFINITY]
    );
    assert!(exp(f32::NAN).is_nan());
}

/// Scores taken in pieces of any size weigh values as one softmax over all of them does.
fn a_running_softmax_is_the_softmax<K: Kernel>() {
    let mut numbers = Numbers(5);
    let mut scores: Vec<f32> = numbers.vector(150).iter().map(|x| x * 20.0).collect();
    scores[3] = f32::NEG_INFINITY;
    scores[100..120].fill(f32::NEG_INFINITY);
    let values = numbers.vector(scores.len());
    let (mut running, mut mixed) = (rows::Running::NOTHING, 0.0f64);
    let mut at = 0;
    for length in [1, 31, 68, 20, 30] {
        let mut weights = vec![K::Element::default(); length];
        let factor = running.take::<K>(&scores[at..at + length], &mut weights);
        mixed *= f64::from(factor);
        mixed += weights.iter().zip(&values[at..]).map(|(w, v)| f64::from(w.to_f32() * v)).sum::<f64>();
        at += length;
    }
    let exps: Vec<f64> = scores.iter().map(|s| f64::from(*s).exp2()).collect();
    let expected = exps.iter().zip(&values).map(|(e, v)| e * f64::from(*v)).sum::<f64>() / exps.iter().sum::<f64>();
    let found = mixed / f64::from(running.sum);
    let tolerance = if K::Element::GROUP == 1 { 1e-6 } else { 4e-3 };
    assert!((found - expected).abs() <= tolerance, "{found}, expected {expected}");
}

/// What is not a number, or beyond all measure, is not taken for a small weight.
fn a_score_that_is_none_makes_no_sum<K: Kernel>() {
    for wrong in [f32::NAN, f32::INFINITY, 5e6, -5e6] {
        for scores in [vec![wrong], vec![f32::NEG_INFINITY, wrong], vec![wrong; 40]] {
            let mut running = rows::Running::NOTHING;
            running.take::<K>(&[1.0, 2.0], &mut [K::Element::default(); 2]);
            running.take::<K>(&scores, &mut vec![K::Element::default(); scores.len()]);
            assert!(running.sum.is_nan(), "{scores:?}");
        }
    }
}

/// Whether this processor runs the kernel, or a test can run for it what it does not.
fn can_be_tested(name: KernelName) -> bool {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    let name = if name.is_available() { name } else { amx::instead_of(name) };
    if !name.is_available() {
        println!("SKIPPED: this processor has no {name}");
    }
    name.is_available()
}

fn all<K: Kernel>(name: KernelName, error_max: f64) {
    if !can_be_tested(name) {
        return;
    }
    products_agree::<K>(error_max);
    a_row_does_not_depend_on_its_neighbours::<K>();
    a_depth_that_grows_changes_nothing::<K>();
    exponentials_agree::<K>();
    a_running_softmax_is_the_softmax::<K>();
    a_score_that_is_none_makes_no_sum::<K>();
}

#[test]
fn portable_agrees() {
    all::<Portable>(KernelName::Portable, F32_PRODUCT_ERROR_MAX);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn avx2_agrees() {
    all::<Avx2>(KernelName::Avx2, F32_PRODUCT_ERROR_MAX);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn avx512_agrees() {
    all::<Avx512>(KernelName::Avx512, F32_PRODUCT_ERROR_MAX);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn avx512_bf16_agrees() {
    all::<Avx512Bf16>(KernelName::Avx512Bf16, BF16_PRODUCT_ERROR_MAX);
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[test]
fn amx_bf16_agrees() {
    all::<AmxBf16>(KernelName::AmxBf16, BF16_PRODUCT_ERROR_MAX);
    if can_be_tested(KernelName::AmxBf16) {
        assert!(super::amx::bf16_is_right());
        assert_eq!(
            super::amx::ones(super::amx::Numbers::Bf16, 10),
            f64::from(10 * 4 * 16 * 16 * 32),
            "every product of every chain is made"
        );
    }
}

#[cfg(target_arch = "aarch64")]
#[test]
fn neon_agrees() {
    all::<Neon>(KernelName::Neon, F32_PRODUCT_ERROR_MAX);
}

#[test]
fn bfloat16_is_rounded_as_half_rounds() {
    let mut numbers = Numbers(1);
    let extremes = [0.0, -0.0, f32::MAX, f32::MIN, f32::INFINITY, f32::NEG_INFINITY, 1e-40, 1.0 + 1.0 / 256.0];
    for x in extremes.into_iter().chain((0..10_000).map(|_| numbers.next() * 1e3)) {
        assert_eq!(<bf16 as Element>::from_f32(x).to_bits(), bf16::from_f32(x).to_bits(), "{x}");
    }
    for bits in [0x7fc0_0000, 0xffff_ffff, 0x7fff_ffff, 0xffff_e000, 0x7f80_0001] {
        assert!(Element::to_f32(<bf16 as Element>::from_f32(f32::from_bits(bits))).is_nan(), "{bits:x}");
    }
}

#[test]
fn a_kernel_is_called_by_its_name() {
    for name in KernelName::ALL.into_iter().filter(|name| name.is_available()) {
        assert_eq!(name.name().parse(), Ok(name));
    }
    assert_ne!(KernelName::best().dtype(), "int8", "it is less exact");
    let here = || KernelName::ALL.into_iter().filter(|name| name.dtype() != "int8" && name.is_available());
    let least = here().map(KernelName::weight_bytes).min();
    assert_eq!(Some(KernelName::best_that_fits(|_| false).weight_bytes()), least, "where nothing fits, the smallest");
    for name in here() {
        assert_eq!(KernelName::best_that_fits(|other| other == name), name);
    }
    assert!("avx9".parse::<KernelName>().unwrap_err().contains("portable"));
}
