//! A rule at a time on invented sentences, and what holds for any text.

use jiff::Timestamp;
use proptest::prelude::*;

use super::{PEOPLE_MAX, People, PersonId, Said, Spoken};
use crate::arc::MessageAt;

/// Sessions of messages, all read by one user's `People`.
struct Read {
    people: People,
    texts: Vec<String>,
    spoken: Vec<Spoken>,
}

fn read(sessions: &[&[&str]]) -> Read {
    let mut read = Read { people: People::new(), texts: Vec::new(), spoken: Vec::new() };
    for (session, messages) in sessions.iter().enumerate() {
        for (message, text) in messages.iter().enumerate() {
            let said = Said { at: MessageAt { session, message }, time: None, text };
            read.spoken.push(read.people.step(&said));
            read.texts.push((*text).to_owned());
        }
    }
    read
}

impl Read {
    /// The person of the nth mention that is written so, over all messages.
    fn nth(&self, words: &str, nth: usize) -> PersonId {
        let all = self.texts.iter().zip(&self.spoken).flat_map(|(text, spoken)| {
            let so = spoken.mentions.iter().filter(|one| &text[one.start..one.end] == words);
            so.map(|one| self.people.resolve(one.person))
        });
        all.clone().nth(nth).unwrap_or_else(|| panic!("no {words} ({nth}) in {:?}", self.mentions()))
    }

    fn person(&self, words: &str) -> PersonId {
        self.nth(words, 0)
    }

    fn mentions(&self) -> Vec<&str> {
        let texts = self.texts.iter().zip(&self.spoken);
        texts.flat_map(|(text, spoken)| spoken.mentions.iter().map(|one| &text[one.start..one.end])).collect()
    }

    /// Labels of those the nth message is about.
    fn about(&self, nth: usize) -> Vec<&str> {
        self.spoken[nth].about.iter().filter_map(|id| self.people.label(*id)).collect()
    }
}

/// Whether all these phrases name one person.
fn one(sessions: &[&[&str]], phrases: &[&str]) -> bool {
    let read = read(sessions);
    phrases.iter().all(|phrase| read.person(phrase) == read.person(phrases[0]))
}

#[test]
fn names_and_relations_side_by_side_are_one_person() {
    assert!(one(&[&["I saw my ex Ottoline again."], &["Ottoline has moved."]], &["my ex", "Ottoline"]));
    assert!(one(&[&["Ottoline, my landlady, keeps my post."], &["My landlady lied."]], &["Ottoline", "My landlady"]));
    assert!(one(&[&["We have a foreman named Barnaby."]], &["a foreman", "Barnaby"]));
    assert!(one(&[&["I wrote to the director of records, Ottoline Marsh."]], &["the director", "Ottoline Marsh"]));
    assert!(one(&[&["There is a new dispatcher. Walter. He is late."]], &["a new dispatcher", "Walter"]));
}

#[test]
fn a_list_is_of_several() {
    let read = read(&[&["I told Ottoline, my sister and Barnaby."]]);
    assert_ne!(read.person("Ottoline"), read.person("my sister"));
    assert_ne!(read.person("my sister"), read.person("Barnaby"));
}

#[test]
fn a_name_is_known_by_its_parts_short_forms_initials_and_slips() {
    let sessions: &[&[&str]] = &[
        &["I met Ottoline Marchbanks at work."],
        &["Marchbanks again. I saw Ottol there, and Marchbnaks, and Mrs Marchbanks."],
    ];
    assert!(one(sessions, &["Ottoline Marchbanks", "Marchbanks", "Ottol", "Marchbnaks", "Mrs Marchbanks"]));
    let read =
        read(&[&["I met Ottoline Marchbanks."], &["Her sister, Winifred Marchbanks, came. I know Mr Marchbanks too."]]);
    assert_ne!(read.person("Ottoline Marchbanks"), read.person("Winifred Marchbanks"));
}

#[test]
fn a_title_that_goes_with_another_pronoun_is_another_person() {
    let read = read(&[&["I rang Mrs Marchbanks."], &["I rang Mr Marchbanks."]]);
    assert_ne!(read.person("Mrs Marchbanks"), read.person("Mr Marchbanks"));
}

#[test]
fn a_relation_is_its_owners() {
    let read = read(&[
        &["My sister is well.", "I know Ottoline's sister."],
        &["Ottoline called. Her sister was there.", "And my sister wants soup."],
    ]);
    assert_eq!(read.person("My sister"), read.person("my sister"));
    assert_eq!(read.person("Ottoline's sister"), read.person("Her sister"));
    assert_ne!(read.person("My sister"), read.person("Her sister"));
    let written_apart = self::read(&[&["The widow of Barnaby waved."], &["I saw Barnaby's widow."]]);
    assert_eq!(written_apart.person("The widow"), written_apart.person("Barnaby's widow"));
}

#[test]
fn words_that_mean_the_same_relation_are_one() {
    assert!(one(&[&["mum rang"], &["My mother says no."], &["Ask Mama."]], &["mum", "My mother", "Mama"]));
    assert!(one(&[&["My son is nine."], &["my boy likes trains, my kid does"]], &["My son", "my boy", "my kid"]));
}

#[test]
fn the_same_description_is_one_person_unless_told_apart() {
    let read = read(&[
        &["A nurse came, and the nurse was kind."],
        &["The other nurse was not.", "The man at the desk smiled. The man from the bank frowned."],
    ]);
    assert_eq!(read.person("A nurse"), read.person("the nurse"));
    assert_ne!(read.person("A nurse"), read.person("The other nurse"));
    assert_ne!(read.nth("The man", 0), read.nth("The man", 1));
}

#[test]
fn the_woman_is_who_is_in_mind() {
    let read = read(&[&["My landlady kept the deposit.", "I will wait for the woman outside."]]);
    assert_eq!(read.person("My landlady"), read.person("the woman"));
}

#[test]
fn a_code_word_and_a_change_of_name_stay_with_the_person() {
    let sessions: &[&[&str]] = &[
        &["My landlady kept the deposit.", "From now on I call her the Heron."],
        &["The heron went out at six."],
        &["So her name is Ottoline.", "Ottoline will see."],
    ];
    assert!(one(sessions, &["My landlady", "the Heron", "heron", "Ottoline"]));
}

#[test]
fn a_new_name_is_the_same_persons() {
    for renamed in [
        "She goes by Mrs. Oyelaran now.",
        "Her married name is Oyelaran.",
        "Her name is now Oyelaran.",
        "Now she's called Oyelaran.",
        "She is now called Oyelaran.",
        "She calls herself Oyelaran.",
        "Ottoline, who is now Oyelaran, waved.",
        "Ottoline, now Oyelaran, waved.",
        "Ottoline got married and is called Oyelaran now.",
        "Ottoline goes by Oyelaran.",
        "Ottoline changed her name to Oyelaran.",
    ] {
        let read = read(&[&["I saw my ex Ottoline again."], &[renamed], &["Oyelaran will see."]]);
        assert_eq!(read.person("Ottoline"), read.nth("Oyelaran", usize::from(!renamed.contains("Mrs"))), "{renamed}");
    }
}

/// Sentences that speak of two people, or of none.
#[test]
fn a_name_near_another_is_not_a_new_one() {
    for others in [
        "Ottoline said you are called Oyelaran.",
        "Ottoline left and it is now Oyelaran who calls.",
        "Ottoline and now Oyelaran lied.",
        "First it was Ottoline, now Oyelaran is ignoring me.",
        "Ottoline went by Oyelaran's flat.",
        "Ottoline gave my name to Oyelaran.",
        "Ottoline is now Oyelaran's manager.",
        "Ottoline is followed now by Oyelaran.",
        "Ottoline said the dog is called Oyelaran.",
        "So she called Oyelaran.",
        "She's called Oyelaran about me twice.",
        "She's called Oyelaran a liar.",
        "She went by Oyelaran's house.",
        "She is now Oyelaran's problem.",
        "She is now seeing Oyelaran.",
        "In the will she names Oyelaran.",
    ] {
        let read = read(&[&["I saw my ex Ottoline again."], &[others], &["Oyelaran will see."]]);
        assert_ne!(read.person("Ottoline"), read.nth("Oyelaran", 0), "{others}");
    }
    for nobody in ["She is now pregnant.", "She's now married.", "She goes by train.", "She was called Monday."] {
        let read = read(&[&["I saw my ex Ottoline again."], &[nobody]]);
        assert_eq!(read.mentions(), ["my ex", "Ottoline"], "{nobody}");
    }
}

#[test]
fn a_storey_tells_the_same_before_and_after_the_word() {
    let read =
        read(&[&["The lady downstairs bangs."], &["I wrote to the downstairs lady.", "The upstairs lady sings."]]);
    assert_eq!(read.person("The lady"), read.person("the downstairs lady"));
    assert_ne!(read.person("The lady"), read.person("The upstairs lady"));
    let read = self::read(&[&["My downstairs neighbour bangs.", "My upstairs neighbour bangs."]]);
    assert_ne!(read.person("My downstairs neighbour"), read.person("My upstairs neighbour"));
}

#[test]
fn a_code_word_goes_by_the_pronoun() {
    let read = read(&[&["My landlady and my landlord kept it.", "I call him the Badger."], &["The badger left."]]);
    assert_eq!(read.person("my landlord"), read.person("the Badger"));
    assert_eq!(read.person("the Badger"), read.person("badger"));
    assert_ne!(read.person("My landlady"), read.person("badger"));
}

#[test]
fn a_family_is_none_of_its_members() {
    let read = read(&[&["I know Barnaby Marsh."], &["The Marshes", "the Marshs are loud"]]);
    assert_ne!(read.person("Barnaby Marsh"), read.person("the Marshs"));
}

#[test]
fn a_pronoun_carries_over_a_session() {
    let read = read(&[&["My landlady kept the deposit."], &["She was at the window at six."], &["I like soup."]]);
    assert_eq!(read.about(1), ["My landlady"]);
    assert_eq!(read.about(2), [""; 0]);
}

#[test]
fn what_is_far_from_mind_gives_way() {
    let said = |day: i64, session| Said {
        at: MessageAt { session, message: 0 },
        time: Some(Timestamp::from_second(day * 86_400).unwrap()),
        text: ["Ottoline is my landlady.", "My niece Winifred came.", "She is tall."][session],
    };
    let mut people = People::new();
    people.step(&said(0, 0));
    people.step(&said(400, 1));
    let about = people.step(&said(401, 2)).about;
    assert_eq!(about.iter().filter_map(|id| people.label(*id)).collect::<Vec<_>>(), ["My niece"]);
}

#[test]
fn the_user_and_nobody_are_no_persons() {
    let read = read(&[&["I'm a nurse. Any nurse would say so. In Leeds on Monday no man is late."]]);
    assert_eq!(read.mentions(), [""; 0]);
}

#[test]
fn two_ids_of_one_person_become_the_older() {
    let read = read(&[&["Ottoline called.", "My landlady is loud."], &["My landlady Ottoline again."]]);
    assert_eq!(read.person("Ottoline"), read.person("My landlady"));
    assert_eq!(read.person("My landlady"), PersonId(1));
}

#[test]
fn who_is_least_in_mind_is_folded() {
    let mut read = read(&[&["My landlady kept the deposit. She lied. She stole it. She always does."]]);
    for number in 0..3 * PEOPLE_MAX {
        let letters: String = [number / 26, number % 26].map(|n| char::from(b'a' + n as u8)).iter().collect();
        let text = format!("I met Q{letters} once. She was not there.");
        let at = MessageAt { session: 1, message: number };
        read.spoken.push(read.people.step(&Said { at, time: None, text: &text }));
        read.texts.push(text);
    }
    assert_eq!(read.people.people.len(), PEOPLE_MAX);
    assert_ne!(read.person("My landlady"), PersonId::OTHERS);
    assert_eq!(read.person("Qaa"), PersonId::OTHERS);
}

#[test]
fn a_long_message_is_read_in_linear_time() {
    let time = |times: usize| {
        let text = "my sister and Ottoline Marsh, she said, he ".repeat(times);
        let begun = std::time::Instant::now();
        let spoken = People::new().step(&Said { at: MessageAt { session: 0, message: 0 }, time: None, text: &text });
        assert!(spoken.mentions.len() <= super::mention::FOUND_MAX);
        begun.elapsed().as_secs_f64()
    };
    let (short, long) = (time(2_000), time(20_000));
    assert!(long < 60.0 * short + 0.5, "ten times the text took {long} s, not {short} s");
}

/// Text with many words that the rules look for.
fn text() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("my"),
        Just("her"),
        Just("the"),
        Just("sister"),
        Just("Ottoline"),
        Just("Ottolnie"),
        Just("call"),
        Just("him"),
        Just("Heron"),
        Just("'s"),
        Just("boys"),
        Just("mom"),
        Just(","),
        Just("."),
        Just("\""),
        Just("Mr"),
        Just("name is"),
        Just("ß’s"),
        Just("\u{130}"),
        Just("G."),
        Just("she"),
        Just("like that"),
        Just("in law"),
        Just("22"),
        Just("\n"),
    ];
    prop_oneof![
        ".{0,60}",
        prop::collection::vec((word, prop_oneof![Just(" "), Just("")]), 0..30)
            .prop_map(|words| words.iter().map(|(word, gap)| format!("{word}{gap}")).collect::<String>()),
    ]
}

proptest! {
    #[test]
    fn any_text_is_read_within_bounds(texts in prop::collection::vec(text(), 0..40)) {
        let mut people = People::new();
        for (message, text) in texts.iter().enumerate() {
            let at = MessageAt { session: message / 5, message };
            let spoken = people.step(&Said { at, time: None, text });
            for mention in &spoken.mentions {
                prop_assert!(text.get(mention.start..mention.end).is_some_and(|words| !words.is_empty()), "{mention:?} in {text:?}");
            }
            for id in &spoken.about {
                prop_assert!(people.label(*id).is_some());
            }
            prop_assert!(people.people.len() <= PEOPLE_MAX);
        }
    }

    #[test]
    fn a_stream_that_was_put_away_goes_on_as_if_it_had_not(texts in prop::collection::vec(text(), 1..20), cut in 0usize..20) {
        let said = |message: usize| Said { at: MessageAt { session: message / 4, message }, time: None, text: &texts[message] };
        let mut whole = People::new();
        let all: Vec<Spoken> = (0..texts.len()).map(|message| whole.step(&said(message))).collect();
        let mut first = People::new();
        let cut = cut.min(texts.len());
        let mut parts: Vec<Spoken> = (0..cut).map(|message| first.step(&said(message))).collect();
        let mut rest = first.clone();
        drop(first);
        parts.extend((cut..texts.len()).map(|message| rest.step(&said(message))));
        prop_assert_eq!(parts, all);
        prop_assert_eq!(rest, whole);
    }
}
