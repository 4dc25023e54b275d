//! Putting a copy back in place.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};

use super::database::{Database, values};
use super::sqlite::{Sqlite, cannot_open, make_private, put_in_place, with_ending};
use super::{FILE, MasterKey, Store, StoreError};

/// What a copy is called until it is known to be whole.
const UNPROVEN: &str = "throughline.sqlite.restoring";

impl Store {
    /// Puts a copy that [`Store::back_up`] wrote into a folder that has no database, after everything in it was read and opened with the
    /// key: until then nothing in the folder is a database. The caller sees to it that no server has the folder.
    ///
    /// The next alarm has a number above every one of the copy and above `now` in milliseconds since 1970. What the original gave after the
    /// copy was written is not known any more: were it given again, whoever goes on after the last alarm that they saw, or drops what they
    /// have by its number, would miss an alarm. A run that began at 1, or at an earlier restore, has not come so far unless it raised more
    /// than a thousand alarms a second, or the clock was set back.
    ///
    /// # Errors
    /// When the folder has a database, the copy is damaged or of another key, or something cannot be read or written.
    pub fn restore(copy: &Path, folder: &Path, key: &MasterKey, now: Timestamp) -> Result<Self, StoreError> {
        let (file, unproven) = (folder.join(FILE), folder.join(UNPROVEN));
        refuse_what_is_there(copy, &file)?;
        let proven = prove(copy, &unproven, (key, now))
            .and_then(|()| put_in_place(&unproven, &file).map_err(|cause| cannot_open(&file, &cause)));
        // What did not prove whole is not left behind.
        beside(&unproven).iter().chain([&unproven]).for_each(|file| drop(fs::remove_file(file)));
        proven?;
        Self::open(folder, key)
    }
}

fn refuse_what_is_there(copy: &Path, file: &Path) -> Result<(), StoreError> {
    if let Some(there) = beside(file).into_iter().chain([file.to_owned()]).find(|there| there.exists()) {
        let told = format!(
            "{} is there; hint: restore into a folder without a database, or move this one away first",
            there.display()
        );
        return Err(StoreError::Refused(told));
    }
    if let Some(there) = beside(copy).into_iter().find(|there| there.exists()) {
        let told = format!(
            "{} lies beside the copy: this is a database in use, or a part of one; hint: `throughline store backup` writes whole copies",
            there.display()
        );
        return Err(StoreError::Refused(told));
    }
    Ok(())
}

/// Copies it to that name, reads and opens everything there, and lets new alarms have new numbers.
fn prove(copy: &Path, unproven: &Path, (key, now): (&MasterKey, Timestamp)) -> Result<(), StoreError> {
    let cannot = |cause: io::Error| {
        StoreError::Refused(format!(
            "cannot read {}: {cause}; hint: check the path and the permissions",
            copy.display()
        ))
    };
    beside(unproven).iter().chain([&unproven.to_owned()]).for_each(|file| drop(fs::remove_file(file)));
    make_private(unproven);
    let mut to = OpenOptions::new().write(true).open(unproven).map_err(|cause| cannot_open(unproven, &cause))?;
    io::copy(&mut File::open(copy).map_err(cannot)?, &mut to).map_err(|cause| match cause.kind() {
        io::ErrorKind::StorageFull => StoreError::Full,
        _ => cannot(cause),
    })?;
    drop(to);
    // Opened as a store it would be made one: an empty file is no copy of anything.
    let begun: i64 = Connection::open_with_flags(unproven, OpenFlags::SQLITE_OPEN_READ_ONLY)?.query_row(
        "SELECT COUNT(*) FROM sqlite_schema WHERE name = 'meta'",
        [],
        |row| row.get(0),
    )?;
    if begun == 0 {
        let told = format!("{} is no database of throughline's; hint: is it the right file?", copy.display());
        return Err(StoreError::Refused(told));
    }
    let store =
        Store::of(Database::Sqlite(Box::new(Sqlite::open(unproven.to_owned())?)), key).map_err(
            |error| match error {
                StoreError::OtherKey { .. } => StoreError::OtherKey { place: copy.display().to_string() },
                other => other,
            },
        )?;
    if let Some(found) = store.check_whole()? {
        return Err(StoreError::Damaged(found));
    }
    number_alarms_after(&store, now.as_millisecond())?;
    match store.database {
        Database::Sqlite(sqlite) => sqlite.close()?,
        #[cfg(feature = "postgres")]
        Database::Postgres(_) => {}
    }
    // Closing writes the log of writes back and removes it, and says nothing where it cannot: the file alone would be the copy as it was.
    match beside(unproven).iter().find(|left| left.exists()) {
        Some(left) => Err(cannot_open(left, &"what was written to it cannot be written back")),
        None => Ok(()),
    }
}

/// The next alarm has a number above this one, and above all that were given there.
fn number_alarms_after(store: &Store, number: i64) -> Result<(), StoreError> {
    store.database.write(|on| {
        // The highest number that a table with AUTOINCREMENT ever gave (sqlite.org/autoinc.html); it has no row before the first.
        let raise = "UPDATE sqlite_sequence SET seq = MAX(seq, ?1) WHERE name = 'alarms'";
        if on.execute(raise, values![number])? == 0 {
            on.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('alarms', ?1)", values![number])?;
        }
        Ok(())
    })
}

/// What SQLite keeps beside a file while it is in use.
fn beside(file: &Path) -> [PathBuf; 3] {
    ["-wal", "-shm", "-journal"].map(|ending| with_ending(file, ending))
}
