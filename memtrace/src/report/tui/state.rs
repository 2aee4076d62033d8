//! What is shown and what was chosen. Every function leaves the selection on a listed stack, if there is one.

mod listing;

#[cfg(test)]
mod tests;

pub use listing::Sort;
use listing::{Key, carry_over, key, listed};

use super::Update;
use crate::report::snapshot::{Snapshot, Stack};

/// The most characters of a filter.
const MAX_FILTER: usize = 200;

/// What the keys mean at the moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Mode {
    /// Keys are commands.
    #[default]
    Browse,
    /// Keys write the filter.
    Filter,
    /// The help is shown; the next key closes it.
    Help,
}

/// What a key of the terminal view asks the run for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// The selection goes this many rows down, or up if negative.
    Move(isize),
    /// The selection goes this many pages down, or up if negative.
    Page(isize),
    /// The selection goes to the first row and stays there, whichever stack that is.
    First,
    /// The selection goes to the last row.
    Last,
    /// The lines about the selected stack go this many down, or up if negative.
    Scroll(isize),
    /// The rows are put in this order.
    Sort(Sort),
    /// The rows are put in the next order.
    NextSort,
    /// The filter is to be written.
    EditFilter,
    /// The filter gets another character.
    Type(char),
    /// The filter loses its last character.
    Erase,
    /// The filter is written.
    Accept,
    /// What is open is closed, else the filter is cleared.
    Cancel,
    /// The selected stack takes the whole screen, or gives it back.
    Expand,
    /// The screen stands still, or goes on.
    Pause,
    /// The snapshot that is shown is written to a file.
    Save,
    /// The help is shown.
    Help,
    /// The program is stopped until it is continued.
    Suspend,
    /// The run ends.
    Quit,
}

/// What only the session can do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Request {
    /// Write the snapshot to a file.
    Save,
    /// Stop the program.
    Suspend,
    /// End the run.
    Quit,
}

/// How much of the state the screen has room for, as the view measures it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Room {
    /// Rows of the list.
    pub rows: usize,
    /// Lines about the selected stack that do not fit.
    pub hidden_lines: usize,
}

/// The state of the terminal view: what is listed, in which order, and where one stands.
#[derive(Clone, Debug, Default)]
pub struct State {
    shown: Option<Update>,
    /// What came while the screen stood still.
    waiting: Option<Update>,
    /// Indices of the listed stacks, in the order of the rows.
    rows: Vec<usize>,
    /// The row of the selected stack.
    selected: usize,
    /// The stack that the selection stays with; `None` while it stays on the first row.
    anchor: Option<Key>,
    /// The first row on the screen.
    first_row: usize,
    /// Rows that the screen has room for.
    page: usize,
    scrolled: usize,
    sort: Sort,
    filter: String,
    mode: Mode,
    paused: bool,
    expanded: bool,
    message: Option<Message>,
}

/// A line to a person.
#[derive(Clone, Debug)]
struct Message {
    line: String,
    /// Whether it has stood on the screen long enough.
    read: bool,
}

impl State {
    /// A view that has shown nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in how things stand now.
    pub fn update(&mut self, update: Update) {
        if self.paused {
            self.waiting = Some(update);
        } else {
            self.show(update);
        }
    }

    /// Does what a key asks for; what is left for the session is returned.
    pub fn apply(&mut self, action: Action) -> Option<Request> {
        self.message.take_if(|message| message.read);
        if self.mode == Mode::Help {
            self.mode = Mode::Browse;
            if !matches!(action, Action::Quit | Action::Suspend) {
                return None;
            }
        }
        match action {
            Action::Move(rows) => self.select(self.selected.saturating_add_signed(rows)),
            Action::Page(pages) => {
                let rows = isize::try_from(self.page.max(1)).unwrap_or(isize::MAX);
                self.select(self.selected.saturating_add_signed(rows.saturating_mul(pages)));
            }
            Action::First => {
                self.select(0);
                self.anchor = None;
            }
            Action::Last => self.select(usize::MAX),
            Action::Scroll(lines) => self.scrolled = self.scrolled.saturating_add_signed(lines),
            Action::Sort(sort) => {
                self.sort = sort;
                self.list();
            }
            Action::NextSort => {
                self.sort = self.sort.next();
                self.list();
            }
            Action::EditFilter => self.mode = Mode::Filter,
            Action::Type(character) => {
                if !character.is_control() && self.filter.chars().count() < MAX_FILTER {
                    self.filter.push(character);
                    self.list();
                }
            }
            Action::Erase => {
                self.filter.pop();
                self.list();
            }
            Action::Accept => self.mode = Mode::Browse,
            Action::Cancel => self.cancel(),
            Action::Expand => self.expanded = !self.expanded,
            Action::Pause => {
                self.paused = !self.paused;
                if !self.paused
                    && let Some(update) = self.waiting.take()
                {
                    self.show(update);
                }
            }
            Action::Help => self.mode = Mode::Help,
            Action::Save => return self.shown.is_some().then_some(Request::Save),
            Action::Suspend => return Some(Request::Suspend),
            Action::Quit => return Some(Request::Quit),
        }
        None
    }

    /// Takes in how much room the screen has, and moves what is visible so that the selected row is.
    pub fn fit(&mut self, room: Room) {
        self.page = room.rows;
        self.scrolled = self.scrolled.min(room.hidden_lines);
        let last_start = self.rows.len().saturating_sub(room.rows.max(1));
        let least = (self.selected + 1).saturating_sub(room.rows.max(1));
        self.first_row = self.first_row.clamp(least, self.selected.max(least)).min(last_start.max(least));
    }

    /// Shows a line until the first key after it was read.
    pub fn say(&mut self, line: String) {
        self.message = Some(Message { line, read: false });
    }

    /// The line has stood on the screen long enough to be read.
    pub fn read(&mut self) {
        if let Some(message) = &mut self.message {
            message.read = true;
        }
    }

    /// What the screen shows; `None` before the first snapshot.
    pub fn shown(&self) -> Option<&Update> {
        self.shown.as_ref()
    }

    /// The snapshot that the screen shows; `None` before the first.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.shown.as_ref().map(|update| &update.snapshot)
    }

    /// How many stacks the filter leaves in the list.
    pub fn listed(&self) -> usize {
        self.rows.len()
    }

    /// The stacks from the first visible row on, each with its row.
    pub fn visible(&self) -> impl Iterator<Item = (usize, &Stack)> {
        let stacks = self.stacks();
        let rows = self.rows.iter().enumerate().skip(self.first_row);
        rows.filter_map(move |(row, &index)| stacks.get(index).map(|stack| (row, stack)))
    }

    /// The row of the selected stack, and the stack.
    pub fn selected(&self) -> Option<(usize, &Stack)> {
        let stack = self.stacks().get(*self.rows.get(self.selected)?)?;
        Some((self.selected, stack))
    }

    /// How far the lines about the selected stack are scrolled.
    pub fn scrolled(&self) -> usize {
        self.scrolled
    }

    /// By which column the rows are in order.
    pub fn sort(&self) -> Sort {
        self.sort
    }

    /// What the listed stacks have in a frame; empty for no filter.
    pub fn filter(&self) -> &str {
        &self.filter
    }

    /// What keys mean now: commands, or letters of a filter.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether the screen stands still while the run goes on.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether the selected stack takes the whole screen.
    pub fn is_expanded(&self) -> bool {
        self.expanded
    }

    /// The line to show at the bottom, if there is one.
    pub fn message(&self) -> Option<&str> {
        self.message.as_ref().map(|message| message.line.as_str())
    }

    fn stacks(&self) -> &[Stack] {
        self.shown.as_ref().map_or(&[], |update| &update.snapshot.stacks)
    }

    fn show(&mut self, mut update: Update) {
        if let Some(old) = self.shown.take() {
            carry_over(old.snapshot.stacks, &mut update.snapshot.stacks);
        }
        self.shown = Some(update);
        self.list();
    }

    /// Lists anew, and stays with the selected stack if it is still listed.
    fn list(&mut self) {
        self.rows = listed(self.stacks(), self.sort, &self.filter);
        let anchored = self.anchor.as_ref().map(|anchor| {
            let stacks = self.stacks();
            self.rows.iter().position(|&index| stacks.get(index).is_some_and(|stack| key(stack) == *anchor))
        });
        match anchored {
            None => self.selected = 0,
            Some(Some(row)) => self.selected = row,
            // It is gone: its neighbour is selected, and the anchor waits for its return.
            Some(None) => self.selected = self.selected.min(self.rows.len().saturating_sub(1)),
        }
    }

    fn select(&mut self, row: usize) {
        let row = row.min(self.rows.len().saturating_sub(1));
        if row != self.selected {
            self.scrolled = 0;
        }
        self.selected = row;
        self.anchor = self.selected().map(|(_, stack)| key(stack));
    }

    fn cancel(&mut self) {
        if self.mode == Mode::Browse && self.expanded {
            self.expanded = false;
        } else {
            self.mode = Mode::Browse;
            self.filter.clear();
            self.list();
        }
    }
}
