//! `throughline model …`, and how `score` and `benchmark` make a model ready.

use std::path::Path;

use anyhow::{Context, bail};
use throughline::engine::{Model, ModelSource};
use throughline::guard::categories::CategoryPolicy;
use throughline::guard::llama_guard::{Family, GuardSettings, LlamaGuard};
use throughline::scorer::{Scorer, ScorerSettings, VerdictReader};

use super::args::{ModelArgs, ModelCommand};
use super::limits::read_small;

mod info;
mod speed;
mod verify;

pub fn run(args: ModelArgs) -> anyhow::Result<u8> {
    match args.command {
        ModelCommand::Info(args) => info::run(&args),
        ModelCommand::Verify(args) => verify::run(&args),
        ModelCommand::Speed(args) => speed::run(&args),
    }
}

/// Where a model is, from its name as typed.
pub fn source(name: &str) -> anyhow::Result<ModelSource> {
    Ok(ModelSource::parse(name)?)
}

/// How the words of a guard's verdict are to be read.
#[derive(Debug, Clone, Copy)]
pub struct ReadAs<'a> {
    pub guard: Option<&'a str>,
    pub categories: Option<&'a Path>,
}

/// The scorer of a model, and how its verdict is read.
pub fn scorer(model: Model, scoring: ScorerSettings, read_as: ReadAs) -> anyhow::Result<(Scorer, String)> {
    if model.has_heads() {
        if read_as.guard.is_some() || read_as.categories.is_some() {
            bail!(
                "--guard and --categories are for models that say their verdict in words; this one has message heads"
            );
        }
        return Ok((Scorer::with_heads(model, scoring)?, "heads".into()));
    }
    let family = read_as.guard.map(family).transpose()?;
    let policy = read_as.categories.map(categories).transpose()?;
    let guard_settings = GuardSettings {
        template: model.chat_template.as_deref(),
        model_name: &model.info.name,
        family,
        policy: policy.as_ref(),
    };
    let guard = LlamaGuard::new(guard_settings, &model.tokenizer)?;
    let reading = guard.family().as_str().to_owned();
    let reader = VerdictReader::new(guard, &model.tokenizer, None)?;
    Ok((Scorer::with_verdicts(model, reader, scoring)?, reading))
}

fn family(name: &str) -> anyhow::Result<Family> {
    Family::parse(name).with_context(|| {
        let names = Family::ALL.map(Family::as_str).join(", ");
        format!("there is no guard family `{name}`; hint: one of {names}")
    })
}

fn categories(path: &Path) -> anyhow::Result<CategoryPolicy> {
    Ok(CategoryPolicy::from_toml(&read_small(path)?, &path.display().to_string())?)
}
