//! Which groups a report needs: the smallest ones that explain growth which no few stacks explain.
//!
//! Groups contain each other: a process, a kind of memory, a module, an allocating function, its callers. From the
//! narrowest to the widest each growing group is asked whether what was found within it, growing stacks or narrower
//! groups, accounts for its growth and is few enough to read. If so, that is the answer; if not, the group is.

use super::thresholds::{EXPLAINED, EXPLAINED_WIDELY, MOST_PARTS};

/// One group of stacks, with its place among the others and its own verdict.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// The place of the narrowest group that contains it, which comes before it.
    pub parent: Option<usize>,
    /// Whether it is judged to be growing.
    pub growing: bool,
    /// How fast, in bytes an hour.
    pub rate: f64,
    /// How many stacks it has.
    pub stacks: u64,
    /// Whether all of its stacks have one allocating function, or more than that in common.
    pub is_function: bool,
    /// The caller that sets it apart within its parent may stand on its siblings' stacks, too.
    pub is_caller: bool,
}

/// One growing stack, with the groups that it belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Leaf {
    /// The place of the narrowest group that contains it; `None` when there is none.
    pub parent: Option<usize>,
    /// How fast it grows, in bytes an hour.
    pub rate: f64,
    /// Whether it would make a run fail by itself; `None` when it is known and let pass.
    pub fails: Option<bool>,
}

/// What was found within a group.
#[derive(Clone, Debug, Default)]
struct Found {
    /// Rates of growing stacks, and of groups that are reported.
    rates: Vec<f64>,
    groups: Vec<usize>,
    /// The rates of stacks that are too slow to fail by themselves.
    slow: f64,
    any_fails: bool,
}

impl Found {
    fn add(&mut self, other: Self) {
        self.rates.extend(other.rates);
        self.groups.extend(other.groups);
        self.slow += other.slow;
        self.any_fails |= other.any_fails;
    }

    /// Whether a few of the parts reach a share of `rate`.
    fn explains(&self, rate: f64, share: f64, most: usize) -> bool {
        let mut rates = self.rates.clone();
        rates.sort_unstable_by(|a, b| b.total_cmp(a));
        rates.iter().take(most).sum::<f64>() >= share * rate
    }
}

/// The places of the groups to report. `nodes` has parents before children. `threshold` is the rate that growth must reach
/// to fail a run: a function whose stacks are each below it and together are not is reported. `recursive` tells whether
/// the callers that set some nodes apart call each other, so that these nodes are paths of one recursion.
pub fn explain(
    nodes: &[Node],
    leaves: &[Leaf],
    threshold: Option<f64>,
    mut recursive: impl FnMut(&[usize]) -> bool,
) -> Vec<usize> {
    let mut within: Vec<Found> = vec![Found::default(); nodes.len()];
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for leaf in leaves {
        let Some(place) = leaf.parent else { continue };
        within[place].rates.push(leaf.rate);
        match leaf.fails {
            Some(true) => within[place].any_fails = true,
            Some(false) => within[place].slow += leaf.rate,
            None => {}
        }
    }
    let mut chosen = Vec::new();
    for (place, node) in nodes.iter().enumerate().rev() {
        let mut found = std::mem::take(&mut within[place]);
        if node.growing && !is_explained(node, &found, nodes, &children[place], threshold, &mut recursive) {
            found = Found { rates: vec![node.rate], groups: vec![place], slow: 0.0, any_fails: true };
        }
        match node.parent {
            Some(parent) => {
                if !found.rates.is_empty() {
                    children[parent].push(place);
                }
                within[parent].add(found);
            }
            None => chosen.extend(found.groups),
        }
    }
    chosen.sort_unstable();
    chosen
}

fn is_explained(
    node: &Node,
    found: &Found,
    nodes: &[Node],
    children: &[usize],
    threshold: Option<f64>,
    recursive: &mut impl FnMut(&[usize]) -> bool,
) -> bool {
    if !node.is_function {
        return found.explains(node.rate, EXPLAINED_WIDELY, usize::MAX);
    }
    // A group within it that has the same stacks is the same group by a longer name.
    if found.groups.iter().any(|&inner| nodes[inner].stacks == node.stacks) {
        return false;
    }
    if threshold.is_some_and(|threshold| !found.any_fails && found.slow >= threshold) {
        return false;
    }
    if !found.explains(node.rate, EXPLAINED, MOST_PARTS) {
        return false;
    }
    let callers: Vec<usize> = children.iter().copied().filter(|&child| nodes[child].is_caller).collect();
    found.groups.is_empty() || callers.len() < 2 || !recursive(&callers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(parent: Option<usize>, rate: f64, stacks: u64) -> Node {
        let level = parent.map_or(0, |parent| parent + 1);
        Node { parent, growing: rate > 0.0, rate, stacks, is_function: level >= 2, is_caller: level >= 3 }
    }

    const NONE: [usize; 0] = [];

    fn leaf(parent: usize, rate: f64) -> Leaf {
        Leaf { parent: Some(parent), rate, fails: Some(true) }
    }

    /// Process, module, function; a caller of it; two callers of that.
    fn chain(rates: [f64; 6]) -> Vec<Node> {
        let parents = [None, Some(0), Some(1), Some(2), Some(3), Some(3)];
        (0..6)
            .map(|place| Node {
                is_function: place >= 2,
                is_caller: place >= 3,
                ..node(parents[place], rates[place], [4096, 4000, 3000, 3000, 1500, 1500][place])
            })
            .collect()
    }

    #[test]
    fn one_growing_stack_needs_no_group() {
        let nodes = chain([10.0, 10.0, 10.0, 10.0, 10.0, 0.0]);
        assert_eq!(explain(&nodes, &[leaf(4, 9.5)], None, |_| false), NONE);
    }

    #[test]
    fn a_leak_over_many_paths_is_its_function() {
        let nodes = chain([10.0, 10.0, 10.0, 10.0, 5.0, 5.0]);
        // Its callers call each other.
        assert_eq!(explain(&nodes, &[], None, |callers| callers.len() == 2), [2]);
        assert_eq!(explain(&nodes, &[leaf(4, 1.0), leaf(5, 1.0)], None, |_| true), [2]);
        // Two callers of one wrapper are two places.
        assert_eq!(explain(&nodes, &[], None, |_| false), [4, 5]);
        // Where no path is found to grow by itself.
        assert_eq!(explain(&chain([10.0, 10.0, 10.0, 0.0, 0.0, 0.0]), &[], None, |_| false), [2]);
    }

    #[test]
    fn many_growing_stacks_are_one_group() {
        let nodes = chain([10.0, 10.0, 10.0, 0.0, 0.0, 0.0]);
        let leaves: Vec<Leaf> = (0..40).map(|_| leaf(2, 0.25)).collect();
        assert_eq!(explain(&nodes, &leaves, None, |_| false), [2]);
        assert_eq!(
            explain(
                &nodes,
                &leaves[..4].iter().map(|leaf| Leaf { rate: 2.5, ..*leaf }).collect::<Vec<_>>(),
                None,
                |_| false
            ),
            NONE
        );
    }

    #[test]
    fn a_process_is_named_when_nothing_within_it_explains() {
        let nodes = chain([10.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(explain(&nodes, &[leaf(2, 4.0)], None, |_| false), [0]);
        assert_eq!(explain(&nodes, &[leaf(2, 6.0)], None, |_| false), NONE);
    }

    #[test]
    fn the_threshold_is_for_the_sum_of_a_function() {
        let nodes = chain([10.0, 10.0, 10.0, 0.0, 0.0, 0.0]);
        let slow = Leaf { fails: Some(false), ..leaf(2, 3.0) };
        assert_eq!(explain(&nodes, &[slow, slow, slow], Some(8.0), |_| false), [2]);
        assert_eq!(explain(&nodes, &[slow, slow, slow], Some(9.5), |_| false), NONE);
        let known = Leaf { fails: None, ..slow };
        assert_eq!(explain(&nodes, &[known, known, known], Some(8.0), |_| false), NONE);
    }
}
