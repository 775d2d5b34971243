//! Says it in OCPP 2.0.1, and answers what a CSMS asks in 2.0.1.

use std::io::Write as _;

use serde_json::{Value, json};

use super::say::{Action, Facts, READINGS, Say};

pub(super) fn action(say: Say) -> Action {
    match say {
        Say::Boot => Action::BootNotification,
        Say::Heartbeat => Action::Heartbeat,
        Say::Start | Say::Meter(_) | Say::Stop => Action::TransactionEvent,
    }
}

/// Appends the payload.
pub(super) fn write_payload(say: Say, facts: &Facts<'_>, out: &mut Vec<u8>) {
    let Facts {
        now,
        run,
        transaction,
        energy,
    } = facts;
    // A vector takes what is written.
    let _ = match say {
        Say::Boot => write!(
            out,
            r#"{{"reason":"PowerUp","chargingStation":{{"vendorName":"ws2api","model":"load","firmwareVersion":"{}"}}}}"#,
            env!("CARGO_PKG_VERSION")
        ),
        Say::Heartbeat => write!(out, "{{}}"),
        Say::Start => write!(
            out,
            r#"{{"eventType":"Started","timestamp":"{now}","triggerReason":"Authorized","seqNo":0,"transactionInfo":{{"transactionId":"{run}-{transaction}","chargingState":"Charging"}},"evse":{{"id":1,"connectorId":1}},"idToken":{{"idToken":"WS2API-LOAD","type":"Central"}}}}"#
        ),
        Say::Meter(reading) => write!(
            out,
            r#"{{"eventType":"Updated","timestamp":"{now}","triggerReason":"MeterValuePeriodic","seqNo":{reading},"transactionInfo":{{"transactionId":"{run}-{transaction}"}},"meterValue":[{{"timestamp":"{now}","sampledValue":[{{"value":{energy},"context":"Sample.Periodic","measurand":"Energy.Active.Import.Register"}}]}}]}}"#
        ),
        Say::Stop => write!(
            out,
            r#"{{"eventType":"Ended","timestamp":"{now}","triggerReason":"StopAuthorized","seqNo":{},"transactionInfo":{{"transactionId":"{run}-{transaction}","stoppedReason":"Local"}}}}"#,
            READINGS + 1
        ),
    };
}

/// The answer to what a CSMS asks; `None`: a charging station like this does not know the Action.
pub(super) fn answer(action: &str, payload: &str) -> Option<String> {
    let answer = match action {
        "CancelReservation"
        | "ChangeAvailability"
        | "ClearCache"
        | "ClearChargingProfile"
        | "DataTransfer"
        | "RequestStartTransaction"
        | "RequestStopTransaction"
        | "ReserveNow"
        | "Reset"
        | "SendLocalList"
        | "SetChargingProfile"
        | "TriggerMessage" => json!({"status": "Accepted"}),
        "GetBaseReport" | "GetReport" => json!({"status": "NotSupported"}),
        "GetLocalListVersion" => json!({"versionNumber": 0}),
        "GetTransactionStatus" => json!({"messagesInQueue": false}),
        "GetVariables" => json!({"getVariableResult": variables(payload, "getVariableData")}),
        "SetVariables" => json!({"setVariableResult": variables(payload, "setVariableData")}),
        "UnlockConnector" => json!({"status": "Unlocked"}),
        _ => return None,
    };
    Some(answer.to_string())
}

/// It has no variables; each that is asked for has its own answer.
fn variables(payload: &str, member: &str) -> Vec<Value> {
    let request: Value = serde_json::from_str(payload).unwrap_or_default();
    let asked = request[member].as_array().map_or(&[][..], Vec::as_slice);
    asked
        .iter()
        .map(|one| {
            json!({
                "attributeStatus": "UnknownVariable", "component": one["component"], "variable": one["variable"],
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_variable_has_its_answer() {
        let request = r#"{"getVariableData":[{"component":{"name":"A"},"variable":{"name":"B"}},{}]}"#;
        let answer: Value = serde_json::from_str(&answer("GetVariables", request).unwrap()).unwrap();
        let results = answer["getVariableResult"].as_array().unwrap();
        assert_eq!(results.len(), 2);
        assert_eq!(
            results[0],
            json!({"attributeStatus": "UnknownVariable", "component": {"name": "A"}, "variable": {"name": "B"}})
        );
    }
}
