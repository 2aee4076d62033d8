//! Ruby: the methods, files and lines of its stacks against `caller_locations`; a script that leaks is told with its own line.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use memtrace_tests::{
    Memtrace, Stack, Target,
    own_stacks::{Compared, Comparison},
};

/// A long string of Ruby asks for one byte more than it has.
const COMPARISON: Comparison = Comparison { rounds: 200, at_least: 12_000, more: &[1] };

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/ruby_frames.rb")
}

/// Whether what the virtual machine runs stands in the place of each of its own runs, which is not in a stack any more.
fn is_joined(stack: &Stack) -> bool {
    let names: Vec<Option<&str>> = stack.frames.iter().map(|frame| frame.function.as_deref()).collect();
    // What a block in C calls is below that in C.
    let each = names.iter().position(|name| *name == Some("rb_ary_each"));
    let is_called = each.is_none_or(|each| stack.frames[..each].iter().any(|frame| frame.language == "ruby"));
    !names.contains(&Some("rb_vm_exec")) && is_called
}

#[test]
fn every_block_has_the_stack_that_caller_locations_says() -> Result<()> {
    let Compared { blocks, stacks, report } = COMPARISON.run(Command::new("ruby").arg(fixture()))?;
    println!("ruby: {blocks} blocks on {stacks} stacks");
    let is_kept = |stack: &&Stack| {
        let innermost = stack.frames.iter().find(|frame| frame.language == "ruby");
        innermost.is_some_and(|frame| frame.function.as_deref() == Some("keep"))
    };
    for stack in report.stacks.iter().filter(is_kept) {
        ensure!(is_joined(stack), "{stack:#?}");
    }
    Ok(())
}

/// Keeps each of some texts that a method makes: the line of `remember` leaks.
const LEAK: &str = "class Cache
  def initialize
    @entries = []
  end

  def remember(key)
    @entries << key * 300
  end
end

def handle(cache, request)
  [\"a#{request}\", \"b#{request}\"].each { |part| cache.remember(part) }
end

$stdout.sync = true
cache = Cache.new
puts 'ready'
(0..).each do |request|
  handle(cache, request)
  sleep 0.002
end
";

#[test]
fn a_leak_is_told_with_the_line_of_the_script() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let script = folder.path().join("leak.rb");
    fs::write(&script, LEAK)?;
    let mut target = Target::spawn(Command::new("ruby").arg(&script))?;
    ensure!(target.hear()? == "ready");
    let pid = target.pid().to_string();
    let run = Memtrace::start(&["--pid", &pid, "--interval", "1s", "--duration", "14s", "--format", "text"])?;
    let text = run.finish()?.output.join("\n");
    let line = text.lines().find(|line| line.contains("keeps growing")).context("nothing grows")?;
    ensure!(line.contains("remember (leak.rb:7)"), "{line} in {text}");
    ensure!(target.runs()?, "the target ended");
    Ok(())
}
