//! Finds the files and opens them: folders, globs, standard input, unpacking, byte order marks.

use std::cell::Cell;
use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use flate2::bufread::GzDecoder;

use super::detect;
use super::problem::{Fault, Outcome, Place, Problem};
use super::wildcard::{self, Matches, Passed};
use super::{ReadError, Source};

/// How much of a file is looked at to tell its format.
pub(super) const HEAD_BYTES: usize = 64 << 10;

/// A file to read.
#[derive(Debug)]
pub(super) struct InputFile {
    /// `None`: standard input.
    pub path: Option<PathBuf>,
    /// Named itself, not found in a folder or by a glob.
    pub named: bool,
    /// Size on disk; `None` when it is not an ordinary file.
    pub bytes: Option<u64>,
}

impl InputFile {
    pub fn name(&self) -> String {
        self.path.as_ref().map_or_else(|| "stdin".to_owned(), |p| p.display().to_string())
    }
}

/// The files of a source, and those passed over.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub files: Vec<InputFile>,
    /// Files passed over, the first `skipped_kept_max` of them.
    pub skipped: Vec<Problem>,
    pub skipped_count: u64,
    skipped_kept_max: usize,
    seen: HashSet<PathBuf>,
    /// What the glob at hand matches itself, not to be met again in a folder that it matches too.
    matched: HashSet<PathBuf>,
}

impl Found {
    fn skip(&mut self, path: &Path, found: &str, expected: &str, hint: &str) {
        self.skipped_count += 1;
        if self.skipped.len() >= self.skipped_kept_max {
            return;
        }
        let fault = Fault::new(found, expected, hint);
        self.skipped.push(fault.at(&path.display().to_string(), Place::File, Outcome::FileSkipped));
    }

    fn add(&mut self, path: PathBuf, named: bool, source: &Source) -> Result<(), ReadError> {
        let whole = fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
        if !self.seen.insert(whole) {
            self.skip(&path, "a file that was already named", "each file once", "name it once");
            return Ok(());
        }
        let limit = source.limits.files_max;
        if self.files.len() as u64 >= limit {
            return Err(ReadError::TooManyFiles { limit });
        }
        let bytes = fs::metadata(&path).ok().filter(fs::Metadata::is_file).map(|m| m.len());
        self.files.push(InputFile { path: Some(path), named, bytes });
        Ok(())
    }

    fn walk(&mut self, folder: &Path, depth: u32, source: &Source) -> Result<(), ReadError> {
        if depth > source.limits.folder_depth_max {
            self.pass(folder, Passed::Deep(depth), source);
            return Ok(());
        }
        let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut entries: Vec<PathBuf> = match entries {
            Ok(entries) => entries.into_iter().map(|entry| entry.path()).collect(),
            Err(_) => {
                self.pass(folder, Passed::Closed, source);
                return Ok(());
            }
        };
        entries.sort();
        for path in entries {
            self.visit(path, depth, source)?;
        }
        Ok(())
    }

    /// One entry of a folder.
    fn visit(&mut self, path: PathBuf, depth: u32, source: &Source) -> Result<(), ReadError> {
        if self.matched.contains(&path) {
            return Ok(());
        }
        let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if hidden {
            self.skip(&path, "a hidden name", "a transcript", "name it itself to read it");
        } else if path.is_dir() && wildcard::is_link(&path) {
            self.pass(&path, Passed::Link, source);
        } else if path.is_dir() {
            self.walk(&path, depth + 1, source)?;
        } else if !path.is_file() {
            self.skip(&path, "neither a file nor a folder", "a file", "name it itself to read it");
        } else if source.format.is_none() && detect::extension(&path) == detect::Extension::Unknown {
            self.skip(&path, "an unknown extension", detect::EXTENSIONS, "name it itself to read it");
        } else {
            self.add(path, false, source)?;
        }
        Ok(())
    }

    fn pass(&mut self, folder: &Path, why: Passed, source: &Source) {
        match why {
            Passed::Link => self.skip(folder, "a link to a folder", "a folder", "name it itself to read it"),
            Passed::Closed => self.skip(folder, "a folder that cannot be opened", "a folder", "check the permissions"),
            Passed::Deep(depth) => {
                let fault = format!("a folder {depth} levels down");
                let expected = format!("at most {}", source.limits.folder_depth_max);
                self.skip(folder, &fault, &expected, "name the folder itself");
            }
        }
    }

    fn glob(&mut self, pattern: &str, source: &Source) -> Result<(), ReadError> {
        let named = || pattern.to_owned();
        let Matches { paths, passed, .. } = wildcard::matches(pattern, source.limits.folder_depth_max)
            .map_err(|reason| ReadError::BadGlob { pattern: named(), reason })?;
        if paths.is_empty() && !passed.values().any(|why| *why == Passed::Closed) {
            return Err(ReadError::NoMatch { pattern: named() });
        }
        let (folders, others): (BTreeSet<PathBuf>, BTreeSet<PathBuf>) =
            paths.into_iter().partition(|path| path.is_dir() && !wildcard::is_link(path));
        self.matched = others.iter().cloned().collect();
        for path in others {
            match fs::metadata(&path) {
                Ok(meta) if meta.is_dir() => self.pass(&path, Passed::Link, source),
                Ok(meta) if meta.is_file() => self.add(path, false, source)?,
                _ => self.skip(&path, "neither a file nor a folder", "a file", "name it itself to read it"),
            }
        }
        // A folder inside another that is read is read with that one.
        let inside = |path: &Path| path.ancestors().skip(1).any(|above| folders.contains(above));
        for (folder, why) in &passed {
            if !self.matched.contains(folder) && !folders.contains(folder) && !inside(folder) {
                self.pass(folder, *why, source);
            }
        }
        for folder in folders.iter().filter(|folder| !inside(folder)) {
            self.walk(folder, 1, source)?;
        }
        self.matched.clear();
        Ok(())
    }
}

/// Finds all files of a source, in the order they will be read: that of their names, so that the
/// order in which they were given changes nothing. Standard input comes first.
///
/// # Errors
/// No path at all, one that is not there, a glob that is invalid or matches nothing, too many
/// files, or folders without a single transcript.
pub(super) fn find(source: &Source) -> Result<Found, ReadError> {
    let mut found = Found { skipped_kept_max: source.limits.problems_max, ..Found::default() };
    let mut stdin = false;
    for path in &source.paths {
        if path.as_os_str() == "-" {
            if !std::mem::replace(&mut stdin, true) {
                found.files.push(InputFile { path: None, named: true, bytes: None });
            }
            continue;
        }
        let pattern = path.to_str().filter(|p| p.contains(['*', '?', '[']));
        match (fs::metadata(path), pattern) {
            (Ok(meta), _) if meta.is_dir() => {
                fs::read_dir(path).map_err(|source| ReadError::Open { path: path.clone(), source })?;
                found.walk(path, 1, source)?;
            }
            (Ok(_), _) => found.add(path.clone(), true, source)?,
            (Err(_), Some(pattern)) => found.glob(pattern, source)?,
            (Err(e), None) => {
                return Err(ReadError::Open { path: path.clone(), source: e });
            }
        }
    }
    if source.paths.is_empty() {
        return Err(ReadError::NoInput);
    }
    if found.files.is_empty() {
        return Err(ReadError::NothingFound { files: found.skipped_count });
    }
    found.files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Counts the bytes read from disk.
struct Counted<'a> {
    inner: Box<dyn Read + 'a>,
    count: Rc<Cell<u64>>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.count.set(self.count.get() + n as u64);
        Ok(n)
    }
}

/// Gives back what was looked at, then the rest. An error met while looking is told in its turn.
struct Peeked<R> {
    head: Vec<u8>,
    given: usize,
    error: Option<io::Error>,
    inner: R,
}

impl<R: Read> Peeked<R> {
    fn new(mut inner: R, bytes: usize) -> Self {
        let mut head = Vec::new();
        let error = (&mut inner).take(bytes as u64).read_to_end(&mut head).err();
        Peeked { head, given: 0, error, inner }
    }
}

impl<R: Read> Read for Peeked<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = &self.head[self.given..];
        if !left.is_empty() && !buf.is_empty() {
            let n = left.len().min(buf.len());
            buf[..n].copy_from_slice(&left[..n]);
            self.given += n;
            return Ok(n);
        }
        match self.error.take() {
            Some(e) => Err(e),
            None => self.inner.read(buf),
        }
    }
}

/// Stops at a number of bytes, with an error.
struct Limited<R> {
    inner: R,
    left: u64,
    limit: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        if n as u64 > self.left {
            let limit = self.limit;
            return Err(io::Error::other(format!("more than {limit} bytes after unpacking")));
        }
        self.left -= n as u64;
        Ok(n)
    }
}

/// Unpacks gzip members one after the other. Zeros after them are padding, as gzip(1) has it.
struct GzipMembers<R> {
    /// None at the end.
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> GzipMembers<R> {
    fn new(input: R) -> Self {
        GzipMembers { member: Some(GzDecoder::new(input)) }
    }
}

impl<R: BufRead> Read for GzipMembers<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let n = member.read(buf)?;
            if n > 0 || buf.is_empty() {
                return Ok(n);
            }
            let Some(ended) = self.member.take() else { break };
            let mut input = ended.into_inner();
            self.member = more_after_zeros(&mut input)?.then(|| GzDecoder::new(input));
        }
        Ok(0)
    }
}

/// Whether anything but zeros is left; passes over the zeros.
fn more_after_zeros(input: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let chunk = match input.fill_buf() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            chunk => chunk?,
        };
        let zeros = chunk.iter().position(|&byte| byte != 0);
        let len = chunk.len();
        input.consume(zeros.unwrap_or(len));
        if zeros.is_some() || len == 0 {
            return Ok(zeros.is_some());
        }
    }
}

/// A file open for reading.
pub(super) struct Opened<'a> {
    /// The text, unpacked, without a byte order mark.
    pub reader: Box<dyn BufRead + 'a>,
    /// Its first bytes, the same as `reader` will give.
    pub head: Vec<u8>,
}

/// Unpacks a stream, if it is packed, by what its first bytes say and not by its name.
pub(super) fn open<'a>(
    input: Box<dyn Read + 'a>,
    count: Rc<Cell<u64>>,
    unpacked_bytes_max: u64,
) -> io::Result<Opened<'a>> {
    let raw = Peeked::new(Counted { inner: input, count }, 4);
    let unpacked: Box<dyn Read + 'a> = match raw.head.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(GzipMembers::new(BufReader::new(raw))),
        [0x28, 0xb5, 0x2f, 0xfd] => {
            let mut decoder = zstd::Decoder::new(raw)?;
            decoder.window_log_max(27)?; // 128 MiB, the most that `zstd` itself takes unasked
            Box::new(decoder)
        }
        _ => Box::new(raw),
    };
    let limited = Limited { inner: unpacked, left: unpacked_bytes_max, limit: unpacked_bytes_max };
    let mut peeked = Peeked::new(limited, HEAD_BYTES);
    if peeked.head.starts_with(b"\xef\xbb\xbf") {
        peeked.given = 3;
    }
    let head = peeked.head[peeked.given..].to_vec();
    Ok(Opened { reader: Box::new(BufReader::with_capacity(64 << 10, peeked)), head })
}

/// Opens the file, or standard input.
pub(super) fn open_file(file: &InputFile) -> io::Result<Box<dyn Read>> {
    Ok(match &file.path {
        Some(path) => Box::new(File::open(path)?),
        None => Box::new(io::stdin().lock()),
    })
}
