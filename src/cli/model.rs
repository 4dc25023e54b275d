//! `throughline model …`, and how `score` makes a model ready.

use anyhow::bail;
use throughline::engine::{Model, ModelSource};
use throughline::scorer::{Scorer, ScorerSettings};

use super::args::{ModelArgs, ModelCommand};
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
    bail!("the model has no message heads; hint: use the embedded model");
}
