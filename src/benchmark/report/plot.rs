//! Curves as numbers for the page's drawings.

use crate::benchmark::evaluate::{ArcReport, Judged, TargetReport};

/// The drawing's size, and the room around the plot, in its own units.
pub const WIDTH: f64 = 360.0;
pub const HEIGHT: f64 = 300.0;
pub const LEFT: f64 = 46.0;
pub const RIGHT: f64 = 14.0;
pub const TOP: f64 = 12.0;
pub const BOTTOM: f64 = 44.0;
/// Colours, and as many patterns of dashes.
const STYLES: usize = 8;
/// Delays further out stand at the edge.
const DELAY_MAX: i64 = 24;

/// One drawing.
pub struct Plot {
    pub title: &'static str,
    pub x_label: &'static str,
    pub y_label: &'static str,
    pub x_ticks: Vec<Tick>,
    pub y_ticks: Vec<Tick>,
    /// What chance, or perfection, would draw.
    pub reference: Option<String>,
    pub lines: Vec<Line>,
    /// What it shows, in words.
    pub description: String,
}

/// A number at an axis.
pub struct Tick {
    pub at: f64,
    pub text: String,
}

/// The classes of a line: its colour and its dashes, another pair for each of the first 64.
pub fn classes(style: &usize) -> String {
    format!("c{} d{}", style % STYLES, (style + style / STYLES) % STYLES)
}

/// A detector's curve.
pub struct Line {
    /// Its place in the legend, from 0.
    pub style: usize,
    pub name: String,
    /// The `points` of a polyline.
    pub points: String,
    /// Dots with a radius, where there are few.
    pub dots: Vec<(f64, f64, f64)>,
}

fn x(part: f64) -> f64 {
    LEFT + part.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
}

fn y(part: f64) -> f64 {
    TOP + (1.0 - part.clamp(0.0, 1.0)) * (HEIGHT - TOP - BOTTOM)
}

fn polyline(points: impl Iterator<Item = (f64, f64)>) -> String {
    points.map(|(a, b)| format!("{:.1},{:.1}", x(a), y(b))).collect::<Vec<_>>().join(" ")
}

fn shares(along: fn(f64) -> f64) -> Vec<Tick> {
    [0.0, 0.25, 0.5, 0.75, 1.0].map(|part| Tick { at: along(part), text: format!("{part:.2}") }).into()
}

/// ROC, precision and recall, and delays of an arc.
pub fn of_arc(arc: &ArcReport) -> Vec<Plot> {
    let all = &arc.detectors;
    [roc(all), precision_recall(all), delays(all)].into_iter().flatten().collect()
}

/// ROC, precision and recall, and reliability of a target.
pub fn of_target(target: &TargetReport) -> Vec<Plot> {
    let all = &target.detectors;
    [roc(all), precision_recall(all), reliability(all)].into_iter().flatten().collect()
}

/// A line for each detector that has points.
fn lines(detectors: &[Judged], points: impl Fn(&Judged) -> String) -> Vec<Line> {
    let line = |(style, one): (usize, &Judged)| Line {
        style,
        name: one.detector.clone(),
        points: points(one),
        dots: Vec::new(),
    };
    detectors.iter().enumerate().map(line).filter(|line| !line.points.is_empty()).collect()
}

fn areas(detectors: &[Judged], figure: &str) -> String {
    let area = |one: &Judged| one.figures.get(figure).value.map(|value| format!("{} {value:.2}", one.detector));
    detectors.iter().filter_map(area).collect::<Vec<_>>().join(", ")
}

fn roc(detectors: &[Judged]) -> Option<Plot> {
    let lines = lines(detectors, |one| polyline(one.curves.roc.iter().copied()));
    (!lines.is_empty()).then(|| Plot {
        title: "ROC",
        x_label: "false positive rate",
        y_label: "recall",
        x_ticks: shares(x),
        y_ticks: shares(y),
        reference: Some(polyline([(0.0, 0.0), (1.0, 1.0)].into_iter())),
        lines,
        description: format!("Area under each curve: {}.", areas(detectors, "auroc")),
    })
}

fn precision_recall(detectors: &[Judged]) -> Option<Plot> {
    // Steps, as average precision sums them: a line between two thresholds would promise too much.
    let steps = |one: &Judged| {
        let points = &one.curves.precision_recall;
        let before = std::iter::once(0.0).chain(points.iter().map(|(recall, _)| *recall));
        let gained = before.zip(points).filter(|(before, (recall, _))| recall > before);
        polyline(gained.flat_map(|(before, &(recall, precision))| [(before, precision), (recall, precision)]))
    };
    let lines = lines(detectors, steps);
    (!lines.is_empty()).then(|| Plot {
        title: "Precision and recall",
        x_label: "recall",
        y_label: "precision",
        x_ticks: shares(x),
        y_ticks: shares(y),
        reference: None,
        lines,
        description: format!("Average precision: {}.", areas(detectors, "average_precision")),
    })
}

fn reliability(detectors: &[Judged]) -> Option<Plot> {
    let mut lines = lines(detectors, |one| {
        let bins = &one.curves.reliability;
        if bins.is_empty() { String::new() } else { polyline(bins.iter().map(|bin| (bin.said, bin.found))) }
    });
    for line in &mut lines {
        let bins = &detectors[line.style].curves.reliability;
        let all = bins.iter().map(|bin| bin.count).sum::<usize>().max(1) as f64;
        // The area of a dot is the bin's share.
        let radius = |count: usize| 1.5 + 9.0 * (count as f64 / all).sqrt();
        line.dots = bins.iter().map(|bin| (x(bin.said), y(bin.found), radius(bin.count))).collect();
    }
    (!lines.is_empty()).then(|| Plot {
        title: "Reliability",
        x_label: "probability said",
        y_label: "share of positives",
        x_ticks: shares(x),
        y_ticks: shares(y),
        reference: Some(polyline([(0.0, 0.0), (1.0, 1.0)].into_iter())),
        lines,
        description: format!("Expected calibration error: {}.", areas(detectors, "calibration_error")),
    })
}

/// The share of arcs with an alarm so many messages after the labelled onset, or earlier.
fn delays(detectors: &[Judged]) -> Option<Plot> {
    let along = |delay: i64| (delay.clamp(-DELAY_MAX, DELAY_MAX) + DELAY_MAX) as f64 / (2 * DELAY_MAX) as f64;
    let steps = |one: &Judged| {
        let mut delays: Vec<i64> =
            one.curves.delays_messages.iter().map(|d| (*d).clamp(-DELAY_MAX, DELAY_MAX)).collect();
        delays.sort_unstable();
        if one.curves.delays_of == 0 {
            return String::new();
        }
        let share = |count: usize| count as f64 / one.curves.delays_of as f64;
        let mut points = vec![(0.0, 0.0)];
        for (index, delay) in delays.iter().enumerate() {
            points.extend([(along(*delay), share(index)), (along(*delay), share(index + 1))]);
        }
        points.push((1.0, share(delays.len())));
        polyline(points.into_iter())
    };
    let tick = |delay: i64| Tick {
        at: x(along(delay)),
        text: if delay == 0 { "0".into() } else { format!("{delay:+}").replace('-', "−") },
    };
    let lines = lines(detectors, steps);
    (!lines.is_empty()).then(|| Plot {
        title: "Alarms over time",
        x_label: "messages after the labelled onset",
        y_label: "share of arcs with an alarm",
        x_ticks: [-DELAY_MAX, -DELAY_MAX / 2, 0, DELAY_MAX / 2, DELAY_MAX].map(tick).into(),
        y_ticks: shares(y),
        reference: Some(polyline([(0.5, 0.0), (0.5, 1.0)].into_iter())),
        lines,
        description: format!("Median delay in messages: {}.", areas(detectors, "delay_messages")),
    })
}
