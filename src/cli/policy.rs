//! `throughline policy …`: the policy that judges, and what another one would have done.

use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, anyhow, ensure};
use serde::Serialize;
use throughline::arc::ArcKind;
use throughline::benchmark::detector::each_user;
use throughline::benchmark::manifest::ModelRecord;
use throughline::benchmark::metrics::{Figure, Figures};
use throughline::benchmark::simulate::e_values::EValues;
use throughline::benchmark::simulate::lives::{LifeSettings, Lives, Pool};
use throughline::benchmark::simulate::{AtLevel, Outcome, Share, Simulation, positive_predictive_value};
use throughline::report::safe;
use throughline::verdict::{DEFAULT_POLICY_TOML, Level, LevelSettings, OnFailure, Policy, PolicyFile, Rule};

use super::EXIT_CLEAN;
use super::args::{PolicyArgs, PolicyCommand, PolicyFileArgs, PolicySimulateArgs};
use super::limits::read_small;

/// The longest time between two sessions of a life, in days.
const LIFE_GAP_DAYS_MAX: f64 = 3_650.0;

pub fn run(args: PolicyArgs) -> anyhow::Result<u8> {
    let mut out = io::stdout().lock();
    match args.command {
        PolicyCommand::Show => out.write_all(DEFAULT_POLICY_TOML.as_bytes())?,
        PolicyCommand::Check(args) => check(&args, &mut out)?,
        PolicyCommand::Explain(args) => explain(&args, &mut out)?,
        PolicyCommand::Simulate(args) => simulate(&args, &mut out)?,
    }
    Ok(EXIT_CLEAN)
}

/// The policy of a file, or the default one.
pub fn load(path: Option<&Path>) -> anyhow::Result<PolicyFile> {
    let Some(path) = path else { return Ok(PolicyFile::default()) };
    let text = read_small(path).with_context(|| format!("policy {}", path.display()))?;
    Ok(PolicyFile::from_toml(&text, &path.display().to_string())?)
}

/// The same for a model with message heads, which names no categories: every rule of it can hold.
#[cfg(feature = "server")]
pub fn load_for_heads(path: Option<&Path>) -> anyhow::Result<PolicyFile> {
    let loaded = load(path)?;
    loaded.policy.check_without_categories().map_err(anyhow::Error::msg)?;
    Ok(loaded)
}

fn check(args: &PolicyFileArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let file = load(args.file.as_deref())?;
    writeln!(out, "{}", title(&file))?;
    let rules = file.policy.rules.len();
    writeln!(out, "holds together: 5 levels, {rules} {}", if rules == 1 { "rule" } else { "rules" })?;
    Ok(())
}

fn title(file: &PolicyFile) -> String {
    format!("policy {} {} (sha256 {})", file.policy.name, file.policy.version, file.sha256)
}

fn explain(args: &PolicyFileArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let file = load(args.file.as_deref())?;
    writeln!(out, "{}", title(&file))?;
    if !file.policy.description.is_empty() {
        writeln!(out, "{}", safe::line(&file.policy.description, usize::MAX))?;
    }
    writeln!(out, "\nA user's level is the highest of these that holds for an arc, or that a rule gives:")?;
    for level in Level::ALL.into_iter().rev() {
        writeln!(out, "  {level:<7} {}", level_in_words(file.policy.levels.of(level)))?;
    }
    if file.policy.rules.is_empty() {
        writeln!(out, "\nNo rules beside the levels.")?;
    }
    for rule in &file.policy.rules {
        writeln!(out, "\nrule {}: {}", rule.id, safe::line(&rule.why, usize::MAX))?;
        writeln!(out, "  when {}", conditions(rule).join(", and "))?;
        let level = rule.level.map(|level| format!("the level is at least {level}"));
        let more = (!rule.mitigations.is_empty()).then(|| format!("recommended is {}", list(rule.mitigations.iter())));
        writeln!(out, "  then {}", level.into_iter().chain(more).collect::<Vec<_>>().join("; "))?;
    }
    writeln!(out, "\nA recommendation goes to people; the program itself restricts nobody.")?;
    Ok(())
}

fn level_in_words(settings: &LevelSettings) -> String {
    let when = match (settings.score_min, settings.imminent_min) {
        (Some(min), _) => format!("from a score of {min} ({})", alpha(min)),
        (None, Some(min)) => format!("from a probability of {min} that one message is an imminent threat"),
        (None, None) => "below all others".into(),
    };
    let recommended = match settings.mitigations.is_empty() {
        true => "nothing recommended".into(),
        false => format!("recommended: {}", list(settings.mitigations.iter())),
    };
    let failure = match settings.on_failure {
        OnFailure::Open => "without a verdict the next reply goes out",
        OnFailure::Closed => "without a verdict the next reply is held",
    };
    format!("{when}; {recommended}; {failure}")
}

/// The false-alarm probability that a level's score stands for, in words.
fn alpha(score: f32) -> String {
    match Policy::alpha(score).map(|alpha| 100.0 * alpha) {
        _ if score >= 1.0 => "off: no score is that high".into(),
        None => "no promise about false alarms".into(),
        Some(percent) if percent < 0.1 => format!("α = {percent:.1e}% an arc"),
        Some(percent) if percent < 1.0 => format!("α = {percent:.1}% an arc"),
        Some(percent) => format!("α = {percent:.0}% an arc"),
    }
}

fn conditions(rule: &Rule) -> Vec<String> {
    let arc = rule.arc.map_or("an arc".to_owned(), |kind| format!("the {} arc", kind.as_str()));
    let times = rule.messages_min.unwrap_or(1);
    [
        rule.arc.map(|kind| format!("it is the {} arc", kind.as_str())),
        rule.score_min.map(|min| format!("{arc} reached a score of {min}")),
        rule.score_now_min.map(|min| format!("{arc} stands at {min} or more now")),
        rule.sessions_min.map(|min| format!("its evidence stands in {min} sessions or more")),
        rule.assistant_stance_min
            .map(|min| format!("the assistant's stance is {min} or more (-1 protective, 2 amplifying)")),
        rule.assistant_stance_max
            .map(|max| format!("the assistant's stance is {max} or less (-1 protective, 2 amplifying)")),
        rule.category
            .as_ref()
            .map(|id| format!("a guard named the category {} in {times} message(s) or more", safe::line(id, 64))),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn list(items: impl Iterator<Item = impl std::fmt::Display>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

#[derive(Serialize)]
struct SimulatedLine<'a> {
    policy: &'a str,
    version: &'a str,
    sha256: &'a str,
    model: &'a ModelRecord,
    #[serde(flatten)]
    outcome: Outcome,
    /// Of user messages, by arc: the same beside every policy.
    mean_e_value: &'a Figures,
    #[serde(skip_serializing_if = "Option::is_none")]
    positive_predictive_value: Option<Figure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lives: Option<Lives>,
}

/// Whether the numbers of a simulation are within their limits.
fn check_numbers(args: &PolicySimulateArgs) -> anyhow::Result<()> {
    for (name, value) in [("--base-rate", args.base_rate), ("--recall", Some(args.recall))] {
        let fine = value.is_none_or(|value| (0.0..=1.0).contains(&value));
        ensure!(
            fine,
            "{name} is {}, the limits are 0 and 1; hint: 0.001 is one in a thousand",
            value.unwrap_or_default()
        );
    }
    let days = args.life_gap_days;
    ensure!(
        (0.0..=LIFE_GAP_DAYS_MAX).contains(&days),
        "--life-gap-days is {days}, the limits are 0 and {LIFE_GAP_DAYS_MAX}; hint: 3 is two sessions a week"
    );
    Ok(())
}

fn simulate(args: &PolicySimulateArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    check_numbers(args)?;
    let files: Vec<PolicyFile> = match args.policy.is_empty() {
        true => vec![PolicyFile::default()],
        false => args.policy.iter().map(|path| load(Some(path))).collect::<Result<_, _>>()?,
    };
    let mut simulations: Vec<Simulation> = files.iter().map(|file| Simulation::new(&file.policy)).collect();
    let (mut pool, mut e_values) = (Pool::default(), EValues::default());
    let model = each_user(&args.scores, &mut |user| {
        simulations.iter_mut().for_each(|one| one.see(user));
        e_values.see(user);
        if args.lives > 0 {
            pool.see(user);
        }
    })?;
    let mean_e_value = e_values.means();
    let lives = |policy: &Policy| match args.lives {
        0 => Ok(None),
        _ => pool.lives(policy, life_settings(args)).map(Some).map_err(|error| anyhow!("--lives: {error}")),
    };
    for (index, (file, simulation)) in files.iter().zip(&simulations).enumerate() {
        let outcome = simulation.outcome();
        let value = args.base_rate.map(|rate| positive_predictive_value(&outcome.called, rate, args.recall));
        let lives = lives(&file.policy)?;
        if args.json {
            let Policy { name, version, .. } = &file.policy;
            let line = SimulatedLine {
                policy: name,
                version,
                sha256: &file.sha256,
                model: &model,
                outcome,
                mean_e_value: &mean_e_value,
                positive_predictive_value: value,
                lives,
            };
            serde_json::to_writer(&mut *out, &line)?;
            writeln!(out)?;
        } else {
            if index > 0 {
                writeln!(out)?;
            }
            writeln!(out, "{}", title(file))?;
            tell(&outcome, out)?;
            if let (Some(value), Some(rate)) = (value, args.base_rate) {
                tell_value(&value, rate, args.recall, out)?;
            }
            if let Some(lives) = lives {
                tell_lives(&lives, out)?;
            }
        }
    }
    if !args.json {
        tell_e_values(&mean_e_value, out)?;
    }
    Ok(())
}

fn tell(outcome: &Outcome, out: &mut dyn Write) -> io::Result<()> {
    let dates = match (outcome.first_message, outcome.last_message) {
        (Some(first), Some(last)) => format!(", {} to {}", first.strftime("%Y-%m-%d"), last.strftime("%Y-%m-%d")),
        _ => ", none of them dated: no evidence fades, and no load a day can be told".to_owned(),
    };
    writeln!(out, "users {}, messages of theirs {}{dates}", outcome.users, outcome.user_messages)?;
    if outcome.unjudged > 0 {
        writeln!(out, "left out {}: the guard refused to judge any of their messages", outcome.unjudged)?;
    }
    writeln!(out, "\n{:<18}{:>8}  of 1,000 users", "highest level ever", "users")?;
    table(&outcome.levels, &outcome.called, out)?;
    for (id, users) in &outcome.rules {
        writeln!(out, "rule {id} holds at the end: users {users}")?;
    }
    for (mitigation, users) in &outcome.mitigations {
        writeln!(out, "{mitigation} is recommended at the end: users {users}")?;
    }
    let load = &outcome.load;
    if load.days > 0 {
        let busiest = load.busiest_day.map(|day| format!(", {} on the busiest ({day})", load.busiest_day_users));
        writeln!(
            out,
            "of the {} days on which anything was said, reviewers are called to {:.2} new users on each, on 95% of them to {} at \
             most{}",
            load.days,
            load.mean_a_day,
            load.p95_a_day,
            busiest.unwrap_or_default()
        )?;
    }
    if load.undated > 0 {
        writeln!(out, "called at a time that is not known, and not in the load a day: users {}", load.undated)?;
    }
    Ok(())
}

fn table(levels: &[AtLevel], called: &Share, out: &mut dyn Write) -> io::Result<()> {
    for AtLevel { level, share } in levels {
        writeln!(out, "{level:<18}{:>8}  {}", share.users, figure(&share.per_thousand, 1))?;
    }
    writeln!(out, "{:<18}{:>8}  {}", "review or above", called.users, figure(&called.per_thousand, 1))
}

fn life_settings(args: &PolicySimulateArgs) -> LifeSettings {
    LifeSettings {
        lives: args.lives as usize,
        sessions: args.life_sessions as usize,
        gap_days: args.life_gap_days,
        seed: args.seed,
    }
}

fn tell_lives(lives: &Lives, out: &mut dyn Write) -> io::Result<()> {
    let LifeSettings { lives: count, sessions, gap_days, .. } = lives.settings;
    writeln!(
        out,
        "\n{count} lives of {sessions} sessions, one every {gap_days} days ({:.0} messages of the user each), drawn from {} sessions of \
         {} users here, all taken to be innocent; intervals are those of the drawing, not of these users:",
        lives.user_messages_mean, lives.pool_sessions, lives.pool_users
    )?;
    writeln!(out, "{:<18}{:>8}  of 1,000 lives", "highest level ever", "lives")?;
    table(&lives.ever, &lives.ever_called, out)
}

/// Once for all policies: it depends on none.
fn tell_e_values(means: &Figures, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "\nmean e-value of a user message, everyone here taken to be innocent (cases among them raise it); the α of a level needs 1 at \
         most:"
    )?;
    for kind in ArcKind::ALL.map(ArcKind::as_str) {
        let mean = means.get(kind);
        writeln!(out, "{kind:<18}{}: {}", figure(&mean, 3), promise_in_words(&mean))?;
    }
    Ok(())
}

/// What the mean e-value of innocent messages, with its interval, says of the promised α.
fn promise_in_words(mean: &Figure) -> &'static str {
    match (mean.low, mean.high) {
        (Some(low), _) if low > 1.0 => {
            "above 1, so α does not hold as it is: more innocents may be called than it says, for at worst its bound grows by this factor \
             with every message"
        }
        (_, Some(high)) if high <= 1.0 => "not above 1 on the mean, as α assumes",
        _ => "not told apart from 1 by these users",
    }
}

fn tell_value(value: &Figure, rate: f64, recall: f64, out: &mut dyn Write) -> io::Result<()> {
    let percent = |value: Option<f64>| value.map(|value| 100.0 * value);
    let percents = Figure { value: percent(value.value), low: percent(value.low), high: percent(value.high) };
    let told = match (percents.value, percents.low) {
        (Some(_), _) => format!("{}%", figure(&percents, 1)),
        (None, Some(low)) => format!("at least {low:.1}% (nobody was called here)"),
        (None, None) => {
            return writeln!(out, "without a user nothing can be said of the share of cases among those called");
        }
    };
    writeln!(
        out,
        "were {}% of users cases, {}% of these called, and everyone here innocent: of those called, {told} would be cases",
        100.0 * rate,
        100.0 * recall
    )
}

/// `1.2 [0.3, 4.5]`; without the interval where there is none.
fn figure(figure: &Figure, digits: usize) -> String {
    match (figure.value, figure.low, figure.high) {
        (Some(value), Some(low), Some(high)) => format!("{value:.digits$} [{low:.digits$}, {high:.digits$}]"),
        (Some(value), ..) => format!("{value:.digits$}"),
        _ => "-".into(),
    }
}
