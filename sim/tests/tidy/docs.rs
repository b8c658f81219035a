//! Documentation that can be wrong without anyone noticing: links, lists, the shape of the changelog.

use crate::tree;
use std::collections::BTreeSet;

/// Sections of a release in the changelog, in this order, none twice.
const CHANGELOG_SECTIONS: [&str; 5] = ["Safety", "Features", "Performance", "Formats", "Internals"];

/// Targets of `[text](target)`, code blocks and spans left out.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        }
        if is_code || line.starts_with("    ") {
            continue;
        }
        let prose: String = line.split('`').step_by(2).collect();
        for (at, _) in prose.match_indices("](") {
            found.extend(prose[at + 2..].split_once(')').map(|(target, _)| target.to_string()));
        }
    }
    found
}

#[test]
fn links_resolve() {
    let mut violations = Vec::new();
    for source in tree::files("md") {
        let path = tree::root().join(&source.path);
        for target in links(&source.text) {
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") || file.starts_with("mailto:") {
                continue;
            }
            if !path.parent().expect("a file lies in a directory").join(file).exists() {
                violations.push(format!("{}: {target} is not there", source.path));
            }
        }
    }
    tree::report("dead links", violations);
}

#[test]
fn links_are_found_outside_code_only() {
    assert_eq!(links("see [a](b.md) and [c](d#e)\n```\n[x](y)\n```\n`[x](y)` [f](g)"), ["b.md", "d#e", "g"]);
}

#[test]
fn the_changelog_has_its_shape() {
    let text = std::fs::read_to_string(tree::root().join("CHANGELOG.md")).expect("there is a changelog");
    let mut violations = Vec::new();
    let mut releases = Vec::new();
    let mut last_section = None;
    for (at, line) in text.lines().enumerate() {
        let mut complain = |what: String| violations.push(format!("CHANGELOG.md:{} {what}", at + 1));
        if let Some(release) = line.strip_prefix("## ") {
            releases.push(release.to_string());
            last_section = None;
        } else if let Some(section) = line.strip_prefix("### ") {
            match CHANGELOG_SECTIONS.iter().position(|known| *known == section) {
                None => complain(format!("section {section:?}, expected one of {CHANGELOG_SECTIONS:?}")),
                Some(place) if last_section.is_some_and(|last| place <= last) => {
                    complain(format!("section {section:?} out of order"))
                }
                Some(place) => last_section = Some(place),
            }
        } else if last_section.is_some() && !(line.is_empty() || line.starts_with("- ") || line.starts_with("  ")) {
            complain("expected a list item or its continuation".to_string());
        }
    }
    if releases.first().map(String::as_str) != Some("Unreleased") {
        violations.push(format!("CHANGELOG.md: releases are {releases:?}, expected Unreleased first"));
    }
    tree::report("changelog", violations);
}

#[test]
fn decisions_are_numbered_and_listed() {
    let records: Vec<tree::Source> =
        tree::files("md").into_iter().filter(|source| source.path.starts_with("docs/decisions/")).collect();
    let list = records.iter().find(|source| source.path.ends_with("README.md")).expect("the decisions have a list");
    let mut numbers = BTreeSet::new();
    let mut violations = Vec::new();
    for record in records.iter().filter(|source| !source.path.ends_with("README.md")) {
        let name = record.path.rsplit('/').next().unwrap_or_default();
        let number = name.get(..4).and_then(|number| number.parse::<u32>().ok());
        match number {
            None => violations.push(format!("{} does not start with four digits", record.path)),
            Some(number) if !numbers.insert(number) => violations.push(format!("{number:04} is taken twice")),
            Some(_) => {}
        }
        if !list.text.contains(name) {
            violations.push(format!("{name} is not in docs/decisions/README.md"));
        }
    }
    let expected: BTreeSet<u32> = (1..=numbers.len() as u32).collect();
    if numbers != expected {
        violations.push(format!("numbers are {numbers:?}, expected no gap"));
    }
    tree::report("decisions", violations);
}

/// `I3` in the text means an invariant of the table in docs/ARCHITECTURE.md, or one that it says comes later.
#[test]
fn cited_invariants_exist() {
    let architecture = std::fs::read_to_string(tree::root().join("docs/ARCHITECTURE.md")).expect("the architecture is described");
    let known: BTreeSet<String> = invariants(&architecture).collect();
    assert!(known.contains("I3"), "the table was not found");
    let mut violations = Vec::new();
    for source in tree::rust() {
        for (at, line) in source.text.lines().enumerate() {
            let Some((_, comment)) = line.split_once("//") else { continue };
            for id in invariants(comment).filter(|id| !known.contains(id)) {
                violations.push(format!("{}:{} cites {id}", source.path, at + 1));
            }
        }
    }
    tree::report("invariants that nobody stated", violations);
}

fn invariants(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
    let is_id =
        |word: &&str| word.strip_prefix('I').is_some_and(|number| matches!(number.len(), 1..=2) && number.parse::<u32>().is_ok());
    words.filter(is_id).map(str::to_string)
}
