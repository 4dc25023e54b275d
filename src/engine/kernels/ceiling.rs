//! What a kernel reaches when nothing but the product is left: operands in the caches next to the core, no thread waiting.

use std::time::{Duration, Instant};

use super::{Aligned, Element, Kernel, Packed, Product, multiply, rows};

/// Depth of the product, as deep as a small model is wide: a tile then has little to do but multiply, and both operands fit a
/// second-level cache of 256 KiB. No power of two: rows would all fall on the same lines of the first level.
const DEPTH: usize = 576;
/// Tiles of rows that share a panel.
const TILES: usize = 8;
const LASTS: Duration = Duration::from_millis(60);
/// The best of them counts: what disturbs only slows.
const ROUNDS: usize = 5;

/// Floating-point operations a second over all threads of the pool.
pub(in crate::engine) fn measure<K: Kernel>() -> f64 {
    let round = |_| rayon::broadcast(|_| on_this_thread::<K>()).into_iter().sum::<f64>();
    (0..ROUNDS).map(round).fold(0.0, f64::max)
}

fn on_this_thread<K: Kernel>() -> f64 {
    let rows = TILES * K::ROWS;
    let mut a = Aligned::<K::Element>::zeros(rows * DEPTH);
    rows::write((0..rows * DEPTH).map(|i| (i % 7) as f32), &mut a);
    let packed = Packed::<K::Element>::of_rows::<K>(&vec![0.5; K::PANEL * DEPTH], DEPTH);
    let mut out = vec![0.0; rows * K::PANEL];
    let flop_each = 2 * rows * packed.groups * K::Element::GROUP * K::PANEL;
    let (start, mut products) = (Instant::now(), 0u64);
    while start.elapsed() < LASTS {
        for _ in 0..100 {
            let b = packed.panels::<K>();
            let out = std::hint::black_box(&mut out);
            multiply::<K>(Product { a: &a, a_stride: DEPTH, rows, b, out, out_stride: K::PANEL, add: false });
            products += 1;
        }
    }
    products as f64 * flop_each as f64 / start.elapsed().as_secs_f64()
}
