//! `throughline serve`, `token`.

use std::io::{Write, stderr, stdout};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use data_encoding::HEXLOWER;
use throughline::engine::{ModelInfo, load_with};
use throughline::scorer::ScorerSettings;
use throughline::server::{
    Access, App, DeskSettings, HoldBack, ProxySettings, ServerSettings, TlsSettings, Token, UpstreamSettings, digest,
};
use throughline::store::{MasterKey, Retention};
use throughline::window::WindowSpec;
use tokio::net::TcpListener;
use tokio::signal;

use super::args::{ProxyArgs, ServeArgs, TokenArgs};
use super::limits::{read_small, use_threads};
use super::model::ReadAs;
use super::store::open_to_serve;
use super::{EXIT_CLEAN, EXIT_ERROR, log, memory, model, policy};

/// The key of the proxy's upstream.
const UPSTREAM_KEY_VARIABLE: &str = "THROUGHLINE_UPSTREAM_KEY";

pub fn run(args: ServeArgs) -> anyhow::Result<u8> {
    use_threads(args.compute.threads)?;
    let _traces = log::begin(args.log, args.otlp.as_deref())?;
    log::tell_panics_by_place();
    ensure!(
        args.tokens.is_some() || args.bind.ip().is_loopback(),
        "--bind {} reaches beyond this machine, and there are no tokens; hint: throughline token NAME --scope ingest >> tokens.toml, \
         and --tokens tokens.toml",
        args.bind
    );
    let access = Access::new(args.tokens.clone())?;
    if args.tls_certificate.is_none() && !args.bind.ip().is_loopback() {
        tracing::warn!(bind = %args.bind, "tokens and chats go over the network as they are; hint: --tls-certificate, or a proxy that speaks TLS");
    }
    let policy = policy::load_for_heads(args.policy.as_deref())?;
    let settings = args.compute.load_settings();
    let loaded = load_with(&model::source(&args.model)?, &settings)?;
    let scoring =
        ScorerSettings { window: args.window_tokens.map(WindowSpec::with_tokens), policy: policy.policy.clone() };
    let name = loaded.info.name.clone();
    let (scorer, _) = model::scorer(loaded, scoring, ReadAs { guard: None, categories: None })?;
    ensure!(
        scorer.live().is_ok(),
        "{name} says its verdict in words; hint: the sidecar needs a model with message heads, such as the embedded one"
    );
    let info = scorer.model().info.clone();
    let cache_bytes_max = cache_bytes_max(&args, &info);
    // Whatever may be refused is refused before anything is written.
    let prepared = server_settings(&args, cache_bytes_max)?.prepare()?;
    let listener = listen(args.bind)?;
    let (store, _alone) = open_to_serve(&args.store)?;
    tracing::info!(
        model = info.name,
        version = info.version.unwrap_or_default(),
        sha256 = &info.sha256[..12],
        device = info.device,
        policy = policy.policy.name,
        policy_sha256 = &policy.sha256[..12],
        database = store.place(),
        cache_mib_max = cache_bytes_max >> 20,
        "ready to serve"
    );
    let app = App::start(scorer, store, access, prepared)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        let at = listener.local_addr()?;
        let scheme = if args.tls_certificate.is_some() { "https" } else { "http" };
        writeln!(stderr(), "listening on {scheme}://{at} (Ctrl-C stops)")?;
        app.serve(listener, stopped()).await?;
        tracing::info!("stopped");
        Ok(EXIT_CLEAN)
    })
}

/// The port, whose callers wait until they are served.
fn listen(bind: SocketAddr) -> anyhow::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(bind)
        .with_context(|| format!("cannot listen on {bind}; hint: is another server there? --bind names another"))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Bytes of keys and values that this model may hold here. How much memory a GPU has is not known.
pub fn cache_bytes_max(args: &ServeArgs, model: &ModelInfo) -> usize {
    let usable = model.kernel.and_then(|_| memory::usable_bytes());
    args.cache_mib_max.map_or_else(|| memory::for_caches(usable), |asked| (asked as usize) << 20)
}

pub fn server_settings(args: &ServeArgs, cache_bytes_max: usize) -> anyhow::Result<ServerSettings> {
    Ok(ServerSettings {
        desk: DeskSettings {
            queue_tokens_max: args.queue_tokens_max as usize,
            batch_tokens_max: args.batch_tokens_max as usize,
            cache_bytes_max,
            users_max: args.users_max as usize,
            history_messages_max: args.history_messages_max.into(),
            keep_content: !args.no_content,
        },
        policy: args.policy.clone(),
        pseudonymous_users: args.pseudonymous_users,
        pseudonymous_targets: args.pseudonymous_targets,
        body_bytes_max: args.body_bytes_max as usize,
        turn_bytes_max: args.turn_bytes_max as usize,
        retention: Retention { content_days: args.retain_content_days, days: args.retain_days },
        deadline: Duration::from_millis(args.deadline_ms),
        drain: Duration::from_secs(args.drain_seconds.into()),
        tls: args.tls_certificate.clone().zip(args.tls_key.clone()).map(tls_settings),
        webhooks: args.webhooks.clone(),
        proxy: args.proxy.upstream.clone().map(|url| proxy_settings(url, &args.proxy)).transpose()?,
    })
}

fn tls_settings((certificate, key): (PathBuf, PathBuf)) -> TlsSettings {
    TlsSettings { certificate, key }
}

fn proxy_settings(base_url: String, args: &ProxyArgs) -> anyhow::Result<(UpstreamSettings, ProxySettings)> {
    let key = match (std::env::var(UPSTREAM_KEY_VARIABLE), &args.upstream_key_file) {
        (Ok(key), _) => Some(key),
        (Err(_), Some(file)) => {
            Some(read_small(file).with_context(|| format!("the upstream's key {}", file.display()))?)
        }
        (Err(_), None) => None,
    };
    let upstream = UpstreamSettings {
        base_url,
        key: key.map(|key| key.trim().to_owned()),
        patience: Duration::from_secs(args.upstream_seconds.into()),
    };
    let hold = HoldBack { bytes: args.hold_back.0, time: Duration::from_millis(args.hold_back_ms.into()) };
    let reply_bytes_max = args.reply_bytes_max as usize;
    Ok((upstream, ProxySettings { block_at: args.block_at, hold, reply_bytes_max }))
}

/// Until SIGTERM or Ctrl-C.
async fn stopped() {
    let interrupt = async {
        if signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    {
        match signal::unix::signal(signal::unix::SignalKind::terminate()) {
            Ok(mut terminate) => {
                tokio::select! { () = interrupt => {}, _ = terminate.recv() => {} }
                // Whoever asks again does not want to wait.
                tokio::spawn(async move {
                    tokio::select! { _ = signal::ctrl_c() => {}, _ = terminate.recv() => {} }
                    std::process::exit(EXIT_ERROR.into());
                });
            }
            Err(_) => interrupt.await,
        }
    }
    #[cfg(not(unix))]
    interrupt.await;
}

pub fn token(args: TokenArgs) -> anyhow::Result<u8> {
    let token = format!("tl_{}", *MasterKey::random()?.to_hex());
    let sha256 = HEXLOWER.encode(&digest(&token));
    let entry = toml::to_string(&Token {
        name: args.name,
        sha256,
        scopes: args.scopes,
        requests_per_minute: args.requests_per_minute,
    })?;
    writeln!(stdout(), "[[tokens]]\n{entry}")?;
    writeln!(stderr(), "{token}")?;
    Ok(EXIT_CLEAN)
}
