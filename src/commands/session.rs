//! Holds what every command has: what was typed, where the process is, and where its words go.

use std::net::SocketAddr;

use super::failure::Failure;
use super::http::Client;
use super::place::{Listener, Place};
use super::screen::Screen;
use crate::cli::OperateArgs;

/// One run of a command.
pub(super) struct Session<'a> {
    pub(super) args: &'a OperateArgs,
    pub(super) screen: Screen,
    /// Read when it is needed first.
    place: Option<Place>,
}

impl<'a> Session<'a> {
    pub(super) fn new(args: &'a OperateArgs) -> Self {
        Self {
            args,
            screen: Screen::new(args.flag("json").is_some()),
            place: None,
        }
    }

    /// A word behind the command's name; the table has seen to it that those it needs are there.
    pub(super) fn word(&self, index: usize) -> &'a str {
        self.args.words.get(index).map_or("", String::as_str)
    }

    /// The way to the ingress.
    pub(super) fn ingress(&mut self) -> Result<Client, Failure> {
        self.client(Listener::Ingress)
    }

    /// The way to the admin address.
    pub(super) fn admin(&mut self) -> Result<Client, Failure> {
        self.client(Listener::Admin)
    }

    /// Where clients connect, and what stands before their ids.
    pub(super) fn clients_address(&mut self) -> Result<(SocketAddr, String), Failure> {
        self.place()?.clients_address()
    }

    fn client(&mut self, listener: Listener) -> Result<Client, Failure> {
        self.place()?.client(listener)
    }

    fn place(&mut self) -> Result<&Place, Failure> {
        let place = match self.place.take() {
            Some(place) => place,
            None => Place::find(&self.args.serve)?,
        };
        Ok(self.place.insert(place))
    }
}
