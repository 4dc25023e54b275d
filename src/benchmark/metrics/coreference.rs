//! B-cubed (Bagga & Baldwin 1998, *Algorithms for scoring coreference chains*, §3): of each mention, how much of the person
//! it was put to is right, and how much of its person it was put with.

use std::collections::HashMap;

/// Sums over mentions, so that histories can be pooled.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct BCubed {
    pub precision_sum: f64,
    pub recall_sum: f64,
    pub mentions: usize,
}

impl BCubed {
    /// Of mentions, the person each belongs to and the one it was put to; `None` where it was not found, and so stands alone.
    pub fn of(gold: &[usize], system: &[Option<u32>]) -> Self {
        let (mut in_gold, mut in_system, mut in_both) = (HashMap::new(), HashMap::new(), HashMap::new());
        for (gold, system) in gold.iter().zip(system) {
            *in_gold.entry(gold).or_insert(0.0) += 1.0;
            if let Some(system) = system {
                *in_system.entry(system).or_insert(0.0) += 1.0;
                *in_both.entry((gold, system)).or_insert(0.0) += 1.0;
            }
        }
        let mut sums = Self::default();
        for (gold, system) in gold.iter().zip(system) {
            let (shared, put): (f64, f64) =
                system.as_ref().map_or((1.0, 1.0), |system| (in_both[&(gold, system)], in_system[system]));
            sums.precision_sum += shared / put;
            sums.recall_sum += shared / in_gold[gold];
            sums.mentions += 1;
        }
        sums
    }

    pub fn precision(&self) -> Option<f64> {
        (self.mentions > 0).then(|| self.precision_sum / self.mentions as f64)
    }

    pub fn recall(&self) -> Option<f64> {
        (self.mentions > 0).then(|| self.recall_sum / self.mentions as f64)
    }
}

/// Van Rijsbergen's F with equal weights.
pub fn f1(precision: Option<f64>, recall: Option<f64>) -> Option<f64> {
    let (precision, recall) = (precision?, recall?);
    (precision + recall > 0.0).then(|| 2.0 * precision * recall / (precision + recall))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_bagga_and_baldwin_come_out() {
        // Their key has 5, 2 and 5 mentions; the first response joins the last two, the second the first and the last.
        let gold = [0, 0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 2];
        for (joined, precision) in [([0, 1, 1], 0.7619), ([0, 1, 0], 0.5833)] {
            let sums = BCubed::of(&gold, &gold.map(|person| Some(joined[person])));
            assert!((sums.precision().unwrap() - precision).abs() < 1e-4, "{sums:?}");
            assert_eq!(sums.recall(), Some(1.0));
        }
    }

    #[test]
    fn a_mention_that_was_not_found_stands_alone() {
        let sums = BCubed::of(&[0, 0, 0], &[Some(4), None, Some(4)]);
        assert_eq!(sums.precision(), Some(1.0));
        assert!((sums.recall().unwrap() - (2.0 / 3.0 + 1.0 / 3.0 + 2.0 / 3.0) / 3.0).abs() < 1e-12);
        assert_eq!((BCubed::of(&[], &[]).precision(), f1(Some(0.5), None)), (None, None));
    }
}
