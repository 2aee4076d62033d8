//! `--tui` on a real terminal: what the screen shows, what the keys do, and that the terminal is as before afterwards.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use memtrace_tests::{Build, Memtrace, OnTerminal, Report, Target};
use rustix::process::Signal;

const SIZE: (u16, u16) = (120, 40);

fn service() -> Result<Target> {
    let mut service = Target::start(&Build::c("leaky_service.c"), &["100", "1000", "700", "2000"])?;
    service.tell("go")?;
    Ok(service)
}

fn watch(target: &Target, more: &[&str], variables: &[(&str, &str)]) -> Result<OnTerminal> {
    let pid = target.pid().to_string();
    let mut arguments = vec!["--pid", &pid, "--tui", "--interval", "500ms"];
    arguments.extend(more);
    OnTerminal::start(&arguments, variables, SIZE)
}

/// The rows of the list: between its title and that of the selected stack.
fn rows(screen: &vt100::Screen) -> Vec<String> {
    let lines: Vec<String> = screen.rows(0, SIZE.0).map(|line| line.trim_end().to_owned()).collect();
    let from = lines.iter().position(|line| line.contains("VERDICT")).map_or(lines.len(), |title| title + 1);
    lines[from..].iter().take_while(|line| !line.starts_with('#')).filter(|line| !line.is_empty()).cloned().collect()
}

fn is_restored(terminal: &OnTerminal, modes: &str) -> Result<()> {
    let screen = terminal.cells();
    assert!(!screen.alternate_screen() && !screen.hide_cursor(), "{}", terminal.screen());
    assert_eq!(terminal.modes()?, modes);
    Ok(())
}

/// What was written after the view was left.
fn after_the_view(terminal: &OnTerminal) -> Result<String> {
    let written = terminal.written();
    let (_, after) = written.rsplit_once("\x1b[?1049l").context("the view was left")?;
    Ok(after.to_owned())
}

fn last_report(file: &Path) -> Result<Report> {
    let text = fs::read_to_string(file)?;
    assert_eq!(text.lines().count(), 1, "the final report and no other: {text}");
    Report::parse(text.trim_end())
}

#[test]
fn the_growing_leak_is_on_top_the_filter_works_and_q_ends_with_the_report() -> Result<()> {
    let service = service()?;
    let mut terminal = watch(&service, &[], &[])?;
    let modes = terminal.modes()?;
    terminal.until("the leak, growing, in the first row", |screen| {
        rows(screen).first().is_some_and(|row| row.starts_with("growing") && row.contains("leak_here"))
    })?;
    let screen = terminal.until("the frames of the leak", |screen| screen.contents().contains("serve_request"))?;
    for part in
        ["leaky_service.c:", "1 stack keeps growing", "nothing lost", "% of stacks remembered", "memtrace ", "rss "]
    {
        assert!(screen.contains(part), "{part:?} in\n{screen}");
    }
    assert!(screen.contains(&service.pid().to_string()) && terminal.cells().alternate_screen());
    assert_ne!(terminal.modes()?, modes, "keys are heard one by one");

    terminal.press("/CACHE_f\r")?;
    terminal.until("only the cache", |screen| {
        let rows = rows(screen);
        rows.len() == 1 && rows[0].contains("cache_fill")
    })?;
    terminal.press("\x1b")?;
    terminal.until("the leak again", |screen| rows(screen).len() > 1 && rows(screen)[0].contains("leak_here"))?;
    terminal.press("2j")?;
    terminal.until("the cache first by size, and the second row selected", |screen| {
        rows(screen)[0].contains("cache_fill") && screen.contents().contains("#2 of ")
    })?;
    terminal.press("?")?;
    terminal.until("the help", |screen| screen.contents().contains("select a page further"))?;
    terminal.press("xq")?;
    assert_eq!(terminal.ended()?.code(), Some(0));
    is_restored(&terminal, &modes)?;
    let report = after_the_view(&terminal)?;
    assert!(report.contains("keeps growing") && report.contains("leak_here"), "{report}");
    service.exit()
}

#[test]
fn a_termination_gives_the_terminal_back_and_the_report_to_the_file() -> Result<()> {
    let service = service()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("report.json");
    let path = file.to_string_lossy().into_owned();
    let mut terminal = watch(&service, &["--format", "json", "--output", &path], &[("NO_COLOR", "1")])?;
    let modes = terminal.modes()?;
    let screen = terminal.until("a growing stack", |screen| screen.contents().contains("growing"))?;
    let (columns, lines) = SIZE;
    let coloured =
        |row, column| terminal.cells().cell(row, column).is_some_and(|cell| cell.fgcolor() != vt100::Color::Default);
    assert!(!(0..lines).any(|row| (0..columns).any(|column| coloured(row, column))), "no colour is wanted: {screen}");
    terminal.signal(Signal::TERM)?;
    assert_eq!(terminal.ended()?.code(), Some(0));
    is_restored(&terminal, &modes)?;
    assert!(!after_the_view(&terminal)?.contains("leak_here"), "the report goes to the file");
    let report = last_report(&file)?;
    assert!(report.is_final && report.stacks_of("leak_here").next().is_some());
    service.exit()
}

#[test]
fn a_terminal_that_is_closed_ends_the_run_with_its_report() -> Result<()> {
    let service = service()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("report.json");
    let path = file.to_string_lossy().into_owned();
    let mut terminal = watch(&service, &["--format", "json", "--output", &path], &[])?;
    terminal.until("a stack", |screen| !rows(screen).is_empty())?;
    assert_eq!(terminal.hang_up()?.code(), Some(0));
    assert!(last_report(&file)?.stacks_of("leak_here").next().is_some());
    service.exit()
}

#[test]
fn any_size_will_do_and_what_was_said_meanwhile_is_printed_at_the_end() -> Result<()> {
    let mut target = Target::start(&Build::c("execer.c"), &[])?;
    let mut terminal = watch(&target, &[], &[])?;
    terminal.until("the view", vt100::Screen::alternate_screen)?;
    for (columns, lines) in [(20, 5), (3, 2), (200, 50), SIZE] {
        terminal.resize(columns, lines)?;
        terminal.press("j")?;
    }
    target.tell("go")?;
    assert_eq!(target.hear()?, "kept 300");
    target.tell("exec")?;
    terminal.until("the news on the screen", |screen| screen.contents().contains("replaced its program"))?;
    terminal.press("\x03")?;
    assert_eq!(terminal.ended()?.code(), Some(0));
    assert!(after_the_view(&terminal)?.contains("replaced its program"));
    Ok(())
}

#[test]
fn ten_thousand_stacks_are_listed_and_nothing_is_lost() -> Result<()> {
    let mut target = Target::start(&Build::c("many_stacks.c"), &["13"])?;
    let mut terminal = watch(&target, &[], &[])?;
    terminal.until("the view", vt100::Screen::alternate_screen)?;
    target.tell("go")?;
    let all = "8,192 stacks";
    terminal.until("every stack", |screen| screen.contents().contains(all))?;
    terminal.press("G")?;
    terminal.until("the last stack", |screen| screen.contents().contains("#8,192 of 8,192"))?;
    terminal.until("its frames, when its turn has come", |screen| screen.contents().contains("many_stacks.c:"))?;
    assert!(terminal.screen().contains("nothing lost"), "{}", terminal.screen());
    terminal.press("q")?;
    assert_eq!(terminal.ended()?.code(), Some(0));
    target.exit()
}

#[test]
fn without_a_terminal_it_is_bad_usage_that_says_what_to_do() -> Result<()> {
    let service = service()?;
    let finished = Memtrace::start(&["--pid", &service.pid().to_string(), "--tui"])?.finish()?;
    assert_eq!(
        (finished.code(), finished.output.len(), finished.errors.len()),
        (Some(2), 0, 1),
        "{:?}",
        finished.errors
    );
    assert!(finished.errors[0].contains("--tui") && finished.errors[0].contains("terminal"), "{:?}", finished.errors);
    service.exit()
}
