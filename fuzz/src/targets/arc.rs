//! Arcs: any stream of scores.

use jiff::Timestamp;
use throughline::arc::{ARC_ROW_BYTES_MAX, ArcKind, ArcRow, ArcState, MessageAt, Observation};
use throughline::scoring::MessageScore;

/// Every score is a number from 0 to 1, at its height never below what it was; the row stays small; and one that was written down
/// and read again goes on as if it had not been.
pub fn stream(data: &[u8]) {
    let observations = observations(data);
    let (mut states, mut heights) = (ArcKind::ALL.map(ArcState::new), [0.0; 2]);
    let mut resumed = states.clone();
    for observation in &observations {
        states.iter_mut().chain(&mut resumed).for_each(|state| state.step(observation));
        let json = serde_json::to_vec(&ArcRow::of(&resumed)).expect("a row is JSON");
        assert!(json.len() <= ARC_ROW_BYTES_MAX / 4, "{} bytes", json.len());
        resumed = ArcRow::read(&json).expect("a row that was written").into_states();
        for (state, height) in states.iter().zip(&mut heights) {
            let (score, now) = (state.score(), state.score_now());
            assert!((0.0..=1.0).contains(&now) && now <= score && score <= 1.0 && *height <= score, "{state:?}");
            *height = score;
            assert!(state.onset().is_none_or(|onset| onset <= observation.at), "{state:?}");
            assert!(state.framed_share().is_none_or(|share| (0.0..=1.001).contains(&share)), "{state:?}");
            assert!(state.assistant_stance().is_none_or(|stance| (-1.001..=2.001).contains(&stance)), "{state:?}");
            assert!((0.0..=1.0).contains(&state.imminent_max()), "{state:?}");
            assert!(state.evidence().iter().all(|evidence| evidence.gain.is_finite()), "{state:?}");
        }
    }
    assert_eq!(states, resumed, "written down after every message");
}

/// As many as the bytes tell, in the order of a history.
fn observations(mut data: &[u8]) -> Vec<Observation> {
    let mut at = MessageAt { session: 0, message: 0 };
    let mut observations = Vec::new();
    while let Some((head, rest)) = data.split_first_chunk::<28>() {
        data = rest;
        let how = head[0];
        at = match how & 1 {
            0 => MessageAt { message: at.message + 1, ..at },
            _ => MessageAt { session: at.session + 1 + usize::from(head[1]), message: 0 },
        };
        let number = |from: usize| u16::from_le_bytes([head[from], head[from + 1]]);
        let probability = |from: usize| f32::from(number(from)) / f32::from(u16::MAX);
        let score = MessageScore {
            harassment: row(&head[2..6]),
            delusion: row(&head[6..10]),
            stance: row(&head[10..14]),
            imminent: probability(14),
            harassment_case: (how & 2 != 0).then(|| probability(16)),
            delusion_case: (how & 4 != 0).then(|| probability(18)),
            framed: (how & 32 != 0).then(|| probability(10)),
        };
        let millis = i64::from_le_bytes([head[20], head[21], head[22], head[23], head[24], head[25], head[26], 0]);
        let time = Timestamp::from_millisecond(millis >> (head[27] % 56)).ok().filter(|_| how & 8 != 0);
        observations.push(Observation { at, time, from_user: how & 16 != 0, score });
    }
    observations
}

/// Probabilities that come to 1, some of them 0 or very small.
fn row(weights: &[u8]) -> [f32; 4] {
    let weight = |index: usize| f32::from(weights[index]).powi(4);
    let weights = std::array::from_fn::<f32, 4, _>(weight);
    let sum: f32 = weights.iter().sum();
    if sum > 0.0 { weights.map(|weight| weight / sum) } else { [1.0, 0.0, 0.0, 0.0] }
}
