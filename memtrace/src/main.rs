//! The `memtrace` program: parses flags, hands over to the library, and turns its outcome into an exit status.

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
};

use clap::{
    Parser as _,
    error::{ContextKind, ContextValue},
};
use memtrace::program::{
    cli::{self, Command, Flags},
    guard, saved_runs,
    session::{self, SessionError},
};

/// Exit statuses: part of the contract that scripts rely on.
const CANNOT_TRACE: u8 = 1;
const BAD_USAGE: u8 = 2;
const LEAK_FOUND: u8 = 3;
const BLIND: u8 = 4;

fn main() -> ExitCode {
    let flags = match Flags::try_parse() {
        Ok(flags) => flags,
        Err(error) if !error.use_stderr() => error.exit(),
        Err(error) => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            let first = first.strip_prefix("error: ").unwrap_or(first);
            let hint = match (similar(&error), error.get(ContextKind::ValidValue)) {
                (Some(similar), _) => format!("; did you mean {similar}?"),
                (None, Some(ContextValue::Strings(names))) => format!("; it may be {}", names.join(", ")),
                (None, _) => String::new(),
            };
            return fail(BAD_USAGE, &format!("{first}{hint} (see memtrace --help)"));
        }
    };
    let command = match cli::resolve(flags) {
        Ok(command) => command,
        Err(error) => return fail(BAD_USAGE, &error.to_string()),
    };
    if let Err(error) = command.allow_terminal(io::stdout().is_terminal()) {
        return fail(BAD_USAGE, &error.to_string());
    }
    match command {
        Command::Trace(config) => match session::run(&config) {
            Ok(outcome) if outcome.growing && config.gate.fail_on_leak => ExitCode::from(LEAK_FOUND),
            Ok(outcome) if outcome.blind && config.gate.fail_on_leak => ExitCode::from(BLIND),
            Ok(outcome) => {
                match outcome.command.filter(|_| config.targets.launch.is_some_and(|launch| launch.exit_code)) {
                    Some(status) => ExitCode::from(session::shell_status(status)),
                    None => ExitCode::SUCCESS,
                }
            }
            Err(error @ SessionError::NoTerminal) => fail(BAD_USAGE, &error.to_string()),
            Err(error) => fail(CANNOT_TRACE, &error.to_string()),
        },
        Command::Watch(config) => match session::watch(&config) {
            Ok(watched) if watched.alerted && config.fail_on_alert => ExitCode::from(LEAK_FOUND),
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => fail(CANNOT_TRACE, &error.to_string()),
        },
        Command::Mark(pid) => match session::mark(pid) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(CANNOT_TRACE, &error.to_string()),
        },
        Command::Doctor(config) => match session::doctor(&config) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(CANNOT_TRACE),
            Err(error) => fail(CANNOT_TRACE, &error.to_string()),
        },
        Command::AllocationLoop => match session::allocation_loop() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(CANNOT_TRACE, &error.to_string()),
        },
        Command::CodeGuard => match guard::helper::run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(CANNOT_TRACE, &format!("holding targets: {error}")),
        },
        Command::Report(config) => done(saved_runs::report(&config)),
        Command::Diff(config) => done(saved_runs::diff(&config)),
    }
}

/// What clap takes a wrong flag, value or subcommand for.
fn similar(error: &clap::Error) -> Option<String> {
    let kinds = [ContextKind::SuggestedArg, ContextKind::SuggestedValue, ContextKind::SuggestedSubcommand];
    kinds.into_iter().find_map(|kind| match error.get(kind)? {
        ContextValue::String(similar) => Some(similar.clone()),
        ContextValue::Strings(similar) => similar.first().cloned(),
        _ => None,
    })
}

fn done(result: Result<(), saved_runs::SavedRunError>) -> ExitCode {
    result.map_or_else(|error| fail(CANNOT_TRACE, &error.to_string()), |()| ExitCode::SUCCESS)
}

#[expect(clippy::print_stderr, reason = "the one line that says what went wrong")]
fn fail(status: u8, message: &str) -> ExitCode {
    eprintln!("memtrace: {}", message.replace('\n', " "));
    ExitCode::from(status)
}
