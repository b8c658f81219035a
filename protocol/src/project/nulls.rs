//! A column of nulls, for batches that are older than the column.

use crate::schema::{DataType, TypeKind};

/// Bytes of nulls that one batch may be given. The record count is the writer's word; a batch whose few compressed bytes claim
/// two billion records must not make an answer of gigabytes.
pub const NULL_BYTES_MAX: u64 = 16 << 20;

/// The shape of a column of nulls: what to write for any number of rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NullColumn {
    pub nodes: Vec<NullNode>,
    pub buffers: Vec<NullBuffer>,
}

/// One field node. Inside lists and maps there are no rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NullNode {
    has_rows: bool,
    nullable: bool,
}

/// One buffer of zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NullBuffer {
    has_rows: bool,
    size: Size,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    /// Validity of something that cannot be null, or bytes that no offset points to.
    Empty,
    /// One bit a row.
    Bits,
    /// So many bytes a row.
    Bytes(u32),
    /// 4 bytes a row, and 4 more.
    Offsets,
}

impl NullNode {
    /// Length and null count.
    pub fn counts(self, rows: i64) -> (i64, i64) {
        let length = if self.has_rows { rows } else { 0 };
        (length, if self.nullable { length } else { 0 })
    }
}

impl NullBuffer {
    /// Bytes of zeros, without padding. `rows` is at most 2^31, so nothing overflows.
    pub fn bytes(self, rows: u64) -> u64 {
        let rows = if self.has_rows { rows } else { 0 };
        match self.size {
            Size::Empty => 0,
            Size::Bits => rows.div_ceil(8),
            Size::Bytes(width) => rows * u64::from(width),
            Size::Offsets => (rows + 1) * 4,
        }
    }
}

impl NullColumn {
    pub fn new(data_type: &DataType) -> Self {
        let mut column = Self::default();
        column.add(data_type, true);
        column
    }

    fn add(&mut self, data_type: &DataType, has_rows: bool) {
        let nullable = data_type.nullable;
        self.nodes.push(NullNode { has_rows, nullable });
        self.buffer(if nullable { Size::Bits } else { Size::Empty }, has_rows);
        match &data_type.kind {
            TypeKind::Boolean => self.buffer(Size::Bits, has_rows),
            TypeKind::TinyInt => self.buffer(Size::Bytes(1), has_rows),
            TypeKind::SmallInt => self.buffer(Size::Bytes(2), has_rows),
            TypeKind::Int | TypeKind::Float | TypeKind::Date | TypeKind::Time(0..=3) => self.buffer(Size::Bytes(4), has_rows),
            TypeKind::BigInt | TypeKind::Double | TypeKind::Time(_) | TypeKind::Timestamp(_) | TypeKind::TimestampLtz(_) => {
                self.buffer(Size::Bytes(8), has_rows);
            }
            TypeKind::Decimal { .. } => self.buffer(Size::Bytes(16), has_rows),
            TypeKind::Binary(length) => self.buffer(Size::Bytes(*length), has_rows),
            TypeKind::Char(_) | TypeKind::String | TypeKind::Bytes => {
                self.buffer(Size::Offsets, has_rows);
                self.buffer(Size::Empty, has_rows);
            }
            TypeKind::Array(element) => {
                self.buffer(Size::Offsets, has_rows);
                self.add(element, false);
            }
            TypeKind::Map(key, value) => {
                self.buffer(Size::Offsets, has_rows);
                self.nodes.push(NullNode { has_rows: false, nullable: false });
                self.buffer(Size::Empty, false);
                self.add(key, false);
                self.add(value, false);
            }
            TypeKind::Row(fields) => {
                for field in fields {
                    self.add(&field.data_type, has_rows);
                }
            }
        }
    }

    fn buffer(&mut self, size: Size, has_rows: bool) {
        self.buffers.push(NullBuffer { has_rows, size });
    }
}
