//! What came of the last trial of each program, kept in Cargo's target folder between runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::program::Program;
use super::trial::Outcome;
use crate::tree;

/// Outcomes by the program's name.
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
    pub fn take(&mut self, program: &Program, outcome: Outcome) {
        let row = json!({
            "version": outcome.version,
            "rounds": outcome.rounds,
            "attached": outcome.attached,
            "cut_short": outcome.cut_short,
            "refused": outcome.refused(),
            "failure": outcome.failure,
        });
        self.rows.insert(program.name.to_owned(), row);
    }

    /// The outcome of a program, if it was put on trial.
    pub fn of(&self, program: &Program) -> Option<&Value> {
        self.rows.get(program.name)
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
    tree::target().join("survive/results.json")
}
