//! Planted bugs, marks and oracles: each named once in the code and once where it is listed.

use crate::tree;
use std::collections::BTreeMap;
use std::path::Path;

/// Still missing: I4, I11 and I12 need the lake; each joins this list with the issue that brings it.
const ORACLES: [&str; 11] = ["I1", "I2", "I3", "I5", "I6", "I7", "I8", "I9", "I10", "I13", "I14"];

/// `NAME!("text")` in shipped code, by text: the places. Our own macros may be called with their path.
fn calls(name: &str) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let opening = format!("{name}!(\"");
    for source in tree::rust().iter().filter(|source| source.path != "protocol/src/probe.rs") {
        for (at, code) in source.shipped_code() {
            for (start, _) in code.match_indices(&opening) {
                let text = code[start + opening.len()..].split('"').next().unwrap_or_default();
                found.entry(text.to_string()).or_default().push(format!("{}:{at}", source.path));
            }
        }
    }
    found
}

/// Quoted words of a listing in `sim/src` that `is_meant`.
fn listed(names: &[&str], is_meant: fn(&str) -> bool) -> Option<BTreeMap<String, usize>> {
    let is_listing = |path: &str| {
        names.iter().any(|name| path == format!("sim/src/{name}.rs") || path.starts_with(&format!("sim/src/{name}/")))
    };
    let sources: Vec<tree::Source> = tree::rust().into_iter().filter(|source| is_listing(&source.path)).collect();
    if sources.is_empty() {
        return None;
    }
    let mut found = BTreeMap::new();
    for source in &sources {
        for (_, code) in source.shipped_code() {
            for word in code.split('"').skip(1).step_by(2).filter(|word| is_meant(word)) {
                *found.entry(word.to_string()).or_default() += 1;
            }
        }
    }
    Some(found)
}

/// The letter I stands for invariants.
fn is_mutant_id(word: &str) -> bool {
    matches!(word.as_bytes(), [b'A'..=b'H' | b'J'..=b'Z', b'0'..=b'9', b'0'..=b'9'])
}

#[test]
fn each_planted_bug_stands_once() {
    let planted = calls("mutant");
    let mut violations: Vec<String> = Vec::new();
    for (id, places) in &planted {
        if !is_mutant_id(id) {
            violations.push(format!("{id:?} at {places:?} is not a letter and two digits"));
        }
        if places.len() != 1 {
            violations.push(format!("{id} is planted {} times: {places:?}", places.len()));
        }
    }
    let catalogue = listed(&["mutants"], is_mutant_id);
    for (id, count) in catalogue.iter().flatten() {
        if !planted.contains_key(id) {
            violations.push(format!("{id} is in the catalogue and not in the code"));
        }
        if *count != 1 {
            violations.push(format!("{id} is {count} times in the catalogue"));
        }
    }
    for id in planted.keys().filter(|id| catalogue.as_ref().is_some_and(|catalogue| !catalogue.contains_key(*id))) {
        violations.push(format!("{id} is in the code and not in the catalogue"));
    }
    tree::report("planted bugs", violations);
}

/// Lower-case words with underscores.
fn is_mark(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase())
}

#[test]
fn each_mark_is_listed() {
    let placed = calls("reached");
    let listed = listed(&["marks"], is_mark).unwrap_or_default();
    let unlisted = placed.iter().filter(|(mark, _)| !listed.contains_key(*mark));
    let mut violations: Vec<String> = unlisted.map(|(mark, places)| format!("{mark} at {places:?} is not listed")).collect();
    violations.extend(
        listed.keys().filter(|mark| !placed.contains_key(*mark)).map(|mark| format!("{mark} is listed and nowhere in the code")),
    );
    tree::report("marks of rare states", violations);
}

#[test]
fn each_invariant_has_an_oracle() {
    let dir = tree::root().join("sim/src/oracle");
    if !dir.exists() {
        return;
    }
    let stems = |dir: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        let names = entries.map(|entry| entry.expect("a directory that can be opened can be listed").file_name());
        names.map(|name| name.to_string_lossy().trim_end_matches(".rs").to_string()).collect()
    };
    let files = stems(&dir);
    let has = |id: &str| {
        let id = format!("i{:0>2}", &id[1..]);
        files.iter().any(|file| *file == id || file.starts_with(&format!("{id}_")))
    };
    let missing: Vec<String> =
        ORACLES.iter().filter(|id| !has(id)).map(|id| format!("{id} has no file in sim/src/oracle")).collect();
    tree::report("invariants without an oracle", missing);
}
