//! The results as a page of the documentation.

use std::fmt::Write as _;

use super::{Section, scale, table, tool};

/// The page: where it was measured, a table for each workload, and what the marks mean.
pub fn render(
    sections: &[Section],
    scale: &[scale::Took],
    facts: &[(&str, String)],
    missing: &[String],
    rounds: u32,
) -> String {
    let mut text = String::from(
        "# Results\n\nWritten by `cargo xtask bench`, whose next run replaces it. What the numbers mean: \
         [performance](../performance.md).\n\n",
    );
    line(&mut text, ["what", "value"].map(str::to_owned));
    line(&mut text, ["---", "---"].map(str::to_owned));
    facts.iter().for_each(|(name, value)| line(&mut text, [(*name).to_owned(), value.clone()]));
    line(&mut text, ["rounds".to_owned(), rounds.to_string()]);
    for section in sections {
        let _ = write!(text, "\n## {}: {}\n\n", section.workload.name, escaped(&section.workload.title));
        line(&mut text, std::iter::once("").chain(table::HEADS).map(str::to_owned));
        let rules = std::iter::once("---").chain(["---:"; table::COLUMNS]);
        line(&mut text, rules.map(str::to_owned));
        for row in &section.rows {
            let cells = table::cells(row, section.workload.pairs);
            line(&mut text, std::iter::once(row.tool.name().to_owned()).chain(cells));
        }
    }
    if !scale.is_empty() {
        text.push_str("\n## scale: what memtrace itself takes\n\n");
        line(&mut text, scale::HEADS.map(str::to_owned));
        line(&mut text, std::iter::once("---").chain(["---:"; scale::HEADS.len() - 1]).map(str::to_owned));
        scale.iter().for_each(|took| line(&mut text, took.cells()));
    }
    let _ = write!(text, "\n{}\n", escaped(tool::MARKS));
    missing.iter().for_each(|note| {
        let _ = write!(text, "\n{}\n", escaped(note));
    });
    text
}

fn line(text: &mut String, cells: impl IntoIterator<Item = String>) {
    text.push('|');
    for cell in cells {
        let _ = write!(text, " {} |", escaped(&cell));
    }
    text.push('\n');
}

/// Signs that Markdown would take for its own.
fn escaped(text: &str) -> String {
    text.replace('*', "\\*").replace('|', "\\|").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::table::tests::row;
    use crate::bench::tool::Tool;
    use crate::bench::{results::Row, workload::Workload};

    fn section() -> Section {
        let rows = vec![row(Tool::Nothing, 1.0), row(Tool::Heaptrack, 18.0), Row { tool: Tool::Valgrind, cost: None }];
        Section { workload: Workload::unstarted("loop", "a | loop", Some(1_000_000)), rows }
    }

    #[test]
    fn every_line_of_a_table_has_as_many_cells_as_its_head() {
        let text = render(&[section()], &[], &[("processor", "A | B".to_owned())], &[], 5);
        for table in text.split("\n\n").filter(|block| block.starts_with('|')) {
            let bars = |line: &str| line.replace("\\|", "").matches('|').count();
            let lines: Vec<usize> = table.lines().map(bars).collect();
            assert!(lines.len() > 2 && lines.iter().all(|bars| *bars == lines[0]), "{table}");
        }
        assert!(text.contains("| processor | A \\| B |\n| rounds | 5 |\n"), "{text}");
    }

    #[test]
    fn a_row_holds_the_tools_numbers() {
        let text = render(&[section()], &[], &[], &[], 5);
        assert!(text.contains("| heaptrack \\* | 9000 ns | 4500..18000 ns | 18.0x | 1.32 |"), "{text}");
        assert!(text.contains("| Valgrind memcheck \\* | - | - |"), "{text}");
        assert!(text.contains("\n## loop: a \\| loop\n\n|"), "{text}");
    }

    #[test]
    fn a_tool_that_did_not_run_is_explained() {
        let text = render(&[section()], &[], &[], &["It refuses.".to_owned()], 5);
        assert!(text.ends_with("\nIt refuses.\n"), "{text}");
    }
}
