//! A short trace that memtrace does by itself: for an alert, or to count.

use std::time::Duration;

use clap::Parser as _;

use super::{
    flags::Flags,
    resolve::{self, Command, TraceConfig},
};

/// What `memtrace --pid ... --duration TIME` would be, with a dozen intervals, which is
/// enough for a verdict. `None` when there is no process.
pub fn trace_for(pids: &[u32], duration: Duration) -> Option<TraceConfig> {
    let interval = (duration / 12).max(Duration::from_millis(100));
    let times = [("--interval", interval), ("--duration", duration)];
    let times = times.iter().flat_map(|(flag, time)| [(*flag).to_owned(), format!("{}ms", time.as_millis())]);
    let pids = pids.iter().flat_map(|pid| ["--pid".to_owned(), pid.to_string()]);
    let line = std::iter::once("memtrace".to_owned()).chain(pids).chain(times);
    match resolve::resolve(Flags::try_parse_from(line).ok()?) {
        Ok(Command::Trace(config)) => Some(*config),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_trace_is_an_ordinary_one() {
        let config = trace_for(&[7, 8], Duration::from_secs(60)).expect("two processes");
        assert_eq!(
            (config.pids.as_slice(), config.interval, config.duration),
            (&[7, 8][..], Duration::from_secs(5), Some(Duration::from_secs(60)))
        );
        assert_eq!(
            trace_for(&[7], Duration::from_secs(1)).map(|config| config.interval),
            Some(Duration::from_millis(100))
        );
        assert_eq!(trace_for(&[], Duration::from_secs(60)), None);
    }
}
