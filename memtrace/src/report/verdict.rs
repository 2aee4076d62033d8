//! The words for a verdict, in every form that people read.

use super::snapshot::Stack;

/// `growing 98%`: the verdict and how sure it is. Undecided has no confidence to speak of, and nothing is 100 % sure.
pub fn verdict(stack: &Stack) -> String {
    let name = stack.verdict.as_str();
    if !stack.verdict.is_decided() {
        return name.to_owned();
    }
    format!("{name} {}%", (stack.confidence * 100.0).floor().clamp(0.0, 99.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{report::sample, trend::Verdict};

    #[test]
    fn a_verdict_is_never_quite_sure_and_undecided_has_no_confidence() {
        let said = |verdict, confidence| self::verdict(&Stack { verdict, confidence, ..sample::stack() });
        assert_eq!(said(Verdict::Growing, 0.987), "growing 98%");
        assert_eq!(said(Verdict::Plateau, 1.0), "plateau 99%");
        assert_eq!(said(Verdict::Undecided, 0.4), "undecided");
    }
}
