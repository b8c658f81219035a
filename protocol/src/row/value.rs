//! A value of any column.

use bytes::Bytes;

/// Equality is that of the parts: a NaN is not equal to itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Boolean(bool),
    TinyInt(i8),
    SmallInt(i16),
    Int(i32),
    BigInt(i64),
    Float(f32),
    Double(f64),
    /// CHAR and STRING.
    Text(String),
    /// BINARY and BYTES.
    Bytes(Bytes),
    /// Unscaled: 123.45 of a DECIMAL(10, 2) is 12345.
    Decimal(i128),
    /// Days since 1970-01-01.
    Date(i32),
    /// Milliseconds of the day, whatever the precision.
    Time(i32),
    /// With or without local time zone: milliseconds since 1970-01-01, and nanoseconds of the millisecond (0..=999999).
    Timestamp {
        ms: i64,
        nanos: i32,
    },
    Array(Vec<Value>),
    /// In the order of the bytes; keys are not null.
    Map(Vec<(Value, Value)>),
    Row(Vec<Value>),
}

impl Value {
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// For messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean(_) => "a boolean",
            Self::TinyInt(_) => "a tinyint",
            Self::SmallInt(_) => "a smallint",
            Self::Int(_) => "an int",
            Self::BigInt(_) => "a bigint",
            Self::Float(_) => "a float",
            Self::Double(_) => "a double",
            Self::Text(_) => "text",
            Self::Bytes(_) => "bytes",
            Self::Decimal(_) => "a decimal",
            Self::Date(_) => "a date",
            Self::Time(_) => "a time",
            Self::Timestamp { .. } => "a timestamp",
            Self::Array(_) => "an array",
            Self::Map(_) => "a map",
            Self::Row(_) => "a row",
        }
    }
}
