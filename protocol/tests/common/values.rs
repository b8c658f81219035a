//! Random values of any type.

use super::common::Numbers;
use bytes::Bytes;
use floss_protocol::row::Value;
use floss_protocol::schema::{DataType, TypeKind};

fn below(numbers: &mut Numbers, end: u64) -> u64 {
    numbers.next() % end
}

/// Small and large, positive and negative.
fn wide(numbers: &mut Numbers) -> i128 {
    let high = i128::from(numbers.next() as i64) << 80;
    (high ^ i128::from(numbers.next()) << 40 ^ i128::from(numbers.next())) >> below(numbers, 127)
}

fn long(numbers: &mut Numbers) -> i64 {
    (numbers.next() << 20 ^ numbers.next()) as i64 >> below(numbers, 63)
}

fn text(numbers: &mut Numbers, max: u64) -> String {
    (0..below(numbers, max + 1)).map(|_| char::from(b'a' + below(numbers, 26) as u8)).collect()
}

fn bytes(numbers: &mut Numbers, length: u64) -> Bytes {
    (0..length).map(|_| numbers.next() as u8).collect::<Vec<_>>().into()
}

pub fn value(data_type: &DataType, numbers: &mut Numbers) -> Value {
    if data_type.nullable && below(numbers, 4) == 0 {
        return Value::Null;
    }
    match &data_type.kind {
        TypeKind::Boolean => Value::Boolean(below(numbers, 2) == 1),
        TypeKind::TinyInt => Value::TinyInt(long(numbers) as i8),
        TypeKind::SmallInt => Value::SmallInt(long(numbers) as i16),
        TypeKind::Int => Value::Int(long(numbers) as i32),
        TypeKind::BigInt => Value::BigInt(long(numbers)),
        TypeKind::Float => Value::Float(long(numbers) as f32),
        TypeKind::Double => Value::Double(long(numbers) as f64),
        // Indexed rows pad CHAR with zeros and BINARY is exact.
        TypeKind::Char(length) => Value::Text(text(numbers, u64::from(*length))),
        TypeKind::String => Value::Text(text(numbers, 12)),
        TypeKind::Binary(length) => Value::Bytes(bytes(numbers, u64::from(*length))),
        TypeKind::Bytes => {
            let length = below(numbers, 12);
            Value::Bytes(bytes(numbers, length))
        }
        TypeKind::Decimal { precision: 0..=18, .. } => Value::Decimal(i128::from(long(numbers))),
        TypeKind::Decimal { .. } => Value::Decimal(wide(numbers)),
        TypeKind::Date => Value::Date(long(numbers) as i32),
        TypeKind::Time(_) => Value::Time(below(numbers, 86_400_000) as i32),
        TypeKind::Timestamp(0..=3) | TypeKind::TimestampLtz(0..=3) => Value::Timestamp { ms: long(numbers), nanos: 0 },
        TypeKind::Timestamp(_) | TypeKind::TimestampLtz(_) => {
            Value::Timestamp { ms: long(numbers), nanos: below(numbers, 1_000_000) as i32 }
        }
        TypeKind::Array(element) => Value::Array((0..below(numbers, 40)).map(|_| value(element, numbers)).collect()),
        TypeKind::Map(key, of) => Value::Map((0..below(numbers, 5)).map(|_| (value(key, numbers), value(of, numbers))).collect()),
        TypeKind::Row(fields) => Value::Row(fields.iter().map(|field| value(&field.data_type, numbers)).collect()),
    }
}
