//! What a service of the trial is: shell scripts that install, build and start it, and how it is traced.
//!
//! The scripts find the folder of the service's sources in `SOURCE`, that of all services' in `SOURCES`, what was installed and built
//! in `BUILD`, an empty folder of the run in `FOLDER`, and a free port in `PORT`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tree;

/// One service.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// What it is called on the command line and in the table.
    pub name: &'static str,
    /// What it does, in a few words.
    pub what: &'static str,
    /// The Debian packages that it takes, besides the load generator.
    pub packages: &'static [&'static str],
    /// Shell: installs public packages in `$BUILD`; runs again only when it is changed.
    pub install: &'static str,
    /// Shell: builds in `$BUILD` what `start` runs; empty where there is nothing to build.
    pub build: &'static str,
    /// Shell: prints the versions of its parts, a line each.
    pub versions: &'static str,
    /// Shell: starts another program that it needs; empty where it needs none.
    pub beside: &'static str,
    /// Shell: becomes the service, by `exec`.
    pub start: &'static str,
    /// Which of its processes are traced.
    pub traced: Traced,
    /// What makes it work.
    pub load: Load,
    /// How many requests or jobs are under way at any moment.
    pub connections: u32,
    /// The language that frames of its own sources have in reports, and a part of these sources' paths; `None` where functions of its
    /// language are not named.
    pub frames: Option<(&'static str, &'static str)>,
}

/// Which processes of a service are traced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Traced {
    /// The one that was started.
    Itself,
    /// The one that was started, and all that it starts.
    WithChildren,
    /// The first one that it started.
    Worker,
}

/// What makes a service work, in a closed loop.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    /// wrk asks for these paths in turn, over connections that stay open where the service lets them.
    Http(&'static str),
    /// This shell script, for `$SECONDS_OF_LOAD` with `$CONNECTIONS` jobs under way; it prints the line that `load.lua` prints.
    Jobs(&'static str),
}

impl Service {
    /// Where its packages are installed and what is built goes.
    pub fn place(&self) -> PathBuf {
        tree::target().join("services").join(self.name)
    }

    /// A shell that runs one of its scripts.
    pub fn shell(&self, script: &str, run: Option<&Run>) -> Command {
        let sources = tree::root().join("xtask/services");
        let mut command = Command::new("sh");
        command.args(["-e", "-c", script]).env("BUILD", self.place()).env("SOURCE", sources.join(self.name));
        command.env("PYTHONPATH", &sources).env("SOURCES", sources);
        command.env("PYTHONDONTWRITEBYTECODE", "1").env("LC_ALL", "C.UTF-8").env("NEXT_TELEMETRY_DISABLED", "1");
        if let Some(run) = run {
            command.env("FOLDER", run.folder).env("PORT", run.port.to_string()).current_dir(run.folder);
            // Some write to the home of who starts them.
            command.env("HOME", run.folder);
        }
        command
    }
}

/// What one run of a service has of its own.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// A folder that was empty at its start.
    pub folder: &'a Path,
    /// The port that it serves at.
    pub port: u16,
}
