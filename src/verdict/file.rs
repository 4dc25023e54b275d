//! Policy files: TOML, checked, known by their digest.

use sha2::{Digest, Sha256};

use super::Policy;

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
            return Err(bad(format!("{} bytes, the limit is {POLICY_BYTES_MAX}", text.len())));
        }
        let policy: Policy = toml::from_str(text).map_err(|error| bad(error.to_string()))?;
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
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
