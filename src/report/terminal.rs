//! A summary for people at a terminal.

use std::io::{self, Write};

use super::{
    ArcView, EvidenceView, FRAMED_WORDS, ModelLine, MostUrgent, NOTICE, OpinionView, PlaceView, RunInfo, TargetView,
    Totals, UserView, count, drift_words, names, not_shown, safe, score_words, stance_words,
};
use crate::verdict::Level;

/// Characters of a quote, a user id and a spark line.
const QUOTE_CHARS_MAX: usize = 72;
const ID_CHARS_MAX: usize = 24;
const SPARK_CHARS: usize = 16;
/// Messages shown of an arc.
const EVIDENCE_SHOWN: usize = 3;

const RESET: &str = "\u{1b}[0m";
const DIM: &str = "\u{1b}[2m";

/// Writes the summary; `colour` only where a terminal shows it.
pub struct Terminal<'a> {
    pub out: &'a mut dyn Write,
    pub colour: bool,
}

impl Terminal<'_> {
    /// The users, the most urgent first, and what the run came to.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write(&mut self, run: &RunInfo, users: &mut MostUrgent, totals: &Totals) -> io::Result<()> {
        let (users, left_out) = users.shown();
        for user in users {
            self.user(user)?;
        }
        if let Some(note) = not_shown(left_out) {
            writeln!(self.out, "{note}")?;
        }
        if users.iter().flat_map(|user| &user.arcs).any(|arc| arc.level > Level::None) {
            writeln!(self.out, "{}", self.dim(&run.alpha_note()))?;
        }
        if !users.is_empty() {
            writeln!(self.out)?;
        }
        self.summary(run, totals)
    }

    fn user(&mut self, user: &UserView) -> io::Result<()> {
        let id = safe::line(&user.user_id, ID_CHARS_MAX);
        let [harassment, delusion] = &user.arcs;
        write!(self.out, "{} {id:<ID_CHARS_MAX$} ", self.level(user.level, 6))?;
        write!(self.out, " harassment {} {:.2} ", spark(&harassment.trace), harassment.score)?;
        write!(self.out, " delusion {} {:.2} ", spark(&delusion.trace), delusion.score)?;
        let dates = user.dates().map(|(first, last)| format!(", {first} to {last}")).unwrap_or_default();
        let (sessions, messages) = (count(user.sessions.len(), "session"), count(user.messages, "message"));
        let counts = format!("{sessions}, {messages}{dates}");
        writeln!(self.out, " {}", self.dim(&counts))?;
        for arc in user.arcs.iter().filter(|arc| arc.level > Level::None) {
            self.arc(arc)?;
        }
        for target in &user.targets {
            self.target(target)?;
        }
        for opinion in &user.opinions {
            self.opinion(opinion)?;
        }
        if user.disagreement {
            writeln!(self.out, "       the models disagree: a person should read it")?;
        }
        for rule in &user.rules {
            let raised =
                if rule.level > Level::None { format!(", {}", self.level(rule.level, 0)) } else { String::new() };
            writeln!(self.out, "       rule {}{raised}: {} ({})", rule.id, rule.why, rule.rests_on)?;
        }
        if !user.mitigations.is_empty() {
            writeln!(self.out, "       the policy recommends {}", names(&user.mitigations))?;
        }
        Ok(())
    }

    fn arc(&mut self, arc: &ArcView) -> io::Result<()> {
        let since = arc.onset.as_ref().map(|onset| format!(" since {}", place(onset))).unwrap_or_default();
        let (kind, level, score) = (arc.kind.as_str(), self.level(arc.level, 0), score_words(arc.score));
        writeln!(self.out, "       {kind} {level} {score}{since}; now {:.2}", arc.score_now)?;
        if let Some(threat) = &arc.imminent {
            writeln!(self.out, "         an imminent threat, {}: {}", threat.toward, place(&threat.place))?;
        }
        for evidence in arc.evidence.iter().take(EVIDENCE_SHOWN) {
            self.evidence(evidence)?;
        }
        if let Some(more) = arc.evidence.len().checked_sub(EVIDENCE_SHOWN + 1) {
            writeln!(self.out, "         {}", self.dim(&format!("and {} more", count(more + 1, "message"))))?;
        }
        if let Some(share) = arc.framed_share {
            writeln!(self.out, "         {:.0} % of the evidence {FRAMED_WORDS}", 100.0 * share)?;
        }
        for words in arc.leak.iter().chain(&arc.explanation) {
            writeln!(self.out, "         {words}")?;
        }
        if let Some(stance) = arc.assistant_stance {
            let words = stance_words(stance);
            let drift = arc.assistant_drift.and_then(|drift| Some((drift_words(drift)?, drift)));
            let drift = drift.map(|(words, drift)| format!("; it {words} ({drift:+.1})")).unwrap_or_default();
            writeln!(self.out, "         the assistant {words} ({stance:+.1} on a scale from -1 to 2){drift}")?;
        }
        Ok(())
    }

    fn target(&mut self, target: &TargetView) -> io::Result<()> {
        let [harassment, delusion] = target.shares.map(|share| share.map(|share| format!("{:.0} %", 100.0 * share)));
        let label = safe::line(&target.label, ID_CHARS_MAX);
        let since = target.onset.as_ref().map(|onset| format!(" since {}", place(onset))).unwrap_or_default();
        let told = count(target.mentions as usize, "mention");
        let level = self.level(target.level, 0);
        let harassment =
            harassment.map(|share| format!("{share} of the harassment ({level}, {:.2}{since})", target.score));
        let delusion = delusion.map(|share| format!("{share} of the delusion"));
        let shares: Vec<String> = harassment.into_iter().chain(delusion).collect();
        writeln!(self.out, "       toward {label}: {}; {told}", shares.join(", "))
    }

    fn opinion(&mut self, opinion: &OpinionView) -> io::Result<()> {
        let [harassment, delusion] = opinion.scores;
        let shown = if opinion.is_shown { ", shown above" } else { "" };
        let model = safe::line(&opinion.model, ID_CHARS_MAX);
        let level = self.level(opinion.level, 0);
        writeln!(self.out, "       by {model}: {level}, harassment {harassment:.2}, delusion {delusion:.2}{shown}")
    }

    fn evidence(&mut self, evidence: &EvidenceView) -> io::Result<()> {
        let quote = match &evidence.quote {
            Some(quote) => format!("“{}”", safe::line(quote, QUOTE_CHARS_MAX)),
            None => "(redacted)".into(),
        };
        let at = place(&evidence.place);
        writeln!(self.out, "         {:3.0} % of it  level {}  {at}", 100.0 * evidence.share, evidence.level)?;
        writeln!(self.out, "                {quote}")
    }

    fn summary(&mut self, run: &RunInfo, totals: &Totals) -> io::Result<()> {
        let levels: Vec<String> = Level::ALL
            .iter()
            .rev()
            .map(|&level| (totals.levels.get(level), level))
            .filter(|(count, _)| *count > 0)
            .map(|(count, level)| format!("{count} {level}"))
            .collect();
        writeln!(
            self.out,
            "{} ({}), {}, {}, {}, {} tokens",
            count(totals.users as usize, "user"),
            levels.join(", "),
            count(totals.sessions as usize, "session"),
            count(totals.messages as usize, "message"),
            count(totals.windows as usize, "window"),
            totals.tokens
        )?;
        for remark in totals.remarks() {
            writeln!(self.out, "{remark}")?;
        }
        let model = |model: &ModelLine| {
            format!("model {} ({})", model.title(), model.sha256.get(..12).unwrap_or(&model.sha256))
        };
        let models = run.models().map(model).collect::<Vec<_>>().join(", ");
        let policy_digest = run.policy.sha256.get(..12).unwrap_or(&run.policy.sha256);
        let policy = format!("policy {} {} ({policy_digest})", run.policy.name, run.policy.version);
        let about = format!("{models}, window {} tokens, {policy}. {NOTICE}", run.window_tokens);
        writeln!(self.out, "{}", self.dim(&about))
    }

    fn level(&self, level: Level, width: usize) -> String {
        let name = format!("{level:<width$}");
        let style = match level {
            Level::None => DIM,
            Level::Watch => "\u{1b}[36m",
            Level::Review => "\u{1b}[1;33m",
            Level::Senior => "\u{1b}[1;35m",
            Level::Urgent => "\u{1b}[1;31m",
        };
        if self.colour { format!("{style}{name}{RESET}") } else { name }
    }

    fn dim(&self, text: &str) -> String {
        if self.colour { format!("{DIM}{text}{RESET}") } else { text.to_owned() }
    }
}

/// `session 3, message 5 (maya-03, 2026-01-31)`, counted from 1.
fn place(place: &PlaceView) -> String {
    let date = place.date.as_deref().map(|date| format!(", {date}")).unwrap_or_default();
    let id = safe::line(&place.session_id, ID_CHARS_MAX);
    format!("session {}, message {} ({id}{date})", place.session_number, place.message_number)
}

/// A row of bars from 0 to 1, each the highest of its part of the trace.
fn spark(trace: &[f32]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let bars = trace.len().min(SPARK_CHARS);
    let mut out: String = (0..bars)
        .map(|bar| {
            let part = &trace[bar * trace.len() / bars..(bar + 1) * trace.len() / bars];
            let height = part.iter().fold(0.0f32, |max, score| score.max(max));
            BARS[((height * 8.0) as usize).min(7)]
        })
        .collect();
    out.extend(std::iter::repeat_n(' ', SPARK_CHARS - bars));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spark_line_shows_every_peak() {
        assert_eq!(spark(&[0.0, 0.5, 1.0]), "▁▅█             ");
        let mut long = vec![0.0; 1_000];
        long[777] = 1.0;
        assert_eq!(spark(&long).chars().filter(|&c| c == '█').count(), 1);
        assert_eq!(spark(&[]).chars().count(), SPARK_CHARS);
    }
}
