//! What a report says where tracing had to keep to a budget.

use serde::{Deserialize, Serialize};

/// How a run kept to `--max-overhead`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Budget {
    /// The share of the targets' own processor time that tracing may add.
    pub max_overhead: f64,
    /// The share that it has added so far, as far as can be told.
    pub estimated_overhead: f64,
    /// The share of the time in which allocations were recorded.
    pub recorded_share: f64,
    /// The share of it in which releases were seen.
    pub releases_seen_share: f64,
}

/// How the run kept to its budget, in one sentence; `None` without a budget.
pub fn note(budget: Option<&Budget>) -> Option<String> {
    let Budget { max_overhead, estimated_overhead, recorded_share, releases_seen_share } = budget?;
    let mut text = format!(
        "Budget: {:.1} % slower by estimate, {:.1} % allowed",
        estimated_overhead * 100.0,
        max_overhead * 100.0
    );
    if *recorded_share < 0.995 {
        text.push_str(&format!("; allocations were recorded {:.0} % of the time", recorded_share * 100.0));
    }
    text.push('.');
    if *releases_seen_share < 0.995 {
        text.push_str(&format!(
            " Releases were seen {:.0} % of the time: a block that was released in between counts until its place is handed \
             out again.",
            releases_seen_share * 100.0
        ));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_up_is_said() {
        let budget =
            Budget { max_overhead: 0.05, estimated_overhead: 0.041, recorded_share: 1.0, releases_seen_share: 1.0 };
        assert_eq!(note(Some(&budget)).unwrap(), "Budget: 4.1 % slower by estimate, 5.0 % allowed.");
        let rested = Budget { recorded_share: 0.12, ..budget };
        assert!(note(Some(&rested)).unwrap().contains("recorded 12 % of the time."));
        let away = Budget { releases_seen_share: 0.08, ..rested };
        assert!(note(Some(&away)).unwrap().contains("seen 8 % of the time"));
        assert_eq!(note(None), None);
    }
}
