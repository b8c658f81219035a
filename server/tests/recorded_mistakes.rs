//! The same bad request gets the same code as from Apache Fluss (recorded conversations of the calls we serve).
#![cfg(not(madsim))]

mod support;

use floss_raft::env::runtime::block_on;
use std::path::Path;
use support::Cluster;

/// One recorded request that failed as a whole.
struct Mistake {
    name: String,
    key: i16,
    version: i16,
    body: Vec<u8>,
    code: i32,
}

const KEYS: [&str; 15] =
    ["1001", "1002", "1003", "1004", "1005", "1006", "1007", "1008", "1010", "1011", "1012", "1026", "1033", "1035", "1062"];

fn from_hex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
}

#[allow(clippy::disallowed_methods)] // a test reads its vectors
fn mistakes() -> Vec<Mistake> {
    let dir = Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for tests"))
        .join("../protocol/tests/vectors/conversations");
    let mut names: Vec<_> = std::fs::read_dir(&dir)
        .expect("conversations")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("utf-8"))
        .filter(|name| KEYS.contains(&&name[..4]))
        .collect();
    names.sort();
    let mut mistakes = Vec::new();
    for name in names {
        let text = std::fs::read_to_string(dir.join(&name)).expect("conversation");
        for (number, line) in text.lines().enumerate() {
            let value: serde_json::Value = serde_json::from_str(line).expect("json");
            if value["response_type"] != 1 {
                continue;
            }
            mistakes.push(Mistake {
                name: format!("{name}:{}", number + 1),
                key: name[..4].parse().expect("a number"),
                version: value["version"].as_i64().expect("version") as i16,
                body: from_hex(value["request_body_hex"].as_str().expect("hex")),
                code: value["error_code"].as_i64().expect("code") as i32,
            });
        }
    }
    mistakes
}

#[test]
fn same_mistake_same_code() {
    block_on(async {
        let cluster = Cluster::start(1).await;
        cluster.healthy().await;
        let mut client = cluster.client(1).await;
        let mut mistakes = mistakes();
        assert!(mistakes.len() >= 15, "{} recorded", mistakes.len());
        // Dropped twice: only the second time is a mistake, and afterwards the database is gone.
        mistakes.sort_by_key(|mistake| (mistake.key, mistake.code) == (1002, 4));
        // What had to exist: the databases and the table that are created a second time.
        for mistake in mistakes.iter().filter(|mistake| matches!((mistake.key, mistake.code), (1001, 6) | (1005, 8))) {
            let id = client.send_bytes(mistake.key, mistake.version, &mistake.body).await;
            client.answer_bytes(id).await.unwrap_or_else(|refused| panic!("{}: {refused:?}", mistake.name));
        }
        for mistake in &mistakes {
            if (mistake.key, mistake.code) == (1002, 4) {
                let id = client.send_bytes(mistake.key, mistake.version, &mistake.body).await;
                client.answer_bytes(id).await.expect("the first drop");
            }
            let id = client.send_bytes(mistake.key, mistake.version, &mistake.body).await;
            let refused = client.answer_bytes(id).await.expect_err(&mistake.name);
            // Fluss wraps this one by accident; 7 is what its clients know (semantics.md 11).
            let expected = if (mistake.key, mistake.code) == (1012, -1) { 7 } else { mistake.code };
            assert_eq!(refused.code, expected, "{}: {}", mistake.name, refused.message);
        }
        cluster.stop().await;
    });
}
