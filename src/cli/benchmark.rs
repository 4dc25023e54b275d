//! `throughline benchmark`: runs models over labelled histories, and judges them beside others.

use std::collections::{HashMap, HashSet};
use std::io::{BufWriter, Write, stderr, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail, ensure};
use throughline::arc::ArcKind;
use throughline::benchmark::Benchmark;
use throughline::benchmark::data::labels::LabelMap;
use throughline::benchmark::data::toward::{OpenedToward, open_toward};
use throughline::benchmark::data::{DataSet, Opened, open};
use throughline::benchmark::detector::{
    Detector, ExternalScores, ModelScores, ScoredMessage, each_user, external, keywords, learned, learned_name,
    model_detectors, score_output, scores_file, watched_names,
};
use throughline::benchmark::evaluate::{Judging, SCHEMA_VERSION, SetReport, Thresholds, judge, judge_toward};
use throughline::benchmark::manifest::{BinaryRecord, FileRecord, InnocentLives, Manifest, ModelRecord, Settings};
use throughline::benchmark::report::{html, terminal};
use throughline::benchmark::simulate::lives::{Before, Late, LifeSettings, Pool};
use throughline::engine::load_with;
use throughline::report::{Totals, safe};
use throughline::scorer::{Panel, Scorer, ScorerSettings};
use throughline::scoring::expected_level;
use throughline::transcript::{History, Role, Session};
use throughline::verdict::{Level, Policy, PolicyFile};
use throughline::window::WindowSpec;

use super::args::{BenchmarkArgs, NamedFile};
use super::limits::{read_bounded, read_small, use_threads};
use super::model::ReadAs;
use super::output::{Output, Target, refuse_input, targets};
use super::progress::Progress;
use super::{EXIT_CLEAN, model, policy};

/// The name that stands for no model at all.
const NO_MODEL: &str = "none";
/// Characters of a detector's name.
const NAME_CHARS_MAX: usize = 60;
/// Between the beginnings of two sessions of a life, and of what stands before a history.
const LIFE_GAP_DAYS: f64 = 3.0;
/// The largest benchmark output that thresholds are read from, in bytes.
const THRESHOLDS_BYTES_MAX: u64 = 256 << 20;

/// A model's scores, and what it is called among the detectors.
struct Scores {
    name: String,
    record: ModelRecord,
    scores: ModelScores,
    /// What a model that was run says of each last user message when it reads nothing else.
    last_by_itself: Option<ExternalScores>,
    /// Where the scores are from, for errors.
    from: PathBuf,
}

/// What innocent users' lives are put together from.
struct Innocents {
    pool: Pool,
    /// The model that scored them, by its place.
    model: usize,
    /// Where they are from, for errors.
    from: PathBuf,
}

/// Everything that detectors are made of.
struct Sources {
    models: Vec<Scores>,
    external: Vec<(String, ExternalScores)>,
    policy: Policy,
    innocents: Option<Innocents>,
    /// What stands before each history whose arcs are judged, if anything.
    before: Option<Before>,
}

pub fn run(args: BenchmarkArgs) -> anyhow::Result<u8> {
    use_threads(args.compute.threads)?;
    ensure!(!is_stdout(args.report.as_deref()), "the page is a file; hint: --report FILE.html");
    let quiet = args.quiet.unwrap_or(false);
    let named = args.scores.iter().map(|named| &named.file);
    let settings = args.thresholds.iter().chain(&args.innocents).chain(&args.policy).chain(&args.reading.categories);
    let inputs: Vec<PathBuf> = args.paths.iter().chain(&args.from).chain(named).chain(settings).cloned().collect();
    let (figures, page) = targets(args.output.as_deref(), args.report.as_deref(), &inputs)?;
    let policy = policy::load(args.policy.as_deref())?;
    let map = args.labels.as_deref().map(label_map).transpose()?;
    let opened = open(&args.paths, args.split, map.as_ref())?;
    for file in &opened.files {
        refuse_input([&figures, &page], file)?;
    }
    ensure!(
        args.ever > 0.0 && args.ever < 1.0,
        "--ever is {}, the limits are 0 and 1, both left out; hint: 0.01 is one life in a hundred",
        args.ever
    );
    let mut judging = Judging {
        thresholds: args.thresholds.as_deref().map(thresholds).transpose()?.unwrap_or_default(),
        samples: args.samples as usize,
        seed: args.seed,
    };
    let towards = towards(&args, &opened.sets)?;
    for file in towards.iter().flatten().flat_map(|toward| &toward.files) {
        refuse_input([&figures, &page], file)?;
    }
    let external: Vec<(String, ExternalScores)> = args.scores.iter().map(external_scores).collect::<Result<_, _>>()?;
    let models = all_models(&args, &opened.sets, &Progress::new(quiet))?;
    let before = before(&args, &opened.sets, &models)?;
    let innocents = args.innocents.as_deref().map(|file| innocents(file, &models)).transpose()?;
    if let Some(innocents) = &innocents {
        keep_to_lives(innocents, &args, &models, &mut judging.thresholds)?;
    }
    let sources = Sources { models, external, policy: policy.policy.clone(), innocents, before };
    let mut sets = Vec::new();
    for (set, toward) in opened.sets.iter().zip(&towards) {
        let mut report = judged(set, &sources, &judging)?;
        report.toward = toward.as_ref().map(|toward| judge_toward(set, toward, judging.draws()));
        sets.push(report);
    }
    let read = Read { opened: &opened, towards: &towards };
    let manifest = manifest(&args, &read, &policy, sources.models.into_iter().map(|one| one.record).collect())?;
    tell([figures, page], &Benchmark { schema_version: SCHEMA_VERSION, manifest, sets })?;
    Ok(EXIT_CLEAN)
}

/// What was read of labelled histories.
struct Read<'a> {
    opened: &'a Opened,
    towards: &'a [Option<OpenedToward>],
}

/// The people of the histories of each set, if their files were asked for: those of authors' histories have some.
fn towards(args: &BenchmarkArgs, sets: &[DataSet]) -> anyhow::Result<Vec<Option<OpenedToward>>> {
    let Some(folder) = &args.targets else { return Ok(vec![None; sets.len()]) };
    let arcs = |set: &DataSet| set.examples.iter().any(|example| example.arcs.is_some());
    ensure!(
        sets.iter().any(arcs),
        "--targets says who is who in author files, and none is read here; hint: datasets/arcs"
    );
    let opened = sets.iter().map(|set| arcs(set).then(|| open_toward(folder, set)).transpose());
    Ok(opened.collect::<Result<_, _>>()?)
}

/// A built-in map by its name, or one in a file.
fn label_map(name: &str) -> anyhow::Result<LabelMap> {
    match LabelMap::named(name) {
        Some(known) => Ok(known?),
        None => Ok(LabelMap::parse(Path::new(name), &read_small(Path::new(name))?)?),
    }
}

fn thresholds(path: &Path) -> anyhow::Result<Thresholds> {
    let text = read_bounded(path, THRESHOLDS_BYTES_MAX)?;
    Thresholds::parse(&text)
        .with_context(|| format!("{}: no output of `throughline benchmark --output`", path.display()))
}

fn external_scores(named: &NamedFile) -> anyhow::Result<(String, ExternalScores)> {
    Ok((safe::line(&named.name, NAME_CHARS_MAX), scores_file(&named.file)?))
}

/// Every model that was asked for, run or read.
fn all_models(args: &BenchmarkArgs, sets: &[DataSet], progress: &Progress) -> anyhow::Result<Vec<Scores>> {
    let mut models = Vec::new();
    for path in &args.from {
        let (record, scores) = score_output(path)?;
        let name = called(&record, &models);
        models.push(Scores { name, record, scores, last_by_itself: None, from: path.clone() });
    }
    let embedded = ["embedded".to_owned()];
    let asked = if args.model.is_empty() && args.from.is_empty() { &embedded[..] } else { &args.model };
    let messages: usize =
        sets.iter().flat_map(|set| &set.examples).map(|example| example.history.message_count()).sum();
    for name in asked.iter().filter(|name| *name != NO_MODEL) {
        progress.say("loading the model");
        let mut scores = run_model(name, args, sets, (progress, messages))?;
        scores.name = called(&scores.record, &models);
        models.push(scores);
    }
    progress.done();
    Ok(models)
}

/// The innocent users of a file that one of the models scored.
fn innocents(file: &Path, models: &[Scores]) -> anyhow::Result<Innocents> {
    let mut pool = Pool::default();
    let record = each_user(file, &mut |user| pool.see(user))?;
    let same = |one: &Scores| one.record.sha256 == record.sha256;
    let model = models.iter().position(same).with_context(|| {
        let name = safe::line(&record.name, NAME_CHARS_MAX);
        format!(
            "{}: scored by {name}, sha256 {}, which is no model here; hint: score the innocent users with the same model",
            file.display(),
            safe::line(&record.sha256, 64)
        )
    })?;
    Ok(Innocents { pool, model, from: file.to_owned() })
}

/// Gives every detector of the model that scored the innocents the threshold that so few of their lives ever reach.
fn keep_to_lives(
    innocents: &Innocents,
    args: &BenchmarkArgs,
    models: &[Scores],
    thresholds: &mut Thresholds,
) -> anyhow::Result<()> {
    let Innocents { pool, model, from } = innocents;
    let settings = life_settings(args);
    let found = pool.thresholds(settings, args.ever).map_err(|error| anyhow!("{}: {error}", from.display()))?;
    let name = &models[*model].name;
    for (arc, kept) in ArcKind::ALL.into_iter().zip(found) {
        watched_names(name).into_iter().zip(kept.watched).for_each(|(name, value)| thresholds.keep(arc, name, value));
        if let Some(value) = kept.learned {
            thresholds.keep(arc, learned_name(name), value);
        }
    }
    Ok(())
}

/// What is to stand before histories, if that was asked for.
fn before(args: &BenchmarkArgs, sets: &[DataSet], models: &[Scores]) -> anyhow::Result<Option<Before>> {
    if args.after == 0 {
        return Ok(None);
    }
    ensure!(
        models.len() == 1,
        "--after {} is about one model, and {} are judged; hint: run it for each with its own --innocents",
        args.after,
        models.len()
    );
    ensure!(
        sets.iter().flat_map(|set| &set.examples).any(|example| example.arcs.is_some()),
        "--after {} is about histories whose arcs are judged, and none is read here; hint: datasets/arcs",
        args.after
    );
    Ok(Some(Before { sessions: args.after as usize, gap_days: LIFE_GAP_DAYS, seed: args.seed }))
}

fn life_settings(args: &BenchmarkArgs) -> LifeSettings {
    let (lives, sessions) = (args.lives as usize, args.life_sessions as usize);
    LifeSettings { lives, sessions, gap_days: LIFE_GAP_DAYS, seed: args.seed }
}

/// A name that no other model has.
fn called(record: &ModelRecord, others: &[Scores]) -> String {
    let taken = |name: &String| others.iter().any(|other| other.name == *name);
    let version = record.version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
    let plain = safe::line(&format!("{}{version}", record.name), NAME_CHARS_MAX);
    let digest = safe::line(record.sha256.get(..8).unwrap_or(&record.sha256), 8);
    let numbered = (2..).map(|number| format!("{plain} ({digest}, {number})"));
    [plain.clone(), format!("{plain} ({digest})")]
        .into_iter()
        .chain(numbered)
        .find(|name| !taken(name))
        .unwrap_or(plain)
}

fn run_model(
    name: &str,
    args: &BenchmarkArgs,
    sets: &[DataSet],
    (progress, messages): (&Progress, usize),
) -> anyhow::Result<Scores> {
    let settings = args.compute.load_settings();
    let loaded = load_with(&model::source(name)?, &settings)?;
    let info = loaded.info.clone();
    let settings = ScorerSettings {
        window: args.reading.window_tokens.map(WindowSpec::with_tokens),
        policy: PolicyFile::default().policy,
    };
    let read_as = ReadAs { guard: args.reading.guard.as_deref(), categories: args.reading.categories.as_deref() };
    let (scorer, reading) = model::scorer(loaded, settings, read_as)?;
    let (mut scores, mut totals, mut alone) = (ModelScores::new(), Totals::default(), HashMap::new());
    progress.scoring(messages as u64);
    for example in sets.iter().flat_map(|set| &set.examples) {
        let history = &example.history;
        let before = totals.messages;
        let score = scorer
            .score(history, &mut |done| progress.at(before + done as u64))
            .with_context(|| format!("history {}", safe::line(&history.user_id, 80)))?;
        let panel = Panel::new(std::slice::from_ref(&score)).context("no model")?;
        totals.add(history, panel);
        let scored = score.messages.iter().map(|one| ScoredMessage { at: one.at, role: one.role, score: one.score });
        scores.insert(history.user_id.clone(), scored.collect());
        alone.insert(history.user_id.clone(), last_by_itself(&scorer, history)?);
    }
    for remark in totals.remarks() {
        writeln!(stderr(), "{}: {remark}", safe::line(&info.name, NAME_CHARS_MAX))?;
    }
    let record = ModelRecord {
        name: info.name,
        version: info.version,
        sha256: info.sha256,
        source: info.source,
        reading,
        device: info.device,
        dtype: info.dtype,
        window_tokens: Some(scorer.window().tokens_max),
    };
    let last_by_itself = Some(ExternalScores { file: name.into(), by_id: alone });
    Ok(Scores { name: String::new(), record, scores, last_by_itself, from: name.into() })
}

/// Expected levels over 3 of the last user message, read without anything before it: how moderation that judges one
/// message at a time sees the history at its end.
fn last_by_itself(scorer: &Scorer, history: &History) -> anyhow::Result<[f64; 2]> {
    let mut said =
        history.sessions.iter().rev().flat_map(|session| session.messages.iter().rev().map(move |m| (session, m)));
    let Some((session, message)) = said.find(|(_, message)| message.role == Role::User) else { return Ok([0.0; 2]) };
    let only = Session { messages: vec![message.clone()], ..session.clone() };
    let score = scorer.score(&History { user_id: history.user_id.clone(), sessions: vec![only] }, &mut |_| {})?;
    let level = |kind: ArcKind| {
        score.messages.first().map_or(0.0, |one| f64::from(expected_level(kind.levels(&one.score)) / 3.0))
    };
    Ok(ArcKind::ALL.map(level))
}

/// The figures of one set, its histories late in a life where that was asked for.
fn judged(set: &DataSet, sources: &Sources, judging: &Judging) -> anyhow::Result<SetReport> {
    let (Some(innocents), Some(before)) = (&sources.innocents, sources.before) else {
        return Ok(judge(set, &detectors(set, sources, None)?, judging));
    };
    let scores = &sources.models[innocents.model].scores;
    let late = innocents.pool.before(set, scores, before);
    let Late { set, scores } = late.map_err(|error| anyhow!("{}: {error}", innocents.from.display()))?;
    Ok(judge(&set, &detectors(&set, sources, Some(&scores))?, judging))
}

/// All detectors on one set: models with their baselines, the lexicon, files of scores. `late` are the scores of the only model
/// where something stands before the set's histories.
fn detectors(set: &DataSet, sources: &Sources, late: Option<&ModelScores>) -> anyhow::Result<Vec<Detector>> {
    let mut all = Vec::new();
    for (place, one) in sources.models.iter().enumerate() {
        let own = model_detectors(&one.name, late.unwrap_or(&one.scores), set, &one.from, &sources.policy)?;
        let keeps_to_lives = sources.innocents.as_ref().is_some_and(|innocents| innocents.model == place);
        let learned = learned(&one.name, &own).filter(|_| keeps_to_lives);
        all.extend(own.into_iter().chain(learned));
        // Where every example is one message, that message by itself is the model.
        let histories = set.examples.iter().any(|example| example.history.message_count() > 1);
        if let Some(alone) = one.last_by_itself.as_ref().filter(|_| histories) {
            all.push(external(&format!("{}, last message by itself", one.name), alone, set)?);
        }
    }
    all.push(keywords(set));
    for (name, scores) in &sources.external {
        all.push(external(name, scores, set)?);
    }
    let mut names = HashSet::new();
    if let Some(twice) = all.iter().find(|one| !names.insert(one.name.as_str())) {
        bail!("two detectors are called `{}`; hint: give --scores another name", twice.name);
    }
    Ok(all)
}

fn manifest(
    args: &BenchmarkArgs,
    read: &Read,
    policy: &PolicyFile,
    models: Vec<ModelRecord>,
) -> anyhow::Result<Manifest> {
    let record = |path: &PathBuf| {
        let mut record = FileRecord::of(path).with_context(|| format!("cannot read {}", path.display()))?;
        record.path = safe::line(&record.path, usize::MAX);
        anyhow::Ok(record)
    };
    let map = args.labels.iter().map(PathBuf::from).filter(|path| path.is_file());
    let scores = args.scores.iter().map(|named| named.file.clone());
    let inputs =
        args.from.iter().cloned().chain(scores).chain(args.thresholds.clone()).chain(args.innocents.clone()).chain(map);
    let targets = read.towards.iter().flatten().flat_map(|toward| toward.files.iter().cloned());
    let inputs: Vec<PathBuf> = inputs.chain(targets).collect();
    Ok(Manifest {
        binary: BinaryRecord {
            version: env!("CARGO_PKG_VERSION").into(),
            git_commit: option_env!("THROUGHLINE_GIT_COMMIT").map(str::to_owned),
            git_dirty: option_env!("THROUGHLINE_GIT_DIRTY").map(|dirty| dirty == "true"),
        },
        settings: Settings {
            split: args.split.as_str().into(),
            samples: args.samples as usize,
            seed: args.seed,
            policy: format!("{} {}", policy.policy.name, policy.policy.version),
            policy_sha256: policy.sha256.clone(),
            review_score_min: policy.policy.score_min(Level::Review),
            innocent_lives: args.innocents.as_ref().map(|_| InnocentLives {
                settings: life_settings(args),
                ever_share_max: args.ever,
                sessions_before: args.after as usize,
            }),
        },
        models,
        data: read.opened.files.iter().map(record).collect::<Result<_, _>>()?,
        inputs: inputs.iter().map(record).collect::<Result<_, _>>()?,
    })
}

/// The files first: whoever reads the tables may be gone.
fn tell([figures, page]: [Option<Target>; 2], benchmark: &Benchmark) -> anyhow::Result<()> {
    if let Some(target) = &page {
        let mut output = Output::create(target)?;
        html::write(&mut output, benchmark)?;
        output.finish()?;
    }
    if let Some(target) = &figures {
        let mut output = Output::create(target)?;
        serde_json::to_writer_pretty(&mut output, benchmark)?;
        output.write_all(b"\n")?;
        output.finish()?;
    }
    if figures != Some(Target::Stdout) {
        let mut out = BufWriter::new(stdout());
        terminal::write(&mut out, benchmark)?;
        out.flush()?;
    }
    Ok(())
}

fn is_stdout(path: Option<&Path>) -> bool {
    path == Some(Path::new("-"))
}
