//! Two probes that every crate may place: planted bugs (`mutant!`) and marks of rare states (`reached!`).
//!
//! They live at the bottom because all crates use them and none owns them (docs/decisions/0002).
//! In a production build both compile to nothing: `mutant!` is the constant `false`, `reached!` an empty block.

/// True when the planted bug with this id is the one chosen by the environment variable `FLOSS_MUTANT`.
///
/// `if mutant!("R01") { wrong } else { right }`. Each id stands exactly once in the code and once in the catalogue
/// `sim/src/mutants.rs`; a tidy test counts.
#[macro_export]
macro_rules! mutant {
    ($id:literal) => {{
        #[cfg(mutants)]
        {
            $crate::probe::mutant_is($id)
        }
        #[cfg(not(mutants))]
        {
            false
        }
    }};
}

/// Notes that a rare state was seen. A sweep that misses a declared mark is red and names it.
#[macro_export]
macro_rules! reached {
    ($name:literal) => {{
        #[cfg(any(madsim, mutants))]
        $crate::probe::mark($name);
    }};
}

#[cfg(mutants)]
#[allow(clippy::disallowed_methods)] // builds with planted bugs only: the choice is made outside, once per process
pub fn mutant_is(id: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    // Read once per process: a seed runs in a process of its own, so the choice cannot change under it.
    CHOSEN.get_or_init(|| std::env::var("FLOSS_MUTANT").ok()).as_deref() == Some(id)
}

#[cfg(any(madsim, mutants))]
static MARKS: std::sync::Mutex<std::collections::BTreeSet<&'static str>> =
    std::sync::Mutex::new(std::collections::BTreeSet::new());

#[cfg(any(madsim, mutants))]
pub fn mark(name: &'static str) {
    MARKS.lock().expect("no panic happens while the set of marks is held").insert(name);
}

/// The marks seen by this process so far, in order.
#[cfg(any(madsim, mutants))]
pub fn marks() -> Vec<&'static str> {
    MARKS.lock().expect("no panic happens while the set of marks is held").iter().copied().collect()
}
