//! Names of things. Each number has its own type, so that an offset is never mistaken for an index.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }
    };
}

number!(
    /// Never reused: a dropped and recreated table gets a new one.
    TableId(i64)
);
number!(
    /// Never reused.
    PartitionId(i64)
);
number!(
    /// 0..bucket_count of its table.
    BucketId(i32)
);
number!(
    /// First schema of a table is 1; at most 32767.
    SchemaId(i16)
);
number!(
    /// Handed out by InitWriter; -1 on the wire means "not idempotent" and is an `Option::None` here.
    WriterId(i64)
);
number!(
    /// Position of a record in a bucket's log. Dense (I3). Ends are exclusive.
    LogOffset(i64)
);

impl LogOffset {
    /// The offset `records` later.
    pub fn plus(self, records: i64) -> Self {
        Self(self.0 + records)
    }
}

/// One bucket of a table or of one of its partitions: what Fluss calls a table bucket, and one Raft group here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TableBucket {
    pub table_id: TableId,
    /// Present exactly for partitioned tables; answers echo its presence.
    pub partition_id: Option<PartitionId>,
    pub bucket: BucketId,
}

impl fmt::Display for TableBucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.partition_id {
            Some(partition) => write!(f, "{}/{}/{}", self.table_id, partition, self.bucket),
            None => write!(f, "{}/{}", self.table_id, self.bucket),
        }
    }
}
