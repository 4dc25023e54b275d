//! Bounded reading of small files, and the number of threads.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, ensure};

/// The largest settings or categories file, in bytes.
const SMALL_FILE_BYTES_MAX: u64 = 1 << 20;
/// More threads than this are refused.
const THREADS_MAX: usize = 1_024;

/// The text of a settings file.
pub fn read_small(path: &Path) -> anyhow::Result<String> {
    read_bounded(path, SMALL_FILE_BYTES_MAX)
}

/// The text of a file of at most so many bytes.
pub fn read_bounded(path: &Path, bytes_max: u64) -> anyhow::Result<String> {
    let file = File::open(path).with_context(|| format!("cannot open {}; hint: check the path", path.display()))?;
    let mut text = String::new();
    file.take(bytes_max + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read {} as text", path.display()))?;
    ensure!(
        text.len() as u64 <= bytes_max,
        "{} has more than {bytes_max} bytes; hint: is this the right file?",
        path.display()
    );
    Ok(text)
}

/// Fixes the number of threads of the engine; called before any thread was started.
pub fn use_threads(threads: Option<usize>) -> anyhow::Result<()> {
    let Some(threads) = threads else { return Ok(()) };
    ensure!(
        (1..=THREADS_MAX).contains(&threads),
        "--threads is {threads}, the limit is {THREADS_MAX} and at least 1; hint: leave it out to use all CPUs"
    );
    // SAFETY: no other thread exists yet: commands call this before they load a model or show
    // progress. The engine's thread pools read the variable when they start.
    unsafe { std::env::set_var("RAYON_NUM_THREADS", threads.to_string()) };
    Ok(())
}

/// The threads the engine works with.
pub fn threads() -> usize {
    let asked = std::env::var("RAYON_NUM_THREADS").ok().and_then(|text| text.parse().ok()).filter(|count| *count > 0);
    asked.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}
