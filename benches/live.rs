//! What a message costs when it comes, from the fiftieth of a history to the ten thousandth:
//!
//! ```text
//! cargo bench --bench live -- [--messages 10000] [--words 30]
//! ```
//!
//! One user's history is said message by message to the embedded model, answered after each. A window that is full gives way to
//! the next, which is written anew from its context and evidence: that is the tail of the distribution. Times are of this
//! machine; the ratio of the last part to the first is what must stay near 1.

use std::time::{Duration, Instant};

use throughline::engine::{ModelSource, load};
use throughline::scorer::{Scorer, ScorerSettings};
use throughline::transcript::{Message, Role};
use throughline::verdict::Policy;

/// Messages of a session.
const SESSION: usize = 20;
/// Messages whose cost is put together.
const PART: usize = 1_000;

fn main() {
    let number = |name: &str, default: usize| {
        let mut arguments = std::env::args().skip_while(|argument| argument != name);
        arguments.nth(1).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} {text}: no number")))
    };
    let (messages, words) = (number("--messages", 10_000), number("--words", 30));
    let model = load(&ModelSource::Embedded).expect("the embedded model");
    println!("{} ({}), {words} words a message", model.info.name, model.info.device);
    let scorer = Scorer::with_heads(model, ScorerSettings { window: None, policy: Policy::default() }).expect("heads");
    let mut live = scorer.live().expect("heads");
    let (mut costs, mut all) = (Vec::with_capacity(PART), Vec::with_capacity(messages));
    println!("{:>16}  {:>9} {:>9} {:>9} {:>9}  tokens a message", "messages", "median ms", "p95", "p99", "mean");
    let mut tokens = 0;
    for number in 0..messages {
        if number % SESSION == 0 {
            let second = 1_700_000_000 + (number / SESSION) as i64 * 86_400;
            live.begin_session(jiff::Timestamp::from_second(second).ok());
        }
        let message = message(number, words);
        let began = Instant::now();
        live.hear(&message).expect("a score");
        costs.push(began.elapsed());
        // The first fifty warm up; of the first part the next fifty are cheaper, as no window is full yet.
        if number + 1 == 50 {
            costs.clear();
            tokens = live.notes().tokens;
        } else if costs.len() == PART || number + 1 == messages {
            let read = live.notes().tokens - tokens;
            tokens += read;
            all.push(tell(number + 1, &mut costs, read));
            costs.clear();
        }
    }
    if let (Some(first), Some(last)) = (all.first(), all.last()) {
        println!("mean of the last part over that of the first: {:.3}", last / first);
    }
}

/// Prints a part; its mean in milliseconds.
fn tell(end: usize, costs: &mut [Duration], tokens: usize) -> f64 {
    costs.sort_unstable();
    let ms = |cost: Duration| 1e3 * cost.as_secs_f64();
    let at = |part: f64| ms(costs[((costs.len() - 1) as f64 * part) as usize]);
    let mean = costs.iter().copied().map(ms).sum::<f64>() / costs.len() as f64;
    let range = format!("{} to {end}", end - costs.len() + 1);
    let each = tokens as f64 / costs.len() as f64;
    println!("{range:>16}  {:>9.2} {:>9.2} {:>9.2} {mean:>9.2}  {each:.1}", at(0.5), at(0.95), at(0.99));
    mean
}

/// Everyday words, no two messages alike.
fn message(number: usize, words: usize) -> Message {
    const WORDS: [&str; 24] = [
        "garden", "rain", "soup", "train", "ticket", "letter", "window", "paint", "bread", "meeting", "river",
        "bicycle", "invoice", "holiday", "piano", "tax", "spring", "kettle", "dentist", "football", "carpet", "lesson",
        "photo", "beach",
    ];
    let mut state = number as u64 + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        WORDS[(state >> 33) as usize % WORDS.len()]
    };
    let content: Vec<&str> = (0..words).map(|_| next()).collect();
    let role = if number.is_multiple_of(2) { Role::User } else { Role::Assistant };
    Message { role, content: content.join(" "), timestamp: None }
}
