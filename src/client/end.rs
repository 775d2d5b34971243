//! Maps the causes of an end to close codes (RFC 6455, 7.4.1) and to what everybody is told of it.

use crate::observe::counters::Ended;
use protocol::mapping::ConnectionId;
use protocol::ocpp::FailReason;

pub(in crate::client) const CLOSE_AWAY: u16 = 1001;
pub(in crate::client) const CLOSE_TRY_AGAIN: u16 = 1013;
pub(in crate::client) const CLOSE_WITHOUT_CODE: u16 = 1005;
pub(in crate::client) const CLOSE_LOST: u16 = 1006;
pub(in crate::client) const CLOSE_REPLACED: u16 = 4001;

/// How a connection ended, for `/disconnect`.
pub(in crate::client) struct End<'a> {
    /// RFC 6455, 7.4.1: the client's code, ours, or 1005 and 1006 for none.
    pub code: u16,
    pub reason: &'a str,
    pub pushes: FailReason,
    /// The newer connection, and the node that has it if it is another one.
    pub replaced_by: Option<(ConnectionId, Option<&'a str>)>,
    pub ended: Ended,
}
