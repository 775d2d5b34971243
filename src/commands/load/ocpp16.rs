//! Says it in OCPP 1.6, and answers what a central system asks in 1.6.

use std::io::Write as _;

use serde_json::{Value, json};

use super::say::{Action, Facts, Say};

pub(super) fn action(say: Say) -> Action {
    match say {
        Say::Boot => Action::BootNotification,
        Say::Heartbeat => Action::Heartbeat,
        Say::Start => Action::StartTransaction,
        Say::Meter(_) => Action::MeterValues,
        Say::Stop => Action::StopTransaction,
    }
}

/// Appends the payload.
pub(super) fn write_payload(say: Say, facts: &Facts<'_>, out: &mut Vec<u8>) {
    let Facts {
        now,
        transaction,
        energy,
        ..
    } = facts;
    // A vector takes what is written.
    let _ = match say {
        Say::Boot => write!(
            out,
            r#"{{"chargePointVendor":"ws2api","chargePointModel":"load","firmwareVersion":"{}"}}"#,
            env!("CARGO_PKG_VERSION")
        ),
        Say::Heartbeat => write!(out, "{{}}"),
        Say::Start => write!(
            out,
            r#"{{"connectorId":1,"idTag":"WS2API-LOAD","meterStart":{energy},"timestamp":"{now}"}}"#
        ),
        Say::Meter(_) => write!(
            out,
            r#"{{"connectorId":1,"transactionId":{transaction},"meterValue":[{{"timestamp":"{now}","sampledValue":[{{"value":"{energy}","context":"Sample.Periodic","measurand":"Energy.Active.Import.Register","unit":"Wh"}}]}}]}}"#
        ),
        Say::Stop => write!(
            out,
            r#"{{"transactionId":{transaction},"meterStop":{energy},"timestamp":"{now}","reason":"Local"}}"#
        ),
    };
}

/// The number of the transaction that the answer to a `StartTransaction` gives.
pub(super) fn transaction(answer: &str) -> Option<i64> {
    serde_json::from_str::<Value>(answer).ok()?["transactionId"].as_i64()
}

/// The answer to what a central system asks; `None`: a charger like this does not know the Action.
pub(super) fn answer(action: &str, payload: &str) -> Option<String> {
    let answer = match action {
        "CancelReservation"
        | "ChangeAvailability"
        | "ChangeConfiguration"
        | "ClearCache"
        | "ClearChargingProfile"
        | "DataTransfer"
        | "RemoteStartTransaction"
        | "RemoteStopTransaction"
        | "ReserveNow"
        | "Reset"
        | "SendLocalList"
        | "SetChargingProfile"
        | "TriggerMessage" => json!({"status": "Accepted"}),
        "GetCompositeSchedule" => json!({"status": "Rejected"}),
        "GetConfiguration" => configuration(payload),
        "GetDiagnostics" | "UpdateFirmware" => json!({}),
        "GetLocalListVersion" => json!({"listVersion": 0}),
        "UnlockConnector" => json!({"status": "Unlocked"}),
        _ => return None,
    };
    Some(answer.to_string())
}

fn configuration(payload: &str) -> Value {
    let request: Value = serde_json::from_str(payload).unwrap_or_default();
    let asked = request["key"].as_array().filter(|keys| !keys.is_empty());
    let is_asked = |name: &str| asked.is_none_or(|keys| keys.iter().any(|key| key == name));
    let known = KEYS.iter().filter(|(name, _)| is_asked(name));
    let known: Vec<Value> = known
        .map(|(name, value)| json!({"key": name, "readonly": true, "value": value}))
        .collect();
    let unknown = asked.into_iter().flatten();
    let unknown: Vec<&Value> = unknown
        .filter(|key| KEYS.iter().all(|(name, _)| *key != name))
        .collect();
    json!({"configurationKey": known, "unknownKey": unknown})
}

const KEYS: [(&str, &str); 2] = [("NumberOfConnectors", "1"), ("SupportedFeatureProfiles", "Core")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_answered_key_by_key() {
        let all = answer("GetConfiguration", "{}").unwrap();
        assert!(
            all.contains("NumberOfConnectors") && all.contains("SupportedFeatureProfiles"),
            "{all}"
        );
        let some = answer("GetConfiguration", r#"{"key":["NumberOfConnectors","X"]}"#).unwrap();
        let some: Value = serde_json::from_str(&some).unwrap();
        assert_eq!(some["configurationKey"].as_array().unwrap().len(), 1);
        assert_eq!(some["unknownKey"], json!(["X"]));
        assert_eq!(answer("Reset", "{}").as_deref(), Some(r#"{"status":"Accepted"}"#));
        assert_eq!(answer("Nonsense", "{}"), None);
    }

    #[test]
    fn a_transaction_has_the_number_that_it_is_given() {
        assert_eq!(
            transaction(r#"{"transactionId":17,"idTagInfo":{"status":"Accepted"}}"#),
            Some(17)
        );
        assert_eq!((transaction("{}"), transaction("x")), (None, None));
    }
}
