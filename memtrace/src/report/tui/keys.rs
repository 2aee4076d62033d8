//! From key presses to actions.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::state::{Action, Mode, Sort};

/// Keys and what they do, for the help.
pub const HELP: [(&str, &str); 12] = [
    ("Up Down j k", "select a stack"),
    ("PageUp PageDown", "select a page further"),
    ("Home End g G", "first, last; the first stays selected, whoever it is"),
    ("J K", "scroll the lines about the selected stack"),
    ("Enter", "the selected stack on the whole screen, and back"),
    ("/", "only stacks with a function, module or file like this"),
    ("Esc", "clear the filter"),
    ("o, or 1 to 5", "by verdict and growth, bytes, blocks, allocations, age"),
    ("p", "pause the screen; tracing goes on"),
    ("s", "save what is shown as JSON in the current folder"),
    ("Ctrl-Z", "stop memtrace; what it misses meanwhile is counted"),
    ("q, Ctrl-C", "end the run with the final report"),
];

/// What a key asks for; `None` when it means nothing.
pub fn action(key: KeyEvent, mode: Mode) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Some(Action::Quit),
            KeyCode::Char('z') => Some(Action::Suspend),
            KeyCode::Char('f') => Some(Action::Page(1)),
            KeyCode::Char('b') => Some(Action::Page(-1)),
            _ => None,
        };
    }
    match (key.code, mode) {
        // Any key closes it, and does nothing else.
        (_, Mode::Help) => Some(Action::Cancel),
        (KeyCode::Up, _) => Some(Action::Move(-1)),
        (KeyCode::Down, _) => Some(Action::Move(1)),
        (KeyCode::PageUp, _) => Some(Action::Page(-1)),
        (KeyCode::PageDown, _) => Some(Action::Page(1)),
        (KeyCode::Home, _) => Some(Action::First),
        (KeyCode::End, _) => Some(Action::Last),
        (KeyCode::Esc, _) => Some(Action::Cancel),
        (KeyCode::Char(character), Mode::Filter) => Some(Action::Type(character)),
        (KeyCode::Backspace, Mode::Filter) => Some(Action::Erase),
        (KeyCode::Enter, Mode::Filter) => Some(Action::Accept),
        (KeyCode::Enter, _) => Some(Action::Expand),
        (KeyCode::Char(character), _) => command(character),
        _ => None,
    }
}

fn command(character: char) -> Option<Action> {
    Some(match character {
        'k' => Action::Move(-1),
        'j' => Action::Move(1),
        'K' => Action::Scroll(-1),
        'J' => Action::Scroll(1),
        ' ' => Action::Page(1),
        'g' => Action::First,
        'G' => Action::Last,
        'o' => Action::NextSort,
        '1'..='5' => Action::Sort(*Sort::ALL.get(character.to_digit(10)? as usize - 1)?),
        '/' => Action::EditFilter,
        'p' => Action::Pause,
        's' => Action::Save,
        '?' | 'h' => Action::Help,
        'q' => Action::Quit,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(code: KeyCode, mode: Mode) -> Option<Action> {
        action(KeyEvent::new(code, KeyModifiers::NONE), mode)
    }

    #[test]
    fn letters_are_commands_only_while_no_filter_is_written() {
        assert_eq!(press(KeyCode::Char('q'), Mode::Browse), Some(Action::Quit));
        assert_eq!(press(KeyCode::Char('q'), Mode::Filter), Some(Action::Type('q')));
        assert_eq!(press(KeyCode::Char('/'), Mode::Filter), Some(Action::Type('/')));
        assert_eq!(press(KeyCode::Enter, Mode::Filter), Some(Action::Accept));
        assert_eq!(press(KeyCode::Char('5'), Mode::Browse), Some(Action::Sort(Sort::Age)));
    }

    #[test]
    fn control_c_ends_the_run_in_every_mode() {
        for mode in [Mode::Browse, Mode::Filter, Mode::Help] {
            let key = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
            assert_eq!(action(key, mode), Some(Action::Quit));
        }
    }

    #[test]
    fn every_key_of_the_help_does_something() {
        for character in "jkgGJK/o12345ps?q".chars() {
            assert!(press(KeyCode::Char(character), Mode::Browse).is_some(), "{character}");
        }
        assert_eq!(press(KeyCode::Char('x'), Mode::Browse), None);
    }

    #[test]
    fn any_key_closes_the_help() {
        for code in [KeyCode::Char('x'), KeyCode::Char('q'), KeyCode::Down, KeyCode::F(1)] {
            assert_eq!(press(code, Mode::Help), Some(Action::Cancel));
        }
    }

    #[test]
    fn a_key_that_is_let_go_does_nothing() {
        let key = KeyEvent::new_with_kind(KeyCode::Down, KeyModifiers::NONE, KeyEventKind::Release);
        assert_eq!(action(key, Mode::Browse), None);
    }
}
