//! The results as a plot: for each workload a bar a tool, as long as the slowdown is great, on a logarithmic axis.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::results::Row;
use super::tool::{self, Tool};
use super::{Section, table};

/// Pixels.
const WIDTH: u32 = 860;
const TITLE: u32 = 64;
const ROW: u32 = 20;
const HEAD: u32 = 30;
const AXIS: u32 = 26;
const NAMES: u32 = 210;

const INK: RGBColor = RGBColor(32, 32, 32);
const GRID: RGBColor = RGBColor(221, 221, 221);
/// memtrace, and the programs that do nothing on its sites.
const OURS: RGBColor = RGBColor(0, 114, 178);
/// Other tools that attach.
const ATTACHED: RGBColor = RGBColor(86, 180, 233);
/// Tools that take a restart.
const RESTART: RGBColor = RGBColor(230, 159, 0);

/// The SVG's text. Its background is white, so that it reads the same in a dark viewer.
pub fn render(sections: &[Section]) -> Result<String> {
    let height = TITLE + sections.iter().map(|section| panel_height(&bars(&section.rows))).sum::<u32>();
    let mut text = String::new();
    draw(sections, SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area())
        .map_err(|error| anyhow!("cannot draw the plot: {error}"))?;
    Ok(text)
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

fn draw(sections: &[Section], root: DrawingArea<SVGBackend<'_>, Shift>) -> Drawn {
    root.fill(&WHITE)?;
    let left = |size: u32| ("sans-serif", size).into_font().color(&INK);
    root.draw(&Text::new("Slowdown of the traced program (1x: as fast as without; logarithmic)", (12, 12), left(17)))?;
    root.draw(&Text::new(tool::MARKS, (12, 40), left(12)))?;
    let most = sections.iter().flat_map(|section| bars(&section.rows)).map(|bar| bar.1).fold(10.0, f64::max);
    let (_, mut rest) = root.split_vertically(TITLE);
    for section in sections {
        let bars = bars(&section.rows);
        let (panel, below) = rest.split_vertically(panel_height(&bars));
        panel.draw(&Text::new(format!("{}: {}", section.workload.name, section.workload.title), (12, 10), left(13)))?;
        // Room for the number behind the longest bar.
        draw_panel(&panel, &bars, most * 2.0)?;
        rest = below;
    }
    root.present()?;
    Ok(())
}

fn draw_panel(panel: &DrawingArea<SVGBackend<'_>, Shift>, bars: &[(&Row, f64)], most: f64) -> Drawn {
    let mut chart = ChartBuilder::on(panel)
        .margin_top(HEAD)
        .margin_right(12)
        .set_label_area_size(LabelAreaPosition::Left, NAMES)
        .set_label_area_size(LabelAreaPosition::Bottom, AXIS)
        .build_cartesian_2d((1.0..most).log_scale(), 0.0..bars.len() as f64)?;
    let mut mesh = chart.configure_mesh();
    mesh.disable_y_mesh().y_labels(0).y_max_light_lines(0).x_max_light_lines(0).x_labels(8);
    mesh.x_label_formatter(&|factor| format!("{factor}x")).label_style(("sans-serif", 11).into_font().color(&INK));
    mesh.bold_line_style(GRID).axis_style(GRID).draw()?;
    let font = || ("sans-serif", 12).into_font().color(&INK);
    let names = font().pos(Pos::new(HPos::Right, VPos::Center));
    let numbers = font().pos(Pos::new(HPos::Left, VPos::Center));
    // The chart keeps what is below 1 at its edge.
    for (index, (row, slowdown)) in bars.iter().enumerate() {
        // The first tool on top.
        let middle = bars.len() as f64 - index as f64 - 0.5;
        let color = match row.tool {
            Tool::Bpftrace => ATTACHED,
            tool if tool.takes_restart() => RESTART,
            _ => OURS,
        };
        chart.draw_series([Rectangle::new([(1.0, middle - 0.36), (*slowdown, middle + 0.36)], color.filled())])?;
        let name = Text::new(row.tool.name(), (-8, 0), names.clone());
        chart.draw_series([EmptyElement::at((1.0, middle)) + name])?;
        let number = Text::new(table::slowdown(*slowdown), (6, 0), numbers.clone());
        chart.draw_series([EmptyElement::at((*slowdown, middle)) + number])?;
    }
    Ok(())
}

/// The rows that have a bar: tools that ran, but for no tool at all.
fn bars(rows: &[Row]) -> Vec<(&Row, f64)> {
    let traced = rows.iter().filter(|row| row.tool.base().is_some());
    traced.filter_map(|row| Some((row, row.cost?.slowdown))).collect()
}

fn panel_height(bars: &[(&Row, f64)]) -> u32 {
    HEAD + AXIS + ROW * u32::try_from(bars.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use roxmltree::{Document, Node};

    use super::*;
    use crate::bench::table::tests::row;
    use crate::bench::workload::Workload;

    fn svg(rows: Vec<Row>) -> String {
        render(&[Section { workload: Workload::unstarted("loop", "a <loop> & more", None), rows }]).unwrap()
    }

    fn number(node: &Node<'_, '_>, name: &str) -> f64 {
        node.attribute(name).unwrap().parse().unwrap()
    }

    /// Widths of the bars, from top to bottom.
    fn widths(svg: &str) -> Vec<f64> {
        let document = Document::parse(svg).unwrap();
        let rects = document.descendants().filter(|node| node.has_tag_name("rect")).skip(1);
        let mut bars: Vec<(f64, f64)> = rects.map(|rect| (number(&rect, "y"), number(&rect, "width"))).collect();
        bars.sort_by(|one, other| one.0.total_cmp(&other.0));
        bars.into_iter().map(|bar| bar.1).collect()
    }

    #[test]
    fn bars_are_as_long_as_the_logarithm() {
        let rows = vec![row(Tool::Nothing, 1.0), row(Tool::Memtrace, 10.0), row(Tool::Valgrind, 100.0)];
        let widths = widths(&svg(rows));
        // None for nothing at all.
        assert_eq!(widths.len(), 2);
        assert!((widths[1] / widths[0] - 2.0).abs() < 0.02, "{widths:?}");
    }

    #[test]
    fn what_is_faster_than_without_has_a_bar_of_no_length_and_its_number_behind_the_axis() {
        let svg = svg(vec![row(Tool::Jemalloc, 0.1), row(Tool::Memtrace, 10.0)]);
        let widths = widths(&svg);
        assert!(widths[0] <= 1.0 && widths[1] > 100.0, "{widths:?}");
        let document = Document::parse(&svg).unwrap();
        let place = |shown: &str| {
            let mut texts = document.descendants().filter(|node| node.has_tag_name("text"));
            number(&texts.find(|node| node.text().is_some_and(|text| text.trim() == shown)).unwrap(), "x")
        };
        assert!(place("0.10x") > place(Tool::Jemalloc.name()), "{svg}");
    }

    #[test]
    fn a_tool_that_did_not_run_has_no_bar() {
        let rows = vec![row(Tool::Memtrace, 10.0), Row { tool: Tool::Valgrind, cost: None }];
        let svg = svg(rows);
        assert_eq!(widths(&svg).len(), 1);
        assert!(!svg.contains("Valgrind"));
    }

    #[test]
    fn it_is_xml_with_a_white_ground_and_names_and_no_script() {
        let svg = svg(vec![row(Tool::Memtrace, 18.0), row(Tool::Heaptrack, 2.0)]);
        let document = Document::parse(&svg).unwrap();
        let root = document.root_element();
        let ground = root.children().find(Node::is_element).unwrap();
        assert!(ground.has_tag_name("rect"));
        assert_eq!(ground.attribute("fill"), Some("#FFFFFF"));
        assert_eq!(
            (number(&ground, "width"), number(&ground, "height")),
            (number(&root, "width"), number(&root, "height"))
        );
        let texts: Vec<&str> =
            document.descendants().filter(Node::is_text).map(|text| text.text().unwrap().trim()).collect();
        for shown in ["loop: a <loop> & more", "memtrace", "18.0x", "heaptrack *", "2.00x", "10x"] {
            assert!(texts.contains(&shown), "{shown} is not in {texts:?}");
        }
        assert!(!document.descendants().any(|node| node.has_tag_name("script") || node.has_tag_name("image")));
    }

    #[test]
    fn nothing_is_drawn_outside() {
        let svg = svg(Tool::ALL.map(|tool| row(tool, 30_000.0)).to_vec());
        let document = Document::parse(&svg).unwrap();
        let height = number(&document.root_element(), "height");
        for text in document.descendants().filter(|node| node.has_tag_name("text")) {
            assert!(
                (0.0..f64::from(WIDTH) - 20.0).contains(&number(&text, "x")) && number(&text, "y") < height,
                "{text:?}"
            );
        }
    }
}
