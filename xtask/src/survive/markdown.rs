//! `docs/survive.md`: the results as a table.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::table;
use crate::markdown::cell;
use crate::outcomes::Outcomes;
use crate::tree;

/// Writes the page.
///
/// # Errors
/// When it cannot be written.
pub fn write(results: &Outcomes) -> Result<()> {
    let path = tree::root().join("docs/survive.md");
    fs::write(&path, page(results)?).with_context(|| format!("cannot write {}", path.display()))
}

fn page(results: &Outcomes) -> Result<String> {
    let kernel = rustix::system::uname();
    let mut page = format!(
        "# The target survives\n\n\
         Made by `cargo xtask survive --write` on Linux {}, {}. Each program works at full speed, checks its own results all along, and \
         prints a result at its end. It runs once without memtrace. Then it runs while memtrace attaches to it and lets go of it, one \
         round after the other: ended by SIGINT, by SIGKILL, by the end of `--duration`, and by SIGKILL at some moment of the attach \
         (*cut short*: before all probes were in place). The program must live after each round, and at the end print the result \
         and have the exit status that it has without memtrace.\n\n\
         `cargo xtask survive --only NAME` runs one of them; their sources are in `xtask/survive/`, the table in \
         `xtask/src/survive/table.rs`.\n\n\
         | name | what it is | version | rounds | attached | cut short | outcome |\n\
         |---|---|---|---:|---:|---:|---|\n",
        kernel.release().to_string_lossy(),
        kernel.machine().to_string_lossy(),
    );
    for program in table::PROGRAMS {
        let Some(row) = results.of(program.name) else { continue };
        let outcome = match (&row["failure"], row["refused"].as_u64()) {
            (Value::String(why), _) => cell(why),
            (_, Some(refused)) if refused > 0 => format!("survived; {refused} refused"),
            _ => "survived".to_owned(),
        };
        writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} | {outcome} |",
            program.name,
            cell(program.what),
            cell(row["version"].as_str().unwrap_or_default()),
            row["rounds"],
            row["attached"],
            row["cut_short"]
        )?;
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::survive::trial::Outcome;

    #[test]
    fn a_program_that_was_tried_has_a_row_and_a_failure_is_told() {
        let (first, second) = (&table::PROGRAMS[0], &table::PROGRAMS[1]);
        let mut results = Outcomes::none("survive");
        let outcome =
            Outcome { version: "1 | 2".to_owned(), rounds: 20, attached: 15, cut_short: 5, ..Outcome::default() };
        results.take(first.name, outcome.row());
        results.take(second.name, Outcome { failure: Some("it ended".to_owned()), ..outcome }.row());
        let page = page(&results).expect("a page");
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| threads")).collect();
        assert_eq!(rows.len(), 2, "{page}");
        assert!(rows[0].ends_with("| 1 \\| 2 | 20 | 15 | 5 | survived |"), "{}", rows[0]);
        assert!(rows[1].ends_with("| it ended |"), "{}", rows[1]);
    }
}
