//! What the arcs and the people of a user cost a message, and hold in memory, from the first message of a life to the hundred
//! thousandth:
//!
//! ```text
//! cargo bench --bench arcs -- [--messages 100000] [--rounds 5]
//! ```
//!
//! Without a model: scores and texts are invented; every second message is the user's. Of each thousand messages the fastest of
//! all rounds counts. Times are of this machine; the slope, of a line through them by least squares from a tenth of the life on, when
//! what is kept of people is full, is what must stay near 0. Bytes are those asked of the allocator and not given back, spare room of
//! growing lists included.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use jiff::Timestamp;
use throughline::arc::{ARC_ROW_BYTES_MAX, ArcRow, Arcs, MessageAt, Observation};
use throughline::scoring::MessageScore;
use throughline::target::{People, Said, Toward};

/// Messages of a session, and hours from one to the next.
const SESSION: usize = 20;
const SESSION_HOURS: i64 = 8;
/// Messages whose cost is put together.
const PART: usize = 1_000;

/// The system's allocator, and what is held of it.
struct Counting;

static HELD_BYTES: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to the system's allocator as it came; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD_BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        HELD_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        HELD_BYTES.fetch_add(size, Ordering::Relaxed);
        HELD_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[derive(Clone, Copy)]
struct Life {
    messages: usize,
    rounds: usize,
}

/// What one thing cost over a life, and the thing at its end.
struct Cost<T> {
    /// Nanoseconds a message of each part.
    parts_ns: Vec<f64>,
    held_bytes: usize,
    at_end: T,
}

fn main() {
    let number = |name: &str, default: usize| {
        let mut arguments = std::env::args().skip_while(|argument| argument != name);
        arguments.nth(1).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} {text}: no number")))
    };
    let life = Life { messages: number("--messages", 100_000), rounds: number("--rounds", 5).max(1) };
    assert!(life.messages >= 10 * PART, "--messages {}: at least {}, for a slope", life.messages, 10 * PART);
    println!("{} messages, the fastest of {} rounds", life.messages, life.rounds);
    println!("{:>8}  {:>9} {:>9}  {:>24}  {:>12}", "", "first ns", "last ns", "slope ns / 100,000", "bytes held");
    let arcs = walked::<Arcs>(life, |arcs, observation, _| {
        arcs.step(observation);
        black_box(arcs.states());
    });
    tell("Arcs", &arcs);
    let people = walked::<People>(life, |people, observation, text| {
        if observation.from_user {
            black_box(people.step(&Said { at: observation.at, time: observation.time, text }));
        }
    });
    tell("People", &people);
    let toward = walked::<Toward>(life, |toward, observation, text| toward.step(observation, text));
    tell("Toward", &toward);
    at_the_end(life, arcs.at_end, &toward.at_end);
}

/// Says a life to something that is new in each round.
fn walked<T: Default>(life: Life, step: impl Fn(&mut T, &Observation, &str)) -> Cost<T> {
    let mut parts_ns = vec![f64::INFINITY; life.messages / PART];
    let mut end = None;
    for _ in 0..life.rounds {
        // The last round's must be gone before it is counted what this one holds.
        drop(end.take());
        let before = HELD_BYTES.load(Ordering::Relaxed);
        let mut thing = T::default();
        for (part, fastest_ns) in parts_ns.iter_mut().enumerate() {
            let said: Vec<_> =
                (part * PART..(part + 1) * PART).map(|number| (observation(number), text(number))).collect();
            let began = Instant::now();
            said.iter().for_each(|(observation, text)| step(&mut thing, observation, text));
            *fastest_ns = fastest_ns.min(1e9 * began.elapsed().as_secs_f64() / PART as f64);
        }
        end = Some((thing, HELD_BYTES.load(Ordering::Relaxed).saturating_sub(before)));
    }
    let (at_end, held_bytes) = end.expect("at least one round");
    Cost { parts_ns, held_bytes, at_end }
}

/// Prints the means of the first and of the last tenth, the slope, and what is held.
fn tell<T>(name: &str, cost: &Cost<T>) {
    let (parts, tenth) = (&cost.parts_ns, cost.parts_ns.len() / 10);
    let mean = |parts: &[f64]| parts.iter().sum::<f64>() / parts.len() as f64;
    let (slope, plus_minus) = slope(&parts[tenth..]);
    let slope = format!("{slope:+.1} ± {plus_minus:.1}");
    let (first, last) = (mean(&parts[..tenth]), mean(&parts[parts.len() - tenth..]));
    println!("{name:>8}  {first:>9.0} {last:>9.0}  {slope:>24}  {:>12}", cost.held_bytes);
}

/// How many nanoseconds a message costs more after a hundred thousand, by least squares, and the half width of its 95% interval, as if the
/// parts were independent.
fn slope(parts_ns: &[f64]) -> (f64, f64) {
    let n = parts_ns.len() as f64;
    let (x_mean, y_mean) = ((n - 1.0) / 2.0, parts_ns.iter().sum::<f64>() / n);
    let from_mean = || parts_ns.iter().enumerate().map(|(x, y)| (x as f64 - x_mean, y - y_mean));
    let spread: f64 = from_mean().map(|(x, _)| x * x).sum();
    let slope = from_mean().map(|(x, y)| x * y).sum::<f64>() / spread;
    let left: f64 = from_mean().map(|(x, y)| (y - slope * x).powi(2)).sum();
    let error = (left / (n - 2.0) / spread).sqrt();
    let unit = 100_000.0 / PART as f64;
    (slope * unit, 1.96 * error * unit)
}

/// Prints what is not done for every message, at a life's full length.
fn at_the_end(life: Life, mut arcs: Arcs, toward: &Toward) {
    let ms = |began: Instant| 1e3 * began.elapsed().as_secs_f64();
    let row = serde_json::to_vec(&ArcRow::of(arcs.states())).map_or(0, |row| row.len());
    println!("the row of both arcs: {row} bytes, of {ARC_ROW_BYTES_MAX} at most");
    let began = Instant::now();
    let targets = toward.targets(arcs.states().each_ref().map(|state| state.evidence())).len();
    println!("toward whom ({targets} people): {:.1} ms", ms(began));
    // A session of its own, in time before all others.
    let at = MessageAt { session: life.messages.div_ceil(SESSION), message: 0 };
    let late = Observation { at, time: Timestamp::from_second(1_600_000_000).ok(), ..observation(0) };
    let began = Instant::now();
    arcs.step(&late);
    black_box(arcs.states());
    println!("a message of a late session: {:.1} ms", ms(began));
}

/// Mostly innocent, now and then a grudge, and in one of a hundred messages more.
fn observation(number: usize) -> Observation {
    // Knuth's multiplicative hash, 0 to 1 (The Art of Computer Programming 3, §6.4).
    let part = (number as u32).wrapping_mul(2_654_435_761) as f32 / u32::MAX as f32;
    let hostile = match part {
        x if x > 0.99 => 0.9,
        x if x > 0.94 => 0.3,
        _ => 0.01,
    };
    let levels = [1.0 - hostile, hostile / 2.0, hostile / 4.0, hostile / 4.0];
    let score = MessageScore {
        harassment: levels,
        delusion: levels,
        imminent: hostile / 20.0,
        harassment_case: Some(0.3 * part),
        delusion_case: Some(0.3 * part),
        framed: Some(part),
        ..MessageScore::NOTHING
    };
    let (session, message) = (number / SESSION, number % SESSION);
    let second = 1_700_000_000 + session as i64 * SESSION_HOURS * 3_600 + message as i64 * 60;
    let at = MessageAt { session, message };
    Observation { at, time: Timestamp::from_second(second).ok(), from_user: number.is_multiple_of(2), score }
}

/// Of three messages in four somebody is spoken of: more people than are kept.
fn text(number: usize) -> String {
    const FIRST: [&str; 11] = ["Ada", "Bram", "Cor", "Dor", "El", "Fen", "Gil", "Hen", "Ida", "Jor", "Ker"];
    const SECOND: [&str; 7] = ["ric", "wen", "mund", "beth", "lis", "gard", "nor"];
    const SURNAMES: [&str; 5] = ["Marsh", "Winslow", "Tarrant", "Hollis", "Pike"];
    const WHO: [&str; 6] = ["My sister", "My landlady", "My boss", "The nurse", "My ex", "The man downstairs"];
    const THINGS: [&str; 9] = ["soup", "train", "letter", "window", "parcel", "bicycle", "invoice", "piano", "kettle"];
    let said = number / 2;
    let thing = THINGS[said % THINGS.len()];
    let name = format!("{}{}", FIRST[said % FIRST.len()], SECOND[said % SECOND.len()]);
    match said % 4 {
        0 => format!("{} said that the {thing} is late again, and I told {name} so.", WHO[said / 4 % WHO.len()]),
        1 => format!("She never answers me. {name} was there too, beside the {thing}."),
        2 => format!("I saw {name} {} near the {thing}, and he looked away.", SURNAMES[said % SURNAMES.len()]),
        _ => format!("What do I need for a {thing} for six people on a rainy Sunday evening in the country?"),
    }
}
