//! `throughline serve`, `token` and `store` as typed.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, Subcommand, ValueEnum};
use throughline::server::{Scope, check_token_name};

use super::ComputeArgs;
use super::proxy::ProxyArgs;

const SERVE_HELP: &str = "\
EXAMPLE
  throughline serve
  curl -s localhost:8787/v1/turns -H 'Content-Type: application/json' -d '{
    \"user_id\": \"ada\", \"session_id\": \"1\",
    \"messages\": [{\"role\": \"user\", \"content\": \"Good morning!\"}]}'

KEY
  What is kept is sealed under a key of 64 hexadecimal digits: THROUGHLINE_KEY,
  else the file of --key-file, else FOLDER/key, which is made at the first
  start. A key beside the data protects copies of the database alone, and no
  copy of the folder: keep it elsewhere. Without it nothing can be read again.
  With --database it is one of the first two, the same for every server.

ANSWERS
  GET /openapi.json describes them, schemas/openapi.json is a copy. SIGTERM
  and Ctrl-C let everything that was taken in be answered first.

EXIT CODES
  0  stopped as asked
  2  error
";

/// Answer over HTTP beside a chatbot: judge every turn before it is delivered, keep it, raise alarms
///
/// With nothing else said it listens on this machine alone, keeps users' histories in
/// ./throughline-data, and uses the embedded model. It opens no connection but to
/// --database, --upstream, --otlp and the addresses of --webhooks.
#[derive(Debug, Args)]
#[command(after_help = SERVE_HELP)]
pub struct ServeArgs {
    /// Where to listen; beyond this machine only with --tokens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8787", env = "THROUGHLINE_BIND")]
    pub bind: SocketAddr,

    #[command(flatten)]
    pub store: StoreAt,

    /// Who may ask: a TOML file of `throughline token`; read again when it changes
    #[arg(long, value_name = "FILE", env = "THROUGHLINE_TOKENS")]
    pub tokens: Option<PathBuf>,

    /// A certificate in PEM, with those between it and one that clients know: answers are given over TLS; read again when it changes
    #[arg(long, value_name = "FILE", env = "THROUGHLINE_TLS_CERTIFICATE", requires = "tls_key")]
    pub tls_certificate: Option<PathBuf>,

    /// The certificate's key, in PEM
    #[arg(long, value_name = "FILE", env = "THROUGHLINE_TLS_KEY", requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,

    /// `embedded`, a folder, a .gguf file, or ORG/NAME of a hub; a model with message heads
    #[arg(long, value_name = "MODEL", env = "THROUGHLINE_MODEL", default_value = "embedded")]
    pub model: String,

    /// What levels mean (TOML); read again when it changes [default: the built-in policy]
    #[arg(long, value_name = "FILE", env = "THROUGHLINE_POLICY")]
    pub policy: Option<PathBuf>,

    /// Keep scores and digests, not what was said: after a restart windows begin anew
    #[arg(long, value_name = "BOOL", env = "THROUGHLINE_NO_CONTENT", num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub no_content: bool,

    /// Keep and tell users under an HMAC of their ids: callers go on saying the ids; the database, alarms and webhooks have pseudonyms
    /// alone, which may be asked for as ids may. Users that are kept under their ids are not found under it
    #[arg(long, value_name = "BOOL", env = "THROUGHLINE_PSEUDONYMOUS_USERS", num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub pseudonymous_users: bool,

    /// Say `person 1` for those whom a user's evidence is toward, not what the user calls them
    #[arg(long, value_name = "BOOL", env = "THROUGHLINE_PSEUDONYMOUS_TARGETS", num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub pseudonymous_targets: bool,

    /// Drop what was said so many days after it came; scores, digests, arcs and alarms stay, and what comes after is judged in windows that
    /// begin behind it. A legal hold stops it, and so does an alarm that waits for a person
    #[arg(long, value_name = "COUNT", env = "THROUGHLINE_RETAIN_CONTENT_DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub retain_content_days: Option<u32>,

    /// Erase users whose last turn came so many days ago. A legal hold stops it, and so does an alarm that waits for a person
    #[arg(long, value_name = "COUNT", env = "THROUGHLINE_RETAIN_DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub retain_days: Option<u32>,

    /// Milliseconds that a caller waits who sends no X-Deadline-Ms
    #[arg(long, value_name = "COUNT", default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub deadline_ms: u64,

    /// The longest body of a request, in bytes
    #[arg(long, value_name = "COUNT", default_value_t = 4 << 20, value_parser = clap::value_parser!(u32).range(1_024..=268_435_456))]
    pub body_bytes_max: u32,

    /// What is said in one turn or draft, in bytes: its caller waits until all of it is read
    #[arg(long, value_name = "COUNT", default_value_t = 64 << 10, value_parser = clap::value_parser!(u32).range(256..=16_777_216))]
    pub turn_bytes_max: u32,

    /// Seconds that a server that stops waits for those whom it still answers
    #[arg(long, value_name = "COUNT", default_value_t = 25)]
    pub drain_seconds: u32,

    /// Tokens that may wait; beyond that callers are told to come back
    #[arg(long, value_name = "COUNT", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub queue_tokens_max: u32,

    /// Tokens of turns and drafts of several users that are computed side by side; more cores, or a GPU, can take more
    #[arg(long, value_name = "COUNT", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub batch_tokens_max: u32,

    /// Memory for keys and values of those who talk, in MiB [default: a quarter of what the process may use, 1024 where that is not known or
    /// a GPU computes]. What is let go is computed again with the user's next turn: enough is what those who talk at the same time have in
    /// their windows, at most 4,096 tokens each, of 12 KB (24 where a kernel of f32 is taken).
    /// With too little nearly every turn costs a whole window (`throughline_recomputed_tokens_total` in /metrics)
    #[arg(long, value_name = "COUNT")]
    pub cache_mib_max: Option<u32>,

    /// Users whose histories are held in memory
    #[arg(long, value_name = "COUNT", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub users_max: u32,

    /// Messages that are kept of one user
    #[arg(long, value_name = "COUNT", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub history_messages_max: u32,

    /// Tokens of a window [default: what the model was trained with, else 2048]
    #[arg(long, value_name = "COUNT", env = "THROUGHLINE_WINDOW_TOKENS")]
    pub window_tokens: Option<usize>,

    #[command(flatten)]
    pub compute: ComputeArgs,

    /// Where alarms are sent, signed (TOML: [[webhooks]] with name, url, secret, level_min); read again when it changes; builds with the
    /// feature outbound
    #[arg(long, value_name = "FILE", env = "THROUGHLINE_WEBHOOKS")]
    pub webhooks: Option<PathBuf>,

    #[command(flatten)]
    pub proxy: ProxyArgs,

    /// Where traces of requests go, by OTLP over HTTP: a collector's address, such as http://127.0.0.1:4318; builds with the feature otel
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub otlp: Option<String>,

    /// The form of the log on standard error
    #[arg(long, value_name = "FORM", default_value = "text", env = "THROUGHLINE_LOG_FORM")]
    pub log: LogForm,
}

/// Where it is kept, and the key.
#[derive(Debug, Args)]
pub struct StoreAt {
    /// Where users' histories and alarms are kept
    #[arg(long, value_name = "DIR", default_value = "throughline-data", env = "THROUGHLINE_FOLDER")]
    pub folder: PathBuf,

    /// A PostgreSQL database that several servers share, in place of the folder: postgres://USER:PASSWORD@HOST/NAME, spoken to
    /// with TLS unless it is on this machine; in builds with the feature `postgres`
    #[arg(long, value_name = "URL", env = "THROUGHLINE_DATABASE", hide_env_values = true)]
    pub database: Option<String>,

    /// Certificates (PEM) of those who vouch for the database's server [default: the system's]
    #[arg(long, value_name = "FILE", env = "THROUGHLINE_DATABASE_CA")]
    pub database_ca: Option<PathBuf>,

    /// A file with the key, 64 hexadecimal digits; THROUGHLINE_KEY goes before it [default: FOLDER/key]
    #[arg(long, value_name = "FILE", env = "THROUGHLINE_KEY_FILE")]
    pub key_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogForm {
    Text,
    Json,
}

/// Say whether `serve` would start with the same options, and what would bite later: model and speed, policy, what is kept, tokens,
/// certificate, port, upstream
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLE\n  throughline doctor --tokens tokens.toml --bind 0.0.0.0:8787\n\n\
    EXIT CODES\n  0  it would start\n  2  it would not")]
pub struct DoctorArgs {
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// Make a bearer token: its entry for a --tokens file on standard output, the token itself on standard error
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLE\n  throughline token chatbot --scope ingest >> tokens.toml\n  \
    throughline token desk --scope read --scope review >> tokens.toml\n\n\
    SCOPES\n  ingest  send turns, drafts and histories\n  read    see users and alarms\n  \
    review  acknowledge alarms; with read, see toward whom evidence is, and digests\n  admin   erase users, hold them")]
pub struct TokenArgs {
    /// Stands in the log and beside acknowledgements
    #[arg(value_name = "NAME", value_parser = token_name)]
    pub name: String,
    /// What it may do; repeatable: ingest, read, review, admin
    #[arg(long = "scope", value_name = "SCOPE", required = true)]
    pub scopes: Vec<Scope>,
    /// Requests that it is answered in a minute, a sixth of them at once [default: as many as come]
    #[arg(long, value_name = "COUNT")]
    pub requests_per_minute: Option<NonZeroU32>,
}

fn token_name(text: &str) -> Result<String, String> {
    check_token_name(text).map(|()| text.to_owned()).map_err(|found| format!("{found}; hint: who or what will use it"))
}

/// Look after what `serve` keeps
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct StoreArgs {
    #[command(subcommand)]
    pub command: StoreCommand,
}

#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Whether the database is whole, its key fits, and it can be written; what is in it
    #[command(after_help = "EXIT CODES\n  0  all is well\n  2  it is not")]
    Check(StoreAt),
    /// Write a copy while the server goes on; of PostgreSQL, say how its own pg_dump does
    Backup(StoreBackupArgs),
    /// Put a copy that `backup` wrote into a folder without a database, once all of it was read and the key fits; new alarms have numbers
    /// that none had before
    #[command(after_help = "EXAMPLE\n  throughline store restore copy.sqlite --folder throughline-data --key-file key")]
    Restore(StoreRestoreArgs),
}

#[derive(Debug, Args)]
pub struct StoreBackupArgs {
    #[command(flatten)]
    pub store: StoreAt,
    /// The copy; must not exist
    #[arg(value_name = "FILE")]
    pub to: PathBuf,
}

#[derive(Debug, Args)]
pub struct StoreRestoreArgs {
    #[command(flatten)]
    pub store: StoreAt,
    /// The copy
    #[arg(value_name = "FILE")]
    pub from: PathBuf,
}
