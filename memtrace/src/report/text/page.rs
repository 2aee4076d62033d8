//! Lines that fit, and the few looks that they have.

use std::io::{self, Write};

use super::width::{shorten, width};

/// No line is wider, however long the names are.
pub const WIDTH: usize = 80;

/// The few looks that text has.
#[derive(Clone, Copy)]
pub enum Look {
    Red,
    Green,
    Dim,
    Bold,
}

impl Look {
    const fn code(self) -> &'static str {
        match self {
            Self::Red => "\x1b[1;31m",
            Self::Green => "\x1b[32m",
            Self::Dim => "\x1b[2m",
            Self::Bold => "\x1b[1m",
        }
    }
}

/// The writer that breaks lines at 80 columns and colours them.
pub struct Page<'a> {
    pub out: &'a mut dyn Write,
    pub colour: bool,
}

impl Page<'_> {
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    pub fn looks(&self, look: Look, text: &str) -> String {
        if self.colour { format!("{}{text}\x1b[0m", look.code()) } else { text.to_owned() }
    }

    /// Text broken at spaces so that it fits; later lines are indented as the first.
    pub fn wrapped(&mut self, indent: &str, text: &str) -> io::Result<()> {
        let room = WIDTH - width(indent);
        let mut line = String::new();
        for word in text.split(' ') {
            let word = shorten(word, room);
            if !line.is_empty() && width(&line) + 1 + width(&word) > room {
                writeln!(self.out, "{indent}{line}")?;
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(&word);
        }
        writeln!(self.out, "{indent}{line}")
    }
}
