//! Percentile bootstrap over clusters (Efron 1979; Davison & Hinkley 1997, §5.3.1).

use super::{Figure, Figures, Values};

/// SplitMix64 (Steele, Lea & Flood 2014): small, and the same everywhere.
#[derive(Debug, Clone)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// An index below `count` (multiply and shift; its bias is below count/2⁶⁴).
    pub fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.next_u64()) * count as u128) >> 64) as usize
    }
}

/// How intervals are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draws {
    /// 0 gives values without intervals.
    pub samples: usize,
    pub seed: u64,
}

/// The values on all items, with 95% intervals over `draws.samples` draws of as many clusters as
/// there are, each with its items. The same seed draws the same clusters for every detector.
///
/// An interval rests on the draws on which the value is defined.
pub fn intervals(clusters: &[Vec<usize>], draws: Draws, values: &dyn Fn(&[usize]) -> Values) -> Figures {
    let all: Vec<usize> = clusters.iter().flatten().copied().collect();
    let whole = values(&all);
    let mut drawn: Vec<Vec<f64>> = vec![Vec::with_capacity(draws.samples); whole.len()];
    let mut random = SplitMix64::new(draws.seed);
    let mut sample = Vec::with_capacity(all.len());
    for _ in 0..draws.samples {
        sample.clear();
        for _ in clusters {
            sample.extend_from_slice(&clusters[random.below(clusters.len())]);
        }
        for (list, (_, value)) in drawn.iter_mut().zip(values(&sample)) {
            list.extend(value);
        }
    }
    let figure = |((name, value), mut list): ((&'static str, Option<f64>), Vec<f64>)| {
        list.sort_by(f64::total_cmp);
        let at = |part: f64| Some(list[(part * list.len().checked_sub(1)? as f64) as usize]);
        let known = value.is_some();
        let bound = |part| if known { at(part) } else { None };
        (name, Figure { value, low: bound(0.025), high: bound(0.975) })
    };
    Figures(whole.into_iter().zip(drawn).map(figure).collect())
}
