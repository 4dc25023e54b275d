//! The paths that a glob matches. The walk is our own, with the patterns of the crate `glob`: that
//! one's walk follows links to folders, into circles that grow by the power, and says of a folder
//! that cannot be opened no more than that.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::{fs, io};

use glob::Pattern;

/// Why nothing below a folder was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passed {
    /// A link, met on the way and not named.
    Link,
    /// It cannot be opened.
    Closed,
    /// It lies this many levels down.
    Deep(u32),
}

/// What a glob matches, in the order of names, and the folders passed over.
#[derive(Debug, Default)]
pub(super) struct Matches {
    pub paths: BTreeSet<PathBuf>,
    pub passed: BTreeMap<PathBuf, Passed>,
    depth_max: u32,
}

/// One part of a pattern, between separators.
#[derive(Debug)]
enum Part<'p> {
    Named(Component<'p>),
    Like(Pattern),
    /// `**`: any number of folders.
    Folders,
}

/// Finds what matches; `**` goes `depth_max` levels down.
///
/// # Errors
/// A pattern that is none, with the reason.
pub(super) fn matches(pattern: &str, depth_max: u32) -> Result<Matches, String> {
    let part = |part| match part {
        Component::Normal(name) if name == "**" => Ok(Part::Folders),
        Component::Normal(name) => match name.to_str().filter(|name| name.contains(['*', '?', '['])) {
            Some(name) => Pattern::new(name).map(Part::Like).map_err(|e| e.to_string()),
            None => Ok(Part::Named(part)),
        },
        named => Ok(Part::Named(named)),
    };
    let mut parts: Vec<Part<'_>> = Path::new(pattern).components().map(part).collect::<Result<_, _>>()?;
    parts.dedup_by(|a, b| matches!((a, b), (Part::Folders, Part::Folders)));
    let mut found = Matches { depth_max, ..Matches::default() };
    found.below(Path::new(""), &parts, 0);
    Ok(found)
}

pub(super) fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink())
}

impl Matches {
    /// Matches what is left of a pattern below a folder, `depth` levels into a `**`.
    fn below(&mut self, folder: &Path, parts: &[Part<'_>], depth: u32) {
        match parts {
            [] => {
                self.paths.insert(folder.to_owned());
            }
            // The folder itself is read with all that is in it.
            [Part::Folders] => {
                self.paths.insert(if folder.as_os_str().is_empty() { ".".into() } else { folder.to_owned() });
            }
            [Part::Named(name), rest @ ..] => {
                let path = folder.join(name);
                if fs::symlink_metadata(&path).is_ok() {
                    self.below(&path, rest, 0);
                }
            }
            [Part::Like(pattern), rest @ ..] => {
                for path in self.entries(folder) {
                    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
                    if pattern.matches(&name) && (rest.is_empty() || self.opens(&path)) {
                        self.below(&path, rest, 0);
                    }
                }
            }
            [Part::Folders, rest @ ..] => {
                self.below(folder, rest, 0);
                if depth >= self.depth_max {
                    self.passed.insert(folder.to_owned(), Passed::Deep(depth + 1));
                    return;
                }
                for path in self.entries(folder) {
                    if self.opens(&path) {
                        self.below(&path, parts, depth + 1);
                    }
                }
            }
        }
    }

    /// Whether it is a folder to look into.
    fn opens(&mut self, path: &Path) -> bool {
        let is_folder = path.is_dir();
        if is_folder && is_link(path) {
            self.passed.insert(path.to_owned(), Passed::Link);
            return false;
        }
        is_folder
    }

    fn entries(&mut self, folder: &Path) -> Vec<PathBuf> {
        let here = folder.as_os_str().is_empty();
        let opened = fs::read_dir(if here { Path::new(".") } else { folder });
        match opened.and_then(|entries| entries.map(|e| Ok(folder.join(e?.file_name()))).collect()) {
            Ok(paths) => paths,
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => Vec::new(),
            Err(_) => {
                self.passed.insert(folder.to_owned(), Passed::Closed);
                Vec::new()
            }
        }
    }
}
