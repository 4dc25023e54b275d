//! `throughline model …`, and how `score` makes a model ready.

use std::path::Path;

use anyhow::{Context, bail};
use throughline::engine::{Model, ModelSource};
use throughline::guard::categories::CategoryPolicy;
use throughline::guard::llama_guard::{Family, GuardSettings, LlamaGuard};
use throughline::scorer::{Scorer, ScorerSettings, VerdictReader};

use super::args::{ModelArgs, ModelCommand};
use super::limits::read_small;
use super::settings::ScoreSettings;

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

/// The scorer of a model, and how its verdict is read.
pub fn scorer(model: Model, scoring: ScorerSettings, settings: &ScoreSettings) -> anyhow::Result<(Scorer, String)> {
    if model.has_heads() {
        if settings.guard.is_some() || settings.categories.is_some() {
            bail!(
                "--guard and --categories are for models that say their verdict in words; this one has message heads"
            );
        }
        return Ok((Scorer::with_heads(model, scoring)?, "heads".into()));
    }
    let family = settings.guard.as_deref().map(family).transpose()?;
    let policy = settings.categories.as_deref().map(categories).transpose()?;
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
