//! A run that was saved with `--format json`, read back. The file may come from anywhere: what it takes in memory is
//! bounded, and whatever is wrong with it is an error.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
};

use serde::Deserialize;
use thiserror::Error;

use super::{
    escape::escape,
    snapshot::{SCHEMA, Snapshot},
};

/// The longest line that is read; a report of 100,000 stacks of 40 frames has about 600 MB, one of 10,000 has 60.
const MAX_LINE_BYTES: u64 = 1 << 30;

/// What a message quotes of a file.
const QUOTED: usize = 80;

/// A saved run that cannot be used.
#[derive(Debug, Error)]
pub enum SavedError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// There is nothing in it.
    #[error("{path} holds no complete report: save a run with --format json --output FILE")]
    Empty {
        /// The file.
        path: String,
    },
    /// It is something else.
    #[error("{path}, line {line}: not a report of memtrace ({reason}): save a run with --format json --output FILE")]
    Unreadable {
        /// The file.
        path: String,
        /// The line, from 1 on.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// It was written by another version.
    #[error("{path} has the form {found}, this memtrace reads {SCHEMA}: use the memtrace that wrote it")]
    Schema {
        /// The file.
        path: String,
        /// What it says it is.
        found: String,
    },
    /// It takes more memory than is reasonable.
    #[error("{path}, line {line}: longer than {MAX_LINE_BYTES} bytes; save the run with a smaller --top")]
    TooLong {
        /// The file.
        path: String,
        /// The line, from 1 on.
        line: u64,
    },
}

/// The last complete report of a saved run.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved {
    /// The report.
    pub snapshot: Snapshot,
    /// Whether something followed it that is not complete, as after a run that was killed.
    pub cut_short: bool,
}

/// Reads the file; `-` is standard input.
///
/// # Errors
///
/// When it cannot be read, or its last complete line is no report that this version knows.
pub fn load(path: &Path) -> Result<Saved, SavedError> {
    if path == Path::new("-") {
        return read(&mut io::stdin().lock(), "standard input", MAX_LINE_BYTES);
    }
    let name = escape(&path.to_string_lossy()).into_owned();
    let file = File::open(path).map_err(|source| SavedError::Read { path: name.clone(), source })?;
    read(&mut BufReader::with_capacity(1 << 16, file), &name, MAX_LINE_BYTES)
}

fn read(input: &mut dyn BufRead, path: &str, max_line: u64) -> Result<Saved, SavedError> {
    let path = path.to_owned();
    let (mut last, mut last_number) = (Vec::new(), 0);
    let (mut line, mut number) = (Vec::new(), 0);
    let mut rest = None;
    loop {
        line.clear();
        // One more than allowed, to tell a line that is too long.
        let mut bounded = io::Read::take(&mut *input, max_line + 1);
        let length =
            bounded.read_until(b'\n', &mut line).map_err(|source| SavedError::Read { path: path.clone(), source })?;
        if length == 0 {
            break;
        }
        number += 1;
        if length as u64 > max_line {
            return Err(SavedError::TooLong { path, line: number });
        }
        if line.last() != Some(&b'\n') {
            // Complete but for the line's end, or what a killed run left.
            match parse(&line, &path, number) {
                Ok(_) => (last, last_number) = (std::mem::take(&mut line), number),
                Err(error) => rest = Some(error),
            }
        } else if !line.trim_ascii().is_empty() {
            std::mem::swap(&mut last, &mut line);
            last_number = number;
        }
    }
    if last_number == 0 {
        return Err(match rest {
            // Whole, and of another version.
            Some(error @ SavedError::Schema { .. }) => error,
            _ => SavedError::Empty { path },
        });
    }
    Ok(Saved { snapshot: parse(&last, &path, last_number)?, cut_short: rest.is_some() })
}

/// The one field that every version has.
#[derive(Deserialize)]
struct Header {
    schema: Option<String>,
}

fn parse(line: &[u8], path: &str, number: u64) -> Result<Snapshot, SavedError> {
    let unreadable = |reason: String| {
        let reason: String = escape(&reason).chars().take(QUOTED).collect();
        SavedError::Unreadable { path: path.to_owned(), line: number, reason }
    };
    let header: Header = serde_json::from_slice(line).map_err(|error| unreadable(error.to_string()))?;
    match header.schema {
        Some(schema) if schema == SCHEMA => {}
        Some(schema) => {
            let found = escape(&schema).chars().take(QUOTED).collect();
            return Err(SavedError::Schema { path: path.to_owned(), found });
        }
        None => return Err(unreadable("it has no schema".to_owned())),
    }
    serde_json::from_slice(line).map_err(|error| unreadable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::report::{json, sample};

    fn line(elapsed_ms: u64) -> Vec<u8> {
        let mut out = Vec::new();
        json::render(&Snapshot { elapsed_ms, ..sample::snapshot() }, &mut out).unwrap();
        out
    }

    fn read_bytes(bytes: &[u8]) -> Result<Saved, SavedError> {
        read(&mut &*bytes, "run.json", 1 << 20)
    }

    #[test]
    fn the_last_line_counts() {
        let saved = read_bytes(&[line(1), line(2), b"\n".to_vec()].concat()).unwrap();
        assert_eq!((saved.snapshot.elapsed_ms, saved.cut_short), (2, false));
        let whole = line(3);
        let without_end = read_bytes(&whole[..whole.len() - 1]).unwrap();
        assert_eq!((without_end.snapshot.elapsed_ms, without_end.cut_short), (3, false));
    }

    #[test]
    fn what_a_killed_run_left_is_skipped_wherever_it_ends() {
        let (first, second) = (line(1), line(2));
        for length in (1..second.len() - 1).step_by(7) {
            let saved = read_bytes(&[&first, &second[..length]].concat()).unwrap();
            assert_eq!((saved.snapshot.elapsed_ms, saved.cut_short), (1, true), "{length}");
        }
    }

    #[test]
    fn what_is_no_run_is_one_line_that_says_so() {
        let deep =
            [b"{\"schema\":\"memtrace/1\",\"at\":".to_vec(), vec![b'['; 100_000], vec![b']'; 100_000], b"}\n".to_vec()]
                .concat();
        let json = String::from_utf8(line(1)).unwrap();
        let with = |from: &str, to: &str| {
            assert!(json.contains(from), "{from}");
            json.replace(from, to).into_bytes()
        };
        for (bytes, says) in [
            (Vec::new(), "no complete report"),
            (b"\n\n".to_vec(), "no complete report"),
            (b"{\"schema\":\"memtr".to_vec(), "no complete report"),
            (b"hello\n".to_vec(), "line 1: not a report"),
            (b"{}\n".to_vec(), "no schema"),
            (b"[1,2]\n".to_vec(), "not a report"),
            (vec![0xff, 0xfe, b'\n'], "not a report"),
            (b"{\"schema\":\"memtrace/2\",\"new\":true}\n".to_vec(), "memtrace/2"),
            (b"{\"schema\":\"memtrace/2\",\"new\":true}".to_vec(), "memtrace/2"),
            (b"{\"schema\":\"a\\u001b[2J\\n\"}\n".to_vec(), "a\\x1b[2J\\n"),
            (b"{\"schema\":\"memtrace/1\"}\n".to_vec(), "missing field"),
            (deep, "not a report"),
            (with("\"elapsed_ms\":1,", "\"elapsed_ms\":1e999,"), "number out of range"),
            (with("\"elapsed_ms\":1,", "\"elapsed_ms\":-1,"), "invalid value"),
            (with("\"elapsed_ms\":1,", "\"elapsed_ms\":99999999999999999999999,"), "invalid"),
            (with("\"pid\":4242,", "\"pid\":\"\\u001b[31m\","), "expected u32"),
            (with("\"growing\"", "\"rising\""), "unknown variant"),
            ([vec![b' '; (1 << 20) + 1], b"\n".to_vec()].concat(), "line 1: longer than"),
        ] {
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
            let error = read_bytes(&bytes).err().unwrap_or_else(|| panic!("{shown} was read")).to_string();
            assert!(error.contains(says), "{shown}: {error}");
            assert!(error.len() < 300 && !error.chars().any(char::is_control), "{error:?}");
        }
    }

    proptest! {
        #[test]
        fn a_changed_byte_gives_a_report_or_an_error(position in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = line(1);
            let position = position.index(bytes.len());
            bytes[position] = byte;
            let _ = read_bytes(&bytes);
        }
    }
}
