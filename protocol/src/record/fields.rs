//! Reads fields.

use std::time::{Duration, Instant};

use super::{LIST, RecordError, is_readable};

/// The fields of a record or of one of its parts, in their order.
#[derive(Clone, Debug)]
pub struct Fields<'r> {
    rest: &'r [u8],
    last: u32,
}

/// One field.
#[derive(Clone, Copy, Debug)]
pub struct Field<'r> {
    /// What it is.
    pub number: u32,
    content: &'r [u8],
}

impl<'r> Fields<'r> {
    /// Those of a record.
    ///
    /// # Errors
    /// [`RecordError::Version`]; [`RecordError::Form`] where there is nothing.
    pub fn of_record(record: &'r [u8]) -> Result<Self, RecordError> {
        let (version, rest) = record.split_first().ok_or(RecordError::Form)?;
        if !is_readable(*version) {
            return Err(RecordError::Version(*version));
        }
        Ok(Self::only(rest))
    }

    /// Those of a part, which has no version of its own.
    #[must_use]
    pub fn only(part: &'r [u8]) -> Self {
        Self { rest: part, last: 0 }
    }

    /// The next one.
    ///
    /// # Errors
    /// [`RecordError::Form`]
    #[expect(
        clippy::should_implement_trait,
        reason = "a loop over it would forget to ask for the error"
    )]
    pub fn next(&mut self) -> Result<Option<Field<'r>>, RecordError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let number = take_number(&mut self.rest).and_then(|number| u32::try_from(number).ok());
        let number = number.ok_or(RecordError::Form)?;
        let is_in_order = number > self.last || number == self.last && number >= LIST;
        let len = take_number(&mut self.rest).and_then(|len| usize::try_from(len).ok());
        let content = len.and_then(|len| self.rest.split_off(..len));
        let content = content.filter(|_| is_in_order).ok_or(RecordError::Form)?;
        self.last = number;
        Ok(Some(Field { number, content }))
    }
}

impl<'r> Field<'r> {
    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &'r [u8] {
        self.content
    }

    /// Its bytes as text.
    ///
    /// # Errors
    /// They are no UTF-8.
    pub fn text(&self) -> Result<&'r str, RecordError> {
        str::from_utf8(self.content).map_err(|_| self.wrong())
    }

    /// A number that fits.
    ///
    /// # Errors
    /// It is no number, or a greater one.
    pub fn number<N: TryFrom<u64>>(&self) -> Result<N, RecordError> {
        let mut rest = self.content;
        let number = take_number(&mut rest).filter(|_| rest.is_empty());
        number
            .and_then(|number| N::try_from(number).ok())
            .ok_or_else(|| self.wrong())
    }

    /// What is there or not.
    ///
    /// # Errors
    /// It is neither.
    pub fn flag(&self) -> Result<bool, RecordError> {
        match self.number::<u8>()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.wrong()),
        }
    }

    /// A length of time.
    ///
    /// # Errors
    /// It is no number.
    pub fn duration(&self) -> Result<Duration, RecordError> {
        self.number().map(Duration::from_nanos)
    }

    /// So long after `now`.
    ///
    /// # Errors
    /// It is no number, or no time.
    pub fn time_after(&self, now: Instant) -> Result<Instant, RecordError> {
        now.checked_add(self.duration()?).ok_or_else(|| self.wrong())
    }

    /// So long before `now`; `now` where the clock does not go back so far.
    ///
    /// # Errors
    /// It is no number.
    pub fn time_before(&self, now: Instant) -> Result<Instant, RecordError> {
        Ok(now.checked_sub(self.duration()?).unwrap_or(now))
    }

    /// The fields that it is.
    #[must_use]
    pub fn fields(&self) -> Fields<'r> {
        Fields::only(self.content)
    }

    /// It is not what it must be.
    #[must_use]
    pub fn wrong(&self) -> RecordError {
        RecordError::Field(self.number)
    }
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for place in (0..u64::BITS).step_by(7) {
        let byte = *bytes.split_off_first()?;
        let digits = u64::from(byte & 0x7f);
        if digits.leading_zeros() < place {
            return None;
        }
        number |= digits << place;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}
