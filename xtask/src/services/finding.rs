//! What a report says of a service, as far as the trial asks.

use std::fmt;

use memtrace_common::counter::{Counter, Harm};
use serde_json::{Value, json};

/// What memtrace found.
#[derive(Clone, Debug, Default)]
pub struct Finding {
    /// The state of the report's headline, such as `level`.
    pub state: String,
    /// The headline.
    pub said: String,
    /// Allocations that were seen, those that a sample left out included.
    pub allocations: u64,
    /// Losses by which the report's numbers are wrong, with their counts.
    pub wrong: Vec<String>,
    /// Losses that leave something out of the report's numbers, with their counts.
    pub missing: Vec<String>,
    /// How many stacks of blocks the report has.
    pub stacks: u64,
    /// Those with a frame of the service's own sources.
    pub named: u64,
}

impl Finding {
    /// What a final report says. `frames` is the language and a part of the paths of the service's own sources.
    pub fn of(report: &Value, frames: Option<(&str, &str)>) -> Self {
        let list = |name: &str| report[name].as_array().map(Vec::as_slice).unwrap_or_default();
        let lost = |harm: Harm| {
            let counted = Counter::ALL.iter().filter(|counter| counter.harm() == harm);
            let counted = counted.map(|counter| (counter.name(), report["loss"][counter.name()].as_u64().unwrap_or(0)));
            counted.filter(|(_, count)| *count > 0).map(|(name, count)| format!("{name} {count}")).collect()
        };
        let is_own = |frame: &Value| {
            frames.is_some_and(|(language, source)| {
                frame["language"] == language && frame["file"].as_str().is_some_and(|file| file.contains(source))
            })
        };
        let seen =
            list("processes").iter().filter_map(|process| process["totals"]["allocations"].as_u64()).sum::<u64>();
        let unsampled = report["loss"][Counter::AllocationsUnsampled.name()].as_u64().unwrap_or(0);
        let named =
            list("stacks").iter().filter(|stack| stack["frames"].as_array().is_some_and(|all| all.iter().any(is_own)));
        Self {
            state: report["headline"]["state"].as_str().unwrap_or_default().to_owned(),
            said: report["headline"]["text"].as_str().unwrap_or_default().to_owned(),
            allocations: seen + unsampled,
            wrong: lost(Harm::Wrong),
            missing: lost(Harm::Missing),
            stacks: list("stacks").len() as u64,
            named: named.count() as u64,
        }
    }

    /// It as a row of results.
    pub fn row(&self) -> Value {
        json!({
            "state": self.state,
            "said": self.said,
            "allocations": self.allocations,
            "missing": self.missing,
            "stacks": self.stacks,
            "named": self.named,
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { state, said, allocations, stacks, named, .. } = self;
        write!(out, "{allocations} allocations, own frames in {named} of {stacks} stacks, {state}: {said}")?;
        for lost in self.wrong.iter().chain(&self.missing) {
            write!(out, " [{lost}]")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_of_the_services_own_sources_are_counted_and_losses_told_apart() {
        let frame = |language: &str, file: &str| json!({ "frames": [{ "language": language, "file": file }] });
        let report = json!({
            "headline": { "state": "level", "text": "Nothing grows." },
            "processes": [{ "totals": { "allocations": 3 } }, { "totals": { "allocations": 4 } }],
            "loss": { "allocations_unsampled": 10, "calls_abandoned": 2, "releases_dropped": 1, "stacks_deferred": 9 },
            "stacks": [frame("python", "/x/flask/app.py"), frame("python", "/x/flask/other.py"), frame("native", "flask/app.py")],
        });
        let finding = Finding::of(&report, Some(("python", "flask/app.py")));
        assert_eq!((finding.stacks, finding.named, finding.allocations), (3, 1, 17));
        assert_eq!(finding.wrong, ["releases_dropped 1"]);
        assert_eq!(finding.missing, ["calls_abandoned 2"]);
        assert_eq!(Finding::of(&report, None).named, 0);
    }
}
