//! `throughline model verify`: is a model whole, and does it say what it should?

use std::io::{self, Write};
use std::path::Path;

use anyhow::ensure;
use serde::Serialize;
use throughline::engine::{Model, ModelSource, load};
use throughline::scorer::{HistoryScore, Scorer, ScorerSettings};
use throughline::scoring::expected_level;
use throughline::transcript::{History, Message, Role, Session};
use throughline::verdict::Policy;

use super::super::args::ModelVerifyArgs;
use super::super::limits::read_small;
use super::super::{EXIT_CLEAN, EXIT_ERROR};

/// The embedded model's digest as it was recorded when its file was made, in the form of sha256sum.
#[cfg(feature = "embedded-model")]
const EMBEDDED_SHA256: Option<&str> = Some(include_str!("../../../models/throughline-guard.gguf.sha256"));
#[cfg(not(feature = "embedded-model"))]
const EMBEDDED_SHA256: Option<&str> = None;

/// How far a sum of probabilities may be from 1.
const SUM_DELTA_MAX: f32 = 1e-4;

#[derive(Serialize)]
struct Check {
    name: &'static str,
    /// `None`: could not be checked.
    passed: Option<bool>,
    detail: String,
}

pub fn run(args: &ModelVerifyArgs) -> anyhow::Result<u8> {
    let source = super::source(&args.model)?;
    let expected = expected_digest(args, &source)?;
    let model = load(&source)?;
    let info = model.info.clone();
    let mut checks = vec![digest(&info.sha256, expected.as_deref())];
    checks.push(Check {
        name: "heads",
        passed: info.message_heads.then_some(true),
        detail: if info.message_heads {
            "harassment, delusion, stance, imminent".into()
        } else {
            "none: a guard model that says its verdict in words".into()
        },
    });
    if info.message_heads {
        checks.extend(self_checks(model)?);
    }
    let passed = checks.iter().all(|check| check.passed != Some(false));
    tell(&info.name, &checks, (passed, args.json))?;
    Ok(if passed { EXIT_CLEAN } else { EXIT_ERROR })
}

/// The digest asked for, the one this build knows, or that of a file beside the model.
fn expected_digest(args: &ModelVerifyArgs, source: &ModelSource) -> anyhow::Result<Option<String>> {
    let text = match (&args.sha256, source) {
        (Some(digest), _) => Some(digest.clone()),
        (None, ModelSource::Embedded) => EMBEDDED_SHA256.map(str::to_owned),
        (None, ModelSource::Path(path)) => {
            let mut beside = path.clone().into_os_string();
            beside.push(".sha256");
            let beside = Path::new(&beside);
            if beside.exists() { Some(read_small(beside)?) } else { None }
        }
        (None, ModelSource::Hub(_)) => None,
    };
    let digest = text.map(|text| text.split_whitespace().next().unwrap_or_default().to_ascii_lowercase());
    if let Some(digest) = &digest {
        ensure!(
            digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "the digest to compare with has {} characters, 64 hexadecimal digits are needed; hint: sha256sum FILE",
            digest.chars().count()
        );
    }
    Ok(digest)
}

fn digest(found: &str, expected: Option<&str>) -> Check {
    let detail = match expected {
        Some(expected) if expected == found => format!("{found}, as recorded"),
        Some(expected) => format!("{found}, expected {expected}"),
        None => format!("{found}; nothing to compare with (hint: --sha256, or FILE.sha256 beside the model)"),
    };
    Check { name: "digest", passed: expected.map(|expected| expected == found), detail }
}

/// Whether the model scores, the same every time, and tells plain cases apart.
fn self_checks(model: Model) -> anyhow::Result<Vec<Check>> {
    const THREAT: &str = "I found out where she lives. I'm driving to her house tonight with a knife and she will pay.";
    const MESSIAH: &str =
        "The machine chose me. Only I can hear the signal, and everyone who doubts it is part of the plot.";
    const EGG: &str = "How long do I boil an egg so that the yolk stays soft?";
    let scorer = Scorer::with_heads(model, ScorerSettings { window: None, policy: Policy::default() })?;
    let read = |text: &str| scorer.score(&history(text), &mut |_| {});
    let (threat, messiah, egg) = (read(THREAT)?, read(MESSIAH)?, read(EGG)?);
    let sums = [&threat, &messiah, &egg].iter().flat_map(|score| &score.messages).all(|message| {
        let score = &message.score;
        [score.harassment, score.delusion, score.stance]
            .iter()
            .all(|levels| (levels.iter().sum::<f32>() - 1.0).abs() <= SUM_DELTA_MAX)
    });
    let again = read(THREAT)? == threat;
    let level = |score: &HistoryScore, delusion: bool| {
        let first = &score.messages[0].score;
        expected_level(if delusion { &first.delusion } else { &first.harassment })
    };
    let (threat, calm) = (level(&threat, false), level(&egg, false));
    let (messiah, plain) = (level(&messiah, true), level(&egg, true));
    Ok(vec![
        Check { name: "probabilities", passed: Some(sums), detail: "each head's add up to 1".into() },
        Check { name: "repeatable", passed: Some(again), detail: "the same text, the same scores".into() },
        Check {
            name: "harassment",
            passed: Some(threat > calm),
            detail: format!("expected level of a plain threat {threat:.2}, of a plain question {calm:.2}"),
        },
        Check {
            name: "delusion",
            passed: Some(messiah > plain),
            detail: format!("expected level of a plain delusion {messiah:.2}, of a plain question {plain:.2}"),
        },
    ])
}

fn history(text: &str) -> History {
    let message = |role, content: &str| Message { role, content: content.into(), timestamp: None };
    History {
        user_id: "check".into(),
        sessions: vec![Session {
            session_id: "check".into(),
            started_at: None,
            messages: vec![message(Role::User, text), message(Role::Assistant, "Let me think about that.")],
        }],
    }
}

fn tell(name: &str, checks: &[Check], (passed, json): (bool, bool)) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, &serde_json::json!({"model": name, "passed": passed, "checks": checks}))?;
        writeln!(out)?;
        return Ok(());
    }
    for check in checks {
        let mark = match check.passed {
            Some(true) => "ok",
            Some(false) => "FAILED",
            None => "-",
        };
        writeln!(out, "{mark:<7} {:<14} {}", check.name, check.detail)?;
    }
    writeln!(out, "{name}: {}", if passed { "whole" } else { "NOT whole" })?;
    Ok(())
}
