//! A PostgreSQL for one test: a database in a temporary folder, served on a socket there, by a user of few rights.

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::{Service, Target, wait};

/// Debian's `nobody`: PostgreSQL refuses root.
const NOBODY: u32 = 65534;

/// A PostgreSQL of our own in a folder, on a socket in it.
pub struct Postgres {
    server: Service,
    programs: PathBuf,
    folder: tempfile::TempDir,
}

impl Postgres {
    /// Makes a database and starts a server, and waits until it answers.
    ///
    /// # Errors
    /// When PostgreSQL is not installed, or does not start.
    pub fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700))?;
        chown(folder.path(), Some(NOBODY), Some(NOBODY)).context("giving the folder to nobody")?;
        let programs = postgres_programs()?;
        let data = folder.path().join("data");
        let mut initdb = as_nobody(&programs.join("initdb"), folder.path());
        initdb.args(["--no-sync", "--auth", "trust", "--username", "bench", "--locale", "C", "--pgdata"]).arg(&data);
        run(&mut initdb)?;
        let mut server = as_nobody(&programs.join("postgres"), folder.path());
        server.args(["-c", "listen_addresses=", "-c", "fsync=off", "-D"]).arg(&data).arg("-k").arg(folder.path());
        // At once, and with all of its processes; the data go with the folder.
        let server = Service::spawn(&mut server, Signal::QUIT)?;
        let postgres = Self { server, programs, folder };
        wait::until("PostgreSQL", || Ok(postgres.query("select 1").ok()))?;
        Ok(postgres)
    }

    /// The folder, which only its user may enter.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Whether the server still runs.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn runs(&mut self) -> Result<bool> {
        self.server.runs()
    }

    /// A client program of its, as its user, on its socket.
    pub fn client(&self, program: &str) -> Command {
        let mut command = as_nobody(&self.programs.join(program), self.folder.path());
        command.arg("-h").arg(self.folder.path()).args(["-U", "bench"]);
        command
    }

    /// What `psql` prints for a query: a line a row.
    ///
    /// # Errors
    /// When the server refuses it.
    pub fn query(&self, query: &str) -> Result<String> {
        let output = self.client("psql").args(["-X", "-A", "-t", "-c", query, "postgres"]).output()?;
        ensure!(output.status.success(), "{query}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Where Debian has the newest version's programs.
fn postgres_programs() -> Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").context("looking for PostgreSQL (is it installed?)")?;
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let folders = versions.filter_map(|entry| Some(entry.ok()?.path()));
    let servers = folders.filter(|folder| folder.join("bin/initdb").exists());
    Ok(servers.max_by_key(number).context("no version of PostgreSQL is there")?.join("bin"))
}

fn as_nobody(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.uid(NOBODY).gid(NOBODY).current_dir(folder);
    command
}

/// Runs a program to its end.
///
/// # Errors
/// When that is not a good one, or does not come by the deadline.
pub fn run(command: &mut Command) -> Result<()> {
    let status = Target::spawn(command)?.ended()?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
