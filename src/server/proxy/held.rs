//! A streamed reply on its way: events of the upstream, held back until the text in them was judged.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use super::chat::{Voice, said_in, spoken};

/// The longest event of an upstream, in bytes.
const EVENT_BYTES_MAX: usize = 1 << 20;
/// Choices of one reply.
const CHOICES_MAX: usize = 16;
/// What an upstream sends last.
const DONE: &str = "[DONE]";

/// How much of a reply is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldBack {
    /// Text in bytes that may wait unjudged; `None` holds the whole reply.
    pub bytes: Option<usize>,
    /// How long the first of it waits for more before it is judged.
    pub time: Duration,
}

/// What an upstream sent that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unread {
    #[error("an event of more than {EVENT_BYTES_MAX} bytes")]
    Long,
    #[error("an event that is no chunk of a chat completion")]
    Form,
    #[error("more than {CHOICES_MAX} choices")]
    Choices,
}

/// Cuts a stream of bytes into server-sent events (WHATWG HTML, section 9.2.6), each with its blank line.
#[derive(Default)]
pub(super) struct Events {
    buffer: Vec<u8>,
}

impl Events {
    /// The events that are whole with these bytes.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, Unread> {
        // The end of an event may lie across the border.
        let mut from = self.buffer.len().saturating_sub(3);
        self.buffer.extend_from_slice(bytes);
        let (mut events, mut begin) = (Vec::new(), 0);
        while let Some(length) = blank_line(&self.buffer[from..]) {
            let end = from + length;
            events.push(self.buffer[begin..end].to_vec());
            (begin, from) = (end, end);
        }
        self.buffer.drain(..begin);
        if self.buffer.len() > EVENT_BYTES_MAX {
            return Err(Unread::Long);
        }
        Ok(events)
    }

    /// What came after the last whole event, if anything did.
    pub fn rest(&mut self) -> Option<Vec<u8>> {
        Some(mem::take(&mut self.buffer)).filter(|rest| !rest.is_empty())
    }
}

/// Where the first blank line ends.
fn blank_line(bytes: &[u8]) -> Option<usize> {
    let ends: [&[u8]; 3] = [b"\n\n", b"\r\n\r\n", b"\r\r"];
    let end = |end: &[u8]| bytes.windows(end.len()).position(|window| window == end).map(|at| at + end.len());
    ends.into_iter().filter_map(end).min()
}

/// A chunk of a chat completion (OpenAI's API reference, *Streaming*); whatever else stands in it is passed on unread.
#[derive(Debug, Default, Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(default)]
    index: u32,
    #[serde(default)]
    delta: Value,
    /// All that was said, which some upstreams send beside the pieces.
    #[serde(default)]
    message: Value,
}

impl Choice {
    /// What is said; `None` where that cannot be read.
    fn pieces(&self) -> Option<Vec<(Voice, String)>> {
        let mut pieces = spoken(&self.delta)?;
        let whole = said_in(&self.message)?;
        if !whole.is_empty() {
            pieces.push((Voice::Whole, whole));
        }
        Some(pieces)
    }
}

/// What the choices of an event say, by where they say it, and whether it is the last event.
type Pieces = (Vec<(u32, Vec<(Voice, String)>)>, bool);

fn pieces_of(event: &[u8]) -> Result<Pieces, Unread> {
    let lines = std::str::from_utf8(event).map_err(|_| Unread::Form)?.split(['\n', '\r']);
    let data: Vec<&str> = lines.filter_map(|line| line.strip_prefix("data:")).map(str::trim).collect();
    let data = data.join("\n");
    if data.is_empty() || data == DONE {
        return Ok((Vec::new(), data == DONE));
    }
    let chunk: Chunk = serde_json::from_str(&data).map_err(|_| Unread::Form)?;
    let said: Option<Vec<_>> = chunk.choices.iter().map(|choice| Some((choice.index, choice.pieces()?))).collect();
    Ok((said.ok_or(Unread::Form)?, false))
}

/// What one choice said so far.
#[derive(Default)]
struct Said {
    text: String,
    /// Where the last of it was said: what is said elsewhere begins a line.
    voice: Option<Voice>,
    /// Up to here it was judged, in bytes.
    judged: usize,
}

/// An event that waits.
struct Waiting {
    bytes: Vec<u8>,
    /// How far its text reaches, by choice.
    ends: Vec<(u32, usize)>,
    came: Instant,
}

/// Events that wait, and what was said in them and before.
pub(super) struct Held {
    hold: HoldBack,
    events: VecDeque<Waiting>,
    /// These in bytes.
    event_bytes: usize,
    said: BTreeMap<u32, Said>,
    /// Text in bytes.
    all: usize,
    /// How far the text of events that were let go reaches, by choice.
    gone: BTreeMap<u32, usize>,
    done: bool,
}

/// Up to where each choice is to be judged, in bytes.
pub(super) type Cuts = Vec<(u32, usize)>;

impl Held {
    pub fn new(hold: HoldBack) -> Self {
        let (said, gone) = (BTreeMap::new(), BTreeMap::new());
        Self { hold, events: VecDeque::new(), event_bytes: 0, said, all: 0, gone, done: false }
    }

    /// Takes in an event.
    pub fn push(&mut self, bytes: Vec<u8>, now: Instant) -> Result<(), Unread> {
        let (deltas, done) = pieces_of(&bytes)?;
        self.done |= done;
        let mut ends = Vec::new();
        for (index, pieces) in deltas.into_iter().filter(|(_, pieces)| !pieces.is_empty()) {
            if !self.said.contains_key(&index) && self.said.len() == CHOICES_MAX {
                return Err(Unread::Choices);
            }
            let said = self.said.entry(index).or_default();
            let before = said.text.len();
            pieces.iter().for_each(|(voice, text)| said.add(*voice, text));
            self.all += said.text.len() - before;
            ends.push((index, said.text.len()));
        }
        self.event_bytes += bytes.len();
        self.events.push_back(Waiting { bytes, ends, came: now });
        Ok(())
    }

    /// Whether the upstream said that there is no more.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Text in bytes, of all choices.
    pub fn bytes(&self) -> usize {
        self.all
    }

    /// Events that wait, in bytes.
    pub fn event_bytes(&self) -> usize {
        self.event_bytes
    }

    /// Whether so much waits that no more is to be read before some of it was judged.
    pub fn is_full(&self) -> bool {
        self.hold.bytes.is_some_and(|bytes| self.unjudged() >= 2 * bytes)
    }

    fn unjudged(&self) -> usize {
        self.said.values().map(|said| said.text.len() - said.judged).sum()
    }

    /// When what waits is to be judged though no more came.
    pub fn judge_at(&self) -> Option<Instant> {
        self.hold.bytes?;
        let first = self.events.iter().find(|event| !event.ends.is_empty())?;
        Some(first.came + self.hold.time)
    }

    /// How far the text reaches that has waited long enough, by choice.
    fn overdue(&self, now: Instant) -> BTreeMap<u32, usize> {
        let waited = |event: &&Waiting| self.hold.bytes.is_some() && event.came + self.hold.time <= now;
        self.events.iter().take_while(waited).flat_map(|event| event.ends.iter().copied()).collect()
    }

    /// What is to be judged now: everything once the reply has ended; else, where some of it has waited long enough or there is much, up to the
    /// last whole word. What has waited long enough is judged though no word ends behind it.
    pub fn due(&self, now: Instant, ended: bool) -> Option<Cuts> {
        let overdue = self.overdue(now);
        let much = self.hold.bytes.is_some_and(|bytes| self.unjudged() >= bytes);
        if !(ended || much || !overdue.is_empty()) {
            return None;
        }
        let full = self.is_full();
        let cut = |(index, said): (&u32, &Said)| {
            let least = overdue.get(index).copied().unwrap_or_default();
            Some((*index, if ended { said.rest() } else { said.cut(least, full) }?))
        };
        let cuts: Cuts = self.said.iter().filter_map(cut).collect();
        (!cuts.is_empty()).then_some(cuts)
    }

    /// What a choice said up to a cut.
    pub fn text(&self, (index, cut): (u32, usize)) -> &str {
        self.said.get(&index).and_then(|said| said.text.get(..cut)).unwrap_or_default()
    }

    /// Notes that this was judged, and lets go of the events that hold nothing else; with when they came.
    pub fn clear(&mut self, cuts: &Cuts) -> Vec<(Vec<u8>, Instant)> {
        for (index, cut) in cuts {
            if let Some(said) = self.said.get_mut(index) {
                said.judged = said.judged.max(*cut);
            }
        }
        self.free()
    }

    /// Events that hold nothing that was not judged, up to the first that does.
    pub fn free(&mut self) -> Vec<(Vec<u8>, Instant)> {
        let said = &self.said;
        let judged = |event: &Waiting| {
            event.ends.iter().all(|(index, end)| said.get(index).is_some_and(|said| *end <= said.judged))
        };
        let count = self.events.iter().take_while(|event| judged(event)).count();
        let mut free = Vec::with_capacity(count);
        for event in self.events.drain(..count) {
            self.event_bytes -= event.bytes.len();
            self.gone.extend(event.ends);
            free.push((event.bytes, event.came));
        }
        free
    }

    /// What was said in the events that were let go, choice by choice.
    pub fn delivered(&self) -> Vec<String> {
        let texts = self.gone.iter().map(|(index, end)| self.text((*index, *end)).to_owned());
        texts.filter(|text| !text.is_empty()).collect()
    }

    /// The choices that said anything.
    pub fn choices(&self) -> Vec<u32> {
        self.said.keys().copied().collect()
    }
}

impl Said {
    fn add(&mut self, voice: Voice, text: &str) {
        if voice == Voice::Whole && self.text.starts_with(text) {
            return;
        }
        if self.voice.is_some_and(|before| before != voice) {
            self.text.push('\n');
        }
        self.voice = Some(voice);
        self.text += text;
    }

    /// All, where some of it was not judged.
    fn rest(&self) -> Option<usize> {
        Some(self.text.len()).filter(|all| *all > self.judged)
    }

    /// Where the next judgement reaches: behind the last whole word, or to the end where that is too short of what must be judged, or where no word
    /// ends in too much.
    fn cut(&self, least: usize, full: bool) -> Option<usize> {
        let behind = |(at, space): (usize, &str)| self.judged + at + space.len();
        let word = self.text.get(self.judged..)?.rmatch_indices(char::is_whitespace).next().map(behind);
        match word.filter(|word| *word >= least) {
            None if full || least > self.judged => self.rest(),
            word => word,
        }
    }
}

#[cfg(test)]
mod tests;
