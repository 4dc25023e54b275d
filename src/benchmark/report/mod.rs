//! A benchmark → tables at a terminal ([`terminal`]), one self-contained page ([`html`]); its JSON is
//! the [`Benchmark`](super::Benchmark) itself. No example's id or text stands in any of them.

use super::detector::{Family, Threshold, ThresholdFrom};
use super::evaluate::{ArcReport, Judged, ReviewReport, SetReport, TargetReport, TowardJudged, TowardReport};
use super::manifest::Settings;
use super::metrics::{Figure, Figures};

pub mod html;
mod plot;
pub mod terminal;

/// What stands on everything that people read.
pub const NOTICE: &str = "Figures say how well a detector agrees with these labels, no more.";

/// A table for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    pub title: String,
    /// The head of each column, the first of the rows' names.
    pub columns: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

/// How a figure is written.
#[derive(Clone, Copy)]
enum As {
    /// `0.81 [0.61, 0.98]`
    Share,
    /// `+3.5 [-1.0, +8.0]`
    Signed,
}

/// A column of figures: its head, the figure's name, and how it is written.
type Column = (&'static str, &'static str, As);

const RANKING: [Column; 6] = [
    ("AUROC", "auroc", As::Share),
    ("against twins", "auroc_twins", As::Share),
    ("twin accuracy", "twin_accuracy", As::Share),
    ("AUPRC", "average_precision", As::Share),
    ("recall at 1% FP", "recall_at_1_fpr", As::Share),
    ("recall at 5% FP", "recall_at_5_fpr", As::Share),
];

const ALARMS: [Column; 7] = [
    ("F1", "f1", As::Share),
    ("recall", "recall", As::Share),
    ("false positives", "false_positive_rate", As::Share),
    ("before onset", "alarms_before_onset", As::Share),
    ("ERDE 5", "erde_5", As::Share),
    ("ERDE 50", "erde_50", As::Share),
    ("F-latency", "f_latency", As::Share),
];

const DELAYS: [Column; 6] = [
    ("messages", "delay_messages", As::Signed),
    ("user messages", "delay_user_messages", As::Signed),
    ("sessions", "delay_sessions", As::Signed),
    ("onset named", "onset_named", As::Share),
    ("named onset off by", "onset_error_messages", As::Signed),
    ("by two at most", "onset_within_two", As::Share),
];

const STANCE: [Column; 4] = [
    ("AUROC of the stance", "auroc_stance", As::Share),
    ("share with a stance", "stance_told", As::Share),
    ("drift: rank correlation", "rank_correlation_drift", As::Share),
    ("share with a drift", "drift_told", As::Share),
];

const MESSAGES: [Column; 10] = [
    ("AUROC", "auroc", As::Share),
    ("AUPRC", "average_precision", As::Share),
    ("F1", "f1", As::Share),
    ("recall", "recall", As::Share),
    ("false positives", "false_positive_rate", As::Share),
    ("kappa", "kappa", As::Share),
    ("kappa at cut points (file)", "kappa_at_cuts", As::Share),
    ("pairs ordered", "pairs_ordered", As::Share),
    ("ECE", "calibration_error", As::Share),
    ("rank correlation", "rank_correlation", As::Share),
];

const TOWARD: [Column; 7] = [
    ("B-cubed F1", "b_cubed_f1", As::Share),
    ("precision", "b_cubed_precision", As::Share),
    ("recall", "b_cubed_recall", As::Share),
    ("mentions found", "mentions_found", As::Share),
    ("about: F1", "about_f1", As::Share),
    ("precision", "about_precision", As::Share),
    ("recall", "about_recall", As::Share),
];

/// What is read together.
struct Part<'a> {
    title: String,
    tables: Vec<Table>,
    of: Of<'a>,
}

/// What a part's figures are of.
enum Of<'a> {
    Arc(&'a ArcReport),
    Target(&'a TargetReport),
    Reviews,
    Toward,
}

/// A set's parts with any table, in the order in which they are read.
fn parts(set: &SetReport) -> Vec<Part<'_>> {
    let arcs = set.arcs.iter().map(|arc| Part {
        title: format!("{}, whole histories", arc.arc.as_str()),
        tables: arc_tables(arc),
        of: Of::Arc(arc),
    });
    // Where there are arcs, kinds are kinds of history.
    let by_kind = |target| if set.arcs.is_empty() { target_slices(target) } else { None };
    let targets = set.targets.iter().map(|target| Part {
        title: target.target.clone(),
        tables: std::iter::once(target_table(target)).chain(by_kind(target)).collect(),
        of: Of::Target(target),
    });
    let reviews = review_table(&set.reviews);
    let reviews = Part { title: "review".into(), tables: reviews.into_iter().collect(), of: Of::Reviews };
    let toward = set.toward.iter().map(toward_table).collect();
    let toward = Part { title: "toward whom".into(), tables: toward, of: Of::Toward };
    let mut parts: Vec<Part> = arcs.chain(targets).chain([reviews, toward]).collect();
    parts.iter_mut().for_each(|part| part.tables.retain(|table| !table.rows.is_empty()));
    parts.retain(|part| !part.tables.is_empty());
    parts
}

fn arc_tables(arc: &ArcReport) -> Vec<Table> {
    let name = arc.arc.as_str();
    let counts = format!(
        "arcs: {}, histories without any: {}, pairs of twins: {}",
        arc.positives, arc.negatives, arc.twin_pairs
    );
    let timed: Vec<&Judged> = arc.detectors.iter().filter(|one| one.curves.delays_of > 0).collect();
    let all: Vec<&Judged> = arc.detectors.iter().collect();
    let stance = |one: &&Judged| one.figures.get("stance_told").value.or(one.figures.get("drift_told").value).is_some();
    let stance: Vec<&Judged> = all.iter().copied().filter(stance).collect();
    let judged: Vec<&Judged> = all.iter().copied().filter(|one| one.threshold.is_some()).collect();
    vec![
        figures(format!("{name}: ranking of whole histories ({counts})"), &RANKING, &all, false),
        figures(format!("{name}: alarms at the threshold"), &ALARMS, &judged, true),
        figures(
            format!(
                "{name}: medians of the delay after the labelled onset, of the alarm and of the onset that is named"
            ),
            &DELAYS,
            &timed,
            false,
        ),
        figures(
            format!(
                "{name}: what the assistant did, where it reinforced against where it resisted, and whether it gave way"
            ),
            &STANCE,
            &stance,
            false,
        ),
        slices(format!("{name}: kinds of history"), &main_detectors(&arc.detectors)),
    ]
}

/// Those whose slices are shown: models and files of scores, not their baselines.
fn main_detectors(all: &[Judged]) -> Vec<&Judged> {
    all.iter().filter(|one| matches!(one.family, Family::Arc | Family::File)).collect()
}

fn target_table(target: &TargetReport) -> Table {
    let positives = target.positives.map(|count| format!("{count} positive of ")).unwrap_or_default();
    let title = format!("{}: {positives}{} labelled", target.target, target.labelled);
    let all: Vec<&Judged> = target.detectors.iter().collect();
    figures(title, &MESSAGES, &all, target.positives.is_some())
}

fn target_slices(target: &TargetReport) -> Option<Table> {
    let shown = main_detectors(&target.detectors);
    target.positives.map(|_| slices(format!("{}: kinds", target.target), &shown))
}

/// One row a detector; a column in which no detector has a figure is left out.
fn figures(title: String, columns: &[Column], detectors: &[&Judged], threshold: bool) -> Table {
    let used = |(_, name, _): &&Column| detectors.iter().any(|one| one.figures.get(name).value.is_some());
    let columns: Vec<&Column> = columns.iter().filter(used).collect();
    let mut head = vec!["detector".to_owned()];
    head.extend(threshold.then(|| "threshold".to_owned()));
    head.extend(columns.iter().map(|(head, ..)| (*head).to_owned()));
    let row = |one: &&Judged| {
        let mut row = vec![one.detector.clone()];
        row.extend(threshold.then(|| one.threshold.map_or("–".into(), threshold_text)));
        row.extend(columns.iter().map(|(_, name, way)| cell(&one.figures, name, *way)));
        row
    };
    // Where no figure is defined there is nothing to show.
    let shown = if columns.is_empty() { &[] } else { detectors };
    Table { title, columns: head, rows: shown.iter().map(row).collect() }
}

fn slices(title: String, detectors: &[&Judged]) -> Table {
    let mut columns = vec!["kind".to_owned(), "count".to_owned(), "positives".to_owned()];
    for one in detectors {
        let name = if detectors.len() > 1 { format!("{}: ", one.detector) } else { String::new() };
        columns.extend([format!("{name}flagged"), format!("{name}mean score"), format!("{name}AUROC")]);
    }
    let first = detectors.first().map(|one| one.slices.as_slice()).unwrap_or_default();
    let row = |(index, slice): (usize, &super::evaluate::Slice)| {
        let mut row = vec![slice.kind.clone(), slice.count.to_string(), slice.positives.to_string()];
        for slice in detectors.iter().filter_map(|one| one.slices.get(index)) {
            row.push(slice.flagged.map_or("–".into(), |share| format!("{share:.2}")));
            row.push(format!("{:.2}", slice.mean_score));
            row.push(figure_text(slice.auroc, As::Share));
        }
        row
    };
    Table { title, columns, rows: first.iter().enumerate().map(row).collect() }
}

fn review_table(reviews: &[ReviewReport]) -> Option<Table> {
    let arc = reviews.first()?.arc.as_str();
    let columns = ["detector", "kind", "cases", "reach review", "median turn", "turn of each case"];
    let row = |one: &ReviewReport| {
        let turns = one.turns.iter().map(|turn| turn.map_or("–".to_owned(), |turn| turn.to_string()));
        vec![
            one.detector.clone(),
            one.kind.clone(),
            one.cases.to_string(),
            one.reached.to_string(),
            one.turn_median.map_or("–".into(), |turn| format!("{turn:.1}")),
            turns.collect::<Vec<_>>().join(" "),
        ]
    };
    let rows = reviews.iter().map(row).collect();
    let title = format!("{arc}: user messages read until a case reaches review");
    Some(Table { title, columns: columns.map(str::to_owned).to_vec(), rows })
}

fn toward_table(toward: &TowardReport) -> Table {
    let TowardReport { histories, people, mentions, about, systems, .. } = toward;
    let mut columns = vec!["linked by".to_owned()];
    columns.extend(TOWARD.iter().map(|(head, ..)| (*head).to_owned()));
    let row = |one: &TowardJudged| {
        let cells = TOWARD.iter().map(|(_, name, way)| cell(&one.figures, name, *way));
        std::iter::once(one.system.clone()).chain(cells).collect()
    };
    Table {
        title: format!(
            "people of {histories} histories: {people} people, {mentions} mentions, {about} times a message is about a target"
        ),
        columns,
        rows: systems.iter().map(row).collect(),
    }
}

/// The split, and after how much of a life its histories begin.
fn split_text(settings: &Settings) -> String {
    let before = settings.innocent_lives.as_ref().map_or(0, |lives| lives.sessions_before);
    match before {
        0 => settings.split.clone(),
        _ => format!("{}, each history after {before} innocent sessions", settings.split),
    }
}

fn threshold_text(threshold: Threshold) -> String {
    let mark = match threshold.from {
        ThresholdFrom::Policy => "",
        ThresholdFrom::File => " (file)",
        ThresholdFrom::Lives => " (lives)",
    };
    format!("{:.3}{mark}", threshold.value)
}

fn cell(figures: &Figures, name: &str, way: As) -> String {
    figure_text(figures.get(name), way)
}

fn figure_text(figure: Figure, way: As) -> String {
    let text = |value: f64| match way {
        As::Share => format!("{value:.2}"),
        As::Signed => format!("{value:+.1}"),
    };
    match (figure.value, figure.low, figure.high) {
        (Some(value), Some(low), Some(high)) => format!("{} [{}, {}]", text(value), text(low), text(high)),
        (Some(value), ..) => text(value),
        _ => "–".into(),
    }
}
