//! One small bad history for each name, and the nearest good one. Files of `tests/golden`: lines that begin with `-` are in the bad one
//! only, with `+` in the good one only, all others in both. The first line says what must be found, exactly.

use floss_checker::history::{Event, read};
use floss_checker::{Anomaly, Demands, NAMES, check};
use std::collections::BTreeSet;
use std::path::PathBuf;

#[allow(clippy::disallowed_methods)] // where the files of the repository are
fn dir() -> PathBuf {
    // Asked at run time: the target directory is shared by checkouts, and what was compiled in may be the path of another one.
    PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for tests")).join("tests/golden")
}

fn events(lines: &[&str], other: char) -> Vec<Event> {
    let of = lines.iter().filter(|line| !line.starts_with(['#', other])).map(|line| line[2..].to_owned());
    read(of.collect::<Vec<_>>().join("\n").as_bytes()).expect("a golden file holds events")
}

fn anomalies(events: &[Event]) -> Vec<Anomaly> {
    let verdict = check(events, &Demands { acked: 0, dumps: 0 });
    assert_eq!(verdict.unclear, None);
    verdict.anomalies
}

/// What is wrong with a case; its second line may demand what an anomaly says (`# says: ..`), where one name is reported at several
/// places.
fn judge(text: &str) -> Result<BTreeSet<&str>, String> {
    let lines: Vec<&str> = text.lines().collect();
    let expected: BTreeSet<&str> = lines[0].trim_start_matches("# ").split(", ").collect();
    let (bad, good) = (anomalies(&events(&lines, '+')), anomalies(&events(&lines, '-')));
    let names: BTreeSet<&str> = bad.iter().map(|anomaly| anomaly.name).collect();
    let said = lines[1].strip_prefix("# says: ");
    let is_said = said.is_none_or(|said| bad.iter().any(|anomaly| anomaly.detail.contains(said)));
    if names != expected || !is_said || !good.is_empty() {
        return Err(format!("the bad case is {bad:?}, the good one {good:?}"));
    }
    Ok(expected)
}

/// `NAME.jsonl`, and `NAME.WHERE.jsonl` for other places that report it.
#[test]
#[allow(clippy::disallowed_methods)] // reads files of the repository
fn each_name_has_its_golden_case() {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut missing: BTreeSet<String> = NAMES.iter().map(|(name, _)| name.replace(' ', "-")).collect();
    let mut wrong = Vec::new();
    for path in files {
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let name = file.split('.').next().unwrap();
        missing.remove(name);
        let text = std::fs::read_to_string(&path).unwrap();
        match judge(&text) {
            Ok(expected) if expected.iter().any(|expected| expected.replace(' ', "-") == name) => {}
            Ok(expected) => wrong.push(format!("{file} is about {expected:?}")),
            Err(what) => wrong.push(format!("{file}: {what}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(missing.is_empty(), "names without a case: {missing:?}");
}
