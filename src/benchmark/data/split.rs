//! Which author belongs to which split: read from the one file that says so.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;

use super::DataError;

/// The file's name, beside the folder of author files or in it.
pub const SPLITS_FILE: &str = "splits.json";

/// A part of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    Train,
    Dev,
    Test,
    /// Histories without a case, of which long innocent lives are put together.
    Innocents,
    All,
}

impl Split {
    /// The name as it stands in files and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Dev => "dev",
            Self::Test => "test",
            Self::Innocents => "innocents",
            Self::All => "all",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Split {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Train, Self::Dev, Self::Test, Self::Innocents, Self::All]
            .into_iter()
            .find(|split| split.as_str() == text)
            .ok_or_else(|| format!("unknown split `{text}`; hint: train, dev, test, innocents or all"))
    }
}

/// `splits.json`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Splits {
    #[serde(rename = "about")]
    _about: Option<String>,
    arcs: HeldOut,
    contrasts: HeldOut,
}

/// Authors by split; everyone else is train.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeldOut {
    test: Vec<String>,
    dev: Vec<String>,
    #[serde(default)]
    innocents: Vec<String>,
}

impl Splits {
    /// The file that holds for an author file, and what it says.
    ///
    /// # Errors
    /// When there is none in the file's folder or the one above, or it is not of the form.
    pub fn beside(author_file: &Path) -> Result<(PathBuf, Self), DataError> {
        let folder = author_file.parent().unwrap_or(Path::new(""));
        let here = folder.join(SPLITS_FILE);
        let above = match (folder.file_name(), folder.parent()) {
            (Some(_), Some(above)) => above.to_owned(),
            _ => folder.join(".."),
        };
        let path = if here.is_file() { here } else { above.join(SPLITS_FILE) };
        let hint = "say --split all, or write the split down as datasets/splits.json does";
        let text = fs::read_to_string(&path)
            .map_err(|error| DataError::file(&path, format!("no split can be read ({error})"), hint))?;
        let splits =
            serde_json::from_str(&text).map_err(|error| DataError::file(&path, format!("no split: {error}"), hint))?;
        Ok((path, splits))
    }

    /// The split of an author of histories, or of contrasts.
    pub fn of(&self, author: &str, contrasts: bool) -> Split {
        let held = if contrasts { &self.contrasts } else { &self.arcs };
        let names = |list: &[String]| list.iter().any(|name| name == author);
        match () {
            () if names(&held.test) => Split::Test,
            () if names(&held.dev) => Split::Dev,
            () if names(&held.innocents) => Split::Innocents,
            () => Split::Train,
        }
    }
}
