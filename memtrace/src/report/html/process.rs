//! The memory footprint: what each process held in all, as the system and the allocator's calls have it.

use std::io::{self, Write};

use super::Text;
use crate::report::{
    footprint,
    number::{bytes, count},
    snapshot::{Process, Snapshot},
};

pub fn section(snapshot: &Snapshot, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "<section id=\"processes\">\n<h2>Process memory</h2>\n<div class=\"wide\"><table>\n<thead><tr><th>pid</th>\
         <th>command</th><th class=\"n\">resident</th><th class=\"n\">outstanding</th><th class=\"n\">blocks</th>\
         <th class=\"n\">mapped</th><th class=\"n\">allocations</th><th class=\"n\">frees</th></tr></thead>\n<tbody>"
    )?;
    for process in &snapshot.processes {
        row(process, out)?;
        let sentences = footprint::sentences(process, true);
        if !sentences.is_empty() {
            writeln!(
                out,
                "<tr class=\"footprint\"><td></td><td colspan=\"7\">{}</td></tr>",
                Text(&sentences.join(". "))
            )?;
        }
    }
    writeln!(
        out,
        "</tbody></table></div>\n<p class=\"note\">Outstanding and mapped: allocated since the attach and alive. What was \
         there before is part of the resident bytes only.</p>\n</section>"
    )
}

fn row(process: &Process, out: &mut dyn Write) -> io::Result<()> {
    let totals = &process.totals;
    let ended = if process.exited { " (ended)" } else { "" };
    writeln!(
        out,
        "<tr><td>{}{ended}</td><td class=\"name\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
         <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
        process.pid,
        Text(&process.command),
        bytes(process.rss_bytes),
        bytes(totals.outstanding_bytes),
        count(totals.outstanding_blocks),
        bytes(totals.mapped_bytes),
        count(totals.allocations),
        count(totals.frees),
    )
}
