//! Which frame of a stack to blame: the innermost one that a person who looks for the leak can do something about.
//!
//! That an allocator, a wrapper such as `xmalloc`, a container or the C library asked for the memory is true of every leak of
//! a program. [`blamed`] passes over such frames by the names of their functions, modules and source files ([`names`]), and
//! [`blamed_below`] prefers the code of a checkout. [`source`] is where a frame's code is written, [`at`] names its place
//! without an address, which no two runs share.

mod go;
mod names;

use std::{
    borrow::Cow,
    path::{Component, Path, PathBuf},
};

use super::snapshot::Frame;
use crate::symbol::FrameKind;

/// What the code of a frame is for, from what is most worth blaming to what is least.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Role {
    /// The program or one of its libraries; of interpreted code the program alone.
    Own,
    /// A library of interpreted code, which somebody installed, or the compiled part of one; Go's library, and modules of others.
    Library,
    /// The runtime of a language: an interpreter with its own library, a JIT compiler, an event loop.
    Runtime,
    /// A function that allocates for whoever calls it.
    Wrapper,
    /// The C library, the loader, an allocator, or how a program and its threads begin.
    System,
}

/// The index of the frame to blame: the innermost one that is neither of the C library, nor of a language's runtime, nor a
/// wrapper around the allocator. When there is none, the innermost one of a runtime, else the innermost wrapper. 0 for
/// a stack without frames.
pub fn blamed(frames: &[Frame]) -> usize {
    // `min_by_key` takes the first of equals.
    roles(frames).enumerate().min_by_key(|&(_, role)| role).map_or(0, |(index, _)| index)
}

/// Marks the frames that are the user's own code ([`Frame::user`]).
pub fn mark_own(frames: &mut [Frame]) {
    let own: Vec<bool> = roles(frames).map(|role| role == Role::Own).collect();
    frames.iter_mut().zip(own).for_each(|(frame, is_own)| frame.user = is_own);
}

/// What each frame of a stack is for.
fn roles(frames: &[Frame]) -> impl Iterator<Item = Role> {
    let is_interpreted = frames.iter().any(|frame| frame.kind == FrameKind::Interpreter);
    // Where an interpreter's frames have names, code that was made at run time and has none is the interpreter's.
    let is_made = |frame: &Frame| frame.function.is_none() && frame.module.as_deref() == Some("[anonymous]");
    // Nor does code of C without a name tell anything that a Go program has linked in, where its callers in Go have names.
    let call = frames.iter().rposition(|frame| frame.function.as_deref() == Some(go::CALL_OF_C));
    let module = call.and_then(|call| frames[call].module.as_deref());
    let is_linked_in = move |index: usize, frame: &Frame| {
        call.is_some_and(|call| index < call) && frame.function.is_none() && frame.module.as_deref() == module
    };
    frames.iter().enumerate().map(move |(index, frame)| {
        if (is_interpreted && is_made(frame)) || is_linked_in(index, frame) { Role::Runtime } else { role(frame) }
    })
}

/// The index of the frame to blame in a checkout: the innermost one that is no wrapper and whose source file lies below
/// `root`, as `exists` says; [`blamed`] when there is none.
pub fn blamed_below(frames: &[Frame], root: &Path, exists: impl Fn(&Path) -> bool) -> usize {
    let is_ours = |frame: &Frame| {
        role(frame) < Role::Wrapper
            && source(frame).is_some_and(|(file, _)| below(&file, root).is_some_and(|file| exists(&root.join(file))))
    };
    frames.iter().position(is_ours).unwrap_or_else(|| blamed(frames))
}

/// The index of the frame of interpreted code that called the function at `blamed`, the innermost one that is the program's own.
/// `None` if that one is interpreted itself, or no such code called it.
pub fn called_by(frames: &[Frame], blamed: usize) -> Option<usize> {
    if frames.get(blamed)?.kind == FrameKind::Interpreter {
        return None;
    }
    let is_own = |frame: &Frame| frame.kind == FrameKind::Interpreter && role(frame) == Role::Own;
    (blamed..frames.len()).find(|&index| is_own(&frames[index]))
}

/// A frame as people are shown it, or several that tell them nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shown<'a> {
    /// A frame.
    Frame(&'a Frame),
    /// So many frames of an interpreter's own functions, the innermost of them this one.
    Inside(&'a Frame, usize),
}

/// The frames of a stack as people are shown them. Where an interpreter runs the code, what it does between one function of it and
/// the next, and before the first, is left out but for the innermost frames.
pub fn shown(frames: &[Frame]) -> Vec<Shown<'_>> {
    /// The innermost frames say what kind of object is made.
    const INNERMOST: usize = 3;
    let Some(first) = frames.iter().position(|frame| frame.kind == FrameKind::Interpreter) else {
        return frames.iter().map(Shown::Frame).collect();
    };
    let mut shown = Vec::new();
    let is_inside = |frame: &Frame| frame.kind == FrameKind::Native && role(frame) == Role::Runtime;
    let mut at = 0;
    while let Some(frame) = frames.get(at) {
        let is_alike = |other: &&Frame| is_inside(other) && other.module == frame.module;
        let alike = frames[at..].iter().take_while(is_alike).count();
        if alike > 1 && (at >= first || at >= INNERMOST) {
            shown.push(Shown::Inside(frame, alike));
            at += alike;
        } else {
            shown.push(Shown::Frame(frame));
            at += 1;
        }
    }
    shown
}

/// The path of a source file relative to `root`, when it lies below it. A relative path counts from `root` on.
pub fn below(file: &str, root: &Path) -> Option<PathBuf> {
    let mut parts = PathBuf::new();
    for part in root.join(file).components() {
        match part {
            Component::ParentDir => {
                parts.pop();
            }
            Component::CurDir => {}
            part => parts.push(part),
        }
    }
    let relative = parts.strip_prefix(root).ok()?;
    (!relative.as_os_str().is_empty()).then(|| relative.to_owned())
}

/// The source file and the line of a frame; those of JavaScript code stand in its name. `None` for a line that is unknown.
pub fn source(frame: &Frame) -> Option<(Cow<'_, str>, Option<u32>)> {
    // Line 0 stands for none in DWARF.
    let line = frame.line.filter(|&line| line > 0);
    match &frame.file {
        Some(file) => Some((Cow::Borrowed(file), line)),
        None => frame.function.as_deref().and_then(names::script).map(|(file, line)| (file.into(), Some(line))),
    }
}

/// A function's name, or `module+0x1234` with the position in the module's file when it has none: never an address.
pub fn at(frame: &Frame) -> Cow<'_, str> {
    match (&frame.function, &frame.module, &frame.offset) {
        (Some(function), ..) if !function.is_empty() => names::same_for_tiers(function),
        (_, Some(module), Some(offset)) => format!("{module}+{offset}").into(),
        (_, Some(module), None) => module.as_str().into(),
        (_, None, _) => "unknown code".into(),
    }
}

/// The module of the program itself, as the stacks tell: where `_start` or `main` is, else the outermost module of a stack
/// that is no system library. `None` when no stack leads there.
pub fn executable<'a>(stacks: impl Iterator<Item = &'a [Frame]> + Clone) -> Option<&'a str> {
    let module = |frame: &'a Frame| frame.module.as_deref().filter(|module| !names::is_system_module(module));
    let begins = |frame: &&Frame| matches!(frame.function.as_deref(), Some("_start" | "main"));
    let by_name = stacks.clone().flatten().filter(begins).find_map(module);
    by_name.or_else(|| stacks.clone().find_map(|frames| frames.iter().rev().find_map(module)))
}

fn role(frame: &Frame) -> Role {
    let function = frame.function.as_deref().unwrap_or_default();
    let module = frame.module.as_deref().unwrap_or_default();
    if frame.kind == FrameKind::Interpreter {
        return match frame.file.as_deref() {
            _ if names::is_built_in(module) => Role::Runtime,
            Some(file) if names::is_interpreters_own(file) => Role::Runtime,
            Some(file) if names::is_installed(file) => Role::Library,
            // Code of which nothing could be read tells nobody anything.
            None if frame.function.is_none() => Role::Runtime,
            _ => Role::Own,
        };
    }
    if go::is_between(function, frame.file.as_deref()) {
        return Role::Runtime;
    }
    if let Some(role) = frame.file.as_deref().and_then(|file| go::role(function, file)) {
        return role;
    }
    if names::is_script(function) {
        Role::Own
    } else if names::is_system_module(module)
        || names::is_system_function(function)
        || frame.file.as_deref().is_some_and(names::is_system_file)
    {
        Role::System
    } else if names::is_wrapper(function) {
        Role::Wrapper
    } else if names::is_runtime_module(module) || names::is_runtime_function(function) {
        Role::Runtime
    } else if names::is_package_module(module) {
        Role::Library
    } else {
        Role::Own
    }
}

#[cfg(test)]
mod tests;
