//! Both arcs of a user as one row, for whoever keeps the state rather than the log.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ArcKind, ArcState, EVIDENCE_MAX, ODDS_KEPT};

/// The form of rows that this build writes, and the only one it reads.
pub const ARC_ROW_VERSION: u32 = 1;
/// Bytes of a row as JSON that are read. A row that this build writes has a quarter of it at most: each arc has 12 messages, 12 threats and
/// the odds of 32 messages, however long the history is.
pub const ARC_ROW_BYTES_MAX: usize = 64 << 10;
/// Messages that a row stands for: beyond it their count is no whole number of an `f64`, which bets are counted by.
const MESSAGES_MAX: u64 = 1 << 53;

/// Both arcs of one user, harassment and delusion, with the version of their form.
///
/// A row is derived, and throughline itself keeps none: the sidecar's store has the log of messages with their scores, and walks the arcs
/// over that, so that nothing of it can go stale. It is for programs on the library: [`ArcRow::of`] what [`Arcs::states`](super::Arcs::states)
/// or `scorer::Live::arcs` gives, written as JSON with serde, read by [`ArcRow::read`], and gone on with by [`ArcState::step`], exactly
/// as if it had not been written down. As JSON it has at most [`ARC_ROW_BYTES_MAX`] bytes, however long the history is.
///
/// Late or out of order: a row has forgotten the messages, so that neither can two rows be merged nor can a session be put before what a row
/// has taken in. The latest session goes on from the row, and so does one that begins at [`ArcRow::until`] or later. For one that began before
/// it the arcs must be walked again over all that was observed; that is what [`Arcs`](super::Arcs) do, which keep it and so come to the same
/// whatever order sessions arrive in. What is without any time counts where it arrives.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ArcRow {
    version: u32,
    arcs: [ArcState; 2],
}

/// Of a row, only its version: what else stands in one of a later version nobody knows.
#[derive(Deserialize)]
struct Versioned {
    version: u64,
}

/// What stands in a row of this version.
#[derive(Deserialize)]
struct Unchecked {
    arcs: [ArcState; 2],
}

/// Why a row is not read.
#[derive(Debug, thiserror::Error)]
pub enum ArcRowError {
    #[error("the row has {found} bytes, the limit is {}; hint: it is no row of arcs; {}", ARC_ROW_BYTES_MAX, AGAIN)]
    TooLarge { found: usize },
    #[error(
        "the row has the version {found}, this build reads {}; hint: use the build that wrote it, or {}",
        ARC_ROW_VERSION,
        AGAIN
    )]
    OtherVersion { found: u64 },
    #[error("the row cannot be read: {0}; hint: {again}", again = AGAIN)]
    Malformed(#[from] serde_json::Error),
    #[error("the row has {found} {what}, the limit is {limit}; hint: it was changed; {}", AGAIN)]
    TooMany { what: &'static str, found: u64, limit: u64 },
    #[error(
        "the row's stances of the assistant in the {arc} arc cannot have come about; hint: it was changed; {}",
        AGAIN
    )]
    NoStances { arc: &'static str },
    #[error("the row has the {found} arc where the {expected} arc stands; hint: it was changed; {}", AGAIN)]
    OtherArc { found: &'static str, expected: &'static str },
}

const AGAIN: &str = "walk the arcs again over the scores";

impl ArcRow {
    pub fn of(arcs: &[ArcState; 2]) -> Self {
        Self { version: ARC_ROW_VERSION, arcs: arcs.clone() }
    }

    /// Reads what was written as JSON.
    ///
    /// # Errors
    /// When it is too large, of another version, malformed, or no row that this build could have written.
    pub fn read(json: &[u8]) -> Result<Self, ArcRowError> {
        if json.len() > ARC_ROW_BYTES_MAX {
            return Err(ArcRowError::TooLarge { found: json.len() });
        }
        let Versioned { version: found } = serde_json::from_slice(json)?;
        if found != u64::from(ARC_ROW_VERSION) {
            return Err(ArcRowError::OtherVersion { found });
        }
        let Unchecked { arcs } = serde_json::from_slice(json)?;
        arcs.iter().zip(ArcKind::ALL).try_for_each(|(arc, kind)| check(arc, kind))?;
        Ok(Self { version: ARC_ROW_VERSION, arcs })
    }

    /// Both arcs, to be gone on with.
    pub fn into_states(self) -> [ArcState; 2] {
        self.arcs
    }

    /// The latest time of any message that it stands for; `None` while none had one.
    pub fn until(&self) -> Option<Timestamp> {
        self.arcs.iter().filter_map(|arc| arc.last_time).max()
    }
}

/// Whether the state could have come about: what is bounded while it is stepped must be when it is read.
fn check(arc: &ArcState, kind: ArcKind) -> Result<(), ArcRowError> {
    if arc.kind != kind {
        return Err(ArcRowError::OtherArc { found: arc.kind.as_str(), expected: kind.as_str() });
    }
    let bounds = [
        ("messages", arc.user_messages, MESSAGES_MAX),
        ("sessions with evidence", arc.evidence_sessions as u64, arc.user_messages),
        ("odds", arc.odds_nats.len() as u64, ODDS_KEPT as u64),
        ("threats", arc.threats.len() as u64, EVIDENCE_MAX as u64),
        ("messages as evidence", arc.strongest.len() as u64, EVIDENCE_MAX as u64),
        ("messages under a frame", u64::from(arc.frames.lately), arc.user_messages),
        ("messages up to the last under a frame", arc.frames.last, arc.user_messages),
    ];
    match bounds.into_iter().find(|(_, found, limit)| found > limit) {
        Some((what, found, limit)) => Err(ArcRowError::TooMany { what, found, limit }),
        None if !arc.coupling.could_be(arc.user_messages) => Err(ArcRowError::NoStances { arc: kind.as_str() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::arc::tests::{uniform, user};
    use crate::arc::{Arcs, MessageAt, Observation};

    /// A message of a life, of any level, case and threat.
    fn message(number: usize, next: &mut impl FnMut() -> f64) -> Observation {
        let mut one = user(number / 20, number % 20, (number / 60) as i64, (next() * 4.0) as usize);
        one.score.imminent = next() as f32;
        (one.score.harassment_case, one.score.delusion_case) = (Some(next() as f32), Some(next() as f32));
        one.score.framed = Some(next() as f32);
        one.from_user = number.is_multiple_of(2);
        one
    }

    fn life(messages: usize) -> Vec<Observation> {
        let mut next = uniform();
        (0..messages).map(|number| message(number, &mut next)).collect()
    }

    fn walked(observations: &[Observation]) -> Arcs {
        let mut arcs = Arcs::new();
        observations.iter().for_each(|one| arcs.step(one));
        arcs
    }

    fn written(arcs: &Arcs) -> Value {
        serde_json::to_value(ArcRow::of(arcs.states())).unwrap()
    }

    fn refused(row: &Value) -> String {
        ArcRow::read(&serde_json::to_vec(row).unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn a_row_goes_on_exactly_wherever_it_was_written() {
        let life = life(300);
        let whole = walked(&life);
        for cut in [0, 1, 2, 39, 150, 299, 300] {
            let row = ArcRow::of(walked(&life[..cut]).states());
            let read = ArcRow::read(&serde_json::to_vec(&row).unwrap()).unwrap();
            assert_eq!(read, row, "{cut}");
            assert_eq!(read.until(), life[..cut].last().and_then(|one| one.time), "{cut}");
            let mut states = read.into_states();
            life[cut..].iter().for_each(|one| states.iter_mut().for_each(|state| state.step(one)));
            assert_eq!(&states, whole.states(), "{cut}");
        }
    }

    #[test]
    fn a_row_is_small_however_long_the_life_and_its_numbers() {
        let mut arcs = ArcKind::ALL.map(ArcState::new);
        for mut one in life(100_000) {
            // Places and times with as many digits as there are.
            one.at = MessageAt { session: usize::MAX - one.at.session, message: usize::MAX - one.at.message };
            one.time = one.time.map(|time| time + jiff::SignedDuration::from_nanos(987_654_321));
            one.score.delusion = one.score.harassment;
            arcs.iter_mut().for_each(|arc| arc.step(&one));
        }
        assert_eq!(
            arcs.each_ref().map(|arc| (arc.odds_nats.len(), arc.threats.len(), arc.strongest.len())),
            [(32, 12, 12); 2]
        );
        let bytes = serde_json::to_vec(&ArcRow::of(&arcs)).unwrap().len();
        assert!((4 << 10..ARC_ROW_BYTES_MAX / 4).contains(&bytes), "{bytes} bytes");
    }

    #[test]
    fn another_version_is_refused_whatever_else_stands_there() {
        let told = refused(&json!({"version": 2, "arcs": "in a form of 2031"}));
        assert_eq!(
            told,
            "the row has the version 2, this build reads 1; hint: use the build that wrote it, or walk the arcs again over the scores"
        );
        let mut row = written(&walked(&life(40)));
        assert_eq!(row["version"], json!(1));
        row["version"] = json!(0);
        assert!(refused(&row).contains("the version 0"));
        row.as_object_mut().unwrap().remove("version");
        assert!(refused(&row).contains("missing field `version`"));
    }

    #[test]
    fn what_no_build_wrote_is_refused() {
        let row = written(&walked(&life(400)));
        let changed = |change: fn(&mut Value)| {
            let mut row = row.clone();
            change(&mut row["arcs"]);
            refused(&row)
        };
        assert!(changed(|arcs| arcs[1] = arcs[0].clone()).contains("the harassment arc where the delusion arc stands"));
        assert!(changed(|arcs| *arcs = json!([arcs[0]])).contains("invalid length 1"));
        let odds = changed(|arcs| arcs[0]["odds_nats"].as_array_mut().unwrap().push(json!(1.5)));
        assert!(odds.contains("33 odds, the limit is 32"), "{odds}");
        for (list, what) in [("threats", "13 threats"), ("strongest", "13 messages as evidence")] {
            let mut row = row.clone();
            let list = row["arcs"][0][list].as_array_mut().unwrap();
            list.push(list[0].clone());
            assert!(refused(&row).contains(&format!("{what}, the limit is 12")), "{what}");
        }
        assert!(changed(|arcs| arcs[1]["user_messages"] = json!(u64::MAX)).contains("the limit is 9007199254740992"));
        assert!(changed(|arcs| arcs[0]["evidence_sessions"] = json!(201)).contains("201 sessions with evidence"));
        for (field, value) in [
            ("replies", json!(201)),
            ("weight", json!(-1)),
            ("stance_mean", json!(2.5)),
            ("first", json!(-0.1)),
            ("last", json!(1e9)),
            ("place_squares", json!(0)),
        ] {
            let mut row = row.clone();
            row["arcs"][1]["coupling"][field] = value;
            assert!(refused(&row).contains("the assistant in the delusion arc cannot have come about"), "{field}");
        }
        let large = vec![b' '; ARC_ROW_BYTES_MAX + 1];
        let told = ArcRow::read(&large).unwrap_err().to_string();
        assert!(told.contains("65537 bytes, the limit is 65536"), "{told}");
    }

    /// The order of time decides, not that of arrival: going on from a row is right from [`ArcRow::until`] on, and wrong before it.
    #[test]
    fn a_late_session_needs_the_log() {
        let days = [user(0, 0, 0, 2), user(1, 0, 200, 2), user(2, 0, 400, 2)];
        let [first, second, third] = days;
        let in_time = walked(&days);
        assert_eq!(walked(&[first, third, second]).states(), in_time.states(), "from all that was observed");
        let mut late = ArcRow::of(walked(&[first, third]).states());
        assert!(second.time < late.until());
        late.arcs.iter_mut().for_each(|arc| arc.step(&second));
        assert_ne!(&late.arcs, in_time.states(), "a row has forgotten what the session would have stood before");
        let mut row = ArcRow::of(walked(&[first, second]).states());
        assert!(third.time >= row.until());
        row.arcs.iter_mut().for_each(|arc| arc.step(&third));
        assert_eq!(&row.arcs, in_time.states());
    }
}
