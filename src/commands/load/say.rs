//! Names what chargers say, in the words of both OCPP versions, and what they say it of.

/// What a charger says next.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Say {
    #[default]
    Boot,
    Heartbeat,
    Start,
    /// The reading number 1 and so on of a transaction.
    Meter(u16),
    Stop,
}

impl Say {
    /// What follows in a transaction, and after it the next.
    pub(super) fn following(self) -> Self {
        match self {
            Self::Start => Self::Meter(1),
            Self::Meter(reading) if reading < READINGS => Self::Meter(reading + 1),
            Self::Meter(_) => Self::Stop,
            Self::Boot | Self::Heartbeat | Self::Stop => Self::Start,
        }
    }
}

/// A Call as OCPP names it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Action {
    BootNotification,
    Heartbeat,
    StartTransaction,
    MeterValues,
    StopTransaction,
    TransactionEvent,
}

impl Action {
    /// All of them, in the order of reports; an action's place is its number.
    pub(super) const ALL: [(Self, &'static str); 6] = [
        (Self::BootNotification, "BootNotification"),
        (Self::Heartbeat, "Heartbeat"),
        (Self::StartTransaction, "StartTransaction"),
        (Self::MeterValues, "MeterValues"),
        (Self::StopTransaction, "StopTransaction"),
        (Self::TransactionEvent, "TransactionEvent"),
    ];

    pub(super) fn name(self) -> &'static str {
        Self::ALL.get(self as usize).map_or("", |(_, name)| name)
    }
}

/// What a payload is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    /// RFC 3339.
    pub(super) now: &'a str,
    /// Of this run: no other run has the same transactions.
    pub(super) run: &'a str,
    /// The number that the central system has given (1.6), or that of the charger's own (2.0.1).
    pub(super) transaction: i64,
    /// What the meter says, in Wh.
    pub(super) energy: u64,
}

/// Meter values of a transaction.
pub(super) const READINGS: u16 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_a_start_its_readings_and_a_stop() {
        let mut said = vec![Say::Boot];
        while said.len() < 9 {
            said.push(said.last().unwrap().following());
        }
        let readings = (1..=READINGS).map(Say::Meter);
        let transaction: Vec<_> = [Say::Start].into_iter().chain(readings).chain([Say::Stop]).collect();
        assert_eq!(said[1..7], transaction);
        assert_eq!(said[7], Say::Start);
    }

    #[test]
    fn actions_stand_at_their_numbers() {
        for (index, (action, name)) in Action::ALL.iter().enumerate() {
            assert_eq!((*action as usize, action.name()), (index, *name));
        }
    }
}
