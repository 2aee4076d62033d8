//! One stack's samples over a run of any length, in bounded memory.
//!
//! The newest [`RECENT`] samples are kept as they came. When [`MAX_SAMPLES`] are held, the older ones are thinned to
//! about half by an even spacing in time, so that the run as a whole stays visible and evenly weighted.

/// The most samples a series holds.
pub const MAX_SAMPLES: usize = 180;

/// The newest samples, which thinning leaves alone.
pub const RECENT: usize = 60;

/// What one stack held at one moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sample {
    /// Milliseconds since the attach.
    pub elapsed_ms: u64,
    /// Outstanding bytes.
    pub bytes: u64,
    /// Outstanding blocks.
    pub blocks: u64,
}

impl Sample {
    /// What two stacks hold together, at the time of the first sample.
    pub fn plus(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_add(other.bytes), blocks: self.blocks.saturating_add(other.blocks), ..self }
    }
}

/// Something that is known for one moment.
pub trait Timed: Copy {
    /// Milliseconds since the attach.
    fn elapsed_ms(&self) -> u64;
}

impl Timed for Sample {
    fn elapsed_ms(&self) -> u64 {
        self.elapsed_ms
    }
}

/// A bounded series; times strictly increase.
#[derive(Clone, Debug)]
pub struct Series<T = Sample> {
    samples: Vec<T>,
}

impl<T> Default for Series<T> {
    fn default() -> Self {
        Self { samples: Vec::new() }
    }
}

impl<T: Timed> Series<T> {
    /// Adds a sample. One at the time of the newest replaces it; one that is older is ignored.
    pub fn push(&mut self, sample: T) {
        match self.samples.last_mut() {
            Some(last) if last.elapsed_ms() == sample.elapsed_ms() => *last = sample,
            Some(last) if last.elapsed_ms() > sample.elapsed_ms() => {}
            _ => {
                if self.samples.len() == MAX_SAMPLES {
                    self.thin();
                }
                self.samples.push(sample);
            }
        }
    }

    /// Adds another series to this one, at the times of this one. Before its first sample the other has nothing; between
    /// two samples it has what it had at the first of them.
    pub fn add(&mut self, other: &Self, plus: impl Fn(T, T) -> T) {
        let mut later = other.samples.iter().peekable();
        let mut now = None;
        for sample in &mut self.samples {
            while let Some(next) = later.next_if(|next| next.elapsed_ms() <= sample.elapsed_ms()) {
                now = Some(*next);
            }
            if let Some(now) = now {
                *sample = plus(*sample, now);
            }
        }
    }

    /// Every sample that is kept, the oldest first; the older half is thinned.
    pub fn samples(&self) -> &[T] {
        &self.samples
    }

    /// The newest samples, of which none has been thinned out.
    pub fn recent(&self) -> &[T] {
        &self.samples[self.samples.len().saturating_sub(RECENT)..]
    }

    /// At most about `most` samples of the whole run, evenly spaced in time, with the first and the last.
    pub fn overview(&self, most: usize) -> Vec<T> {
        if self.samples.len() <= most {
            return self.samples.clone();
        }
        let mut even = self.samples.clone();
        space_evenly(&mut even, self.samples.len(), most);
        if let (Some(last), Some(newest)) = (even.last_mut(), self.samples.last()) {
            *last = *newest;
        }
        even
    }

    /// Bytes of memory that the samples take.
    #[cfg(test)]
    pub fn heap_bytes(&self) -> usize {
        self.samples.capacity() * size_of::<T>()
    }

    fn thin(&mut self) {
        let older = self.samples.len() - RECENT;
        space_evenly(&mut self.samples, older, older / 2);
    }
}

/// Thins `samples[..older]` to at most `most + 1`: their time is cut into equal cells, and the first sample of each stays.
fn space_evenly<T: Timed>(samples: &mut Vec<T>, older: usize, most: usize) {
    let (Some(first), Some(last)) = (samples.first().copied(), samples.get(older.saturating_sub(1)).copied()) else {
        return;
    };
    // Rounded up, so that no cell is left over.
    let cell_ms = (last.elapsed_ms() - first.elapsed_ms()).div_ceil(most.max(1) as u64).max(1);
    let mut index = 0;
    let mut newest_cell = None;
    samples.retain(|sample| {
        let is_older = index < older;
        index += 1;
        let cell = Some((sample.elapsed_ms() - first.elapsed_ms()) / cell_ms);
        let keep = !is_older || cell != newest_cell;
        newest_cell = cell;
        keep
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn long(count: u64) -> Series {
        let mut series = Series::default();
        for step in 0..count {
            series.push(Sample { elapsed_ms: step * 5000, bytes: step, blocks: step });
        }
        series
    }

    #[test]
    fn days_fit_with_the_start_and_the_newest() {
        // Three days of 5 s intervals.
        let series = long(51_840);
        assert!(series.samples().len() <= MAX_SAMPLES);
        assert_eq!(series.samples()[0].bytes, 0);
        assert_eq!(series.samples().last().unwrap().bytes, 51_839);
        assert_eq!(series.recent().len(), RECENT);
        assert!(series.recent().windows(2).all(|pair| pair[1].bytes == pair[0].bytes + 1));
    }

    #[test]
    fn an_overview_of_days_is_even() {
        let overview = long(51_840).overview(90);
        assert!((30..=91).contains(&overview.len()), "{}", overview.len());
        let gaps: Vec<u64> = overview.windows(2).map(|pair| pair[1].elapsed_ms - pair[0].elapsed_ms).collect();
        let middle = &gaps[..gaps.len() - 1];
        let (least, most) = (middle.iter().min().unwrap(), middle.iter().max().unwrap());
        assert!(*most <= least * 4, "gaps from {least} to {most}");
    }

    #[test]
    fn series_are_added_at_the_times_of_the_first() {
        let series = |samples: &[(u64, u64)]| {
            let mut series = Series::default();
            samples.iter().for_each(|&(elapsed_ms, bytes)| series.push(Sample { elapsed_ms, bytes, blocks: 1 }));
            series
        };
        let mut sum = series(&[(0, 1), (10, 2), (20, 3), (30, 4)]);
        sum.add(&series(&[(10, 100), (25, 200), (40, 300)]), Sample::plus);
        let bytes: Vec<u64> = sum.samples().iter().map(|sample| sample.bytes).collect();
        assert_eq!(bytes, [1, 102, 103, 204]);
    }

    proptest! {
        #[test]
        fn it_stays_bounded_and_ordered(gaps in proptest::collection::vec(0u64..100_000, 1..2000)) {
            let mut series = Series::default();
            let mut now = 0;
            for gap in gaps {
                now += gap;
                series.push(Sample { elapsed_ms: now, bytes: now, blocks: 1 });
                prop_assert!(series.samples().len() <= MAX_SAMPLES);
                prop_assert_eq!(series.samples().last().unwrap().elapsed_ms, now);
            }
            prop_assert!(series.samples().windows(2).all(|pair| pair[0].elapsed_ms < pair[1].elapsed_ms));
            let overview = series.overview(90);
            prop_assert!(overview.windows(2).all(|pair| pair[0].elapsed_ms < pair[1].elapsed_ms));
            prop_assert_eq!(overview.last(), series.samples().last());
        }
    }
}
