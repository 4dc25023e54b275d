//! Alarms over the wire, and what is asked and answered about them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{JudgedByOut, Place, TargetOut};
use crate::scorer::TargetScore;
use crate::store::Alarm;
use crate::verdict::{Level, Verdict};

/// Targets that the record of an alarm has.
const TARGETS_KEPT_MAX: usize = 5;

/// An alarm's verdict as it is kept, sealed; who is told what of it says [`AlarmOut`].
#[derive(Serialize)]
struct Record<'a> {
    #[serde(flatten)]
    verdict: &'a Verdict,
    judged_by: &'a JudgedByOut,
    #[serde(skip_serializing_if = "Option::is_none")]
    targets: Option<Vec<TargetScore>>,
}

/// The record of an alarm, in JSON, with toward whom the evidence is: whoever has most. `None` where texts are not kept: no name is, either.
pub(in crate::server) fn record(
    verdict: &Verdict,
    judged_by: &JudgedByOut,
    mut targets: Option<Vec<TargetScore>>,
) -> Vec<u8> {
    targets.iter_mut().for_each(|targets| targets.truncate(TARGETS_KEPT_MAX));
    serde_json::to_vec(&Record { verdict, judged_by, targets }).unwrap_or_default()
}

/// An alarm.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AlarmOut {
    /// Rises with time.
    pub id: i64,
    pub user_id: String,
    #[schema(value_type = String)]
    pub level: Level,
    #[serde(flatten)]
    pub at: Place,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub raised_at: Option<Timestamp>,
    /// What led to it, as it was then, and by what it was judged (`judged_by`).
    #[schema(value_type = Object)]
    pub verdict: serde_json::Value,
    /// Toward whom the evidence was then, as `GET /v1/users/{user_id}/targets` tells it now: five at most, whoever had most first. In the list and
    /// the stream of alarms alone, and to tokens with the scopes `read` and `review` alone. It is not there where no text is kept
    /// (`--no-content`), nor of alarms of an older build. With `--pseudonymous-targets`, and where text is dropped after days, labels are `person ID`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub targets: Option<Vec<TargetOut>>,
    pub acknowledged: Option<AcknowledgedOut>,
}

/// That a person saw it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AcknowledgedOut {
    #[schema(value_type = Option<String>, format = DateTime)]
    pub at: Option<Timestamp>,
    pub by: String,
    pub note: String,
}

impl AlarmOut {
    /// The alarm with toward whom its evidence was, for tokens with the scopes `read` and `review`; under numbers where people are to
    /// stay `pseudonymous`.
    pub(in crate::server) fn for_reviewers(alarm: Alarm, pseudonymous: bool) -> Self {
        let (out, mut targets) = Self::opened(alarm);
        if pseudonymous {
            targets.iter_mut().flatten().for_each(TargetScore::pseudonymise);
        }
        Self { targets: targets.map(|targets| targets.into_iter().map(TargetOut::from).collect()), ..out }
    }

    /// The alarm without its targets, and these.
    fn opened(alarm: Alarm) -> (Self, Option<Vec<TargetScore>>) {
        let mut verdict: serde_json::Value = serde_json::from_slice(&alarm.verdict).unwrap_or_default();
        let targets = verdict.as_object_mut().and_then(|record| record.remove("targets"));
        let out = Self {
            id: alarm.id,
            user_id: alarm.user_id,
            level: alarm.level,
            at: alarm.at.into(),
            raised_at: alarm.raised_at,
            verdict,
            targets: None,
            acknowledged: alarm.acknowledged.map(|seen| AcknowledgedOut { at: seen.at, by: seen.by, note: seen.note }),
        };
        (out, targets.and_then(|targets| serde_json::from_value(targets).ok()))
    }
}

/// For everybody else, webhooks among them: toward whom it is, in the words of the user, is not told.
impl From<Alarm> for AlarmOut {
    fn from(alarm: Alarm) -> Self {
        Self::opened(alarm).0
    }
}

/// Which alarms.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AlarmsQuery {
    /// Those after the one of this number.
    #[serde(default)]
    pub after: i64,
    /// Those alone that wait for a person.
    #[serde(default)]
    pub open: bool,
}

/// Where a stream of alarms begins.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StreamQuery {
    /// After the alarm of this number; without it, with the next one.
    pub after: Option<i64>,
}

/// Alarms, the oldest first, a thousand at most.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AlarmsOut {
    pub alarms: Vec<AlarmOut>,
    /// Alarms beside them that cannot be opened, as `throughline store check` tells.
    pub unreadable: usize,
}

/// That a person saw a user's alarms: all, or those up to one.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcknowledgeIn {
    /// Who did; the token's name is noted as well.
    #[schema(min_length = 1, max_length = 256)]
    pub by: String,
    #[serde(default)]
    #[schema(max_length = 4096)]
    pub note: String,
    /// The last alarm that the person looked at: those after it wait on, and what was said after it raises one at once, where it is worth one by
    /// itself that is above those. Without it, all there is counts as seen, what came meanwhile among it.
    #[schema(minimum = 1)]
    pub up_to: Option<i64>,
}

/// How many alarms had waited; 0 where `up_to` is no alarm of the user's.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AcknowledgeOut {
    pub acknowledged: usize,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::arc::MessageAt;

    /// An alarm as it is kept, with this beside its level.
    fn alarm(mut record: Value) -> Alarm {
        record["level"] = json!("review");
        let at = MessageAt { session: 0, message: 2 };
        let verdict = record.to_string().into_bytes();
        Alarm { id: 7, user_id: "ada".into(), at, level: Level::Review, verdict, raised_at: None, acknowledged: None }
    }

    fn toward_ottoline() -> Alarm {
        let place = json!({"session": 0, "message": 0});
        alarm(json!({"targets": [{
            "id": 3, "label": "Ottoline", "mentions": 2, "messages": 1, "first": place, "last": place, "score": 0.5,
            "level": "senior", "onset": null, "harassment_share": 0.75, "delusion_share": 0.0
        }]}))
    }

    #[test]
    fn toward_whom_it_is_goes_to_reviewers_alone() {
        let told = serde_json::to_value(AlarmOut::from(toward_ottoline())).unwrap();
        assert_eq!((&told["verdict"], told.get("targets")), (&json!({"level": "review"}), None), "{told}");
        let label = |pseudonymous| {
            let told = serde_json::to_value(AlarmOut::for_reviewers(toward_ottoline(), pseudonymous)).unwrap();
            assert_eq!(
                (&told["verdict"], &told["targets"][0]["harassment_share"]),
                (&json!({"level": "review"}), &json!(0.75))
            );
            told["targets"][0]["label"].clone()
        };
        assert_eq!((label(false), label(true)), (json!("Ottoline"), json!("person 3")));
    }

    #[test]
    fn an_older_record_is_told_as_it_is_and_a_strange_one_names_nobody() {
        let out = AlarmOut::for_reviewers(alarm(json!({"judged_by": {"model": "m"}})), false);
        assert_eq!((out.targets.is_none(), &out.verdict["judged_by"]["model"]), (true, &json!("m")));
        let strange = AlarmOut::for_reviewers(alarm(json!({"targets": ["Ottoline"]})), true);
        assert!(!serde_json::to_string(&strange).unwrap().contains("Ottoline"), "{strange:?}");
    }
}
