//! Which way things point: between our crates, and from our crates to the ones that must stay behind a wall.

use crate::tree;
use toml::{Table, Value};

/// Our crates and what each may use. Down only; no crate named twice in a circle.
const ARROWS: [(&str, &[&str]); 10] = [
    ("protocol", &[]),
    ("checker", &[]),
    ("raft", &["protocol"]),
    ("tablet", &["protocol"]),
    ("lake", &["protocol"]),
    ("server", &["lake", "protocol", "raft", "tablet"]),
    ("cli", &["protocol", "raft", "server"]),
    ("sim", &["checker", "protocol", "raft", "server", "tablet"]),
    ("fuzz", &["lake", "protocol", "raft", "tablet"]),
    ("jepsen", &["checker", "protocol"]),
];

/// Foreign crates behind a wall: name (or its beginning, with a star) and the crates inside the wall.
const WALLS: [(&str, &[&str]); 9] = [
    ("openraft*", &["raft"]),
    ("tokio", &["cli", "jepsen", "raft"]),
    ("madsim*", &["raft", "sim"]),
    ("fluss-rs", &["cli", "jepsen"]),
    ("arrow59", &["cli", "jepsen"]),
    ("parquet59", &["cli", "jepsen"]),
    ("anyhow", &["cli", "jepsen", "sim"]),
    ("rocksdb", &["tablet"]),
    ("iceberg*", &["lake"]),
];

/// Words in code that only some files may use. A path ending in a slash stands for all below it.
const NAMES: [(&str, &[&str]); 3] =
    [("tokio::", &["raft/src/env/", "cli/", "jepsen/"]), ("madsim::", &["raft/src/env/", "sim/"]), ("openraft::", &["raft/"])];

/// Names of all dependencies of a crate, those for tests and for building included.
fn dependencies(crate_name: &str) -> Vec<String> {
    let path = tree::root().join(crate_name).join("Cargo.toml");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let manifest: Table = text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut found = Vec::new();
    collect(&manifest, &mut found);
    let targets = manifest.get("target").and_then(Value::as_table);
    targets.into_iter().flatten().filter_map(|(_, target)| target.as_table()).for_each(|target| collect(target, &mut found));
    found
}

fn collect(manifest: &Table, found: &mut Vec<String>) {
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let section = manifest.get(section).and_then(Value::as_table);
        found.extend(section.into_iter().flatten().map(|(name, _)| name.clone()));
    }
}

#[test]
fn arrows_point_down() {
    let mut violations = Vec::new();
    for (from, allowed) in ARROWS {
        for dependency in dependencies(from) {
            let Some(to) = dependency.strip_prefix("floss-") else { continue };
            if !allowed.contains(&to) {
                violations.push(format!("{from} -> {to}, allowed are {allowed:?}"));
            }
        }
    }
    tree::report("dependencies against style.md section 1", violations);
}

#[test]
fn every_member_is_drawn() {
    let text = std::fs::read_to_string(tree::root().join("Cargo.toml")).expect("the workspace has a manifest");
    let manifest: Table = text.parse().expect("cargo reads it");
    let members = manifest["workspace"]["members"].as_array().expect("a list of directories");
    let mut members: Vec<&str> = members.iter().filter_map(Value::as_str).collect();
    let mut drawn: Vec<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    members.sort_unstable();
    drawn.sort_unstable();
    assert_eq!(members, drawn);
}

#[test]
fn walls_hold() {
    let mut violations = Vec::new();
    for (crate_name, _) in ARROWS {
        for dependency in dependencies(crate_name) {
            for (wall, inside) in WALLS {
                let is_meant = wall.strip_suffix('*').map_or(dependency == wall, |start| dependency.starts_with(start));
                if is_meant && !inside.contains(&crate_name) {
                    violations.push(format!("{crate_name} uses {dependency}, allowed in {inside:?}"));
                }
            }
        }
    }
    tree::report("foreign crates outside their wall", violations);
}

#[test]
fn names_stay_behind_the_walls() {
    let mut violations = Vec::new();
    for source in tree::rust() {
        for (name, inside) in NAMES {
            if inside.iter().any(|path| source.path.starts_with(path)) {
                continue;
            }
            for (at, _) in source.code().filter(|(_, code)| has_word(code, name)) {
                violations.push(format!("{}:{at} names {name}, allowed in {inside:?}", source.path));
            }
        }
    }
    tree::report("names outside their wall", violations);
}

/// `name` starts a path here and is not the end of a longer word, a string, or a module of ours.
fn has_word(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        before.is_none_or(|before| !before.is_alphanumeric() && !"_:\"".contains(before))
    })
}

#[test]
fn words_are_told_from_parts_of_words() {
    assert!(has_word("use tokio::sync;", "tokio::"));
    assert!(has_word("let x = ::tokio::spawn(f)", "::tokio::"));
    assert!(!has_word("use floss_raft::env::runtime::tokio::x;", "tokio::"));
    assert!(!has_word("use my_tokio::x;", "tokio::"));
}
