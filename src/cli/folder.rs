//! The folder that one server has at a time: how it is made and taken, and how it is as it was where nothing comes of it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// A folder that is taken by its lock, as what a server holds in memory is in step with what is kept. The lock goes with this, or with the
/// process; until [`Alone::stay`], what was made for it goes, too.
pub struct Alone {
    lock: Option<File>,
    /// The lock's file, where there was none.
    file_made: Option<PathBuf>,
    /// The folder and those above it, where they were not there; the innermost first.
    folders_made: Vec<PathBuf>,
}

impl Alone {
    /// Makes the folder where there is none, and takes it.
    ///
    /// # Errors
    /// When it cannot be made or written, or another process has it.
    pub fn take(folder: &Path) -> anyhow::Result<Self> {
        let mut alone = Self { lock: None, file_made: None, folders_made: missing(folder) };
        private_folder(folder)
            .with_context(|| format!("cannot make {}; hint: --folder names another", folder.display()))?;
        let path = folder.join("lock");
        let file = match OpenOptions::new().write(true).create_new(true).open(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                OpenOptions::new().write(true).create(true).truncate(false).open(&path)
            }
            made => {
                alone.file_made = made.is_ok().then(|| path.clone());
                made
            }
        };
        let file = file.with_context(|| cannot_make(&path))?;
        let is_taken = match file.try_lock() {
            Ok(()) => is_named(&file, &path),
            Err(TryLockError::WouldBlock) => false,
            Err(TryLockError::Error(cause)) => {
                return Err(cause)
                    .with_context(|| format!("cannot lock {}; hint: --folder names another", path.display()));
            }
        };
        if !is_taken {
            // It is theirs now, whoever made it.
            alone.file_made = None;
            bail!("another server has {}; hint: --folder names another, one server a folder", folder.display());
        }
        alone.lock = Some(file);
        Ok(alone)
    }

    /// Something came of it: what was made stays.
    pub fn stay(&mut self) {
        (self.file_made, self.folders_made) = (None, Vec::new());
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        // While it is held: whoever opened it meanwhile sees that it has lost its name.
        if let Some(file) = &self.file_made {
            let _ = fs::remove_file(file);
        }
        drop(self.lock.take());
        for folder in &self.folders_made {
            // One that somebody put something into stays.
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Whether a server could have the folder: it is taken and written to as a server does, and is then as it was.
///
/// # Errors
/// When it could not.
pub fn try_folder(folder: &Path) -> anyhow::Result<()> {
    let _alone = Alone::take(folder)?;
    // The lock may be an old one, in a folder in which nothing new can be made.
    let probe = folder.join("throughline.probe");
    // One that an earlier run left.
    let _ = fs::remove_file(&probe);
    let written = write_private(&probe, "");
    let _ = fs::remove_file(&probe);
    written.with_context(|| cannot_make(&probe))
}

pub fn cannot_make(file: &Path) -> String {
    format!("cannot make {}; hint: the folder must be writable by this user; --folder names another", file.display())
}

/// Writes a new file of one line that nobody else may read.
pub fn write_private(file: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut made = options.open(file)?;
    made.write_all(text.as_bytes())?;
    made.write_all(b"\n")?;
    made.sync_all()
}

fn private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// The folder and those above it that are not there; the innermost first.
fn missing(folder: &Path) -> Vec<PathBuf> {
    let is_missing = |path: &&Path| {
        !path.as_os_str().is_empty()
            && fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound)
    };
    folder.ancestors().take_while(is_missing).map(Path::to_owned).collect()
}

/// Whether the file still has the name by which it was opened.
#[cfg(unix)]
fn is_named(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |found: io::Result<fs::Metadata>| found.ok().map(|found| (found.dev(), found.ino()));
    identity(file.metadata()) == identity(fs::metadata(path))
}

/// Elsewhere a file that is open keeps its name.
#[cfg(not(unix))]
fn is_named(_: &File, _: &Path) -> bool {
    true
}
