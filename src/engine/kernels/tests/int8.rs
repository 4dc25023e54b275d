//! Products in eight bits, against integers of its own and against sums in f64.

use std::ops::Range;

use half::bf16;

use super::super::int8::{By, Matrix, PANEL, Product, Rows, SHARED, multiply};
use super::super::{Element, KernelName, rows};
use super::{Numbers, can_be_tested};

/// Sums of integers are exact: what is left are roundings of scales, and of the few sums times them.
const SUM_ERROR_MAX: f64 = 1e-6;

/// A row times a column, by calculations of their own.
#[derive(Default)]
struct Expected {
    /// Of both in eight bits, and of both as they are.
    int8: f64,
    exact: f64,
    /// The sum of the products' sizes.
    size: f64,
    /// How far rounding may carry one from the other: half an integer for every number.
    apart: f64,
}

impl Expected {
    fn of(a: &[f32], b: &[f32]) -> Self {
        let mut of = Self::default();
        let (b_integers, b_one) = in_eight_bits(b);
        for ((a, b), b_integers) in a.chunks(SHARED).zip(b.chunks(SHARED)).zip(b_integers.chunks(SHARED)) {
            let (a_integers, a_one) = in_eight_bits(a);
            let integer: i64 = a_integers.iter().zip(b_integers).map(|(a, b)| a * b).sum();
            of.int8 += a_one * b_one * integer as f64;
            for (a, b) in a.iter().zip(b).map(|(a, b)| (f64::from(*a), f64::from(*b))) {
                of.exact += a * b;
                of.size += (a * b).abs();
                of.apart += (a.abs() * b_one + b.abs() * a_one + a_one * b_one / 2.0) / 2.0;
            }
        }
        of
    }
}

/// Numbers as integers of eight bits, and what one is worth.
fn in_eight_bits(numbers: &[f32]) -> (Vec<i64>, f64) {
    let greatest = numbers.iter().fold(0f32, |greatest, x| greatest.max(x.abs()));
    let factor = if greatest > 0.0 { f64::from(127.0 / greatest) } else { 0.0 };
    let integers = numbers.iter().map(|x| (f64::from(*x) * factor).round_ties_even() as i64).collect();
    (integers, f64::from(greatest / 127.0))
}

fn product<E: Element>(a: &[E], b: &Matrix, depth: usize, panels: Range<usize>) -> Vec<f32> {
    let rows = a.len() / depth;
    let mut quantised = Rows::zeros(rows, depth);
    quantised.quantise(a, depth, rows);
    let out_stride = panels.len() * PANEL;
    let mut out = vec![0.0; rows * out_stride];
    multiply(Product { a: &quantised, rows, b, panels, out: &mut out, out_stride, add: false });
    out
}

fn products_agree<E: Element>(by: By) {
    let mut numbers = Numbers(7);
    let shapes = [
        (1, 1usize, 1),
        (1, 7, 130),
        (5, 64, 64),
        (6, 576, 192),
        (7, 33, 65),
        (64, 100, 31),
        (13, 385, 70),
        (45, 192, 33),
        (16, 200, 65),
    ];
    for (rows, depth, columns) in shapes {
        let stride = depth + 3;
        let mut a = vec![E::default(); rows * stride];
        for (row, a) in a.chunks_exact_mut(stride).enumerate() {
            rows::write(numbers.vector(depth).into_iter(), a);
            match row % 4 {
                1 => a[depth / 2] = E::from_f32(300.0),
                3 => a.fill(E::default()),
                _ => {}
            }
        }
        let matrix = numbers.vector(columns * depth);
        let packed = Matrix::of_rows(by, &matrix, depth);
        let mut quantised = Rows::zeros(rows, depth);
        quantised.quantise(&a, stride, rows);
        let (panels, out_stride) = (packed.panels(), packed.panels() * PANEL + 3);
        let before = numbers.vector(rows * out_stride);
        for add in [false, true] {
            let mut out = before.clone();
            let (a8, b) = (&quantised, &packed);
            multiply(Product { a: a8, rows, b, panels: 0..panels, out: &mut out, out_stride, add });
            for (row, (out, before)) in out.chunks_exact(out_stride).zip(before.chunks_exact(out_stride)).enumerate() {
                let a: Vec<f32> = a[row * stride..][..depth].iter().map(|x| x.to_f32()).collect();
                for (column, b) in matrix.chunks_exact(depth).enumerate() {
                    let of = Expected::of(&a, b);
                    let start = if add { f64::from(before[column]) } else { 0.0 };
                    let found = f64::from(out[column]) - start;
                    let rounding = SUM_ERROR_MAX * (of.size + of.apart + start.abs());
                    let here = format!("{rows}×{depth}×{columns} at ({row}, {column})");
                    assert!((found - of.int8).abs() <= rounding, "{here}: {found}, expected {}", of.int8);
                    assert!((found - of.exact).abs() <= of.apart + rounding, "{here}: {found}, exactly {}", of.exact);
                }
                let width = panels * PANEL;
                assert_eq!(out[width..], before[width..], "what lies beside the panels is somebody else's");
            }
        }
    }
}

/// Nor on what panels are asked for; and what is no number stays in its row, or in its column.
fn rows_do_not_depend_on_their_neighbours<E: Element>(by: By) {
    let mut numbers = Numbers(9);
    let (rows, depth, columns) = (45, 398, 70);
    let mut a = vec![E::default(); rows * depth];
    rows::write(numbers.vector(rows * depth).into_iter(), &mut a);
    let matrix = numbers.vector(columns * depth);
    let packed = Matrix::of_rows(by, &matrix, depth);
    let together = product(&a, &packed, depth, 0..2);
    let width = 2 * PANEL;
    for (a, together) in a.chunks_exact(depth).zip(together.chunks_exact(width)) {
        assert_eq!(product(a, &packed, depth, 0..2), together);
        assert_eq!(product(a, &packed, depth, 1..2), together[PANEL..]);
    }
    for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let (mut a_wrong, mut matrix_wrong) = (a.clone(), matrix.clone());
        a_wrong[5 * depth + 300] = E::from_f32(wrong);
        matrix_wrong[2 * depth + 7] = wrong;
        let packed_wrong = Matrix::of_rows(by, &matrix_wrong, depth);
        let of_row = product(&a_wrong, &packed, depth, 0..2);
        let of_column = product(&a, &packed_wrong, depth, 0..2);
        for (at, &expected) in together.iter().enumerate() {
            let (row, column) = (at / width, at % width);
            assert!(if row == 5 { !of_row[at].is_finite() } else { of_row[at] == expected }, "{wrong}, row {row}");
            let found = of_column[at];
            assert!(if column == 2 { !found.is_finite() } else { found == expected }, "{wrong}, column {column}");
        }
    }
    // What is too small for its inverse is taken for nothing.
    a.fill(E::from_f32(1e-38));
    assert!(product(&a, &packed, depth, 0..2).iter().all(|x| x.abs() < 1e-30));
}

#[test]
fn avx512_vnni_agrees() {
    if !can_be_tested(KernelName::Avx512Vnni) {
        return;
    }
    products_agree::<bf16>(By::Vnni);
    products_agree::<f32>(By::Vnni);
    rows_do_not_depend_on_their_neighbours::<bf16>(By::Vnni);
    rows_do_not_depend_on_their_neighbours::<f32>(By::Vnni);
}

#[cfg(target_os = "linux")]
#[test]
fn amx_int8_agrees() {
    if !can_be_tested(KernelName::AmxInt8) {
        return;
    }
    products_agree::<bf16>(By::Amx);
    rows_do_not_depend_on_their_neighbours::<bf16>(By::Amx);
    let mut numbers = Numbers(11);
    let (rows, depth, columns) = (50, 576, 130);
    let mut a = vec![bf16::default(); rows * depth];
    rows::write(numbers.vector(rows * depth).into_iter(), &mut a);
    let matrix = numbers.vector(columns * depth);
    let [vnni, amx] = [By::Vnni, By::Amx]
        .map(|by| product(&a, &Matrix::of_rows(by, &matrix, depth), depth, 0..columns.div_ceil(PANEL)));
    assert_eq!(vnni, amx, "to the last bit");
    assert!(super::super::int8::amx_is_right());
    assert_eq!(By::Amx.ones(10), f64::from(10 * 4 * 16 * 16 * 64), "every product of every chain is made");
}
