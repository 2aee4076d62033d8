//! One workload under one tool: started, attached to, timed, ended.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::results::{self, Measurement};
use super::tool::Tool;
use super::workload::Workload;

/// What is over sooner is run again, and the middle time counts: a moment's disturbance is as long as a loop that nothing
/// traces. Each time from a new start, since heaps that are warm already would be faster.
const ENOUGH_SECONDS: f64 = 0.3;
/// How often at most.
const STARTS: usize = 9;
/// Twice as long as memtrace leaves events in its ring.
const DRAINED: Duration = Duration::from_millis(100);

/// Measures once; what attaches nothing and is over in a moment, several times.
pub fn make(workload: &Workload, tool: Tool, memtrace: &Path) -> Result<Measurement> {
    let mut measurement = once(workload, tool, memtrace)?;
    let mut times = vec![measurement.seconds];
    while !tool.attaches() && times.len() < STARTS && times.iter().sum::<f64>() < ENOUGH_SECONDS {
        times.push(once(workload, tool, memtrace)?.seconds);
    }
    measurement.seconds = results::median(times.into_iter()).unwrap_or(f64::NAN);
    Ok(measurement)
}

fn once(workload: &Workload, tool: Tool, memtrace: &Path) -> Result<Measurement> {
    let mut target = workload.start(tool)?;
    let attached = tool.attach(target.pid(), memtrace)?;
    let before = attached.processor_seconds()?;
    let seconds = target.work()?;
    if tool.attaches() {
        // The events that wait are part of its work.
        thread::sleep(DRAINED);
    }
    let own = attached.processor_seconds()?.zip(before).map(|(after, before)| after - before);
    let said = attached.detach()?;
    if let (Some(expected), Some(frames)) = (workload.frames, said.frames) {
        ensure!(frames == expected, "the stack has {frames} frames, not {expected}");
    }
    Ok(Measurement { seconds, own_processor_seconds: own, said })
}
