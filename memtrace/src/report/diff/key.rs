//! When a stack, a function or a module of two runs is the same.

use std::collections::HashMap;

use crate::{
    report::diff::By,
    report::snapshot::{Frame, Stack, StackKind},
};

/// Libraries whose functions hand memory on to whoever called them: a comparison by function or module looks past these.
const RUNTIME: [&str; 6] = ["libc.so", "libc-", "libc.musl", "ld-", "libstdc++.so", "libc++"];

/// Equal for what is the same in both runs.
pub type Key = (StackKind, Vec<u32>);

/// Makes keys; names are kept once.
pub struct Keys<'a> {
    by: By,
    names: HashMap<Name<'a>, u32>,
}

#[derive(Eq, Hash, PartialEq)]
enum Name<'a> {
    Function(&'a str, Option<&'a str>),
    /// Position in a module's file.
    Offset(&'a str, Option<&'a str>),
    /// Pages move as a whole, so the position in the page stays.
    InPage(u64, Option<&'a str>),
    Module(Option<&'a str>),
    /// A stack without frames.
    None,
}

impl<'a> Keys<'a> {
    pub fn new(by: By) -> Self {
        Self { by, names: HashMap::new() }
    }

    /// The key of a stack, and the frame that it is about.
    pub fn of(&mut self, stack: &'a Stack) -> (Key, Option<&'a Frame>) {
        let frame = match self.by {
            By::Stack => stack.frames.first(),
            By::Function | By::Module => asker(stack),
        };
        let names: Vec<u32> = match (self.by, frame) {
            (_, None) => vec![self.number(Name::None)],
            (By::Stack, _) => stack.frames.iter().map(|frame| self.number(place(frame))).collect(),
            (By::Function, Some(frame)) => vec![self.number(place(frame))],
            (By::Module, Some(frame)) => vec![self.number(Name::Module(frame.module.as_deref()))],
        };
        ((stack.kind, names), frame)
    }

    fn number(&mut self, name: Name<'a>) -> u32 {
        let next = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        *self.names.entry(name).or_insert(next)
    }
}

/// The frame that asked for the memory: the first one that is not in a runtime library, if there is one.
fn asker(stack: &Stack) -> Option<&Frame> {
    let is_runtime =
        |frame: &&Frame| frame.module.as_deref().is_some_and(|name| RUNTIME.iter().any(|part| name.starts_with(part)));
    stack.frames.iter().find(|frame| !is_runtime(frame)).or(stack.frames.first())
}

fn place(frame: &Frame) -> Name<'_> {
    let module = frame.module.as_deref();
    match (&frame.function, &frame.offset) {
        (Some(function), _) => Name::Function(function, module),
        (None, Some(offset)) => Name::Offset(offset, module),
        (None, None) => {
            let digits = frame.address.strip_prefix("0x").unwrap_or_default();
            Name::InPage(u64::from_str_radix(digits, 16).unwrap_or(0) & 0xfff, module)
        }
    }
}
