//! Writes down a Call that has no answer yet: one that was deferred, or one that waits.

use std::time::Instant;

use crate::ocpp::call_text::CallText;
use crate::ocpp::output::CallKey;
use crate::ocpp::session::call_list::{Call, CallState};
use crate::record::{Field, RecordError, Writer};

impl Call {
    pub(super) fn write_record(&self, now: Instant, record: &mut Writer<'_>) {
        self.text.write_record(record);
        if self.state == CallState::Queued {
            record.duration(WAITED, now.saturating_duration_since(self.deadline));
        } else {
            record.flag(IS_DEFERRED, true);
            record.duration(LEFT, self.deadline.saturating_duration_since(now));
        }
    }

    pub(super) fn from_record(key: CallKey, field: &Field<'_>, now: Instant) -> Result<Self, RecordError> {
        let text = CallText::from_record(field.fields())?.ok_or_else(|| field.wrong())?;
        let mut call = Self::new(key, text, now);
        let mut fields = field.fields();
        while let Some(part) = fields.next()? {
            match part.number {
                IS_DEFERRED if part.flag()? => call.state = CallState::Deferred,
                LEFT => call.deadline = part.time_after(now)?,
                WAITED => call.deadline = part.time_before(now)?,
                _ => {}
            }
        }
        Ok(call)
    }
}

// Behind those of its text.
const IS_DEFERRED: u32 = 8;
const LEFT: u32 = 9;
const WAITED: u32 = 10;
