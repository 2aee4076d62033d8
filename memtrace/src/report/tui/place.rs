//! Where in the program: the words for a frame, and the frame that tells most.

use crate::report::{
    escape::escape,
    place,
    snapshot::{Frame, Stack},
};

/// The frame to blame; `None` without frames.
pub(super) fn meaningful(stack: &Stack) -> Option<&Frame> {
    stack.frames.get(place::blamed(&stack.frames))
}

/// The function's name, or its address without one.
pub(super) fn function(frame: &Frame) -> String {
    escape(frame.function.as_deref().unwrap_or(&frame.address)).into_owned()
}

/// `server.c:42`; the whole path if `whole`.
pub(super) fn source(frame: &Frame, whole: bool) -> Option<String> {
    let file = frame.file.as_deref()?;
    let file = if whole { file } else { file.rsplit('/').next().unwrap_or(file) };
    let line = frame.line.map(|line| format!(":{line}")).unwrap_or_default();
    Some(format!("{}{line}", escape(file)))
}

/// `server.c:42`, else the module.
pub(super) fn origin(frame: &Frame) -> Option<String> {
    source(frame, false).or_else(|| frame.module.as_deref().map(|module| escape(module).into_owned()))
}
