//! One self-contained page: no script, no network, nothing but what stands in it.

use std::io::{self, Write};

use askama::Template;

use super::svg::{self, Timeline};
use super::{
    FRAMED_WORDS, MostUrgent, NOTICE, PlaceView, RunInfo, Totals, UserView, count, drift_words, names, not_shown,
    score_words, stance_words,
};
use crate::verdict::Level;

/// With more users than this, all are folded.
const USERS_OPEN_MAX: usize = 12;

#[derive(Template)]
#[template(path = "report.html", config = "src/report/askama.toml")]
struct Page<'a> {
    run: &'a RunInfo,
    users: &'a [UserView],
    totals: &'a Totals,
    levels: Vec<(Level, u64)>,
    remarks: Vec<String>,
    notice: &'static str,
    alpha_note: String,
}

impl Page<'_> {
    fn timeline(&self, user: &UserView) -> Timeline {
        Timeline::new(user, &self.run.policy)
    }

    /// Folded, unless it is one of few and of interest.
    fn open(&self, user: &UserView) -> bool {
        self.users.len() <= USERS_OPEN_MAX && user.level > Level::None
    }

    fn mitigations(&self, user: &UserView) -> String {
        names(&user.mitigations)
    }

    /// `6 sessions, 32 messages`.
    fn counts(&self, user: &UserView) -> String {
        format!("{}, {}", count(user.sessions.len(), "session"), count(user.messages, "message"))
    }

    /// The same of all users, and how many they are.
    fn counts_all(&self) -> String {
        let Totals { users, sessions, messages, .. } = self.totals;
        let all = [(users, "user"), (sessions, "session"), (messages, "message")];
        all.map(|(number, of)| count(*number as usize, of)).join(", ")
    }

    /// `Every user`, or how many of them are shown.
    fn shown_users(&self) -> String {
        match self.users.len() {
            shown if shown as u64 == self.totals.users => "Every user".into(),
            shown => format!("{shown} of {} users", self.totals.users),
        }
    }

    fn dates(&self, user: &UserView) -> String {
        match user.dates() {
            Some((first, last)) if first == last => first.to_owned(),
            Some((first, last)) => format!("{first} – {last}"),
            None => "no dates".into(),
        }
    }

    fn place(&self, place: &PlaceView) -> String {
        let date = place.date.as_deref().map(|date| format!(", {date}")).unwrap_or_default();
        format!("session {}, message {}{date}", place.session_number, place.message_number)
    }

    fn number(&self, value: &f32) -> String {
        format!("{value:.2}")
    }

    /// The same of an arc's score, with its α.
    fn score(&self, score: &f32) -> String {
        score_words(*score)
    }

    fn signed(&self, value: &f32) -> String {
        format!("{value:+.1}").replace('-', "−")
    }

    fn percent(&self, share: &f32) -> String {
        format!("{:.0} %", 100.0 * share)
    }

    fn stance(&self, stance: &f32) -> &'static str {
        stance_words(*stance)
    }

    fn framed_words(&self) -> &'static str {
        FRAMED_WORDS
    }

    fn drift(&self, drift: &f32) -> Option<&'static str> {
        drift_words(*drift)
    }
}

/// The page; users are put in the order of urgency.
///
/// # Errors
/// Those of the writer.
pub fn write(out: &mut dyn Write, run: &RunInfo, users: &mut MostUrgent, totals: &Totals) -> io::Result<()> {
    let (users, left_out) = users.shown();
    let page = Page {
        run,
        users,
        totals,
        levels: Level::ALL.iter().rev().map(|&level| (level, totals.levels.get(level))).collect(),
        remarks: not_shown(left_out).into_iter().chain(totals.remarks()).collect(),
        notice: NOTICE,
        alpha_note: run.alpha_note(),
    };
    page.write_into(out)
}
