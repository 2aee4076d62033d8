//! The trial of one service: alone, traced, alone, traced by a sample, and alone again, all under the same load.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::finding::Finding;
use super::load::Done;
use super::server::Server;
use super::service::Service;
use super::tracer::Tracer;
use crate::process;

/// How long a service works before anything is measured, in seconds: caches fill, and compilers at run time have compiled.
const WARM: u64 = 15;
/// How long each measurement without memtrace takes, in seconds.
const ALONE: u64 = 15;
/// How long memtrace traces.
const TRACED: Duration = Duration::from_secs(60);
/// How long each of the loads takes that go on while memtrace attaches and detaches, in seconds.
const AROUND: u64 = 3;
/// How long after the attach its measurement begins.
const SETTLED: Duration = Duration::from_secs(1);
/// How long before the end of the trace its measurement ends.
const MARGIN: Duration = Duration::from_secs(2);
/// How memtrace traces: the name of the file of its reports, and its options.
type Way = (&'static str, &'static [&'static str]);
/// Every block.
const WHOLE: Way = ("traced.json", &[]);
/// A sample.
const SAMPLE: Way = ("sampled.json", &["--sample", "512KiB"]);

/// What came of a trial.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The versions of the service's parts.
    pub versions: String,
    /// What it did without memtrace: before, between and after the traces.
    pub alone: Vec<Done>,
    /// What was measured with memtrace's default options.
    pub traced: Option<Trace>,
    /// What was measured with `--sample`.
    pub sampled: Option<Trace>,
    /// Requests or jobs that failed at any time.
    pub failed: u64,
    /// Why it is not as it must be: the service ended or failed a request, memtrace failed, or found a leak.
    pub failure: Option<String>,
}

/// What was measured while memtrace traced.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Requests or jobs per second.
    pub rate: f64,
    /// The mean of the rates without memtrace, before and after, divided by this rate.
    pub slower: f64,
    /// Processor time per request or job, divided by the mean of that without memtrace, before and after.
    pub slowdown: f64,
    /// What memtrace found.
    pub finding: Finding,
}

impl Outcome {
    /// It as a row of results.
    pub fn row(&self) -> Value {
        let trace = |trace: &Option<Trace>| {
            trace.as_ref().map(|Trace { rate, slower, slowdown, finding }| {
                json!({ "rate": rate, "slower": slower, "slowdown": slowdown, "finding": finding.row() })
            })
        };
        json!({
            "versions": self.versions,
            "alone": self.alone.iter().map(Done::rate).collect::<Vec<_>>(),
            "traced": trace(&self.traced),
            "sampled": trace(&self.sampled),
            "failure": self.failure,
        })
    }

    /// A line that tells it.
    pub fn line(&self) -> String {
        let rates: Vec<String> = self.alone.iter().map(|done| format!("{:.0}", done.rate())).collect();
        let mut line = format!("alone {}/s", rates.join(", "));
        for (name, trace) in [("traced", &self.traced), ("sampled", &self.sampled)] {
            if let Some(trace) = trace {
                line += &format!(
                    "; {name} {:.0}/s, {:.2} times slower, {:.2} times the processor time, {}",
                    trace.rate, trace.slower, trace.slowdown, trace.finding
                );
            }
        }
        line + &format!("; {} failed", self.failed)
            + &self.failure.as_ref().map_or_else(String::new, |why| format!("; FAILED: {why}"))
    }
}

/// Puts a service on trial.
pub fn run(service: &'static Service, memtrace: &Path) -> Outcome {
    let mut outcome = Outcome::default();
    if let Err(error) = attempt(service, memtrace, &mut outcome) {
        outcome.failure = Some(format!("{error:#}"));
    }
    outcome
}

fn attempt(service: &'static Service, memtrace: &Path, outcome: &mut Outcome) -> Result<()> {
    let versions = process::output(&mut service.shell(service.versions, None)).context("its versions")?;
    outcome.versions = versions.lines().map(str::trim).collect::<Vec<_>>().join(", ");
    let mut server = Server::start(service)?;
    outcome.failed += server.work(WARM)?.failed;
    alone(&mut server, outcome)?;
    let whole = traced(service, &mut server, memtrace, WHOLE, outcome).context("traced")?;
    outcome.traced = Some(whole);
    let sampled = traced(service, &mut server, memtrace, SAMPLE, outcome).context("traced by a sample")?;
    outcome.sampled = Some(sampled);
    judge(service, outcome)
}

/// Measures without memtrace.
fn alone(server: &mut Server, outcome: &mut Outcome) -> Result<Done> {
    let done = server.work(ALONE)?;
    outcome.failed += done.failed;
    outcome.alone.push(done);
    Ok(done)
}

/// Measures while memtrace traces, and again when it is gone. The load goes on while it attaches and detaches.
fn traced(
    service: &Service,
    server: &mut Server,
    memtrace: &Path,
    (file, flags): Way,
    outcome: &mut Outcome,
) -> Result<Trace> {
    let before = *outcome.alone.last().context("it was not measured before")?;
    let mut tracer = Tracer::start(memtrace, &server.target()?, flags, TRACED, service.place().join(file))?;
    while !tracer.is_attached()? {
        outcome.failed += server.work(AROUND)?.failed;
    }
    let since = Instant::now();
    // The first second has more to do than the others.
    thread::sleep(SETTLED);
    let left = TRACED.saturating_sub(MARGIN + since.elapsed());
    let during = server.work(left.as_secs())?;
    let report = loop {
        outcome.failed += server.work(AROUND)?.failed;
        if let Some(report) = tracer.report()? {
            break report;
        }
    };
    outcome.failed += during.failed;
    let after = alone(server, outcome)?;
    ensure!([before, during, after].iter().all(|done| done.requests > 0), "it did nothing");
    Ok(Trace {
        rate: during.rate(),
        slower: (before.rate() + after.rate()) / 2.0 / during.rate(),
        slowdown: during.each() / ((before.each() + after.each()) / 2.0),
        finding: Finding::of(&report, service.frames),
    })
}

/// Whether all is as it must be.
fn judge(service: &Service, outcome: &Outcome) -> Result<()> {
    ensure!(outcome.failed == 0, "{} requests failed", outcome.failed);
    for trace in [&outcome.traced, &outcome.sampled].into_iter().flatten() {
        let finding = &trace.finding;
        ensure!(finding.allocations > 0, "memtrace saw no allocation");
        ensure!(finding.wrong.is_empty(), "the report's numbers are wrong by {}", finding.wrong.join(", "));
        ensure!(finding.state != "growing", "memtrace says that it leaks: {}", finding.said);
    }
    if let (Some((language, source)), Some(trace)) = (service.frames, &outcome.traced) {
        ensure!(trace.finding.named > 0, "no stack has a frame of {language} in {source}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::table;

    fn outcome() -> Outcome {
        let finding = Finding { allocations: 5, stacks: 4, named: 2, state: "level".to_owned(), ..Finding::default() };
        let trace = Trace { rate: 50.0, slower: 2.0, slowdown: 2.0, finding };
        Outcome { traced: Some(trace.clone()), sampled: Some(trace), ..Outcome::default() }
    }

    fn changed(change: impl Fn(&mut Finding)) -> Outcome {
        let mut outcome = outcome();
        change(&mut outcome.traced.as_mut().expect("a trace").finding);
        outcome
    }

    #[test]
    fn a_failed_request_a_leak_a_loss_and_a_stack_without_names_each_fail_the_trial() {
        let service = &table::SERVICES[0];
        assert!(judge(service, &outcome()).is_ok());
        assert!(judge(service, &Outcome { failed: 1, ..outcome() }).is_err());
        assert!(judge(service, &changed(|finding| finding.state = "growing".to_owned())).is_err());
        assert!(judge(service, &changed(|finding| finding.wrong = vec!["releases_dropped 1".to_owned()])).is_err());
        assert!(judge(service, &changed(|finding| finding.allocations = 0)).is_err());
        assert!(judge(service, &changed(|finding| finding.named = 0)).is_err());
    }
}
