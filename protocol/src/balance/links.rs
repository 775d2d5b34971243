//! Names the open connections, and knows whose each is.

/// One open connection. The name of one that has ended is given to a later one.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[cfg_attr(test, derive(Default))]
pub struct LinkId(u32);

impl LinkId {
    /// The names are small numbers: a table can be indexed with them.
    #[must_use]
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

#[derive(Debug, Default)]
pub(super) struct Links {
    /// By name. The backend of each that is open.
    upstreams: Vec<Option<usize>>,
    free: Vec<LinkId>,
}

impl Links {
    pub(super) fn insert(&mut self, upstream: usize) -> LinkId {
        let link = self.free.pop().unwrap_or_else(|| {
            let next = u32::try_from(self.upstreams.len()).expect("connections are bounded");
            self.upstreams.push(None);
            LinkId(next)
        });
        self.upstreams[link.index()] = Some(upstream);
        link
    }

    /// The index of the backend that the connection leads to.
    #[inline]
    pub(super) fn upstream(&self, link: LinkId) -> usize {
        self.upstreams[link.index()].expect("the connection is open")
    }

    /// It has ended. Returns whose it was.
    pub(super) fn remove(&mut self, link: LinkId) -> usize {
        self.free.push(link);
        self.upstreams[link.index()].take().expect("the connection was open")
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.upstreams.len()
    }
}
