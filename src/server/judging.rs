//! By what users are judged: the model, and the policy as its file has it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::followed::{Followed, read_text};
use super::wire::JudgedByOut;
use crate::engine::ModelInfo;
use crate::verdict::{Policy, PolicyFile};

/// A policy and the names of what judges by it.
pub(super) struct Judging {
    pub policy: Policy,
    pub by: JudgedByOut,
}

/// The policy that judges now.
pub(super) struct Judges {
    file: Option<PathBuf>,
    model: ModelInfo,
    followed: Followed<Arc<Judging>>,
}

impl Judges {
    /// # Errors
    /// In words, when the policy cannot be used.
    pub fn new(file: Option<PathBuf>, model: &ModelInfo) -> Result<Self, String> {
        let read = || judging(file.as_deref(), model);
        let followed = Followed::new("the policy", file.iter().cloned().collect(), read)?;
        Ok(Self { followed, model: model.clone(), file })
    }

    pub fn model(&self) -> &ModelInfo {
        &self.model
    }

    /// The policy as its file has it; see [`Followed::current`].
    pub fn current(&self) -> Arc<Judging> {
        self.followed.current(|_| judging(self.file.as_deref(), &self.model))
    }
}

fn judging(file: Option<&Path>, model: &ModelInfo) -> Result<Arc<Judging>, String> {
    let PolicyFile { policy, sha256 } = file.map_or_else(|| Ok(PolicyFile::default()), read)?;
    policy.check_without_categories()?;
    let by = JudgedByOut {
        model: [Some(&*model.name), model.version.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" "),
        model_sha256: model.sha256.clone(),
        policy: format!("{} {}", policy.name, policy.version),
        policy_sha256: sha256,
    };
    Ok(Arc::new(Judging { policy, by }))
}

fn read(file: &Path) -> Result<PolicyFile, String> {
    let text = read_text(file).map_err(|error| format!("policy {}: {error}; hint: check the path", file.display()))?;
    PolicyFile::from_toml(&text, &file.display().to_string()).map_err(|error| error.to_string())
}
