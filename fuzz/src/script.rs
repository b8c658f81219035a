//! Input bytes as a source of choices.

/// Reads numbers from the input; zeros when it is used up, so that every input means something.
pub struct Script<'a> {
    left: &'a [u8],
}

impl<'a> Script<'a> {
    pub fn new(input: &'a [u8]) -> Self {
        Self { left: input }
    }

    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, left)) = self.left.split_first() else { return 0 };
        self.left = left;
        *first
    }

    /// Two bytes, the low one first.
    pub fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// Below `end`; 0 if `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::from(self.short()).checked_rem(end).unwrap_or(0)
    }

    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.left)
    }
}
