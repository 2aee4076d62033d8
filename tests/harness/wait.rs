//! Waits for conditions, with deadlines.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// How long anything may take before a test calls it hung.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Asks `condition` until it gives a value.
///
/// # Errors
/// When it fails, or has given none by [`DEADLINE`]; `what` says what was waited for.
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if start.elapsed() > DEADLINE {
            bail!("waited {DEADLINE:?} in vain for {what}");
        }
        sleep(Duration::from_millis(5));
    }
}
