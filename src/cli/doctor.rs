//! `throughline doctor`: whether `serve` would start, and what would bite later. Nothing that is made stays, and a database of an
//! older form stays as it is.

use std::fmt::Display;
use std::io::{Write, stdout};
use std::net::TcpListener;
use std::path::Path;
use std::time::Instant;

use throughline::engine::{Model, ModelInfo, load_with};
use throughline::scorer::ScorerSettings;
use throughline::server::{Access, UpstreamError};
use throughline::store::Store;
use throughline::transcript::{History, Message, Role, Session};
use throughline::window::WindowSpec;

use super::args::{ServeArgs, StoreAt};
use super::folder::try_folder;
use super::limits::use_threads;
use super::model::{self, ReadAs};
use super::serve::{cache_bytes_max, server_settings};
use super::{EXIT_CLEAN, EXIT_ERROR, memory, policy, store};

/// Messages that the model's speed is measured on, and words in each.
const MESSAGES: usize = 24;
const WORDS: usize = 40;
/// Tokens of a turn, about.
const TURN_TOKENS: f64 = 60.0;
/// Tokens of a window in use, about.
const WINDOW_TOKENS: usize = 1_000;

/// What was found.
#[derive(Default)]
struct Report {
    failed: usize,
}

impl Report {
    fn line(&mut self, sign: &str, what: &str, told: impl Display) -> anyhow::Result<()> {
        Ok(writeln!(stdout(), "{sign:4}  {what:9}  {told}")?)
    }

    /// It would start; or not, and why.
    fn found<T>(&mut self, what: &str, found: anyhow::Result<T>, told: impl FnOnce(T) -> String) -> anyhow::Result<()> {
        match found {
            Ok(found) => self.line("ok", what, told(found)),
            Err(error) => {
                self.failed += 1;
                self.line("FAIL", what, format!("{error:#}"))
            }
        }
    }

    /// It would start, but.
    fn note(&mut self, what: &str, told: &str) -> anyhow::Result<()> {
        self.line("note", what, told)
    }
}

pub fn run(args: &ServeArgs) -> anyhow::Result<u8> {
    use_threads(args.compute.threads)?;
    let mut report = Report::default();
    report.found("policy", policy::load_for_heads(args.policy.as_deref()), |loaded| {
        format!("{} {}, sha256 {}", loaded.policy.name, loaded.policy.version, &loaded.sha256[..12])
    })?;
    let mut model = None;
    report.found("model", speed(args), |(info, told)| {
        model = Some(info);
        told
    })?;
    // Without a model there is nothing to hold.
    let held_bytes_max = model.as_ref().map_or(0, |model| cache_bytes_max(args, model));
    if let Some(model) = &model {
        let (sign, told) = room(held_bytes_max, model.cache_token_bytes);
        report.line(sign, "memory", told)?;
    }
    kept(args, &mut report)?;
    callers(args, &mut report)?;
    report.found("port", TcpListener::bind(args.bind).map_err(anyhow::Error::from), |_| {
        format!("{} is free", args.bind)
    })?;
    settings((args, held_bytes_max), &mut report)?;
    Ok(if report.failed == 0 { EXIT_CLEAN } else { EXIT_ERROR })
}

/// Which model there is, how long it takes to be ready, and how fast it reads.
fn speed(args: &ServeArgs) -> anyhow::Result<(ModelInfo, String)> {
    let begun = Instant::now();
    let settings = args.compute.load_settings();
    let loaded: Model = load_with(&model::source(&args.model)?, &settings)?;
    let info = loaded.info.clone();
    let scoring = ScorerSettings {
        window: args.window_tokens.map(WindowSpec::with_tokens),
        policy: policy::load(args.policy.as_deref()).map(|loaded| loaded.policy).unwrap_or_default(),
    };
    let (scorer, _) = model::scorer(loaded, scoring, ReadAs { guard: None, categories: None })?;
    scorer.live().map_err(|_| {
        anyhow::anyhow!("{} says its verdict in words; hint: the sidecar needs a model with message heads", info.name)
    })?;
    let ready = begun.elapsed();
    let begun = Instant::now();
    let score = scorer.score(&talk(), &mut |_| {})?;
    let rate = score.notes.tokens as f64 / begun.elapsed().as_secs_f64();
    let told = format!(
        "{} {}, sha256 {}, on {}: ready in {:.2} s, {rate:.0} tokens a second, some {:.0} turns of {TURN_TOKENS} tokens",
        info.name,
        info.version.as_deref().unwrap_or_default(),
        &info.sha256[..12],
        info.device,
        ready.as_secs_f64(),
        rate / TURN_TOKENS,
    );
    Ok((info, told))
}

/// How much is held of those who talk; a note where that is more than half of the memory.
fn room(bytes: usize, token_bytes: usize) -> (&'static str, String) {
    let (bytes, gb) = (bytes as u64, |bytes: u64| bytes as f64 / 1e9);
    let usable = memory::usable_bytes();
    let sign = if usable.is_some_and(|usable| bytes <= usable / 2) { "ok" } else { "note" };
    let of = usable.map_or_else(|| "a memory that cannot be seen".into(), |bytes| format!("{:.1} GB", gb(bytes)));
    let users = bytes / (WINDOW_TOKENS * token_bytes.max(1)) as u64;
    let told = format!(
        "keys and values may take {:.1} GB of {of} (--cache-mib-max): enough for at most {users} who talk at the same time, of {WINDOW_TOKENS} \
         tokens each",
        gb(bytes)
    );
    (sign, told)
}

/// Talk of nothing.
fn talk() -> History {
    let words = ["garden", "letter", "train", "river", "recipe", "bicycle", "coffee", "report", "market", "weekend"];
    let message = |number: usize| Message {
        role: if number.is_multiple_of(2) { Role::User } else { Role::Assistant },
        content: words.iter().cycle().skip(number).take(WORDS).copied().collect::<Vec<_>>().join(" "),
        timestamp: None,
    };
    let messages = (0..MESSAGES).map(message).collect();
    History { user_id: "doctor".into(), sessions: vec![Session { session_id: "1".into(), started_at: None, messages }] }
}

/// Certificate, webhooks, and whether the upstream answers: without that `serve` starts, and answers all but prompts.
fn settings((args, cache_bytes_max): (&ServeArgs, usize), report: &mut Report) -> anyhow::Result<()> {
    let mut upstream = None;
    report.found("settings", checked(args, cache_bytes_max), |asked| {
        upstream = asked;
        "certificate, webhooks and upstream, where there are any, can be used".into()
    })?;
    match upstream {
        None => Ok(()),
        Some(Ok(status @ (401 | 403))) => report.note(
            "upstream",
            &format!(
                "its list of models is answered with status {status}: there is no key, or none that it accepts; \
                 hint: --upstream-key-file or THROUGHLINE_UPSTREAM_KEY"
            ),
        ),
        Some(Ok(status)) => {
            report.line("ok", "upstream", format!("it answers, its list of models with status {status}"))
        }
        Some(Err(error)) => report.note("upstream", &format!("it does not answer, and prompts would fail: {error}")),
    }
}

/// With which status the upstream's list of models is answered, or why it is not.
fn checked(args: &ServeArgs, cache_bytes_max: usize) -> anyhow::Result<Option<Result<u16, UpstreamError>>> {
    let prepared = server_settings(args, cache_bytes_max)?.prepare()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(prepared.upstream_status()))
}

/// What is kept, and who may read it.
fn kept(args: &ServeArgs, report: &mut Report) -> anyhow::Result<()> {
    let at = &args.store;
    if at.database.is_none() {
        let had = try_folder(&at.folder);
        let is_had = had.is_ok();
        report
            .found("folder", had, |()| format!("{} is no other server's, and can be written", at.folder.display()))?;
        if !store::has_database(&at.folder) {
            return begun(at, is_had, report);
        }
    }
    let opened = store::open(at);
    match opened.as_ref().ok().and_then(store::older) {
        Some(older) => report.note("store", &older)?,
        None => report.found("store", opened.and_then(|store| well(&store)), |told| told)?,
    }
    if at.database.is_none() && at.key_file.is_none() && at.folder.join("key").exists() {
        report
            .note("key", "it lies beside the data: a copy of the folder is a copy of everything; hint: --key-file")?;
    }
    if others_may_read(&at.folder) {
        report.note("folder", &format!("others may read {}; hint: chmod 700", at.folder.display()))?;
    }
    Ok(())
}

/// Where there is no database yet: whether the key is one, if it is not made; in a folder that can be had, that they are made.
fn begun(at: &StoreAt, is_had: bool, report: &mut Report) -> anyhow::Result<()> {
    if !store::makes_key(at) {
        report.found("key", store::key(at), |_| "it is one".into())?;
    }
    if is_had {
        report.note("store", &format!("{} has no database: `serve` makes one", at.folder.display()))?;
    }
    Ok(())
}

/// That a store can be used, and how much there is.
fn well(store: &Store) -> anyhow::Result<String> {
    store.check_writable()?;
    let [users, messages, alarms] = store.counts()?;
    Ok(format!(
        "{}: its key fits, it can be written; users {users}, messages {messages}, alarms that wait {alarms} (`throughline store check` \
         goes through all of it)",
        store.place()
    ))
}

#[cfg(unix)]
fn others_may_read(folder: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(folder).is_ok_and(|found| found.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn others_may_read(_: &Path) -> bool {
    false
}

/// Who may ask.
fn callers(args: &ServeArgs, report: &mut Report) -> anyhow::Result<()> {
    match &args.tokens {
        Some(file) => {
            let access = Access::new(Some(file.clone())).map_err(anyhow::Error::from);
            report.found("tokens", access, |_| format!("{} is read", file.display()))?;
        }
        None if args.bind.ip().is_loopback() => {
            report.note("tokens", "none: everyone who reaches the port may do everything; hint: throughline token")?;
        }
        None => {
            let none = anyhow::anyhow!("none, and --bind {} reaches beyond this machine; hint: --tokens", args.bind);
            report.found("tokens", Err::<(), _>(none), |()| String::new())?;
        }
    }
    if args.tls_certificate.is_none() && !args.bind.ip().is_loopback() {
        report.note("tls", "none: tokens and chats go over the network as they are; hint: --tls-certificate")?;
    }
    Ok(())
}
