//! Says which of two connections of a client stays.

use super::nodes::NodeId;
use crate::mapping::ConnectionId;

/// That a node has a client, and since when.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Claim {
    /// When the client was let in, in the cluster's time (milliseconds).
    pub at_ms: u64,
    /// The client's connection.
    pub connection: ConnectionId,
    /// The node that has it.
    pub node: NodeId,
}

impl Claim {
    /// True when this connection stays and the other one goes: it is newer. Of two that are equally new one stays, the same
    /// wherever they are compared.
    #[must_use]
    pub fn beats(&self, other: &Self) -> bool {
        self.order() > other.order()
    }

    /// True when both are about one connection, which another process goes on with: none of the two goes for the other.
    #[must_use]
    pub fn is_same_connection(&self, other: &Self) -> bool {
        self.connection.as_str() == other.connection.as_str()
    }

    fn order(&self) -> (u64, &str, NodeId) {
        (self.at_ms, self.connection.as_str(), self.node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_any_two_connections_one_stays() {
        let mut claims = Vec::new();
        for at_ms in [0, 1_000, 1_001, u64::MAX] {
            for boot in [1, 2] {
                for node in [7, 8] {
                    claims.push(Claim {
                        at_ms,
                        connection: ConnectionId::new(boot, 0, 5),
                        node: NodeId::new(node),
                    });
                }
            }
        }
        for (index, one) in claims.iter().enumerate() {
            for (other_index, other) in claims.iter().enumerate() {
                assert_eq!(one.beats(other), index > other_index, "{one:?} {other:?}");
            }
        }
    }
}
