//! What came of the last trial of each of some programs, kept in Cargo's target folder between runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::tree;

/// Outcomes by name, each as a row.
pub struct Outcomes {
    file: PathBuf,
    rows: BTreeMap<String, Value>,
}

impl Outcomes {
    /// None yet; they are kept in a folder of this name.
    pub fn none(folder: &str) -> Self {
        Self { file: tree::target().join(folder).join("results.json"), rows: BTreeMap::new() }
    }

    /// Those of earlier runs that are kept in a folder of this name; none where there are none.
    ///
    /// # Errors
    /// When they cannot be read back.
    pub fn read(folder: &str) -> Result<Self> {
        let mut kept = Self::none(folder);
        if let Ok(text) = fs::read(&kept.file) {
            kept.rows =
                serde_json::from_slice(&text).with_context(|| format!("cannot read {}", kept.file.display()))?;
        }
        Ok(kept)
    }

    /// Takes an outcome in place of an earlier one.
    pub fn take(&mut self, name: &str, row: Value) {
        self.rows.insert(name.to_owned(), row);
    }

    /// The outcome of this name, if there was a trial.
    pub fn of(&self, name: &str) -> Option<&Value> {
        self.rows.get(name)
    }

    /// Keeps them for later runs.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn keep(&self) -> Result<()> {
        fs::write(&self.file, serde_json::to_vec_pretty(&self.rows)?)
            .with_context(|| format!("cannot write {}", self.file.display()))
    }
}
