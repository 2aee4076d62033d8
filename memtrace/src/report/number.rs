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

/// `1,234,567`.
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

/// `1 block`, `2 blocks`.
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
    let decimals = match value {
        _ if unit == 0 => 0,
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {}", UNITS[unit])
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
