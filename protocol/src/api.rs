//! Which calls exist, under which numbers, in which versions.

/// The versions of a call, both ends inclusive. All versions of a call share one message; higher versions say which
/// optional fields and error codes the client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRange {
    pub min: i16,
    pub max: i16,
}

impl VersionRange {
    pub fn contains(self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }

    /// The highest version both sides speak.
    pub fn highest_common(self, other: VersionRange) -> Option<i16> {
        let (min, max) = (self.min.max(other.min), self.max.min(other.max));
        (min <= max).then_some(max)
    }
}

const fn versions(min: i16, max: i16) -> Option<VersionRange> {
    Some(VersionRange { min, max })
}

macro_rules! api_keys {
    ($($variant:ident = $key:literal, $versions:expr;)*) => {
        /// Every call of Fluss 1.0, also those that only Fluss's own servers send each other.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ApiKey {
            $($variant = $key,)*
        }

        impl ApiKey {
            /// In ascending order.
            pub const ALL: &'static [ApiKey] = &[$(ApiKey::$variant,)*];

            pub fn from_key(key: i16) -> Option<Self> {
                match key {
                    $($key => Some(Self::$variant),)*
                    _ => None,
                }
            }

            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($variant),)*
                }
            }

            /// The versions this crate has messages for; `None` for calls that no client sends to us: those between
            /// Fluss's own servers, and the two server tags by rack, whose messages no source we read describes.
            ///
            /// A server advertises the calls it answers, which may be fewer.
            pub fn versions(self) -> Option<VersionRange> {
                match self {
                    $(Self::$variant => $versions,)*
                }
            }
        }
    };
}

api_keys! {
    ApiVersions = 1000, versions(0, 0);
    CreateDatabase = 1001, versions(0, 0);
    DropDatabase = 1002, versions(0, 0);
    ListDatabases = 1003, versions(0, 0);
    DatabaseExists = 1004, versions(0, 0);
    CreateTable = 1005, versions(0, 0);
    DropTable = 1006, versions(0, 0);
    GetTableInfo = 1007, versions(0, 0);
    ListTables = 1008, versions(0, 0);
    ListPartitionInfos = 1009, versions(0, 0);
    TableExists = 1010, versions(0, 0);
    GetTableSchema = 1011, versions(0, 0);
    GetMetadata = 1012, versions(0, 0);
    UpdateMetadata = 1013, None;
    ProduceLog = 1014, versions(0, 1);
    FetchLog = 1015, versions(0, 0);
    PutKv = 1016, versions(0, 3);
    Lookup = 1017, versions(0, 1);
    NotifyLeaderAndIsr = 1018, None;
    StopReplica = 1019, None;
    AdjustIsr = 1020, None;
    ListOffsets = 1021, versions(0, 0);
    CommitKvSnapshot = 1022, None;
    GetLatestKvSnapshots = 1023, versions(0, 0);
    GetKvSnapshotMetadata = 1024, versions(0, 0);
    GetFileSystemSecurityToken = 1025, versions(0, 0);
    InitWriter = 1026, versions(0, 0);
    CommitRemoteLogManifest = 1027, None;
    NotifyRemoteLogOffsets = 1028, None;
    NotifyKvSnapshotOffset = 1029, None;
    CommitLakeTableSnapshot = 1030, versions(0, 0);
    NotifyLakeTableOffset = 1031, None;
    GetLakeSnapshot = 1032, versions(0, 0);
    LimitScan = 1033, versions(0, 0);
    PrefixLookup = 1034, versions(0, 1);
    GetDatabaseInfo = 1035, versions(0, 0);
    CreatePartition = 1036, versions(0, 0);
    DropPartition = 1037, versions(0, 0);
    Authenticate = 1038, versions(0, 0);
    CreateAcls = 1039, versions(0, 0);
    ListAcls = 1040, versions(0, 0);
    DropAcls = 1041, versions(0, 0);
    LakeTieringHeartbeat = 1042, versions(0, 0);
    ControlledShutdown = 1043, None;
    AlterTable = 1044, versions(0, 0);
    DescribeClusterConfigs = 1045, versions(0, 0);
    AlterClusterConfigs = 1046, versions(0, 0);
    AddServerTag = 1047, versions(0, 0);
    RemoveServerTag = 1048, versions(0, 0);
    Rebalance = 1049, versions(0, 0);
    ListRebalanceProgress = 1050, versions(0, 0);
    CancelRebalance = 1051, versions(0, 0);
    PrepareLakeTableSnapshot = 1052, versions(0, 0);
    RegisterProducerOffsets = 1053, versions(0, 0);
    GetProducerOffsets = 1054, versions(0, 0);
    DeleteProducerOffsets = 1055, versions(0, 0);
    AcquireKvSnapshotLease = 1056, versions(0, 0);
    ReleaseKvSnapshotLease = 1057, versions(0, 0);
    DropKvSnapshotLease = 1058, versions(0, 0);
    GetTableStats = 1059, versions(0, 0);
    AlterDatabase = 1060, versions(0, 0);
    ScanKv = 1061, versions(0, 0);
    GetClusterHealth = 1062, versions(0, 0);
    ListRemoteLogManifests = 1063, versions(0, 0);
    ListKvSnapshots = 1064, versions(0, 0);
    AddServerTagByRack = 1065, None;
    RemoveServerTagByRack = 1066, None;
}

impl ApiKey {
    pub fn key(self) -> i16 {
        self as i16
    }

    /// Whether the call is answered before a connection has authenticated.
    pub fn is_handshake(self) -> bool {
        matches!(self, ApiKey::ApiVersions | ApiKey::Authenticate)
    }
}

impl std::fmt::Display for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name(), self.key())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_dense() {
        let keys: Vec<i16> = ApiKey::ALL.iter().map(|key| key.key()).collect();
        assert_eq!(keys, (1000..=1066).collect::<Vec<_>>());
        assert!(ApiKey::ALL.iter().all(|key| ApiKey::from_key(key.key()) == Some(*key)));
        assert_eq!(ApiKey::from_key(999), None);
        assert_eq!(ApiKey::ALL.iter().filter(|key| key.versions().is_some()).count(), 55);
    }

    #[test]
    fn highest_common_version() {
        let ours = ApiKey::PutKv.versions().unwrap();
        assert_eq!(ours.highest_common(VersionRange { min: 0, max: 2 }), Some(2));
        assert_eq!(ours.highest_common(VersionRange { min: 1, max: 9 }), Some(3));
        assert_eq!(ours.highest_common(VersionRange { min: 4, max: 9 }), None);
        assert_eq!(ours.highest_common(VersionRange { min: 3, max: 1 }), None);
    }
}
