//! Says which clients are the most of something, over all shards: whom to look at first when there is too much of it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::mpsc;
use std::time::Instant;

use super::connection::{Query, Response};
use super::refused::newest_first;
use super::{Admin, REPORT_TIMEOUT};
use crate::client::{TOP_LEN, TopBy, TopSlice};
use crate::observe::refusals::Refused;
use crate::observe::report::Report;
use crate::shard::mail::{Control, Mail};
use protocol::ocpp::{ClientId, json};

/// One place in the list.
struct Place {
    count: u64,
    shard: usize,
    /// The object's other members.
    members: String,
}

impl Admin {
    /// `GET /top?by=`
    pub(super) fn top(&self, query: &Query<'_>) -> Response {
        let by = query.parameter("by").unwrap_or_default();
        let mut places = match &*by {
            "frames" => self.gather(TopBy::Frames),
            "bytes" => self.gather(TopBy::Bytes),
            "bad" => self.gather(TopBy::BadFrames),
            "refused" => refused(&self.reports().reports),
            _ => return Response::text(400, "by is one of frames, bytes, bad, refused\n"),
        };
        places.sort_by_key(|place| std::cmp::Reverse(place.count));
        places.truncate(TOP_LEN);
        let mut text = format!(r#"{{"by":"{by}","top":["#);
        for (index, place) in places.iter().enumerate() {
            let Place { count, shard, members } = place;
            let comma = if index > 0 { "," } else { "" };
            let _ = write!(text, r#"{comma}{{"count":{count},"shard":{shard},{members}}}"#);
        }
        text.push_str("]}");
        Response::new(200, "application/json", text)
    }

    /// Asks all shards at once, each slice by slice. One that does not answer is left out.
    fn gather(&self, by: TopBy) -> Vec<Place> {
        let (reply, replies) = mpsc::channel::<(usize, TopSlice)>();
        let ask = |shard: usize, slot: usize| {
            let reply = reply.clone();
            let is_silent = self.control.is_silent(shard, REPORT_TIMEOUT).is_some();
            let mail = Mail::from(Control::Top { by, slot, reply });
            !is_silent && self.outside.try_send(shard, mail).is_ok()
        };
        let mut asked = (0..self.outside.shards_count()).filter(|shard| ask(*shard, 0)).count();
        let deadline = Instant::now() + REPORT_TIMEOUT;
        let mut places = Vec::new();
        while asked > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok((shard, slice)) = replies.recv_timeout(left) else {
                break;
            };
            places.extend(slice.clients.into_iter().map(|(count, description)| {
                let json = description.json();
                // The members of one object are put into another.
                let members = json.trim_start_matches('{').strip_suffix('}').unwrap_or_default();
                Place {
                    count,
                    shard,
                    members: members.to_owned(),
                }
            }));
            // Those that are the most of a slice and not of all need not be kept.
            places.sort_by_key(|place| std::cmp::Reverse(place.count));
            places.truncate(TOP_LEN);
            asked -= usize::from(!slice.next.is_some_and(|slot| ask(shard, slot)));
        }
        places
    }
}

/// Of the last refusals, by ClientId, or by address where there is none.
fn refused(reports: &[Report]) -> Vec<Place> {
    let mut last: HashMap<String, (u64, usize, &Refused)> = HashMap::new();
    for (shard, refused) in newest_first(reports) {
        let name = match &refused.client {
            Some(client) => client.json(),
            None => refused.address.ip().to_string(),
        };
        last.entry(name).or_insert((0, shard, refused)).0 += 1;
    }
    let place = |(count, shard, refused): (u64, usize, &Refused)| Place {
        count,
        shard,
        members: format!(
            r#""clientId":{},"address":"{}","reason":{}"#,
            refused
                .client
                .as_ref()
                .map_or_else(|| "null".to_owned(), ClientId::json),
            refused.address,
            json::string(refused.reason),
        ),
    };
    last.into_values().map(place).collect()
}
