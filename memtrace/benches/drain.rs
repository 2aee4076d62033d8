//! What the drain and the ledger take on one core: records as they stand in the ring, decoded and applied.
//!
//! `cargo bench -p memtrace --bench drain`; the throughput is in events.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use memtrace::parts::{
    event::decode,
    ledger::{Ledger, ProcessLedger},
};
use memtrace_common::{Slot, event::Kind, sampling};

const SLOT: Slot = Slot(0);

/// Events of a batch, about.
const EVENTS: usize = 1 << 20;

/// Stacks that allocate in turn.
const STACKS: u64 = 1000;

/// Records as the kernel writes them, and where each ends.
#[derive(Default)]
struct Records {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Records {
    fn push(&mut self, kind: Kind, words: &[u64]) {
        self.bytes.extend([kind as u8, 0]);
        self.bytes.extend(SLOT.0.to_ne_bytes());
        self.bytes.extend(1u32.to_ne_bytes());
        words.iter().for_each(|word| self.bytes.extend(word.to_ne_bytes()));
        self.ends.push(self.bytes.len());
    }

    fn allocate(&mut self, time_ns: u64, block: u64) {
        let (address, size, stack) = (address(block), 16 + block % 4000, 1 + block % STACKS);
        self.push(Kind::Allocate, &[time_ns, address, sampling::pack(size, 0), stack]);
    }

    fn release(&mut self, time_ns: u64, block: u64) {
        self.push(Kind::Release, &[time_ns, address(block)]);
    }

    /// Decodes and applies all of them.
    fn feed(&self, ledger: &mut Ledger) {
        let mut start = 0;
        for &end in &self.ends {
            if let Ok(event) = decode(&self.bytes[start..end]) {
                ledger.apply(black_box(&event));
            }
            start = end;
        }
    }
}

/// As a heap of blocks of 48 bytes has them, in no order.
fn address(block: u64) -> u64 {
    0x7f12_0000_0010 + block.wrapping_mul(0x9e37_79b1) % (1 << 32) * 48
}

/// A ledger with so many live blocks, and a batch that replaces them one by one, an even number of times: so that it can be
/// fed again and again.
fn steady(live: u64) -> (Ledger, Records) {
    let mut ledger = Ledger::new();
    ledger.add_process(SLOT);
    let (mut first, mut batch) = (Records::default(), Records::default());
    (0..live).for_each(|block| first.allocate(0, block));
    first.feed(&mut ledger);
    let passes = (EVENTS as u64 / 4 / live).max(1) * 2;
    for pass in 0..passes {
        let (new, old) = if pass % 2 == 0 { (live, 0) } else { (0, live) };
        for place in 0..live {
            batch.allocate(pass, new + place);
            batch.release(pass, old + place);
        }
    }
    (ledger, batch)
}

fn drain(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("drain");
    group.sample_size(20);
    for (name, live) in [("1,000 live blocks", 1000), ("100,000 live blocks", 100_000), ("pairs in a row", 1)] {
        let (mut ledger, batch) = steady(live);
        group.throughput(Throughput::Elements(batch.ends.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| batch.feed(&mut ledger)));
        let totals = ledger.process(SLOT).map(ProcessLedger::totals);
        assert!(totals.is_some_and(|totals| totals.outstanding_blocks == live && totals.frees_unmatched == 0));
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    drain(&mut criterion);
    criterion.final_summary();
}
