//! Decides what a tap shows: an operator's view of the clients' frames, one JSON line each.
//!
//! A shard cuts the front of a message into its parts ([`head`]), remembers which Action a Call had until its answer comes
//! ([`calls`]), asks the [`Filter`], and writes a [`Record`]. Whoever reads makes a [`line`](line::write) of it, and puts
//! `"***"` in the place of what is not to be seen ([`mask`]): that costs the shard nothing.

pub mod calls;
pub mod head;
pub mod line;
pub mod mask;
pub mod record;

pub use calls::Calls;
pub use head::Head;
pub use mask::{Mask, NotShown};
pub use record::{Kind, Record};

use crate::ocpp::{Action, ClientId};

/// Which way a message goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// From the client.
    In,
    /// To the client.
    Out,
}

/// What a tap shows. What is `None` does not matter.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Filter {
    /// The only client.
    pub client: Option<ClientId>,
    /// The only Action: of Calls, SENDs, and the answers to Calls that were seen.
    pub action: Option<Action>,
    /// The only direction.
    pub direction: Option<Direction>,
}

impl Direction {
    /// `in` or `out`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }

    /// The direction of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::In, Self::Out]
            .into_iter()
            .find(|direction| direction.name() == name)
    }

    /// The other one: where the answer goes.
    #[must_use]
    pub const fn back(self) -> Self {
        match self {
            Self::In => Self::Out,
            Self::Out => Self::In,
        }
    }
}

impl Filter {
    /// Whether anything of this client may be shown. `None`: who it is was not told.
    #[must_use]
    pub fn takes_client(&self, client: Option<&ClientId>) -> bool {
        self.client.is_none() || self.client.as_ref() == client
    }

    /// Whether a frame of a client that is taken is shown. `action` is its own, or that of the Call that it answers.
    #[must_use]
    pub fn takes_frame(&self, direction: Direction, action: Option<&str>) -> bool {
        let fits = |wanted: &Action| action == Some(wanted.as_str());
        self.direction.is_none_or(|wanted| wanted == direction) && self.action.as_ref().is_none_or(fits)
    }

    /// Whether it is shown that a client came, went or was refused: whatever the direction, but not where one Action alone
    /// is wanted.
    #[must_use]
    pub fn takes_events(&self) -> bool {
        self.action.is_none()
    }
}

/// The longest message that is shown. Of a longer one the line says how long it is.
pub const TEXT_LEN_MAX: usize = 128 * 1024;

#[cfg(test)]
mod tests;
