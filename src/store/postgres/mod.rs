//! PostgreSQL: a few connections to a database that several servers share.
//!
//! Every statement's values are bound and every wait has an end. A connection that broke is made again, less often the longer it
//! fails. A transaction that broke before its end was asked for never happened, and is done once more from the beginning. One that
//! broke after it may have happened: that is told ([`StoreError::Unsure`]), and nobody tries again on a guess.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tokio_postgres::Client;

use super::database::{Row, Statements, Value};
use super::schema::Form;
use super::{StoreError, schema};

mod connect;
mod values;

pub use connect::PostgresSettings;
use connect::Target;

/// Connections of one server.
const LINKS: usize = 4;
/// How long an answer may take while tables are brought to a new form.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(3_600);
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long nobody tries to connect after it failed: at first, and at most; it doubles between.
const BACKOFF: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];
/// The advisory lock of whoever raises an alarm.
const ALARMS_LOCK: i64 = i64::from_be_bytes(*b"tl alarm");

pub(in crate::store) struct Postgres {
    links: [Mutex<Option<Client>>; LINKS],
    next: AtomicUsize,
    target: Target,
    /// That the tables had.
    pub form: Form,
    down: Mutex<Option<Down>>,
    /// Taken out when this is dropped.
    runtime: Option<Runtime>,
}

/// A database that could not be reached.
struct Down {
    cause: String,
    since: Instant,
    pause: Duration,
}

impl Postgres {
    /// Connects, and brings the tables to the present form.
    pub fn connect(settings: &PostgresSettings) -> Result<Self, StoreError> {
        let mut postgres = Self::new(settings)?;
        let place = postgres.place().to_owned();
        postgres.form =
            postgres.transaction(Transaction { patience: MIGRATION_TIMEOUT, ..postgres.writes() }, |on| {
                on.execute("SET LOCAL statement_timeout = 0", &[])?;
                schema::migrate_postgres(on, &place)
            })?;
        Ok(postgres)
    }

    /// Connects, and leaves the tables as they are.
    pub fn connect_as_it_is(settings: &PostgresSettings) -> Result<Self, StoreError> {
        let mut postgres = Self::new(settings)?;
        postgres.form = postgres.read(|on| schema::form_of_postgres(on, postgres.place()))?;
        Ok(postgres)
    }

    /// Not connected yet.
    fn new(settings: &PostgresSettings) -> Result<Self, StoreError> {
        let target = Target::new(settings)?;
        let failed = |cause: std::io::Error| StoreError::Other(cause.to_string());
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("store").enable_all().build().map_err(failed)?;
        Ok(Self {
            links: Default::default(),
            next: AtomicUsize::new(0),
            target,
            form: Form::default(),
            down: Mutex::new(None),
            runtime: Some(runtime),
        })
    }

    pub fn place(&self) -> &str {
        &self.target.place
    }

    pub fn how_to_back_up(&self, to: &Path) -> String {
        format!(
            "PostgreSQL has a tool of its own for copies; hint: pg_dump --format=custom --schema={} --file='{}' '{}' \
             (it asks for the password, or reads PGPASSWORD or ~/.pgpass), and pg_restore puts one back",
            schema::SCHEMA,
            to.display(),
            self.place()
        )
    }

    pub fn read<T>(&self, work: impl FnMut(&mut dyn Statements) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        self.transaction(Transaction { begin, patience: self.target.patience, writes: false }, work)
    }

    pub fn write<T>(&self, work: impl FnMut(&mut dyn Statements) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.transaction(self.writes(), work)
    }

    /// Each statement sees what others wrote before it: whoever waits for a row's lock sees what its last holder wrote.
    fn writes(&self) -> Transaction {
        let begin = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
        Transaction { begin, patience: self.target.patience, writes: true }
    }

    fn transaction<T>(
        &self,
        kind: Transaction,
        mut work: impl FnMut(&mut dyn Statements) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut link = self.link();
        // A connection that broke while nobody used it shows only now.
        match self.attempt(&mut link, kind, &mut work) {
            Err(StoreError::Unreachable(_)) if !self.is_down() => self.attempt(&mut link, kind, &mut work),
            done => done,
        }
    }

    fn attempt<T>(
        &self,
        link: &mut Option<Client>,
        kind: Transaction,
        work: &mut impl FnMut(&mut dyn Statements) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        // It is put back when all went well: one that is dropped within a transaction, in a panic too, ends it.
        let client = match link.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => self.connected()?,
        };
        let mut on = OnPostgres { client: &client, postgres: self, patience: kind.patience };
        on.tell(kind.begin)?;
        match work(&mut on) {
            Ok(done) => {
                let ended = on.tell("COMMIT").map_err(unsure);
                if ended.is_ok() {
                    *link = Some(client);
                }
                // What was read was read, however it ended.
                if kind.writes { ended.map(|()| done) } else { Ok(done) }
            }
            Err(error) => {
                let healthy = !matches!(error, StoreError::Unreachable(_) | StoreError::Slow { .. });
                if healthy && on.tell("ROLLBACK").is_ok() {
                    *link = Some(client);
                }
                Err(error)
            }
        }
    }

    /// A connection that nobody uses, or the next that somebody is done with.
    fn link(&self) -> MutexGuard<'_, Option<Client>> {
        let free = self.links.iter().find_map(|link| match link.try_lock() {
            Ok(link) => Some(link),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        });
        free.unwrap_or_else(|| {
            let turn = self.next.fetch_add(1, Ordering::Relaxed) % LINKS;
            self.links[turn].lock().unwrap_or_else(PoisonError::into_inner)
        })
    }

    /// A new connection, unless it failed a moment ago: while the database is away, nobody waits for it.
    fn connected(&self) -> Result<Client, StoreError> {
        let mut down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(down) = &*down
            && down.since.elapsed() < down.pause
        {
            return Err(StoreError::Unreachable(down.cause.clone()));
        }
        let runtime = self.runtime()?;
        let made = match runtime.block_on(async { timeout(CONNECT_TIMEOUT, self.target.connect()).await }) {
            Ok(made) => made,
            Err(_) => Err(StoreError::Unreachable(format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()))),
        };
        *down = match &made {
            Err(error) => {
                let pause = down.as_ref().map_or(BACKOFF[0], |down| (down.pause * 2).min(BACKOFF[1]));
                let cause = match error {
                    StoreError::Unreachable(cause) => cause.clone(),
                    other => other.to_string(),
                };
                Some(Down { cause, since: Instant::now(), pause })
            }
            Ok(_) => None,
        };
        made
    }

    fn is_down(&self) -> bool {
        self.down.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn runtime(&self) -> Result<&Runtime, StoreError> {
        self.runtime.as_ref().ok_or_else(|| StoreError::Unreachable("the store is closed".into()))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Whoever drops the last of it may be a task, where waiting for threads is not allowed.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// How statements go together.
#[derive(Clone, Copy)]
struct Transaction {
    begin: &'static str,
    /// How long each answer may take.
    patience: Duration,
    writes: bool,
}

struct OnPostgres<'a> {
    client: &'a Client,
    postgres: &'a Postgres,
    patience: Duration,
}

impl OnPostgres<'_> {
    fn answer<T>(&self, asked: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, StoreError> {
        match self.postgres.runtime()?.block_on(async { timeout(self.patience, asked).await }) {
            Ok(answer) => answer.map_err(|error| self.postgres.target.told(&error)),
            Err(_) => Err(StoreError::Slow { seconds: self.patience.as_secs() }),
        }
    }

    fn tell(&self, command: &str) -> Result<(), StoreError> {
        self.answer(self.client.batch_execute(command))
    }
}

impl Statements for OnPostgres<'_> {
    fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>, StoreError> {
        // The types go with the statement: nothing is prepared, which costs one answer instead of three.
        let rows = self.answer(self.client.query_typed(&numbered(sql), &values::bound(values)))?;
        rows.iter().map(values::read).collect()
    }

    fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64, StoreError> {
        self.answer(self.client.execute_typed(&numbered(sql), &values::bound(values)))
    }

    fn locking(&self) -> &'static str {
        " FOR UPDATE"
    }

    /// Numbers are given before a transaction ends, and the one with the lower number might end later.
    fn alone_with_alarms(&mut self) -> Result<(), StoreError> {
        self.execute("SELECT pg_advisory_xact_lock(?1)", &[Value::Number(ALARMS_LOCK)]).map(|_| ())
    }
}

/// `?1` is `$1` here; no statement has another question mark.
fn numbered(sql: &str) -> String {
    sql.replace('?', "$")
}

/// An end that was asked for and not confirmed, unless the database itself says that nothing was kept.
fn unsure(error: StoreError) -> StoreError {
    match error {
        StoreError::Unreachable(_) | StoreError::Slow { .. } => StoreError::Unsure,
        refused => refused,
    }
}
