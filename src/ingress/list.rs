//! Lists clients: `GET /clients`, a page at a time.
//!
//! Mostly a page is some slots of this process's registries, which is cheap. While two processes have clients it is put together by
//! name: who moves from one to the other keeps its place among the names, and is on one page whatever happens meanwhile.

use super::answer::Answer;
use super::push::{RETRY_AFTER, overloaded};
use super::queries::NotAsked;
use super::{Ingress, ON_WAY_PAUSE};
use crate::shard::mail::{ClientReply, ClientRequest};
use protocol::mapping::bodies;
use protocol::mapping::routes::{After, Cursor};
use protocol::ocpp::ClientId;
use protocol::question::{About, Draft, Page, PageQuestion, Told};

/// The page behind `after`.
pub(super) async fn list(ingress: &Ingress, after: Option<After>, limit: usize) -> Answer {
    let cursor = match after {
        Some(After::Name(client)) => return list_by_name(ingress, Some(client), limit).await,
        Some(After::Slot(cursor)) => Some(cursor),
        None => None,
    };
    let generation = ingress.env.generation;
    if cursor.is_none_or(|cursor| cursor.generation == generation) && !ingress.home().is_in_takeover() {
        let answer = list_by_slot(ingress, cursor, limit).await;
        // Else somebody may have moved before it was listed.
        if !ingress.home().is_in_takeover() {
            return answer;
        }
    }
    match cursor {
        None => list_by_name(ingress, None, limit).await,
        Some(_) => Answer::error(400, "after is from before an upgrade: begin with the first page again"),
    }
}

/// Puts a page together slice by slice, and leaves the shard to others after each.
async fn list_by_slot(ingress: &Ingress, after: Option<Cursor>, limit: usize) -> Answer {
    let mut page = bodies::Page::default();
    let mut cursor = after.or(Some(Cursor {
        generation: ingress.env.generation,
        ..Cursor::default()
    }));
    while let Some(at) = cursor.filter(|at| at.shard < ingress.env.count && page.len() < limit) {
        ingress.turns.take(SLICE_COST).await;
        let request = ClientRequest::List {
            slot: at.slot,
            limit: (limit - page.len()).min(SLICE_LEN),
            names: None,
        };
        match ingress.ask(at.shard, request).await {
            Ok(ClientReply::Listed { clients, next, .. }) => {
                clients.iter().for_each(|client| page.push(&client.json()));
                cursor = Some(match next {
                    Some(slot) => Cursor { slot, ..at },
                    None => Cursor {
                        shard: at.shard + 1,
                        slot: 0,
                        ..at
                    },
                });
            }
            _ => return overloaded(),
        }
    }
    let next = cursor.filter(|at| at.shard < ingress.env.count);
    let next = next.map(|cursor| After::Slot(cursor).text());
    Answer::json(200, page.finish(next.as_deref()).into_bytes())
}

async fn list_by_name(ingress: &Ingress, after: Option<ClientId>, limit: usize) -> Answer {
    let page = match ingress.page(&PageQuestion::new(after, limit)).await {
        Ok(page) => page,
        Err(NotAsked::Overloaded | NotAsked::Cluster(_)) => return overloaded(),
        Err(NotAsked::Elsewhere) => {
            let words = "an upgrade is under way, and the other process, which has some of the clients, can't be asked";
            return Answer::error(503, words).with_retry_after(RETRY_AFTER);
        }
    };
    let mut body = bodies::Page::default();
    page.clients.iter().for_each(|(_, client)| body.push(client));
    let last = page.clients.last().filter(|_| !page.is_last);
    let next = last.map(|(client, _)| After::Name(client.clone()).text());
    Answer::json(200, body.finish(next.as_deref()).into_bytes())
}

impl Ingress {
    /// Clients by name, of the whole node: this process and, while there is one, the other one of a takeover.
    ///
    /// # Errors
    /// See [`NotAsked`].
    pub async fn page(&self, question: &PageQuestion) -> Result<Page, NotAsked> {
        let mut has_changed = false;
        loop {
            let has_other = self.home().has_other_process();
            let pages = match has_other {
                true => self.pages_of_both(question).await,
                false => self.page_here(question).await.map(|page| vec![page]),
            };
            // A process has come, or gone, and its clients with it: once more.
            if self.home().has_other_process() == has_other || std::mem::replace(&mut has_changed, true) {
                return self.with_those_that_move(Page::merge(pages?, question), question).await;
            }
            // Whom it has sent last is about to arrive.
            shards::timer::sleep(&self.env.reactor, ON_WAY_PAUSE).await;
        }
    }

    /// Clients go from the old process to the new one: whom the old one has not any more, the new one has, or it is on its way.
    async fn pages_of_both(&self, question: &PageQuestion) -> Result<Vec<Page>, NotAsked> {
        if self.home().can_hand_over() {
            let here = self.page_here(question).await?;
            return Ok(vec![here, self.page_elsewhere(question).await?]);
        }
        let elsewhere = self.page_elsewhere(question).await?;
        Ok(vec![elsewhere, self.page_here(question).await?])
    }

    /// Each of those that were on their way is asked for, wherever it is by now.
    async fn with_those_that_move(&self, mut page: Page, question: &PageQuestion) -> Result<Page, NotAsked> {
        let mut found = Page {
            is_last: true,
            ..Page::default()
        };
        for client in std::mem::take(&mut page.moving) {
            match self.ask_about(client.clone(), About::Describe).await? {
                Told::Described(text) => found.clients.push((client, text)),
                Told::NotConnected => {}
                _ => return Err(NotAsked::Elsewhere),
            }
        }
        match found.clients.is_empty() {
            true => Ok(page),
            false => Ok(Page::merge([page, found], question)),
        }
    }

    /// Clients by name, of this process. A shard is left to others after each slice.
    async fn page_here(&self, question: &PageQuestion) -> Result<Page, NotAsked> {
        let mut draft = Draft::new(question.clone());
        for shard in 0..self.env.count {
            let mut next = Some(0);
            while let Some(slot) = next {
                self.turns.take(SLICE_COST).await;
                let request = ClientRequest::List {
                    slot,
                    limit: SLICE_LEN,
                    names: Some(draft.names()),
                };
                let ClientReply::Listed {
                    clients,
                    moving,
                    next: behind,
                } = self.ask(shard, request).await?
                else {
                    return Err(NotAsked::Overloaded);
                };
                for client in clients {
                    draft.add(client.identity.client.clone(), client.json());
                }
                moving.into_iter().for_each(|client| draft.add_moving(client));
                next = behind;
            }
        }
        Ok(draft.finish())
    }

    async fn page_elsewhere(&self, question: &PageQuestion) -> Result<Page, NotAsked> {
        match self.ask_elsewhere(question.to_bytes()).await? {
            Told::Listed(page) if page.is_answer_to(question) => {
                self.env.counters.forwarded_answered.add();
                Ok(*page)
            }
            _ => Err(NotAsked::Elsewhere),
        }
    }

    /// The other process of a takeover wants a page of this one's clients. `None`: too many are being put together for it already.
    pub async fn page_for_other_process(&self, question: &PageQuestion) -> Option<Page> {
        if self.pages_count.get() >= PAGES_MAX {
            return None;
        }
        self.pages_count.set(self.pages_count.get() + 1);
        let page = self.page_here(question).await;
        self.pages_count.set(self.pages_count.get() - 1);
        page.ok()
    }
}

/// Clients that are described at a stretch.
const SLICE_LEN: usize = 64;
/// What that costs, in small requests.
const SLICE_COST: u32 = 16;
/// Pages that a shard puts together at once for the other process.
const PAGES_MAX: usize = 16;
