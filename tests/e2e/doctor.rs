//! What doctor says of a machine and of processes, and what it counts.

use std::process::{Command, Output};

use anyhow::{Context, Result};
use memtrace_tests::{Build, Target, cgroup::LimitedCgroup, memtrace};
use serde_json::Value;

fn doctor(arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(memtrace::program()?).arg("doctor").args(arguments).output()?)
}

fn findings(arguments: &[&str]) -> Result<Value> {
    let output = doctor(&[arguments, &["--format", "json"]].concat())?;
    let said = String::from_utf8(output.stdout)?;
    assert_eq!(output.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.lines().count(), 1, "one object: {said}");
    Ok(serde_json::from_str(&said)?)
}

#[test]
fn rates_and_slowdown_are_counted_and_the_targets_run_on() -> Result<()> {
    let mut busy = Target::start(&Build::c("leaky_service.c"), &["100", "200", "700", "2000"])?;
    busy.tell("go")?;
    let idle = Target::start(&Build::c("leaky_service.c"), &["100", "1000", "700", "2000"])?;
    let pids = [busy.pid(), idle.pid()].map(|pid| pid.to_string());
    let found = findings(&["--pid", &pids[0], "--pid", &pids[1], "--measure=1s"])?;

    assert_eq!((&found["schema"], &found["works"]), (&Value::from("memtrace-doctor/1"), &Value::from(true)));
    assert!(found["unwind"]["rows"].as_u64() > Some(1000), "{}", found["unwind"]);
    let measured = &found["measured"];
    assert_eq!(measured["lost"], 0);
    assert!(measured["pair_ns"].as_f64() > Some(0.0) && measured["whole_stacks"].as_f64() > Some(0.99), "{measured}");
    let (rates, number) = (measured["processes"].as_array().context("rates")?, Value::as_f64);
    let [busy_rate, idle_rate] = rates.as_slice() else { panic!("two processes: {measured}") };
    // It allocates three blocks a tick and releases some.
    let (allocations, releases) =
        (number(&busy_rate["allocations_per_second"]), number(&busy_rate["releases_per_second"]));
    assert!(allocations > releases && releases > Some(0.0), "{busy_rate}");
    assert!(number(&busy_rate["slowdown"]) > Some(1.0), "{busy_rate}");
    assert_eq!((&idle_rate["allocations_per_second"], &idle_rate["slowdown"]), (&0.0.into(), &Value::Null));

    assert!(busy.runs()?);
    drop(busy);
    idle.exit()
}

#[test]
fn every_process_of_a_cgroup_is_looked_at() -> Result<()> {
    let group = LimitedCgroup::new(64 << 20)?;
    let service = group.start(&Build::c("leaky_service.c"), &["100", "1000", "700", "2000"])?;
    let directory = group.directory().to_string_lossy().into_owned();
    let found = findings(&["--cgroup", &directory])?;
    let processes = found["processes"].as_array().context("processes")?;
    let pids: Vec<_> = processes.iter().map(|process| process["pid"].as_u64()).collect();
    assert_eq!(pids, [Some(u64::from(service.pid()))]);
    let sites = processes[0]["sites"].as_array().context("sites")?;
    assert!(sites.iter().any(|site| site["function"] == "malloc" && site["emulated"] == true), "{sites:?}");
    assert_eq!((&processes[0]["refused"], &found["measured"]), (&Value::Null, &Value::Null));
    service.exit()?;
    group.remove()
}

#[test]
fn a_process_that_is_not_there_is_one_line() -> Result<()> {
    let output = doctor(&["--pid", "4194999"])?;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    Ok(())
}
