//! The tests of one runtime, and what came of them.

use std::fmt;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result};

use super::runtime::{Ready, Runtime};
use crate::process;

/// What came of the tests of a runtime.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Outcome {
    /// The runtime's version.
    pub version: String,
    /// How many tests passed.
    pub passed: usize,
    /// The names of tests that failed, or of groups without a test.
    pub failed: Vec<String>,
    /// What was compared block by block, as the test says it.
    pub compared: Option<String>,
    /// Why there was nothing to test.
    pub obstacle: Option<String>,
}

impl Outcome {
    /// Of a runtime that could not be tried.
    pub fn impossible(error: &anyhow::Error) -> Self {
        Self { obstacle: Some(format!("{error:#}")), ..Self::default() }
    }

    /// Whether all tests passed, and there were some.
    pub fn is_passed(&self) -> bool {
        self.obstacle.is_none() && self.failed.is_empty() && self.passed > 0
    }

    /// Takes what a program of tests printed that was asked for tests whose names have this part.
    fn take(&mut self, asked: &str, printed: &str, has_succeeded: bool) {
        let (mut passed, mut failed) = (0, Vec::new());
        for line in printed.lines() {
            if let Some((name, outcome)) = line.strip_prefix("test ").and_then(|line| line.split_once(" ... ")) {
                match outcome {
                    "ok" => passed += 1,
                    _ => failed.push(name.to_owned()),
                }
            } else if let Some((_, compared)) = line.split_once(": ")
                && compared.contains(" blocks on ")
            {
                self.compared = Some(compared.to_owned());
            }
        }
        // Also where it ended before it could say so.
        if failed.is_empty() && (passed == 0 || !has_succeeded) {
            failed.push(asked.to_owned());
        }
        self.passed += passed;
        self.failed.extend(failed);
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(obstacle) = &self.obstacle {
            return write!(formatter, "not tried: {obstacle}");
        }
        write!(formatter, "{} passed", self.passed)?;
        if !self.failed.is_empty() {
            write!(formatter, ", failed: {}", self.failed.join(", "))?;
        }
        Ok(())
    }
}

/// Runs the tests of a runtime one group after the other, since tests that trace at the same time slow each other down.
///
/// # Errors
/// When cargo cannot be run.
pub fn run(runtime: &Runtime, ready: &Ready, memtrace: &Path) -> Result<Outcome> {
    let mut outcome = Outcome { version: ready.version.clone(), ..Outcome::default() };
    for asked in runtime.tests {
        let mut tests = process::cargo();
        tests.args(["test", "--workspace", "--test", "e2e", "--", "--show-output", asked]);
        tests.env("MEMTRACE_BIN", memtrace).envs(ready.variables.iter().map(|(name, value)| (name, value)));
        let output = tests.stderr(Stdio::inherit()).output().context("cannot run cargo test")?;
        let printed = String::from_utf8_lossy(&output.stdout);
        eprint!("{printed}");
        outcome.take(asked, &printed, output.status.success());
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_counted_and_what_was_compared_is_kept() {
        let mut outcome = Outcome::default();
        outcome.take("a::", "running 2 tests\ntest a::one ... ok\ntest a::two ... ok\n", true);
        outcome.take("b::", "test b::one ... ok\n\n---- b::one stdout ----\n/a/python3: 10 blocks on 3 stacks\n", true);
        assert_eq!(outcome.to_string(), "3 passed");
        assert_eq!(outcome.compared.as_deref(), Some("10 blocks on 3 stacks"));
        assert!(outcome.is_passed());
    }

    #[test]
    fn failures_are_named_and_so_are_groups_without_a_test() {
        let mut outcome = Outcome::default();
        outcome.take("a::", "test a::one ... FAILED\ntest a::two ... ok\n", false);
        outcome.take("b::", "running 0 tests\n", true);
        outcome.take("c::", "test c::one ... ok\n", false);
        assert_eq!(outcome.to_string(), "2 passed, failed: a::one, b::, c::");
        assert!(!outcome.is_passed());
        let outcome = Outcome::impossible(&anyhow::anyhow!("no network"));
        assert_eq!((outcome.to_string().as_str(), outcome.is_passed()), ("not tried: no network", false));
    }
}
