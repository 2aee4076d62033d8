//! Numbers as a person reads them: decimal units (1 kB = 1000 bytes), three figures, durations in two parts.

const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];

/// `512 B`, `12.3 MB`, `1.25 GB`.
pub fn bytes(count: u64) -> String {
    if count < 1000 { format!("{count} B") } else { scaled(count as f64) }
}

/// `+1.20 MB/h`, `-300 B/h`, `0 B/h`.
pub fn rate(bytes_per_hour: f64) -> String {
    if !bytes_per_hour.is_finite() || bytes_per_hour.abs() < 0.5 {
        return "0 B/h".to_owned();
    }
    let sign = if bytes_per_hour < 0.0 { '-' } else { '+' };
    format!("{sign}{}/h", scaled(bytes_per_hour.abs()))
}

/// `+36.2 MB/h (35.9 to 36.5)`: a rate with the interval that it lies in, in the same unit; without one that says nothing.
pub fn rate_within(bytes_per_hour: f64, interval: Option<(f64, f64)>) -> String {
    let text = rate(bytes_per_hour);
    let Some((low, high)) = interval.filter(|(low, high)| low.is_finite() && high.is_finite() && low < high) else {
        return text;
    };
    if text.starts_with('0') {
        return text;
    }
    // The unit of the rate itself, so that the three compare at a glance.
    let unit = text.trim_end_matches("/h").rsplit(' ').next().unwrap_or_default();
    let power = UNITS.iter().position(|one| *one == unit).unwrap_or(0) as i32;
    let size = 1000f64.powi(power);
    let widest = low.abs().max(high.abs()) / size;
    if widest >= 9999.5 {
        return format!("{text} (uncertain)");
    }
    let decimals = if power == 0 { 0 } else { decimals(bytes_per_hour.abs() / size) };
    let end = |value: f64| {
        let text = format!("{:.decimals$}", value / size);
        // No minus before nothing.
        if text.trim_start_matches('-').chars().all(|digit| matches!(digit, '0' | '.')) { "0".to_owned() } else { text }
    };
    let (low, high) = (end(low), end(high));
    if low == high { text } else { format!("{text} ({low} to {high})") }
}

/// `0.4 s`, `12 s`, `3m 20s`, `2h 05m`, `3d 4h`.
pub fn duration(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0 => format!("{}.{} s", seconds, milliseconds / 100),
        1..60 => format!("{seconds} s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Writes a count with commas between thousands, such as `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `+12.3 MB`, `-512 B`, `0 B`.
pub fn signed_bytes(change: i64) -> String {
    format!("{}{}", sign(change), bytes(change.unsigned_abs()))
}

/// Writes a change of a count with its sign, such as `+1,200`, `-5` or `0`.
pub fn signed_count(change: i64) -> String {
    format!("{}{}", sign(change), count(change.unsigned_abs()))
}

const fn sign(change: i64) -> &'static str {
    match change {
        1.. => "+",
        0 => "",
        _ => "-",
    }
}

/// Writes a count of things, in the singular or the plural, such as `1 block` or `2 blocks`.
pub fn of(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

fn scaled(value: f64) -> String {
    let mut value = value;
    let mut unit = 0;
    // What would be shown as 1000 belongs to the next unit.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = if unit == 0 { 0 } else { decimals(value) };
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// Decimals that make three figures.
fn decimals(value: f64) -> usize {
    match value {
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_three_figures() {
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (12_345_678, "12.3 MB"),
            (999_499, "999 kB"),
            (999_500, "1.00 MB"),
            (9_996_000, "10.0 MB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn rates_have_a_sign() {
        assert_eq!(rate(1_200_000.0), "+1.20 MB/h");
        assert_eq!(rate(-300.0), "-300 B/h");
        assert_eq!(rate(0.2), "0 B/h");
        assert_eq!(rate(f64::NAN), "0 B/h");
    }

    #[test]
    fn rates_have_their_interval_in_the_same_unit() {
        for (rate, interval, text) in [
            (36.2e6, Some((35.9e6, 36.5e6)), "+36.2 MB/h (35.9 to 36.5)"),
            (-5e3, Some((-9e3, 1.0)), "-5.00 kB/h (-9.00 to 0)"),
            (700.0, Some((-100.0, 1500.0)), "+700 B/h (-100 to 1500)"),
            (1e3, Some((-1e9, 1e9)), "+1.00 kB/h (uncertain)"),
            (36.2e6, Some((36.2e6, 36.2001e6)), "+36.2 MB/h"),
            (36.2e6, Some((f64::NAN, 1.0)), "+36.2 MB/h"),
            (36.2e6, None, "+36.2 MB/h"),
            (0.0, Some((-9.0, 9.0)), "0 B/h"),
        ] {
            assert_eq!(rate_within(rate, interval), text);
        }
    }

    #[test]
    fn changes_have_a_sign() {
        assert_eq!(
            (signed_bytes(1500), signed_bytes(-7), signed_bytes(0)),
            ("+1.50 kB".into(), "-7 B".into(), "0 B".into())
        );
        assert_eq!(
            (signed_count(1200), signed_count(i64::MIN)),
            ("+1,200".into(), "-9,223,372,036,854,775,808".into())
        );
    }

    #[test]
    fn durations_have_two_parts() {
        for (milliseconds, text) in [
            (0, "0.0 s"),
            (450, "0.4 s"),
            (59_999, "59 s"),
            (200_000, "3m 20s"),
            (7_500_000, "2h 05m"),
            (273_600_000, "3d 4h"),
        ] {
            assert_eq!(duration(milliseconds), text);
        }
    }

    #[test]
    fn counts_are_grouped() {
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(of(1, "block", "blocks"), "1 block");
        assert_eq!(of(1000, "block", "blocks"), "1,000 blocks");
    }
}
