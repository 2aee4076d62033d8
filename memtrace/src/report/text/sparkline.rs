//! A series as a line of bars.

/// The most bars of a report.
pub const SPARKLINE: usize = 40;

/// At most `columns` bars from 0 to the most, with the least and the most bytes; `None` for fewer than two samples. Zero is the base, so
/// that a level series looks level.
pub fn sparkline(series: &[(u64, u64)], columns: usize) -> Option<(String, u64, u64)> {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let (first, last) = (series.first()?.0, series.last()?.0);
    let most = series.iter().map(|&(_, bytes)| bytes).max()?;
    let least = series.iter().map(|&(_, bytes)| bytes).min()?;
    if series.len() < 2 || last <= first {
        return None;
    }
    // A column is an equal share of the time and shows the newest sample up to its end.
    let columns = series.len().min(columns);
    let mut bars = String::new();
    let mut index = 0;
    for column in 0..columns {
        let until = u128::from(last - first) * column as u128 / (columns - 1).max(1) as u128;
        while series.get(index + 1).is_some_and(|&(at, _)| u128::from(at.saturating_sub(first)) <= until) {
            index += 1;
        }
        let height = if most == 0 { 0 } else { (u128::from(series[index].1) * 7).div_ceil(u128::from(most)) };
        bars.push(BARS[(height as usize).min(7)]);
    }
    Some((bars, least, most))
}
