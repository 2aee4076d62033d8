//! Which servers, which folder, which patience: from the flag `--debuginfod` and from the variables that elfutils' client knows
//! (debuginfod-client-config(7)).

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use thiserror::Error;

use super::Options;
use crate::object::bounds::read_small;

/// Where distributions name their servers, in files that end in `.urls`.
const DISTRIBUTION: &str = "/etc/debuginfod";
/// The most servers that are asked.
const MAX_SERVERS: usize = 16;

/// Why it is not known whom to ask, or where to keep files.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum EnvironmentError {
    /// The flag alone, and nothing says which servers there are.
    #[error(
        "--debuginfod: no server is known; name one, such as --debuginfod=https://debuginfod.example.org, or set DEBUGINFOD_URLS"
    )]
    NoServer,
    /// What is not the address of a server.
    #[error(
        "--debuginfod {0}: not the address of a server; write http://HOST or https://HOST, and a space between two"
    )]
    Address(String),
    /// Nowhere to keep files.
    #[error("debug files are kept below the home folder, and HOME is not set: set DEBUGINFOD_CACHE_PATH")]
    NoHome,
}

/// What to ask for debug files, given the flag as typed (`Some(None)` without addresses) and a look at the environment; `None` when
/// nobody asked for that.
///
/// # Errors
///
/// When it was asked for and is not possible.
pub fn options(
    flag: Option<Option<&str>>,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Option<Options>, EnvironmentError> {
    options_with(flag, variable, Path::new(DISTRIBUTION))
}

fn options_with(
    flag: Option<Option<&str>>,
    variable: &dyn Fn(&str) -> Option<OsString>,
    distribution: &Path,
) -> Result<Option<Options>, EnvironmentError> {
    let text = |name| variable(name).and_then(|value| value.into_string().ok());
    let servers = match flag {
        Some(Some(typed)) => {
            let wrong = typed.split_whitespace().find(|word| server(word).is_none());
            if let Some(wrong) = wrong {
                return Err(EnvironmentError::Address(wrong.to_owned()));
            }
            servers(typed)
        }
        Some(None) => {
            let known = servers(&text("DEBUGINFOD_URLS").unwrap_or_default());
            let known = if known.is_empty() { of_distribution(distribution) } else { known };
            if known.is_empty() {
                return Err(EnvironmentError::NoServer);
            }
            known
        }
        None => servers(&text("DEBUGINFOD_URLS").unwrap_or_default()),
    };
    if servers.is_empty() {
        return Ok(None);
    }
    let mut options = Options::new(servers, cache(variable).ok_or(EnvironmentError::NoHome)?);
    let patience =
        text("DEBUGINFOD_TIMEOUT").and_then(|value| value.trim().parse().ok()).filter(|&seconds| seconds > 0);
    if let Some(seconds) = patience {
        options.patience = Duration::from_secs(seconds).min(options.longest);
    }
    Ok(Some(options))
}

/// The addresses among these words. Others stand there too: Fedora says which signatures its client shall want (`ima:enforcing`).
fn servers(text: &str) -> Vec<String> {
    let mut servers: Vec<String> = Vec::new();
    for server in text.split_whitespace().filter_map(server) {
        if !servers.contains(&server) && servers.len() < MAX_SERVERS {
            servers.push(server);
        }
    }
    servers
}

/// The address of a server, without what its every page begins with.
fn server(word: &str) -> Option<String> {
    let address = word.trim_end_matches('/');
    let address = address.strip_suffix("/buildid").unwrap_or(address).trim_end_matches('/');
    let host = address.strip_prefix("https://").or_else(|| address.strip_prefix("http://"))?;
    // It is shown.
    (!host.is_empty() && host.chars().all(|character| character.is_ascii_graphic())).then(|| address.to_owned())
}

/// The servers of the distribution. Shells have them in `DEBUGINFOD_URLS`, which sudo takes away.
fn of_distribution(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut paths: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|ending| ending == "urls")).collect();
    paths.sort();
    let texts = paths.iter().filter_map(|path| read_small(path).ok());
    let text: Vec<String> = texts.map(|text| String::from_utf8_lossy(&text).into_owned()).collect();
    servers(&text.join("\n"))
}

/// The folder that elfutils' client would use.
fn cache(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let path = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(cache) = path("DEBUGINFOD_CACHE_PATH") {
        return Some(cache);
    }
    let base = path("XDG_CACHE_HOME").or_else(|| path("HOME").map(|home| home.join(".cache")))?;
    Some(base.join("debuginfod_client"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(
        flag: Option<Option<&str>>,
        variables: &[(&str, &str)],
        distribution: &Path,
    ) -> Result<Option<Options>, EnvironmentError> {
        let variable = |name: &str| {
            let known = variables.iter().find(|(known, _)| *known == name);
            known.map(|(_, value)| OsString::from(value))
        };
        options_with(flag, &variable, distribution)
    }

    const NOWHERE: &str = "/nowhere/at/all";

    fn servers_of(flag: Option<Option<&str>>, urls: &str) -> Vec<String> {
        let variables = [("HOME", "/root"), ("DEBUGINFOD_URLS", urls)];
        let options = with(flag, &variables, Path::new(NOWHERE)).expect("servers or none");
        options.map_or_else(Vec::new, |options| options.servers)
    }

    #[test]
    fn nobody_is_asked_unless_the_variable_or_the_flag_says_so() {
        assert_eq!(with(None, &[("HOME", "/root")], Path::new(NOWHERE)), Ok(None));
        assert!(servers_of(None, "").is_empty());
        assert!(servers_of(None, "ima:enforcing file:///tmp").is_empty());
        assert!(servers_of(Some(Some("")), "http://a").is_empty(), "the flag without an address turns it off");
    }

    #[test]
    fn addresses_are_read_as_elfutils_does() {
        let urls = "ima:enforcing https://a.example/ ima:ignore http://b.example:8002/buildid http://b.example:8002";
        assert_eq!(servers_of(None, urls), ["https://a.example", "http://b.example:8002"]);
        assert_eq!(servers_of(Some(None), urls), ["https://a.example", "http://b.example:8002"]);
        assert_eq!(servers_of(Some(Some("http://c/d/")), urls), ["http://c/d"]);
    }

    #[test]
    fn the_flag_takes_the_servers_of_the_distribution_when_nobody_named_one() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("one.urls"), "https://one.example\n").expect("room for it");
        fs::write(folder.path().join("one.certs"), "https://other.example\n").expect("room for it");
        let home = [("HOME", "/root")];
        let options = with(Some(None), &home, folder.path()).expect("a server").expect("options");
        assert_eq!(options.servers, ["https://one.example"]);
        assert_eq!(with(None, &home, folder.path()), Ok(None));
        assert_eq!(with(Some(None), &home, Path::new(NOWHERE)), Err(EnvironmentError::NoServer));
        let wrong = with(Some(Some("http://a ftp://b")), &home, Path::new(NOWHERE));
        assert_eq!(wrong, Err(EnvironmentError::Address("ftp://b".to_owned())));
    }

    #[test]
    fn folder_and_patience_are_those_of_elfutils_client() {
        for (variables, folder) in [
            (&[("HOME", "/h")][..], "/h/.cache/debuginfod_client"),
            (&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")], "/x/debuginfod_client"),
            (&[("XDG_CACHE_HOME", "/x"), ("DEBUGINFOD_CACHE_PATH", "/c")], "/c"),
        ] {
            let options = with(Some(Some("http://a")), variables, Path::new(NOWHERE)).expect("a server");
            assert_eq!(options.expect("options").cache, Path::new(folder));
        }
        let nowhere = with(Some(Some("http://a")), &[], Path::new(NOWHERE));
        assert_eq!(nowhere, Err(EnvironmentError::NoHome));
        for (value, seconds) in [("7", 7), ("soon", 90), ("0", 90), ("100000", 600)] {
            let variables = [("HOME", "/h"), ("DEBUGINFOD_TIMEOUT", value)];
            let options = with(Some(Some("http://a")), &variables, Path::new(NOWHERE)).expect("a server");
            assert_eq!(options.expect("options").patience, Duration::from_secs(seconds), "{value}");
        }
    }
}
