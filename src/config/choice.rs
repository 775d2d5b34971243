//! Names the keys whose values are words, and the words.

use super::setting::Word;

macro_rules! words {
    ($(#[$outer:meta])* $name:ident, $spellings:ident { $( $(#[$doc:meta])* $word:ident = $spelling:literal, )+ }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum $name {
            $( $(#[$doc])* $word, )+
        }

        impl Word for $name {
            const WORDS: &'static [(&'static str, Self)] = &[ $( ($spelling, Self::$word), )+ ];
        }

        /// The words of the type of this name, as they are written.
        pub(super) const $spellings: &[&str] = &[ $( $spelling, )+ ];
    };
}

words! {
    /// `client_id`: where the ClientId stands in the path.
    ClientIdPlace, CLIENT_ID_PLACE {
        /// It is the one segment behind `path_prefix`.
        OneSegment = "one-segment",
        /// It is the last segment, however many are between.
        LastSegment = "last-segment",
    }
}

words! {
    /// `drain_close`: how clients are sent away when the process ends.
    DrainClose, DRAIN_CLOSE {
        /// With a close frame.
        CloseFrame = "1001",
        /// Without one: the connection ends.
        Fin = "fin",
    }
}

words! {
    /// `tolerate`: breaches of RFC 6455 and OCPP-J that are let in.
    Tolerated, TOLERATED {
        /// An opening handshake without a `Connection` header.
        NoConnectionHeader = "no-connection-header",
        /// A `Sec-WebSocket-Key` that is not 16 bytes in base64.
        AnyKey = "any-key",
        /// MessageIds that are numbers.
        NumberIds = "number-ids",
    }
}

words! {
    /// `tls_client_auth`: whether clients show certificates.
    TlsClientAuth, TLS_CLIENT_AUTH {
        /// They are not asked for one.
        None = "none",
        /// One that is shown has to be good.
        Optional = "optional",
        /// Nobody comes in without one.
        Required = "required",
    }
}

words! {
    /// `tls_versions`: what is spoken.
    TlsVersion, TLS_VERSIONS {
        /// TLS 1.2 (RFC 5246).
        Tls12 = "1.2",
        /// TLS 1.3 (RFC 8446).
        Tls13 = "1.3",
    }
}

words! {
    /// `executor`: what runs the tasks of a shard.
    ExecutorKey, EXECUTOR {
        /// What measured best and is allowed.
        Auto = "auto",
        /// Tasks run in ws2api's own loop.
        Plain = "plain",
        /// glommio's, or no start.
        Glommio = "glommio",
    }
}
