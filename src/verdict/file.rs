//! Policy files: TOML, checked, known by their digest.

use data_encoding::HEXLOWER;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{POLICY_SCHEMA_VERSION, Policy};
use crate::config::from_toml;

/// The default policy as a file: what `throughline policy show` prints, to be changed.
pub const DEFAULT_POLICY_TOML: &str = include_str!("../../policies/default.toml");

/// The largest policy file, in bytes.
const POLICY_BYTES_MAX: usize = 1 << 20;

/// A policy file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("policy {file}: {problem}")]
pub struct PolicyError {
    file: String,
    problem: String,
}

/// What every form of the file has.
#[derive(Deserialize)]
struct Form {
    schema_version: Option<u32>,
}

/// A policy and the file it stands in.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyFile {
    pub policy: Policy,
    /// SHA-256 of the file's bytes, in hexadecimal: what `sha256sum` says of it.
    pub sha256: String,
}

impl PolicyFile {
    /// Reads a policy; `file` is its name in errors.
    ///
    /// # Errors
    /// When it is too large, not TOML, has unknown keys, or breaks a rule of [`Policy::check`].
    pub fn from_toml(text: &str, file: &str) -> Result<Self, PolicyError> {
        let bad = |problem: String| PolicyError { file: file.to_owned(), problem };
        if text.len() > POLICY_BYTES_MAX {
            let found = text.len();
            return Err(bad(format!("{found} bytes, the limit is {POLICY_BYTES_MAX}; hint: is this the right file?")));
        }
        let with_hint = |error| bad(format!("{error}; hint: `throughline policy show` has every key"));
        // A later form of the file is told as what it is, not by its first new key.
        let form: Form = from_toml(text).map_err(with_hint)?;
        if form.schema_version.is_some_and(|version| version > POLICY_SCHEMA_VERSION) {
            let found = form.schema_version.unwrap_or_default();
            return Err(bad(format!(
                "schema_version is {found}, this build reads {POLICY_SCHEMA_VERSION}; hint: a newer throughline wrote it"
            )));
        }
        let policy: Policy = from_toml(text).map_err(with_hint)?;
        policy.check().map_err(bad)?;
        Ok(Self { policy, sha256: digest(text) })
    }
}

impl Default for PolicyFile {
    fn default() -> Self {
        Self { policy: Policy::default(), sha256: digest(DEFAULT_POLICY_TOML) }
    }
}

fn digest(text: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(text.as_bytes()))
}
