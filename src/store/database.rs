//! Where rows lie: in SQLite, or in PostgreSQL. Everything above says SQL that both read, with every value bound, and differs only where
//! [`Statements`] says so.

use std::path::Path;

use super::StoreError;
#[cfg(feature = "postgres")]
use super::postgres::Postgres;
use super::schema::Form;
use super::sqlite::Sqlite;

/// A value of a row, or one bound to a statement.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Number(i64),
    Text(String),
    Bytes(Vec<u8>),
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<[u8; 32]> for Value {
    fn from(bytes: [u8; 32]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

impl<T> From<Option<T>> for Value
where
    Value: From<T>,
{
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Self::from)
    }
}

/// What is bound to `?1`, `?2` and so on.
macro_rules! values {
    ($($value:expr),* $(,)?) => { &[$($crate::store::database::Value::from($value)),*] };
}
pub(super) use values;

/// A row that was read; its columns from 0.
#[derive(Debug)]
pub(super) struct Row(pub Vec<Value>);

impl Row {
    pub fn number(&self, column: usize) -> Result<i64, StoreError> {
        self.maybe_number(column)?.ok_or_else(|| other_kind(column))
    }

    pub fn maybe_number(&self, column: usize) -> Result<Option<i64>, StoreError> {
        match self.0.get(column) {
            Some(Value::Number(number)) => Ok(Some(*number)),
            Some(Value::Null) => Ok(None),
            _ => Err(other_kind(column)),
        }
    }

    pub fn maybe_text(&self, column: usize) -> Result<Option<&str>, StoreError> {
        match self.0.get(column) {
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(Value::Null) => Ok(None),
            _ => Err(other_kind(column)),
        }
    }

    pub fn text(&self, column: usize) -> Result<&str, StoreError> {
        self.maybe_text(column)?.ok_or_else(|| other_kind(column))
    }

    /// Takes them out of the row.
    pub fn maybe_bytes(&mut self, column: usize) -> Result<Option<Vec<u8>>, StoreError> {
        match self.0.get_mut(column).map(|value| std::mem::replace(value, Value::Null)) {
            Some(Value::Bytes(bytes)) => Ok(Some(bytes)),
            Some(Value::Null) => Ok(None),
            _ => Err(other_kind(column)),
        }
    }

    pub fn bytes(&mut self, column: usize) -> Result<Vec<u8>, StoreError> {
        self.maybe_bytes(column)?.ok_or_else(|| other_kind(column))
    }
}

fn other_kind(column: usize) -> StoreError {
    StoreError::Damaged(format!("column {column} of a row has another kind of value than it should"))
}

/// Statements of one transaction.
pub(super) trait Statements {
    /// The rows that a statement gives.
    fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>, StoreError>;

    /// The number of rows that a statement changes.
    fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64, StoreError>;

    /// Stands at the end of a SELECT whose rows nobody else may change until the transaction is over.
    fn locking(&self) -> &'static str;

    /// Waits until nobody else raises an alarm, until the transaction is over: whoever reads alarms in the order of their numbers
    /// must never come past one that is not there yet.
    fn alone_with_alarms(&mut self) -> Result<(), StoreError>;

    /// The first row that a statement gives.
    fn first(&mut self, sql: &str, values: &[Value]) -> Result<Option<Row>, StoreError> {
        Ok(self.query(sql, values)?.into_iter().next())
    }
}

/// A database that was opened.
pub(super) enum Database {
    Sqlite(Box<Sqlite>),
    #[cfg(feature = "postgres")]
    Postgres(Box<Postgres>),
}

impl Database {
    /// Whether there is room for what comes next, where that can be known.
    pub fn check_room(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.check_room(),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => Ok(()),
        }
    }

    /// Reads what was there at one moment.
    pub fn read<T>(&self, work: impl FnMut(&mut dyn Statements) -> Result<T, StoreError>) -> Result<T, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.read(work),
            #[cfg(feature = "postgres")]
            Self::Postgres(postgres) => postgres.read(work),
        }
    }

    /// Writes all of it or nothing. What is done may be done again from the beginning, where nothing of it was kept.
    pub fn write<T>(&self, work: impl FnMut(&mut dyn Statements) -> Result<T, StoreError>) -> Result<T, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.write(work),
            #[cfg(feature = "postgres")]
            Self::Postgres(postgres) => postgres.write(work),
        }
    }

    /// Where it is, for people; no password.
    pub fn place(&self) -> String {
        match self {
            Self::Sqlite(sqlite) => sqlite.file().display().to_string(),
            #[cfg(feature = "postgres")]
            Self::Postgres(postgres) => postgres.place().to_owned(),
        }
    }

    /// The form of its tables.
    pub fn form(&self) -> Form {
        match self {
            Self::Sqlite(sqlite) => sqlite.form,
            #[cfg(feature = "postgres")]
            Self::Postgres(postgres) => postgres.form,
        }
    }

    /// Whether other servers may write to it.
    pub fn is_shared(&self) -> bool {
        !matches!(self, Self::Sqlite(_))
    }

    /// Sees to it that what was deleted is soon gone from the disk, too; PostgreSQL vacuums by itself.
    pub fn deleted(&self) {
        match self {
            Self::Sqlite(sqlite) => sqlite.deleted(),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => {}
        }
    }

    /// Whether nothing that was deleted lies in the log of writes any more.
    pub fn cut(&self) -> bool {
        match self {
            Self::Sqlite(sqlite) => sqlite.cut(),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => true,
        }
    }

    /// What is wrong with its pages, if anything. PostgreSQL's are checked by its own tools.
    pub fn broken(&self) -> Result<Option<String>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.broken(),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => Ok(None),
        }
    }

    pub fn back_up(&self, to: &Path) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.back_up(to),
            #[cfg(feature = "postgres")]
            Self::Postgres(postgres) => Err(StoreError::Refused(postgres.how_to_back_up(to))),
        }
    }
}
