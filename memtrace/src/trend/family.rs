//! Many stacks are judged at once: of two thousand level ones, some rise by chance.
//!
//! Source: Y. Benjamini and Y. Hochberg, "Controlling the false discovery rate", JRSS B 57 (1995); it also holds for
//! stacks that follow the same load (Y. Benjamini and D. Yekutieli, Annals of Statistics 29, 2001).

/// The largest chance that may pass among `chances` (one for each stack that was judged, 1 for those that do not rise),
/// so that of what passes a share of at most `rate` is expected to be chance; 0 when nothing passes.
pub fn benjamini_hochberg(chances: &[f64], rate: f64) -> f64 {
    let mut sorted: Vec<f64> = chances.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let count = sorted.len() as f64;
    let passes = |&(rank, &chance): &(usize, &f64)| chance <= rate * (rank + 1) as f64 / count;
    sorted.iter().enumerate().rfind(passes).map_or(0.0, |(_, &chance)| chance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_paper_rejects_four() {
        // Benjamini and Hochberg (1995), section 4.
        let chances = [
            0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528,
            0.7590, 1.0,
        ];
        let largest = benjamini_hochberg(&chances, 0.05);
        assert_eq!(chances.iter().filter(|&&chance| chance <= largest).count(), 4);
    }

    #[test]
    fn one_stack_alone_has_the_plain_threshold() {
        assert_eq!(benjamini_hochberg(&[0.04], 0.05), 0.04);
        assert_eq!(benjamini_hochberg(&[0.06], 0.05), 0.0);
        assert_eq!(benjamini_hochberg(&[], 0.05), 0.0);
    }
}
