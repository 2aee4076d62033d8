//! What came of the last trial of each service, kept in Cargo's target folder between runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::load::Done;
use super::service::Service;
use super::trial::{Outcome, Trace};
use crate::tree;

/// Outcomes by the service's name.
#[derive(Default)]
pub struct Results {
    rows: BTreeMap<String, Value>,
}

impl Results {
    /// Those of earlier runs; none where there are none.
    ///
    /// # Errors
    /// When they cannot be read back.
    pub fn read() -> Result<Self> {
        let Ok(text) = fs::read(file()) else { return Ok(Self::default()) };
        let rows = serde_json::from_slice(&text).with_context(|| format!("cannot read {}", file().display()))?;
        Ok(Self { rows })
    }

    /// Takes an outcome in place of an earlier one.
    pub fn take(&mut self, service: &Service, outcome: &Outcome) {
        let trace = |trace: &Option<Trace>| {
            trace.as_ref().map(|Trace { rate, slower, slowdown, finding }| {
                json!({ "rate": rate, "slower": slower, "slowdown": slowdown, "finding": finding.row() })
            })
        };
        let row = json!({
            "versions": outcome.versions,
            "alone": outcome.alone.iter().map(Done::rate).collect::<Vec<_>>(),
            "traced": trace(&outcome.traced),
            "sampled": trace(&outcome.sampled),
            "failure": outcome.failure,
        });
        self.rows.insert(service.name.to_owned(), row);
    }

    /// The outcome of a service, if it was put on trial.
    pub fn of(&self, service: &Service) -> Option<&Value> {
        self.rows.get(service.name)
    }

    /// Keeps them for later runs.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn keep(&self) -> Result<()> {
        fs::write(file(), serde_json::to_vec_pretty(&self.rows)?)
            .with_context(|| format!("cannot write {}", file().display()))
    }
}

fn file() -> PathBuf {
    tree::target().join("services/results.json")
}
