//! What was run on what: enough to run it again and get the same figures.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::simulate::lives::LifeSettings;

/// A file by what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileRecord {
    /// As typed, or as found in a folder that was.
    pub path: String,
    pub bytes: u64,
    /// Of the file as it lies there, packed or not; 64 hexadecimal digits.
    pub sha256: String,
}

impl FileRecord {
    /// Reads the file through.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut digest = Sha256::new();
        let mut buffer = vec![0; 64 << 10];
        let mut bytes = 0;
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            bytes += read as u64;
            digest.update(&buffer[..read]);
        }
        let sha256 = HEXLOWER.encode(&digest.finalize());
        Ok(Self { path: path.display().to_string(), bytes, sha256 })
    }
}

/// A model that scored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRecord {
    pub name: String,
    pub version: Option<String>,
    /// Of its weights.
    pub sha256: String,
    pub source: String,
    /// `heads`, or the family of a guard whose verdict was read.
    pub reading: String,
    pub device: String,
    pub dtype: String,
    #[serde(default)]
    pub window_tokens: Option<usize>,
}

/// The binary that ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BinaryRecord {
    pub version: String,
    /// Where the build knew it.
    pub git_commit: Option<String>,
    /// Whether the sources differed from that commit.
    pub git_dirty: Option<bool>,
}

/// How figures were computed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Settings {
    pub split: String,
    /// Bootstrap draws.
    pub samples: usize,
    pub seed: u64,
    /// The policy that says when a history is at `review`: its name and version, and its file's digest.
    pub policy: String,
    pub policy_sha256: String,
    /// The score from which a history is at `review`.
    pub review_score_min: f32,
    /// Where thresholds are those that innocent lives keep.
    pub innocent_lives: Option<InnocentLives>,
}

/// The lives that fixed the thresholds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InnocentLives {
    #[serde(flatten)]
    pub settings: LifeSettings,
    /// Of them so many may ever alarm.
    pub ever_share_max: f64,
    /// Sessions, drawn in the same way, before each history whose arcs are judged.
    pub sessions_before: usize,
}

/// Everything a run rests on. No time stands in it: the same run gives the same bytes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Manifest {
    pub binary: BinaryRecord,
    pub settings: Settings,
    pub models: Vec<ModelRecord>,
    /// Author files, tables and the split.
    pub data: Vec<FileRecord>,
    /// Files of scores, label maps and thresholds.
    pub inputs: Vec<FileRecord>,
}
