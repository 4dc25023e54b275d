//! `throughline store …`, and how what `serve` keeps is opened.

use std::io::{Write, stdout};
use std::path::Path;

use anyhow::{Context, ensure};
use jiff::Timestamp;
use throughline::store::{Form, MasterKey, Store};

use super::args::{StoreArgs, StoreAt, StoreCommand};
use super::folder::{Alone, cannot_make, write_private};
use super::limits::read_small;
use super::{EXIT_CLEAN, EXIT_ERROR};

/// The key, 64 hexadecimal digits.
const KEY_VARIABLE: &str = "THROUGHLINE_KEY";

pub fn run(args: StoreArgs) -> anyhow::Result<u8> {
    match args.command {
        StoreCommand::Check(at) => {
            let store = open(&at)?;
            if let Some(older) = older(&store) {
                writeln!(stdout(), "{older}")?;
                return Ok(EXIT_ERROR);
            }
            if let Some(found) = store.check_whole()? {
                writeln!(stdout(), "damaged: {found}; hint: keep a copy of the folder, and restore a backup")?;
                return Ok(EXIT_ERROR);
            }
            store.check_writable()?;
            let [users, messages, alarms] = store.counts()?;
            writeln!(stdout(), "{}: whole, its key fits, and it can be written", store.place())?;
            writeln!(stdout(), "users {users}, messages {messages}, alarms that wait {alarms}")?;
        }
        StoreCommand::Backup(args) => {
            let store = open(&args.store)?;
            let Form { found, known } = store.form();
            ensure!(found > 0, "{} has no tables yet; hint: `serve` makes them", store.place());
            store.back_up(&args.to)?;
            writeln!(stdout(), "{}: a whole copy; its key is that of {}", args.to.display(), store.place())?;
            if found < known {
                writeln!(stdout(), "it has the older form {found}, as the original does; this build's is {known}")?;
            }
        }
        StoreCommand::Restore(args) => {
            let at = &args.store;
            ensure!(
                at.database.is_none(),
                "a copy of PostgreSQL is put back by its own pg_restore; hint: leave --database out for a copy of SQLite"
            );
            let key = key(at)?;
            // What is refused leaves neither folder nor lock behind.
            let mut alone = Alone::take(&at.folder)?;
            let store = Store::restore(&args.from, &at.folder, &key, Timestamp::now())?;
            alone.stay();
            let [users, messages, alarms] = store.counts()?;
            writeln!(stdout(), "{}: restored, whole, and its key fits", store.place())?;
            writeln!(stdout(), "users {users}, messages {messages}, alarms that wait {alarms}")?;
            writeln!(stdout(), "new alarms have numbers that none had before the copy was put back")?;
        }
    }
    Ok(EXIT_CLEAN)
}

/// Opens the store for a server, made where there is none and brought to this build's form, and the folder's lock, which is taken before
/// anything is changed. A database of several servers sees to it that they do not meet.
pub fn open_to_serve(at: &StoreAt) -> anyhow::Result<(Store, Option<Alone>)> {
    let (store, alone) = match &at.database {
        Some(url) => (connect(url, at, true)?, None),
        None => {
            let mut alone = Alone::take(&at.folder)?;
            let key = if makes_key(at) { make_key(&at.folder.join("key"))? } else { key(at)? };
            let store = Store::open(&at.folder, &key)?;
            alone.stay();
            (store, Some(alone))
        }
    };
    let form = store.form();
    if form.found > 0 && form.is_older() {
        tracing::info!(from = form.found, to = form.known, "the database was brought to this build's form");
    }
    Ok((store, alone))
}

/// Opens the store as it is, beside the server that may have it.
pub fn open(at: &StoreAt) -> anyhow::Result<Store> {
    if let Some(url) = &at.database {
        return connect(url, at, false);
    }
    let folder = &at.folder;
    ensure!(folder.is_dir(), "{} is no folder; hint: --folder names the one that `serve` was given", folder.display());
    Ok(Store::open_as_it_is(folder, &key(at)?)?)
}

/// What is told of a store of an older form, of which nothing else can be.
pub fn older(store: &Store) -> Option<String> {
    let (place, form) = (store.place(), store.form());
    match form.found {
        0 => Some(format!("{place} has no tables yet; hint: `serve` makes them")),
        found if form.is_older() => Some(format!(
            "{place}: older form {found}, this build's is {}; hint: `serve` brings it forward; make a backup first",
            form.known
        )),
        _ => None,
    }
}

#[cfg(feature = "postgres")]
fn connect(url: &str, at: &StoreAt, to_serve: bool) -> anyhow::Result<Store> {
    let ca_file = at.database_ca.clone();
    let settings = throughline::store::PostgresSettings { ca_file, ..throughline::store::PostgresSettings::new(url) };
    let key = key(at)?;
    Ok(if to_serve { Store::connect(&settings, &key)? } else { Store::connect_as_it_is(&settings, &key)? })
}

#[cfg(not(feature = "postgres"))]
fn connect(_: &str, _: &StoreAt, _: bool) -> anyhow::Result<Store> {
    anyhow::bail!("this build opens no connection to a database; hint: cargo build --release --features postgres")
}

/// Whether there is a database in the folder. Where the folder cannot be looked into, [`Alone::take`] tells.
pub fn has_database(folder: &Path) -> bool {
    folder.join("throughline.sqlite").exists()
}

/// Whether a server makes a key. That is for an empty folder alone: beside a database it would only hide that the right one is missing.
pub fn makes_key(at: &StoreAt) -> bool {
    let is_named = at.database.is_some() || at.key_file.is_some() || std::env::var(KEY_VARIABLE).is_ok();
    !is_named && !at.folder.join("key").exists() && !has_database(&at.folder)
}

fn make_key(file: &Path) -> anyhow::Result<MasterKey> {
    let key = MasterKey::random()?;
    write_private(file, &key.to_hex()).with_context(|| cannot_make(file))?;
    tracing::warn!(file = %file.display(), "a key was made beside the data: move it elsewhere and name it with --key-file");
    Ok(key)
}

/// The key that is there.
pub fn key(at: &StoreAt) -> anyhow::Result<MasterKey> {
    const FORM: &str = "hint: 64 hexadecimal digits, such as `openssl rand -hex 32` writes";
    if let Ok(text) = std::env::var(KEY_VARIABLE) {
        return MasterKey::from_hex(&text).with_context(|| format!("{KEY_VARIABLE} is no key; {FORM}"));
    }
    ensure!(
        at.database.is_none() || at.key_file.is_some(),
        "there is no key; hint: --key-file or {KEY_VARIABLE}, the same for every server of the database: `openssl rand -hex 32` makes one"
    );
    let file = at.key_file.clone().unwrap_or_else(|| at.folder.join("key"));
    let text =
        read_small(&file).with_context(|| format!("the key {}; hint: --key-file or {KEY_VARIABLE}", file.display()))?;
    MasterKey::from_hex(&text).with_context(|| format!("{} is no key; {FORM}", file.display()))
}
