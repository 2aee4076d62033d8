//! Whole stacks on code without frame pointers: frame by frame as gdb sees them, and after an exec.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use memtrace_tests::{
    Build, Memtrace, Report, Stack, Target,
    gdb::{GdbFrame, stack_of_malloc},
};

/// The last part of a path, without arguments: what every demangler and debug information agree on. Functions without
/// a name, such as closures, are all `{`.
fn bare(name: &str) -> &str {
    let (mut depth, mut start) = (0_usize, 0);
    for (at, letter) in name.char_indices() {
        match letter {
            '<' | '(' | '{' => depth += 1,
            '>' | ')' | '}' => depth = depth.saturating_sub(1),
            ':' if depth == 0 => start = at + 1,
            _ => {}
        }
    }
    let last = &name[start..];
    let end = last.char_indices().position(|(at, letter)| at > 0 && matches!(letter, '<' | '(' | '{'));
    &last[..end.unwrap_or(last.len()).min(if last.starts_with('{') { 1 } else { last.len() })]
}

/// The one stack that holds one block of this size.
fn stack_of_size(report: &Report, bytes: u64) -> Result<&Stack> {
    let mut stacks = report.stacks.iter().filter(|s| (s.outstanding_blocks, s.outstanding_bytes) == (1, bytes));
    let stack = stacks.next().with_context(|| format!("no block of {bytes} bytes in {:#?}", report.stacks))?;
    ensure!(stacks.next().is_none(), "more than one stack with a block of {bytes} bytes");
    Ok(stack)
}

fn listed(stack: &Stack) -> String {
    let lines = stack.real_frames().map(|f| format!("{} {}", f.address, f.function.as_deref().unwrap_or("?")));
    format!("{}\n({:?})", lines.collect::<Vec<_>>().join("\n"), stack.truncated)
}

fn listed_by_gdb(frames: &[GdbFrame]) -> String {
    let lines = frames.iter().map(|f| format!("{:#x} {}", f.address, f.function.as_deref().unwrap_or("?")));
    lines.collect::<Vec<_>>().join("\n")
}

/// Frame by frame: the addresses are equal, and so are the names where gdb is sure of them.
fn assert_as_in_gdb(what: &str, stack: &Stack, gdb: &[GdbFrame]) -> Result<()> {
    let addresses: Vec<u64> = stack.real_frames().map(|frame| frame.address()).collect::<Result<_>>()?;
    let theirs: Vec<u64> = gdb.iter().map(|frame| frame.address).collect();
    assert_eq!(addresses, theirs, "{what}:\n{}\ngdb:\n{}", listed(stack), listed_by_gdb(gdb));
    for (frame, theirs) in stack.real_frames().zip(gdb) {
        if let Some(name) = &theirs.function {
            let ours = frame.function.as_deref().unwrap_or("");
            assert_eq!(bare(ours), bare(name), "{what}: {ours} and gdb's {name}");
        }
    }
    assert_eq!(stack.truncated, None, "{what}:\n{}", listed(stack));
    Ok(())
}

/// Gives each command with a size of its own while memtrace watches, and again under gdb; compares, and returns the
/// stacks in the order of the commands.
fn compare_with_gdb(mut target: Target, prepare: &[&str], commands: &[&str]) -> Result<Vec<Stack>> {
    let pid = target.pid();
    let sizes = || (1_000_003..).step_by(2);
    let mut memtrace = Memtrace::attach(pid, &[])?;
    target.tell("go")?;
    for command in prepare {
        target.tell(command)?;
        assert_eq!(target.hear()?, "done");
        // The tables of what the command has mapped are there one interval later.
        for _ in 0..2 {
            memtrace.next_report()?;
        }
    }
    for (command, bytes) in commands.iter().zip(sizes()) {
        target.tell(&command.replace("BYTES", &bytes.to_string()))?;
        assert_eq!(target.hear()?, "done");
    }
    let report = memtrace.interrupt()?.final_report()?;
    let mut stacks = Vec::new();
    for (command, bytes) in commands.iter().zip(sizes()) {
        let told = command.replace("BYTES", &bytes.to_string());
        let gdb = stack_of_malloc(pid, bytes, || target.tell(&told)).with_context(|| told.clone())?;
        assert_eq!(target.hear()?, "done");
        let stack = stack_of_size(&report, bytes)?;
        assert_as_in_gdb(&told, stack, &gdb)?;
        stacks.push(stack.clone());
    }
    target.exit()?;
    Ok(stacks)
}

fn assert_mentions(stack: &Stack, functions: &[&str]) {
    for function in functions {
        assert!(stack.mentions(function), "{function} in\n{}", listed(stack));
    }
}

#[test]
fn stacks_of_c_are_those_of_gdb() -> Result<()> {
    let target = Target::start(&Build::c("call_chain.c").without_frame_pointers(), &[])?;
    let stacks = compare_with_gdb(target, &[], &["once BYTES", "leaf BYTES", "deep BYTES 50"])?;
    let chain = ["leak_here", "with_many_registers", "with_aligned_frame", "with_pushed_arguments"];
    assert_mentions(&stacks[0], &chain);
    assert_mentions(&stacks[0], &["with_frame_of_changing_size", "compare", "through_libc", "serve", "main", "_start"]);
    assert_eq!(stacks[2].frames.iter().filter(|frame| frame.function.as_deref() == Some("deeper")).count(), 51);
    Ok(())
}

#[test]
fn stacks_of_cpp_are_those_of_gdb() -> Result<()> {
    let target = Target::start(&Build::cpp("cpp_chain.cpp").without_frame_pointers(), &[])?;
    let stacks = compare_with_gdb(target, &[], &["once BYTES", "catch BYTES", "unwind BYTES"])?;
    assert_mentions(&stacks[0], &["ByNew::now", "inlined_twice", "descend", "in_lambda", "main", "_start"]);
    assert_mentions(&stacks[1], &["ByNew::now", "in_handler", "main", "_start"]);
    assert_mentions(&stacks[2], &["ByNew::now", "OnTheWayOut", "fails_with_cleanup", "in_cleanup", "main", "_start"]);
    Ok(())
}

#[test]
fn stacks_of_rust_are_those_of_gdb() -> Result<()> {
    let target = Target::start(&Build::rust("rust_chain.rs").without_frame_pointers(), &[])?;
    let stacks = compare_with_gdb(target, &[], &["once BYTES", "panic BYTES", "thread BYTES"])?;
    assert_mentions(&stacks[0], &["ByVector", "generic", "main", "_start"]);
    assert_mentions(&stacks[1], &["ByVector", "OnTheWayOut", "panics", "main", "_start"]);
    assert_mentions(&stacks[2], &["ByVector"]);
    Ok(())
}

#[test]
fn stacks_of_a_library_that_was_loaded_after_the_attach_are_those_of_gdb() -> Result<()> {
    let library = Build::library("plugin.c").without_frame_pointers().compile()?;
    let library = path_text(&library)?;
    let target = Target::start(&Build::c("plugin_host.c").without_frame_pointers(), &[library])?;
    let stacks = compare_with_gdb(target, &["load"], &["once BYTES"])?;
    assert_mentions(
        &stacks[0],
        &["plugin_leaks", "back_in_host", "plugin_middle", "plugin_run", "call_plugin", "main"],
    );
    Ok(())
}

#[test]
fn a_handlers_stack_goes_on_with_the_interrupted_function() -> Result<()> {
    for arguments in [&[][..], &["alternate"]] {
        let target = Target::start(&Build::c("signal_leak.c").without_frame_pointers(), arguments)?;
        let stacks = compare_with_gdb(target, &[], &["once BYTES", "first BYTES"])?;
        assert_mentions(&stacks[0], &["handler_leaks", "handle", "interrupted", "works", "main", "_start"]);
        assert_mentions(&stacks[1], &["handler_leaks", "handle", "interrupted_at_once", "works", "main", "_start"]);
    }
    Ok(())
}

#[test]
fn a_stack_deeper_than_127_frames_is_cut_and_says_so() -> Result<()> {
    let mut target = Target::start(&Build::c("call_chain.c").without_frame_pointers(), &[])?;
    let memtrace = Memtrace::attach(target.pid(), &[])?;
    target.tell("go")?;
    target.tell("deep 1000003 500")?;
    assert_eq!(target.hear()?, "done");
    let report = memtrace.interrupt()?.final_report()?;
    let stack = stack_of_size(&report, 1_000_003)?;
    assert_eq!(stack.truncated.as_deref(), Some("deeper than 127 frames"));
    assert_eq!((stack.real_frames().count(), stack.caller()), (127, "leak_here"));
    assert!(stack.real_frames().skip(1).all(|frame| frame.function.as_deref() == Some("deeper")), "{stack:#?}");
    target.exit()
}

#[test]
fn stacks_are_whole_under_a_new_image() -> Result<()> {
    let mut execer = Target::start(&Build::c("execer.c").without_frame_pointers(), &[])?;
    let pid = execer.pid();
    let mut memtrace = Memtrace::attach(pid, &[])?;
    execer.tell("go")?;
    assert_eq!(execer.hear()?, "kept 300");
    execer.tell("exec")?;
    assert!(execer.hear()?.starts_with("ready "));
    memtrace.report_where("whole stacks of the second image", |report| {
        report.stacks_of("after_exec").any(|stack| stack.truncated.is_none() && stack.outstanding_blocks > 500)
    })?;
    let report = memtrace.interrupt()?.final_report()?;
    for function in ["before_exec", "after_exec"] {
        let whole = report.stacks_of(function).find(|stack| stack.truncated.is_none());
        assert_mentions(whole.with_context(|| format!("{function} in {:#?}", report.stacks))?, &["main", "_start"]);
    }
    let gdb = stack_of_malloc(pid, 64, || Ok(()))?;
    let whole = report.stacks_of("after_exec").find(|stack| stack.truncated.is_none());
    assert_as_in_gdb("after exec", whole.context("a whole stack")?, &gdb)?;
    execer.exit()
}

#[test]
fn remembered_stacks_are_those_that_a_walk_gives_and_nearly_all_are_whole() -> Result<()> {
    for build in [Build::c("every_call.c"), Build::c("every_call.c").without_frame_pointers()] {
        let mut target = Target::start(&build, &["4", "7"])?;
        let memtrace = Memtrace::attach(target.pid(), &["--verify-stacks"])?;
        target.tell("go")?;
        target.hear()?;
        let report = memtrace.interrupt()?.final_report()?;
        target.exit()?;
        let tracer = &report.tracer;
        assert!(tracer.stacks_remembered > 10_000, "{tracer:?}");
        assert_eq!(tracer.stacks_wrong, 0, "{tracer:?}");
        let sum = |whole: bool| -> u64 {
            report.stacks.iter().filter(|stack| stack.truncated.is_none() == whole).map(|stack| stack.allocations).sum()
        };
        let (whole, short) = (sum(true), sum(false));
        assert!(whole > 40_000 && short * 100 <= whole, "{whole} allocations have whole stacks, {short} have not");
    }
    Ok(())
}

fn path_text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}
