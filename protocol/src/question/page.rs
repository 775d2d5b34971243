//! A page of clients in the order of their names: how one process asks another for it, and how several become one.
//!
//! Who stays connected while the pages are turned is on one of them, whichever process it is in meanwhile: a name keeps its place.

use std::collections::{BTreeMap, BTreeSet};

use crate::mapping::routes::PAGE_MAX;
use crate::ocpp::ClientId;
use crate::record::{Field, Fields, RecordError, Writer};

/// Which clients are wanted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PageQuestion {
    /// Those behind this one; `None`: from the first on.
    pub after: Option<ClientId>,
    /// So many at the most, up to [`PAGE_MAX`].
    pub limit: usize,
    /// Bytes of what is said of all of them together, unless the first alone has more.
    pub len_max: usize,
}

/// The clients of one process or of several, as far as the question goes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Page {
    /// In the order of their names; of each a JSON object, as `GET /clients/<ClientId>` answers it.
    pub clients: Vec<(ClientId, String)>,
    /// Those that have left for the other process of a takeover, and it has not said yet that they are there.
    pub moving: Vec<ClientId>,
    /// There are no more behind them.
    pub is_last: bool,
}

/// A page that is being put together out of clients in any order.
#[derive(Debug)]
pub struct Draft {
    question: PageQuestion,
    /// One more than there will be, so that it is known whether any is left.
    clients: BTreeMap<ClientId, String>,
    moving: BTreeSet<ClientId>,
    /// Behind this one they are not all known.
    until: Option<ClientId>,
}

/// The names that a draft has room for.
#[derive(Clone, Debug)]
pub struct Names {
    after: Option<ClientId>,
    before: Option<ClientId>,
}

impl PageQuestion {
    /// For a page of as much as a request's answer may hold.
    #[must_use]
    pub fn new(after: Option<ClientId>, limit: usize) -> Self {
        Self {
            after,
            limit,
            len_max: LEN_MAX,
        }
    }

    /// As bytes: a record, as that of a [`Question`](super::Question) of another kind.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut record = Writer::new(&mut bytes);
        if let Some(after) = &self.after {
            record.bytes(AFTER, after.as_str().as_bytes());
        }
        record.number(super::KIND, super::LIST);
        record.number(LIMIT, self.limit as u64);
        record.number(LEN_MAX_FIELD, self.len_max as u64);
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// It is no such question.
    pub fn read(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut fields = Fields::of_record(bytes)?;
        let (mut kind, mut after, mut limit, mut len_max) = (0_u64, None, 0, 0);
        while let Some(field) = fields.next()? {
            match field.number {
                super::KIND => kind = field.number()?,
                AFTER => after = Some(read_client(&field)?),
                LIMIT => limit = field.number()?,
                LEN_MAX_FIELD => len_max = field.number()?,
                _ => {}
            }
        }
        if kind != super::LIST {
            return Err(RecordError::Field(super::KIND));
        }
        if !(1..=PAGE_MAX).contains(&limit) {
            return Err(RecordError::Field(LIMIT));
        }
        Ok(Self { after, limit, len_max })
    }
}

impl Page {
    /// One page of several that answer the same question, each client on it once: the later page knows better.
    #[must_use]
    pub fn merge(pages: impl IntoIterator<Item = Self>, question: &PageQuestion) -> Self {
        let mut draft = Draft::new(question.clone());
        for page in pages {
            draft.add_page(page);
        }
        draft.finish()
    }

    /// Whether it is one: else whoever turns pages would miss some, or come round again.
    #[must_use]
    pub fn is_answer_to(&self, question: &PageQuestion) -> bool {
        let names = Draft::new(question.clone()).names();
        let is_in_order = self.clients.is_sorted_by(|(one, _), (other, _)| one < other);
        let is_behind = self.clients.first().is_none_or(|(first, _)| names.has(first));
        is_in_order && is_behind && self.clients.len() <= question.limit && (self.is_last || !self.clients.is_empty())
    }

    pub(super) fn write(&self, record: &mut Writer<'_>) {
        record.flag(IS_LAST, self.is_last);
        for (client, text) in &self.clients {
            record.fields(CLIENTS, |record| {
                record.bytes(NAME, client.as_str().as_bytes());
                record.bytes(TEXT, text.as_bytes());
            });
        }
        for client in &self.moving {
            record.bytes(MOVING, client.as_str().as_bytes());
        }
    }

    pub(super) fn read(part: &Field<'_>) -> Result<Self, RecordError> {
        let mut page = Self::default();
        let mut fields = part.fields();
        while let Some(field) = fields.next()? {
            match field.number {
                IS_LAST => page.is_last = field.flag()?,
                CLIENTS if page.clients.len() < PAGE_MAX => {
                    let (client, text) = read_listed(&field)?;
                    if page.clients.last().is_some_and(|(last, _)| *last >= client) {
                        return Err(field.wrong());
                    }
                    page.clients.push((client, text));
                }
                MOVING if page.moving.len() < MOVING_MAX => page.moving.push(read_client(&field)?),
                CLIENTS | MOVING => return Err(field.wrong()),
                _ => {}
            }
        }
        // Whoever asks goes on behind the last one.
        if page.clients.is_empty() && !page.is_last {
            return Err(part.wrong());
        }
        Ok(page)
    }
}

impl Draft {
    /// An empty one.
    #[must_use]
    pub fn new(question: PageQuestion) -> Self {
        Self {
            question,
            clients: BTreeMap::new(),
            moving: BTreeSet::new(),
            until: None,
        }
    }

    /// The names that may still be on the page.
    #[must_use]
    pub fn names(&self) -> Names {
        let last = self.clients.last_key_value().filter(|_| self.is_full());
        Names {
            after: self.question.after.clone(),
            before: last.map(|(client, _)| client.clone()),
        }
    }

    /// Adds a client and what is said of it, in the place of what was said before.
    pub fn add(&mut self, client: ClientId, text: String) {
        let is_behind = self.question.after.as_ref().is_none_or(|after| client > *after);
        let last = self.clients.last_key_value().filter(|_| self.is_full());
        if is_behind && last.is_none_or(|(last, _)| client <= *last) {
            self.clients.insert(client, text);
            if self.clients.len() > self.question.limit + 1 {
                self.clients.pop_last();
            }
        }
    }

    /// A client has left for another process.
    pub fn add_moving(&mut self, client: ClientId) {
        if self.moving.len() < MOVING_MAX {
            self.moving.insert(client);
        }
    }

    fn add_page(&mut self, page: Page) {
        let last = page.clients.last().map(|(client, _)| client.clone());
        if let Some(last) = last.filter(|_| !page.is_last)
            && self.until.as_ref().is_none_or(|until| last < *until)
        {
            self.until = Some(last);
        }
        page.clients
            .into_iter()
            .for_each(|(client, text)| self.add(client, text));
        page.moving.into_iter().for_each(|client| self.add_moving(client));
    }

    /// The page. Who moves and is not on it is named where it would stand.
    #[must_use]
    pub fn finish(mut self) -> Page {
        let mut is_last = self.clients.len() <= self.question.limit && self.until.is_none();
        if let Some(until) = &self.until {
            self.clients.retain(|client, _| client <= until);
        }
        let mut clients: Vec<(ClientId, String)> = Vec::new();
        let mut len = 0;
        for (client, text) in self.clients {
            len += text.len();
            let is_too_long = !clients.is_empty() && len > self.question.len_max;
            if clients.len() == self.question.limit || is_too_long {
                is_last = false;
                break;
            }
            clients.push((client, text));
        }
        let end = clients.last().map(|(client, _)| client.clone()).filter(|_| !is_last);
        let names = Names {
            after: self.question.after,
            before: None,
        };
        let is_found = |client: &ClientId| clients.binary_search_by(|(found, _)| found.cmp(client)).is_ok();
        let moving = self
            .moving
            .into_iter()
            .filter(|client| names.has(client) && end.as_ref().is_none_or(|end| client <= end) && !is_found(client));
        Page {
            moving: moving.collect(),
            clients,
            is_last,
        }
    }

    fn is_full(&self) -> bool {
        self.clients.len() > self.question.limit
    }
}

impl Names {
    /// Whether this is one of them.
    #[must_use]
    pub fn has(&self, client: &ClientId) -> bool {
        self.after.as_ref().is_none_or(|after| client > after)
            && self.before.as_ref().is_none_or(|before| client < before)
    }
}

fn read_listed(field: &Field<'_>) -> Result<(ClientId, String), RecordError> {
    let (mut client, mut text) = (None, None);
    let mut parts = field.fields();
    while let Some(part) = parts.next()? {
        match part.number {
            NAME => client = Some(read_client(&part)?),
            TEXT => text = Some(part.text()?.to_owned()),
            _ => {}
        }
    }
    client.zip(text).ok_or_else(|| field.wrong())
}

fn read_client(field: &Field<'_>) -> Result<ClientId, RecordError> {
    ClientId::parse(field.text()?).map_err(|_| field.wrong())
}

/// Ten times what a thousand clients have said of them.
const LEN_MAX: usize = 8 << 20;
/// As many as may be on their way, and those that were when the page was begun.
const MOVING_MAX: usize = 4096;

// Of the question.
const AFTER: u32 = super::CLIENT;
const LIMIT: u32 = 10;
const LEN_MAX_FIELD: u32 = 11;

// Of the page.
const IS_LAST: u32 = 1;
const CLIENTS: u32 = crate::record::LIST;
const MOVING: u32 = crate::record::LIST + 1;

// Of a client on it.
const NAME: u32 = 1;
const TEXT: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> ClientId {
        ClientId::parse(name).unwrap()
    }

    fn question(after: Option<&str>, limit: usize) -> PageQuestion {
        PageQuestion::new(after.map(id), limit)
    }

    fn page(names: &[&str], is_last: bool) -> Page {
        let clients = names.iter().map(|name| (id(name), format!("{{\"at\":\"{name}\"}}")));
        Page {
            clients: clients.collect(),
            moving: Vec::new(),
            is_last,
        }
    }

    fn names(page: &Page) -> Vec<&str> {
        page.clients.iter().map(|(client, _)| client.as_str()).collect()
    }

    #[test]
    fn pages_are_put_together_in_the_order_of_names_and_end_where_one_of_them_is_not_complete() {
        for (limit, pages, expected, is_last) in [
            (
                5,
                vec![page(&["b", "d"], true), page(&["a", "c"], true)],
                &["a", "b", "c", "d"][..],
                true,
            ),
            (
                3,
                vec![page(&["b", "d"], true), page(&["a", "c"], true)],
                &["a", "b", "c"],
                false,
            ),
            (
                4,
                vec![page(&["b", "d"], true), page(&["a", "c"], true)],
                &["a", "b", "c", "d"],
                true,
            ),
            // Behind "b" the first one may have others.
            (
                5,
                vec![page(&["b"], false), page(&["a", "c"], true)],
                &["a", "b"],
                false,
            ),
            (5, vec![page(&["b"], false), page(&["a"], false)], &["a"], false),
            (
                5,
                vec![page(&["a", "b"], true), page(&["a", "b"], true)],
                &["a", "b"],
                true,
            ),
            (5, vec![page(&[], true)], &[], true),
            (5, vec![], &[], true),
        ] {
            let merged = Page::merge(pages, &question(None, limit));
            assert_eq!((names(&merged).as_slice(), merged.is_last), (expected, is_last));
        }
        let newer = Page {
            clients: vec![(id("a"), "newer".into())],
            ..page(&[], true)
        };
        let merged = Page::merge([page(&["a"], true), newer], &question(None, 1));
        assert_eq!(merged.clients[0].1, "newer");
        assert!(merged.is_last);
    }

    #[test]
    fn a_page_ends_before_it_is_too_long_but_has_one_client() {
        let long = |len_max| PageQuestion {
            len_max,
            ..question(None, 9)
        };
        let two = page(&["a", "b"], true);
        let len = two.clients[0].1.len();
        for (len_max, expected, is_last) in [
            (2 * len, &["a", "b"][..], true),
            (2 * len - 1, &["a"], false),
            (0, &["a"], false),
        ] {
            let merged = Page::merge([two.clone()], &long(len_max));
            assert_eq!(
                (names(&merged).as_slice(), merged.is_last),
                (expected, is_last),
                "{len_max}"
            );
        }
    }

    #[test]
    fn what_is_no_answer_is_known_as_that() {
        for (names, is_last, is_answer) in [
            (&["b", "c"][..], false, true),
            (&[], true, true),
            (&[], false, false),
            (&["a"], true, false),
            (&["c", "b"], true, false),
            (&["b", "b"], true, false),
            (&["b", "c", "d"], true, false),
        ] {
            let page = page(names, is_last);
            assert_eq!(page.is_answer_to(&question(Some("a"), 2)), is_answer, "{names:?}");
        }
    }

    #[test]
    fn who_moves_is_named_where_it_would_stand_unless_it_is_there() {
        let moving = Page {
            moving: ["0", "a", "bb", "z"].map(id).into(),
            ..page(&["b"], true)
        };
        let merged = |limit| Page::merge([moving.clone(), page(&["a", "c"], true)], &question(Some("0"), limit));
        assert_eq!(merged(9).moving, ["bb", "z"].map(id));
        assert_eq!(merged(3).moving, ["bb", "z"].map(id));
        // The page ends with "b".
        assert_eq!(merged(2).moving, []);
    }

    /// However the clients are cut into slices and processes, turning the pages shows each once.
    #[test]
    fn turning_the_pages_shows_each_once_in_order() {
        let mut random = crate::random::Random::new(11);
        for _ in 0..200 {
            let all: BTreeSet<String> = (0..random.below(60)).map(|_| random.below(90).to_string()).collect();
            let limit = 1 + random.below(9);
            let (mut after, mut seen) = (None, Vec::new());
            loop {
                let question = PageQuestion {
                    after: after.take(),
                    limit,
                    len_max: random.below(200),
                };
                let mut drafts = [0, 1].map(|_| Draft::new(question.clone()));
                for name in &all {
                    // Some are in both: they moved meanwhile.
                    let which = random.below(5);
                    for (index, draft) in drafts.iter_mut().enumerate() {
                        if (which >= 4 || which % 2 == index) && draft.names().has(&id(name)) {
                            draft.add(id(name), "{}".repeat(10));
                        }
                    }
                }
                let merged = Page::merge(drafts.map(Draft::finish), &question);
                assert!(merged.clients.len() <= limit);
                seen.extend(merged.clients.iter().map(|(client, _)| client.as_str().to_owned()));
                if merged.is_last {
                    break;
                }
                after = merged.clients.last().map(|(client, _)| client.clone());
                assert!(after.is_some(), "it goes on");
            }
            assert_eq!(seen, all.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_draft_has_room_for_as_many_as_are_wanted_and_no_more() {
        let mut draft = Draft::new(question(Some("b"), 2));
        for name in ["b", "e", "d", "g", "f", "c", "a"] {
            draft.add(id(name), String::new());
        }
        assert!(draft.clients.len() <= 3);
        assert!(!draft.names().has(&id("b")) && !draft.names().has(&id("e")));
        let page = draft.finish();
        assert_eq!((names(&page).as_slice(), page.is_last), (&["c", "d"][..], false));
    }
}
