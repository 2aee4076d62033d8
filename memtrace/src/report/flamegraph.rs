//! The flame graph: an SVG with search and zoom, its colours telling what grows.
//!
//! The layout is inferno's. It colours by name, and here the same function may grow in one place and be level in another;
//! so each frame's name carries its tone as one of the annotations that inferno takes off before it shows a name.

use std::io::{self, Write};

use inferno::flamegraph::{
    Options, TextTruncateDirection,
    color::{BackgroundColor, Color, PaletteMap},
    from_lines,
};

use super::{
    number::{bytes, count, duration, rate},
    snapshot::Snapshot,
    tree::{Node, Tone, Tree},
};
use crate::{report::form::Metric, runtime::Language};

/// Sums above it would overflow in the layout.
const MAX_TOTAL: u64 = 1 << 52;

/// The annotation of a tone; inferno knows `k`, `w`, `i` and `j`.
const fn annotation(tone: Tone) -> &'static str {
    match tone {
        Tone::Growing => "_[k]",
        Tone::Partly => "_[w]",
        Tone::Level(_) => "_[i]",
        Tone::Shrinking => "_[j]",
    }
}

/// The colours, all light enough for black text.
const fn colour(tone: Tone) -> Color {
    let (r, g, b) = match tone {
        Tone::Growing => (240, 96, 80),
        Tone::Partly => (250, 188, 140),
        Tone::Level(Language::Python) => (196, 222, 166),
        Tone::Level(Language::Go) => (160, 220, 214),
        Tone::Level(Language::Javascript) => (240, 230, 150),
        Tone::Level(Language::Php) => (204, 196, 240),
        Tone::Level(Language::Ruby) => (240, 196, 216),
        Tone::Level(Language::Native | Language::Java | Language::Other) => (208, 212, 218),
        Tone::Shrinking => (150, 196, 230),
    };
    Color { r, g, b }
}

/// What the legend says besides of code that does not grow.
const fn language(tone: Tone) -> Option<&'static str> {
    match tone {
        Tone::Level(Language::Python) => Some("; green: so is Python"),
        Tone::Level(Language::Go) => Some("; turquoise: so is Go"),
        Tone::Level(Language::Javascript) => Some("; yellow: so is JavaScript"),
        Tone::Level(Language::Php) => Some("; violet: so is PHP"),
        Tone::Level(Language::Ruby) => Some("; pink: so is Ruby"),
        Tone::Level(Language::Native | Language::Java | Language::Other)
        | Tone::Growing
        | Tone::Partly
        | Tone::Shrinking => None,
    }
}

/// Writes the SVG.
///
/// # Errors
/// The errors of writing to `out`.
pub fn render(snapshot: &Snapshot, metric: Metric, out: &mut dyn Write) -> io::Result<()> {
    let tree = scaled(Tree::of(snapshot, metric));
    let mut palette = PaletteMap::default();
    // The root has no name; what is not in the map gets a colour by chance.
    palette.insert("", colour(tree.nodes[0].tone()));
    let lines = tree.lines(|node| {
        // inferno trims lines, and takes those that begin with `# ` for comments.
        let name = node.name.trim().replace(';', ":").replace("# ", "#\u{a0}");
        let name = format!("{name}{}", annotation(node.tone()));
        palette.insert(&name, colour(node.tone()));
        name
    });
    if lines.is_empty() {
        return empty(metric, out);
    }
    let mut options = Options::default();
    options.title = format!("Memory by call stack: {} of {}", metric.words(), amount(metric, tree.total()));
    let languages: String = tree.tones().into_iter().filter_map(language).collect();
    options.subtitle = Some(format!(
        "after {}. Red: stacks that keep growing. Orange: some of it grows. Blue: shrinking. Grey: level or undecided{languages}.",
        duration(snapshot.elapsed_ms)
    ));
    options.count_name = metric.unit().replace("count", "blocks");
    // The beginnings of names tell more than their ends.
    options.text_truncate_direction = TextTruncateDirection::Right;
    options.palette_map = Some(&mut palette);
    options.bgcolors = Some(BackgroundColor::Flat(Color { r: 255, g: 255, b: 255 }));
    from_lines(&mut options, lines.iter().map(String::as_str), out)
}

/// `603 kB`, `1,200`, `+36.2 MB/h`.
pub(super) fn amount(metric: Metric, value: u64) -> String {
    match metric {
        Metric::InuseSpace | Metric::AllocSpace => bytes(value),
        Metric::InuseObjects | Metric::AllocObjects => count(value),
        Metric::Growth => rate(value as f64),
    }
}

/// The tree with all weights divided by one number, so that their sum fits.
fn scaled(mut tree: Tree) -> Tree {
    let sum = tree.nodes.iter().map(|node| u128::from(node.own)).sum::<u128>();
    let divisor = sum / u128::from(MAX_TOTAL) + 1;
    if divisor > 1 {
        let part = |own: u64| u64::try_from(u128::from(own) / divisor).unwrap_or(0);
        tree.nodes.iter_mut().for_each(|node: &mut Node| node.own = part(node.own));
    }
    tree
}

/// inferno takes nothing to draw for an error.
fn empty(metric: Metric, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "<?xml version=\"1.0\" standalone=\"no\"?>\n<svg version=\"1.1\" width=\"1200\" height=\"60\" \
         xmlns=\"http://www.w3.org/2000/svg\"><text x=\"20\" y=\"35\" font-family=\"monospace\" font-size=\"14\">Nothing \
         to draw: the {} of all stacks are 0.</text></svg>",
        metric.words()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        report::{sample, snapshot::Stack},
        trend::Verdict,
    };

    fn svg(snapshot: &Snapshot) -> String {
        let mut out = Vec::new();
        render(snapshot, Metric::InuseSpace, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// The title and the colour of each frame.
    fn frames(svg: &str) -> Vec<(String, String)> {
        let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
        let document = roxmltree::Document::parse_with_options(svg, options).unwrap();
        let groups = document.descendants().filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "g")));
        groups
            .filter_map(|group| {
                let child = |name| group.children().find(|node| node.tag_name().name() == name);
                let fill = child("rect")?.attribute("fill")?.to_owned();
                Some((child("title")?.text()?.to_owned(), fill))
            })
            .collect()
    }

    #[test]
    fn the_same_function_is_red_where_it_grows_and_grey_where_it_is_level() {
        let mut snapshot = sample::snapshot();
        let stack = |names: [&str; 3], verdict, outstanding_bytes| Stack {
            frames: names.map(|name| sample::frame(name, "m", None)).into(),
            verdict,
            outstanding_bytes,
            ..sample::stack()
        };
        snapshot.stacks = vec![
            stack(["copy", "leak", "main"], Verdict::Growing, 100),
            stack(["copy", "cache", "main"], Verdict::Plateau, 300),
        ];
        let frames = frames(&svg(&snapshot));
        let colours: Vec<&str> =
            frames.iter().filter(|(title, _)| title.starts_with("copy ")).map(|(_, fill)| fill.as_str()).collect();
        assert_eq!(colours, ["rgb(208,212,218)", "rgb(240,96,80)"], "{frames:?}");
        let main = frames.iter().find(|(title, _)| title.starts_with("main ")).unwrap();
        assert_eq!(main, &("main (400 bytes, 100.00%)".to_owned(), "rgb(250,188,140)".to_owned()));
        let all = frames.iter().find(|(title, _)| title.starts_with("all ")).unwrap();
        assert_eq!(all.1, "rgb(250,188,140)");
    }

    #[test]
    fn the_title_and_the_legend_say_what_is_shown() {
        let svg = svg(&sample::snapshot());
        assert!(svg.contains("outstanding bytes of 12.9 MB") && svg.contains("Red: stacks that keep growing"), "{svg}");
        assert!(svg.contains("<script"), "search and zoom");
    }

    #[test]
    fn numbers_at_the_end_of_names_are_no_weights() {
        let mut snapshot = sample::snapshot();
        snapshot.stacks.truncate(1);
        snapshot.stacks[0].frames = vec![
            sample::frame("f 12 34", "m", None),
            sample::frame("# g _[k]", "m", None),
            sample::frame("--", "m", None),
        ];
        let titles: Vec<String> = frames(&svg(&snapshot)).into_iter().map(|(title, _)| title).collect();
        assert!(titles.contains(&"f 12 34 (603,340 bytes, 100.00%)".to_owned()), "{titles:?}");
        assert!(titles.contains(&"#\u{a0}g _[k] (603,340 bytes, 100.00%)".to_owned()), "{titles:?}");
    }

    #[test]
    fn sums_beyond_every_bound_are_drawn() {
        let mut snapshot = sample::snapshot();
        snapshot.stacks = vec![Stack { outstanding_bytes: u64::MAX, ..sample::stack() }; 3];
        assert!(svg(&snapshot).contains("leak_here"));
        snapshot.stacks.clear();
        assert!(svg(&snapshot).contains("Nothing to draw"));
    }
}
