//! Bounds of queues, frames and waits, in one place, related to each other at compile time.

use floss_protocol::limits::REQUEST_FRAME_BYTES_MAX;
use std::time::Duration;

/// Requests of one connection that are not answered yet; at the limit its socket is not read.
pub const CONNECTION_REQUESTS_MAX: usize = 500;
/// Request bytes of one connection that are not answered yet; at the limit its socket is not read.
pub const CONNECTION_REQUEST_BYTES_MAX: usize = 128 << 20;
/// Bytes of fetched log that one connection may hold in answers not yet written; at the limit a fetch waits.
pub const CONNECTION_ANSWER_BYTES_MAX: usize = 128 << 20;
/// Finished answers gathered into one vectored write.
pub const WRITE_GATHER_BYTES: usize = 1 << 20;
/// A connection without any traffic for this long is closed.
pub const CONNECTION_IDLE_MAX: Duration = Duration::from_secs(600);
/// Connections served at once; at the limit the next one is closed at once.
pub const CONNECTIONS_MAX: usize = 10_000;

/// Largest log batch (Fluss: `max.message.bytes` of a request is the only bound; a client batch is 2 MB by default).
pub const BATCH_BYTES_MAX: usize = 64 << 20;
/// Replicas that are opened or dropped side by side.
pub const OPENING_MAX: usize = 64;
/// Appends waiting in the mailbox of one bucket; at the limit an append gets error 25 and the client tries again.
pub const MAILBOX_REQUESTS_MAX: usize = 4_096;
/// Appends of one bucket that are proposed and not applied; at the limit the mailbox waits.
pub const BUCKET_IN_FLIGHT_MAX: usize = 1_024;
/// How long a mailbox waits for a new leader's first entry before it refuses.
pub const LEADER_READY_WAIT: Duration = Duration::from_millis(300);

/// What a single fetch answer may hold, whatever the client asks for.
pub const FETCH_BYTES_MAX: usize = 64 << 20;
/// Read from the journal for one bucket of one fetch, before projection.
pub const FETCH_RAW_BYTES_MAX: usize = 64 << 20;
/// Longest wait of a fetch.
pub const FETCH_WAIT_MAX: Duration = Duration::from_secs(60);
/// What `max_wait_ms` means when it is absent but `min_bytes` is there (messages.md, FetchLog).
pub const FETCH_WAIT_DEFAULT: Duration = Duration::from_millis(100);
/// A limit scan answers at most this much: the newest batches win.
pub const LIMIT_SCAN_BYTES_MAX: usize = 64 << 20;
/// Between two flushes of rows: what was written since the last one is folded from the log after a crash.
pub const KV_FLUSH_PAUSE: Duration = Duration::from_secs(30);
/// Rows in one answer to a prefix lookup of one key take at most this much.
pub const PREFIX_LOOKUP_BYTES_MAX: usize = 64 << 20;
/// Rows in one answer of a KV scan take at most about this much.
pub const SCAN_STEP_BYTES_MAX: usize = 10 << 20;
/// A KV scan that nobody continues ends after this long.
pub const SCAN_IDLE_MAX: Duration = Duration::from_secs(600);
/// KV scans open at once; at the limit the next one gets error 69.
pub const SCANS_PER_BUCKET_MAX: usize = 8;
pub const SCANS_PER_NODE_MAX: usize = 200;
/// Ended scans whose clients are told so, and not that they never were.
pub const SCANS_EXPIRED_REMEMBERED: usize = 1_000;
/// Longest wait for acks that a client may ask for.
pub const ACK_WAIT_MAX: Duration = Duration::from_secs(120);
/// A read that needs proof of leadership gives up after this long.
pub const READ_BARRIER_WAIT: Duration = Duration::from_secs(2);

/// CreateTable answers at the latest after this long, also when a bucket has no leader yet.
pub const CREATE_TABLE_WAIT: Duration = Duration::from_secs(20);
/// A change of the catalog that is not decided by then is answered with error 25.
pub const CATALOG_PROPOSE_WAIT: Duration = Duration::from_secs(10);
/// GetMetadata of a table that this node does not know waits this long for the newest catalog, before the client asks elsewhere.
pub const METADATA_PROOF_WAIT: Duration = Duration::from_secs(1);
/// An admin read waits this long for the newest catalog, then answers with what this node's copy holds; see `handlers::find_in_catalog`.
pub const CATALOG_BARRIER_WAIT: Duration = Duration::from_millis(500);

/// Projections remembered per node.
pub const PROJECTIONS_MAX: usize = 1_024;

const _: () = assert!(REQUEST_FRAME_BYTES_MAX <= CONNECTION_REQUEST_BYTES_MAX, "one frame must fit");
const _: () = assert!(FETCH_BYTES_MAX <= CONNECTION_ANSWER_BYTES_MAX, "one answer must fit");
const _: () = assert!(BUCKET_IN_FLIGHT_MAX <= MAILBOX_REQUESTS_MAX);
const _: () = assert!(BATCH_BYTES_MAX <= REQUEST_FRAME_BYTES_MAX);
