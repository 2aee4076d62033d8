//! The colours and marks of the terminal view.

use ratatui::style::{Color, Modifier, Style};

use crate::trend::Verdict;

/// The colours and marks of the terminal view.
#[derive(Clone, Copy, Debug)]
pub struct Theme {
    /// Whether colours are wanted; bold and reversed text is used without, too.
    pub colour: bool,
}

impl Theme {
    pub(super) fn verdict(self, verdict: Verdict) -> Style {
        match verdict {
            Verdict::Growing => self.colour(Color::Red).add_modifier(Modifier::BOLD),
            Verdict::Plateau | Verdict::Sawtooth | Verdict::Shrinking => self.colour(Color::Green),
            Verdict::Undecided => Style::new(),
        }
    }

    pub(super) fn warning(self) -> Style {
        self.colour(Color::Yellow).add_modifier(Modifier::BOLD)
    }

    pub(super) fn quiet(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    fn colour(self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }
}
