//! What a record of a log says about its row.

/// One byte per record. Log tables know only `AppendOnly`; the changelog of a primary-key table the other four.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ChangeType {
    AppendOnly = 0,
    Insert = 1,
    UpdateBefore = 2,
    UpdateAfter = 3,
    Delete = 4,
}

impl ChangeType {
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::AppendOnly),
            1 => Some(Self::Insert),
            2 => Some(Self::UpdateBefore),
            3 => Some(Self::UpdateAfter),
            4 => Some(Self::Delete),
            _ => None,
        }
    }

    pub fn to_byte(self) -> u8 {
        self as u8
    }

    /// As Fluss prints it: `+A`, `+I`, `-U`, `+U`, `-D`.
    pub fn short(self) -> &'static str {
        match self {
            Self::AppendOnly => "+A",
            Self::Insert => "+I",
            Self::UpdateBefore => "-U",
            Self::UpdateAfter => "+U",
            Self::Delete => "-D",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back_or_is_refused() {
        for byte in 0..=u8::MAX {
            assert_eq!(ChangeType::from_byte(byte).map(ChangeType::to_byte), (byte <= 4).then_some(byte));
        }
    }
}
