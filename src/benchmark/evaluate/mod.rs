//! Detectors on sets → figures.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::data::{DataSet, Subject};
use super::detector::{Detector, Family, Threshold, ThresholdFrom};
use super::manifest::Manifest;
use super::metrics::agreement::Cuts;
use super::metrics::bootstrap::Draws;
use super::metrics::calibration::Bin;
use super::metrics::ranking::Point;
use super::metrics::{Figure, Figures};
use crate::arc::ArcKind;

mod arcs;
mod stances;
mod targets;
mod toward;

pub use toward::{TowardJudged, TowardReport, judge_toward};

/// Points of a curve that are kept.
const POINTS_MAX: usize = 240;

/// Grows when a field changes its meaning or goes; a new field does not raise it.
pub const SCHEMA_VERSION: u32 = 1;

/// All figures of a run: what `--output` writes; `schemas/benchmark.schema.json` describes every field.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Benchmark {
    pub schema_version: u32,
    pub manifest: Manifest,
    pub sets: Vec<SetReport>,
}

/// One set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SetReport {
    pub name: String,
    pub about: String,
    pub examples: usize,
    /// Those of innocent sessions before the examples included.
    pub messages: usize,
    /// What is drawn in the bootstrap.
    pub clusters: usize,
    pub kinds: BTreeMap<String, usize>,
    /// Records read and not used, by reason.
    pub left_out: BTreeMap<String, usize>,
    pub arcs: Vec<ArcReport>,
    pub targets: Vec<TargetReport>,
    pub reviews: Vec<ReviewReport>,
    /// How well the people of histories are told apart, where they were written down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub toward: Option<TowardReport>,
}

/// Histories judged as a whole, for one arc.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ArcReport {
    pub arc: ArcKind,
    pub positives: usize,
    /// Histories without any arc, twins among them.
    pub negatives: usize,
    /// Originals of this arc with their twin.
    pub twin_pairs: usize,
    pub detectors: Vec<Judged>,
}

/// A detector on one arc or one target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judged {
    pub detector: String,
    pub family: Family,
    /// Figures that need a threshold are missing without one.
    pub threshold: Option<Threshold>,
    /// The threshold with the greatest F1 on these very data: for other data to be judged with.
    pub best_f1: Option<BestF1>,
    /// The same of levels: the cut points with the greatest kappa on these very data.
    pub best_levels: Option<BestLevels>,
    pub figures: Figures,
    pub slices: Vec<Slice>,
    pub curves: Curves,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BestF1 {
    pub threshold: f64,
    pub f1: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BestLevels {
    pub cuts: Cuts,
    pub kappa: f64,
}

/// What a detector makes of one kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Slice {
    pub kind: String,
    pub count: usize,
    pub positives: usize,
    /// Share at or above the threshold.
    pub flagged: Option<f64>,
    pub mean_score: f64,
    /// Of a positive kind against all negatives, of a negative one against all positives.
    pub auroc: Figure,
}

/// What is drawn.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Curves {
    /// (false positive rate, recall).
    pub roc: Vec<Point>,
    /// (recall, precision).
    pub precision_recall: Vec<Point>,
    pub reliability: Vec<Bin>,
    /// Of each positive with an alarm, in order: messages from the labelled onset to it.
    pub delays_messages: Vec<i64>,
    /// Positives that could have had one.
    pub delays_of: usize,
}

/// Labels of messages or of whole records, of one target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TargetReport {
    pub target: String,
    pub subject: Subject,
    /// A message's score is P(level ≥ this).
    pub level_min: u8,
    pub labelled: usize,
    /// `None` where labels are numbers.
    pub positives: Option<usize>,
    pub detectors: Vec<Judged>,
}

/// When cases reach `review`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReviewReport {
    pub detector: String,
    pub arc: ArcKind,
    pub kind: String,
    pub cases: usize,
    pub reached: usize,
    /// User messages read until then, from 1; over the cases that reach it.
    pub turn_median: Option<f64>,
    /// Each case in order.
    pub turns: Vec<Option<usize>>,
}

/// Thresholds and cut points of levels by arc or target and detector: those that an earlier benchmark found best, or thresholds
/// that so many innocent lives at most ever reach.
#[derive(Debug, Clone, Default)]
pub struct Thresholds {
    alarms: BTreeMap<(String, String), Threshold>,
    levels: BTreeMap<(String, String), Cuts>,
}

impl Thresholds {
    /// From the JSON of a benchmark on other data.
    ///
    /// # Errors
    /// When it is no benchmark's output.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let before: Before = serde_json::from_str(text)?;
        let mut found = Self::default();
        for set in before.sets {
            let arcs = set.arcs.into_iter().map(|one| (one.arc.as_str().to_owned(), one.detectors));
            for (place, detectors) in arcs.chain(set.targets.into_iter().map(|one| (one.target, one.detectors))) {
                for one in detectors {
                    let key = (place.clone(), one.detector);
                    let threshold = |best: BestF1| Threshold { value: best.threshold, from: ThresholdFrom::File };
                    found.alarms.extend(one.best_f1.map(|best| (key.clone(), threshold(best))));
                    found.levels.extend(one.best_levels.map(|best| (key, best.cuts)));
                }
            }
        }
        Ok(found)
    }

    /// Sets the threshold of a detector on an arc to one that innocent lives keep.
    pub fn keep(&mut self, arc: ArcKind, detector: String, value: f64) {
        self.alarms.insert((arc.as_str().to_owned(), detector), Threshold { value, from: ThresholdFrom::Lives });
    }

    /// The threshold for a detector: the one known here, else the policy's.
    fn get(&self, place: &str, detector: &str, policy: Option<f64>) -> Option<Threshold> {
        let known = self.alarms.get(&(place.to_owned(), detector.to_owned())).copied();
        known.or(policy.map(|value| Threshold { value, from: ThresholdFrom::Policy }))
    }

    /// Where a detector's levels begin, if that is known.
    fn cuts(&self, place: &str, detector: &str) -> Option<Cuts> {
        self.levels.get(&(place.to_owned(), detector.to_owned())).copied()
    }
}

/// What thresholds are read from.
#[derive(Deserialize)]
struct Before {
    sets: Vec<BeforeSet>,
}

#[derive(Deserialize)]
struct BeforeSet {
    arcs: Vec<BeforeArc>,
    targets: Vec<BeforeTarget>,
}

#[derive(Deserialize)]
struct BeforeArc {
    arc: ArcKind,
    detectors: Vec<BeforeJudged>,
}

#[derive(Deserialize)]
struct BeforeTarget {
    target: String,
    detectors: Vec<BeforeJudged>,
}

#[derive(Deserialize)]
struct BeforeJudged {
    detector: String,
    best_f1: Option<BestF1>,
    /// Of output from before it was written nothing.
    #[serde(default)]
    best_levels: Option<BestLevels>,
}

/// How a run is judged.
#[derive(Debug, Clone, Default)]
pub struct Judging {
    pub thresholds: Thresholds,
    pub samples: usize,
    pub seed: u64,
}

impl Judging {
    /// How intervals are drawn.
    pub fn draws(&self) -> Draws {
        Draws { samples: self.samples, seed: self.seed }
    }
}

/// All figures of one set.
pub fn judge(set: &DataSet, detectors: &[Detector], judging: &Judging) -> SetReport {
    let clusters = clusters(set);
    let arcs = set.examples.iter().any(|example| example.arcs.is_some());
    let arcs = ArcKind::ALL.into_iter().filter(|_| arcs);
    let mut kinds = BTreeMap::new();
    for example in &set.examples {
        *kinds.entry(example.kind.clone()).or_insert(0) += 1;
    }
    let subject = On { set, clusters: &clusters, judging };
    SetReport {
        name: set.name.clone(),
        about: set.about.clone(),
        examples: set.examples.len(),
        messages: set.examples.iter().map(|example| example.history.message_count()).sum(),
        clusters: clusters.len(),
        kinds,
        left_out: set.left_out.iter().cloned().collect(),
        arcs: arcs.map(|kind| subject.arc(kind, detectors)).collect(),
        targets: (0..set.targets.len()).map(|target| subject.target(target, detectors)).collect(),
        reviews: detectors.iter().flat_map(|detector| reviews(set, detector)).collect(),
        toward: None,
    }
}

/// A set under judgement.
struct On<'a> {
    set: &'a DataSet,
    clusters: &'a [Vec<usize>],
    judging: &'a Judging,
}

/// Indices of examples that are drawn together, in the order of their first.
fn clusters(set: &DataSet) -> Vec<Vec<usize>> {
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    let mut clusters: Vec<Vec<usize>> = Vec::new();
    for (index, example) in set.examples.iter().enumerate() {
        let place = *places.entry(&example.cluster).or_insert(clusters.len());
        if place == clusters.len() {
            clusters.push(Vec::new());
        }
        clusters[place].push(index);
    }
    clusters
}

fn reviews(set: &DataSet, detector: &Detector) -> Vec<ReviewReport> {
    let (Some(arc), Some(reviews)) = (set.review, &detector.reviews) else { return Vec::new() };
    let mut by_kind: BTreeMap<&str, Vec<Option<usize>>> = BTreeMap::new();
    for (example, review) in set.examples.iter().zip(reviews) {
        by_kind.entry(&example.kind).or_default().push(review[arc as usize].map(|index| index + 1));
    }
    let report = |(kind, turns): (&str, Vec<Option<usize>>)| {
        let reached: Vec<f64> = turns.iter().flatten().map(|&turn| turn as f64).collect();
        ReviewReport {
            detector: detector.name.clone(),
            arc,
            kind: kind.to_owned(),
            cases: turns.len(),
            reached: reached.len(),
            turn_median: super::metrics::median(&reached),
            turns,
        }
    };
    by_kind.into_iter().map(report).collect()
}

/// A curve with few enough points to draw: both ends and every n-th between.
fn thinned(points: Vec<Point>) -> Vec<Point> {
    let (count, step) = (points.len(), points.len().div_ceil(POINTS_MAX).max(1));
    let kept = points.into_iter().enumerate().filter(|(index, _)| index % step == 0 || index + 1 == count);
    kept.map(|(_, point)| point).collect()
}
