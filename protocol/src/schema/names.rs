//! Names that clients may give to databases, tables and partitions.

use super::error::SchemaError;

/// Longest name, in characters (all of them ASCII).
pub const NAME_BYTES_MAX: usize = 200;

/// Columns that readers and the lake add themselves.
const RESERVED_COLUMNS: [&str; 6] = ["__offset", "__timestamp", "__bucket", "_change_type", "_log_offset", "_commit_timestamp"];

pub fn is_reserved_column(name: &str) -> bool {
    RESERVED_COLUMNS.contains(&name)
}

/// The rule for names of things about to be created.
pub fn is_valid_name(name: &str) -> bool {
    problem(name, true).is_none()
}

fn problem(name: &str, new: bool) -> Option<&'static str> {
    if name.is_empty() {
        return Some("empty");
    }
    if name.len() > NAME_BYTES_MAX {
        return Some("longer than 200 characters");
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-') {
        return Some("only ASCII letters, digits, '_' and '-' are allowed");
    }
    if new && name.starts_with("__") {
        return Some("a leading '__' is reserved");
    }
    None
}

/// 1 to 200 ASCII letters, digits, `_`, `-`; no leading `__`.
pub fn check_table_name(name: &str) -> Result<(), SchemaError> {
    problem(name, true).map_or(Ok(()), |reason| Err(SchemaError::TableName { name: name.to_owned(), reason }))
}

/// As for tables.
pub fn check_database_name(name: &str) -> Result<(), SchemaError> {
    problem(name, true).map_or(Ok(()), |reason| Err(SchemaError::DatabaseName { name: name.to_owned(), reason }))
}

/// One value of a partition spec. `new`: about to be created, so no leading `__` either.
pub fn check_partition_value(value: &str, new: bool) -> Result<(), SchemaError> {
    problem(value, new).map_or(Ok(()), |reason| Err(SchemaError::PartitionValue { value: value.to_owned(), reason }))
}

/// The partition's name: its values in partition key order, joined with `$`.
pub fn partition_name<'a>(values: impl IntoIterator<Item = &'a str>) -> String {
    values.into_iter().collect::<Vec<_>>().join("$")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "A-1_b", "_x", &"n".repeat(200)] {
            assert_eq!(check_table_name(good), Ok(()), "{good}");
            assert_eq!(check_database_name(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "..", "a.b", "a b", "ä", "a$b", "__a", "a/b", &"n".repeat(201)] {
            assert!(check_table_name(bad).is_err(), "{bad}");
            assert!(check_partition_value(bad, true).is_err(), "{bad}");
        }
        assert_eq!(check_partition_value("__historical__", false), Ok(()));
        assert_eq!(partition_name(["eu", "2024"]), "eu$2024");
    }
}
