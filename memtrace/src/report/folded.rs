//! Folded stacks: `main;serve;leak 603340`, the outermost frame first. What flame graph tools read.
//!
//! A `;` in a name is written as `:`, as other tools do, for it separates frames; control characters are escaped. The
//! count follows the last space of the line.

use std::io::{self, Write};

use super::{snapshot::Snapshot, tree::Tree};
use crate::report::form::Metric;

/// Writes one line for each stack that weighs something.
///
/// # Errors
/// The errors of writing to `out`.
pub fn render(snapshot: &Snapshot, metric: Metric, out: &mut dyn Write) -> io::Result<()> {
    for line in Tree::of(snapshot, metric).lines(|node| node.name.to_string()) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn folded(snapshot: &Snapshot, metric: Metric) -> String {
        let mut out = Vec::new();
        render(snapshot, metric, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_outermost_frame_comes_first_and_the_weight_last() {
        assert_eq!(
            folded(&sample::snapshot(), Metric::InuseSpace),
            "[stack ends early];cache_insert 12300000\nlibc.so.6+0x1234;main;handle;leak_here 603340\n"
        );
        assert_eq!(folded(&sample::snapshot(), Metric::Growth), "libc.so.6+0x1234;main;handle;leak_here 36200400\n");
    }

    #[test]
    fn separators_and_line_breaks_in_names_separate_nothing() {
        let mut snapshot = sample::snapshot();
        snapshot.stacks.truncate(1);
        snapshot.stacks[0].frames = vec![sample::frame("take<[u8; 8]>\nevil;main 9", "m", None)];
        assert_eq!(folded(&snapshot, Metric::InuseSpace), "take<[u8: 8]>\\nevil:main 9 603340\n");
    }
}
