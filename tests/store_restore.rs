//! Alarms of a copy that was put back: no number is given again.

#![cfg(all(unix, feature = "store"))]

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use store_support::{alarm, key, message, now, turn};
use tempfile::TempDir;
use throughline::store::{NewTurn, Store};
use throughline::verdict::Level;

#[cfg(feature = "postgres")]
mod postgres_support;
mod store_support;

/// `now` in milliseconds.
const NOW_MS: i64 = 1_750_000_000_000;

/// Keeps a message of the user with an alarm: its number.
fn raise(store: &Store, user: &str) -> i64 {
    let messages = [message(0, 0, "one")];
    store.keep(&NewTurn { alarm: alarm(Level::Review), ..turn(store, user, &messages) }).unwrap().1.unwrap()
}

fn copy(store: &Store, folder: &TempDir, name: &str) -> PathBuf {
    let copy = folder.path().join(name);
    store.back_up(&copy).unwrap();
    copy
}

fn restore(copy: &Path, now: Timestamp) -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::restore(copy, folder.path(), &key(1), now).unwrap();
    (folder, store)
}

#[test]
fn a_number_is_not_given_again_after_a_copy_was_put_back() {
    let (folder, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::open(folder.path(), &key(1)).unwrap();
    let empty = copy(&store, &copies, "empty");
    assert_eq!([raise(&store, "ada"), raise(&store, "bo")], [1, 2]);
    let two = copy(&store, &copies, "two");
    assert_eq!(raise(&store, "lost"), 3);
    // What was there keeps its number, and opens.
    let (folder, store) = restore(&two, now());
    let numbers = |store: &Store, after| -> Vec<i64> {
        let list = store.alarms(after, false).unwrap();
        assert_eq!(list.unreadable, 0);
        list.alarms.iter().map(|alarm| alarm.id).collect()
    };
    assert_eq!(numbers(&store, 0), [1, 2]);
    drop(store);
    let store = Store::open(folder.path(), &key(1)).unwrap();
    assert_eq!(raise(&store, "cy"), NOW_MS + 1);
    assert_eq!(numbers(&store, 3), [NOW_MS + 1], "whoever saw the third sees this one");
    // The same copy again, five milliseconds later; and one from before the first alarm.
    let later = Timestamp::from_millisecond(NOW_MS + 5).unwrap();
    assert_eq!(raise(&restore(&two, later).1, "cy"), NOW_MS + 6);
    assert_eq!(raise(&restore(&empty, now()).1, "ada"), NOW_MS + 1);
}

#[test]
fn a_clock_that_was_set_back_takes_no_number_back() {
    let (folder, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::open(folder.path(), &key(1)).unwrap();
    raise(&store, "ada");
    let (_folder, store) = restore(&copy(&store, &copies, "one"), now());
    assert_eq!(raise(&store, "bo"), NOW_MS + 1);
    // Nor where the alarm of that number is gone.
    assert!(store.erase("bo").unwrap());
    let early = Timestamp::from_second(1).unwrap();
    assert_eq!(raise(&restore(&copy(&store, &copies, "two"), early).1, "cy"), NOW_MS + 2);
}
