//! `bench`: what tracing costs, as ratios of added time. Every round runs each workload under each tool once, so that a
//! machine whose speed drifts slows all of them alike; ratios are taken within a round, and their median is shown.

mod table;
mod tool;
mod workload;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::{Result, ensure};

use self::{
    table::Results,
    tool::{Said, Tool},
    workload::Workload,
};
use crate::{debian, packages, process};

/// Runs the benchmark and prints its table.
pub fn run(rounds: u32) -> Result<ExitCode> {
    process::as_root("true", "tracing")?;
    debian::install("The benchmark", packages::BENCH)?;
    let memtrace = process::build_memtrace()?;
    let workloads = [workload::malloc_loop()?, workload::deep_loop()?, workload::sqlite()?];
    let terminal = std::io::stderr().is_terminal();
    for workload in &workloads {
        println!("\n{}", workload.title());
        let mut results = Results::default();
        for round in 1..=rounds {
            for tool in Tool::ALL {
                if terminal {
                    eprint!("\rround {round} of {rounds}: {:<40}", tool.name());
                }
                results.add(tool, measure(workload, tool, &memtrace)?);
            }
        }
        if terminal {
            eprint!("\r{:60}\r", "");
        }
        print!("{}", results.render(workload.operations()));
    }
    println!("\nRatios hold from run to run; times do not: compare within one table.");
    Ok(ExitCode::SUCCESS)
}

/// One run of one workload under one tool.
struct Measurement {
    /// What the workload took.
    seconds: f64,
    /// What the tool says of itself.
    said: Said,
}

fn measure(workload: &Workload, tool: Tool, memtrace: &std::path::Path) -> Result<Measurement> {
    let mut target = workload.start()?;
    let attached = tool.attach(target.pid(), memtrace)?;
    let seconds = target.work()?;
    let said = attached.detach()?;
    if let (Some(expected), Some(frames)) = (workload.frames(), said.frames) {
        ensure!(frames == expected, "{}: the stack has {frames} frames, not {expected}", workload.title());
    }
    Ok(Measurement { seconds, said })
}
