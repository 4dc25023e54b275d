//! Files that are written whole or not at all, pipes and devices, and standard output.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use tempfile::NamedTempFile;

/// Links that are followed from one to the next.
const LINKS_MAX: usize = 40;

/// Where something is to be written, found out before anything is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Stdout,
    /// A pipe or a device: written straight into, never replaced.
    Straight(PathBuf),
    /// A file by its canonical path, links followed; it need not be there yet.
    File(PathBuf),
}

impl Target {
    /// Where a path leads, once it is sure that it can be written.
    ///
    /// # Errors
    /// When it is a folder, or no file can be made beside it.
    pub fn find(path: &Path) -> anyhow::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::Stdout);
        }
        let about = || format!("cannot write {}", path.display());
        let target = match fs::metadata(path) {
            Ok(there) if there.is_dir() => bail!("{} is a folder; hint: name a file in it", path.display()),
            Ok(there) if !there.is_file() => return Ok(Self::Straight(path.to_owned())),
            Ok(_) => fs::canonicalize(path).with_context(about)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => absent(path)?,
            Err(error) => return Err(error).with_context(about),
        };
        // Made and taken away again: a name that stays would be met by whoever reads the folder.
        temporary_beside(&target)?;
        Ok(Self::File(target))
    }
}

/// What `output` and `report` of a command lead to.
///
/// # Errors
/// As [`Target::find`]; and when both are one file, or one of them is a file that is read.
pub fn targets(
    output: Option<&Path>,
    report: Option<&Path>,
    inputs: &[PathBuf],
) -> anyhow::Result<(Option<Target>, Option<Target>)> {
    let targets = (output.map(Target::find).transpose()?, report.map(Target::find).transpose()?);
    if let (Some(Target::File(one)), Some(Target::File(other))) = &targets {
        ensure!(one != other, "--output and --report are both {}; hint: name two files", one.display());
    }
    for input in inputs {
        refuse_input([&targets.0, &targets.1], input)?;
    }
    Ok(targets)
}

/// # Errors
/// When the file would be written over, though it is read.
pub fn refuse_input(targets: [&Option<Target>; 2], input: &Path) -> anyhow::Result<()> {
    let Ok(input) = fs::canonicalize(input) else { return Ok(()) };
    let same = targets.into_iter().flatten().any(|target| *target == Target::File(input.clone()));
    ensure!(!same, "{} is read, and would be written over; hint: write to another file", input.display());
    Ok(())
}

/// The canonical path of a file that is not there, or of where a link leads to nothing.
fn absent(path: &Path) -> anyhow::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        let Ok(to) = fs::read_link(&path) else { break };
        path = folder(&path).join(to);
    }
    let inside = folder(&path);
    let inside = fs::canonicalize(inside)
        .with_context(|| format!("cannot write in {}; hint: make the folder first", inside.display()))?;
    let name = path.file_name().with_context(|| format!("{} names no file", path.display()))?;
    Ok(inside.join(name))
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn temporary_beside(path: &Path) -> anyhow::Result<NamedTempFile> {
    let folder = folder(path);
    NamedTempFile::new_in(folder)
        .with_context(|| format!("cannot write in {}; hint: check the permissions", folder.display()))
}

/// Something being written.
pub enum Output {
    /// Streamed as it comes.
    Stdout(BufWriter<io::Stdout>),
    Straight {
        file: BufWriter<File>,
        path: PathBuf,
    },
    /// A temporary file beside the one asked for, which it becomes at the end. Readable by its
    /// owner only: it tells about people.
    File {
        temporary: BufWriter<NamedTempFile>,
        path: PathBuf,
    },
}

impl Output {
    /// # Errors
    /// When no file can be made in the folder, or a device refuses to be written.
    pub fn create(target: &Target) -> anyhow::Result<Self> {
        Ok(match target {
            Target::Stdout => Self::Stdout(BufWriter::new(io::stdout())),
            Target::Straight(path) => {
                let file = OpenOptions::new().write(true).open(path);
                let file = file.with_context(|| format!("cannot write {}", path.display()))?;
                Self::Straight { file: BufWriter::new(file), path: path.clone() }
            }
            Target::File(path) => Self::File { temporary: BufWriter::new(temporary_beside(path)?), path: path.clone() },
        })
    }

    /// Makes what was written visible.
    ///
    /// # Errors
    /// When the disk is full or the file cannot take its name.
    pub fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Stdout(mut stdout) => Ok(stdout.flush()?),
            Self::Straight { mut file, path } => {
                file.flush().with_context(|| format!("cannot write {}", path.display()))
            }
            Self::File { temporary, path } => {
                let about = || format!("cannot write {}", path.display());
                let temporary = temporary.into_inner().map_err(io::IntoInnerError::into_error).with_context(about)?;
                temporary.as_file().sync_all().with_context(about)?;
                temporary.persist(&path).with_context(about)?;
                Ok(())
            }
        }
    }

    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Self::Stdout(stdout) => stdout,
            Self::Straight { file, .. } => file,
            Self::File { temporary, .. } => temporary,
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer().flush()
    }
}
