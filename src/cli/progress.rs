//! How far a long run has come, on standard error where that is a terminal.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use throughline::report::safe;
use throughline::transcript::read;

/// How often the line is drawn anew.
const TICK_MS: u64 = 200;
/// Characters of a file's name in it.
const NAME_CHARS_MAX: usize = 40;

/// A line that is drawn over, or nothing.
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub fn new(quiet: bool) -> Self {
        let bar = if quiet || !stderr().is_terminal() {
            ProgressBar::hidden()
        } else {
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
        };
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(TICK_MS));
        }
        Self { bar }
    }

    /// Something without a known end.
    pub fn say(&self, what: &'static str) {
        self.bar.set_message(what);
    }

    pub fn reading(&self, progress: read::Progress) {
        if self.bar.is_hidden() {
            return;
        }
        let file = safe::line(progress.file, NAME_CHARS_MAX);
        self.bar.set_message(format!(
            "reading {file} ({} of {} files, {} records)",
            progress.files_done + 1,
            progress.files_total,
            progress.records
        ));
    }

    /// From now on, messages scored of all.
    pub fn scoring(&self, messages: u64) {
        self.bar.set_length(messages);
        self.bar.set_position(0);
        let style = ProgressStyle::with_template("scoring {bar:30} {pos}/{len} messages, {eta} left");
        if let Ok(style) = style {
            self.bar.set_style(style);
        }
    }

    pub fn at(&self, messages: u64) {
        self.bar.set_position(messages);
    }

    pub fn done(&self) {
        self.bar.finish_and_clear();
    }
}
