//! Agreement of levels.

/// Cohen's kappa with quadratic weights, over levels 0 to `levels − 1` (Cohen 1968, eq. 8 with
/// v = (i − j)²): 1 is perfect, 0 what chance gives. `None` where both sides say one and the same
/// level throughout.
pub fn quadratic_kappa(pairs: &[(usize, usize)], levels: usize) -> Option<f64> {
    let mut gold = vec![0.0; levels];
    let mut predicted = vec![0.0; levels];
    let squared = |a: usize, b: usize| (a as f64 - b as f64).powi(2);
    let mut seen = 0.0;
    for &(a, b) in pairs {
        let (a, b) = (a.min(levels - 1), b.min(levels - 1));
        gold[a] += 1.0;
        predicted[b] += 1.0;
        seen += squared(a, b);
    }
    let cells = (0..levels).flat_map(|a| (0..levels).map(move |b| (a, b)));
    let by_chance: f64 = cells.map(|(a, b)| gold[a] * predicted[b] * squared(a, b)).sum::<f64>() / pairs.len() as f64;
    (by_chance > 0.0).then(|| 1.0 - seen / by_chance)
}
