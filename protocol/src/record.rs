//! Writes a client down for another process that goes on with it, and reads it back.
//!
//! A record is a byte for the version of this form, and then fields: a number, a length, and so many bytes, which may be
//! fields again. Numbers and lengths are LEB128. Fields come in the order of their numbers; those below [`LIST`] come once at
//! most, the others as often as there is something.
//!
//! What the next version adds has numbers that this one does not know: it skips them. What could not be skipped gets another
//! version, which this one refuses. A number is never used for something else.
//!
//! A record comes from a process of the same machine, and nothing in it is believed: a length is compared with what is there
//! before anything is taken, names and texts are checked as they are on arrival, and what cannot have been written is refused.

mod client;
mod fields;
mod identity;
mod post;
#[cfg(test)]
mod tests;
mod writer;

pub use self::client::{ClientParts, ClientRecord};
pub use self::fields::{Field, Fields};
pub use self::identity::client_of;
pub(crate) use self::identity::{IdentityFields, write_identity};
pub use self::post::{Notice, PostRecord};
pub use self::writer::Writer;

/// The form that is written.
pub const VERSION: u8 = 1;
/// That of a client whose connection is under TLS.
pub const VERSION_TLS: u8 = 2;

/// Fields with this number or a higher one may be repeated.
pub const LIST: u32 = 64;

/// Whether records of this version can be read.
#[must_use]
pub fn is_readable(version: u8) -> bool {
    matches!(version, VERSION | VERSION_TLS)
}

/// Why bytes are no record that can be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RecordError {
    /// Of another version.
    #[error("version {0} of the record is not known here")]
    Version(u8),
    /// It ends too early, or its fields are in no order.
    #[error("it is not made of fields")]
    Form,
    /// A field that must be there is missing, or has a content that cannot have been written.
    #[error("its field {0} is not what it must be")]
    Field(u32),
}
