//! Ingress requests that wait for a push's outcome (`Prefer: wait`).
//!
//! Exactly one outcome: it goes to the request while that waits. A request that was answered 504 has had its outcome;
//! what comes later is dropped. If the request has gone unanswered, the outcome is posted like any other.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Instant;

use shards::{Socket, Timer};

use crate::mail::PushOutcome;
use crate::protocol::{FailReason, Outcome, Output};
use crate::shard::Shard;

/// A shard's waiting requests. An entry lives until its push's outcome comes, which it always does.
#[derive(Default)]
pub struct Waits {
    open: RefCell<HashMap<u64, Wait, foldhash::fast::RandomState>>,
}

enum Wait {
    Waiting {
        outcome: Option<Outcome>,
        waker: Option<Waker>,
    },
    /// Answered 504.
    Answered,
    /// The backend hung up.
    Gone,
}

/// What a wait came to.
#[derive(Debug)]
pub enum Waited {
    /// The push's outcome.
    Outcome(Outcome),
    /// Not within the time that the request wanted to wait.
    TimedOut,
    /// Nobody is there to be told.
    Gone,
}

impl Waits {
    /// Begins a wait, before the push is passed on.
    pub fn begin(&self, token: u64) {
        self.open.borrow_mut().insert(
            token,
            Wait::Waiting {
                outcome: None,
                waker: None,
            },
        );
    }

    /// The request waits no longer, and gets this: the outcome, if it came at the last moment, or `Timeout`. A push that
    /// was `withdrawn` was never sent; the outcome of any other will come, and be dropped.
    pub fn end(&self, token: u64, withdrawn: bool) -> Outcome {
        let mut open = self.open.borrow_mut();
        if let Some(Wait::Waiting {
            outcome: Some(outcome), ..
        }) = open.remove(&token)
        {
            return outcome;
        }
        if !withdrawn {
            open.insert(token, Wait::Answered);
        }
        Outcome::Failed {
            reason: FailReason::Timeout,
            sent: !withdrawn,
        }
    }

    /// The push was refused: there will be no outcome.
    pub fn cancel(&self, token: u64) {
        self.open.borrow_mut().remove(&token);
    }

    /// Requests that wait, and pushes whose request has stopped waiting.
    pub fn len(&self) -> usize {
        self.open.borrow().len()
    }

    /// True when nobody waits.
    pub fn is_empty(&self) -> bool {
        self.open.borrow().is_empty()
    }
}

impl Shard {
    /// A push's outcome has come for a request of this shard.
    pub fn take_outcome(&self, outcome: PushOutcome) {
        let PushOutcome {
            token,
            identity,
            call,
            outcome,
        } = outcome;
        let mut open = self.waits.open.borrow_mut();
        match open.get_mut(&token) {
            Some(Wait::Waiting { outcome: place, waker }) => {
                *place = Some(outcome);
                if let Some(waker) = waker.take() {
                    waker.wake();
                }
            }
            Some(Wait::Answered) => {
                open.remove(&token);
            }
            Some(Wait::Gone) | None => {
                open.remove(&token);
                let post = outcome.into_post(call.0, call.1);
                if let Output::Post {
                    kind,
                    action,
                    message_id,
                    body,
                    made_here,
                } = post
                {
                    self.outbox
                        .post(Rc::new(identity), kind, (action, message_id), body, made_here);
                }
            }
        }
    }

    /// Waits for a push's outcome on behalf of the request on `socket`.
    pub async fn wait_for_outcome(&self, token: u64, socket: &Socket, until: Instant) -> Waited {
        let mut timer = Timer::new(&self.reactor);
        timer.set(Some(until));
        let waited = poll_fn(|context| {
            let mut open = self.waits.open.borrow_mut();
            let Some(Wait::Waiting { outcome, waker }) = open.get_mut(&token) else {
                unreachable!("a wait is open until its request stops");
            };
            if let Some(outcome) = outcome.take() {
                return Poll::Ready(Waited::Outcome(outcome));
            }
            *waker = Some(context.waker().clone());
            if socket.poll_closed(context).is_ready() {
                return Poll::Ready(Waited::Gone);
            }
            timer.poll_expired(context).map(|()| Waited::TimedOut)
        })
        .await;
        let mut open = self.waits.open.borrow_mut();
        match waited {
            Waited::Outcome(_) => drop(open.remove(&token)),
            Waited::TimedOut => {}
            Waited::Gone => drop(open.insert(token, Wait::Gone)),
        }
        waited
    }
}
