//! What stands in files and is read again when they change, while the server goes on.

use std::fmt::Display;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// How often files are looked at for a change.
pub(super) const RELOAD_AFTER: Duration = Duration::from_secs(1);
/// The largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The text of a file of settings.
///
/// # Errors
/// When it cannot be read, is no text, or is longer than any such file.
pub(super) fn read_text(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("more than {FILE_BYTES_MAX} bytes, the limit")));
    }
    Ok(text)
}

/// A value that follows its files.
pub(super) struct Followed<T> {
    /// What it is, in the log.
    what: &'static str,
    files: Vec<PathBuf>,
    held: Mutex<Held<T>>,
}

struct Held<T> {
    value: T,
    changed: Vec<Option<Changed>>,
    looked: Instant,
    /// What was told of files that cannot be used: once, not with every look.
    told: Option<String>,
}

/// What a change of a file shows in: its times, its length, and which file it is.
type Changed = (SystemTime, u64, [i128; 2]);

impl<T: Clone> Followed<T> {
    /// # Errors
    /// When the value cannot be read.
    pub fn new<E>(what: &'static str, files: Vec<PathBuf>, read: impl FnOnce() -> Result<T, E>) -> Result<Self, E> {
        // Looked at before they are read: what changes in between is read again.
        let changed = files.iter().map(|file| changed(file)).collect();
        let held = Mutex::new(Held { value: read()?, changed, looked: Instant::now(), told: None });
        Ok(Self { what, files, held })
    }

    /// The value as the files have it: a change counts within a second. One that cannot be used is told to the log, and the value before
    /// it stays.
    pub fn current<E: Display>(&self, read: impl FnOnce(&T) -> Result<T, E>) -> T {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.files.is_empty() && held.looked.elapsed() >= RELOAD_AFTER {
            held.looked = Instant::now();
            let now: Vec<_> = self.files.iter().map(|file| changed(file)).collect();
            if now != held.changed {
                match read(&held.value) {
                    Ok(value) => {
                        (held.value, held.changed, held.told) = (value, now, None);
                        tracing::info!("{} changed and was read again", self.what);
                    }
                    // It may have been read while it was written, or not at all: it is looked at again.
                    Err(error) => {
                        let error = Some(error.to_string());
                        if held.told != error {
                            tracing::error!(error, "{} changed and cannot be used: it stays as it was", self.what);
                            held.told = error;
                        }
                    }
                }
            }
        }
        held.value.clone()
    }
}

fn changed(file: &Path) -> Option<Changed> {
    let found = std::fs::metadata(file).ok()?;
    Some((found.modified().ok()?, found.len(), identity(&found)))
}

/// Another file may have been put there with the length and the time of the one before it (`cp -p`, `mv`): it is another all the same.
#[cfg(unix)]
fn identity(found: &Metadata) -> [i128; 2] {
    use std::os::unix::fs::MetadataExt;
    const NANOS: i128 = 1_000_000_000;
    [i128::from(found.ino()), i128::from(found.ctime()) * NANOS + i128::from(found.ctime_nsec())]
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> [i128; 2] {
    [0; 2]
}
