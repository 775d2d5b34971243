//! Has the log show one client's frames, and says where that is.

use super::connection::{Query, Response};
use super::{Admin, Control, Mail};
use crate::observe::log;
use protocol::ocpp::ClientId;

impl Admin {
    /// Who is traced from now on. On every shard: the home of a client that is not connected yet is not asked.
    pub(super) fn trace(&self, query: &Query<'_>) -> Response {
        let client = match (query.method, query.parameter("client")) {
            ("DELETE", _) => None,
            ("POST", Some(id)) => match ClientId::parse(&id) {
                Ok(client) => Some(client),
                Err(_) => return Response::text(400, "this is no ClientId\n"),
            },
            ("POST", None) => return Response::text(400, "POST /trace?client=ID begins, DELETE /trace ends\n"),
            _ => return Response::not_allowed("POST, DELETE"),
        };
        for shard in 0..self.outside.shards_count() {
            let mail = Mail::from(Control::Trace(client.clone()));
            if self.outside.try_send(shard, mail).is_err() {
                return Response::text(503, "a shard is overloaded: try again\n");
            }
        }
        let words = match client {
            Some(_) => format!("the log shows it, in lines with \"trace\": {}\n", log::whereabouts()),
            None => "the log shows no client's frames\n".to_owned(),
        };
        Response::text(200, words)
    }
}
