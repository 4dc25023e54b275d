//! What carries an alarm: what would be left of it had its messages not been written.
//!
//! A share of a sum says how the arc added a message up, not what the guard would have made of the history without it: what
//! a later message is worth hangs on what was read before. So the history is read again, really without the messages.

use serde::{Deserialize, Serialize};

use super::{ArcScore, HistoryScore, ScoreError, Scorer, walk};
use crate::arc::{ArcKind, MessageAt};
use crate::transcript::{History, Role, Session};
use crate::verdict::{Finding, Level, Reason};

/// How many of the strongest messages are taken away at a time, one reading each, until the alarm is gone.
const STEPS: [usize; 8] = [1, 2, 3, 4, 6, 8, 12, 24];

/// What is left of an arc without its strongest messages.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Without {
    /// How many messages of the user were taken away, the strongest first; the replies to them went with them.
    pub messages: usize,
    /// The arc's score without them.
    pub score: f32,
    /// By its score and threats.
    pub level: Level,
}

/// What an arc's score owes to messages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Of the user: one, or those that were taken away between two readings.
    pub messages: Vec<MessageAt>,
    /// By how much the score falls when they are taken away after those before them; less than 0 where it rises.
    pub score: f32,
}

/// Why an alarm stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// So few of its messages, the strongest first, carry the alarm: without them it is below `review`. `None` where it stands
    /// without all that can be taken while anything of the user is left.
    pub carried_by: Option<usize>,
    /// A reading each, the first with the fewest taken away.
    pub without: Vec<Without>,
    /// What the arc's score owes to the messages that carry it, the strongest first, and to all others: together the score.
    pub parts: Vec<Part>,
    pub rest: f32,
}

impl Scorer {
    /// Explains every arc that is at `review` or above by its own score or threats: reads the history again without the messages
    /// that carry it, most often two to six times, nineteen at most. What a rule alone raised is explained by the rule.
    ///
    /// # Errors
    /// As [`Scorer::score`].
    pub fn explain(&self, history: &History, score: &mut HistoryScore) -> Result<(), ScoreError> {
        for arc in 0..score.arcs.len() {
            let alarm = score.arcs[arc].reached.last().is_some_and(|reached| reached.level >= Level::Review);
            if alarm {
                score.arcs[arc].explanation = Some(self.explain_arc(history, score, &score.arcs[arc])?);
            }
        }
        Ok(())
    }

    fn explain_arc(&self, history: &History, score: &HistoryScore, arc: &ArcScore) -> Result<Explanation, ScoreError> {
        let carriers = carriers(score, arc);
        let said = score.messages.iter().filter(|message| message.role == Role::User).count();
        // Of a history of which nothing is left there is nothing to say.
        let most = carriers.len().min(said.saturating_sub(1));
        let mut explanation = Explanation { carried_by: None, without: Vec::new(), parts: Vec::new(), rest: arc.score };
        let mut try_without = |count: usize| -> Result<bool, ScoreError> {
            let left = self.level_of(arc.kind, &without(history, &carriers[..count]))?;
            explanation.without.push(Without { messages: count, ..left });
            Ok(left.level < Level::Review)
        };
        let (mut stands, mut gone) = (0, None);
        for count in STEPS.into_iter().map(|step| step.min(most)) {
            if count > stands {
                if try_without(count)? {
                    gone = Some(count);
                    break;
                }
                stands = count;
            }
        }
        // Between the last two steps, the fewest.
        for count in stands + 1..gone.unwrap_or(0) {
            if try_without(count)? {
                gone = Some(count);
                break;
            }
        }
        explanation.carried_by = gone;
        explanation.without.sort_by_key(|without| without.messages);
        (explanation.parts, explanation.rest) = parts(arc.score, &explanation, &carriers);
        Ok(explanation)
    }

    fn level_of(&self, kind: ArcKind, history: &History) -> Result<Without, ScoreError> {
        let (messages, _) = self.read(usize::MAX, history, &mut |_| true)?;
        let policy = self.policy();
        let state = walk((kind, &policy), history, &messages).state;
        Ok(Without { messages: 0, score: state.score(), level: policy.arc_level(&state) })
    }
}

/// The fall of the score from each reading to the next, up to the one in which the alarm is gone, and what is left then.
fn parts(score: f32, explanation: &Explanation, carriers: &[MessageAt]) -> (Vec<Part>, f32) {
    let (mut parts, mut taken, mut rest) = (Vec::new(), 0, score);
    let needed = explanation.carried_by.unwrap_or(usize::MAX);
    for without in explanation.without.iter().filter(|without| without.messages <= needed) {
        parts.push(Part { messages: carriers[taken..without.messages].to_vec(), score: rest - without.score });
        (taken, rest) = (without.messages, without.score);
    }
    (parts, rest)
}

/// Threats first, then the evidence, the strongest first.
fn carriers(score: &HistoryScore, arc: &ArcScore) -> Vec<MessageAt> {
    let is_threat =
        |finding: &&Finding| finding.arc == Some(arc.kind) && matches!(finding.reason, Reason::Imminent { .. });
    let threats = score.verdict.findings.iter().filter(is_threat).flat_map(|finding| finding.messages.iter().copied());
    let mut carriers: Vec<MessageAt> = Vec::new();
    for at in threats.chain(arc.evidence.iter().map(|evidence| evidence.at)) {
        if !carriers.contains(&at) {
            carriers.push(at);
        }
    }
    carriers
}

/// The history without these messages and the replies to them, up to the user's next message; a session of which nothing of the
/// user is left falls away.
fn without(history: &History, taken: &[MessageAt]) -> History {
    let of_user = |session: &Session| session.messages.iter().any(|message| message.role == Role::User);
    let mut rest = history.clone();
    for (index, session) in rest.sessions.iter_mut().enumerate() {
        let (mut place, mut answers_taken) = (0, false);
        session.messages.retain(|message| {
            let at = MessageAt { session: index, message: place };
            place += 1;
            if message.role == Role::User {
                answers_taken = taken.contains(&at);
            }
            !answers_taken || message.role == Role::System
        });
    }
    let emptied: Vec<bool> =
        history.sessions.iter().zip(&rest.sessions).map(|(before, after)| of_user(before) && !of_user(after)).collect();
    let mut emptied = emptied.into_iter();
    rest.sessions.retain(|_| !emptied.next().unwrap_or(false));
    rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transcript::Message;

    fn said(roles: &str) -> Session {
        let role = |letter| match letter {
            'u' => Role::User,
            'a' => Role::Assistant,
            _ => Role::System,
        };
        let messages = roles.chars().enumerate().map(|(number, letter)| Message {
            role: role(letter),
            content: format!("{letter}{number}"),
            timestamp: None,
        });
        Session { session_id: roles.into(), started_at: None, messages: messages.collect() }
    }

    #[test]
    fn parts_and_the_rest_are_the_score() {
        let at = |message| MessageAt { session: 0, message };
        let carriers: Vec<MessageAt> = (0..8).map(at).collect();
        let without = |messages, score| Without { messages, score, level: Level::Review };
        // Read without one, two, then six; five were enough.
        let readings = vec![without(1, 0.5), without(2, 0.55), without(5, 0.25), without(6, 0.125)];
        let explained =
            |carried_by| Explanation { carried_by, without: readings.clone(), parts: Vec::new(), rest: 0.75 };
        let (told, rest) = parts(0.75, &explained(Some(5)), &carriers);
        let sizes: Vec<usize> = told.iter().map(|part| part.messages.len()).collect();
        assert_eq!((sizes, told[2].messages[0], rest), (vec![1, 1, 3], at(2), 0.25));
        assert_eq!(told.iter().map(|part| part.score).sum::<f32>() + rest, 0.75);
        let (all, rest) = parts(0.75, &explained(None), &carriers);
        assert_eq!((all.len(), rest), (4, 0.125), "all that was read, where the alarm stands");
    }

    #[test]
    fn messages_go_with_the_replies_to_them_and_nothing_else() {
        let history = History { user_id: "x".into(), sessions: vec![said("ua"), said("suaaua"), said("auu")] };
        let at = |session, message| MessageAt { session, message };
        let left = |taken: &[MessageAt]| -> Vec<String> {
            let words = |session: &Session| {
                let words: Vec<&str> = session.messages.iter().map(|message| message.content.as_str()).collect();
                words.join(" ")
            };
            without(&history, taken).sessions.iter().map(words).collect()
        };
        assert_eq!(left(&[]), ["u0 a1", "s0 u1 a2 a3 u4 a5", "a0 u1 u2"]);
        assert_eq!(left(&[at(1, 1), at(2, 2)]), ["u0 a1", "s0 u4 a5", "a0 u1"]);
        assert_eq!(left(&[at(0, 0)]), ["s0 u1 a2 a3 u4 a5", "a0 u1 u2"], "a session without the user falls away");
        assert_eq!(left(&[at(1, 2)]).len(), 3, "replies by themselves are never taken");
    }
}
