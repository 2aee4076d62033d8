//! Python's stacks against `traceback`: for every interpreter on this machine, all blocks that code of many shapes makes have exactly the
//! functions, files and lines that the interpreter itself says, and each stack has as many blocks.

use std::{path::Path, process::Command};

use anyhow::{Context, Result};
use memtrace_tests::{
    own_stacks::{Compared, Comparison},
    python::interpreters,
};

/// Each shape runs often enough for interpreters to specialise code. Bytes have a head of 32 and end in one more; byte arrays end in one
/// more, and from 3.15 on keep what is in them as bytes.
const COMPARISON: Comparison = Comparison { rounds: 100, at_least: 10_000, more: &[1, 33] };

#[test]
fn every_block_has_the_stack_that_traceback_says() -> Result<()> {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/python_differential.py");
    for (python, _) in interpreters()? {
        let compared = COMPARISON.run(Command::new(&python).arg(&fixture));
        let Compared { blocks, stacks, .. } = compared.with_context(|| python.display().to_string())?;
        println!("{}: {blocks} blocks on {stacks} stacks", python.display());
    }
    Ok(())
}
