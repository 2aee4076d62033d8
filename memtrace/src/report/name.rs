//! What places and stacks are called: in headlines, lines of frames, and flame graphs. Everything here is escaped.

use jiff::Timestamp;

use super::{
    escape::escape,
    number::{bytes, duration, of},
    snapshot::{Frame, Process, Snapshot, Stack, StackKind},
    text::width::shorten,
};

/// `leak_here (server.c:42)`, short enough for the headline.
pub fn place(frame: &Frame) -> String {
    let name = shorten(&function(frame), 60);
    match (source(frame, true), &frame.module) {
        (Some(source), _) => format!("{name} ({})", shorten(&source, 40)),
        (None, Some(module)) => format!("{name} ({})", shorten(&escape(module), 40)),
        (None, None) => name,
    }
}

/// The function, or else the address.
pub fn function(frame: &Frame) -> String {
    frame.function.as_deref().map_or_else(|| escape(&frame.address).into_owned(), |name| escape(name).into_owned())
}

/// `7 frames of libpython3.11.so.1.0`, for functions of an interpreter that are not shown one by one.
pub fn inside(first: &Frame, count: usize) -> String {
    let module = first.module.as_deref().map_or_else(|| "unknown code".to_owned(), |name| escape(name).into_owned());
    format!("{} of {}", of(count as u64, "frame", "frames"), shorten(&module, 40))
}

/// `server.c:42`; with the whole path unless `base_only`.
pub fn source(frame: &Frame, base_only: bool) -> Option<String> {
    let file = frame.file.as_deref()?;
    let file = if base_only { file.rsplit('/').next().unwrap_or(file) } else { file };
    let line = frame.line.map(|line| format!(":{line}")).unwrap_or_default();
    Some(format!("{}{line}", escape(file)))
}

/// One name for a frame of a flame graph: the function, or else `libc.so.6+0x1234`, or else the address.
pub fn label(frame: &Frame) -> String {
    match (&frame.function, &frame.module, &frame.offset) {
        (Some(name), _, _) if !name.is_empty() => escape(name).into_owned(),
        (_, Some(module), Some(offset)) => format!("{}+{}", escape(module), escape(offset)),
        (_, Some(module), None) => format!("{} {}", escape(module), escape(&frame.address)),
        (_, None, _) => escape(&frame.address).into_owned(),
    }
}

/// `server (pid 4242)`: what tells processes apart.
pub fn process(pid: u32, processes: &[Process]) -> String {
    let command = processes.iter().find(|process| process.pid == pid).map_or("", |process| process.command.as_str());
    let program = command.split(' ').next().unwrap_or_default();
    let program = program.rsplit('/').next().unwrap_or_default();
    if program.is_empty() { format!("pid {pid}") } else { format!("{} (pid {pid})", escape(program)) }
}

/// What a stack holds, such as `603 kB in 1,200 blocks`.
pub fn holding(stack: &Stack) -> String {
    let (one, many) = match stack.kind {
        StackKind::Heap => ("block", "blocks"),
        StackKind::Map => ("mapped range", "mapped ranges"),
        StackKind::Page => ("touched range", "touched ranges"),
        StackKind::Managed => ("object", "objects"),
        StackKind::Small => ("small object", "small objects"),
        StackKind::Profiled => ("sampled object", "sampled objects"),
        StackKind::Goroutine => ("goroutine", "goroutines"),
    };
    let is_pages = stack.heap.is_some() && stack.kind == StackKind::Managed;
    let (one, many) = if is_pages { ("page range", "page ranges") } else { (one, many) };
    held(stack.outstanding_bytes, &of(stack.outstanding_blocks, one, many), stack.estimate.is_some())
}

/// `only 4.10 kB of it is in memory or swap: the rest was never written to, or given back`; `None` where most is.
pub fn in_memory(stack: &Stack) -> Option<String> {
    let resident = stack.resident_bytes.filter(|&resident| resident < stack.outstanding_bytes / 2);
    let reserved = (stack.reserved_bytes > 0)
        .then(|| format!("{} more of address space is reserved and cannot be accessed", bytes(stack.reserved_bytes)));
    let resident = resident.map(|resident| {
        let only = if resident == 0 { "none".to_owned() } else { format!("only {}", bytes(resident)) };
        format!("{only} of it is in memory or swap: the rest was never written to, or was given back")
    });
    match (resident, reserved) {
        (Some(resident), Some(reserved)) => Some(format!("{resident}; {reserved}")),
        (resident, reserved) => resident.or(reserved),
    }
}

/// `603 kB in 1,200 blocks`, or `about 603 kB in some 1,200 blocks` where that is estimated.
pub fn held(outstanding: u64, blocks: &str, is_estimate: bool) -> String {
    let (about, some) = if is_estimate { ("about ", "some ") } else { ("", "") };
    format!("{about}{} in {some}{blocks}", bytes(outstanding))
}

/// `2025-01-02 03:04:05 UTC`, from RFC 3339.
pub fn moment(at: &str) -> String {
    match at.parse::<Timestamp>() {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => escape(at).into_owned(),
    }
}

/// `03:04:05 UTC`, at so many milliseconds after the attach; with the date in runs of a day and more. `None` where a saved run does not
/// say when it was.
pub fn time_of_day(snapshot: &Snapshot, at_ms: u64) -> Option<String> {
    const DAY_MS: u64 = 24 * 3_600_000;
    let before = i64::try_from(snapshot.elapsed_ms.checked_sub(at_ms)?).ok()?;
    let at = snapshot.at.parse::<Timestamp>().ok()?.checked_sub(jiff::SignedDuration::from_millis(before)).ok()?;
    let form = if snapshot.elapsed_ms < DAY_MS { "%H:%M:%S UTC" } else { "%Y-%m-%d %H:%M UTC" };
    Some(at.strftime(form).to_string())
}

/// How old the blocks of a stack are, such as `half older than 29 s`; `None` where no age is known.
pub fn median_age(stack: &Stack) -> Option<String> {
    stack.age_ms.map(|age| format!("half older than {}", duration(age.p50)))
}

/// `98% of 600 blocks allocated over 30 s ago live`.
pub fn survival(stack: &Stack) -> Option<String> {
    let survival = stack.survival.filter(|survival| survival.allocated_blocks > 0)?;
    let (number, age) = (survival.allocated_blocks, duration(survival.older_than_ms));
    let blocks = of(number, "block", "blocks");
    // Neither all nor none by rounding.
    let percent = (survival.living_share.clamp(0.0, 1.0) * 100.0).round();
    Some(match survival.living_share {
        share if share >= 1.0 => format!("all of {blocks} allocated over {age} ago live"),
        share if share > 0.0 => format!("{}% of {blocks} allocated over {age} ago live", percent.clamp(1.0, 99.0)),
        _ => format!("none of {blocks} allocated over {age} ago lives"),
    })
}

/// Whether any block of the stack lives.
pub fn holds(stack: &Stack) -> bool {
    stack.outstanding_bytes > 0 || stack.outstanding_blocks > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn times_of_day_count_back_from_when_the_report_was_made() {
        let of = |elapsed_ms, at_ms| {
            let snapshot = Snapshot { at: "2025-01-02T03:04:05Z".to_owned(), elapsed_ms, ..sample::snapshot() };
            time_of_day(&snapshot, at_ms)
        };
        assert_eq!(of(60_000, 60_000).as_deref(), Some("03:04:05 UTC"));
        assert_eq!(of(60_000, 0).as_deref(), Some("03:03:05 UTC"));
        assert_eq!(of(48 * 3_600_000, 0).as_deref(), Some("2024-12-31 03:04 UTC"));
        assert_eq!(of(60_000, 60_001), None);
        let unsaid = Snapshot { at: String::new(), ..sample::snapshot() };
        assert_eq!(time_of_day(&unsaid, 0), None);
    }
}
