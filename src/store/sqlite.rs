//! SQLite: a file in a folder, one connection; writes of one process never meet.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, ToSql, TransactionBehavior, params_from_iter};

use super::database::{Row, Statements, Value};
use super::schema::Form;
use super::{StoreError, schema};

/// How long a write waits for another process's.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// Statements that are kept prepared.
const PREPARED_MAX: usize = 64;
/// Bytes that are to be free on the disk: what the log of writes grows to before it is written back.
const ROOM_BYTES_MIN: u64 = 4 << 20;

/// Which file it is, whatever it is called: device and inode. `None` where nothing has the name, or the system tells no such numbers.
type Identity = (u64, u64);

pub(super) struct Sqlite {
    connection: Mutex<Connection>,
    file: PathBuf,
    /// That the database had.
    pub form: Form,
    /// Which file it was when it was opened, and its log of writes when it was first written to, whatever has their names now.
    identity: Option<Identity>,
    log: OnceLock<Option<Identity>>,
    /// Whether the log of writes still has pages of something that was deleted.
    uncut: AtomicBool,
}

impl Sqlite {
    /// Opens the database, makes it where there is none, and brings it to the present form.
    pub fn open(file: PathBuf) -> Result<Self, StoreError> {
        make_private(&file);
        let mut connection = connect(&file, OpenFlags::default(), schema::settings)?;
        let form = schema::migrate_sqlite(&mut connection, &file)?;
        Ok(Self::new(connection, file, form))
    }

    /// Opens a database that is there, and leaves it as it is.
    pub fn open_as_it_is(file: PathBuf) -> Result<Self, StoreError> {
        if !file.exists() {
            let told =
                format!("{} is not there; hint: `serve` makes it, in the folder that --folder names", file.display());
            return Err(StoreError::Refused(told));
        }
        let there = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = connect(&file, there, schema::connection_settings)?;
        let form = schema::form_of_sqlite(&connection, &file)?;
        Ok(Self::new(connection, file, form))
    }

    fn new(connection: Connection, file: PathBuf, form: Form) -> Self {
        let (identity, uncut) = (identity(&file), AtomicBool::new(false));
        Self { connection: Mutex::new(connection), file, form, identity, log: OnceLock::new(), uncut }
    }

    /// Within a transaction: whether what it writes is there tomorrow. The file and its log are still those that have their names.
    fn check_there(&self) -> Result<(), StoreError> {
        let log = identity(&with_ending(&self.file, "-wal"));
        if identity(&self.file) == self.identity && *self.log.get_or_init(|| log) == log {
            return Ok(());
        }
        Err(StoreError::Gone { place: self.file.display().to_string() })
    }

    /// Whether its disk has room for what comes next, the log of writes among it.
    pub fn check_room(&self) -> Result<(), StoreError> {
        match free_bytes(&self.file) {
            Some(free_bytes) if free_bytes < ROOM_BYTES_MIN => {
                Err(StoreError::LittleRoom { free_bytes, least_bytes: ROOM_BYTES_MIN })
            }
            _ => Ok(()),
        }
    }

    pub fn file(&self) -> &Path {
        &self.file
    }

    pub fn read<T>(&self, mut work: impl FnMut(&mut dyn Statements) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        work(&mut OnSqlite(&transaction))
    }

    pub fn write<T>(
        &self,
        mut work: impl FnMut(&mut dyn Statements) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = work(&mut OnSqlite(&transaction))?;
        self.check_there()?;
        transaction.commit()?;
        Ok(done)
    }

    /// Something was deleted: it lies in the log of writes yet.
    pub fn deleted(&self) {
        self.uncut.store(true, Ordering::Relaxed);
        self.cut();
    }

    /// Writes back and cuts the log of writes, if something that was deleted lies there; whether it is cut. While another process reads,
    /// it cannot be: the next turn tries again.
    pub fn cut(&self) -> bool {
        if !self.uncut.load(Ordering::Relaxed) {
            return true;
        }
        let connection = self.lock();
        let cut = || -> rusqlite::Result<bool> {
            connection.busy_timeout(Duration::ZERO)?;
            let busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
            connection.busy_timeout(LOCK_TIMEOUT)?;
            Ok(busy? == 0)
        };
        let done = cut().unwrap_or(false);
        self.uncut.store(!done, Ordering::Relaxed);
        done
    }

    /// What is wrong with its pages, if anything.
    pub fn broken(&self) -> Result<Option<String>, StoreError> {
        let told: String = self.lock().query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
        Ok((told != "ok").then_some(told))
    }

    /// Writes a whole copy to a new file, while others go on.
    pub fn back_up(&self, to: &Path) -> Result<(), StoreError> {
        if to.exists() {
            let told = format!("{} exists; hint: a backup is never written over", to.display());
            return Err(StoreError::Refused(told));
        }
        let partial = with_ending(to, ".partial");
        // One that an earlier run left would be refused; an empty file is written into.
        let _ = std::fs::remove_file(&partial);
        make_private(&partial);
        let written = self
            .write_into(&partial)
            .and_then(|()| put_in_place(&partial, to).map_err(|cause| cannot_open(to, &cause)));
        if written.is_err() {
            let _ = std::fs::remove_file(&partial);
        }
        written
    }

    fn write_into(&self, file: &Path) -> Result<(), StoreError> {
        // Under another name than was asked for, nobody would find it.
        let name = file.to_str().ok_or_else(|| {
            StoreError::Refused(format!("the name {} is no UTF-8; hint: another name", file.display()))
        })?;
        self.lock().execute("VACUUM INTO ?1", [name]).map_err(|cause| cannot_open(file, &cause))?;
        Ok(())
    }

    /// Ends it: everything is in the one file then.
    pub fn close(self) -> Result<(), StoreError> {
        let connection = self.connection.into_inner().unwrap_or_else(PoisonError::into_inner);
        connection.close().map_err(|(_, error)| error.into())
    }

    pub fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic within a transaction rolled it back: the connection is as good as before.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn connect(
    file: &Path,
    flags: OpenFlags,
    settings: fn(&Connection) -> rusqlite::Result<()>,
) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(file, flags).map_err(|cause| cannot_open(file, &cause))?;
    connection.busy_timeout(LOCK_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(PREPARED_MAX);
    settings(&connection).map_err(|error| match StoreError::from(error) {
        StoreError::Other(cause) => cannot_open(file, &cause),
        other => other,
    })?;
    Ok(connection)
}

struct OnSqlite<'a>(&'a Connection);

impl Statements for OnSqlite<'_> {
    fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>, StoreError> {
        let mut statement = self.0.prepare_cached(sql)?;
        let columns = statement.column_count();
        let mut rows = statement.query(params_from_iter(values))?;
        let mut read = Vec::new();
        while let Some(row) = rows.next()? {
            let value = |column| Ok(Value::from(row.get_ref(column)?));
            read.push(Row((0..columns).map(value).collect::<rusqlite::Result<_>>()?));
        }
        Ok(read)
    }

    fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64, StoreError> {
        Ok(self.0.prepare_cached(sql)?.execute(params_from_iter(values))? as u64)
    }

    /// Whoever writes has the whole database to themselves.
    fn locking(&self) -> &'static str {
        ""
    }

    fn alone_with_alarms(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Number(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

impl From<ValueRef<'_>> for Value {
    fn from(value: ValueRef) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(number) => Self::Number(number),
            ValueRef::Text(text) => Self::Text(String::from_utf8_lossy(text).into_owned()),
            ValueRef::Blob(bytes) => Self::Bytes(bytes.to_vec()),
            // No column is one: whoever reads it finds another kind than it should be.
            ValueRef::Real(number) => Self::Text(number.to_string()),
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let rusqlite::Error::SqliteFailure(failure, _) = &error else { return Self::Other(error.to_string()) };
        match failure.code {
            ErrorCode::DiskFull => Self::Full,
            ErrorCode::ReadOnly => Self::ReadOnly,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Self::Damaged(error.to_string()),
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Self::Busy { seconds: LOCK_TIMEOUT.as_secs() },
            _ => Self::Other(error.to_string()),
        }
    }
}

#[cfg(unix)]
fn identity(file: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(file).ok().map(|found| (found.dev(), found.ino()))
}

/// Elsewhere a file that is in use is not removed.
#[cfg(not(unix))]
fn identity(_: &Path) -> Option<Identity> {
    None
}

/// What this user may still write on the disk of a file, as far as the system tells.
#[cfg(unix)]
fn free_bytes(file: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(file).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(not(unix))]
fn free_bytes(_: &Path) -> Option<u64> {
    None
}

/// Makes an empty file that nobody else may read, unless there is one; the database's own files beside it take after it.
pub(super) fn make_private(file: &Path) {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // Where it cannot be made, opening it tells why.
    let _ = options.open(file);
}

/// Gives a file that is whole the name that it is to have, in the same folder; both are on the disk when this is done.
pub(super) fn put_in_place(file: &Path, name: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).open(file)?.sync_all()?;
    std::fs::rename(file, name)?;
    let folder = name.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Not every system lets folders be opened for it.
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    if cfg!(unix) { synced } else { Ok(()) }
}

/// The name with something behind it.
pub(super) fn with_ending(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

pub(super) fn cannot_open(place: &Path, cause: &dyn Display) -> StoreError {
    StoreError::Open { place: place.display().to_string(), cause: cause.to_string() }
}
