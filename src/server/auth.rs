//! Who may do what, and how often: bearer tokens with scopes and limits, known by their SHA-256 alone.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::HEXLOWER_PERMISSIVE;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::followed::{Followed, read_text};
use crate::config::from_toml;

/// Tokens of one file.
const TOKENS_MAX: usize = 1_000;
/// Characters of a token's name.
const NAME_CHARS_MAX: usize = 64;
/// What share of a minute's requests may come at once.
const BURST_SHARE: u32 = 6;

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Send turns, drafts and histories to be judged.
    Ingest,
    /// Read how users stand, and alarms.
    Read,
    /// Acknowledge alarms.
    Review,
    /// Erase users, and hold them.
    Admin,
}

impl std::str::FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "ingest" => Ok(Self::Ingest),
            "read" => Ok(Self::Read),
            "review" => Ok(Self::Review),
            "admin" => Ok(Self::Admin),
            _ => Err("no such scope; hint: ingest, read, review or admin".into()),
        }
    }
}

/// One token of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Stands in records of what was done with it.
    pub name: String,
    /// SHA-256 of the token, in hexadecimal digits.
    pub sha256: String,
    pub scopes: Vec<Scope>,
    /// Requests that are answered in a minute, a sixth of them at once; without it, as many as come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<NonZeroU32>,
}

/// The file: `[[tokens]]` with `name`, `sha256`, `scopes`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    tokens: Vec<Token>,
}

/// Why a token file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("cannot read {}: {cause}; hint: check the path and the permissions", .file.display())]
    Open { file: PathBuf, cause: std::io::Error },
    #[error("{}: {found}; hint: [[tokens]] with name, sha256 (64 hexadecimal digits) and scopes; `throughline token` writes one", .file.display())]
    Form { file: PathBuf, found: String },
}

/// Whoever holds one of the tokens of a file; without a file, everyone.
pub struct Access {
    file: Option<PathBuf>,
    known: Followed<Arc<Vec<KnownToken>>>,
}

/// A token as it is held in memory.
#[derive(Clone)]
struct KnownToken {
    digest: [u8; 32],
    token: Token,
    limiter: Option<Arc<DefaultDirectRateLimiter>>,
}

impl KnownToken {
    fn new(digest: [u8; 32], token: Token) -> Self {
        let quota = |count: NonZeroU32| {
            let burst = NonZeroU32::new(count.get() / BURST_SHARE).unwrap_or(NonZeroU32::MIN);
            Arc::new(DefaultDirectRateLimiter::direct(Quota::per_minute(count).allow_burst(burst)))
        };
        let limiter = token.requests_per_minute.map(quota);
        Self { digest, token, limiter }
    }

    /// Counts on where the same token was counted before.
    fn counting_on(mut self, before: &[Self]) -> Self {
        let same = |known: &&Self| {
            known.digest == self.digest && known.token.requests_per_minute == self.token.requests_per_minute
        };
        if let Some(known) = before.iter().find(same) {
            self.limiter.clone_from(&known.limiter);
        }
        self
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// There is no token file.
    Anyone,
    Token(String),
}

impl Caller {
    /// As it stands in records.
    pub fn name(&self) -> &str {
        match self {
            Self::Anyone => "anyone",
            Self::Token(name) => name,
        }
    }
}

/// Why a caller was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// No token, or none that is known.
    Unknown,
    /// The token has not this scope.
    Scope(Scope),
    /// The token was used so often that there are seconds to wait.
    Often { per_minute: u32, retry_after_s: u64 },
}

impl Access {
    /// # Errors
    /// When the file cannot be read or is not of the form.
    pub fn new(file: Option<PathBuf>) -> Result<Self, TokenError> {
        let tokens = || file.as_deref().map_or(Ok(Vec::new()), read).map(Arc::new);
        let known = Followed::new("the token file", file.iter().cloned().collect(), tokens)?;
        Ok(Self { file, known })
    }

    /// Whether anyone may do anything.
    pub fn is_open(&self) -> bool {
        self.file.is_none()
    }

    /// Who holds this bearer token, if it may do that, by the file as it is now.
    ///
    /// # Errors
    /// When the token is not known or may not.
    pub fn check(&self, bearer: Option<&str>, scope: Scope) -> Result<Caller, Refused> {
        let token = self.known(bearer, scope)?;
        Ok(token.map_or(Caller::Anyone, |known| Caller::Token(known.token.name)))
    }

    /// Whether this is a token of the file, whatever it may do; without a file, everyone is known.
    pub(super) fn is_known(&self, bearer: Option<&str>) -> bool {
        matches!(self.known(bearer, Scope::Read), Ok(_) | Err(Refused::Scope(_)))
    }

    /// As [`Access::check`], and counts a request.
    ///
    /// # Errors
    /// Also when there were too many.
    pub fn admit(&self, bearer: Option<&str>, scope: Scope) -> Result<Caller, Refused> {
        let Some(known) = self.known(bearer, scope)? else { return Ok(Caller::Anyone) };
        if let (Some(limiter), Some(per_minute)) = (&known.limiter, known.token.requests_per_minute) {
            limiter.check().map_err(|until| {
                let wait = until.wait_time_from(DefaultClock::default().now());
                Refused::Often { per_minute: per_minute.get(), retry_after_s: wait.as_secs() + 1 }
            })?;
        }
        Ok(Caller::Token(known.token.name))
    }

    /// The token, where there are tokens.
    fn known(&self, bearer: Option<&str>, scope: Scope) -> Result<Option<KnownToken>, Refused> {
        let Some(file) = &self.file else { return Ok(None) };
        let known = self.known.current(|before| {
            let counting = read(file)?.into_iter().map(|token| token.counting_on(before));
            Ok::<_, TokenError>(Arc::new(counting.collect()))
        });
        let asked = digest(bearer.ok_or(Refused::Unknown)?);
        // All are compared, each in constant time.
        let mut found = None;
        for token in known.iter() {
            if bool::from(token.digest.ct_eq(&asked)) {
                found = Some(token);
            }
        }
        let found = found.ok_or(Refused::Unknown)?;
        if found.token.scopes.contains(&scope) { Ok(Some(found.clone())) } else { Err(Refused::Scope(scope)) }
    }
}

/// What stands in the file for a token.
pub fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn read(file: &Path) -> Result<Vec<KnownToken>, TokenError> {
    let open = |cause| TokenError::Open { file: file.to_owned(), cause };
    let form = |found: String| TokenError::Form { file: file.to_owned(), found };
    let text = read_text(file).map_err(open)?;
    let File { tokens } = from_toml(&text).map_err(|error| form(error.to_string()))?;
    if tokens.is_empty() || tokens.len() > TOKENS_MAX {
        return Err(form(format!("{} tokens, the limits are 1 and {TOKENS_MAX}", tokens.len())));
    }
    let known = |(index, token): (usize, Token)| {
        let told = |found: String| form(format!("token {} of the file: {found}", index + 1));
        check_token_name(&token.name).map_err(told)?;
        let digits = token.sha256.chars().count();
        let digest = bytes_of(&token.sha256).ok_or_else(|| told(format!("its sha256 has {digits} characters")))?;
        Ok(KnownToken::new(digest, token))
    };
    tokens.into_iter().enumerate().map(known).collect()
}

/// A name stands in records of what was done with the token: some word for people to read.
///
/// # Errors
/// In words, when it is none.
pub fn check_token_name(name: &str) -> Result<(), String> {
    let chars = name.chars().count();
    if name.trim().is_empty() || chars > NAME_CHARS_MAX || name.chars().any(char::is_control) {
        return Err(format!(
            "its name has {chars} characters, the limits are 1 and {NAME_CHARS_MAX}, not all of them blank, none of them control characters"
        ));
    }
    Ok(())
}

fn bytes_of(hex: &str) -> Option<[u8; 32]> {
    HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).ok()?.try_into().ok()
}
