//! Agreement of levels, and where levels begin on the scale of a detector.

/// Levels of a scale.
pub const LEVELS: usize = 4;
/// Where each level above the lowest begins, in expected levels from 0; rising.
pub type Cuts = [f64; LEVELS - 1];
/// Cut points are tried at the multiples of 1 / this between 0 and the highest level.
const CUT_STEPS: usize = 20;
/// The number of them.
const CUTS_TRIED: usize = (LEVELS - 1) * CUT_STEPS - 1;

/// Cohen's kappa with quadratic weights, over levels 0 to 3 (Cohen 1968, eq. 8 with
/// v = (i − j)²): 1 is perfect, 0 what chance gives. `None` where both sides say one and the same
/// level throughout.
pub fn quadratic_kappa(pairs: &[(usize, usize)]) -> Option<f64> {
    let mut counts = [[0_usize; LEVELS]; LEVELS];
    for &(gold, said) in pairs {
        counts[gold.min(LEVELS - 1)][said.min(LEVELS - 1)] += 1;
    }
    kappa_of(|gold, said| counts[gold][said])
}

/// The same of a table: how often the first says one level and the second another.
fn kappa_of(count: impl Fn(usize, usize) -> usize) -> Option<f64> {
    let (mut gold, mut said) = ([0.0; LEVELS], [0.0; LEVELS]);
    let squared = |a: usize, b: usize| (a as f64 - b as f64).powi(2);
    let mut seen = 0.0;
    let cells = || (0..LEVELS).flat_map(|a| (0..LEVELS).map(move |b| (a, b)));
    for (a, b) in cells() {
        let count = count(a, b) as f64;
        gold[a] += count;
        said[b] += count;
        seen += count * squared(a, b);
    }
    let all: f64 = gold.iter().sum();
    let by_chance: f64 = cells().map(|(a, b)| gold[a] * said[b] * squared(a, b)).sum::<f64>() / all;
    (by_chance > 0.0).then(|| 1.0 - seen / by_chance)
}

/// The level of an expected level: how many cut points it reaches.
pub fn level_at(expected: f64, cuts: &Cuts) -> usize {
    cuts.iter().filter(|cut| expected >= **cut).count()
}

/// The cut points with the greatest kappa on (labelled level, expected level), and that kappa; of equal ones the lowest. `None`
/// where none agree better than chance. All rising triples of multiples of 0.05 are tried, from 0.05 to 2.95.
///
/// A calibrated probability of a rare level is seldom above ½, so that rounded expected levels agree less with labels than the
/// detector's order of messages would let them. Cut points are chosen on other data than they are used on.
pub fn best_cuts(pairs: &[(usize, f64)]) -> Option<(Cuts, f64)> {
    let at = |cut: usize| (cut + 1) as f64 / CUT_STEPS as f64;
    // Of each label, how many lie under each cut point, and all of them.
    let mut under = vec![[0_usize; CUTS_TRIED + 1]; LEVELS];
    for &(label, expected) in pairs {
        let first_above = (0..CUTS_TRIED).find(|&cut| expected < at(cut)).unwrap_or(CUTS_TRIED);
        under[label.min(LEVELS - 1)][first_above..].iter_mut().for_each(|count| *count += 1);
    }
    let kappa = |[first, second, third]: [usize; 3]| {
        let ends = [first, second, third, CUTS_TRIED];
        kappa_of(|label, level| under[label][ends[level]] - if level == 0 { 0 } else { under[label][ends[level - 1]] })
    };
    let from = |least: usize| least..CUTS_TRIED;
    let triples = from(0).flat_map(|a| from(a + 1).flat_map(move |b| from(b + 1).map(move |c| [a, b, c])));
    let rated = triples.filter_map(|triple| Some((triple.map(at), kappa(triple)?)));
    rated.reduce(|best, one| if one.1 > best.1 { one } else { best }).filter(|(_, kappa)| *kappa > 0.0)
}
