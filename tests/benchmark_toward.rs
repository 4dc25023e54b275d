//! Who is who in labelled histories: how it is read, what is refused, and the figures.

#![cfg(feature = "benchmark")]

use std::fs;
use std::path::PathBuf;

use throughline::arc::MessageAt;
use throughline::benchmark::data::toward::{GoldMention, OpenedToward, open_toward};
use throughline::benchmark::data::{DataSet, Split, open};
use throughline::benchmark::evaluate::judge_toward;
use throughline::benchmark::metrics::bootstrap::Draws;

const AUTHOR: &str = "\
=== ada-01 | kind=mundane | style=short
--- 2026-03-01T20:11
U h0 d0: My landlady kept the deposit. Her name is Ottoline Marsh.
A s0: I see.
U h0 d0: She lied. My sister\\nheard it, my sister did, and a man.
--- 2026-03-04T23:40
U h0 d0: Ottoline was out. I like soup.
";
const PEOPLE: &str = "\
# targets of ada
=== ada-01
p1 target | Ottoline Marsh, landlady
p2 | the user's sister
p3 | a man
1.1 @p1 p1=\"My landlady\" p1=\"Ottoline Marsh\"
1.3 @p1 p2=\"My sister\\nheard\" p2=\"my sister\" p3=\"a man\"
2.1 @p1 p1=\"Ottoline\"
";

/// A folder with one author and her people, and the set.
fn data(people: &str) -> (tempfile::TempDir, DataSet, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ada.txt");
    fs::write(&file, AUTHOR).unwrap();
    let targets = folder.path().join("targets");
    fs::create_dir(&targets).unwrap();
    fs::write(targets.join("ada.txt"), people).unwrap();
    let set = open(&[file], Split::All, None).unwrap().sets.remove(0);
    (folder, set, targets)
}

fn read(people: &str) -> Result<OpenedToward, String> {
    let (_folder, set, targets) = data(people);
    open_toward(&targets, &set).map_err(|error| error.to_string())
}

#[test]
fn people_are_read_with_their_places() {
    let opened = read(PEOPLE).unwrap();
    let toward = opened.of[0].as_ref().unwrap();
    assert_eq!(toward.targets, [true, false, false]);
    let at = MessageAt { session: 0, message: 2 };
    let sister: Vec<&GoldMention> = toward.mentions.iter().filter(|mention| mention.person == 1).collect();
    assert_eq!(
        sister,
        [&GoldMention { at, start: 10, end: 25, person: 1 }, &GoldMention { at, start: 30, end: 39, person: 1 }]
    );
    assert_eq!(toward.about.len(), 3);
}

#[test]
fn what_does_not_stand_there_is_refused_with_its_place() {
    for (good, bad, needed) in [
        ("p2=\"my sister\"", "p2=\"my brother\"", "ada.txt:7: words that do not stand in the message"),
        ("p3=\"a man\"", "p4=\"a man\"", "ada.txt:7: a person who is not listed"),
        ("1.3 ", "1.2 ", "ada.txt:7: no message of the user"),
        ("1.3 ", "0.3 ", "ada.txt:7: no message of the user"),
        ("=== ada-01", "=== ada-09", "ada.txt:2: no such history"),
        ("p3 | a man", "p2 | a man", "ada.txt:5: no person, or one that stands twice"),
        ("=== ada-01\n", "", "ada.txt:2: text before the first history"),
        ("2.1 @p1 p1=\"Ottoline\"", "2.1 @p1 p1=\"Ottoline", "ada.txt:8: words without an end"),
    ] {
        let people = PEOPLE.replacen(good, bad, 1);
        assert_ne!(people, PEOPLE);
        let error = read(&people).unwrap_err();
        assert!(error.contains(needed) && error.contains("hint"), "{error}");
        assert!(!error.contains("brother"), "{error}");
    }
}

#[test]
fn figures_are_what_they_are_by_hand() {
    let (_folder, set, targets) = data(PEOPLE);
    let report = judge_toward(&set, &open_toward(&targets, &set).unwrap(), Draws { samples: 10, seed: 1 });
    assert_eq!((report.histories, report.people, report.mentions, report.about), (1, 3, 6, 3));
    let figure = |system: &str, name: &str| {
        let one = report.systems.iter().find(|one| one.system == system).unwrap();
        one.figures.get(name).value.unwrap()
    };
    // Every rule that is needed here is one that `src/target` has.
    assert_eq!(figure("throughline", "b_cubed_f1"), 1.0);
    assert_eq!(figure("throughline", "about_f1"), 1.0);
    // Three mentions of three, two of two and one of one, each alone.
    assert_eq!(figure("every mention alone", "b_cubed_precision"), 1.0);
    assert_eq!(figure("every mention alone", "b_cubed_recall"), 3.0 / 6.0);
    assert!((figure("all of a history one person", "b_cubed_precision") - (9.0 + 4.0 + 1.0) / 36.0).abs() < 1e-12);
    assert_eq!(figure("all of a history one person", "b_cubed_recall"), 1.0);
    // "She lied" names nobody.
    assert_eq!(figure("the same words", "about_recall"), 2.0 / 3.0);
}

#[test]
fn a_folder_without_the_authors_is_refused() {
    let (_folder, set, targets) = data(PEOPLE);
    fs::rename(targets.join("ada.txt"), targets.join("bo.txt")).unwrap();
    assert!(open_toward(&targets, &set).unwrap_err().to_string().contains("no file of an author"));
}
