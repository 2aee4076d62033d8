//! `docs/services.md`, and the table of slowdowns in the README.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::service::{Load, Service, Traced};
use super::table;
use crate::markdown::cell;
use crate::outcomes::Outcomes;
use crate::tree;

/// Between which lines of the README its table stands.
const BEGIN: &str = "<!-- services: begin, written by `cargo xtask runtimes` -->\n";
const END: &str = "<!-- services: end -->\n";

/// Writes the page, and the README's table.
///
/// # Errors
/// When one cannot be written, or the README has no place for the table.
pub fn write(results: &Outcomes) -> Result<()> {
    let root = tree::root();
    let place = |name: &str| root.join(name);
    fs::write(place("docs/services.md"), page(results)?).context("cannot write docs/services.md")?;
    let readme = fs::read_to_string(place("README.md")).context("cannot read README.md")?;
    let readme = with_table(&readme, &short(results)?).context("README.md has no place for the table of services")?;
    fs::write(place("README.md"), readme).context("cannot write README.md")
}

/// The README with this table in the place that it has for it.
fn with_table(readme: &str, table: &str) -> Option<String> {
    let (before, rest) = readme.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{table}{END}{after}"))
}

/// The README's table.
fn short(results: &Outcomes) -> Result<String> {
    let mut text =
        "| service under load | traced | slowdown | with `--sample 512KiB` |\n|---|---|---:|---:|\n".to_owned();
    for (service, row) in tried(results) {
        let [traced, sampled] = ["traced", "sampled"].map(|name| times(&row[name]["slowdown"]));
        writeln!(text, "| {} | {} | {traced} | {sampled} |", cell(service.what), processes(service))?;
    }
    Ok(text)
}

fn page(results: &Outcomes) -> Result<String> {
    let kernel = rustix::system::uname();
    let mut page = format!(
        "# Real services that were traced under load\n\n\
         Made by `cargo xtask runtimes --services` on Linux {}, {}, with {} processors. The load generator works in a closed loop, on the \
         same processors: wrk with 8 connections, for Celery a program with 8 jobs under way. A service works for 15 seconds before anything is \
         measured. Then it is measured for 15 seconds alone, for some 55 of the 60 seconds that `memtrace --interval 5s --duration 60s` \
         traces it, alone, for as long with `--sample 512KiB`, and alone again. The load goes on while memtrace attaches and detaches. *Slowdown* is the \
         processor time that all of the service's processes use per request, divided by that without memtrace before and after: other \
         work on the machine changes it little. *Rate* is the mean of the rates before and after, divided by the rate in between; it has \
         memtrace's own work and that of the load generator in it, and whatever else the machine did, as rates alone that differ \
         tell.\n\n\
         A service passes when all of its processes live at the end, no request failed at any time, memtrace ended with status 0, no loss \
         makes the report's numbers wrong, no stack is said to leak, and the service's own functions are in the stacks, where memtrace \
         names functions of its language. The services are in `xtask/src/services/table.rs`, their sources in `xtask/services/`; \
         `cargo xtask runtimes --only NAME` runs one of them.\n\n\
         | name | what it is | versions | traced | requests per second: alone | traced | sampled | slowdown | sampled | rate | sampled | allocations per second | \
         stacks with own functions | memtrace says | outcome |\n\
         |---|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|---|\n",
        kernel.release().to_string_lossy(),
        kernel.machine().to_string_lossy(),
        std::thread::available_parallelism().context("how many processors there are")?,
    );
    for (service, row) in tried(results) {
        let alone: Vec<String> = row["alone"].as_array().into_iter().flatten().map(whole).collect();
        let [traced, sampled] = [&row["traced"], &row["sampled"]];
        let finding = &traced["finding"];
        let named = match service.frames {
            Some(_) => format!("{} of {}", finding["named"], finding["stacks"]),
            None => "not named".to_owned(),
        };
        let missing: Vec<&str> =
            finding["missing"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let said = [&[finding["said"].as_str().unwrap_or_default()], &missing[..]].concat().join("; ");
        let outcome = row["failure"].as_str().unwrap_or("passed");
        writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {named} | {} | {} |",
            service.name,
            cell(service.what),
            cell(row["versions"].as_str().unwrap_or_default()),
            processes(service),
            alone.join(", "),
            whole(&traced["rate"]),
            whole(&sampled["rate"]),
            times(&traced["slowdown"]),
            times(&sampled["slowdown"]),
            times(&traced["slower"]),
            times(&sampled["slower"]),
            finding["allocations"].as_u64().map_or_else(|| "-".to_owned(), |count| (count / 60).to_string()),
            cell(&said),
            cell(outcome),
        )?;
    }
    Ok(page)
}

/// The services that were put on trial, with their outcomes.
fn tried(results: &Outcomes) -> impl Iterator<Item = (&'static Service, &Value)> {
    table::SERVICES.iter().filter_map(|service| Some((service, results.of(service.name)?)))
}

/// Which of its processes are traced.
fn processes(service: &Service) -> &'static str {
    match (service.traced, service.load) {
        (Traced::Itself, _) => "its process",
        (Traced::Worker, _) => "the worker",
        (Traced::WithChildren, Load::Jobs(_)) => "worker and its processes (`--follow`)",
        (Traced::WithChildren, Load::Http(_)) => "all its processes (`--follow`)",
    }
}

/// A rate.
fn whole(rate: &Value) -> String {
    rate.as_f64().map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}"))
}

/// A slowdown.
fn times(slowdown: &Value) -> String {
    slowdown.as_f64().map_or_else(|| "-".to_owned(), |slowdown| format!("{slowdown:.2}x"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::finding::Finding;
    use crate::services::load::Done;
    use crate::services::trial::{Outcome, Trace};

    fn done(requests: u64) -> Done {
        Done { requests, seconds: 1.0, ..Done::default() }
    }

    fn results() -> Outcomes {
        let finding =
            Finding { said: "no | leak".to_owned(), allocations: 600, stacks: 9, named: 4, ..Finding::default() };
        let outcome = Outcome {
            versions: "Python 3".to_owned(),
            alone: vec![done(100), done(90)],
            traced: Some(Trace { rate: 40.0, slower: 2.5, slowdown: 2.38, finding }),
            ..Outcome::default()
        };
        let mut results = Outcomes::none("services");
        results.take(table::SERVICES[0].name, outcome.row());
        results.take(table::SERVICES[1].name, Outcome { failure: Some("it ended".to_owned()), ..outcome }.row());
        results
    }

    #[test]
    fn a_service_that_was_tried_has_a_row_and_a_failure_is_told() {
        let page = page(&results()).expect("a page");
        let rows: Vec<&str> = page.lines().filter(|line| line.contains("Python 3")).collect();
        assert_eq!(rows.len(), 2, "{page}");
        let end = "| 100, 90 | 40 | - | 2.38x | - | 2.50x | - | 10 | 4 of 9 | no \\| leak | passed |";
        assert!(rows[0].ends_with(end), "{}", rows[0]);
        assert!(rows[1].ends_with("| it ended |"), "{}", rows[1]);
    }

    #[test]
    fn the_readmes_table_is_replaced_and_the_rest_stays() {
        let table = short(&results()).expect("a table");
        assert!(table.contains("| 2.38x | - |"), "{table}");
        let readme = format!("a\n{BEGIN}old\n{END}b\n");
        assert_eq!(with_table(&readme, &table), Some(format!("a\n{BEGIN}{table}{END}b\n")));
        assert_eq!(with_table("a\n", &table), None);
        let readme = fs::read_to_string(tree::root().join("README.md")).expect("the README");
        assert!(with_table(&readme, &table).is_some());
    }
}
