//! Names for what the data leaves nameless, after the file.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::detect;

/// The name of a file without the extensions of its format and packing, and the person it is taken to be of: the same, or the
/// folder where the file has the name that every export has; the whole path where that is
/// ambiguous.
pub(super) fn of_file(path: Option<&Path>, name: &str, ambiguous: &HashSet<String>) -> (String, String) {
    let stem = path.map_or_else(|| name.to_owned(), stem);
    let user = path.map_or_else(|| name.to_owned(), person);
    match path.and_then(Path::parent) {
        Some(folder) if ambiguous.contains(&user) => {
            let whole = if is_common(&stem) { folder.to_owned() } else { folder.join(&stem) };
            (stem, whole.display().to_string())
        }
        _ => (stem, user),
    }
}

/// The persons that files of more than one folder would be taken to be of.
pub(super) fn ambiguous<'p>(paths: impl Iterator<Item = &'p Path>) -> HashSet<String> {
    let mut folders: HashMap<String, Option<&Path>> = HashMap::new();
    let mut out = HashSet::new();
    for path in paths {
        let user = person(path);
        if *folders.entry(user.clone()).or_insert(path.parent()) != path.parent() {
            out.insert(user);
        }
    }
    out
}

/// The name that a ChatGPT or Claude export gives every file.
fn is_common(stem: &str) -> bool {
    stem == "conversations" || stem.starts_with("conversations-")
}

fn stem(path: &Path) -> String {
    let file = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    // Other dots are part of a name: mary.smith.txt and mary.jones.txt are two people.
    match detect::without_extensions(&file) {
        "" => file,
        stem => stem.to_owned(),
    }
}

fn person(path: &Path) -> String {
    let stem = stem(path);
    let folder = path.parent().and_then(Path::file_name).map(|n| n.to_string_lossy().into_owned());
    if is_common(&stem) { folder.unwrap_or(stem) } else { stem }
}
