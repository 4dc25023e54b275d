//! How well scores put positives above negatives, and what a threshold makes of them.

use std::cmp::Ordering;

/// A score and whether it belongs to a positive.
pub type Scored = (f64, bool);

/// A point of a curve.
pub type Point = (f64, f64);

/// Ranks from 1 in rising order; equal values share the mean of theirs (midranks).
pub fn midranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut from = 0;
    while from < order.len() {
        let equal = |&&at: &&usize| values[at] == values[order[from]];
        let to = from + order[from..].iter().take_while(equal).count().max(1);
        // Ranks from + 1 … to.
        let shared = (from + 1 + to) as f64 / 2.0;
        order[from..to].iter().for_each(|&at| ranks[at] = shared);
        from = to;
    }
    ranks
}

/// Area under the ROC curve: the chance that a positive stands above a negative, ties counting
/// half (Hanley & McNeil 1982; by ranks, Mann & Whitney 1947).
pub fn auroc(scored: &[Scored]) -> Option<f64> {
    let scores: Vec<f64> = scored.iter().map(|(score, _)| *score).collect();
    let positives = scored.iter().filter(|(_, positive)| *positive).count() as f64;
    let negatives = scored.len() as f64 - positives;
    if positives == 0.0 || negatives == 0.0 {
        return None;
    }
    let ranks = midranks(&scores);
    let sum: f64 = ranks.iter().zip(scored).filter(|(_, (_, positive))| *positive).map(|(rank, _)| rank).sum();
    Some((sum - positives * (positives + 1.0) / 2.0) / (positives * negatives))
}

/// Average precision: Σ (R_n − R_{n−1}) P_n over the thresholds, falling (Manning, Raghavan &
/// Schütze 2008, §8.4, without interpolation; the AUPRC of scikit-learn).
pub fn average_precision(scored: &[Scored]) -> Option<f64> {
    let mut before = 0.0;
    let mut area = 0.0;
    for (recall, precision) in precision_recall(scored)? {
        area += (recall - before) * precision;
        before = recall;
    }
    Some(area)
}

/// (recall, precision) at every threshold, falling; `None` without a positive.
pub fn precision_recall(scored: &[Scored]) -> Option<Vec<Point>> {
    let positives = scored.iter().filter(|(_, positive)| *positive).count();
    let point = |(_, hits, taken): (f64, usize, usize)| (hits as f64 / positives as f64, hits as f64 / taken as f64);
    (positives > 0).then(|| thresholds(scored).into_iter().map(point).collect())
}

/// (false positive rate, recall) at every threshold, falling, from (0, 0); `None` where one side is missing.
pub fn roc(scored: &[Scored]) -> Option<Vec<Point>> {
    let positives = scored.iter().filter(|(_, positive)| *positive).count();
    let negatives = scored.len() - positives;
    if positives == 0 || negatives == 0 {
        return None;
    }
    let point = |(_, hits, taken): (f64, usize, usize)| {
        ((taken - hits) as f64 / negatives as f64, hits as f64 / positives as f64)
    };
    Some(std::iter::once((0.0, 0.0)).chain(thresholds(scored).into_iter().map(point)).collect())
}

/// Every threshold, falling: (score, positives at or above it, all at or above it).
fn thresholds(scored: &[Scored]) -> Vec<(f64, usize, usize)> {
    let mut sorted = scored.to_vec();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut out, mut hits): (Vec<(f64, usize, usize)>, usize) = (Vec::new(), 0);
    for (taken, (score, positive)) in sorted.into_iter().enumerate() {
        hits += usize::from(positive);
        match out.last_mut() {
            Some(last) if last.0 == score => (last.1, last.2) = (hits, taken + 1),
            _ => out.push((score, hits, taken + 1)),
        }
    }
    out
}

/// Recall at the lowest threshold that lets through at most `rate` of the negatives, a positive
/// having to stand above it.
pub fn recall_at(scored: &[Scored], rate: f64) -> Option<f64> {
    let of = |wanted: bool| {
        let scores = scored.iter().filter(move |(_, positive)| *positive == wanted).map(|(score, _)| *score);
        scores.collect::<Vec<_>>()
    };
    let (positives, mut negatives) = (of(true), of(false));
    negatives.sort_by(|a, b| b.total_cmp(a));
    let threshold = negatives.get((rate * negatives.len() as f64) as usize)?;
    let found = positives.iter().filter(|score| *score > threshold).count();
    (!positives.is_empty()).then(|| found as f64 / positives.len() as f64)
}

/// What a threshold makes of scores; at the threshold counts as positive.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Confusion {
    pub true_positives: usize,
    pub false_positives: usize,
    pub false_negatives: usize,
    pub true_negatives: usize,
}

impl Confusion {
    /// Counts at a threshold.
    pub fn at(scored: &[Scored], threshold: f64) -> Self {
        Self::of(scored.iter().map(|(score, positive)| (*score >= threshold, *positive)))
    }

    /// Counts of (flagged, positive).
    pub fn of(flagged: impl Iterator<Item = (bool, bool)>) -> Self {
        let mut out = Self::default();
        for (flagged, positive) in flagged {
            *match (flagged, positive) {
                (true, true) => &mut out.true_positives,
                (true, false) => &mut out.false_positives,
                (false, true) => &mut out.false_negatives,
                (false, false) => &mut out.true_negatives,
            } += 1;
        }
        out
    }

    /// 2 TP / (2 TP + FP + FN) (van Rijsbergen 1979, with β = 1); `None` without a positive.
    pub fn f1(&self) -> Option<f64> {
        let twice = 2 * self.true_positives;
        let positives = self.true_positives + self.false_negatives;
        (positives > 0).then(|| twice as f64 / (twice + self.false_positives + self.false_negatives) as f64)
    }

    /// TP / (TP + FN).
    pub fn recall(&self) -> Option<f64> {
        share(self.true_positives, self.false_negatives)
    }

    /// FP / (FP + TN).
    pub fn false_positive_rate(&self) -> Option<f64> {
        share(self.false_positives, self.true_negatives)
    }
}

fn share(part: usize, rest: usize) -> Option<f64> {
    (part + rest > 0).then(|| part as f64 / (part + rest) as f64)
}

/// The threshold with the greatest F1, and that F1; of equals the highest threshold.
pub fn best_f1(scored: &[Scored]) -> Option<(f64, f64)> {
    let positives = scored.iter().filter(|(_, positive)| *positive).count();
    let f1 = |hits: usize, taken: usize| 2.0 * hits as f64 / (taken + positives) as f64;
    let all = thresholds(scored).into_iter().map(|(score, hits, taken)| (score, f1(hits, taken)));
    let best = all.reduce(|best, next| if next.1 > best.1 { next } else { best });
    best.filter(|_| positives > 0)
}

/// Share of pairs whose first stands above its second, ties counting half.
pub fn pairs_ordered(pairs: &[(f64, f64)]) -> Option<f64> {
    let points = pairs.iter().map(|(first, second)| match first.total_cmp(second) {
        _ if first == second => 0.5,
        Ordering::Greater => 1.0,
        _ => 0.0,
    });
    super::mean(&points.collect::<Vec<f64>>())
}

/// Rank correlation: Pearson's of the midranks (Spearman 1904); `None` where either side does not vary.
pub fn spearman(pairs: &[(f64, f64)]) -> Option<f64> {
    let (first, second): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let (first, second) = (midranks(&first), midranks(&second));
    let middle = (pairs.len() as f64 + 1.0) / 2.0;
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - middle) * (b - middle)).sum::<f64>();
    let spread = product(&first, &first) * product(&second, &second);
    (spread > 0.0).then(|| product(&first, &second) / spread.sqrt())
}
