//! Bounds of what this crate reads and writes, related to each other at compile time.

/// Largest frame length a server accepts in a request; a longer one ends the connection.
/// Source: Fluss `netty.server.max-request-size`.
pub const REQUEST_FRAME_BYTES_MAX: usize = 100 * 1024 * 1024;

/// Largest body of a request that carries no records: ten thousand table paths, or as many keys to look up, are far below.
pub const SMALL_REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Elements at the top level of a large request, which are its buckets.
pub const ELEMENTS_MAX: usize = 65_536;

/// Largest frame length of a response: the length is an int32, and clients accept all of it.
pub const RESPONSE_FRAME_BYTES_MAX: usize = i32::MAX as usize;

/// Room a frame decoder offers to a read beyond what it already holds, unless a longer frame is well under way.
pub const READ_CHUNK_BYTES: usize = 16 * 1024;

/// Record slices up to this size are copied into the envelope of a response: below it an own piece costs more (a
/// system call argument, a reference count) than the copy.
pub const PIECE_INLINE_BYTES_MAX: usize = 512;

/// Requests one client connection may have in flight; sending one more is refused.
pub const IN_FLIGHT_REQUESTS_MAX: usize = 65_536;

const _: () = assert!(SMALL_REQUEST_BYTES_MAX < REQUEST_FRAME_BYTES_MAX);
const _: () = assert!(REQUEST_FRAME_BYTES_MAX <= RESPONSE_FRAME_BYTES_MAX);
const _: () = assert!(READ_CHUNK_BYTES < REQUEST_FRAME_BYTES_MAX);
const _: () = assert!(PIECE_INLINE_BYTES_MAX < READ_CHUNK_BYTES);
// Request ids are 31 bits; with all of them in flight there would be no free one.
const _: () = assert!(IN_FLIGHT_REQUESTS_MAX < i32::MAX as usize);
