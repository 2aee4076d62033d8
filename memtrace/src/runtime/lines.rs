//! Lines of code whose frames have the address of their instruction.

/// The lines of a function's instructions, which lie one behind the other.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LinesByAddress {
    /// The lowest half of the address of the first instruction.
    pub first: u32,
    /// From one instruction to the next: bytes, at least one.
    pub unit: u32,
    /// The line of each instruction.
    pub lines: Vec<u32>,
}

impl LinesByAddress {
    /// The line of the instruction whose address has this lowest half; `None` if it is none of the function's.
    pub fn line(&self, address: u32) -> Option<u32> {
        let bytes = address.wrapping_sub(self.first);
        let is_whole = bytes.is_multiple_of(self.unit);
        self.lines.get((bytes / self.unit.max(1)) as usize).copied().filter(|_| is_whole)
    }

    /// How much memory it takes, in bytes.
    pub fn bytes(&self) -> usize {
        4 * self.lines.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instruction_has_its_line_and_what_is_none_has_not() {
        let lines = LinesByAddress { first: u32::MAX - 31, unit: 32, lines: vec![7, 9, 8] };
        let of = [u32::MAX - 31, 0, 32, 64, 1, u32::MAX - 63].map(|address| lines.line(address));
        assert_eq!(of, [Some(7), Some(9), Some(8), None, None, None]);
        assert_eq!(LinesByAddress::default().line(0), None);
    }
}
