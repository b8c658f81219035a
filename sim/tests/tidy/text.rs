//! What a source file may look like.

use crate::tree;

const LINES_MAX: usize = 800;

/// Macros that stand for unfinished work.
const BANNED_MACROS: [&str; 3] = ["todo!(", "unimplemented!(", "dbg!("];

/// Where calls that a seed does not decide are allowed as a whole; elsewhere a single line may be, in tests.
const EDGES: [&str; 5] = ["raft/src/env/", "cli/", "jepsen/", "sim/", "protocol/src/probe.rs"];

#[test]
fn files_are_short() {
    let too_long = |source: &tree::Source| (source.text.lines().count(), source.path.clone());
    let lengths = tree::rust().iter().map(too_long).filter(|(lines, _)| *lines > LINES_MAX).collect::<Vec<_>>();
    tree::report(
        "files longer than 800 lines",
        lengths.into_iter().map(|(lines, path)| format!("{path}: {lines} lines, at most {LINES_MAX}")).collect(),
    );
}

#[test]
fn nothing_is_left_unfinished() {
    let mut violations = Vec::new();
    for source in tree::rust() {
        for (at, code) in source.shipped_code() {
            for name in BANNED_MACROS.iter().filter(|name| code.contains(*name)) {
                violations.push(format!("{}:{at} {name}..)", source.path));
            }
        }
    }
    tree::report("unfinished work", violations);
}

/// Without `biased;` the branch is drawn at random, and not from the seed.
#[test]
fn every_select_is_biased() {
    let mut violations = Vec::new();
    for source in tree::rust() {
        let lines: Vec<(usize, &str)> = source.code().collect();
        for (place, (at, code)) in lines.iter().enumerate() {
            let Some((before, after)) = code.split_once("select!") else { continue };
            let opens = after.trim_start();
            let is_call = opens.starts_with(['{', '(']) && !before.contains("macro_rules!") && !before.contains('"');
            let rest = opens.get(1..).unwrap_or_default().trim();
            let first = if rest.is_empty() { lines.get(place + 1).map_or("", |(_, next)| next.trim()) } else { rest };
            if is_call && !first.starts_with("biased;") {
                violations.push(format!("{}:{at} select! without biased;", source.path));
            }
        }
    }
    tree::report("random choice of branches", violations);
}

#[test]
fn allowed_calls_are_at_the_edges() {
    let mut violations = Vec::new();
    for source in tree::rust() {
        let is_edge = EDGES.iter().any(|edge| source.path.starts_with(edge));
        for (at, line) in source.text.lines().enumerate() {
            let is_allowance = line.trim_start().starts_with("#[allow(") || line.trim_start().starts_with("#![allow(");
            if !is_allowance || !line.contains("clippy::disallowed") {
                continue;
            }
            let is_test = source.path.contains("/tests/") || source.path.starts_with("fuzz/");
            if !is_edge && !is_test {
                violations.push(format!("{}:{} allows calls that a seed does not decide", source.path, at + 1));
            }
        }
    }
    tree::report("allowances outside the edges", violations);
}

/// Among them: no unsafe code, no unwrap, no iteration over hash maps.
#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    let manifests = tree::files("toml").into_iter().filter(|source| source.path.ends_with("/Cargo.toml"));
    let without = manifests.filter(|source| !source.text.contains("[lints]\nworkspace = true"));
    tree::report("manifests without the workspace's lints", without.map(|source| source.path).collect());
}
