//! A message a time comes to what the whole history comes to, at the price of its own tokens.

#![cfg(feature = "engine")]

use std::path::PathBuf;

use jiff::Timestamp;
use throughline::engine::{KernelName, LoadSettings, ModelSource, load_with};
use throughline::scorer::{Heard, Hearing, HistoryScore, Live, ScoreError, Scorer, ScorerSettings, TargetScore, Turn};
use throughline::transcript::{History, Message, Role, Session};
use throughline::verdict::Policy;
use throughline::window::WindowSpec;

/// The greatest change of a probability by what is computed together: none but by candle, whose products differ by their size.
fn change_max(kernel: KernelName) -> f32 {
    if kernel == KernelName::Candle { 1e-5 } else { 0.0 }
}

fn scorer(kernel: KernelName) -> Scorer {
    // Small, so that short histories have many windows, and messages that are split.
    let window = WindowSpec {
        context_messages_min: 4,
        context_tokens_max: 240,
        carried_tokens_max: 120,
        ..WindowSpec::with_tokens(512)
    };
    scorer_in(window, kernel)
}

fn scorer_in(window: WindowSpec, kernel: KernelName) -> Scorer {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiny-heads/model.gguf");
    let settings = LoadSettings { kernel: Some(kernel), ..LoadSettings::default() };
    let model = load_with(&ModelSource::parse(path.to_str().unwrap()).unwrap(), &settings).unwrap();
    let window = Some(window);
    Scorer::with_heads(model, ScorerSettings { window, policy: Policy::default() }).unwrap()
}

/// A history of random words, always the same for a seed: lengths, roles, sessions and times vary.
fn history(seed: u64) -> History {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut below = |count: u64| {
        random ^= random >> 12;
        random ^= random << 25;
        random ^= random >> 27;
        (random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % count
    };
    const WORDS: [&str; 12] =
        ["garden", "she", "watches", "the", "signal", "is", "mine", "tonight", "rain", "again", "street", "they"];
    let mut sessions = Vec::new();
    let mut second = 1_700_000_000;
    for number in 0..1 + below(6) {
        second += below(40 * 86_400) as i64;
        let messages = (0..1 + below(9)).map(|place| {
            let role = match (place, below(12)) {
                (_, 0) => Role::System,
                (place, _) if place % 2 == 0 => Role::User,
                _ => Role::Assistant,
            };
            let words = if below(12) == 0 { 150 + below(200) } else { below(30) };
            let content: Vec<&str> = (0..words).map(|_| WORDS[below(12) as usize]).collect();
            let timestamp = (below(3) == 0).then(|| Timestamp::from_second(second + 60 * place as i64).unwrap());
            Message { role, content: content.join(" "), timestamp }
        });
        let messages = messages.collect();
        let started_at = (below(4) > 0).then(|| Timestamp::from_second(second).unwrap());
        sessions.push(Session { session_id: number.to_string(), started_at, messages });
    }
    History { user_id: "x".into(), sessions }
}

fn hear_all(live: &mut Live, history: &History, between: &mut dyn FnMut(&mut Live)) -> Vec<Heard> {
    let mut heard = Vec::new();
    for session in &history.sessions {
        // Whoever hears a session knows its start as stated, or else by its first message.
        let known = session.started_at.is_some() || session.messages[0].timestamp.is_some();
        live.begin_session(session.started_at.or_else(|| session.start().filter(|_| !known)));
        for message in &session.messages {
            between(live);
            heard.extend(live.hear(message).unwrap());
        }
    }
    heard
}

/// The greatest distance of two readings' probabilities.
fn distance(whole: &HistoryScore, heard: &[Heard]) -> f32 {
    assert_eq!(whole.messages.len(), heard.len());
    let mut greatest = 0f32;
    for (a, b) in whole.messages.iter().zip(heard) {
        assert_eq!((a.at, a.role), (b.message.at, b.message.role));
        let numbers = |score: &throughline::scoring::MessageScore| {
            let levels = [score.harassment, score.delusion, score.stance].concat();
            let rest = [Some(score.imminent), score.harassment_case, score.delusion_case, score.framed];
            levels.into_iter().chain(rest.into_iter().flatten()).collect::<Vec<f32>>()
        };
        let (a, b) = (numbers(&a.score), numbers(&b.message.score));
        assert_eq!(a.len(), b.len());
        a.iter().zip(&b).for_each(|(a, b)| greatest = greatest.max((a - b).abs()));
    }
    greatest
}

#[test]
fn a_message_a_time_is_the_whole_history() {
    // THROUGHLINE_HISTORIES=1000 takes five minutes on two cores.
    let histories = std::env::var("THROUGHLINE_HISTORIES").map_or(40, |count| count.parse().unwrap());
    let (mut windows, mut split, mut senior) = (0, 0, 0);
    for kernel in KernelName::ALL.into_iter().filter(|kernel| kernel.is_available()) {
        let scorer = scorer(kernel);
        let allowed = change_max(kernel);
        let mut greatest = 0f32;
        for seed in 0..histories {
            let history = history(seed);
            let whole = scorer.score(&history, &mut |_| {}).unwrap();
            let mut live = scorer.live().unwrap();
            let heard = hear_all(&mut live, &history, &mut |_| {});
            greatest = greatest.max(distance(&whole, &heard));
            assert!(greatest <= allowed, "{kernel}, seed {seed}: {greatest}");
            // Not one token more than the whole history costs, not a window else.
            let mut notes = live.notes();
            notes.kept_apart = whole.notes.kept_apart;
            assert_eq!(notes, whole.notes, "{kernel}, seed {seed}");
            if let (Some(last), "f32") = (heard.last(), kernel.dtype()) {
                for (now, then) in last.arcs.iter().zip(&whole.arcs) {
                    assert!((now.score - then.score).abs() < 1e-3, "{kernel}, seed {seed}: {now:?} {then:?}");
                }
                assert_eq!(last.verdict.level, whole.level(), "{kernel}, seed {seed}");
                senior += usize::from(last.verdict.level > throughline::verdict::Level::Watch);
            }
            windows = windows.max(whole.notes.windows);
            split += whole.notes.split_messages;
        }
        println!("{kernel}: max |Δp| {greatest}");
    }
    assert!(windows > 4 && split > 4 && senior > 4, "a test of something: {windows} {split} {senior}");
}

#[test]
fn what_is_forgotten_is_computed_again_to_the_same_score() {
    let scorer = scorer(KernelName::Portable);
    let history = (0..).map(history).find(|history| history.message_count() > 24).unwrap();
    let whole = scorer.score(&history, &mut |_| {}).unwrap();
    let mut live = scorer.live().unwrap();
    let heard = hear_all(&mut live, &history, &mut |live| live.forget_cache());
    assert_eq!(distance(&whole, &heard), 0.0);
    assert!(live.notes().tokens > whole.notes.tokens, "windows anew at every message");
}

#[test]
fn messages_of_one_turn_are_heard_together() {
    let scorer =
        scorer(KernelName::ALL.into_iter().find(|kernel| kernel.dtype() == "f32" && kernel.is_available()).unwrap());
    for seed in 0..20 {
        let history = history(seed);
        let whole = scorer.score(&history, &mut |_| {}).unwrap();
        let mut live = scorer.live().unwrap();
        let mut heard = Vec::new();
        for session in &history.sessions {
            live.begin_session(session.start());
            heard.extend(live.hear_all(&session.messages).unwrap());
        }
        assert_eq!(distance(&whole, &heard), 0.0, "seed {seed}");
    }
}

/// Whether a user's process was stopped between two messages makes no difference: what was said before is recalled with the
/// scores it had, and nothing of it is computed but what the next message's window needs.
#[test]
fn a_recalled_history_goes_on_as_if_it_had_been_heard() {
    for kernel in KernelName::ALL.into_iter().filter(|kernel| kernel.is_available()) {
        let scorer = scorer(kernel);
        let allowed = change_max(kernel);
        for seed in 0..6 {
            let history = history(seed);
            let messages =
                || history.sessions.iter().flat_map(|session| session.messages.iter().map(move |m| (session, m)));
            let count = messages().count();
            for stop in [0, 1, count / 2, count - 1] {
                let mut first = scorer.live().unwrap();
                let heard = hear_all(&mut first, &history, &mut |_| {});
                let mut scores = heard.iter();
                let mut second = scorer.live().unwrap();
                let mut again = Vec::new();
                let mut session_id = None;
                for (index, (session, message)) in messages().enumerate() {
                    if session_id != Some(&session.session_id) {
                        session_id = Some(&session.session_id);
                        second.begin_session(session.start());
                    }
                    let scored = matches!(message.role, Role::User | Role::Assistant);
                    let known = scored.then(|| scores.next().unwrap());
                    if index < stop {
                        second.recall(message, known.map(|heard| heard.message.score)).unwrap();
                        again.extend(known.cloned());
                    } else {
                        again.extend(second.hear(message).unwrap());
                    }
                }
                let mut greatest = 0f32;
                for (a, b) in heard.iter().zip(&again) {
                    assert_eq!(a.message.at, b.message.at);
                    greatest = greatest.max((a.message.score.imminent - b.message.score.imminent).abs());
                    for (a, b) in a.message.score.harassment.iter().zip(&b.message.score.harassment) {
                        greatest = greatest.max((a - b).abs());
                    }
                }
                assert!(greatest <= allowed, "{kernel}, seed {seed}, stopped at {stop}: {greatest}");
                assert_eq!(first.notes().windows, second.notes().windows, "seed {seed}");
                if kernel.dtype() == "f32" && stop > 0 {
                    assert!(second.notes().tokens <= first.notes().tokens, "seed {seed}");
                }
            }
        }
    }
}

#[test]
fn what_is_considered_was_not_said() {
    let scorer =
        scorer(KernelName::ALL.into_iter().find(|kernel| kernel.dtype() == "f32" && kernel.is_available()).unwrap());
    for seed in 0..20 {
        let (history, other) = (history(seed), history(seed + 1_000));
        let mut live = scorer.live().unwrap();
        let mut considered = 0;
        let heard = hear_all(&mut live, &history, &mut |live| {
            let arcs = live.arcs().clone();
            for session in &other.sessions {
                considered += live.consider(Some(session.start()), &session.messages).unwrap().len();
            }
            assert_eq!(*live.arcs(), arcs);
        });
        let whole = scorer.score(&history, &mut |_| {}).unwrap();
        assert_eq!(distance(&whole, &heard), 0.0, "seed {seed}");
        assert!(considered > 0);
        // What is considered is what would have been heard.
        let mut said = scorer.live().unwrap();
        hear_all(&mut said, &history, &mut |_| {});
        let session = &other.sessions[0];
        let draft = live.consider(Some(session.start()), &session.messages).unwrap();
        said.begin_session(session.start());
        let real = said.hear_all(&session.messages).unwrap();
        assert_eq!(draft.len(), real.len());
        for (draft, real) in draft.iter().zip(&real) {
            assert_eq!((draft.message.at, draft.verdict.level), (real.message.at, real.verdict.level), "seed {seed}");
            let change = (draft.message.score.imminent - real.message.score.imminent).abs();
            assert_eq!(change, 0.0, "seed {seed}");
        }
    }
}

/// Sessions of several histories, heard at once, come to the last bit to what each comes to alone; drafts among them.
#[test]
fn histories_heard_side_by_side_are_what_each_is_alone() {
    for kernel in KernelName::ALL.into_iter().filter(|kernel| kernel.is_available()) {
        let scorer = scorer(kernel);
        let allowed = change_max(kernel);
        let histories: Vec<History> = (0..9).map(history).collect();
        let hearing = |index: usize, round: usize, session: &Session| match (index + round) % 3 {
            0 => Hearing::Draft { new_session: Some(session.start()) },
            _ => Hearing::Said,
        };
        let begin = |live: &mut Live, session: &Session, hearing: Hearing| {
            if hearing == Hearing::Said {
                live.begin_session(session.start());
            }
        };
        let mut together: Vec<Live> = histories.iter().map(|_| scorer.live().unwrap()).collect();
        let mut alone: Vec<Live> = histories.iter().map(|_| scorer.live().unwrap()).collect();
        let rounds = histories.iter().map(|history| history.sessions.len()).max().unwrap();
        let mut heard_messages = 0;
        for round in 0..rounds {
            let of = |index: usize| histories[index].sessions.get(round);
            let mut turns = Vec::new();
            for (index, live) in together.iter_mut().enumerate() {
                let Some(session) = of(index) else { continue };
                let hearing = hearing(index, round, session);
                begin(live, session, hearing);
                turns.push(Turn { live, messages: &session.messages, hearing });
            }
            let heard = scorer.hear(&mut turns);
            let going_on = alone.iter_mut().enumerate().filter_map(|(index, live)| Some((index, live, of(index)?)));
            for ((index, live, session), heard) in going_on.zip(heard) {
                let hearing = hearing(index, round, session);
                begin(live, session, hearing);
                let expected = match hearing {
                    Hearing::Said => live.hear_all(&session.messages).unwrap(),
                    Hearing::Draft { new_session } => live.consider(new_session, &session.messages).unwrap(),
                };
                let heard = heard.unwrap();
                heard_messages += heard.len();
                assert_eq!(heard.len(), expected.len());
                for (a, b) in heard.iter().zip(&expected) {
                    assert_eq!((a.message.at, a.verdict.level), (b.message.at, b.verdict.level), "{kernel}");
                    let change = (a.message.score.imminent - b.message.score.imminent).abs();
                    assert!(change <= allowed, "{kernel}, history {index}, round {round}: {change}");
                }
            }
        }
        assert!(heard_messages > 100, "{heard_messages}");
        for (a, b) in together.iter().zip(&alone) {
            assert_eq!(a.notes(), b.notes(), "{kernel}");
            assert_eq!(a.arcs().each_ref().map(|arc| arc.score()), b.arcs().each_ref().map(|arc| arc.score()));
        }
    }
}

/// Where others wait, a window is computed in pieces, to the same bits; of a draft that is let go between two of them nothing stays.
#[test]
fn a_window_in_pieces_is_the_window() {
    for kernel in KernelName::ALL.into_iter().filter(|kernel| kernel.is_available()) {
        let scorer = scorer_in(WindowSpec::with_tokens(2_048), kernel);
        let said = |content: String| Message { role: Role::User, content, timestamp: None };
        let messages = ["hello".into(), "she watches the garden again, ".repeat(55)].map(said).to_vec();
        let session = Session { session_id: "s".into(), started_at: None, messages: messages.clone() };
        let whole = scorer.score(&History { user_id: "x".into(), sessions: vec![session] }, &mut |_| {}).unwrap();
        assert_eq!(whole.notes.windows, 1);
        let mut live = scorer.live().unwrap();
        let mut hear = |hearing: Hearing, times_max: usize| {
            let mut times = 0;
            let heard = scorer.hear_while(&mut [Turn { live: &mut live, messages: &messages, hearing }], &mut |_| {
                times += 1;
                times <= times_max
            });
            (heard.into_iter().next().unwrap(), times, live.notes().tokens)
        };
        let (stopped, _, tokens) = hear(Hearing::Draft { new_session: None }, 2);
        assert!(matches!(stopped, Err(ScoreError::Stopped)));
        assert_eq!(tokens, 512, "once for the window, once for its first piece");
        let (heard, times, _) = hear(Hearing::Said, usize::MAX);
        assert_eq!(times, 1 + whole.notes.tokens.div_ceil(512));
        assert!(distance(&whole, &heard.unwrap()) <= change_max(kernel), "{kernel}");
    }
}

/// A reply is judged again and again as it grows, and then kept: each time at the price of what is new.
#[test]
fn a_draft_that_grows_costs_its_new_tokens() {
    for kernel in KernelName::ALL.into_iter().filter(|kernel| kernel.is_available()) {
        let scorer = scorer(kernel);
        let allowed = change_max(kernel);
        for repeats in [1, 3] {
            grows(&scorer, &"she was there again in the rain and my street is mine tonight ".repeat(repeats), allowed);
        }
    }
}

fn grows(scorer: &Scorer, words: &str, allowed: f32) {
    let reply = |chars: usize| Message {
        role: Role::Assistant,
        content: words[..chars].trim_end().to_owned(),
        timestamp: None,
    };
    let asked = Message { role: Role::User, content: "What do you say of the garden?".into(), timestamp: None };
    let (mut live, mut fresh) = (scorer.live().unwrap(), scorer.live().unwrap());
    live.hear(&asked).unwrap();
    fresh.hear(&asked).unwrap();
    let begun = live.notes().tokens;
    let cuts: Vec<usize> = words.match_indices(' ').map(|(at, _)| at).step_by(4).collect();
    let last = reply(*cuts.last().unwrap());
    for &cut in &cuts {
        let draft = live.consider(None, std::slice::from_ref(&reply(cut))).unwrap();
        let alone = fresh.consider(None, std::slice::from_ref(&reply(cut))).unwrap();
        fresh.forget_cache();
        let change = (draft[0].message.score.stance[0] - alone[0].message.score.stance[0]).abs();
        assert!(change <= allowed, "{cut}: {change}");
    }
    let heard = live.hear(&last).unwrap().unwrap();
    let grown = live.notes().tokens - begun;
    let mut once = scorer.live().unwrap();
    once.hear(&asked).unwrap();
    let before = once.notes().tokens;
    let said = once.hear(&last).unwrap().unwrap();
    let own = once.notes().tokens - before;
    // What stands after a message's text is computed each time; and a long reply is cut elsewhere as it grows.
    let cut = once.notes().split_messages > 0;
    assert!(cut || grown <= own + 4 * cuts.len() + 4, "{grown} tokens for {own}, {} drafts", cuts.len());
    assert!((said.message.score.stance[0] - heard.message.score.stance[0]).abs() <= allowed);
}

#[test]
fn the_people_of_a_stream_are_those_of_the_whole_history() {
    let scorer = scorer(KernelName::Portable);
    let mut history = history(3);
    let said = [
        "My landlady Ottoline lied.",
        "She will be sorry.",
        "I call her the Heron.",
        "I met Barnaby. He saw the heron.",
    ];
    for (number, text) in said.iter().enumerate() {
        let message = Message { role: Role::User, content: (*text).into(), timestamp: None };
        let session = number % history.sessions.len();
        history.sessions[session].messages.push(message);
    }
    let whole = scorer.score(&history, &mut |_| {}).unwrap();
    let mut live = scorer.live().unwrap();
    let draft = Message { role: Role::User, content: "My sister Winifred lied, too.".into(), timestamp: None };
    hear_all(&mut live, &history, &mut |live| {
        let before = live.targets();
        live.consider(None, std::slice::from_ref(&draft)).unwrap();
        assert_eq!(live.targets(), before);
    });
    let found = live.targets();
    let facts = |all: &[TargetScore]| {
        let mut facts: Vec<_> = all
            .iter()
            .map(|one| (one.id, one.label.clone(), one.mentions, one.messages, one.first, one.last))
            .collect();
        facts.sort();
        facts
    };
    assert!(whole.targets.len() > 1, "{:?}", whole.targets);
    assert_eq!(facts(&found), facts(&whole.targets));
    for one in &found {
        let then = whole.targets.iter().find(|then| then.id == one.id).unwrap();
        assert!((one.score - then.score).abs() < 1e-3 && (one.harassment_share - then.harassment_share).abs() < 1e-2);
    }
}
