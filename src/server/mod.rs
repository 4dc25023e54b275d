//! The sidecar: HTTP beside a chatbot. Every turn is judged before it is delivered, and kept before it is answered.
//!
//! ```text
//! routes (axum) → Access → Desk: Queue{tokens, priority, deadline} → one thread{Scorer, Live histories} → Store → answer
//! ```
//!
//! It listens, and opens no connection itself but to the upstream of its proxy and to webhooks, in builds with the feature `outbound`; traces are
//! exported by the binary. No text of a transcript reaches its log. Must not know files but the store and those that it follows (tokens,
//! policy, certificate, webhooks), nor how a score comes about.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{delete, get, post, put};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, broadcast, watch};
use tokio_rustls::TlsAcceptor;

use crate::scorer::Scorer;
use crate::store::{Retention, Store};

mod auth;
mod background;
mod desk;
mod followed;
mod front;
mod judging;
mod listen;
mod litellm;
mod metrics;
mod moderations;
mod openapi;
#[cfg(feature = "outbound")]
mod outbound;
mod problem;
mod proxy;
mod queue;
mod retain;
mod routes;
mod tls;
mod trace;
mod user;
mod webhooks;
mod wire;

pub use auth::{Access, Caller, Scope, Token, TokenError, check_token_name, digest};
use background::Background;
pub use desk::DeskSettings;
use desk::{ALARMS_BEHIND_MAX, Desk};
use judging::Judges;
use metrics::Metrics;
pub use openapi::openapi;
pub use problem::Problem;
pub use proxy::{HoldBack, ProxySettings, UpstreamError, UpstreamSettings};
use proxy::{Proxy, Upstream};
use routes::{alarms, users};
pub use tls::{TlsError, TlsSettings};
pub use webhooks::WebhookError;
use webhooks::Webhooks;

/// How long the desk may go on once callers have been answered, or have had their time: for what they left behind in it.
const DESK_PATIENCE: Duration = Duration::from_secs(10);

/// How requests are bounded.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    pub desk: DeskSettings,
    /// The policy's file, which is read again when it changes; without one, the default.
    pub policy: Option<PathBuf>,
    /// Whether users are kept and told under an HMAC of their ids.
    pub pseudonymous_users: bool,
    /// Whether people are numbers to those who ask toward whom a user's evidence is.
    pub pseudonymous_targets: bool,
    /// The longest body of a request, in bytes.
    pub body_bytes_max: usize,
    /// What is said in one turn or draft, in bytes.
    pub turn_bytes_max: usize,
    /// How long something is kept.
    pub retention: Retention,
    /// How long a caller waits who does not say (`X-Deadline-Ms`).
    pub deadline: Duration,
    /// How long a server that stops waits for those whom it still answers.
    pub drain: Duration,
    /// The certificate, where it answers over TLS.
    pub tls: Option<TlsSettings>,
    /// The file of where alarms are sent, which is read again when it changes.
    pub webhooks: Option<PathBuf>,
    /// Where replies come from, if it is a proxy.
    pub proxy: Option<(UpstreamSettings, ProxySettings)>,
}

/// Why a server cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the system gives no thread: {0}")]
    Thread(#[from] std::io::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    #[error("{0}")]
    Policy(String),
}

/// Settings that a server can be started with: whatever of them may fail was made. Nothing is started, and nothing was written.
pub struct Prepared {
    settings: ServerSettings,
    tls: Option<TlsAcceptor>,
    proxy: Option<Proxy>,
    webhooks: Option<Webhooks>,
}

impl ServerSettings {
    /// Makes what a server needs of them.
    ///
    /// # Errors
    /// When certificate, webhooks or upstream cannot be used.
    pub fn prepare(self) -> Result<Prepared, StartError> {
        let proxy = self.proxy.clone().map(|(upstream, settings)| -> Result<Proxy, UpstreamError> {
            Ok(Proxy::new(Upstream::new(&upstream)?, settings))
        });
        Ok(Prepared {
            tls: self.tls.as_ref().map(tls::acceptor).transpose()?,
            proxy: proxy.transpose()?,
            webhooks: self.webhooks.clone().map(Webhooks::new).transpose()?,
            settings: self,
        })
    }
}

impl Prepared {
    /// With which status the upstream, where there is one, answers for the list of its models, or why it does not answer.
    pub async fn upstream_status(&self) -> Option<Result<u16, UpstreamError>> {
        match &self.proxy {
            Some(proxy) => Some(proxy.upstream.status().await),
            None => None,
        }
    }
}

/// One server's parts.
pub struct App {
    store: Arc<Store>,
    judges: Arc<Judges>,
    desk: Desk,
    access: Access,
    metrics: Arc<Metrics>,
    settings: ServerSettings,
    tls: Option<TlsAcceptor>,
    proxy: Option<Proxy>,
    /// Until it is served.
    webhooks: Mutex<Option<Webhooks>>,
    /// Who opens a whole history to look at it.
    opened: Semaphore,
    background: Background,
    alarms: broadcast::Sender<i64>,
    stopping: watch::Sender<bool>,
    /// Whether those who were still answered when it stopped have had their time.
    drained: watch::Sender<bool>,
}

impl App {
    /// Starts the thread that owns the model.
    ///
    /// # Errors
    /// When the system gives no thread, or the policy's file cannot be used.
    pub fn start(scorer: Scorer, store: Store, access: Access, prepared: Prepared) -> Result<Arc<Self>, StartError> {
        let Prepared { settings, tls, proxy, webhooks } = prepared;
        let judges = Judges::new(settings.policy.clone(), &scorer.model().info).map_err(StartError::Policy)?;
        let (judges, store, metrics) = (Arc::new(judges), Arc::new(store), Arc::new(Metrics::default()));
        let (alarms, _) = broadcast::channel(ALARMS_BEHIND_MAX);
        let counted = (metrics.clone(), alarms.clone());
        let desk = Desk::start((scorer, judges.clone()), store.clone(), settings.desk.clone(), counted)?;
        let ((stopping, _), (drained, _)) = (watch::channel(false), watch::channel(false));
        let background = Background::new();
        Ok(Arc::new(Self {
            store,
            judges,
            desk,
            access,
            metrics,
            settings,
            tls,
            proxy,
            webhooks: Mutex::new(webhooks),
            opened: Semaphore::new(1),
            background,
            alarms,
            stopping,
            drained,
        }))
    }

    /// Answers until `stop` is done; then takes in nothing more, and answers what was taken in, for as long as is set.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        let app = self.clone();
        let stopped = async move {
            stop.await;
            // Streams of alarms end now: nobody else would end them.
            app.stopping.send_replace(true);
        };
        tokio::spawn(self.clone().retain());
        if let Some(webhooks) = self.webhooks.lock().unwrap_or_else(PoisonError::into_inner).take() {
            self.background.spawn(webhooks.run(self.clone()));
        }
        listen::serve((listener, self.tls.clone()), self.clone().router(), stopped, self.settings.drain).await?;
        // What was seen of a reply that has not ended is kept now.
        self.drained.send_replace(true);
        self.background.done(self.settings.drain).await;
        let app = self.clone();
        let ended = tokio::task::spawn_blocking(move || app.desk.stop(DESK_PATIENCE)).await;
        if !ended.unwrap_or_default() {
            tracing::warn!(
                "something long is still being read, for callers who are answered or gone: it is left, and not kept"
            );
        }
        let unkept = self.proxy.as_ref().map_or(0, Proxy::unkept_conversations);
        if unkept > 0 {
            tracing::error!(conversations = unkept, "what was said there could not be kept until now, and may be lost");
        }
        Ok(())
    }

    fn router(self: Arc<Self>) -> Router {
        let scoped = |scope: Scope, routes: Router<Arc<Self>>| {
            routes.route_layer(axum::middleware::from_fn_with_state((self.clone(), scope), front::scoped))
        };
        let ingest = Router::new()
            .route("/v1/turns", post(routes::turn))
            .route("/v1/check", post(routes::check))
            .route("/v1/score", post(routes::score))
            .route("/v1/moderations", post(moderations::moderations))
            .route("/v1/chat/completions", post(proxy::completions))
            .route("/beta/litellm_basic_guardrail_api", post(litellm::guardrail));
        let read = Router::new()
            .route("/v1/users/{user_id}", get(users::stands))
            .route("/v1/alarms", get(alarms::list))
            .route("/v1/alarms/stream", get(alarms::stream))
            .route("/metrics", get(routes::metrics));
        let review = Router::new()
            .route("/v1/users/{user_id}/messages", get(users::messages))
            .route("/v1/users/{user_id}/targets", get(users::targets))
            .route("/v1/users/{user_id}/acknowledge", post(users::acknowledge));
        let admin = Router::new()
            .route("/v1/users/{user_id}", delete(users::erase))
            .route("/v1/users/{user_id}/hold", put(users::hold));
        Router::new()
            .merge(scoped(Scope::Ingest, ingest))
            .merge(scoped(Scope::Read, read))
            .merge(scoped(Scope::Review, review))
            .merge(scoped(Scope::Admin, admin))
            .route("/healthz", get(routes::healthy))
            .route("/readyz", get(routes::ready))
            .route("/openapi.json", get(routes::description))
            .fallback(routes::nowhere)
            .method_not_allowed_fallback(routes::not_so)
            .layer(DefaultBodyLimit::max(self.settings.body_bytes_max))
            .layer(axum::middleware::from_fn_with_state(self.clone(), front::around))
            .with_state(self)
    }

    /// Reads or writes the store away from the threads that answer.
    async fn store<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Store) -> Result<T, crate::store::StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        let store = self.store.clone();
        let done = tokio::task::spawn_blocking(move || work(&store)).await.map_err(|_| Problem::broken())?;
        done.map_err(Problem::of_store)
    }
}

/// Alarms that were read and not yet sent.
type Waiting = VecDeque<crate::store::Alarm>;
