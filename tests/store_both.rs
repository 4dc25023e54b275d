//! What is kept, in either database: each test runs on SQLite, and on PostgreSQL in builds with the feature.

#![cfg(feature = "store")]

use jiff::{Timestamp, ToSpan};
use store_support::{alarm, each, key, message, now, turn};
use throughline::store::{
    Answered, NewAlarm, NewTurn, Request, Retention, Seen, Store, StoreError, UserRow, text_digest,
};
use throughline::verdict::Level;

#[cfg(all(unix, feature = "postgres"))]
mod postgres_support;
mod store_support;

fn days(days: i64) -> Timestamp {
    now() + (24 * days).hours()
}

#[test]
fn what_is_kept_is_read_again() {
    each(|place| {
        let store = place.open(&key(1)).unwrap();
        let first = [message(0, 0, "hello \u{0} \u{1F319} 'quoted' $1 ?1"), message(0, 1, "good morning")];
        let second = [message(1, 0, "again")];
        store.keep(&turn(&store, "ada", &first)).unwrap();
        store.keep(&turn(&store, "bo", &first[..1])).unwrap();
        store.keep(&turn(&store, "ada", &second)).unwrap();
        drop(store);
        let store = place.open(&key(1)).unwrap();
        let history = store.history("ada").unwrap().unwrap();
        assert_eq!((&history[0].messages[..], &history[1].messages[..]), (&first[..], &second[..]));
        assert_eq!((history[0].session_id.as_str(), history[0].started_at), ("the session's id", Some(now())));
        let row = store.user("ada").unwrap();
        assert_eq!((row.messages, row.sessions, row.open_alarm), (3, 2, None));
        assert_eq!((store.history("cy").unwrap(), store.user("cy").unwrap()), (None, UserRow::default()));
        assert_eq!(store.counts().unwrap(), [2, 4, 0]);
        assert_eq!(store.check_whole().unwrap(), None);
        store.check_writable().unwrap();
        drop(store);
        assert!(matches!(place.open(&key(2)), Err(StoreError::OtherKey { .. })));
    });
}

#[test]
fn a_turn_on_what_is_no_longer_there_is_refused_whole() {
    each(|place| {
        let store = place.open(&key(1)).unwrap();
        let (first, second) = ([message(0, 0, "hello")], [message(0, 1, "late")]);
        let went_on = |judged| assert!(matches!(store.keep(judged), Err(StoreError::WentOn)));
        let unknown = turn(&store, "ada", &first);
        store.keep(&unknown).unwrap();
        went_on(&unknown);
        let judged = turn(&store, "ada", &second);
        store.keep(&turn(&store, "ada", &second)).unwrap();
        went_on(&judged);
        assert_eq!(store.user("ada").unwrap().messages, 2);
        // A person who looked meanwhile counts, too.
        let raised = alarm(Level::Review);
        store.keep(&NewTurn { alarm: raised, ..turn(&store, "cy", &first) }).unwrap();
        let judged = turn(&store, "cy", &second);
        store.acknowledge("cy", "rev", "", now()).unwrap();
        went_on(&judged);
        // Whoever was erased and came back is another, though as much is kept.
        store.keep(&turn(&store, "bo", &first)).unwrap();
        let judged = turn(&store, "bo", &second);
        store.erase("bo").unwrap();
        went_on(&judged);
        store.keep(&turn(&store, "bo", &first)).unwrap();
        went_on(&judged);
        assert_eq!(store.user("bo").unwrap().messages, 1);
    });
}

#[test]
fn a_request_has_one_answer_and_a_broken_turn_has_none() {
    each(|place| {
        let store = place.open(&key(1)).unwrap();
        let messages = [message(0, 0, "hello")];
        let asked = |asked, answer| NewTurn {
            request: Some(Request { key: "key-1", asked, answer }),
            ..turn(&store, "ada", &messages)
        };
        store.keep(&asked([7; 32], &|_| b"the answer".to_vec())).unwrap();
        let answered = store.answered("ada", "key-1").unwrap().unwrap();
        assert_eq!(answered, Answered { asked: [7; 32], answer: b"the answer".to_vec() });
        assert_eq!(store.answered("ada", "key-2").unwrap(), None);
        assert_eq!(store.answered("bo", "key-1").unwrap(), None, "keys are of a user");
        // The same key again: neither the message nor a second answer.
        let again = NewTurn { new_session: None, ..asked([8; 32], &|_| b"another".to_vec()) };
        assert!(matches!(store.keep(&again), Err(StoreError::WentOn)));
        assert_eq!(store.user("ada").unwrap().messages, 1);
    });
}

#[test]
fn alarms_wait_until_a_person_saw_them() {
    each(|place| {
        let store = place.open(&key(1)).unwrap();
        let messages = [message(0, 0, "one")];
        let keep = |user, level| store.keep(&NewTurn { alarm: alarm(level), ..turn(&store, user, &messages) });
        let first = keep("ada", Level::Review).unwrap().1.unwrap();
        let other = keep("bo", Level::Urgent).unwrap().1.unwrap();
        assert!(other > first && store.last_alarm().unwrap() == other);
        let row = store.user("ada").unwrap();
        assert_eq!(
            (row.alarmed[0], row.alarmed[1], row.open_alarm),
            (Some(Level::Review), Some(Level::Watch), Some(Level::Review))
        );
        assert_eq!(store.acknowledge("ada", "rev", "seen", now()).unwrap(), Some(1));
        assert_eq!(store.acknowledge("ada", "rev", "seen", now()).unwrap(), Some(0));
        assert_eq!(store.acknowledge("cy", "rev", "seen", now()).unwrap(), None);
        let row = store.user("ada").unwrap();
        assert_eq!((row.open_alarm, row.seen_messages, row.alarmed[2]), (None, 1, Some(Level::Review)));
        let all = store.alarms(0, false).unwrap().alarms;
        assert_eq!(all.iter().map(|alarm| alarm.user_id.as_str()).collect::<Vec<_>>(), ["ada", "bo"]);
        let seen = all[0].acknowledged.as_ref().unwrap();
        assert_eq!((seen.by.as_str(), seen.note.as_str(), seen.at), ("rev", "seen", Some(now())));
        assert_eq!(store.alarms(0, true).unwrap().alarms, [all[1].clone()]);
        assert_eq!(store.alarms(first, false).unwrap().alarms.len(), 1);
        assert_eq!(store.alarms_of("bo").unwrap().alarms, [all[1].clone()]);
        assert_eq!((store.counts().unwrap(), store.open_alarms().unwrap()), ([2, 2, 1], 1));
    });
}

/// A look at ada's alarms up to one, to be noted; `None` where none of them waits.
fn look(store: &Store, up_to: i64) -> Option<Seen<'static>> {
    let user = store.seen_up_to("ada", up_to).unwrap()?;
    Some(Seen { user_id: "ada", up_to, user, alarm: None, by: "rev", note: "seen", now: now() })
}

#[test]
fn what_came_after_the_alarm_that_was_looked_at_waits_on() {
    each(|place| {
        let store = place.open(&key(1)).unwrap();
        let keep = |user: &str, (session, number), level: Option<Level>| {
            let messages = [message(session, number, "one")];
            let raised = level.and_then(alarm).map(|alarm| NewAlarm { at: messages[0].at, ..alarm });
            store.keep(&NewTurn { alarm: raised, ..turn(&store, user, &messages) }).unwrap().1
        };
        let seen = |up_to| look(&store, up_to).map(|seen| store.acknowledge_up_to(&seen).unwrap());
        let all = || store.acknowledge("ada", "rev", "seen", now()).unwrap();
        let stands = || {
            let row = store.user("ada").unwrap();
            (row.seen_messages, row.open_alarm)
        };
        keep("ada", (0, 0), None);
        let first = keep("ada", (0, 1), Some(Level::Review)).unwrap();
        keep("ada", (1, 0), None);
        let urgent = keep("ada", (1, 1), Some(Level::Urgent)).unwrap();
        keep("ada", (1, 2), None);
        let others = keep("bo", (0, 0), Some(Level::Urgent)).unwrap();
        for no_alarm_of_hers in [others, others + 1, 0, -1, i64::MAX] {
            assert_eq!((seen(no_alarm_of_hers), stands()), (None, (0, Some(Level::Urgent))), "{no_alarm_of_hers}");
        }
        // The urgent one came while somebody looked at the first.
        assert_eq!((seen(first), stands()), (Some((1, None)), (2, Some(Level::Urgent))));
        assert_eq!((seen(first), stands()), (None, (2, Some(Level::Urgent))));
        let waiting: Vec<i64> = store.alarms(0, true).unwrap().alarms.iter().map(|alarm| alarm.id).collect();
        assert_eq!(waiting, [urgent, others]);
        let retention = Retention { days: Some(1), content_days: Some(1) };
        assert_eq!(store.retain(&retention, days(9)).unwrap().users, Vec::<i64>::new(), "nobody looked at it yet");
        assert_eq!((seen(urgent), stands()), (Some((1, None)), (4, None)));
        // Nothing waits: what was said since stays new.
        assert_eq!((all(), stands()), (Some(0), (4, None)));
        let last = keep("ada", (1, 3), Some(Level::Urgent)).unwrap();
        keep("ada", (1, 4), None);
        assert!(last > urgent);
        assert_eq!((all(), stands()), (Some(1), (7, None)), "without a number, all that is there");
        assert_eq!(store.seen_up_to("cy", first).unwrap(), None);
        assert!(store.user("bo").unwrap().open_alarm.is_some());
    });
}

#[test]
fn what_came_after_is_raised_with_the_look_and_once() {
    each(|place| {
        let (store, other) = (place.open(&key(1)).unwrap(), place.open(&key(1)).unwrap());
        let keep = |number, level: Option<Level>| {
            let messages = [message(0, number, "one")];
            let raised = level.and_then(alarm).map(|alarm| NewAlarm { at: messages[0].at, ..alarm });
            store.keep(&NewTurn { alarm: raised, ..turn(&store, "ada", &messages) }).unwrap().1
        };
        let first = keep(0, Some(Level::Senior)).unwrap();
        keep(1, None);
        let judged = look(&store, first).unwrap();
        assert_eq!((judged.user.seen_messages, judged.user.open_alarm, judged.user.messages), (1, None, 2));
        let late = message(0, 2, "one").at;
        let raises = |judged: Seen<'static>| {
            let alarm = NewAlarm { at: late, verdict: b"what came after", ..alarm(Level::Review).unwrap() };
            Seen { alarm: Some(alarm), ..judged }
        };
        // Another turn came meanwhile: nothing is noted, and nothing raised.
        keep(2, None);
        assert!(matches!(store.acknowledge_up_to(&raises(judged)), Err(StoreError::WentOn)));
        assert_eq!((store.open_alarms().unwrap(), store.last_alarm().unwrap()), (1, first));
        // Two who looked at the same: one of them raises it.
        let (judged, twice) = (look(&store, first).unwrap(), look(&other, first).unwrap());
        let (acknowledged, raised) = store.acknowledge_up_to(&raises(judged)).unwrap();
        let raised = raised.unwrap();
        assert!(acknowledged == 1 && raised > first, "{acknowledged} {raised}");
        assert!(matches!(other.acknowledge_up_to(&raises(twice)), Err(StoreError::WentOn)));
        assert!(look(&other, first).is_none(), "it does not wait any more");
        let open = other.alarms(0, true).unwrap().alarms;
        assert_eq!(open.len(), 1);
        assert_eq!((open[0].id, open[0].level, open[0].at), (raised, Level::Review, late));
        assert_eq!((&open[0].verdict[..], open[0].raised_at), (&b"what came after"[..], Some(now())));
        let row = store.user("ada").unwrap();
        let stands = (row.seen_messages, row.open_alarm, row.alarmed[2]);
        assert_eq!(stands, (1, Some(Level::Review), Some(Level::Senior)), "the highest of all stays");
        let retention = Retention { days: Some(1), content_days: Some(1) };
        assert_eq!(store.retain(&retention, days(9)).unwrap().users, Vec::<i64>::new(), "nobody looked at it yet");
        // Whoever looks at that one has seen everything.
        let judged = look(&store, raised).unwrap();
        assert_eq!(judged.user.seen_messages, 3);
        assert_eq!(store.acknowledge_up_to(&judged).unwrap(), (1, None));
        assert_eq!((store.open_alarms().unwrap(), store.check_whole().unwrap()), (0, None));
        assert_eq!(store.retain(&retention, days(9)).unwrap().erased, 1);
        assert!(matches!(store.acknowledge_up_to(&judged), Err(StoreError::WentOn)), "she is gone");
    });
}

#[test]
fn a_hold_that_is_set_while_the_first_turn_is_judged_changes_nothing_that_it_was_judged_by() {
    each(|place| {
        let store = place.open(&key(1)).unwrap();
        let first = [message(0, 0, "one")];
        let judged = turn(&store, "ada", &first);
        assert!(store.hold("ada", true, now()).unwrap());
        let held = store.user("ada").unwrap();
        assert_eq!(store.keep(&judged).unwrap(), (held.id, None));
        assert_eq!(store.user("ada").unwrap(), UserRow { messages: 1, sessions: 1, ..held });
        assert_eq!(store.history("ada").unwrap().unwrap()[0].messages, first);
        // Of what was kept meanwhile it knows nothing.
        assert!(matches!(store.keep(&judged), Err(StoreError::WentOn)));
        // Whoever was known when the turn was judged is not taken for another.
        store.hold("bo", true, now()).unwrap();
        let judged = turn(&store, "bo", &first);
        store.hold("bo", false, now()).unwrap();
        assert!(store.erase("bo").unwrap());
        store.hold("bo", true, now()).unwrap();
        assert!(matches!(store.keep(&judged), Err(StoreError::WentOn)));
        assert_eq!(store.user("bo").unwrap().messages, 0);
        assert_eq!(store.check_whole().unwrap(), None);
    });
}

#[test]
fn a_hold_is_kept_before_the_first_turn_and_refuses_erasure() {
    each(|place| {
        let store = place.open(&key(1)).unwrap();
        assert!(!store.hold("ada", false, now()).unwrap(), "there is nothing to lift");
        assert_eq!(store.user("ada").unwrap(), UserRow::default());
        assert!(store.hold("ada", true, now()).unwrap());
        assert!(store.hold("ada", true, now()).unwrap());
        let row = store.user("ada").unwrap();
        assert!(row.held && row.id > 0 && row.messages == 0, "{row:?}");
        assert!(matches!(store.erase("ada"), Err(StoreError::Held)));
        store.keep(&turn(&store, "ada", &[message(0, 0, "one")])).unwrap();
        assert!(store.user("ada").unwrap().held);
        assert!(matches!(store.erase("ada"), Err(StoreError::Held)));
        assert_eq!(store.history("ada").unwrap().unwrap().len(), 1);
        assert!(store.hold("ada", false, now()).unwrap());
        assert!(store.erase("ada").unwrap() && !store.erase("ada").unwrap());
        assert_eq!((store.history("ada").unwrap(), store.counts().unwrap()), (None, [0; 3]));
        assert_eq!(store.check_whole().unwrap(), None);
    });
}

#[test]
fn a_clock_that_is_set_back_loses_no_turn_and_changes_no_order() {
    each(|place| {
        let store = place.open(&key(1)).unwrap();
        let texts: Vec<String> = (0..6).map(|number| format!("{number}")).collect();
        for (number, text) in texts.iter().enumerate() {
            let messages = [message(0, number, text)];
            let clock = days(if number % 2 == 0 { 0 } else { -400 });
            let key = format!("key-{number}");
            let request = Some(Request { key: &key, asked: [0; 32], answer: &|_| vec![1] });
            store.keep(&NewTurn { request, now: clock, ..turn(&store, "ada", &messages) }).unwrap();
        }
        let history = store.history("ada").unwrap().unwrap();
        let said: Vec<_> = history[0].messages.iter().map(|message| message.content.clone().unwrap()).collect();
        assert_eq!(said, texts);
        for number in 0..6 {
            // Answers that a clock ahead would call old may go; those of now stay.
            let kept = store.answered("ada", &format!("key-{number}")).unwrap();
            assert!(kept.is_some() || number % 2 == 1, "{number}");
        }
        // The last turn came by a clock that was set back: the user is not silent for that long.
        let retention = Retention { days: Some(30), content_days: None };
        assert_eq!(store.retain(&retention, days(1)).unwrap().erased, 0);
    });
}

#[test]
fn who_is_silent_for_long_is_forgotten_unless_held_or_not_yet_looked_at() {
    each(|place| {
        let store = place.open(&key(1)).unwrap();
        let messages = [message(0, 0, "one")];
        for user in ["silent", "silent too", "held", "alarmed", "seen", "talking"] {
            let raised = matches!(user, "alarmed" | "seen").then_some(Level::Senior).and_then(alarm);
            let late = if user == "talking" { days(29) } else { now() };
            store.keep(&NewTurn { alarm: raised, now: late, ..turn(&store, user, &messages) }).unwrap();
        }
        store.hold("held", true, now()).unwrap();
        store.acknowledge("seen", "rev", "", now()).unwrap();
        let rows = ["silent", "silent too", "seen"].map(|user| store.user(user).unwrap().id);
        let retention = Retention { days: Some(30), content_days: None };
        assert_eq!(store.retain(&retention, days(30)).unwrap().users, Vec::<i64>::new(), "not yet");
        let mut done = store.retain(&retention, days(31)).unwrap();
        done.users.sort_unstable();
        assert_eq!((done.users, done.erased, done.dropped, done.more), (rows.to_vec(), 3, 0, false));
        for (user, there) in [("silent", false), ("seen", false), ("held", true), ("alarmed", true), ("talking", true)]
        {
            assert_eq!(store.history(user).unwrap().is_some(), there, "{user}");
        }
        // Once the hold is lifted and the alarm seen, it is their turn.
        store.hold("held", false, now()).unwrap();
        store.acknowledge("alarmed", "rev", "", now()).unwrap();
        assert_eq!(store.retain(&retention, days(31)).unwrap().erased, 2);
        assert_eq!(store.counts().unwrap(), [1, 1, 0]);
    });
}

#[test]
fn old_content_is_dropped_from_the_first_message_on_and_scores_stay() {
    each(|place| {
        let store = place.open(&key(1)).unwrap();
        // The third came by a clock that ran ahead, the fourth by the right one.
        for (number, clock) in [0, 1, 400, 2, 20].into_iter().enumerate() {
            let messages = [message(0, number, &format!("{number}"))];
            store.keep(&NewTurn { now: days(clock), ..turn(&store, "ada", &messages) }).unwrap();
        }
        store.keep(&turn(&store, "held", &[message(0, 0, "one")])).unwrap();
        store.hold("held", true, now()).unwrap();
        let before = store.scores("ada").unwrap();
        let retention = Retention { content_days: Some(10), days: None };
        assert_eq!(store.retain(&retention, days(10)).unwrap().dropped, 0, "not yet");
        let done = store.retain(&retention, days(13)).unwrap();
        assert_eq!((done.dropped, done.erased, done.more), (4, 0, false));
        let history = store.history("ada").unwrap().unwrap();
        let said: Vec<_> = history[0].messages.iter().map(|message| message.content.as_deref()).collect();
        assert_eq!(said, [None, None, None, None, Some("4")]);
        assert_eq!(store.scores("ada").unwrap(), before, "scores, places and times stay");
        assert_eq!(history[0].messages[0].digest, Some(text_digest("0")), "and what proves which text it was");
        assert_eq!(
            store.scores_of("ada", 1..4).unwrap().unwrap()[0].messages,
            before.as_ref().unwrap()[0].messages[1..4]
        );
        assert_eq!((store.user("ada").unwrap().dropped, store.user("held").unwrap().dropped), (4, 0));
        assert_eq!(store.history("held").unwrap().unwrap()[0].messages[0].content.as_deref(), Some("one"));
        store.keep(&turn(&store, "ada", &[message(0, 5, "5")])).unwrap();
        assert_eq!(store.check_whole().unwrap(), None);
    });
}

#[test]
fn retention_takes_bounded_steps() {
    each(|place| {
        let store = place.open(&key(1)).unwrap();
        let many: Vec<_> = (0..2_500).map(|number| message(0, number, "x")).collect();
        store.keep(&turn(&store, "ada", &many)).unwrap();
        for number in 0..20 {
            store.keep(&turn(&store, &format!("u{number}"), &many[..1])).unwrap();
        }
        let retention = Retention { content_days: Some(1), days: None };
        let (mut steps, mut dropped) = (0, 0);
        loop {
            let done = store.retain(&retention, days(2)).unwrap();
            assert!(done.users.len() <= 16 && done.dropped <= 16_000, "{done:?}");
            (steps, dropped) = (steps + 1, dropped + done.dropped);
            if !done.more {
                break;
            }
        }
        assert_eq!(dropped, 2_520);
        assert!(steps >= 2, "{steps}");
    });
}

#[test]
fn how_far_a_webhook_came_never_goes_back() {
    each(|place| {
        let store = place.open(&key(1)).unwrap();
        let messages = [message(0, 0, "one")];
        store.keep(&NewTurn { alarm: alarm(Level::Review), ..turn(&store, "ada", &messages) }).unwrap();
        assert_eq!(store.webhook_begins("pager").unwrap(), 1, "a new one begins with the next");
        for (taken, known) in [(9, 9), (7, 9), (10, 10)] {
            store.webhook_came_to("pager", taken).unwrap();
            assert_eq!(store.webhook_begins("pager").unwrap(), known);
        }
    });
}
