//! Column declarations on the command line: `price decimal(10,2) not null`.

use crate::exit::Failure;
use fluss::metadata::{DataType, DataTypes};

/// Name and type of one `--column`.
pub fn parse(text: &str) -> Result<(String, DataType), Failure> {
    let bad = |why: String| Failure::usage(format!("column '{text}'")).why(why);
    let (name, rest) =
        text.trim().split_once(char::is_whitespace).ok_or_else(|| bad("expected NAME TYPE [not null]".to_string()))?;
    let lower = rest.trim().to_lowercase();
    let (type_text, nullable) = match lower.strip_suffix("not null") {
        Some(head) => (head.trim().to_string(), false),
        None => (lower, true),
    };
    let data_type = parse_type(&type_text).map_err(bad)?;
    Ok((name.to_string(), if nullable { data_type } else { data_type.as_non_nullable() }))
}

fn parse_type(text: &str) -> Result<DataType, String> {
    if let Some(inner) = text.strip_prefix("array<").and_then(|rest| rest.strip_suffix('>')) {
        return Ok(DataTypes::array(parse_type(inner.trim())?));
    }
    if let Some(inner) = text.strip_prefix("map<").and_then(|rest| rest.strip_suffix('>')) {
        let (key, value) = inner.split_once(',').ok_or("expected map<KEY,VALUE>")?;
        return Ok(DataTypes::map(parse_type(key.trim())?.as_non_nullable(), parse_type(value.trim())?));
    }
    let (name, arguments) = match text.split_once('(') {
        Some((name, rest)) => {
            let inside = rest.strip_suffix(')').ok_or_else(|| format!("{text}: the bracket is not closed"))?;
            let numbers: Result<Vec<u32>, _> = inside.split(',').map(|number| number.trim().parse()).collect();
            (name.trim(), numbers.map_err(|_| format!("{inside}: expected numbers"))?)
        }
        None => (text, Vec::new()),
    };
    let first = |default: u32| arguments.first().copied().unwrap_or(default);
    Ok(match name {
        "boolean" | "bool" => DataTypes::boolean(),
        "tinyint" => DataTypes::tinyint(),
        "smallint" => DataTypes::smallint(),
        "int" | "integer" => DataTypes::int(),
        "bigint" | "long" => DataTypes::bigint(),
        "float" => DataTypes::float(),
        "double" => DataTypes::double(),
        "char" => DataTypes::char(first(1)),
        "string" | "text" => DataTypes::string(),
        "binary" => DataTypes::binary(first(1) as usize),
        "bytes" => DataTypes::bytes(),
        "decimal" if first(10) <= 38 => DataTypes::decimal(first(10), arguments.get(1).copied().unwrap_or(0)),
        "date" => DataTypes::date(),
        "time" if first(0) <= 9 => DataTypes::time_with_precision(first(0)),
        "timestamp" if first(6) <= 9 => DataTypes::timestamp_with_precision(first(6)),
        "timestamp_ltz" if first(6) <= 9 => DataTypes::timestamp_ltz_with_precision(first(6)),
        _ => {
            return Err(format!(
                "{text} is not a type, expected boolean, tinyint, smallint, int, bigint, float, double, char(n), string, binary(n), \
                 bytes, decimal(p,s), date, time(p), timestamp(p), timestamp_ltz(p), array<type> or map<key,value>"
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_nullability() {
        let (name, data_type) = parse("price decimal(10, 2) NOT NULL").unwrap();
        assert_eq!((name.as_str(), data_type.is_nullable()), ("price", false));
        assert_eq!(parse("t timestamp(3)").unwrap().1, DataTypes::timestamp_with_precision(3));
        assert_eq!(parse("a array<int>").unwrap().1, DataTypes::array(DataTypes::int()));
        for bad in ["x", "x varchar", "x decimal(99)", "x char(", "x time(12)"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
