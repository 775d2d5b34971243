//! Sends clients away without the process's end: the part of a rebalance that is one shard's.

use super::Shard;
use super::mail::SendAway;

impl Shard {
    /// Has as many as are wanted leave, each as soon as nothing of it is under way. Returns how many there were: fewer, if no more have been
    /// there since it began.
    pub(super) fn send_away(&self, wanted: &SendAway) -> usize {
        let (number, slot) = self.sent_away.get();
        let mut slot = Some(if number == wanted.number { slot } else { 0 });
        let mut found = 0;
        while found < wanted.count
            && let Some(from) = slot
        {
            let (page, next) = self.clients.page(from, wanted.count - found);
            for client in page.iter().filter(|client| client.since() <= wanted.began) {
                client.leave();
                found += 1;
            }
            slot = next;
        }
        // At the end: whoever came later is at home here.
        self.sent_away.set((wanted.number, slot.unwrap_or(usize::MAX)));
        found
    }
}
