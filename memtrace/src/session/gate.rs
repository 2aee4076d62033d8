//! What a run decides about a build: suppressions are matched with the growing stacks, and the files that a CI system
//! reads are written at the end.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufWriter, Write as _},
    path::PathBuf,
};

use super::{SessionError, key::Key};
use crate::{
    report::rules::{Names, Suppression},
    report::{
        gate::{Gate, grows},
        group::Group,
        junit, sarif,
        snapshot::{Snapshot, Stack},
    },
    session::GateConfig,
    symbol::{ResolvedStack, Symbolizer},
};

/// The most growing stacks that are compared with the suppressions, and that the files besides the report show: those that
/// grow fastest. What is beyond counts as not suppressed.
const MAX_CANDIDATES: usize = 500;

/// Matches suppressions.
pub(super) struct Gatekeeper {
    suppressions: Vec<Suppression>,
    threshold_bytes_per_hour: Option<f64>,
    used: Vec<bool>,
    /// Which suppression a stack has, if any. Asked again at the end: names may come late.
    known: HashMap<Key, Option<usize>>,
    keeps_all_growing: bool,
}

impl Gatekeeper {
    pub(super) fn new(config: &GateConfig) -> Self {
        Self {
            suppressions: config.suppressions.clone(),
            threshold_bytes_per_hour: config.threshold_bytes_per_hour,
            used: vec![false; config.suppressions.len()],
            known: HashMap::new(),
            keeps_all_growing: config.junit.is_some() || config.sarif.is_some(),
        }
    }

    /// The rate that a growing stack must reach to fail.
    pub(super) const fn threshold(&self) -> Option<f64> {
        self.threshold_bytes_per_hour
    }

    /// Counts what fails.
    pub(super) fn judge(&self, stacks: &[(Key, Stack)], groups: &[Group]) -> Gate {
        Gate::of(stacks.iter().map(|(_, stack)| stack), groups, self.threshold_bytes_per_hour)
    }

    /// Marks a group when one suppression names every one of `members`, its largest stacks.
    pub(super) fn suppress_group(&mut self, group: &mut Group, members: &[Key], symbols: &mut Symbolizer) {
        let resolved: Vec<ResolvedStack> = members.iter().map(|key| symbols.frames(key.0, key.1)).collect();
        let names: Vec<Vec<Names<'_>>> = resolved.iter().map(names).collect();
        let all = |suppression: &Suppression| names.iter().all(|names| suppression.rule.matches(names));
        if let Some(index) = self.suppressions.iter().position(all).filter(|_| !names.is_empty()) {
            self.used[index] = true;
            group.sum.suppressed = Some(self.suppressions[index].rule.to_string());
        }
    }

    /// Marks the growing stacks that a suppression names.
    pub(super) fn suppress(&mut self, stacks: &mut [(Key, Stack)], symbols: &mut Symbolizer, is_final: bool) {
        if !self.suppressions.is_empty() {
            if is_final || self.known.len() > 100 * MAX_CANDIDATES {
                self.known.clear();
            }
            let mut candidates: Vec<&mut (Key, Stack)> = stacks.iter_mut().filter(|(_, stack)| grows(stack)).collect();
            candidates.sort_by(|(_, a), (_, b)| b.growth_bytes_per_hour.total_cmp(&a.growth_bytes_per_hour));
            for (key, stack) in candidates.into_iter().take(MAX_CANDIDATES) {
                let suppressions = &self.suppressions;
                let found = *self.known.entry(*key).or_insert_with(|| {
                    let resolved = symbols.frames(key.0, key.1);
                    let names = names(&resolved);
                    suppressions.iter().position(|suppression| suppression.rule.matches(&names))
                });
                if let Some(index) = found {
                    self.used[index] = true;
                    stack.suppressed = Some(self.suppressions[index].rule.to_string());
                }
            }
        }
    }

    /// Cuts ranked stacks to those that are shown; at the end with every growing one, if a file asks for them.
    pub(super) fn cut(&self, stacks: &mut Vec<(Key, Stack)>, top: usize, is_final: bool) {
        let mut place = 0;
        let mut more = if self.keeps_all_growing && is_final { MAX_CANDIDATES } else { 0 };
        stacks.retain(|(_, stack)| {
            place += 1;
            let extra = place > top && more > 0 && grows(stack);
            more -= usize::from(extra);
            place <= top || extra
        });
    }

    /// Suppressions that never matched a growing stack.
    pub(super) fn unused(&self) -> impl Iterator<Item = &Suppression> {
        self.suppressions.iter().zip(&self.used).filter(|&(_, &used)| !used).map(|(suppression, _)| suppression)
    }
}

/// What patterns look at.
pub(super) fn names(resolved: &ResolvedStack) -> Vec<Names<'_>> {
    let names = resolved.frames.iter().map(|frame| Names {
        function: frame.function.as_deref(),
        module: frame.module.as_deref(),
        file: frame.file.as_deref(),
    });
    names.collect()
}

/// The files besides the report.
pub(super) struct Artifacts {
    junit: Option<Artifact>,
    sarif: Option<Artifact>,
}

struct Artifact {
    path: PathBuf,
    file: File,
}

impl Artifacts {
    /// Opens the files before anything is attached, so that a run is not in vain and no old result is taken for its own.
    pub(super) fn open(config: &GateConfig) -> Result<Self, SessionError> {
        let open = |path: &Option<PathBuf>, flag| {
            let open = |path: &PathBuf| match File::create(path) {
                Ok(file) => Ok(Artifact { path: path.clone(), file }),
                Err(source) => Err(failed(flag, path, source)),
            };
            path.as_ref().map(open).transpose()
        };
        Ok(Self { junit: open(&config.junit, "--junit")?, sarif: open(&config.sarif, "--sarif")? })
    }

    /// Writes them; once, at the end.
    pub(super) fn write(&self, snapshot: &Snapshot) -> Result<(), SessionError> {
        if let Some(Artifact { path, file }) = &self.junit {
            let mut out = BufWriter::new(file);
            let written = junit::render(snapshot, &mut out).and_then(|()| out.flush());
            written.map_err(|source| failed("--junit", path, source))?;
        }
        if let Some(Artifact { path, file }) = &self.sarif {
            // In a build the checkout is where the commands run.
            let root = std::env::current_dir().ok();
            let mut out = BufWriter::new(file);
            let written = sarif::render(snapshot, root.as_deref(), &mut out).and_then(|()| out.flush());
            written.map_err(|source| failed("--sarif", path, source))?;
        }
        Ok(())
    }
}

fn failed(flag: &'static str, path: &std::path::Path, source: io::Error) -> SessionError {
    SessionError::Artifact { flag, path: path.display().to_string(), source }
}
