//! One self-contained page.

use std::io::{self, Write};

use super::{RunInfo, Totals, UserView};

/// # Errors
/// Those of the writer.
pub fn write(out: &mut dyn Write, run: &RunInfo, users: &mut [UserView], totals: &Totals) -> io::Result<()> {
    let _ = (run, users, totals);
    out.write_all(b"")
}
