//! The files of the repository.

use std::path::{Path, PathBuf};

/// Directories that hold no source: build output, fetched clients, history.
const SKIPPED: [&str; 4] = ["target", ".git", "node_modules", ".venv"];

/// One file, by its path from the root.
pub struct Source {
    pub path: String,
    pub text: String,
}

impl Source {
    /// Lines with their numbers, comments left out: what the compiler sees, roughly. Strings stay.
    pub fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(at, line)| (at + 1, line));
        lines.filter_map(|(at, line)| {
            let code = line.split_once("//").map_or(line, |(code, _)| code);
            (!code.trim().is_empty()).then_some((at, code))
        })
    }

    /// The same, up to the unit tests at the bottom of the file.
    pub fn shipped_code(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_test_file = self.path.contains("/tests/") || self.path.ends_with("_tests.rs") || self.path.ends_with("/tests.rs");
        self.code().take_while(move |(_, line)| !is_test_file && line.trim() != "#[cfg(test)]")
    }
}

pub fn root() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for tests"))
        .parent()
        .expect("a member lies below the root")
        .to_path_buf()
}

/// Every file whose name ends with `.extension`, in order of their paths.
pub fn files(extension: &str) -> Vec<Source> {
    let root = root();
    let mut found = Vec::new();
    walk(&root, extension, &mut found);
    let mut sources: Vec<Source> = found
        .into_iter()
        .map(|path| Source {
            text: std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())),
            path: path.strip_prefix(&root).expect("walked from the root").to_string_lossy().into_owned(),
        })
        .collect();
    sources.sort_by(|left, right| left.path.cmp(&right.path));
    sources
}

/// The Rust sources, this test left out: it names what it bans.
pub fn rust() -> Vec<Source> {
    let sources: Vec<Source> = files("rs").into_iter().filter(|source| !source.path.starts_with("sim/tests/tidy/")).collect();
    assert!(sources.len() > 50, "only {} sources below {}", sources.len(), root().display());
    sources
}

fn walk(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
        let entry = entry.expect("a directory that can be opened can be listed");
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        if entry.file_type().expect("the file system knows what it lists").is_dir() {
            if !SKIPPED.contains(&name.as_str()) {
                walk(&path, extension, found);
            }
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
}

/// Fails with all violations, if there are any.
pub fn report(what: &str, violations: Vec<String>) {
    assert!(violations.is_empty(), "{what}:\n  {}", violations.join("\n  "));
}
