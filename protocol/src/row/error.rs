//! Why bytes are not a row, or values not of a row's types.

/// `at` counts from the start of the innermost row, array or map.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    #[error("row ends at={at}: {what} takes {expected} bytes, {found} left")]
    Short { at: usize, what: &'static str, expected: usize, found: usize },
    #[error("number at={at} has more bytes or bits than its type")]
    LongNumber { at: usize },
    #[error("text at={at} is not utf-8")]
    NotUtf8 { at: usize },
    #[error("{found} bytes after the last field")]
    Trailing { found: usize },
    #[error("{what}={found} at={at} makes no sense")]
    BadNumber { at: usize, what: &'static str, found: i64 },
    #[error("field {field} points to {offset}..{end}, allowed is {from}..{to}")]
    BadPointer { field: usize, offset: usize, end: usize, from: usize, to: usize },
    #[error("map has {keys} keys and {values} values")]
    MapSizes { keys: usize, values: usize },
    #[error("map key {index} is null")]
    NullKey { index: usize },
    #[error("row of {found} values, expected {expected}")]
    Arity { expected: usize, found: usize },
    #[error("value is {found}, expected {expected}")]
    WrongValue { expected: &'static str, found: &'static str },
    #[error("text of {found} bytes, at most {max}")]
    TooLong { max: usize, found: usize },
}
