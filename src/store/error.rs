//! Why something could not be kept or read.

/// Why something could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot open {place}: {cause}; hint: {}", open_hint(place))]
    Open { place: String, cause: String },
    #[error(
        "{place} was written with another key; hint: give the key that it was begun with (--key-file or THROUGHLINE_KEY): without it nothing in it can be read"
    )]
    OtherKey { place: String },
    #[error("{place} has the form {found}, this build reads up to {known}; hint: use a newer build")]
    Newer { place: String, found: i64, known: i64 },
    #[error("the disk is full; hint: free some space: nothing that was acknowledged is lost")]
    Full,
    #[error(
        "{free_bytes} bytes are free on the database's disk, and {least_bytes} must be; hint: free some space: nothing that was acknowledged is lost"
    )]
    LittleRoom { free_bytes: u64, least_bytes: u64 },
    /// What is written into a file that has no name any more is lost when the process ends.
    #[error(
        "{place} was removed, or another put in its place, while it was in use; hint: stop the server, put the database or a backup back, and start it again: \
         until then nothing is kept"
    )]
    Gone { place: String },
    #[error(
        "the database cannot be written; hint: check the folder's permissions, that its disk is not mounted read-only, and that a PostgreSQL server is no standby"
    )]
    ReadOnly,
    #[error("the database is damaged ({0}); hint: stop, keep a copy of it, and restore a backup")]
    Damaged(String),
    #[error(
        "another process held what is to be written for {seconds} seconds; hint: try again; a folder has one server"
    )]
    Busy { seconds: u64 },
    #[error("the database cannot be reached ({0}); hint: try again; is it running, and is --database right?")]
    Unreachable(String),
    #[error("the database gave no answer within {seconds} seconds; hint: try again; what is it busy with?")]
    Slow { seconds: u64 },
    /// The connection broke after the end of a transaction was asked for, and before the answer came.
    #[error(
        "the database went away before it said whether this was kept; hint: send it again, a turn with the same idempotency key"
    )]
    Unsure,
    /// What the caller read is not what is kept any more: another process wrote.
    #[error("the history of this user went on meanwhile; hint: read it again")]
    WentOn,
    #[error("this user's history is under legal hold; hint: lift the hold first")]
    Held,
    #[error("a sealed value does not open; hint: the database was changed by hand, or is damaged")]
    Sealed,
    #[error("the system gives no random numbers")]
    Random,
    #[error("{0}")]
    Refused(String),
    #[error("the database failed: {0}")]
    Other(String),
}

fn open_hint(place: &str) -> &'static str {
    match place.contains("://") {
        true => "the database must exist, and the user may connect, and make or use the schema `throughline` in it",
        false => "the folder must exist and be writable by this user",
    }
}
