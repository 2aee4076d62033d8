//! How many allocations have a whole stack, and why the others have not, in one sentence.

use super::snapshot::Tracer;
use crate::unwind::end;

/// The most reasons in the sentence; the others are summed.
const MAX_REASONS: usize = 3;

/// `Stacks: 99.8 % whole; 0.2 % cut: no unwind table 0.1 %, ...`; `None` when all are whole.
pub(super) fn sentence(tracer: &Tracer) -> Option<String> {
    let short: u64 = tracer.stacks_short.values().fold(0, |sum, &count| sum.saturating_add(count));
    if short == 0 {
        return None;
    }
    let all = tracer.stacks_complete.saturating_add(short);
    // Ends that read alike are counted together; the reasons with the most allocations come first.
    let mut reasons: Vec<(&str, u64)> = Vec::new();
    for (name, &count) in tracer.stacks_short.iter().filter(|&(_, &count)| count > 0) {
        let words = end::words(name).unwrap_or("other reasons");
        match reasons.iter_mut().find(|(known, _)| *known == words) {
            Some((_, sum)) => *sum = sum.saturating_add(count),
            None => reasons.push((words, count)),
        }
    }
    reasons.sort_by_key(|&(words, count)| (std::cmp::Reverse(count), words));
    if reasons.len() > MAX_REASONS {
        let rest = reasons.drain(MAX_REASONS - 1..).map(|(_, count)| count).sum();
        reasons.push(("other reasons", rest));
    }
    // Rounded down: a run with cut stacks never reads as a whole one.
    let whole = u128::from(tracer.stacks_complete) * 1000 / u128::from(all);
    let whole = format!("{}.{} % whole", whole / 10, whole % 10);
    Some(match reasons.as_slice() {
        [(words, _)] => format!("Stacks: {whole}; {} cut: {words}", share(short, all)),
        many => {
            let many: Vec<String> =
                many.iter().map(|&(words, count)| format!("{words} {}", share(count, all))).collect();
            format!("Stacks: {whole}; {} cut: {}", share(short, all), many.join(", "))
        }
    })
}

/// `0.1 %`, or `<0.1 %` for what would read as nothing.
fn share(part: u64, all: u64) -> String {
    let percent = part as f64 * 100.0 / all as f64;
    if percent < 0.05 { "<0.1 %".to_owned() } else { format!("{percent:.1} %") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(complete: u64, short: &[(&'static str, u64)]) -> Option<String> {
        let stacks_short = short.iter().map(|&(name, count)| (name.into(), count)).collect();
        sentence(&Tracer { stacks_complete: complete, stacks_short, ..Tracer::default() })
    }

    #[test]
    fn whole_stacks_need_no_sentence() {
        assert_eq!(of(0, &[]), None);
        assert_eq!(of(5, &[]), None);
        assert_eq!(of(5, &[("no_table", 0)]), None);
    }

    #[test]
    fn reasons_are_named_the_largest_first() {
        let text = of(9980, &[("too_deep", 8), ("no_table", 12)]);
        let expected = "Stacks: 99.8 % whole; 0.2 % cut: no unwind table 0.1 %, deeper than 127 frames 0.1 %";
        assert_eq!(text.as_deref(), Some(expected));
        let text = of(0, &[("no_frame_pointer", 7)]);
        assert_eq!(text.as_deref(), Some("Stacks: 0.0 % whole; 100.0 % cut: no frame pointers"));
    }

    #[test]
    fn a_run_with_one_cut_stack_does_not_read_as_whole() {
        let text = of(u64::MAX - 1, &[("not_stored", 1)]);
        assert_eq!(text.as_deref(), Some("Stacks: 99.9 % whole; <0.1 % cut: frames not kept"));
    }

    #[test]
    fn many_and_unknown_reasons_stay_short() {
        let short = [("not_climbing", 5), ("bad_return_address", 5), ("no_table", 4), ("new_one", 2), ("too_deep", 1)];
        let expected =
            "Stacks: 83.0 % whole; 17.0 % cut: damaged stack 10.0 %, no unwind table 4.0 %, other reasons 3.0 %";
        assert_eq!(of(83, &short).as_deref(), Some(expected));
    }
}
