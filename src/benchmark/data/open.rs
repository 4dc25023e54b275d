//! Paths as typed → sets of examples.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::labels::LabelMap;
use super::{DataError, DataSet, Example, Split, Splits, author};

/// The largest author file, in bytes.
const AUTHOR_BYTES_MAX: u64 = 16 << 20;
/// The folder whose author files hold minimal pairs.
const CONTRASTS: &str = "contrasts";

/// Sets of examples, and the files they were read from.
#[derive(Debug, Default)]
pub struct Opened {
    /// Those with any example.
    pub sets: Vec<DataSet>,
    /// In the order in which they were read.
    pub files: Vec<PathBuf>,
}

/// Reads author files (`.txt`, or a folder of them) and labelled tables (everything else), for which
/// `map` says what the fields mean; without it, the built-in map of the file's name does.
///
/// # Errors
/// What cannot be read, ids that stand in two places, or a split without any history.
pub fn open(paths: &[PathBuf], split: Split, map: Option<&LabelMap>) -> Result<Opened, DataError> {
    let mut opened = Opened::default();
    let (mut arcs, mut contrasts) = (Authors::default(), Authors::default());
    for path in paths {
        for file in author_files(path)? {
            let contrast = file.parent().and_then(Path::file_name).is_some_and(|name| name == CONTRASTS);
            let authors = if contrast { &mut contrasts } else { &mut arcs };
            authors.read(&file, (split, contrast), &mut opened.files)?;
        }
        if is_table(path) {
            let found = map.cloned().map_or_else(|| known_map(path), Ok)?;
            opened.sets.push(found.read(path, split)?);
            opened.files.push(path.clone());
        }
    }
    let about = "histories written for this project; see datasets/README.md";
    opened.sets.extend(arcs.set("arcs", about));
    opened.sets.extend(contrasts.set("contrasts", "minimal pairs written for this project; see datasets/README.md"));
    opened.sets.retain(|set| !set.examples.is_empty());
    if opened.sets.is_empty() {
        let path = paths.first().map_or(Path::new("(nothing)"), PathBuf::as_path);
        let found = format!("no labelled history of the split `{split}`");
        return Err(DataError::file(path, found, "another --split, or all"));
    }
    each_id_once(&opened.sets)?;
    Ok(opened)
}

#[derive(Default)]
struct Authors {
    examples: Vec<Example>,
    read: bool,
    elsewhere: usize,
}

impl Authors {
    fn read(
        &mut self,
        file: &Path,
        (split, contrast): (Split, bool),
        files: &mut Vec<PathBuf>,
    ) -> Result<(), DataError> {
        self.read = true;
        fs::metadata(file).map_err(|error| unreadable(file, &error))?;
        if split != Split::All {
            let (path, splits) = Splits::beside(file)?;
            if !files.contains(&path) {
                files.push(path);
            }
            let name = file.file_stem().unwrap_or_default().to_string_lossy();
            if splits.of(&name, contrast) != split {
                self.elsewhere += 1;
                return Ok(());
            }
        }
        let mut found = author::parse(file, &text(file)?)?;
        for example in &mut found {
            example.twin_of = example.twin_of.map(|index| index + self.examples.len());
        }
        self.examples.extend(found);
        files.push(file.to_owned());
        Ok(())
    }

    fn set(self, name: &str, about: &str) -> Option<DataSet> {
        let left_out = (self.elsewhere > 0).then(|| ("authors of another split".to_owned(), self.elsewhere));
        self.read.then(|| DataSet {
            name: name.to_owned(),
            about: about.to_owned(),
            targets: author::targets(),
            examples: self.examples,
            review: None,
            left_out: left_out.into_iter().collect(),
        })
    }
}

fn is_author_file(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "txt")
}

fn is_table(path: &Path) -> bool {
    !path.is_dir() && !is_author_file(path)
}

/// The author files that a path means, in the order of names.
fn author_files(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    if !path.is_dir() {
        return Ok(if is_author_file(path) { vec![path.to_owned()] } else { Vec::new() });
    }
    let entries = fs::read_dir(path).map_err(|e| DataError::file(path, e.to_string(), "check the permissions"))?;
    let mut files: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    files.retain(|file| is_author_file(file));
    files.sort();
    if files.is_empty() {
        return Err(DataError::file(path, "a folder without an author file", "name labelled tables one by one"));
    }
    Ok(files)
}

pub(super) fn text(file: &Path) -> Result<String, DataError> {
    let bytes = fs::metadata(file).map_err(|error| unreadable(file, &error))?.len();
    if bytes > AUTHOR_BYTES_MAX {
        let found = format!("{bytes} bytes, the limit is {AUTHOR_BYTES_MAX}");
        return Err(DataError::file(file, found, "is this an author file?"));
    }
    fs::read_to_string(file).map_err(|error| unreadable(file, &error))
}

fn unreadable(file: &Path, error: &std::io::Error) -> DataError {
    DataError::file(file, error.to_string(), "UTF-8 text that can be opened")
}

fn known_map(path: &Path) -> Result<LabelMap, DataError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let stem = name.split('.').next().unwrap_or_default();
    LabelMap::named(stem).unwrap_or_else(|| {
        let known = LabelMap::known().collect::<Vec<_>>().join(", ");
        let hint = format!("--labels FILE.toml, or one of {known}");
        Err(DataError::file(path, "a table without a label map", hint))
    })
}

fn each_id_once(sets: &[DataSet]) -> Result<(), DataError> {
    let mut seen: HashMap<&str, &str> = HashMap::new();
    for set in sets {
        for example in &set.examples {
            let id = example.history.user_id.as_str();
            if let Some(other) = seen.insert(id, &set.name) {
                let found = format!("the id {id} stands in {other} and again in {}", set.name);
                return Err(DataError::file(Path::new(&set.name), found, "judge them one at a time"));
            }
        }
    }
    Ok(())
}
