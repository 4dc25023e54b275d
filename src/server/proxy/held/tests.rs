use std::time::{Duration, Instant};

use super::*;

fn chunk(index: u32, content: &str) -> Vec<u8> {
    let json = serde_json::json!({"choices": [{"index": index, "delta": {"content": content}}], "id": "x"});
    format!("data: {json}\n\n").into_bytes()
}

fn held(bytes: Option<usize>) -> Held {
    Held::new(HoldBack { bytes, time: Duration::from_millis(100) })
}

fn texts(events: Vec<(Vec<u8>, Instant)>) -> Vec<u8> {
    events.into_iter().flat_map(|(bytes, _)| bytes).collect()
}

#[test]
fn bytes_are_cut_into_events_wherever_they_break() {
    let stream = b"data: a\n\n: alive\r\n\r\nevent: x\ndata: b\ndata: c\n\ndata: rest";
    for size in 1..stream.len() {
        let mut events = Events::default();
        let mut found: Vec<Vec<u8>> = Vec::new();
        for part in stream.chunks(size) {
            found.extend(events.push(part).unwrap());
        }
        let found: Vec<&[u8]> = found.iter().map(Vec::as_slice).collect();
        let expected: [&[u8]; 3] = [b"data: a\n\n", b": alive\r\n\r\n", b"event: x\ndata: b\ndata: c\n\n"];
        assert_eq!(found, expected, "in parts of {size}");
        assert_eq!(events.rest().unwrap(), b"data: rest");
    }
    let mut events = Events::default();
    assert_eq!(events.push(&vec![b'x'; EVENT_BYTES_MAX + 1]), Err(Unread::Long));
}

#[test]
fn nothing_goes_before_it_was_judged() {
    let begun = Instant::now();
    let later = begun + Duration::from_millis(150);
    let mut held = held(Some(1_000));
    for text in ["", "Good ", "mor"] {
        held.push(chunk(0, text), begun).unwrap();
    }
    held.push(chunk(0, "ning, my"), later).unwrap();
    assert_eq!(texts(held.free()), chunk(0, ""), "what says nothing waits for nobody");
    assert_eq!(held.due(begun, false), None, "too early and too little");
    let cuts = held.due(later, false).unwrap();
    assert_eq!(held.text(cuts[0]), "Good morning, ", "up to the last whole word");
    assert_eq!(texts(held.clear(&cuts)), [chunk(0, "Good "), chunk(0, "mor")].concat(), "an event goes whole");
    assert_eq!(held.delivered(), ["Good mor"]);
    assert_eq!(held.due(later, false), None, "a word that may go on");
    held.push(chunk(0, " friend"), later).unwrap();
    let cuts = held.due(later, true).unwrap();
    assert_eq!(held.text(cuts[0]), "Good morning, my friend");
    assert_eq!(texts(held.clear(&cuts)), [chunk(0, "ning, my"), chunk(0, " friend")].concat());
    assert_eq!(held.due(later, true), None);
}

#[test]
fn time_alone_lets_go_where_no_word_ends() {
    let begun = Instant::now();
    let after = |millis| begun + Duration::from_millis(millis);
    let mut held = held(Some(1_000));
    held.push(chunk(0, "保护"), begun).unwrap();
    held.push(chunk(1, "one wo"), after(60)).unwrap();
    assert_eq!(held.judge_at(), Some(after(100)));
    assert_eq!(held.due(after(99), false), None);
    let cuts = held.due(after(100), false).unwrap();
    assert_eq!(cuts, [(0, 6), (1, 4)], "of the other choice, what can be cut at a word");
    assert_eq!(texts(held.clear(&cuts)), chunk(0, "保护"));
    assert_eq!(held.judge_at(), Some(after(160)));
    assert_eq!(held.due(after(160), false), Some(vec![(1, 6)]), "the word that may go on has waited long enough");
    // A word that ends behind what has waited is where it is cut.
    let mut held = super::tests::held(Some(1_000));
    held.push(chunk(0, "gar"), begun).unwrap();
    held.push(chunk(0, "den is mi"), after(60)).unwrap();
    assert_eq!(held.due(after(100), false), Some(vec![(0, 10)]));
    assert_eq!(texts(held.clear(&vec![(0, 10)])), chunk(0, "gar"));
    assert_eq!(held.due(after(159), false), None);
    assert_eq!(held.due(after(160), false), Some(vec![(0, 12)]));
}

#[test]
fn so_much_is_held_and_no_more() {
    let now = Instant::now();
    let mut held = held(Some(8));
    held.push(chunk(0, "abc "), now).unwrap();
    assert!(held.due(now, false).is_none() && !held.is_full());
    held.push(chunk(0, "defgh"), now).unwrap();
    assert_eq!(held.due(now, false), Some(vec![(0, 4)]));
    // A text without words is judged as it is once twice as much waits.
    let mut held = super::tests::held(Some(8));
    held.push(chunk(0, "abcdefghijkl"), now).unwrap();
    assert_eq!(held.due(now, false), None);
    held.push(chunk(0, "mnopqrst"), now).unwrap();
    assert!(held.is_full());
    assert_eq!(held.due(now, false), Some(vec![(0, 20)]));
}

#[test]
fn a_whole_reply_is_held_to_its_end() {
    let now = Instant::now();
    let mut held = held(None);
    for _ in 0..1_000 {
        held.push(chunk(0, "word after word "), now).unwrap();
    }
    assert_eq!(held.judge_at(), None);
    assert!(held.due(now + Duration::from_secs(60), false).is_none() && !held.is_full());
    let all = held.due(now, true).unwrap();
    assert_eq!(all, [(0, held.bytes())]);
    assert_eq!(held.event_bytes(), 1_000 * chunk(0, "word after word ").len());
    assert_eq!(held.clear(&all).len(), 1_000);
    assert_eq!(held.event_bytes(), 0);
}

#[test]
fn choices_are_held_apart_and_events_keep_their_order() {
    let now = Instant::now();
    let mut held = held(Some(4));
    held.push(chunk(0, "first one"), now).unwrap();
    held.push(chunk(1, "second one"), now).unwrap();
    held.push(b"data: [DONE]\n\n".to_vec(), now).unwrap();
    assert!(held.is_done());
    assert_eq!(held.due(now, true), Some(vec![(0, 9), (1, 10)]));
    assert!(held.clear(&vec![(1, 10)]).is_empty(), "the second waits behind the first");
    assert!(held.delivered().is_empty());
    assert_eq!(held.clear(&vec![(0, 9)]).len(), 3);
    assert_eq!(held.delivered(), ["first one", "second one"]);
    for index in 2..16 {
        held.push(chunk(index, "x"), now).unwrap();
    }
    assert_eq!(held.push(chunk(16, "x"), now), Err(Unread::Choices));
}

#[test]
fn what_is_no_chunk_is_not_passed_on() {
    let now = Instant::now();
    let unread = [
        &b"data: hello\n\n"[..],
        b"data: {\"choices\": 3}\n\n",
        b"data: \xff\n\n",
        b"data: {\"choices\": [{\"delta\": \"x\"}]}\n\n",
        b"data: {\"choices\": [{\"delta\": {\"content\": {\"text\": \"x\"}}}]}\n\n",
        b"data: {\"choices\": [{\"message\": {\"content\": 7}}]}\n\n",
    ];
    for bytes in unread {
        assert_eq!(held(None).push(bytes.to_vec(), now), Err(Unread::Form));
    }
    let mut held = held(None);
    for bytes in [&b": comment\n\n"[..], b"data: {\"error\": {\"message\": \"x\"}}\n\n", b"event: ping\n\n"] {
        held.push(bytes.to_vec(), now).unwrap();
    }
    assert_eq!(held.free().len(), 3);
}

#[test]
fn parts_and_whole_messages_are_held_like_text() {
    let now = Instant::now();
    let event =
        |choice: serde_json::Value| format!("data: {}\n\n", serde_json::json!({"choices": [choice]})).into_bytes();
    let part = |text: &str| event(serde_json::json!({"delta": {"content": [{"type": "text", "text": text}]}}));
    let whole = |text: &str| event(serde_json::json!({"delta": {}, "message": {"role": "assistant", "content": text}}));
    let mut held = held(Some(1_000));
    for bytes in [part("her "), part("street"), whole("her street")] {
        held.push(bytes, now).unwrap();
    }
    assert!(held.free().is_empty());
    assert_eq!(held.text(held.due(now, true).unwrap()[0]), "her street", "what was said before is not said again");
    held.push(whole("number seven"), now).unwrap();
    let cuts = held.due(now, true).unwrap();
    assert_eq!(held.text(cuts[0]), "her street\nnumber seven");
    assert_eq!(held.clear(&cuts).len(), 4);
}

#[test]
fn arguments_of_tools_are_held_like_text() {
    let now = Instant::now();
    let event = |delta: serde_json::Value| {
        format!("data: {}\n\n", serde_json::json!({"choices": [{"index": 0, "delta": delta}]})).into_bytes()
    };
    let call = |arguments: &str| {
        event(serde_json::json!({"tool_calls": [{"index": 0, "function": {"arguments": arguments}}]}))
    };
    let named = event(serde_json::json!({"tool_calls": [{"index": 0, "id": "1", "function": {"name": "mail"}}]}));
    let mut held = held(Some(1_000));
    held.push(event(serde_json::json!({"reasoning_content": "hm"})), now).unwrap();
    held.push(chunk(0, "I wrote it."), now).unwrap();
    held.push(named, now).unwrap();
    held.push(call("{\"to\": "), now).unwrap();
    held.push(call("\"her\"}"), now).unwrap();
    assert_eq!(held.free().len(), 1, "reasoning passes unread");
    let cuts = held.due(now, true).unwrap();
    assert_eq!(held.text(cuts[0]), "I wrote it.\n{\"to\": \"her\"}");
    assert_eq!(held.bytes(), held.text(cuts[0]).len());
    assert_eq!(held.clear(&cuts).len(), 4);
    assert_eq!(held.delivered(), ["I wrote it.\n{\"to\": \"her\"}"]);
}
