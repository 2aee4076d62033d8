//! An unwind table from any bytes: an error or a sound table, whose rules step without panicking.

#![no_main]

use libfuzzer_sys::fuzz_target;
use memtrace::parts::unwind::Table;
use memtrace_common::unwind::{Frame, MemoryReader, Registers, Rule, row, step};

/// Every word is the address behind it.
struct Chain;

impl MemoryReader for Chain {
    fn read_word(&self, address: u64) -> Option<u64> {
        Some(address.wrapping_add(8))
    }

    fn read_pair(&self, address: u64) -> Option<[u64; 2]> {
        Some([address.wrapping_add(8), address.wrapping_add(16)])
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(table) = Table::of_image(bytes) else { return };
    assert!(table.rows.is_sorted_by(|one, next| row::row_offset(*one) < row::row_offset(*next)));
    for &row in &table.rows {
        let rule = Rule::unpack(row::row_rule(row));
        let address = table.base.wrapping_add(u64::from(row::row_offset(row)));
        assert_eq!(table.rule(address), Some(rule));
        let _ = step(rule, &Frame::innermost(Registers { ip: address, sp: 1 << 20, fp: 1 << 21 }), &Chain);
    }
});
