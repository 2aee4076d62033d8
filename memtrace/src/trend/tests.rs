//! What the room promises as a whole. How good the verdicts are is measured by the corpus (`cargo xtask verdict`).

use proptest::prelude::*;

use super::*;

const INTERVAL_MS: u64 = 5000;

fn begin(trend: &mut Trend<u32>, interval: u64) {
    trend.begin_interval(interval * INTERVAL_MS, interval * INTERVAL_MS * 1_000_000);
}

/// A trend of one stack that held these bytes after each interval, in blocks of 64.
fn fed(values: impl IntoIterator<Item = u64>) -> Trend<u32> {
    let mut trend = Trend::new();
    for (interval, bytes) in (1..).zip(values) {
        begin(&mut trend, interval);
        trend.observe(1, Observation { bytes, blocks: bytes / 64, ..Observation::default() });
    }
    trend
}

fn verdict(values: impl IntoIterator<Item = u64>) -> Verdict {
    fed(values).judge(1).verdict
}

#[test]
fn a_new_key_held_nothing_one_interval_before() {
    let mut trend = Trend::new();
    begin(&mut trend, 1);
    trend.observe(1, Observation { bytes: 10, ..Observation::default() });
    begin(&mut trend, 2);
    begin(&mut trend, 3);
    trend.observe(2, Observation { bytes: 20, ..Observation::default() });
    assert_eq!(trend.series(1)[0], Sample { elapsed_ms: 0, bytes: 0, blocks: 0 });
    assert_eq!(trend.series(2)[0], Sample { elapsed_ms: 2 * INTERVAL_MS, bytes: 0, blocks: 0 });
    assert_eq!(trend.series(2).len(), 2);
    assert_eq!(trend.series(3), &[]);
}

#[test]
fn losses_lower_the_confidence_and_are_said() {
    let mut trend = fed((1..=20).map(|step| step * 1000));
    let before = trend.judge(1);
    trend.mark_all_lossy();
    let after = trend.judge(1);
    assert_eq!(after.verdict, before.verdict);
    assert!(after.confidence < before.confidence);
    assert!(after.evidence.contains("lost"), "{}", after.evidence);
}

#[test]
fn a_forgotten_key_is_gone() {
    let mut trend = fed([1, 2, 3]);
    assert_eq!(trend.len(), 1);
    trend.forget(1);
    assert!(trend.is_empty());
    assert_eq!(trend.judge(1).verdict, Verdict::Undecided);
}

#[test]
fn the_rate_of_a_plain_leak_is_its_rate() {
    // 1000 bytes every 5 s.
    let judgement = fed((1..=30).map(|step| step * 1000)).judge(1);
    assert_eq!(judgement.verdict, Verdict::Growing);
    assert!((judgement.growth_bytes_per_hour - 720_000.0).abs() < 1.0, "{judgement:?}");
    let (low, high) = judgement.interval_bytes_per_hour;
    assert!(low <= 720_001.0 && high >= 719_999.0, "{judgement:?}");
}

#[test]
fn the_intervals_that_grew_are_never_more_than_the_intervals() {
    // A stack that appears at about its full size: the sample before it is not judged, and not counted either.
    for intervals in 8..40 {
        let judged = fed((0..intervals).map(|step| 1_000_000 + step * 1000)).judge(1);
        let numbers: Vec<u64> = judged.evidence.split(' ').filter_map(|word| word.parse().ok()).collect();
        assert!(judged.evidence.starts_with("grew in"), "{}", judged.evidence);
        assert!(numbers[0] <= numbers[1], "{}", judged.evidence);
    }
}

#[test]
fn fewer_than_five_intervals_are_too_early_however_steep() {
    for count in 0..MIN_INTERVALS as u64 {
        assert_eq!(verdict((1..=count).map(|step| step << 30)), Verdict::Undecided);
    }
}

#[test]
fn a_plain_leak_is_decided_within_six_intervals() {
    for base in [0, 1 << 40] {
        assert_eq!(verdict((1..7).map(|step| base + step * 4096)), Verdict::Growing);
    }
}

#[test]
fn an_interval_without_growth_and_then_a_jump_change_nothing() {
    for at in 6..40 {
        let values: Vec<u64> = (1..=40).map(|step| 4096 * if step == at { step - 1 } else { step }).collect();
        for seen in 12..=40 {
            assert_eq!(verdict(values[..seen].iter().copied()), Verdict::Growing, "hiccup at {at}, seen {seen}");
        }
    }
}

#[test]
fn one_block_every_few_intervals_is_growing_after_several() {
    assert_eq!(verdict((0..40).map(|step| step / 5 * 64)), Verdict::Growing);
    assert_ne!(verdict((0..10).map(|step| step / 5 * 64)), Verdict::Growing);
}

#[test]
fn what_stopped_is_a_plateau() {
    assert_eq!(verdict((0..40).map(|step: u64| step.min(20) * 1000)), Verdict::Plateau);
    assert_eq!(verdict((0..40).map(|step: u64| step.min(8) / 2 * 1000)), Verdict::Plateau);
    assert_eq!(verdict((0..20).map(|step| if step < 10 { 5 } else { 500 })), Verdict::Plateau);
    assert_eq!(verdict([0, 7, 7, 7, 7, 7, 7]), Verdict::Plateau);
}

#[test]
fn what_is_all_gone_is_a_plateau() {
    assert_eq!(verdict((0..40).map(|step| if step < 39 { step * 100 } else { 0 })), Verdict::Plateau);
}

#[test]
fn a_sawtooth_is_one_and_a_drain_shrinks() {
    assert_eq!(verdict((0..50).map(|step| step % 8 * 1000)), Verdict::Sawtooth);
    assert_eq!(verdict((0..30).map(|step| 1_000_000 - step * 10_000)), Verdict::Shrinking);
}

#[test]
fn a_leak_that_starts_after_days_is_seen() {
    let day = 24 * 3600 / 5;
    assert_eq!(verdict((0..3 * day + 40).map(|step: u64| 1000 + step.saturating_sub(3 * day) * 100)), Verdict::Growing);
}

#[test]
fn a_leak_of_days_goes_on_being_one() {
    assert_eq!(verdict((0..60_000).map(|step| step * 10)), Verdict::Growing);
    assert_eq!(verdict((0..60_000).map(|step| step / 700 * 64)), Verdict::Growing);
}

#[test]
fn intervals_that_were_not_recorded_are_no_plateau() {
    let mut trend = Trend::new();
    let mut bytes = 0;
    for interval in 1..=30 {
        begin(&mut trend, interval);
        let lost = (18..28).contains(&interval);
        if lost {
            trend.mark_gap();
        } else {
            bytes += 1000;
        }
        trend.observe(1, Observation { bytes, blocks: bytes / 100, ..Observation::default() });
        if interval >= 12 {
            let judgement = trend.judge(1);
            assert_eq!(judgement.verdict, Verdict::Growing, "after {interval}: {judgement:?}");
            assert!((judgement.growth_bytes_per_hour - 720_000.0).abs() < 1.0, "after {interval}: {judgement:?}");
        }
    }
}

#[test]
fn a_trend_that_begins_later_takes_what_is_held_then_as_its_base() {
    let base_ms = 60_000;
    let mut trend = Trend::beginning_at(base_ms);
    let held = |bytes, blocks, allocations| Observation {
        bytes,
        blocks,
        allocations,
        allocated_bytes: 1000 * allocations,
        precision: None,
    };
    trend.begin_interval(base_ms, base_ms * 1_000_000);
    trend.observe(1, held(4000, 4, 1000));
    for interval in 1..=20 {
        let now_ms = base_ms + interval * INTERVAL_MS;
        trend.begin_interval(now_ms, now_ms * 1_000_000);
        trend.observe(1, held(4000, 4, 1000));
        trend.observe(2, held(interval * 1000, interval, interval));
    }
    assert_eq!(trend.series(1)[0], Sample { elapsed_ms: base_ms, bytes: 4000, blocks: 4 });
    assert_eq!(trend.series(2)[0], Sample { elapsed_ms: base_ms, bytes: 0, blocks: 0 });
    assert_eq!(trend.judge(1).verdict, Verdict::Plateau);
    assert_eq!(trend.judge(2).verdict, Verdict::Growing);
}

/// Feeds a stack whose blocks are born `born` an interval, and of which `alive(birth, now)` live.
fn with_cohorts(intervals: u64, born: u64, alive: impl Fn(u64, u64) -> u64) -> Judgement {
    let mut trend = Trend::new();
    for now in 1..=intervals {
        begin(&mut trend, now);
        let blocks: u64 = (1..=now).map(|birth| alive(birth, now)).sum();
        trend.observe(
            1,
            Observation {
                bytes: 100 * blocks,
                blocks,
                allocations: now * born,
                allocated_bytes: now * born * 100,
                precision: None,
            },
        );
        assert_eq!(trend.followed(), [1]);
        let mut cohorts = vec![Cohort::default(); trend.cohort_ends_ns().len()];
        for birth in 1..=now {
            let time_ns = (birth * INTERVAL_MS - 1) * 1_000_000;
            let place = trend.cohort_ends_ns().partition_point(|&end| end <= time_ns);
            (0..alive(birth, now)).for_each(|_| cohorts[place].add(100));
        }
        trend.look(1, &cohorts);
    }
    trend.judge(1)
}

#[test]
fn a_leak_whose_blocks_stay_is_confirmed() {
    let judgement = with_cohorts(30, 50, |_, _| 10);
    assert_eq!(judgement.verdict, Verdict::Growing);
    assert!(judgement.evidence.ends_with("none was freed"), "{}", judgement.evidence);
    let survival = judgement.survival.expect("known");
    assert!((survival.living_share() - 0.2).abs() < 1e-9, "{survival:?}");
}

#[test]
fn a_load_that_rises_is_no_leak_since_its_blocks_are_freed() {
    // Each lives for five intervals, and there are ever more of them.
    let judgement = with_cohorts(40, 200, |birth, now| if now - birth < 5 { birth * 5 } else { 0 });
    assert_eq!(judgement.verdict, Verdict::Undecided, "{judgement:?}");
    assert!(judgement.evidence.contains("freed"), "{}", judgement.evidence);
}

#[test]
fn among_many_stacks_few_are_growing_by_chance() {
    let mut trend = Trend::new();
    let mut state = 88_172_645_463_325_252u64;
    for interval in 1..=20 {
        begin(&mut trend, interval);
        for key in 0..1000u32 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // The first three leak.
            let bytes = if key < 3 { interval * 5000 } else { 1_000_000 + state % 100_000 };
            trend.observe(key, Observation { bytes, blocks: bytes / 100, ..Observation::default() });
        }
    }
    let keys: Vec<u32> = (0..1000).collect();
    let growing: Vec<u32> = keys
        .iter()
        .zip(trend.judge_all(&keys))
        .filter(|(_, judgement)| judgement.verdict == Verdict::Growing)
        .map(|(&key, _)| key)
        .collect();
    assert_eq!(growing, [0, 1, 2]);
}

#[test]
fn memory_for_a_stack_is_bounded_over_days() {
    let mut trend = Trend::new();
    for interval in 1..=20_000 {
        begin(&mut trend, interval);
        trend.observe(
            1,
            Observation {
                bytes: interval,
                blocks: interval,
                allocations: interval,
                allocated_bytes: interval,
                precision: None,
            },
        );
        let cohorts = vec![Cohort { blocks: 1, bytes: 1 }; trend.cohort_ends_ns().len()];
        trend.look(1, &cohorts);
    }
    assert!(trend.heap_bytes() < 20_000, "{}", trend.heap_bytes());
}

proptest! {
    #[test]
    fn any_series_has_a_judgement_in_range(values in prop::collection::vec(any::<u64>(), 0..250)) {
        let trend = fed(values.iter().copied());
        let judgement = trend.judge(1);
        prop_assert!((0.0..=1.0).contains(&judgement.confidence));
        prop_assert!(judgement.growth_bytes_per_hour.is_finite());
        let (low, high) = judgement.interval_bytes_per_hour;
        prop_assert!(low <= judgement.growth_bytes_per_hour && judgement.growth_bytes_per_hour <= high);
        prop_assert!(low.is_finite() && high.is_finite());
        prop_assert!(!judgement.evidence.is_empty());
        prop_assert_eq!(trend.judge(1), judgement);
    }

    #[test]
    fn any_cohorts_have_a_judgement(
        steps in prop::collection::vec((any::<u64>(), any::<u64>(), any::<u64>(), any::<u32>()), 0..60)
    ) {
        let mut trend = Trend::new();
        for (interval, (bytes, blocks, allocations, alive)) in (1..).zip(steps) {
            begin(&mut trend, interval);
            trend.observe(1, Observation { bytes, blocks, allocations, allocated_bytes: bytes, precision: None });
            let alive = Cohort { blocks: u64::from(alive), bytes };
            trend.look(1, &vec![alive; trend.cohort_ends_ns().len()]);
            let judgement = trend.judge(1);
            prop_assert!((0.0..=1.0).contains(&judgement.confidence));
        }
    }

    #[test]
    fn the_unit_does_not_matter(values in prop::collection::vec(0u64..1000, 0..80)) {
        let scaled = values.iter().map(|value| value * 1024);
        let same_blocks = |values: &mut dyn Iterator<Item = u64>| {
            let mut trend = Trend::new();
            for (interval, bytes) in (1..).zip(values) {
                begin(&mut trend, interval);
                trend.observe(1, Observation { bytes, blocks: 1, ..Observation::default() });
            }
            trend.judge(1).verdict
        };
        prop_assert_eq!(same_blocks(&mut values.iter().copied()), same_blocks(&mut { scaled }));
    }

    #[test]
    fn what_only_shrinks_is_never_growing(drops in prop::collection::vec(0u64..1000, 1..120)) {
        let mut level = 1_000_000;
        prop_assert_ne!(verdict(drops.into_iter().map(|drop| { level -= drop; level })), Verdict::Growing);
    }
}
