//! Column by column: how the aggregation merge engine combines what is stored with what comes in.

use floss_protocol::row::Value;
use floss_protocol::schema::{Column, TypeKind};
use roaring::{RoaringBitmap, RoaringTreemap};
use std::cmp::Ordering;

/// The function of one column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Aggregate {
    function: Function,
    kind: TypeKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Function {
    Sum,
    Product,
    Max,
    Min,
    LastValue,
    LastValueIgnoreNulls,
    FirstValue,
    ListAgg {
        delimiter: String,
    },
    BoolAnd,
    BoolOr,
    /// Standard 32-bit portable form.
    Bitmap32,
    /// Portable 64-bit form (docs/decisions/0008).
    Bitmap64,
}

impl Aggregate {
    /// A column without a function keeps its last value that is not null.
    ///
    /// Errors: the function does not exist or not for this type.
    pub fn of(column: &Column) -> Result<Self, String> {
        let kind = column.data_type.kind.clone();
        let Some(given) = &column.agg_function else { return Ok(Self { function: Function::LastValueIgnoreNulls, kind }) };
        let name = given.name.to_ascii_lowercase().replace('-', "_");
        let delimiter = || given.parameters.get("delimiter").cloned().unwrap_or_else(|| ",".to_owned());
        let function = match name.as_str() {
            "sum" => Function::Sum,
            "product" => Function::Product,
            "max" => Function::Max,
            "min" => Function::Min,
            "last_value" => Function::LastValue,
            "last_value_ignore_nulls" => Function::LastValueIgnoreNulls,
            "first_value" | "first_value_ignore_nulls" => Function::FirstValue,
            "listagg" | "string_agg" => Function::ListAgg { delimiter: delimiter() },
            "bool_and" => Function::BoolAnd,
            "bool_or" => Function::BoolOr,
            "rbm32" => Function::Bitmap32,
            "rbm64" => Function::Bitmap64,
            _ => return Err(format!("column {:?}: aggregation function {:?} does not exist", column.name, given.name)),
        };
        if !function.takes(&kind) {
            return Err(format!("column {:?}: aggregation function {name} does not take {}", column.name, kind.root()));
        }
        Ok(Self { function, kind })
    }

    /// Errors: a bitmap that is none.
    pub fn combine(&self, stored: &Value, new: &Value) -> Result<Value, String> {
        match &self.function {
            Function::LastValue => return Ok(new.clone()),
            Function::LastValueIgnoreNulls => return Ok(if new.is_null() { stored.clone() } else { new.clone() }),
            Function::FirstValue => return Ok(if stored.is_null() { new.clone() } else { stored.clone() }),
            _ if stored.is_null() => return Ok(new.clone()),
            _ if new.is_null() => return Ok(stored.clone()),
            _ => {}
        }
        Ok(match (&self.function, stored, new) {
            (Function::Sum, _, _) => self.sum(stored, new),
            (Function::Product, _, _) => self.product(stored, new),
            (Function::Max, _, _) => if compare(new, stored).is_gt() { new } else { stored }.clone(),
            (Function::Min, _, _) => if compare(stored, new).is_lt() { stored } else { new }.clone(),
            (Function::ListAgg { delimiter }, Value::Text(stored), Value::Text(new)) => {
                Value::Text([stored.as_str(), delimiter, new].concat())
            }
            (Function::BoolAnd, Value::Boolean(stored), Value::Boolean(new)) => Value::Boolean(*stored && *new),
            (Function::BoolOr, Value::Boolean(stored), Value::Boolean(new)) => Value::Boolean(*stored || *new),
            (Function::Bitmap32, Value::Bytes(stored), Value::Bytes(new)) => union32(stored, new)?,
            (Function::Bitmap64, Value::Bytes(stored), Value::Bytes(new)) => union64(stored, new)?,
            (function, stored, new) => {
                unreachable!("{function:?} of {} and {}: checked with the type", stored.name(), new.name())
            }
        })
    }

    fn sum(&self, stored: &Value, new: &Value) -> Value {
        match (stored, new) {
            (Value::TinyInt(a), Value::TinyInt(b)) => Value::TinyInt(a.wrapping_add(*b)),
            (Value::SmallInt(a), Value::SmallInt(b)) => Value::SmallInt(a.wrapping_add(*b)),
            (Value::Int(a), Value::Int(b)) => Value::Int(a.wrapping_add(*b)),
            (Value::BigInt(a), Value::BigInt(b)) => Value::BigInt(a.wrapping_add(*b)),
            (Value::Float(a), Value::Float(b)) => Value::Float(a + b),
            (Value::Double(a), Value::Double(b)) => Value::Double(a + b),
            // Two numbers of at most 38 digits: their sum fits 128 bits.
            (Value::Decimal(a), Value::Decimal(b)) => self.decimal(Some(a + b)),
            (stored, new) => unreachable!("sum of {} and {}: checked with the type", stored.name(), new.name()),
        }
    }

    fn product(&self, stored: &Value, new: &Value) -> Value {
        match (stored, new) {
            (Value::TinyInt(a), Value::TinyInt(b)) => Value::TinyInt(a.wrapping_mul(*b)),
            (Value::SmallInt(a), Value::SmallInt(b)) => Value::SmallInt(a.wrapping_mul(*b)),
            (Value::Int(a), Value::Int(b)) => Value::Int(a.wrapping_mul(*b)),
            (Value::BigInt(a), Value::BigInt(b)) => Value::BigInt(a.wrapping_mul(*b)),
            (Value::Float(a), Value::Float(b)) => Value::Float(a * b),
            (Value::Double(a), Value::Double(b)) => Value::Double(a * b),
            (Value::Decimal(a), Value::Decimal(b)) => {
                let TypeKind::Decimal { scale, .. } = self.kind else { unreachable!("decimals are in decimal columns") };
                self.decimal(scaled_product(*a, *b, scale))
            }
            (stored, new) => unreachable!("product of {} and {}: checked with the type", stored.name(), new.name()),
        }
    }

    /// Null if it has more digits than the column.
    fn decimal(&self, unscaled: Option<i128>) -> Value {
        let TypeKind::Decimal { precision, .. } = self.kind else { unreachable!("decimals are in decimal columns") };
        let fits = |unscaled: &i128| unscaled.unsigned_abs() < 10_u128.pow(u32::from(precision));
        unscaled.filter(fits).map_or(Value::Null, Value::Decimal)
    }
}

impl Function {
    fn takes(&self, kind: &TypeKind) -> bool {
        use TypeKind::{BigInt, Boolean, Bytes, Char, Date, Decimal, Double, Float, Int, SmallInt, String, Time, Timestamp};
        use TypeKind::{TimestampLtz, TinyInt};
        let is_number = matches!(kind, TinyInt | SmallInt | Int | BigInt | Float | Double | Decimal { .. });
        match self {
            Self::Sum | Self::Product => is_number,
            Self::Max | Self::Min => {
                is_number || matches!(kind, Char(_) | String | Date | Time(_) | Timestamp(_) | TimestampLtz(_))
            }
            Self::LastValue | Self::LastValueIgnoreNulls | Self::FirstValue => true,
            Self::ListAgg { .. } => matches!(kind, Char(_) | String),
            Self::BoolAnd | Self::BoolOr => matches!(kind, Boolean),
            Self::Bitmap32 | Self::Bitmap64 => matches!(kind, Bytes),
        }
    }
}

/// Order of two values of one type that has one, neither null. Floating numbers as Java orders them: -0.0 below 0.0, NaN above all.
pub(super) fn compare(left: &Value, right: &Value) -> Ordering {
    match (left, right) {
        (Value::TinyInt(a), Value::TinyInt(b)) => a.cmp(b),
        (Value::SmallInt(a), Value::SmallInt(b)) => a.cmp(b),
        (Value::Int(a), Value::Int(b)) | (Value::Date(a), Value::Date(b)) | (Value::Time(a), Value::Time(b)) => a.cmp(b),
        (Value::BigInt(a), Value::BigInt(b)) => a.cmp(b),
        (Value::Float(a), Value::Float(b)) => java_order(f64::from(*a), f64::from(*b)),
        (Value::Double(a), Value::Double(b)) => java_order(*a, *b),
        (Value::Decimal(a), Value::Decimal(b)) => a.cmp(b),
        (Value::Text(a), Value::Text(b)) => a.cmp(b),
        (Value::Timestamp { ms: a, nanos: a_nanos }, Value::Timestamp { ms: b, nanos: b_nanos }) => {
            (a, a_nanos).cmp(&(b, b_nanos))
        }
        (left, right) => unreachable!("order of {} and {}: checked with the type", left.name(), right.name()),
    }
}

fn java_order(left: f64, right: f64) -> Ordering {
    match (left.is_nan(), right.is_nan()) {
        (false, false) => left.total_cmp(&right),
        (left, right) => left.cmp(&right),
    }
}

/// `a * b / 10^scale`, rounded half away from zero. `None`: more than 128 bits, so more than 38 digits.
fn scaled_product(a: i128, b: i128, scale: u8) -> Option<i128> {
    let negative = (a < 0) != (b < 0);
    let mut limbs = wide_product(a.unsigned_abs(), b.unsigned_abs());
    // Only the first digit that goes decides the rounding.
    for _ in 1..scale {
        divide_by_ten(&mut limbs);
    }
    if scale > 0 && divide_by_ten(&mut limbs) >= 5 {
        add_one(&mut limbs);
    }
    if limbs[4..].iter().any(|limb| *limb != 0) {
        return None;
    }
    let magnitude = limbs[..4].iter().rev().fold(0_u128, |high, limb| high << 32 | u128::from(*limb));
    let magnitude = i128::try_from(magnitude).ok()?;
    Some(if negative { -magnitude } else { magnitude })
}

/// 256 bits, the low limb first.
fn wide_product(a: u128, b: u128) -> [u32; 8] {
    let limb = |number: u128, at: usize| u64::from((number >> (32 * at)) as u32);
    let mut limbs = [0_u32; 8];
    for i in 0..4 {
        let mut carry = 0_u64;
        for j in 0..4 {
            let sum = limb(a, i) * limb(b, j) + u64::from(limbs[i + j]) + carry;
            limbs[i + j] = sum as u32;
            carry = sum >> 32;
        }
        limbs[i + 4] = carry as u32;
    }
    limbs
}

/// Returns the remainder.
fn divide_by_ten(limbs: &mut [u32; 8]) -> u64 {
    limbs.iter_mut().rev().fold(0_u64, |remainder, limb| {
        let number = remainder << 32 | u64::from(*limb);
        *limb = (number / 10) as u32;
        number % 10
    })
}

fn add_one(limbs: &mut [u32; 8]) {
    for limb in limbs {
        let (sum, overflow) = limb.overflowing_add(1);
        *limb = sum;
        if !overflow {
            return;
        }
    }
}

fn union32(stored: &[u8], new: &[u8]) -> Result<Value, String> {
    let read = |bytes: &[u8]| RoaringBitmap::deserialize_from(bytes).map_err(|error| format!("32-bit bitmap: {error}"));
    let union = read(stored)? | read(new)?;
    let mut out = Vec::with_capacity(union.serialized_size());
    union.serialize_into(&mut out).map_err(|error| format!("32-bit bitmap: {error}"))?;
    Ok(Value::Bytes(out.into()))
}

fn union64(stored: &[u8], new: &[u8]) -> Result<Value, String> {
    let read = |bytes: &[u8]| RoaringTreemap::deserialize_from(bytes).map_err(|error| format!("64-bit bitmap: {error}"));
    let union = read(stored)? | read(new)?;
    let mut out = Vec::with_capacity(union.serialized_size());
    union.serialize_into(&mut out).map_err(|error| format!("64-bit bitmap: {error}"))?;
    Ok(Value::Bytes(out.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use floss_protocol::schema::AggFunction;
    use std::collections::BTreeMap;

    fn aggregate(name: &str, kind: TypeKind) -> Aggregate {
        let mut column = Column::new("c", kind);
        column.agg_function = Some(AggFunction { name: name.to_owned(), parameters: BTreeMap::new() });
        Aggregate::of(&column).unwrap()
    }

    #[test]
    fn decimals_are_rounded_half_up_and_overflow_to_null() {
        let decimal = |precision, scale| TypeKind::Decimal { precision, scale };
        let product = |kind, a, b| aggregate("product", kind).combine(&Value::Decimal(a), &Value::Decimal(b)).unwrap();
        assert_eq!(product(decimal(10, 2), 150, 150), Value::Decimal(225));
        assert_eq!(product(decimal(10, 2), 101, 150), Value::Decimal(152), "1.515 is 1.52");
        assert_eq!(product(decimal(10, 2), -101, 150), Value::Decimal(-152));
        assert_eq!(product(decimal(10, 2), 107, 107), Value::Decimal(114), "1.1449 is 1.14");
        assert_eq!(product(decimal(4, 0), 100, 100), Value::Null);
        let large = 10_i128.pow(37);
        assert_eq!(product(decimal(38, 37), large, large), Value::Decimal(large), "1 times 1");
        assert_eq!(product(decimal(38, 0), large, large), Value::Null);
        let sum = aggregate("sum", decimal(2, 0));
        assert_eq!(sum.combine(&Value::Decimal(60), &Value::Decimal(39)), Ok(Value::Decimal(99)));
        assert_eq!(sum.combine(&Value::Decimal(60), &Value::Decimal(40)), Ok(Value::Null));
    }

    #[test]
    fn ties_keep_the_stored_value_for_max_and_take_the_new_one_for_min() {
        let (zero, minus_zero) = (Value::Double(0.0), Value::Double(-0.0));
        assert_eq!(compare(&minus_zero, &zero), Ordering::Less);
        let max = aggregate("MAX", TypeKind::Double);
        assert!(matches!(max.combine(&Value::Double(f64::NAN), &zero), Ok(Value::Double(kept)) if kept.is_nan()));
        assert_eq!(aggregate("min", TypeKind::Int).combine(&Value::Int(3), &Value::Int(4)), Ok(Value::Int(3)));
    }

    #[test]
    fn hyphens_are_underscores_and_types_are_checked() {
        assert_eq!(aggregate("first-value", TypeKind::Int).function, Function::FirstValue);
        let mut column = Column::new("c", TypeKind::Boolean);
        column.agg_function = Some(AggFunction { name: "sum".to_owned(), parameters: BTreeMap::new() });
        assert!(Aggregate::of(&column).unwrap_err().contains("does not take BOOLEAN"));
    }

    #[test]
    fn bitmaps_are_united_in_their_portable_form() {
        let bytes = |numbers: &[u32]| {
            let mut out = Vec::new();
            numbers.iter().copied().collect::<RoaringBitmap>().serialize_into(&mut out).unwrap();
            Value::Bytes(out.into())
        };
        let rbm32 = aggregate("rbm32", TypeKind::Bytes);
        assert_eq!(rbm32.combine(&bytes(&[1, 70_000]), &bytes(&[2])), Ok(bytes(&[1, 2, 70_000])));
        assert!(rbm32.combine(&bytes(&[1]), &Value::Bytes(b"no bitmap".as_slice().into())).is_err());
        assert!(aggregate("rbm64", TypeKind::Bytes).combine(&bytes(&[1]), &bytes(&[1])).is_err(), "32-bit form is refused");
    }
}
