//! A group of stacks that is reported as one leak: it grows, and no few of its stacks account for that. Part of the JSON
//! contract; fields are only ever added.

use serde::{Deserialize, Serialize};

use super::snapshot::Stack;

/// What the stacks of a group have in common.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum GroupBy {
    /// The process, and nothing else.
    Process,
    /// The process and the kind of memory.
    Heap,
    /// The module that allocates.
    Module,
    /// The allocating function: the innermost one that is no part of an allocator or a wrapper of one.
    Function,
    /// The allocating function and some of its callers.
    Frames,
}

/// A group of stacks that are judged together.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Group {
    /// What its stacks have in common.
    pub by: GroupBy,
    /// That by name, as in `node_new` or `node_new < tree_insert`.
    pub name: String,
    /// How many stacks it has.
    pub stack_count: u64,
    /// The ids of those that hold the most, at most [`MAX_STACKS`](Self::MAX_STACKS).
    pub stacks: Vec<String>,
    /// The calls that lead to most of what it holds, as a tree in depth-first order.
    pub paths: Vec<Path>,
    /// What the stacks hold together, and what is said of that: as for a stack, with the frames that they have in common.
    #[serde(flatten)]
    pub sum: Stack,
}

impl Group {
    /// Whether it stands for its stacks: these have an allocating function in common.
    pub fn is_narrow(&self) -> bool {
        matches!(self.by, GroupBy::Function | GroupBy::Frames)
    }

    /// The most stacks of which a group has the ids.
    pub const MAX_STACKS: usize = 100;
}

/// A caller in the tree of a group's paths.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Path {
    /// How many callers are between it and the group's own frames.
    pub depth: u32,
    /// The function's name, or where its code is.
    pub function: String,
    /// The share of the group's bytes that were allocated through it, 0 to 1.
    pub share: f64,
}

/// Stacks from which the tree of paths is made, each with what it holds; a stack is its function names, the nearest
/// caller of the group's own frames first.
pub type CalledBy = (Vec<String>, u64);

/// The most lines of a tree of paths.
const MAX_PATHS: usize = 12;

/// How deep it is at most.
const MAX_DEPTH: u32 = 6;

/// A caller through which less than this share came is left out.
const LEAST_SHARE: f64 = 0.1;

/// The tree of the most common paths.
pub fn paths(stacks: &[CalledBy]) -> Vec<Path> {
    let total: u64 = stacks.iter().map(|(_, bytes)| bytes).sum();
    let mut paths = Vec::new();
    let all: Vec<&CalledBy> = stacks.iter().collect();
    add_callers(&all, 0, total.max(1) as f64, &mut paths);
    paths
}

fn add_callers(stacks: &[&CalledBy], depth: u32, total: f64, paths: &mut Vec<Path>) {
    if depth >= MAX_DEPTH {
        return;
    }
    let mut callers: Vec<(&str, u64, Vec<&CalledBy>)> = Vec::new();
    for stack in stacks {
        let Some(caller) = stack.0.get(depth as usize) else { continue };
        match callers.iter_mut().find(|(name, ..)| name == caller) {
            Some((_, bytes, through)) => {
                *bytes = bytes.saturating_add(stack.1);
                through.push(stack);
            }
            None => callers.push((caller, stack.1, vec![stack])),
        }
    }
    callers.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    for (caller, bytes, through) in callers {
        let share = bytes as f64 / total;
        if share < LEAST_SHARE || paths.len() >= MAX_PATHS {
            break;
        }
        paths.push(Path { depth, function: caller.to_owned(), share });
        add_callers(&through, depth + 1, total, paths);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(names: &[&str], bytes: u64) -> CalledBy {
        (names.iter().map(|&name| name.to_owned()).collect(), bytes)
    }

    #[test]
    fn the_tree_has_the_common_callers_with_their_shares() {
        let stacks =
            [stack(&["left", "main"], 60), stack(&["right", "main"], 30), stack(&["right", "init"], 5), stack(&[], 5)];
        let found = paths(&stacks);
        let shown: Vec<(u32, &str, f64)> =
            found.iter().map(|path| (path.depth, path.function.as_str(), path.share)).collect();
        assert_eq!(shown, [(0, "left", 0.6), (1, "main", 0.6), (0, "right", 0.35), (1, "main", 0.3)]);
    }

    #[test]
    fn it_stays_short() {
        let deep: Vec<String> = (0..200).map(|depth| format!("f{depth}")).collect();
        assert_eq!(paths(&[(deep, 7)]).len(), MAX_DEPTH as usize);
        let wide: Vec<CalledBy> = (0..1000).map(|n| (vec![format!("g{n}")], 1)).collect();
        assert!(paths(&wide).is_empty());
        assert!(paths(&[]).is_empty());
    }
}
