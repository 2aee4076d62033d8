//! What was not seen, or not at once.

use std::io::{self, Write};

use super::Text;
use crate::report::{
    completeness,
    loss::{is_loss, meaning},
    number::count,
    snapshot::Snapshot,
};

pub fn section(snapshot: &Snapshot, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "<section id=\"losses\">\n<h2>Losses</h2>")?;
    if let Some(sentence) = completeness::sentence(&snapshot.tracer) {
        writeln!(out, "<p>{}.</p>", Text(&sentence))?;
    }
    let counted: Vec<_> = snapshot.loss.iter().filter(|&(_, &number)| number > 0).collect();
    if counted.is_empty() {
        writeln!(out, "<p>Every call was seen, and in time.</p>\n</section>")?;
        return Ok(());
    }
    writeln!(out, "<ul>")?;
    for (name, &number) in counted {
        let (harm, meaning) = meaning(name);
        let class = if is_loss(harm) { "harm" } else { "harmless" };
        writeln!(out, "<li class=\"{class}\"><b>{} {}</b>: {}</li>", count(number), Text(name), Text(meaning))?;
    }
    writeln!(out, "</ul>\n</section>")
}
