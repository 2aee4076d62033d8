use ratatui::{Terminal, backend::TestBackend, style::Color};

use super::*;
use crate::report::{
    sample,
    snapshot::{Frame, Stack},
    tui::{
        Cost, Update,
        state::{Action, Sort},
    },
};

const SIZES: [(u16, u16); 9] = [(80, 24), (120, 40), (200, 60), (40, 10), (20, 5), (10, 3), (3, 2), (1, 1), (0, 0)];

fn update(snapshot: Snapshot) -> Update {
    Update { snapshot, cost: Cost { cpu_share: 0.034, rss_bytes: 38_400_000 } }
}

fn screen(state: &mut State, theme: Theme, (columns, rows): (u16, u16)) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    let drawn = terminal.draw(|frame| {
        state.fit(room(state, frame.area()));
        draw(state, theme, Duration::from_secs(1), frame.buffer_mut());
    });
    drawn.unwrap();
    terminal.backend().buffer().clone()
}

fn lines(buffer: &Buffer) -> Vec<String> {
    let row = |y| (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..buffer.area.height).map(row).collect()
}

fn text(state: &mut State, size: (u16, u16)) -> String {
    lines(&screen(state, Theme { colour: false }, size)).join("\n")
}

fn shown() -> State {
    let mut state = State::new();
    state.update(update(sample::snapshot()));
    state
}

/// Every way to steer a terminal or to mislead an eye, in every place that a target can name.
fn hostile() -> Snapshot {
    let mut snapshot = sample::snapshot();
    let name = "\x1b[2J\x1b]0;owned\x07\u{9b}31m\r\n\t\u{202e}gnp\u{2066}日本語👩‍👩‍👧e\u{301}\0".repeat(40);
    snapshot.processes[0].command = name.clone();
    snapshot.stacks.push(Stack { id: name.clone(), frames: Vec::new(), ..sample::stack() });
    for stack in &mut snapshot.stacks {
        stack.evidence = name.clone();
        stack.truncated = Some(name.clone());
        stack.frames.push(Frame {
            function: Some(name.clone()),
            module: Some(name.clone()),
            file: Some(name.clone()),
            ..sample::frame("", "", None)
        });
        stack.frames.rotate_right(1);
    }
    snapshot
}

#[test]
fn a_screen_of_80_by_24_has_the_answer_the_stacks_their_frames_and_the_costs() {
    let text = text(&mut shown(), (80, 24));
    for part in [
        "4242  ./server --port 8080",
        "rss 48.0 MB",
        "1 stack keeps growing: +36.2 MB/h in leak_here (server.c:42)",
        "growing 98%",
        "+36.2 MB/h   603 kB",
        "leak_here  server.c:42",
        "cache_insert",
        "rose in 12 and fell in 0 of 12 intervals",
        "inlined handle  /src/server/server.c:97  (server)",
        "12 events LOST",
        "memtrace 3% cpu, 38.4 MB",
    ] {
        assert!(text.contains(part), "{part:?} in\n{text}");
    }
}

#[test]
fn no_name_of_a_target_brings_a_control_character_onto_the_screen() {
    for size in SIZES {
        let mut state = State::new();
        state.update(update(hostile()));
        state.apply(Action::EditFilter);
        for character in "gnp\u{202e}".chars() {
            state.apply(Action::Type(character));
        }
        state.say("a message\x1b[31m of a target\u{202e}".to_owned());
        for keys in [&[][..], &[Action::Accept, Action::Expand], &[Action::Cancel], &[Action::Last], &[Action::Help]] {
            let buffer = screen(&mut state, Theme { colour: true }, size);
            for cell in buffer.content() {
                let symbol = cell.symbol();
                let unsafe_one =
                    |character: char| character.is_control() || ('\u{202a}'..='\u{202e}').contains(&character);
                assert!(!symbol.contains(unsafe_one), "{symbol:?} at {size:?}");
            }
            for &key in keys {
                state.apply(key);
            }
        }
    }
}

#[test]
fn every_size_has_room_for_something_and_the_selected_row_is_on_it() {
    for size in SIZES {
        let mut state = State::new();
        screen(&mut state, Theme { colour: true }, size);
        let mut snapshot = sample::snapshot();
        let stack = |id: usize| Stack { id: format!("{id:016x}"), ..sample::stack() };
        snapshot.stacks = (0..500).map(stack).collect();
        state.update(update(snapshot));
        for action in [Action::Last, Action::Page(-1), Action::Expand, Action::Scroll(5), Action::Expand, Action::First]
        {
            state.apply(action);
            let buffer = screen(&mut state, Theme { colour: false }, size);
            let reversed = buffer.content().iter().filter(|cell| cell.modifier.contains(Modifier::REVERSED)).count();
            if size.0 >= 20 && size.1 >= 5 && !state.is_expanded() {
                assert_eq!(reversed, usize::from(size.0), "the selected row at {size:?}");
            }
        }
    }
}

#[test]
fn without_colours_no_cell_has_one() {
    let mut state = shown();
    state.say("a warning".to_owned());
    let coloured =
        |buffer: &Buffer| buffer.content().iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset);
    assert!(coloured(&screen(&mut state, Theme { colour: true }, (80, 24))));
    assert!(!coloured(&screen(&mut state, Theme { colour: false }, (80, 24))));
}

#[test]
fn wide_characters_do_not_shift_what_follows() {
    let mut snapshot = sample::snapshot();
    snapshot.processes[0].command = "日本語サーバー".to_owned();
    let mut state = State::new();
    state.update(update(snapshot.clone()));
    let wide = text(&mut state, (80, 24));
    snapshot.processes[0].command = "a".repeat(14);
    state.update(update(snapshot));
    let narrow = text(&mut state, (80, 24));
    // A wide character's second cell is empty, and reads as a blank here.
    let first = |text: &str| text.lines().next().unwrap_or_default().replace(' ', "");
    assert_eq!(first(&wide).replace("日本語サーバー", ""), first(&narrow).replace(&"a".repeat(14), ""));
    assert!(wide.lines().next().is_some_and(|line| line.ends_with("1m 00s")), "{wide}");
}

#[test]
fn the_filter_is_shown_while_it_is_written_and_while_it_holds() {
    let mut state = shown();
    for action in [Action::EditFilter, Action::Type('c'), Action::Type('a'), Action::Type('c')] {
        state.apply(action);
    }
    assert!(text(&mut state, (80, 24)).contains("filter: cac"));
    state.apply(Action::Accept);
    let filtered = text(&mut state, (80, 24));
    assert!(filtered.contains("1 of 3 with \"cac\"") && !filtered.contains("growing 98%"), "{filtered}");
    state.apply(Action::EditFilter);
    state.apply(Action::Type('?'));
    assert!(text(&mut state, (80, 24)).contains("No stack has this in its frames"));
}

#[test]
fn the_order_is_marked_or_said() {
    let mut state = shown();
    assert!(text(&mut state, (80, 24)).contains("▾VERDICT"));
    state.apply(Action::Sort(Sort::Age));
    assert!(text(&mut state, (80, 24)).contains("by age"));
    assert!(text(&mut state, (120, 24)).contains("▾AGE"));
}

#[test]
fn the_help_names_every_key_and_a_pause_is_said() {
    let mut state = shown();
    state.apply(Action::Pause);
    assert!(text(&mut state, (80, 24)).contains("PAUSED"));
    state.apply(Action::Help);
    let help = text(&mut state, (80, 24));
    for (key, what) in keys::HELP {
        assert!(help.contains(key) && help.contains(what), "{key} in\n{help}");
    }
}

#[test]
fn several_processes_have_a_line_each_and_a_column() {
    let mut snapshot = sample::snapshot();
    let process = snapshot.processes[0].clone();
    snapshot.processes = (0..5).map(|number| Process { pid: 5000 + number, ..process.clone() }).collect();
    let mut state = State::new();
    state.update(update(snapshot));
    let text = text(&mut state, (100, 30));
    assert!(text.contains("5000  ./server") && text.contains("5002  ./server") && !text.contains("5003"), "{text}");
    assert!(text.contains("and 2 more") && text.contains("PID"), "{text}");
}
