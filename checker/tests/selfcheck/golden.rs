//! One small bad history for each name, and the nearest good one. Files of `tests/golden`: lines that begin with `-` are in the bad one
//! only, with `+` in the good one only, all others in both. The first line says what must be found, exactly.

use floss_checker::history::{Event, read};
use floss_checker::{Demands, NAMES, check};
use std::collections::BTreeSet;
use std::path::PathBuf;

fn dir() -> PathBuf {
    // Asked at run time: the target directory is shared by checkouts, and what was compiled in may be the path of another one.
    PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for tests")).join("tests/golden")
}

fn events(lines: &[&str], other: char) -> Vec<Event> {
    let of = lines.iter().filter(|line| !line.starts_with(['#', other])).map(|line| line[2..].to_owned());
    read(of.collect::<Vec<_>>().join("\n").as_bytes()).expect("a golden file holds events")
}

fn names(events: &[Event]) -> BTreeSet<&'static str> {
    let verdict = check(events, &Demands { acked: 0, dumps: 0 });
    assert_eq!(verdict.unclear, None);
    verdict.anomalies.iter().map(|anomaly| anomaly.name).collect()
}

#[test]
#[allow(clippy::disallowed_methods)] // reads files of the repository
fn each_name_has_its_golden_case() {
    let mut wrong = Vec::new();
    for (name, _) in NAMES {
        let path = dir().join(format!("{}.jsonl", name.replace(' ', "-")));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let lines: Vec<&str> = text.lines().collect();
        let expected: BTreeSet<&str> = lines[0].trim_start_matches("# ").split(", ").collect();
        assert!(expected.contains(name), "{name}");
        let (bad, good) = (names(&events(&lines, '+')), names(&events(&lines, '-')));
        if bad != expected || !good.is_empty() {
            wrong.push(format!("{name}: the bad case is {bad:?}, the good one {good:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
