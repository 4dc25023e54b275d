//! What the benchmark reads: histories by authors, labelled tables, files of scores.

use std::path::Path;
use std::sync::OnceLock;

use throughline::benchmark::data::labels::LabelMap;
use throughline::benchmark::data::{DataSet, Example, Split, Truth, author};
use throughline::benchmark::detector::{each_user, scores_file};
use throughline::benchmark::simulate::Simulation;
use throughline::verdict::Policy;

use super::{Folder, halves};

/// The writing format of `datasets/arcs`: labels, onsets and twins are of something that is there.
pub fn author(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(examples) = author::parse(Path::new("author.txt"), &text) else { return };
    for example in &examples {
        assert!(example.twin_of.is_none_or(|original| original < examples.len()));
        check(example, author::targets().len());
    }
}

/// A label map, `===`, and a table; the last byte says what kind of table.
pub fn labels(data: &[u8]) {
    static FOLDER: OnceLock<Folder> = OnceLock::new();
    let Some((&kind, bytes)) = data.split_last() else { return };
    let (map, table) = halves(bytes);
    let Ok(map) = LabelMap::parse(Path::new("map.toml"), &String::from_utf8_lossy(map)) else { return };
    let name = if kind & 1 == 0 { "table.jsonl" } else { "table.csv" };
    let path = FOLDER.get_or_init(Folder::new).file(name, table);
    let split = if kind & 2 == 0 { Split::All } else { Split::Test };
    let Ok(DataSet { examples, targets, .. }) = map.read(&path, split) else { return };
    examples.iter().for_each(|example| check(example, targets.len()));
}

fn check(example: &Example, targets: usize) {
    let has = |session: usize, message: usize| {
        example.history.sessions.get(session).is_some_and(|session| message < session.messages.len())
    };
    for label in &example.labels {
        assert!(label.target < targets);
        assert!(label.at.is_none_or(|at| has(at.session, at.message)));
        assert!(!matches!(label.truth, Truth::Number(number) if !number.is_finite()), "{label:?}");
    }
    assert!(example.arcs.iter().flatten().flatten().all(|at| has(at.session, at.message)));
}

/// Scores that were written down: figures of a simulation are numbers.
pub fn scores(data: &[u8]) {
    static FOLDER: OnceLock<Folder> = OnceLock::new();
    let path = FOLDER.get_or_init(Folder::new).file("scores.jsonl", data);
    if let Ok(scores) = scores_file(&path) {
        assert!(scores.by_id.values().flatten().all(|score| score.is_finite()));
    }
    let policy = Policy::default();
    let mut simulation = Simulation::new(&policy);
    if each_user(&path, &mut |user| simulation.see(user)).is_err() {
        return;
    }
    let outcome = simulation.outcome();
    assert_eq!(outcome.levels.iter().map(|at| at.share.users).sum::<u64>(), outcome.users);
    let shares = outcome.levels.iter().map(|at| at.share).chain([outcome.called]);
    let figures = shares.map(|share| share.per_thousand).flat_map(|figure| [figure.value, figure.low, figure.high]);
    assert!(figures.flatten().all(|figure| (0.0..=1_000.0).contains(&figure)), "{outcome:?}");
}
