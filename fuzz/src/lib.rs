//! The fuzz targets, to be run by `cargo fuzz`; README.md says what each covers and how.

use std::collections::HashSet;
use std::panic::Location;
use std::sync::{Mutex, PoisonError};

pub mod targets;

/// Before the first input of a target: it is run once, so that what it prepares, such as the embedded model, counts against none.
///
/// Takes the place of libFuzzer's own hook, which ends the process at a panic that the library would have caught. One that nobody
/// catches ends it all the same. Each place is told once, for those that are caught come again and again.
pub fn begin(target: &str) {
    let told: Mutex<HashSet<String>> = Mutex::default();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(Location::to_string).unwrap_or_default();
        if told.lock().unwrap_or_else(PoisonError::into_inner).insert(place) {
            eprintln!("{panic}");
        }
    }));
    targets::run(target, b"\n");
}
