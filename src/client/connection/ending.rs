//! Ends a connection, whatever the cause: once for everybody else, then for the client.

use super::{Connection, Phase, State};
use crate::client::conversation::Conversation;
use crate::client::end::{CLOSE_AWAY, CLOSE_LOST, End};
use crate::client::frame::Frame;
use crate::client::trace;
use crate::config::DrainClose;
use crate::observe::counters::Ended;
use protocol::mapping::bodies::{self, Disconnection};
use protocol::ocpp::{FailReason, Outputs, Push};

impl<C: Conversation> Connection<C> {
    /// The connection is gone without a close frame of the client's, or both were exchanged.
    #[cold]
    pub(super) fn end_lost(&self, state: &mut State<C>) {
        let end = End {
            code: CLOSE_LOST,
            reason: "",
            pushes: FailReason::Disconnected,
            replaced_by: None,
            ended: Ended::Lost,
        };
        self.finish(state, &end);
        state.phase = Phase::Over;
    }

    /// The socket is broken, as somebody else than the connection's task has seen.
    #[cold]
    pub(super) fn end_broken(&self, state: &mut State<C>) {
        self.end_lost(state);
        state.wake();
    }

    /// Once the close frame has left, so does our side of the connection.
    pub(super) fn finish_lingering_send(&self, state: &mut State<C>) {
        if let (None, Some(stream), 0) = (&state.queue, &mut state.stream, state.deferred_len) {
            stream.shutdown_write();
        }
    }

    #[cold]
    pub(super) fn end_slow(&self, state: &mut State<C>) {
        let end = End {
            code: 1008,
            reason: "not reading",
            pushes: FailReason::Disconnected,
            replaced_by: None,
            ended: Ended::NotReading,
        };
        self.finish(state, &end);
        self.end_now(state);
    }

    #[cold]
    pub(super) fn end_now(&self, state: &mut State<C>) {
        state.phase = Phase::Over;
        state.wake();
    }

    #[cold]
    pub(super) fn close_now(&self, state: &mut State<C>, code: u16, reason: &str, pushes: FailReason) {
        self.finish(
            state,
            &End {
                code,
                reason,
                pushes,
                replaced_by: None,
                ended: Ended::Closed(code),
            },
        );
        self.start_closing(state, code, reason);
    }

    /// The process ends: with a close frame, or with the end of the connection alone where `drain_close` wants it so.
    #[cold]
    pub(super) fn send_away(&self, state: &mut State<C>) {
        if self.env().node.drain_close == DrainClose::CloseFrame {
            return self.close_now(state, CLOSE_AWAY, "going away", FailReason::Shutdown);
        }
        let end = End {
            code: CLOSE_LOST,
            reason: "going away",
            pushes: FailReason::Shutdown,
            replaced_by: None,
            ended: Ended::Closed(CLOSE_AWAY),
        };
        self.finish(state, &end);
        if state.phase == Phase::Open {
            state.enter(Phase::Lingering, self.env().reactor.now());
            self.finish_lingering_send(state);
            state.wake();
        }
    }

    pub(super) fn start_closing(&self, state: &mut State<C>, code: u16, reason: &str) {
        if state.phase != Phase::Open {
            return;
        }
        let now = self.env().reactor.now();
        state.enter(Phase::Closing, now);
        self.env().counters.sent_close.add();
        // The session has ended: nothing can follow from this frame.
        self.send(state, Frame::close(Some((code, reason))), &mut Outputs::default());
        state.wake();
    }

    /// The client is no longer connected, as far as anybody else is concerned. Once.
    pub(super) fn finish(&self, state: &mut State<C>, end: &End<'_>) -> Vec<Push> {
        if std::mem::replace(&mut state.finished, true) {
            return Vec::new();
        }
        self.clients.unregister(self);
        // Where a newer one takes its place here, it is found all the time.
        if !matches!(end.replaced_by, Some((_, None))) {
            self.clients.backend().gone(&self.identity);
        }
        self.clients.note_end(&self.identity, end);
        if self.env().watch.is_on() {
            trace::show_end(self.env(), &self.identity, end.code, end.reason);
        }
        self.clients
            .add_earlier_calls(&self.identity.client, state.session.requests_count());
        let now = self.env().reactor.now();
        let mut out = Outputs::default();
        let pushes = state.session.handle_end(now, end.pushes, &mut out);
        self.act(state, &mut out);
        if self.env().node.notify_disconnect {
            let seconds = now.saturating_duration_since(state.opened).as_secs();
            self.notify_disconnect(end, seconds);
        }
        pushes
    }

    fn notify_disconnect(&self, end: &End<'_>, seconds: u64) {
        let end = Disconnection {
            code: end.code,
            reason: end.reason,
            seconds,
            replaced_by: end.replaced_by.map(|(connection, _)| connection),
            replaced_by_node: end.replaced_by.and_then(|(_, node)| node),
        };
        let body = bodies::disconnect(&self.identity, &end).into_bytes();
        self.clients.backend().disconnect(self.identity.clone(), body);
    }
}
