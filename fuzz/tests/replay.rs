//! The corpus on stable: every input of every target, and each of them cut and flipped at a few places.
#![cfg(test)]
#![allow(clippy::disallowed_methods)] // reads files of the repository

use floss_fuzz::TARGETS;
use std::path::Path;

/// Damaged copies made of one input.
const CUTS: usize = 24;
const FLIPS: usize = 48;

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for tests")).join("corpus").join(target);
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.display().to_string(), std::fs::read(&path).unwrap())).collect()
}

#[test]
fn every_target_has_a_corpus_and_every_corpus_a_target() {
    let dir = Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for tests")).join("corpus");
    let mut found: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    let mut expected: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    found.sort();
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert!(TARGETS.iter().all(|(name, _)| !corpus(name).is_empty()));
}

/// `n` places spread over `length`.
fn places(length: usize, n: usize) -> impl Iterator<Item = usize> {
    (0..length).step_by((length / n).max(1))
}

#[test]
fn corpus_replays() {
    for (target, check) in TARGETS {
        for (path, input) in corpus(target) {
            // Shown if the check panics.
            println!("{path}");
            check(&input);
            places(input.len(), CUTS).for_each(|at| check(&input[..at]));
            for (turn, at) in places(input.len(), FLIPS).enumerate() {
                let mut flipped = input.clone();
                flipped[at] ^= 1 << (turn % 8);
                println!("{path}, byte {at} ^ {}", 1 << (turn % 8));
                check(&flipped);
            }
        }
    }
}
