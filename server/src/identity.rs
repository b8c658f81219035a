//! The identity file (`node/identity`): whose data directory this is.
//!
//! ```text
//!  0  8  magic "FLOSSID\0"
//!  8  4  version = 1, LE
//! 12  4  length of the body in bytes, LE
//! 16  4  CRC32C of the body, LE
//! 20  .. body: postcard of `Body`
//! ```

use crate::node::NodeError;
use bytes::Bytes;
use floss_raft::env::clock::Clock;
use floss_raft::env::disk::Disk;
use floss_raft::types::NodeId;
use serde::{Deserialize, Serialize};
use std::io;

const DIR: &str = "node";
const NAME: &str = "identity";
const FILE: &str = "node/identity";
/// Written first, then renamed; one left behind by a crash is overwritten.
const NAME_NEW: &str = "identity.new";
const FILE_NEW: &str = "node/identity.new";
const MAGIC: &[u8; 8] = b"FLOSSID\0";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 20;

/// What the directory remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub node_id: NodeId,
    /// Drawn when the directory was made; a wiped directory has another one.
    pub incarnation: u64,
    /// Starts on this directory, this one included; >= 1.
    pub boot: u64,
    /// Whether the cluster let this incarnation in (see `coordinator::admission`).
    pub admission: Admission,
    /// Once known.
    pub cluster_id: Option<String>,
}

/// How this directory came to take part. The numbers are a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Admission {
    /// Not yet: it must not act as the node it is named after.
    Asking,
    /// As one of the first nodes: it may write first memberships.
    Founder,
    /// Into a cluster that runs, for the first time or again: it is sent everything.
    Joined,
}

impl Identity {
    /// Differs between any two starts, of any directory.
    pub fn boot_id(&self) -> u64 {
        mix(self.incarnation ^ mix(self.boot))
    }
}

/// On disk: fields are only ever appended, with a new version.
#[derive(Serialize, Deserialize)]
struct Body {
    node_id: NodeId,
    incarnation: u64,
    boot: u64,
    admission: Admission,
    cluster_id: Option<String>,
}

/// Reads or makes the identity and counts this start, durably.
///
/// Errors: `NodeError::Identity` if the directory belongs to another node or the file is damaged; `NodeError::Io`.
pub async fn open_identity(disk: &dyn Disk, clock: &dyn Clock, node_id: NodeId) -> Result<Identity, NodeError> {
    let mut identity = match read_identity(disk).await? {
        Some(identity) => identity,
        None => Identity {
            node_id,
            // The moment the directory was made, with the node's id: no second directory of this node is made in the same
            // millisecond. Deterministic in the simulator, which a random number would have to be made to be.
            incarnation: mix(clock.now_ms() as u64 ^ mix(node_id)),
            boot: 0,
            admission: Admission::Asking,
            cluster_id: None,
        },
    };
    if identity.node_id != node_id {
        let (found, expected) = (identity.node_id.to_string(), node_id.to_string());
        return Err(NodeError::Identity { what: "node_id", found, expected });
    }
    identity.boot += 1;
    save_identity(disk, &identity).await?;
    Ok(identity)
}

/// Replaces the file: write, sync, rename, sync the directory.
pub async fn save_identity(disk: &dyn Disk, identity: &Identity) -> Result<(), NodeError> {
    replace(disk, encode_identity(identity)).await.map_err(io_error)
}

/// The cluster id once the catalog is formed: stored if unknown, compared if known.
///
/// Errors: `NodeError::Identity` if the directory belongs to another cluster.
pub async fn check_cluster(disk: &dyn Disk, identity: &mut Identity, cluster_id: &str) -> Result<(), NodeError> {
    match &identity.cluster_id {
        Some(known) if known == cluster_id => Ok(()),
        Some(known) => {
            let (found, expected) = (known.clone(), cluster_id.to_owned());
            Err(NodeError::Identity { what: "cluster id", found, expected })
        }
        None => {
            identity.cluster_id = Some(cluster_id.to_owned());
            save_identity(disk, identity).await
        }
    }
}

async fn read_identity(disk: &dyn Disk) -> Result<Option<Identity>, NodeError> {
    disk.create_dir(DIR).await.map_err(io_error)?;
    if !disk.list(DIR).await.map_err(io_error)?.iter().any(|name| name == NAME) {
        return Ok(None);
    }
    let read = async {
        let file = disk.open(FILE).await?;
        let bytes = file.len().await?;
        file.read_at(0, bytes as usize).await
    };
    let bytes = read.await.map_err(io_error)?;
    let damaged = |found: String| NodeError::Identity { what: "identity file", found, expected: "a whole file".to_owned() };
    decode_identity(&bytes).map(Some).map_err(damaged)
}

async fn replace(disk: &dyn Disk, bytes: Bytes) -> io::Result<()> {
    // A file of the same name is what a crash before the rename left.
    if disk.list(DIR).await?.iter().any(|name| name == NAME_NEW) {
        disk.remove(FILE_NEW).await?;
    }
    let file = disk.create(FILE_NEW, bytes.len() as u64).await?;
    file.write_at(0, vec![bytes]).await?;
    file.sync().await?;
    disk.rename(FILE_NEW, FILE).await?;
    disk.sync_dir(DIR).await
}

fn encode_identity(identity: &Identity) -> Bytes {
    let Identity { node_id, incarnation, boot, admission, cluster_id } = identity.clone();
    let body = Body { node_id, incarnation, boot, admission, cluster_id };
    let body = postcard::to_stdvec(&body).expect("plain data always encodes");
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    Bytes::from(bytes)
}

fn decode_identity(bytes: &[u8]) -> Result<Identity, String> {
    let (header, body) = bytes.split_at_checked(HEADER_BYTES).ok_or_else(|| format!("{} bytes", bytes.len()))?;
    let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if header[..8] != *MAGIC {
        return Err("another magic".to_owned());
    }
    if number(8) != VERSION {
        return Err(format!("version {}", number(8)));
    }
    let body = body.get(..number(12) as usize).ok_or_else(|| format!("body of {} bytes", body.len()))?;
    if crc32c::crc32c(body) != number(16) {
        return Err("a wrong checksum".to_owned());
    }
    let body: Body = postcard::from_bytes(body).map_err(|error| error.to_string())?;
    let Body { node_id, incarnation, boot, admission, cluster_id } = body;
    Ok(Identity { node_id, incarnation, boot, admission, cluster_id })
}

fn io_error(source: io::Error) -> NodeError {
    NodeError::Io { path: FILE.to_owned(), source }
}

/// Spreads the bits of a number (the finaliser of SplitMix64).
pub(crate) fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use floss_raft::env::disk_mem::MemDisk;
    use floss_raft::env::runtime::block_on;

    struct FixedClock(i64);

    impl Clock for FixedClock {
        fn now_ms(&self) -> i64 {
            self.0
        }
    }

    fn identity() -> Identity {
        Identity { node_id: 3, incarnation: 0x1122_3344, boot: 2, admission: Admission::Founder, cluster_id: Some("c1".into()) }
    }

    #[test]
    fn bytes_are_a_format() {
        let hex: String = encode_identity(&identity()).iter().map(|byte| format!("{byte:02x}")).collect();
        let golden = concat!("464c4f5353494400", "01000000", "0c000000", "8dcafe1d", "03", "c4e6888901", "02", "01", "01026331");
        assert_eq!(hex, golden);
        assert_eq!(decode_identity(&encode_identity(&identity())), Ok(identity()));
    }

    #[test]
    fn damage_is_found_and_never_panics() {
        let good = encode_identity(&identity()).to_vec();
        for length in 0..good.len() {
            assert!(decode_identity(&good[..length]).is_err(), "cut at {length}");
        }
        for position in 0..good.len() {
            let mut bad = good.clone();
            bad[position] ^= 0x10;
            assert!(decode_identity(&bad).is_err(), "flipped at {position}");
        }
        let mut longer = good;
        longer.extend_from_slice(&[0; 9]);
        assert_eq!(decode_identity(&longer), Ok(identity()), "a disk may round sizes up");
    }

    #[test]
    fn boots_and_directories_differ() {
        let first = identity();
        let second = Identity { boot: 3, ..identity() };
        let wiped = Identity { incarnation: 5, ..identity() };
        assert_ne!(first.boot_id(), second.boot_id());
        assert_ne!(first.boot_id(), wiped.boot_id());
    }

    #[test]
    fn a_directory_keeps_its_identity_and_counts_its_starts() {
        block_on(async {
            let disk = MemDisk::new();
            let first = open_identity(&disk, &FixedClock(5), 3).await.expect("fresh");
            assert_eq!((first.boot, first.admission, &first.cluster_id), (1, Admission::Asking, &None));
            // Power is lost right after: what was returned is what is there.
            let disk = disk.crash(|| false);
            let mut second = open_identity(&disk, &FixedClock(6), 3).await.expect("known");
            assert_eq!((second.incarnation, second.boot), (first.incarnation, 2));
            second.admission = Admission::Joined;
            check_cluster(&disk, &mut second, "c1").await.expect("first cluster");
            check_cluster(&disk, &mut second, "c1").await.expect("same cluster");
            let disk = disk.crash(|| false);
            let mut third = open_identity(&disk, &FixedClock(7), 3).await.expect("known");
            assert_eq!((third.boot, third.admission, third.cluster_id.as_deref()), (3, Admission::Joined, Some("c1")));
            let other = check_cluster(&disk, &mut third, "c2").await;
            assert!(matches!(other, Err(NodeError::Identity { what: "cluster id", .. })), "{other:?}");
            let other = open_identity(&disk, &FixedClock(8), 4).await;
            assert!(matches!(other, Err(NodeError::Identity { what: "node_id", .. })), "{other:?}");
            disk.damage(FILE, |bytes| bytes[25] ^= 1);
            let damaged = open_identity(&disk, &FixedClock(9), 3).await;
            assert!(matches!(damaged, Err(NodeError::Identity { what: "identity file", .. })), "{damaged:?}");
            let wiped = open_identity(&MemDisk::new(), &FixedClock(9), 3).await.expect("fresh");
            assert_ne!(wiped.incarnation, first.incarnation);
        });
    }

    #[test]
    fn a_failed_save_leaves_the_old_file() {
        block_on(async {
            let disk = MemDisk::new();
            let first = open_identity(&disk, &FixedClock(5), 3).await.expect("fresh");
            disk.break_syncs();
            let failed = save_identity(&disk, &Identity { admission: Admission::Founder, ..first.clone() }).await;
            assert!(matches!(failed, Err(NodeError::Io { .. })));
            let disk = disk.crash(|| true);
            let found = read_identity(&disk).await.expect("readable").expect("there");
            assert_eq!(found, first);
        });
    }
}
