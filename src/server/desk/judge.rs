//! Turns and drafts of several users, computed side by side.
//!
//! A turn is judged on the user's [`Live`] history, which is held in memory while there is room, and recalled from the
//! store where it is not; it is kept before it is answered. What is in memory never decides: where the store says otherwise, it is read
//! again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use axum::http::StatusCode;
use tracing::Span;

use super::super::problem::Problem;
use super::super::user::{Failed, UserLive, tell_of_alarm};
use super::super::wire::{CheckOut, RaisedOut, StandingOut, TurnOut, messages_out, record};
use super::{Answer, Reply, Said, Way, Worker};
use crate::arc::{ArcKind, MessageAt};
use crate::scorer::{ArcNow, Heard, Hearing, Live, ReadingNotes, ScoreError, ScoredMessage, TargetScore, Turn};
use crate::scoring::MessageScore;
use crate::store::{KeptMessage, NewAlarm, NewTurn, Request, StoreError, UserRow, text_digest};
use crate::transcript::{Message, Role};
use crate::verdict::{Level, Policy, Verdict};

/// How often a turn is judged again because another process wrote meanwhile.
const TRIES: usize = 8;

/// A turn's idempotency key, and the digest of what was asked.
type Key = Option<(String, [u8; 32])>;

/// What becomes of what is judged.
pub(super) enum Purpose {
    /// It is kept.
    Turn(Key),
    Check,
}

/// A turn or a draft.
pub(super) struct Asked {
    pub said: Said,
    pub purpose: Purpose,
    pub reply: Reply,
    /// Of the request.
    pub span: Span,
}

/// A user's history, to be gone on with.
struct Open<'a> {
    user: UserLive<'a>,
    /// What is kept of the user.
    row: UserRow,
    /// Whether a session begins.
    begins: bool,
    hearing: Hearing,
    /// How often users had been to be forgotten.
    forgets: u64,
    /// How the user stood, what had been read, and the place of what comes next.
    level_before: Level,
    notes_before: ReadingNotes,
    first: MessageAt,
}

/// What there is before a turn is judged.
enum Opened<'a> {
    History(Box<Open<'a>>),
    /// The same turn was answered before, so.
    Answered(Vec<u8>),
}

impl<'a> Worker<'a> {
    /// Judges turns and drafts, of a user each, and answers them.
    pub(super) fn judge(&mut self, mut asked: Vec<Asked>, way: Way) {
        for _ in 0..TRIES {
            asked = self.try_to_judge(asked, way);
        }
        asked.into_iter().for_each(|one| one.answer(Err(StoreError::WentOn.into())));
    }

    /// What is heard of them; where that ends in a panic, nothing, and none of the histories can be gone on with.
    fn hear(&mut self, open: &mut [(Asked, Box<Open<'a>>)], way: Way) -> Option<Vec<Result<Vec<Heard>, ScoreError>>> {
        let (scorer, together) = (self.scorer, open.len());
        let span = |(one, _): &(Asked, _)| tracing::info_span!(parent: &one.span, "judge", together);
        let _judging: Vec<Span> = open.iter().map(span).collect();
        let turns = open.iter_mut().map(|(one, open)| {
            let (one, hearing) = (&*one, open.hearing);
            (one, Turn { live: &mut open.user.live, messages: &one.said.messages, hearing })
        });
        let (asked, mut turns): (Vec<&Asked>, Vec<Turn>) = turns.unzip();
        let mut go_on = |_| {
            self.give_way(way);
            asked.iter().any(|one| one.is_wanted())
        };
        let heard = catch_unwind(AssertUnwindSafe(|| scorer.hear_while(&mut turns, &mut go_on)));
        heard.inspect_err(|_| tracing::error!("judging {together} turns ended in a panic")).ok()
    }

    /// Judges and answers them but for those that it returns, which must be judged again.
    fn try_to_judge(&mut self, asked: Vec<Asked>, way: Way) -> Vec<Asked> {
        let (mut open, mut again) = (Vec::new(), Vec::new());
        for one in asked {
            // Whoever went away while others were opened is not waited for.
            if one.reply.is_closed() {
                self.metrics.skipped();
                continue;
            }
            match self.open(&one) {
                Ok(Opened::History(history)) => open.push((one, history)),
                Ok(Opened::Answered(answer)) => {
                    self.all_judged = false;
                    one.answer(Ok(Answer::Turn(answer, true)));
                }
                Err(failed) => again.extend(self.failed(one, failed)),
            }
        }
        let Some(heard) = self.hear(&mut open, way) else {
            // Whose text it was is found out by judging each alone.
            match open.len() {
                1 => open.into_iter().for_each(|(one, _)| one.answer(Err(Problem::broken()))),
                _ => open.into_iter().for_each(|(one, _)| self.judge(vec![one], way)),
            }
            return again;
        };
        for ((one, open), heard) in open.into_iter().zip(heard) {
            let _closing = tracing::info_span!(parent: &one.span, "close").entered();
            let closed = match heard {
                Ok(heard) => self.close(&one, *open, &heard),
                Err(error) => {
                    // Of a draft that could not be read nothing was said.
                    if matches!(one.purpose, Purpose::Check) {
                        self.put_back(&one.said.user_id, *open);
                    }
                    Err(Failed::Score(error))
                }
            };
            match closed {
                Ok(answer) => one.answer(Ok(answer)),
                Err(failed) => again.extend(self.failed(one, failed)),
            }
        }
        again
    }

    fn open(&mut self, Asked { said, purpose, .. }: &Asked) -> Result<Opened<'a>, Failed> {
        if let Purpose::Turn(Some(key)) = purpose
            && let Some(answer) = self.answered(said, key)?
        {
            return Ok(Opened::Answered(answer));
        }
        let row = self.store.user(&said.user_id)?;
        if matches!(purpose, Purpose::Turn(_)) {
            self.bound(&row, said)?;
        }
        let mut user = self.user(&said.user_id, &row)?;
        self.metrics.recomputed(user.live.cold_tokens());
        let (level_before, notes_before) = (user.live.verdict().level, user.live.notes());
        let begins = user.session_id.as_deref() != Some(&said.session_id);
        let hearing = match purpose {
            Purpose::Turn(_) => {
                begins.then(|| user.live.begin_session(said.session_started_at));
                Hearing::Said
            }
            Purpose::Check => Hearing::Draft { new_session: begins.then_some(said.session_started_at) },
        };
        let next = user.live.next_place();
        let first = match hearing {
            // It is begun, and ended again, when the draft is heard.
            Hearing::Draft { new_session: Some(_) } if row.sessions > 0 => {
                MessageAt { session: next.session + 1, message: 0 }
            }
            _ => next,
        };
        let forgets = self.forgets;
        let open = Open { user, row, begins, hearing, forgets, level_before, notes_before, first };
        Ok(Opened::History(Box::new(open)))
    }

    /// Whether the history has room for a turn.
    fn bound(&self, row: &UserRow, said: &Said) -> Result<(), Failed> {
        let messages_max = self.settings.history_messages_max;
        if row.messages + said.messages.len() as u64 <= messages_max {
            return Ok(());
        }
        tracing::warn!(messages_max, "a user's history is full: turns of theirs are not judged");
        Err(Failed::Told(Problem::full_history(row.messages, messages_max)))
    }

    /// The answer to a turn that was given before.
    fn answered(&self, said: &Said, (key, asked): &(String, [u8; 32])) -> Result<Option<Vec<u8>>, Failed> {
        let Some(answered) = self.store.answered(&said.user_id, key)? else { return Ok(None) };
        if answered.asked == *asked {
            return Ok(Some(answered.answer));
        }
        let detail = "another turn was sent with this idempotency key";
        Err(Failed::Told(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail, "a new key for each turn")))
    }

    fn close(&mut self, asked: &Asked, open: Open<'a>, heard: &[Heard]) -> Result<Answer, Failed> {
        let said = &asked.said;
        match &asked.purpose {
            Purpose::Turn(key) => Ok(Answer::Turn(self.keep((said, key), open, heard)?, false)),
            Purpose::Check => Ok(Answer::Check(self.considered(said, open, heard))),
        }
    }

    /// Keeps a turn; where that fails, memory does not run ahead of the store.
    fn keep(&mut self, (said, key): (&Said, &Key), open: Open<'a>, heard: &[Heard]) -> Result<Vec<u8>, Failed> {
        let Open { mut user, row, begins, forgets, level_before, notes_before: before, first, .. } = open;
        let after = user.live.notes();
        self.metrics.read(after.tokens - before.tokens, heard.len(), after.split_messages - before.split_messages);
        let verdict = user.live.verdict();
        let arcs = user.live.arcs().each_ref().map(ArcNow::of);
        let kept = self.kept(said, first, heard);
        kept.iter().for_each(|message| user.step_since(message));
        let since = user.since(&self.judging.policy);
        let raised = user.raises(&verdict, since.as_ref()).zip(kept.last().map(|message| message.at));
        let since = user.since_out(&verdict, since.as_ref());
        let messages_kept = row.messages + said.messages.len() as u64;
        let by = &self.judging.by;
        let answer = |alarm: Option<i64>| {
            let alarm = alarm.zip(raised).map(|(id, (level, _))| RaisedOut { id, level });
            let standing = StandingOut::of((&arcs, &verdict), since.clone(), by);
            let flagged = flagged(&self.judging.policy, level_before, &verdict, heard);
            let out = TurnOut { messages: messages_out(heard), standing, flagged, alarm, messages_kept };
            serde_json::to_vec(&out).unwrap_or_default()
        };
        let targets = raised.and_then(|_| self.toward(&user.live));
        let record = record(&verdict, by, targets);
        let arc_levels = ArcKind::ALL.map(|kind| verdict.arc_level(kind));
        let begun = Instant::now();
        let (id, alarm) = self.store.keep(&NewTurn {
            user_id: &said.user_id,
            user: row,
            new_session: begins.then_some((said.session_id.as_str(), said.session_started_at)),
            messages: &kept,
            alarm: raised.map(|(level, at)| NewAlarm { level, arcs: arc_levels, at, verdict: &record }),
            request: key.as_ref().map(|(key, asked)| Request { key, asked: *asked, answer: &answer }),
            now: said.now,
        })?;
        self.metrics.kept(begun.elapsed(), verdict.level);
        if let (Some(alarm), Some((level, _))) = (alarm, raised) {
            tell_of_alarm((alarm, level), &self.metrics, &self.alarms);
        }
        // What is left of the row is read with the next turn.
        user.row = UserRow { id, messages: messages_kept, sessions: row.sessions + u64::from(begins), ..row };
        user.session_id = Some(said.session_id.clone());
        // Something of it may have been dropped meanwhile.
        if forgets == self.forgets {
            self.users.put(said.user_id.clone(), user);
        }
        Ok(answer(alarm))
    }

    /// The turn's messages as they are kept.
    fn kept(&self, said: &Said, first: MessageAt, heard: &[Heard]) -> Vec<KeptMessage> {
        let kept = |(index, message): (usize, &Message)| {
            let at = MessageAt { message: first.message + index, ..first };
            let score = heard.iter().find(|one| one.message.at == at).map(|one| one.message.score);
            let content = self.settings.keep_content.then(|| message.content.clone());
            let digest = Some(text_digest(&message.content));
            KeptMessage { at, role: message.role, content, digest, time: message.timestamp, score }
        };
        said.messages.iter().enumerate().map(kept).collect()
    }

    /// Toward whom the evidence is, for the record of an alarm. `None` where texts are not kept: who is known from before would depend on
    /// whether the history was in memory.
    fn toward(&self, live: &Live) -> Option<Vec<TargetScore>> {
        self.settings.keep_content.then(|| live.targets())
    }

    fn considered(&mut self, said: &Said, mut open: Open<'a>, heard: &[Heard]) -> CheckOut {
        let Open { user, level_before, notes_before, first, .. } = &mut open;
        let level_before = *level_before;
        self.metrics.read(user.live.notes().tokens - notes_before.tokens, heard.len(), 0);
        let last = heard.last().map(|one| (one.arcs, one.verdict.clone()));
        let (arcs, verdict) =
            last.unwrap_or_else(|| (user.live.arcs().each_ref().map(ArcNow::of), user.live.verdict()));
        let since = user.since_with(&self.kept(said, *first, heard), &self.judging.policy);
        let since = user.since_out(&verdict, since.as_ref());
        self.put_back(&said.user_id, open);
        CheckOut {
            messages: messages_out(heard),
            standing: StandingOut::of((&arcs, &verdict), since, &self.judging.by),
            level_before,
            flagged: flagged(&self.judging.policy, level_before, &verdict, heard),
        }
    }

    /// A history that is as it was opened.
    fn put_back(&mut self, user_id: &str, Open { user, row, forgets, .. }: Open<'a>) {
        // Drafts of users of whom nothing is kept must not push others out.
        if row.messages > 0 && forgets == self.forgets {
            self.users.put(user_id.to_owned(), user);
        }
    }

    /// Tells why it was not done, or hands it back where it must be done again.
    fn failed(&mut self, one: Asked, failed: Failed) -> Option<Asked> {
        self.all_judged = false;
        match failed {
            // Another process wrote: what is in memory is old.
            Failed::Store(StoreError::WentOn) => Some(one),
            // Whether it was kept is asked of its idempotency key; without one, nobody could tell it from another's turn.
            Failed::Store(StoreError::Unsure) if matches!(one.purpose, Purpose::Turn(Some(_))) => Some(one),
            failed => {
                one.answer(Err(self.told(failed)));
                None
            }
        }
    }

    /// The user's history, out of memory where it is in step with the store, else recalled.
    fn user(&mut self, user_id: &str, row: &UserRow) -> Result<UserLive<'a>, Failed> {
        let held = self.users.pop(user_id).and_then(|user| user.in_step(row));
        self.metrics.remembered(held.is_some());
        match held {
            Some(user) => Ok(user),
            None => UserLive::recall(self.scorer, &self.store.history(user_id)?.unwrap_or_default(), row),
        }
    }
}

impl Asked {
    /// Whether it is read to its end: a turn whoever still waits, since it is kept.
    fn is_wanted(&self) -> bool {
        matches!(self.purpose, Purpose::Turn(_)) || !self.reply.is_closed()
    }

    fn answer(self, answer: Result<Answer, Problem>) {
        // Whoever asked may be gone.
        let _ = self.reply.send(answer);
    }
}

/// Whether what was heard raised the level, or is itself what a level of `review` or above rests on: named in a finding, or evidence of an
/// arc that called a person, or a threat. Findings name a dozen messages, and an arc may have many more.
fn flagged(policy: &Policy, before: Level, verdict: &Verdict, heard: &[Heard]) -> bool {
    let named = |at: MessageAt| verdict.findings.iter().any(|finding| finding.messages.contains(&at));
    let evidence = |score: &MessageScore| {
        ArcKind::ALL.iter().any(|kind| verdict.arc_level(*kind) >= Level::Review && kind.is_evidence(score))
    };
    let carries = |one: &Heard| {
        let ScoredMessage { at, role, score, .. } = &one.message;
        named(*at) || *role == Role::User && (evidence(score) || score.imminent >= policy.imminent_min())
    };
    verdict.level > before || verdict.level >= Level::Review && heard.iter().any(carries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arc::{ArcState, Observation};
    use crate::verdict::{Facts, Named};

    /// A user's messages with these scores; what is flagged of each.
    fn flags(scores: &[MessageScore]) -> Vec<bool> {
        let policy = Policy::default();
        let mut arcs = ArcKind::ALL.map(ArcState::new);
        let mut before = Level::None;
        let mut flag = |(message, score): (usize, &MessageScore)| {
            let at = MessageAt { session: 0, message };
            arcs.iter_mut().for_each(|arc| arc.step(&Observation { at, time: None, from_user: true, score: *score }));
            let verdict = policy.judge(&Facts { arcs: &arcs, named: &Named::default() });
            let message = ScoredMessage { at, role: Role::User, score: *score, categories: Vec::new() };
            let heard = Heard { message, arcs: arcs.each_ref().map(ArcNow::of), verdict: verdict.clone() };
            flagged(&policy, std::mem::replace(&mut before, verdict.level), &verdict, &[heard])
        };
        scores.iter().enumerate().map(&mut flag).collect()
    }

    #[test]
    fn whoever_goes_on_is_flagged_however_much_there_was_before() {
        let targets = MessageScore { harassment: [0.0, 0.0, 1.0, 0.0], ..MessageScore::NOTHING };
        let threatens = MessageScore { harassment: [0.0, 0.0, 0.0, 1.0], imminent: 0.9, ..MessageScore::NOTHING };
        let mut scores = vec![targets; 20];
        let found = flags(&scores);
        assert!(found[3..].iter().all(|flagged| *flagged), "more than a finding names: {found:?}");
        scores.extend([MessageScore::NOTHING, threatens, targets, MessageScore::NOTHING]);
        assert_eq!(flags(&scores)[20..], [false, true, true, false], "a threat hides nothing");
    }
}
