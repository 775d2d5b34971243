//! Holds every key of the configuration, once: name, type, bounds, default, why, and when a new value takes effect.
//!
//! One table makes the structs [`Node`] and [`Core`], and [`KEYS`], from which the config file, `--set`, every error,
//! `ws2api check`, the manual page, a reload and the pages in config/ and docs/ take what they know.
//!
//! A new key is one entry here, without a default for any column: the compiler asks. Besides it needs the code that reads it,
//! at the moment that its last column promises; `cargo test --lib write_the_pages -- --ignored`, which brings
//! config/ws2api.toml and docs/operating.md up to date; and a row in ARCHITECTURE.md, "Bounds", if it is one.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::choice::{
    CLIENT_ID_PLACE, ClientIdPlace, DRAIN_CLOSE, DrainClose, EXECUTOR, ExecutorKey, TLS_CLIENT_AUTH, TLS_VERSIONS,
    TOLERATED, TlsClientAuth, TlsVersion, Tolerated,
};
use super::setting::Setting;
use super::value::{Kind, Raw, ValueError};
use super::{BackendUrl, CertificateFiles, NatsUrl, Network, Ratio};
use protocol::capacity::Concurrency;

/// Where a key may be written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// Once for the whole process, above the first table of the file.
    Node,
    /// Per shard: in `[defaults]`, or in a `[[core]]` for one shard.
    Core,
}

/// When a new value takes effect in a server that runs and reads its configuration again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum When {
    /// At once: whoever needs the value reads it from the shard's or the node's configuration each time.
    Now,
    /// For clients that connect from then on: a session or a connection takes the value along when it begins.
    NewClients,
    /// After a restart: a listener, a ring or a pool was made with it.
    Restart,
}

/// What is known of one key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// As written in the file and after `--set`.
    pub name: &'static str,
    /// Where it may be written.
    pub scope: Scope,
    /// The heading it is documented under.
    pub group: &'static str,
    /// Type, unit and bounds.
    pub kind: Kind,
    /// As it would be written after `--set name=`.
    pub default: &'static str,
    /// When a new value takes effect.
    pub when: When,
    doc: &'static [&'static str],
}

impl Key {
    /// What it does and why it has this default, line by line.
    pub fn why(&self) -> impl Iterator<Item = &'static str> {
        self.doc.iter().map(|line| line.trim())
    }

    /// The default as the config file would hold it.
    pub fn default_literal(&self) -> String {
        match self.scope {
            Scope::Node => Node::default().literal(self.name),
            Scope::Core => Core::default().literal(self.name),
        }
    }

    /// The key of this name.
    pub fn find(name: &str) -> Option<&'static Key> {
        KEYS.iter().copied().flatten().find(|key| key.name == name)
    }

    /// All keys, in the order in which they are documented.
    pub fn all() -> impl Iterator<Item = &'static Key> {
        KEYS.iter().copied().flatten()
    }
}

/// All keys: the node's, then the shards'.
pub const KEYS: [&[Key]; 2] = [Node::KEYS, Core::KEYS];

/// The key's name: the field's, unless another one is given.
macro_rules! name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident, $name:literal) => {
        $name
    };
}

macro_rules! settings {
    (
        $(#[$outer:meta])*
        $struct:ident in $scope:expr;
        $( $(#[$extra_doc:meta])* $extra:ident: $extra_type:ty = $extra_default:expr; )*
        $( [$group:literal] $( $(#[doc = $doc:literal])+ $field:ident $(as $name:literal)?: $type:ty = $kind:expr, $default:literal, $when:ident; )+ )+
    ) => {
        $(#[$outer])*
        #[derive(Clone, Debug, Eq, PartialEq)]
        pub struct $struct {
            $( $(#[$extra_doc])* pub $extra: $extra_type, )*
            $( $( $(#[doc = $doc])+ pub $field: $type, )+ )+
        }

        impl $struct {
            /// What is known of each key.
            pub const KEYS: &[Key] = &[ $( $( Key {
                name: name!($field $(, $name)?),
                scope: $scope,
                group: $group,
                kind: $kind,
                default: $default,
                when: When::$when,
                doc: &[$($doc),+],
            } ),+ ),+ ];

            /// Sets the value of `key`, which must be one of [`Self::KEYS`].
            ///
            /// # Errors
            /// [`ValueError`] says what is allowed; nothing is changed then.
            pub(super) fn set(&mut self, key: &Key, raw: &Raw) -> Result<(), ValueError> {
                match key.name {
                    $( $( name!($field $(, $name)?) => self.$field = Setting::parse(raw, key.kind)?, )+ )+
                    other => unreachable!("{other} belongs to another scope"),
                }
                Ok(())
            }

            /// The value of the key called `name` as the config file would hold it.
            pub(super) fn literal(&self, name: &str) -> String {
                match name {
                    $( $( name!($field $(, $name)?) => Setting::literal(&self.$field, $kind), )+ )+
                    other => unreachable!("{other} belongs to another scope"),
                }
            }
        }

        impl $struct {
            /// What runs after a reload: `new`, but with the values of `old` where a restart is needed.
            pub(super) fn merge(old: &Self, new: &Self) -> Self {
                Self {
                    $( $extra: old.$extra, )*
                    $( $( $field: match When::$when {
                        When::Restart => old.$field.clone(),
                        When::Now | When::NewClients => new.$field.clone(),
                    }, )+ )+
                }
            }
        }

        impl Default for $struct {
            fn default() -> Self {
                const TESTED: &str = "a test parses every default";
                Self {
                    $( $extra: $extra_default, )*
                    $( $( $field: Setting::parse(&Raw::Words($default.to_owned()), $kind).expect(TESTED), )+ )+
                }
            }
        }
    };
}

const fn count(min: u64, max: u64) -> Kind {
    assert!(min <= max);
    Kind::Count { min, max }
}

const fn size(min: u64, max: u64) -> Kind {
    assert!(min <= max);
    Kind::Size { min, max }
}

const fn time(min: Duration, max: Duration) -> Kind {
    assert!(min.as_millis() <= max.as_millis());
    Kind::Time { min, max }
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const TICK: Duration = Duration::from_millis(10);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

settings! {
    /// What the whole process shares.
    Node in Scope::Node;

    ["Listeners"]
    /// Where clients connect: `GET <path_prefix><ClientId>` with a WebSocket handshake. Empty where listen_tls is all that
    /// there is.
    listen: Option<SocketAddr> = Kind::OptionalAddress, "0.0.0.0:4000", Restart;
    /// Where clients connect with TLS (wss), such as "0.0.0.0:443", with the certificates below. Empty where none do, or
    /// where TLS ends before ws2api.
    listen_tls: Option<SocketAddr> = Kind::OptionalAddress, "", Restart;
    /// Where the backend posts its pushes. Whoever reaches it can command every client, hence loopback by default; set
    /// ingress_token_file before you open it to a network.
    ingress: SocketAddr = Kind::Address, "127.0.0.1:4001", Restart;
    /// Health, metrics, status page and profiles. Whoever reaches it sees clients and profiles, hence loopback by default;
    /// set admin_token_file before you open it to a network.
    admin: SocketAddr = Kind::Address, "127.0.0.1:4002", Restart;
    /// Where requests go: `http://host:port[/prefix]`, `https://host:port[/prefix]` or `unix:/path[:/prefix]`; one, or a
    /// list: the least busy one is asked first, and one that fails is left alone and probed.
    backends as "backend": Vec<BackendUrl> = Kind::Backends, "http://127.0.0.1:5000", Restart;
    /// Certificates, in PEM, by which those of https backends are verified; empty: by the system's. SIGHUP reads the file
    /// again.
    backend_ca: Option<PathBuf> = Kind::OptionalPath, "", Now;
    /// What https backends are shown if they ask for a certificate: `{ chain = "….pem", key = "….pem" }`. SIGHUP reads
    /// the files again.
    backend_certificate: Option<CertificateFiles> = Kind::OptionalCertificate, "", Now;
    /// How many requests one backend address gets at once, from all shards together; what is more waits here. `auto`
    /// finds out how many keep it busy. A number is for backends whose answers wait for something else than a worker:
    /// as many as it may hold open.
    backend_concurrency: Concurrency = Kind::CountOr { word: "auto", min: 1, max: 1_000_000 }, "auto", Restart;

    ["The opening handshake"]
    /// What comes before the ClientId in the path of a client's request; one, or a list where a fleet has several URLs. Empty
    /// segments around the ClientId are ignored.
    path_prefix: Vec<String> = Kind::PathPrefixes, "/", Now;
    /// Where the ClientId is behind that: it is the one segment there, or the last one of several.
    client_id: ClientIdPlace = Kind::Choice(CLIENT_ID_PLACE), "one-segment", Now;
    /// Subprotocols that clients may speak, compared exactly; the client's order of preference wins. `alias=name` echoes the
    /// client's own spelling and means the name, as in `ocpp1.6j=ocpp1.6`.
    subprotocols: Vec<String> = Kind::Subprotocols, "ocpp2.1,ocpp2.0.1,ocpp1.6", Now;
    /// Refuse a client that offers no subprotocol at all. Off, since simple clients and tests offer none.
    subprotocol_required: bool = Kind::Flag, "false", Now;
    /// Values of Origin that clients may come with, such as `https://example.org`, or `file://` that some firmware sends;
    /// empty lets everybody in. docs/security.md says what letting `file://` in means for browsers.
    origins: Vec<String> = Kind::Origins, "", Now;
    /// What breaks RFC 6455 or OCPP-J and is let in all the same, since some firmware does it and nothing else can be meant:
    /// `no-connection-header` (Upgrade without Connection), `any-key` (a Sec-WebSocket-Key of another length), `number-ids`
    /// (MessageIds that are numbers, echoed as they came). docs/client.md says who needs which.
    tolerate: Vec<Tolerated> = Kind::Choices(TOLERATED), "", NewClients;
    /// Parts of the User-Agent of clients that are not to be offered compression back, whatever they offer, such as
    /// `Java-WebSocket/1.5`; upper and lower case are the same. There are stacks that lose track of it.
    deflate_not_for: Vec<String> = Kind::UserAgents, "", Now;
    /// The user part of HTTP Basic must be the ClientId (OCPP security profiles 1 and 2), or the client gets 401.
    basic_user_is_client_id: bool = Kind::Flag, "true", Now;
    /// Headers of the client's request that /connect carries to the backend, so that it can decide whom to let in.
    forward_headers: Vec<String> = Kind::Headers, "authorization,user-agent,origin", Now;
    /// Tell the backend of each ended connection with POST /disconnect.
    notify_disconnect: bool = Kind::Flag, "true", Now;

    ["TLS of our own"]
    /// The certificates of `listen_tls`, each with its key: `[{ chain = "….pem", key = "….pem" }]`. The client gets the
    /// first whose names fit the one that it asks for and whose kind (RSA, ECDSA) it knows, or else the first that it knows;
    /// OCPP's security profiles want one of each kind. SIGHUP reads the files again, and clients that are there stay.
    tls_certificates: Vec<CertificateFiles> = Kind::Certificates, "", Now;
    /// The versions that are spoken. Clients that know neither come through a balancer.
    tls_versions: Vec<TlsVersion> = Kind::Choices(TLS_VERSIONS), "1.2,1.3", Now;
    /// Certificates of the authorities by which clients' certificates are verified, in PEM.
    tls_client_ca: Option<PathBuf> = Kind::OptionalPath, "", Now;
    /// Whether clients show a certificate (OCPP security profile 3): `none` asks for none, with `optional` one that is shown
    /// has to be good, with `required` nobody comes in without one.
    tls_client_auth: TlsClientAuth = Kind::Choice(TLS_CLIENT_AUTH), "none", Now;
    /// The CN of a client's verified certificate must be the ClientId, or the client gets 403 before the backend is asked. So
    /// it is where who ends TLS in front says what it is: haproxy with `proxy_protocol` and `proxy-v2-options ssl,cert-cn`.
    tls_cn_is_client_id: bool = Kind::Flag, "true", Now;

    ["Behind a load balancer"]
    /// Connections to `listen` and `listen_tls` begin with a PROXY protocol header (there before the TLS handshake); one
    /// without it is closed. Only where nobody but the load balancer can reach the port, since the header is believed.
    proxy_protocol: bool = Kind::Flag, "false", Now;
    /// The same for connections to `ingress`.
    ingress_proxy_protocol: bool = Kind::Flag, "false", Now;
    /// Who may send that header, at any of them, such as "10.0.0.1"; from others it is refused. Empty believes everybody.
    proxy_protocol_from: Vec<Network> = Kind::Networks, "", Now;
    /// Networks of proxies whose X-Forwarded-For is believed, such as "10.0.0.0/8"; empty believes nobody.
    trusted_proxies: Vec<Network> = Kind::Networks, "", Now;
    /// Headers that /connect carries only if a trusted proxy sent them, such as "x-ssl-client-cn".
    trusted_headers: Vec<String> = Kind::Headers, "", Now;

    ["Who may ask"]
    /// File whose first line is the token that every request to `ingress` must carry as Authorization: Bearer; empty
    /// asks for none. A second line is another token, as good as the first, while one takes the place of the other. A
    /// file, because arguments and environment are easily seen by others.
    ingress_token_file: Option<PathBuf> = Kind::OptionalPath, "", Now;
    /// The same for `admin`, but for /healthz and /readyz. A browser asks for a name and a password: the token is the
    /// password, the name may be any.
    admin_token_file: Option<PathBuf> = Kind::OptionalPath, "", Now;
    /// Names with a dot by which `ingress` is reached, such as "ws2api.example.org". Without a token, a request whose Host is
    /// another such name gets 403: a page of a stranger, whose name points here, may have made a browser send it. Addresses
    /// and names without a dot (localhost, a service's name) need not be listed.
    ingress_hosts: Vec<String> = Kind::Hosts, "", Now;
    /// The same for `admin`.
    admin_hosts: Vec<String> = Kind::Hosts, "", Now;

    ["What operators see"]
    /// Names of members, such as "idTag", "idToken" or "password", whose values a tap shows as "***", at any depth; upper and
    /// lower case are the same. What is not JSON is not shown at all then. The log of --trace-client shows all.
    tap_mask: Vec<String> = Kind::Members, "", Now;

    ["Several nodes"]
    /// Servers of NATS (2.2 or newer), `nats://[user:password@]host[:port]` or `tls://…`; one, or several that are one
    /// cluster of NATS. Nodes that are connected to it find each other's clients: a push to any of them finds its client.
    /// Empty: this node knows its own clients alone. Whoever may publish there can command every client.
    cluster: Vec<NatsUrl> = Kind::NatsUrls, "", Restart;
    /// Tells the nodes that belong together from others at the same NATS: all subjects begin with it.
    cluster_name: String = Kind::ClusterName, "ws2api", Restart;
    /// File with a user's JWT and seed (`.creds`), by which NATS lets this node in. It is read for each connection.
    cluster_credentials_file: Option<PathBuf> = Kind::OptionalPath, "", Restart;
    /// Certificates, in PEM, by which servers of NATS with `tls://` are verified; empty: by the system's.
    cluster_ca: Option<PathBuf> = Kind::OptionalPath, "", Restart;
    /// How this node is called: in `X-Node`, which every request to the backend carries, and by other nodes. Empty: as
    /// the host is.
    node_name: String = Kind::NodeName, "", Restart;

    ["What the shards run on"]
    /// What runs a shard's tasks: `glommio`, which needs io_uring, 512 KiB of locked memory and a descriptor table per shard;
    /// `plain`, ws2api's own loop, which needs nothing of the system; `auto` is glommio where it is allowed, else plain.
    executor: ExecutorKey = Kind::Choice(EXECUTOR), "auto", Restart;

    ["The end"]
    /// From SIGTERM to the end of the process, at the latest: requests in flight finish, outcomes are delivered, clients
    /// leave. Below the 30 s after which container platforms kill.
    drain_timeout: Duration = time(Duration::ZERO, HOUR), "15s", Now;
    /// After SIGTERM, the closing of clients is spread over this time (at most 70 % of drain_timeout), so that they do not
    /// all reconnect at once.
    drain_spread: Duration = time(Duration::ZERO, HOUR), "10s", Now;
    /// How clients are sent away then: with a close frame of code 1001, or `fin`, without one. Some chargers never come
    /// back after a close frame, but do after a lost connection.
    drain_close: DrainClose = Kind::Choice(DRAIN_CLOSE), "1001", Now;

    ["An upgrade"]
    /// From `ws2api upgrade`, SIGUSR2 or `POST /upgrade` on: a new process that does not serve by then is ended, and this
    /// one goes on as if nothing had been asked. Then clients have as long to become quiet and move.
    upgrade_timeout: Duration = time(TICK, HOUR), "60s", Now;
}

settings! {
    /// What one shard may hold and how long it waits. One value per shard: nothing here is shared between cores.
    Core in Scope::Core;

    /// The CPU that the shard's thread is pinned to. Two shards may name the same one.
    cpu: usize = 0;

    ["Clients"]
    /// Clients that the shard holds; one more gets 503 before the backend is asked. Each takes about 8 KiB, half of it in
    /// the kernel, and one file descriptor; one that compresses takes twice deflate_window more.
    clients_max: usize = count(1, 10_000_000), "100000", Now;
    /// Bytes that the shard holds for others, whoever sends them: messages in part, queues, bodies, posts. From three
    /// quarters on nobody begins to hold more than 8KiB. Near it, or if that helps nobody for 2 seconds, those who hold the
    /// most are closed with 1013. Where it is not set, and the machine or the control group has less than 1GiB for each
    /// shard, it is a quarter of the memory, shared out among the shards.
    buffers_max: usize = size(MIB, 1024 * 1024 * MIB), "256MiB", Now;
    /// Connections that are not yet clients: reading the request, or waiting for the backend's answer to /connect.
    /// Further ones wait in the listen backlog, or take the place of one that has sent no whole request for a second.
    handshakes_max: usize = count(1, 1_000_000), "4096", Now;
    /// Upgrades that the shard begins per second; more get 503 with Retry-After. It smooths the storm after a restart.
    upgrades_per_second_max: usize = count(1, 1_000_000), "10000", Now;
    /// TLS handshakes that the shard begins per second; more are closed before anything is computed for them. Each takes 0.1
    /// to 0.3 ms of CPU.
    tls_handshakes_per_second_max: usize = count(1, 1_000_000), "2000", Now;
    /// From accept to the answer; then the connection is closed.
    handshake_timeout: Duration = time(TICK, HOUR), "10s", Now;
    /// Connections that the kernel keeps while the shard is busy; net.core.somaxconn caps it.
    listen_backlog: usize = count(1, 65_535), "4096", Restart;
    /// A client silent for this long is pinged; spread, so that pings do not come in waves.
    ping_after: Duration = time(TICK, DAY), "60s", NewClients;
    /// A client silent for this long is dropped; above ping_after, so that a pong can arrive in between.
    dead_after: Duration = time(TICK, DAY), "120s", NewClients;

    ["Messages"]
    /// An HTTP request's line and headers together, from clients, from the backend's pushes and in its answers.
    head_max: usize = size(KIB, 64 * KIB), "8KiB", Restart;
    /// A message's fragments together, a body at the ingress, and a body in the backend's answer.
    message_max: usize = size(KIB, 64 * MIB), "1MiB", Restart;
    /// Arrays and objects inside each other; deeper JSON is refused before anything parses it.
    json_depth_max: usize = count(2, 512), "128", Restart;
    /// How much of what a client sends is read at once. The buffer is the shard's; no client has one of its own.
    read_buffer: usize = size(512, 64 * KIB), "16KiB", Restart;
    /// Compress messages of clients that offer it (permessage-deflate, RFC 7692), as OCPP 2.0.1 and 2.1 want it of a CSMS.
    deflate: bool = Kind::Flag, "true", NewClients;
    /// What is kept of a client's compressed messages, in each direction, from the first one on: the more, the better
    /// they compress. A power of two; another size is rounded down. With 2KiB a ninth of meter values is left, with
    /// 1KiB more than a quarter.
    deflate_window: usize = size(512, 32 * KIB), "2KiB", NewClients;
    /// Messages to clients that are shorter are sent as they are: most answers would hardly get smaller.
    deflate_min: usize = size(0, 64 * MIB), "256B", Now;
    /// Frames that wait for a client behind the one that is being written; above this it is closed. One alone may be larger.
    send_queue_bytes: usize = size(4 * KIB, 64 * MIB), "256KiB", Now;
    /// How long a client for which something waits may take nothing of it; then it is closed.
    send_timeout: Duration = time(TICK, HOUR), "30s", Now;
    /// Unreadable frames in a row; then the client is closed with 1008.
    bad_frames_max: usize = count(1, 1_000_000), "20", NewClients;

    ["Calls: client to backend"]
    /// Calls of one client that the backend works on at once. With 1 they are answered in order; OCPP expects 1.
    calls_in_flight: usize = count(1, 64), "1", NewClients;
    /// Calls of one client that wait for those; when all places are taken, the client's socket is not read.
    /// So it is when those that wait hold message_max bytes together.
    calls_queued: usize = count(1, 1024), "16", NewClients;
    /// Calls and SENDs of one client in a second, some of them at once; then its socket is not read until it may go on. 0: as
    /// many as it likes.
    calls_per_second_max: usize = count(0, 1_000_000), "0", NewClients;
    /// From when a Call is passed on to the backend to its answer; then the client gets InternalError. Its wait behind
    /// other Calls is not counted. Below the 30 s that clients commonly wait.
    call_timeout: Duration = time(TICK, HOUR), "25s", NewClients;
    /// Calls that get a `traceparent` (W3C Trace Context) of their own on their way to the backend, whose spans then belong
    /// to that trace: 0.01 is one of a hundred. A push's own goes on with its outcome, whatever this says.
    trace_sampled: Ratio = Kind::Ratio, "0", Now;
    /// What a client has told the backend (answers to pushes, SENDs) and the backend has not taken yet; when all places
    /// are taken, the client's socket is not read. So it is when that is message_max bytes together.
    posts_queued: usize = count(1, 1024), "16", NewClients;
    /// How long the delivery of /result, /error, /send, /resulterror and /disconnect is tried again.
    result_ttl: Duration = time(TICK, DAY), "60s", Restart;
    /// Of outcomes, of SENDs and of /disconnect, those that wait for a backend that is down; above this one of the same
    /// kind is dropped and counted.
    results_queued_max: usize = count(1, 1_000_000), "16384", Restart;
    /// The same in bytes, of each kind. One alone may be larger.
    results_queued_bytes: usize = size(64 * KIB, 4096 * MIB), "64MiB", Restart;

    ["Pushes: backend to client"]
    /// Pushes that one client works on at once. OCPP expects 1.
    pushes_in_flight: usize = count(1, 64), "1", NewClients;
    /// Pushes that wait for those; one more gets 429.
    /// So does one that would bring those that wait above message_max bytes together.
    pushes_queued: usize = count(0, 4096), "16", NewClients;
    /// Pushes that waited over a reconnect wait for the client's first message, and no longer than this: some stacks lose
    /// what comes with the 101. 0s sends them at once.
    push_hold: Duration = time(Duration::ZERO, Duration::from_secs(10)), "500ms", NewClients;
    /// From the moment the frame was written to the client's answer; then the push ends as Timeout.
    push_timeout: Duration = time(TICK, HOUR), "30s", NewClients;
    /// Connections of the backend to the ingress that the shard holds; more are refused.
    ingress_connections_max: usize = count(1, 100_000), "1024", Now;
    /// Questions about clients of other nodes (pushes, deferred answers, `/clients/<ClientId>`) that the shard has open at
    /// once; one more gets 503.
    cluster_requests_max: usize = count(1, 1_000_000), "1024", Restart;
    /// Messages on their way from one shard to another, for each pair of shards; one more is shed with 503.
    mesh_queue: usize = count(16, 65_536), "1024", Restart;

    ["The backend's connections"]
    /// Connections that the shard opens to all backends together. How many of them have a request at once is
    /// backend_concurrency's to say, for all shards; this is no more than a bound on it.
    backend_connections_max: usize = count(1, 50_000), "256", Restart;
    /// Requests that are written to one connection together, to be answered in order (RFC 9112, 9.3.2); 1: one at a time.
    /// It saves a third of the CPU under load, where the backend reads on while it answers and no answer takes long:
    /// those behind it wait. PHP's workers answer one at a time: leave it at 1 for them.
    backend_pipeline_max: usize = count(1, 64), "1", Restart;
    /// Requests of each kind (Calls, outcomes of pushes, /connect, SENDs, /disconnect) that wait for a connection; one
    /// more is answered at once as if the backend were down.
    backend_waiters_max: usize = count(1, 1_000_000), "16384", Restart;
    /// A connection unused for this long is closed; keep it below the backend's own keep-alive time.
    backend_idle_timeout: Duration = time(TICK, DAY), "30s", Restart;
    /// How long a request is tried again that cannot have been executed: no connection can be opened, or the backend says
    /// `No-Workers: true`. Within its own time.
    backend_retry: Duration = time(Duration::ZERO, HOUR), "5s", Restart;
    /// How long a new connection to the backend may take to open.
    connect_timeout: Duration = time(TICK, HOUR), "5s", Restart;
}
