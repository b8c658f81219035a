//! Rules of the catalog, then arbitrary command sequences against what must always hold.

use super::*;
use crate::coordinator::command::RequestId;
use crate::coordinator::table::{LogFormat, TableSettings};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Applies commands as one process would propose them.
struct Driver {
    state: CatalogState,
    counter: u64,
}

impl Driver {
    fn formed(nodes: u64) -> Self {
        let mut driver = Self { state: CatalogState::default(), counter: 0 };
        let initial = (1..=nodes).map(|node| InitialNode { node, peer_address: format!("n{node}:1") }).collect();
        driver.run(CatalogCommand::FormCluster { cluster_id: "c".into(), nodes: initial }).expect("first");
        for node in 1..=nodes {
            driver.run(register(node, node)).expect("known node");
        }
        driver
    }

    fn run(&mut self, command: CatalogCommand) -> CatalogOutcome {
        self.counter += 1;
        self.state.apply(&entry(self.counter, command))
    }

    fn create(&mut self, name: &str) -> CatalogOutcome {
        self.run(CatalogCommand::CreateTable { table: table(name, 2, 3), ignore_if_exists: false, suspected: vec![] })
    }
}

fn entry(counter: u64, command: CatalogCommand) -> CatalogEntry {
    let request = RequestId { node: 1, incarnation: 1, boot: 1, counter };
    CatalogEntry { request, now_ms: counter as i64, command }
}

fn register(node: NodeId, incarnation: u64) -> CatalogCommand {
    CatalogCommand::RegisterNode(NodeRegistration {
        node,
        incarnation,
        client_address: format!("n{node}:9"),
        peer_address: format!("n{node}:1"),
    })
}

fn table(name: &str, bucket_count: i32, replication_factor: i32) -> NewTable {
    NewTable {
        path: TablePath::new("fluss", name),
        table_json: "{}".into(),
        schema_json: "{}".into(),
        settings: TableSettings { log_format: LogFormat::Arrow, log_ttl_ms: Some(5) },
        bucket_count,
        partition_keys: vec![],
        replication_factor,
    }
}

#[test]
fn nothing_happens_before_the_cluster_is_formed() {
    let mut state = CatalogState::default();
    assert_eq!(state.apply(&entry(1, register(1, 1))), Err(CatalogReject::NotFormed));
    assert!(state.nodes().is_empty());
    assert_eq!(Driver::formed(1).state.cluster_id(), Some("c"));
}

#[test]
fn a_cluster_is_formed_once() {
    let mut driver = Driver::formed(3);
    let again = driver.run(CatalogCommand::FormCluster { cluster_id: "d".into(), nodes: vec![] });
    assert_eq!(again, Err(CatalogReject::AlreadyFormed { cluster_id: "c".into() }));
    assert_eq!(driver.state.nodes().len(), 3);
}

#[test]
fn a_wiped_node_is_refused_until_its_old_directory_is_back() {
    let mut driver = Driver::formed(3);
    let refused = CatalogReject::WipedNode { node: 2, known: 2, found: 99 };
    assert_eq!(driver.run(register(2, 99)), Err(refused));
    let waits = driver.state.nodes()[&2].wiped.as_ref().expect("noted");
    assert_eq!((waits.by.incarnation, &waits.waiting_for), (99, &BTreeSet::from([GroupId::CATALOG])));
    let too_few = CatalogReject::InvalidReplicationFactor { factor: 3, nodes: 2 };
    assert_eq!(driver.create("t"), Err(too_few));
    assert_eq!(driver.run(register(2, 2)), Ok(CatalogDone::Registered));
    assert!(driver.create("t").is_ok());
}

#[test]
fn a_wiped_node_is_let_in_when_nobody_counts_on_its_old_directory() {
    let mut driver = Driver::formed(3);
    driver.create("kept").expect("three nodes");
    driver.create("dropped").expect("three nodes");
    let alone = CatalogCommand::CreateTable { table: table("alone", 3, 1), ignore_if_exists: false, suspected: vec![] };
    driver.run(alone).expect("one replica each");
    let last_group = driver.state.last_group();
    let removed = |incarnation, groups: &[u64]| CatalogCommand::ReplicasRemoved {
        node: 2,
        incarnation,
        groups: groups.iter().map(|group| GroupId(*group)).collect(),
    };
    assert_eq!(driver.run(removed(99, &[0])), Ok(CatalogDone::Ignored), "nothing is known of it");
    driver.run(register(2, 99)).expect_err("wiped");
    assert_eq!(driver.run(removed(98, &[0, 1, 2])), Ok(CatalogDone::Ignored), "of another directory");
    assert_eq!(driver.run(removed(99, &[0, 1])), Ok(CatalogDone::ReplicasRemoved { waiting_for: 3 }));
    // Wiped once more meanwhile: what was removed stays removed.
    driver.run(register(2, 100)).expect_err("wiped");
    let drop = CatalogCommand::DropTable { path: TablePath::new("fluss", "dropped"), ignore_if_not_exists: false };
    driver.run(drop).expect("there");
    driver.run(register(2, 100)).expect_err("group 2 counts on the old one");
    assert_eq!(driver.run(removed(100, &[2])), Ok(CatalogDone::ReplicasRemoved { waiting_for: 0 }));
    assert_eq!(driver.run(register(2, 100)), Ok(CatalogDone::Registered));
    let info = &driver.state.nodes()[&2];
    assert!(!info.may_found(last_group) && info.may_found(GroupId(last_group.0 + 1)));
    // The first directory turns up: it is told to go, and nothing changes.
    let refused = CatalogReject::WipedNode { node: 2, known: 100, found: 2 };
    assert_eq!(driver.run(register(2, 2)), Err(refused));
    assert_eq!(driver.state.nodes()[&2].wiped, None);
}

#[test]
fn the_last_table_that_is_dropped_lets_a_wiped_node_in() {
    let mut driver = Driver::formed(3);
    driver.create("t").expect("three nodes");
    driver.run(register(2, 99)).expect_err("wiped");
    let removed = CatalogCommand::ReplicasRemoved { node: 2, incarnation: 99, groups: vec![GroupId::CATALOG] };
    driver.run(removed).expect("noted");
    driver.run(CatalogCommand::DropTable { path: TablePath::new("fluss", "t"), ignore_if_not_exists: false }).expect("there");
    assert_eq!(driver.run(register(2, 99)), Ok(CatalogDone::Registered));
}

#[test]
fn databases_follow_the_recorded_error_codes() {
    let mut driver = Driver::formed(3);
    let create = |ignore| CatalogCommand::CreateDatabase {
        name: "d".into(),
        ignore_if_exists: ignore,
        database_json: EMPTY_DATABASE_JSON.into(),
    };
    let drop =
        |name: &str, ignore, cascade| CatalogCommand::DropDatabase { name: name.into(), ignore_if_not_exists: ignore, cascade };
    assert_eq!(driver.run(create(false)), Ok(CatalogDone::DatabaseCreated));
    assert_eq!(driver.run(create(false)), Err(CatalogReject::DatabaseExists { database: "d".into() }));
    assert_eq!(driver.run(create(true)), Ok(CatalogDone::Ignored));
    let mut in_d = table("t", 1, 3);
    in_d.path.database = "d".into();
    assert!(driver.run(CatalogCommand::CreateTable { table: in_d, ignore_if_exists: false, suspected: vec![] }).is_ok());
    let not_empty = CatalogReject::DatabaseNotEmpty { database: "d".into(), tables: 1 };
    assert_eq!(driver.run(drop("d", false, false)), Err(not_empty));
    assert_eq!(driver.run(drop("d", false, true)), Ok(CatalogDone::DatabaseDropped));
    assert!(driver.state.tables().is_empty());
    assert_eq!(driver.run(drop("d", false, true)), Err(CatalogReject::DatabaseNotExist { database: "d".into() }));
    assert_eq!(driver.run(drop("d", true, true)), Ok(CatalogDone::Ignored));
    assert!(matches!(driver.run(drop("fluss", false, true)), Err(CatalogReject::InvalidDatabase { .. })));
}

#[test]
fn tables_follow_the_recorded_error_codes() {
    let mut driver = Driver::formed(3);
    assert_eq!(driver.create("t"), Ok(CatalogDone::TableCreated { table_id: TableId(1) }));
    let path = TablePath::new("fluss", "t");
    assert_eq!(driver.create("t"), Err(CatalogReject::TableExists { path: path.clone() }));
    let again = CatalogCommand::CreateTable { table: table("t", 2, 3), ignore_if_exists: true, suspected: vec![] };
    assert_eq!(driver.run(again), Ok(CatalogDone::Ignored));
    let mut nowhere = table("t", 2, 3);
    nowhere.path.database = "nope".into();
    let nowhere = CatalogCommand::CreateTable { table: nowhere, ignore_if_exists: false, suspected: vec![] };
    assert_eq!(driver.run(nowhere), Err(CatalogReject::DatabaseNotExist { database: "nope".into() }));
    let wide = CatalogCommand::CreateTable { table: table("w", 2, 4), ignore_if_exists: false, suspected: vec![] };
    assert_eq!(driver.run(wide), Err(CatalogReject::InvalidReplicationFactor { factor: 4, nodes: 3 }));
    let drop = |ignore| CatalogCommand::DropTable { path: path.clone(), ignore_if_not_exists: ignore };
    assert_eq!(driver.run(drop(false)), Ok(CatalogDone::TableDropped { table_id: TableId(1) }));
    assert_eq!(driver.run(drop(false)), Err(CatalogReject::TableNotExist { path: path.clone() }));
    assert_eq!(driver.run(drop(true)), Ok(CatalogDone::Ignored));
    assert_eq!(driver.create("t"), Ok(CatalogDone::TableCreated { table_id: TableId(2) }), "ids are never reused");
}

#[test]
fn tables_are_listed_per_database() {
    let mut driver = Driver::formed(3);
    for name in ["b", "a", "c"] {
        driver.create(name).expect("new name");
    }
    driver.run(CatalogCommand::CreateDatabase { name: "flusz".into(), ignore_if_exists: false, database_json: "{}".into() }).ok();
    let names = |database| -> Vec<String> {
        driver.state.tables_of(database).expect("exists").iter().map(|table| table.path.table.clone()).collect()
    };
    assert_eq!(names("fluss"), ["a", "b", "c"]);
    assert!(names("flusz").is_empty());
    assert!(driver.state.tables_of("flus").is_err());
}

#[test]
fn a_retried_entry_takes_effect_once() {
    let mut driver = Driver::formed(1);
    let ask = entry(50, CatalogCommand::AllocateWriterIds { count: 10 });
    let first = driver.state.apply(&ask);
    assert_eq!(first, Ok(CatalogDone::WriterIds { first: 1, count: 10 }));
    assert_eq!(driver.state.apply(&ask), first);
    let next = driver.state.apply(&entry(51, CatalogCommand::AllocateWriterIds { count: 10 }));
    assert_eq!(next, Ok(CatalogDone::WriterIds { first: 11, count: 10 }));
}

#[test]
fn snapshot_bytes_are_a_format() {
    let mut driver = Driver::formed(1);
    driver.run(CatalogCommand::CreateTable { table: table("t", 1, 1), ignore_if_exists: false, suspected: vec![] }).expect("new");
    let hex: String = driver.state.snapshot().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, include_str!("golden/catalog_snapshot_v3.hex").trim());
    assert!(CatalogState::restore(&[]).is_err());
    assert!(CatalogState::restore(&[9, 9]).is_err());
}

fn arbitrary_name() -> impl Strategy<Value = String> + Clone {
    prop_oneof![Just("fluss"), Just("a"), Just("b"), Just("")].prop_map(str::to_owned)
}

fn arbitrary_command() -> impl Strategy<Value = CatalogCommand> {
    let nodes = prop::collection::vec(1u64..6, 0..4);
    let initial = nodes
        .clone()
        .prop_map(|nodes| nodes.into_iter().map(|node| InitialNode { node, peer_address: "p:1".into() }).collect::<Vec<_>>());
    let path = (arbitrary_name(), arbitrary_name()).prop_map(|(database, table)| TablePath { database, table });
    let new_table = (path.clone(), -1i32..9, -1i32..6, prop::bool::weighted(0.1));
    let new_table = new_table.prop_map(|(path, buckets, factor, partitioned)| {
        let partition_keys = if partitioned { vec!["k".to_owned()] } else { vec![] };
        NewTable { path, partition_keys, ..table("", buckets, factor) }
    });
    prop_oneof![
        1 => initial.prop_map(|nodes| CatalogCommand::FormCluster { cluster_id: "c".into(), nodes }),
        3 => (1u64..6, 1u64..3).prop_map(|(node, incarnation)| register(node, incarnation)),
        2 => (arbitrary_name(), any::<bool>()).prop_map(|(name, ignore_if_exists)| CatalogCommand::CreateDatabase {
            name, ignore_if_exists, database_json: "{}".into()
        }),
        2 => (arbitrary_name(), any::<bool>(), any::<bool>()).prop_map(|(name, ignore_if_not_exists, cascade)| {
            CatalogCommand::DropDatabase { name, ignore_if_not_exists, cascade }
        }),
        6 => (new_table, any::<bool>(), nodes).prop_map(|(table, ignore_if_exists, suspected)| {
            CatalogCommand::CreateTable { table, ignore_if_exists, suspected }
        }),
        2 => (path, any::<bool>()).prop_map(|(path, ignore_if_not_exists)| CatalogCommand::DropTable { path, ignore_if_not_exists }),
        1 => any::<u32>().prop_map(|count| CatalogCommand::AllocateWriterIds { count }),
    ]
}

fn arbitrary_entries() -> impl Strategy<Value = Vec<CatalogEntry>> {
    let request = (1u64..3, 1u64..3, 1u64..3, 0u64..60);
    let request = request.prop_map(|(node, incarnation, boot, counter)| RequestId { node, incarnation, boot, counter });
    let entry = (request, any::<i64>(), arbitrary_command());
    prop::collection::vec(entry.prop_map(|(request, now_ms, command)| CatalogEntry { request, now_ms, command }), 0..80)
}

fn check_consistent(state: &CatalogState) {
    let mut groups = BTreeSet::new();
    for (id, table) in state.tables() {
        assert_eq!(*id, table.id);
        assert_eq!(state.table(&table.path).expect("its own path").id, *id);
        assert!(state.databases().contains_key(&table.path.database), "table {} without database", table.path);
        let expected = if table.is_partitioned() { 0 } else { table.bucket_count };
        let numbers: Vec<i32> = table.buckets.keys().map(|bucket| bucket.bucket.0).collect();
        assert_eq!(numbers, (0..expected).collect::<Vec<_>>(), "buckets are dense");
        for (bucket, placement) in &table.buckets {
            assert_eq!(state.bucket_of_group(placement.group), Some(*bucket));
            assert!(groups.insert(placement.group), "group {} twice", placement.group);
            assert!(placement.group > GroupId::CATALOG);
            assert!(placement.group <= state.last_group());
            assert_eq!(placement.replicas.len() as i32, table.replication_factor);
            assert!(placement.replicas.iter().all(|node| state.nodes().contains_key(node)));
            assert!(placement.replicas.contains(&placement.preferred));
        }
    }
}

proptest! {
    #[test]
    fn equal_entries_give_equal_bytes(entries in arbitrary_entries(), cut in 0usize..80) {
        let mut whole = CatalogState::default();
        let mut resumed = CatalogState::default();
        for (position, entry) in entries.iter().enumerate() {
            if position == cut {
                resumed = CatalogState::restore(&resumed.snapshot()).expect("own snapshot");
            }
            prop_assert_eq!(whole.apply(entry), resumed.apply(entry));
        }
        prop_assert_eq!(&whole, &resumed);
        prop_assert_eq!(whole.snapshot(), resumed.snapshot());
    }

    #[test]
    fn numbers_are_never_reused(entries in arbitrary_entries()) {
        let mut state = CatalogState::default();
        let (mut tables, mut groups, mut writers_end) = (BTreeSet::new(), BTreeSet::new(), 0);
        for entry in &entries {
            let known = state.sessions.look_up(&entry.request) != Seen::New;
            let outcome = state.apply(entry);
            check_consistent(&state);
            if known {
                continue;
            }
            match outcome {
                Ok(CatalogDone::TableCreated { table_id }) => {
                    prop_assert!(tables.insert(table_id));
                    for group in state.table_by_id(table_id).expect("just created").groups() {
                        prop_assert!(groups.insert(group));
                    }
                }
                Ok(CatalogDone::WriterIds { first, count }) => {
                    prop_assert!(first > writers_end);
                    writers_end = first + i64::from(count) - 1;
                }
                _ => {}
            }
        }
    }

    #[test]
    fn a_doubled_entry_changes_nothing(entries in arbitrary_entries()) {
        let mut state = CatalogState::default();
        for entry in &entries {
            let first = state.apply(entry);
            let before = state.clone();
            let again = state.apply(entry);
            prop_assert_eq!(first, again);
            prop_assert!(before == state);
        }
    }

    #[test]
    fn entries_encode_and_hostile_bytes_are_refused(entries in arbitrary_entries(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        use crate::coordinator::command::{decode_entry, encode_entry};
        for entry in entries {
            prop_assert_eq!(decode_entry(&encode_entry(&entry)), Ok(entry));
        }
        let _ = decode_entry(&bytes);
        let _ = CatalogState::restore(&bytes);
    }
}
