//! The flame graph: outermost functions on top, widths by weight, colours by growth, and by language where nothing grows. The page's script adds search and
//! zoom; without it the names are cut by their boxes, and the rest is in the tooltips.

use std::io::{self, Write};

use super::Text;
use crate::{
    report::form::Metric,
    report::{
        flamegraph::amount,
        snapshot::Snapshot,
        tree::{Tone, Tree},
    },
    runtime::Language,
};

const ROW: usize = 20;

/// Percent of the width below which nothing is drawn.
const NARROW: f64 = 0.1;

/// Boxes that a browser moves at ease.
const MAX_BOXES: usize = 20_000;

const fn class(tone: Tone) -> &'static str {
    match tone {
        Tone::Growing => "growing",
        Tone::Partly => "partly",
        Tone::Level(Language::Python) => "python",
        Tone::Level(Language::Go) => "go",
        Tone::Level(Language::Javascript) => "javascript",
        Tone::Level(Language::Php) => "php",
        Tone::Level(Language::Ruby) => "ruby",
        Tone::Level(Language::Native | Language::Java | Language::Other) => "level",
        Tone::Shrinking => "shrinking",
    }
}

const fn words(tone: Tone) -> &'static str {
    match tone {
        Tone::Growing => "keeps growing",
        Tone::Partly => "some of it grows",
        Tone::Level(Language::Python) => "Python, level or undecided",
        Tone::Level(Language::Go) => "Go, level or undecided",
        Tone::Level(Language::Javascript) => "JavaScript, level or undecided",
        Tone::Level(Language::Php) => "PHP, level or undecided",
        Tone::Level(Language::Ruby) => "Ruby, level or undecided",
        Tone::Level(Language::Native | Language::Java | Language::Other) => "level or undecided",
        Tone::Shrinking => "holds less and less",
    }
}

struct Frame<'a> {
    name: &'a str,
    depth: usize,
    left: f64,
    width: f64,
    weight: u64,
    tone: Tone,
}

pub fn section(snapshot: &Snapshot, metric: Metric, out: &mut dyn Write) -> io::Result<()> {
    let tree = Tree::of(snapshot, metric);
    let frames = layout(&tree);
    let what = metric.words();
    writeln!(out, "<section id=\"flame\">\n<h2>Flame graph: {what} of {}</h2>", amount(metric, tree.total()))?;
    if frames.is_empty() {
        return writeln!(out, "<p>Nothing to draw.</p>\n</section>");
    }
    write!(out, "<p class=\"legend\">")?;
    for tone in tree.tones() {
        write!(out, "<span><b class=\"{}\"></b>{}</span> ", class(tone), words(tone))?;
    }
    let rows = frames.iter().map(|frame| frame.depth).max().unwrap_or(0) + 1;
    writeln!(
        out,
        "</p>\n<p id=\"controls\" hidden><label>Search <input id=\"search\" type=\"search\" spellcheck=\"false\" \
         placeholder=\"function\"></label> <button id=\"reset\" type=\"button\">Show all</button> \
         <output id=\"found\"></output></p>\n<svg id=\"graph\" width=\"100%\" height=\"{}\">",
        rows * ROW
    )?;
    for Frame { name, depth, left, width, weight, tone } in &frames {
        let (class, y) = (class(*tone), depth * ROW);
        let share = *weight as f64 * 100.0 / tree.total().max(1) as f64;
        writeln!(
            out,
            "<svg class=\"f {class}\" x=\"{left:.3}%\" y=\"{y}\" width=\"{width:.3}%\" height=\"{}\"><title>{}: {} \
             ({share:.1}%), {}</title><rect width=\"100%\" height=\"100%\" rx=\"2\"/><text x=\"5\" y=\"14\">{}</text></svg>",
            ROW - 1,
            Text(name),
            amount(metric, *weight),
            words(*tone),
            Text(name),
        )?;
    }
    writeln!(out, "</svg>\n</section>")
}

/// Where each frame goes, in percent of the width and rows from the top.
fn layout(tree: &Tree) -> Vec<Frame<'_>> {
    let mut frames = Vec::new();
    let whole = tree.nodes[0].children.iter().map(|&child| tree.nodes[child].total as f64).sum::<f64>();
    // What is left to place, the next one last: its index, its depth, its left edge.
    let mut rest: Vec<(usize, usize, f64)> = Vec::new();
    let down = |rest: &mut Vec<(usize, usize, f64)>, parent: usize, depth: usize, mut left: f64| {
        let first = rest.len();
        for &child in &tree.nodes[parent].children {
            rest.push((child, depth, left));
            left += 100.0 * tree.nodes[child].total as f64 / whole;
        }
        rest[first..].reverse();
    };
    down(&mut rest, 0, 0, 0.0);
    while let Some((index, depth, left)) = rest.pop() {
        let node = &tree.nodes[index];
        let width = 100.0 * node.total as f64 / whole;
        if width < NARROW || frames.len() >= MAX_BOXES {
            continue;
        }
        frames.push(Frame { name: &node.name, depth, left, width, weight: node.total, tone: node.tone() });
        down(&mut rest, index, depth + 1, left);
    }
    frames
}
