//! What was said and could not be kept: it waits to be tried again, that of one conversation in the order in which it was said.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::transcript::Message;

/// Text that may wait over all conversations, in KiB.
const ROOM_KIB: usize = 64 << 10;

/// A user and a session.
pub(super) type Place = (String, String);

/// What is kept at once, under a key by which it is kept once.
pub(super) struct Turn {
    pub messages: Vec<Message>,
    pub key: String,
}

/// A turn and the room that it takes until it is dropped.
type Waiting = (Turn, OwnedSemaphorePermit);

/// Turns that wait.
pub(super) struct Later {
    room: Arc<Semaphore>,
    /// A conversation stands here for as long as somebody keeps what waits of it.
    conversations: Mutex<HashMap<Place, VecDeque<Waiting>>>,
}

impl Default for Later {
    fn default() -> Self {
        Self::with_room(ROOM_KIB)
    }
}

impl Later {
    fn with_room(kib: usize) -> Self {
        Self { room: Arc::new(Semaphore::new(kib)), conversations: Mutex::default() }
    }

    /// Whether something of a conversation waits or is being kept.
    pub fn holds(&self, place: &Place) -> bool {
        self.lock().contains_key(place)
    }

    /// Conversations of which something waits or is being kept.
    pub fn conversations(&self) -> usize {
        self.lock().len()
    }

    /// Takes in a turn behind those of its conversation that wait; whether nobody keeps these yet, so that the caller is to, one [`Later::next`]
    /// after the other.
    ///
    /// # Errors
    /// The turn, where there is no room.
    pub fn push(&self, place: Place, turn: Turn) -> Result<bool, Turn> {
        let bytes: usize = turn.messages.iter().map(|message| message.content.len()).sum();
        let kib = u32::try_from(bytes / 1_024 + 1).unwrap_or(u32::MAX);
        let Ok(room) = self.room.clone().try_acquire_many_owned(kib) else { return Err(turn) };
        let mut conversations = self.lock();
        let begins = !conversations.contains_key(&place);
        conversations.entry(place).or_default().push_back((turn, room));
        Ok(begins)
    }

    /// The next turn of a conversation. Where there is none, nobody keeps any more of it.
    pub fn next(&self, place: &Place) -> Option<Waiting> {
        let mut conversations = self.lock();
        let next = conversations.get_mut(place).and_then(VecDeque::pop_front);
        if next.is_none() {
            conversations.remove(place);
        }
        next
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Place, VecDeque<Waiting>>> {
        self.conversations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transcript::Role;

    fn turn(key: &str, bytes: usize) -> Turn {
        let message = Message { role: Role::User, content: "x".repeat(bytes), timestamp: None };
        Turn { messages: vec![message], key: key.into() }
    }

    fn place(session: &str) -> Place {
        ("ada".into(), session.into())
    }

    fn push(later: &Later, session: &str, turn: Turn) -> Result<bool, String> {
        later.push(place(session), turn).map_err(|turn| turn.key)
    }

    #[test]
    fn a_conversation_is_kept_by_one_and_in_order() {
        let later = Later::default();
        assert_eq!(push(&later, "a", turn("prompt", 1)), Ok(true));
        assert_eq!(push(&later, "b", turn("other", 1)), Ok(true));
        let next = || later.next(&place("a")).map(|(turn, _)| turn.key);
        assert_eq!(next().as_deref(), Some("prompt"));
        assert!(later.holds(&place("a")), "it is being kept");
        assert_eq!(push(&later, "a", turn("reply", 1)), Ok(false));
        assert_eq!(push(&later, "a", turn("prompt again", 1)), Ok(false));
        assert_eq!([next(), next(), next()].map(Option::unwrap_or_default), ["reply", "prompt again", ""]);
        assert!(!later.holds(&place("a")) && later.holds(&place("b")));
        assert_eq!(later.conversations(), 1);
        assert_eq!(push(&later, "a", turn("later", 1)), Ok(true));
    }

    #[test]
    fn what_finds_no_room_does_not_wait() {
        let later = Later::with_room(4);
        assert_eq!(push(&later, "a", turn("long", 5_000)), Err("long".into()));
        assert!(!later.holds(&place("a")));
        assert_eq!(push(&later, "a", turn("first", 2_500)), Ok(true));
        assert_eq!(push(&later, "b", turn("second", 1_000)), Ok(true));
        assert_eq!(push(&later, "b", turn("third", 1)), Err("third".into()));
        let being_kept = later.next(&place("a"));
        assert_eq!(push(&later, "b", turn("third", 1)), Err("third".into()), "what is being kept takes its room");
        drop(being_kept);
        assert_eq!(push(&later, "b", turn("third", 1)), Ok(false));
    }
}
