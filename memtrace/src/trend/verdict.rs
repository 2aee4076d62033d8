//! What is said of a stack.

use serde::{Deserialize, Serialize};

use super::survival::Survival;

/// What is said of a stack. The order is that in which a report shows stacks.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It holds more and more.
    Growing,
    /// Too early, or the signs disagree.
    #[default]
    Undecided,
    /// It rises and returns, again and again.
    Sawtooth,
    /// What it holds is level, or has stopped growing.
    Plateau,
    /// It holds less and less.
    Shrinking,
}

impl Verdict {
    /// Every verdict, in the order in which reports rank them.
    pub const ALL: [Self; 5] = [Self::Growing, Self::Undecided, Self::Sawtooth, Self::Plateau, Self::Shrinking];

    /// The verdict's name in reports and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Growing => "growing",
            Self::Undecided => "undecided",
            Self::Sawtooth => "sawtooth",
            Self::Plateau => "plateau",
            Self::Shrinking => "shrinking",
        }
    }

    /// Whether a stack leaks, as far as a verdict can tell: it holds more and more.
    pub const fn is_leak(self) -> bool {
        match self {
            Self::Growing => true,
            Self::Undecided | Self::Sawtooth | Self::Plateau | Self::Shrinking => false,
        }
    }

    /// Whether it says anything: not that it is too early, or that the signs disagree.
    pub const fn is_decided(self) -> bool {
        match self {
            Self::Undecided => false,
            Self::Growing | Self::Sawtooth | Self::Plateau | Self::Shrinking => true,
        }
    }

    /// Whether what a stack holds stays, so that the question is how much of it could still be growth.
    pub const fn is_level(self) -> bool {
        match self {
            Self::Plateau => true,
            Self::Growing | Self::Undecided | Self::Sawtooth | Self::Shrinking => false,
        }
    }

    /// Whether the noise of its bytes may hide a rise, so that the number of its blocks is asked as well.
    pub(super) const fn may_hide_a_rise(self) -> bool {
        match self {
            Self::Undecided | Self::Plateau => true,
            Self::Growing | Self::Sawtooth | Self::Shrinking => false,
        }
    }

    /// Whether a stack that does not rise may yet leave blocks behind, so that the survival of its blocks is asked as well.
    pub(super) const fn may_leave_blocks_behind(self) -> bool {
        match self {
            Self::Undecided | Self::Sawtooth | Self::Plateau => true,
            Self::Growing | Self::Shrinking => false,
        }
    }
}

/// A verdict with what it rests on.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The answer.
    pub verdict: Verdict,
    /// A score from 0 to 1, not a probability: how far the evidence is from what chance or noise would give. For
    /// `undecided`, at most 0.5: how far it leans to `growing`.
    pub confidence: f64,
    /// Sen's slope over the part of the run that decided.
    pub growth_bytes_per_hour: f64,
    /// Its 95 % interval.
    pub interval_bytes_per_hour: (f64, f64),
    /// What became of its older blocks; `None` when it is not known.
    pub survival: Option<Survival>,
    /// Why, in a sentence.
    pub evidence: String,
}

impl Judgement {
    /// The judgement of a stack of which nothing is known.
    pub(super) fn unknown() -> Self {
        Self {
            verdict: Verdict::Undecided,
            confidence: 0.0,
            growth_bytes_per_hour: 0.0,
            interval_bytes_per_hour: (0.0, 0.0),
            survival: None,
            evidence: "never observed".to_owned(),
        }
    }

    /// The finding with less confidence, for a stack of which events were lost.
    pub(super) fn with_losses(mut self) -> Self {
        self.confidence *= 0.7;
        self.evidence.push_str("; some events were lost, so the numbers may be off");
        self
    }
}
