//! Files that are written whole or not at all, and standard output.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use tempfile::NamedTempFile;

/// Where JSON lines go.
pub enum Output {
    /// Streamed as it comes.
    Stdout(BufWriter<io::Stdout>),
    /// A temporary file beside the one asked for, which it becomes at the end. Readable by its
    /// owner only: it tells about people.
    File { temporary: BufWriter<NamedTempFile>, path: PathBuf },
}

impl Output {
    /// # Errors
    /// When no file can be made in the folder.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::Stdout(BufWriter::new(io::stdout())));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let temporary = NamedTempFile::new_in(folder)
            .with_context(|| format!("cannot write in {}; hint: make the folder first", folder.display()))?;
        Ok(Self::File { temporary: BufWriter::new(temporary), path: path.to_owned() })
    }

    /// Makes what was written visible.
    ///
    /// # Errors
    /// When the disk is full or the file cannot take its name.
    pub fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Stdout(mut stdout) => Ok(stdout.flush()?),
            Self::File { temporary, path } => {
                let about = || format!("cannot write {}", path.display());
                let temporary = temporary.into_inner().map_err(io::IntoInnerError::into_error).with_context(about)?;
                temporary.as_file().sync_all().with_context(about)?;
                temporary.persist(&path).with_context(about)?;
                Ok(())
            }
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(stdout) => stdout.write(bytes),
            Self::File { temporary, .. } => temporary.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(stdout) => stdout.flush(),
            Self::File { temporary, .. } => temporary.flush(),
        }
    }
}
