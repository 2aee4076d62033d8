//! Rates as people type them: `50MB/h`.

use super::UsageError;

/// Bytes an hour of a size and a time.
///
/// # Errors
///
/// When it is anything else; `flag` is named.
pub(super) fn rate(flag: &'static str, value: &str) -> Result<f64, UsageError> {
    read(value).ok_or_else(|| UsageError::Rate { flag, value: value.to_owned() })
}

fn read(value: &str) -> Option<f64> {
    let (size, unit) = value.split_once('/')?;
    let an_hour = match unit.trim() {
        "s" | "sec" => 3600.0,
        "m" | "min" => 60.0,
        "h" | "hour" => 1.0,
        "d" | "day" => 1.0 / 24.0,
        _ => return None,
    };
    Some(parse_size::parse_size(size.trim()).ok()? as f64 * an_hour)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_a_size_and_a_time() {
        assert_eq!(read("1MB/h"), Some(1e6));
        assert_eq!(read("64KiB/s"), Some(65_536.0 * 3600.0));
        assert_eq!(read("10 kB/min"), Some(600_000.0));
        assert_eq!(read("24 MB/d"), Some(1e6));
        assert_eq!(read("0B/h"), Some(0.0));
        for nonsense in ["", "1MB", "1MB/", "/h", "fast/h", "1MB/y", "-1MB/h", "1MB/h/h"] {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
    }
}
