//! I14: same seed, same trace. Judged by `parent`, which has the traces of two processes.

/// Where two traces part, for people. Called when they are not equal.
pub fn first_difference(a: &[u8], b: &[u8]) -> String {
    let (a, b) = (String::from_utf8_lossy(a), String::from_utf8_lossy(b));
    let differ = a.lines().zip(b.lines()).enumerate().find(|(_, (a, b))| a != b);
    match differ {
        Some((line, (a, b))) => format!("line {}: {a:.120} | {b:.120}", line + 1),
        None => format!("the end: {} and {} lines", a.lines().count(), b.lines().count()),
    }
}
