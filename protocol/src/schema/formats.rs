//! The closed sets that table properties choose from. Fluss ignores case on reading; we print upper case, because
//! the Rust client compares some of them exactly.

use serde::{Deserialize, Serialize};

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* $variant),+
        }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Ignores case.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|choice| choice.name().eq_ignore_ascii_case(text))
            }

            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text),+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

choice!(
    /// What the records of a log batch are. Clients written in Rust know ARROW only.
    LogFormat {
        /// One Arrow message: the only format with projection and filters.
        Arrow = "ARROW",
        /// Framed indexed rows.
        Indexed = "INDEXED",
        /// Framed compacted rows.
        Compacted = "COMPACTED",
    }
);

choice!(
    /// The rows of KV batches and stored values.
    KvFormat { Compacted = "COMPACTED", Indexed = "INDEXED" }
);

choice!(
    /// Decides how clients encode keys and choose buckets.
    LakeFormat { Paimon = "PAIMON", Iceberg = "ICEBERG", Lance = "LANCE", Hudi = "HUDI" }
);

choice!(
    /// Codec of Arrow buffers that writers use; readers go by what the message says.
    ArrowCompression { None = "NONE", Lz4Frame = "LZ4_FRAME", Zstd = "ZSTD" }
);

choice!(
    /// How an upsert meets an existing row; absent = the new row replaces it.
    MergeEngine { FirstRow = "FIRST_ROW", Versioned = "VERSIONED", Aggregation = "AGGREGATION" }
);

choice!(
    /// What a delete record does.
    DeleteBehavior { Allow = "ALLOW", Ignore = "IGNORE", Disable = "DISABLE" }
);

choice!(
    /// Whether the changelog holds the row before an update.
    ChangelogImage { Full = "FULL", Wal = "WAL" }
);

choice!(
    /// Width of one automatic partition.
    PartitionUnit { Hour = "HOUR", Day = "DAY", Month = "MONTH", Quarter = "QUARTER", Year = "YEAR" }
);

impl PartitionUnit {
    /// The pattern of partition values when `table.auto-partition.time-format` is absent.
    pub fn default_time_format(self) -> &'static str {
        match self {
            Self::Hour => "yyyyMMddHH",
            Self::Day => "yyyyMMdd",
            Self::Month => "yyyyMM",
            Self::Quarter => "yyyyQ",
            Self::Year => "yyyy",
        }
    }
}
