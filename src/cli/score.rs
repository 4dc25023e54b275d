//! `throughline score`.

use std::io::{self, BufWriter, IsTerminal, Write, stderr, stdout};
use std::path::Path;

use anyhow::{Context, Error, bail};
use throughline::engine::{LoadSettings, Model, load_with};
use throughline::report::terminal::Terminal;
use throughline::report::{ModelLine, MostUrgent, PolicyLine, RunInfo, Totals, UserView, html, json, safe};
use throughline::scorer::{Panel, Scorer, ScorerSettings};
use throughline::transcript::read::{Corpus, load as read_transcripts};
use throughline::verdict::{Level, PolicyFile};
use throughline::window::WindowSpec;

use super::args::ScoreArgs;
use super::limits::use_threads;
use super::model::ReadAs;
use super::output::{Output, refuse_input, targets};
use super::progress::Progress;
use super::settings::ScoreSettings;
use super::{EXIT_CLEAN, EXIT_ERROR, EXIT_FOUND, model, policy};

/// Problems told one by one; the others are counted.
const PROBLEMS_SHOWN: usize = 20;

/// What is written beside the summary.
struct Outputs {
    lines: Option<Output>,
    page: Option<Output>,
    /// Whoever read the lines was gone before their end.
    closed: Option<io::Error>,
}

/// What all histories came to.
struct Scored {
    /// For people; empty when only machines read.
    users: MostUrgent,
    totals: Totals,
    level_max: Level,
}

pub fn run(args: ScoreArgs) -> anyhow::Result<u8> {
    let settings = ScoreSettings::resolve(args)?;
    use_threads(settings.threads)?;
    // Before anything is read: a mistake in it is told at once.
    let policy = policy::load(settings.policy.as_deref())?;
    let progress = Progress::new(settings.quiet);
    let inputs = &settings.inputs();
    let (lines, page) = targets(settings.output.as_deref(), settings.report.as_deref(), inputs)?;
    let mut writes_over_input = Ok(());
    let corpus = read_transcripts(&settings.source, &mut |at| {
        // Files that folders and globs led to are known only now.
        if writes_over_input.is_ok() {
            writes_over_input = refuse_input([&lines, &page], Path::new(at.file));
        }
        progress.reading(at);
    })?;
    writes_over_input?;
    if !settings.quiet {
        tell_problems(&corpus)?;
    }
    if corpus.users().is_empty() {
        let summary = corpus.summary();
        let hint = match (summary.left_out == 0 && summary.skipped_files == 0, settings.quiet) {
            (true, _) => "there is none in what was given",
            (false, true) => "without --quiet the problems are told",
            (false, false) => "the problems are told above",
        };
        bail!(
            "no message could be read: {} of {} records left out, {} files skipped; hint: {hint}",
            summary.left_out,
            summary.records,
            summary.skipped_files
        );
    }
    let create = |target: Option<_>| target.as_ref().map(Output::create).transpose();
    let mut outputs = Outputs { lines: create(lines)?, page: create(page)?, closed: None };
    progress.say("loading the model");
    let (scorers, run) = scorers(&settings, &policy)?;
    let mut scored = score_all(&scorers, &run, &corpus, (&settings, &progress, &mut outputs))?;
    progress.done();
    outputs.finish(&run, &mut scored)?;
    tell(&settings, &run, scored)
}

/// A scorer of every model, and what is run.
fn scorers(settings: &ScoreSettings, policy: &PolicyFile) -> anyhow::Result<(Vec<Scorer>, RunInfo)> {
    let load = LoadSettings { kernel: settings.kernel, ..LoadSettings::default() };
    let loaded = settings.models.iter().map(|name| Ok(load_with(&model::source(name)?, &load)?));
    let loaded = loaded.collect::<anyhow::Result<Vec<Model>>>()?;
    // Of several models, what is said of words is said to those that answer in words.
    let in_words = loaded.iter().any(|model| !model.has_heads());
    let mut scorers = Vec::new();
    let mut lines = Vec::new();
    for model in loaded {
        let said = !(in_words && model.has_heads());
        let (scorer, line) = scorer(model, (settings, said), policy)?;
        scorers.push(scorer);
        lines.push(line);
    }
    if !scorers.iter().any(Scorer::names_categories) {
        policy.policy.check_without_categories().map_err(Error::msg)?;
    }
    let mut lines = lines.into_iter();
    let run = RunInfo {
        throughline_version: env!("CARGO_PKG_VERSION"),
        model: lines.next().context("no model")?,
        other_models: lines.collect(),
        window_tokens: scorers[0].window().tokens_max,
        policy: PolicyLine::from(policy),
        redacted: settings.redact,
    };
    Ok((scorers, run))
}

fn scorer(
    model: Model,
    (settings, said): (&ScoreSettings, bool),
    policy: &PolicyFile,
) -> anyhow::Result<(Scorer, ModelLine)> {
    let info = model.info.clone();
    let window = settings.window_tokens.map(WindowSpec::with_tokens);
    let scorer_settings = ScorerSettings { window, policy: policy.policy.clone() };
    let read_as = ReadAs {
        guard: settings.guard.as_deref().filter(|_| said),
        categories: settings.categories.as_deref().filter(|_| said),
    };
    let (scorer, reading) = model::scorer(model, scorer_settings, read_as)?;
    let line = ModelLine {
        name: info.name,
        version: info.version,
        sha256: info.sha256,
        source: info.source,
        reading,
        device: info.device,
        dtype: info.dtype,
    };
    Ok((scorer, line))
}

fn score_all(
    scorers: &[Scorer],
    run: &RunInfo,
    corpus: &Corpus,
    (settings, progress, outputs): (&ScoreSettings, &Progress, &mut Outputs),
) -> anyhow::Result<Scored> {
    let people_read = settings.report.is_some() || !to_stdout(settings);
    let mut scored = Scored { users: MostUrgent::default(), totals: Totals::default(), level_max: Level::None };
    outputs.line(|out| json::write_run(out, run))?;
    // The order of ids, not that in which users are first met in the files.
    let mut order: Vec<usize> = (0..corpus.users().len()).collect();
    order.sort_by_key(|&index| corpus.users()[index].user_id());
    let messages: u64 = corpus.users().iter().map(|user| user.message_count()).sum();
    progress.scoring(messages * scorers.len() as u64);
    let mut before = 0;
    for index in order {
        let history = corpus.history(index)?;
        let user = || format!("user {}", safe::line(&history.user_id, 80));
        let mut scores = Vec::new();
        for scorer in scorers {
            let mut score = scorer.score(&history, &mut |done| progress.at(before + done as u64)).with_context(user)?;
            if settings.explain {
                scorer.explain(&history, &mut score).with_context(user)?;
            }
            if settings.pseudonymous_targets || settings.redact {
                score.pseudonymise_targets();
            }
            before += history.message_count() as u64;
            scores.push(score);
        }
        let panel = Panel::new(&scores).context("no model")?;
        scored.totals.add(&history, panel);
        scored.level_max = scored.level_max.max(panel.level());
        outputs.line(|out| json::write_history(out, &history, panel))?;
        if people_read {
            scored.users.add(UserView::new(&history, panel, run, settings.redact));
        }
    }
    count_reading(corpus, &mut scored.totals);
    outputs.line(|out| json::write_summary(out, &scored.totals))?;
    Ok(scored)
}

impl Outputs {
    /// Writes a part of the JSON lines. Where their reader has closed them, the page is still made.
    fn line(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let Some(lines) = &mut self.lines else { return Ok(()) };
        match write(lines) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe && self.page.is_some() => {
                (self.lines, self.closed) = (None, Some(error));
                Ok(())
            }
            result => result,
        }
    }

    /// Makes both visible: before the summary, whose reader may be gone.
    fn finish(self, run: &RunInfo, scored: &mut Scored) -> anyhow::Result<()> {
        let lines = self.lines.map_or(Ok(()), Output::finish);
        if let Some(mut page) = self.page {
            html::write(&mut page, run, &mut scored.users, &scored.totals)?;
            page.finish()?;
        }
        self.closed.map_or(lines, |error| Err(error.into()))
    }
}

fn tell(settings: &ScoreSettings, run: &RunInfo, mut scored: Scored) -> anyhow::Result<u8> {
    if !to_stdout(settings) {
        match summary(run, &mut scored) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {} // Nobody reads it.
            result => result?,
        }
    }
    let unjudged = scored.totals.unjudged_histories;
    Ok(if unjudged > 0 {
        writeln!(
            stderr(),
            "error: the guard refused to judge every message of {unjudged} of {} histories, whose level none says \
             nothing; hint: is this a guard model, and of the family it is read as (--guard)?",
            scored.totals.users
        )?;
        EXIT_ERROR
    } else if settings.strict && scored.totals.incomplete() {
        writeln!(stderr(), "error: --strict, and not everything was read and judged")?;
        EXIT_ERROR
    } else if settings.fail_at.is_some_and(|level| scored.level_max >= level) {
        EXIT_FOUND
    } else {
        EXIT_CLEAN
    })
}

fn summary(run: &RunInfo, scored: &mut Scored) -> io::Result<()> {
    let mut out = BufWriter::new(stdout());
    let colour = colour_wanted(stdout().is_terminal());
    Terminal { out: &mut out, colour }.write(run, &mut scored.users, &scored.totals)?;
    out.flush()
}

fn to_stdout(settings: &ScoreSettings) -> bool {
    settings.output.as_deref() == Some(Path::new("-"))
}

/// Colour at a terminal that has it, unless NO_COLOR says otherwise (no-color.org).
fn colour_wanted(is_terminal: bool) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    is_terminal && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

fn tell_problems(corpus: &Corpus) -> io::Result<()> {
    let mut out = stderr().lock();
    for problem in corpus.problems().iter().take(PROBLEMS_SHOWN) {
        writeln!(out, "{}", safe::line(&problem.to_string(), usize::MAX))?;
    }
    let more = corpus.summary().problems.saturating_sub(PROBLEMS_SHOWN as u64);
    if more > 0 {
        writeln!(out, "and {more} more problems")?;
    }
    Ok(())
}

fn count_reading(corpus: &Corpus, totals: &mut Totals) {
    let summary = corpus.summary();
    totals.files = summary.files;
    totals.skipped_files = summary.skipped_files;
    totals.records = summary.records;
    totals.left_out = summary.left_out;
    totals.empty_messages = summary.empty_messages;
    totals.other_branches = summary.other_branches;
    totals.unread_times = summary.unread_times;
    totals.half_characters = summary.half_characters;
    totals.repeated_sessions = summary.repeated_sessions;
    totals.copied_sessions = summary.copied_sessions;
    totals.problems = summary.problems;
}
