//! The text of a perf map -> names of address ranges.
//!
//! A perf map is what runtimes write about code that they make: a line `START SIZE NAME` in hexadecimal for each piece,
//! appended as pieces are made (Linux, tools/perf/Documentation/jit-interface.txt). Memory for code is used again, so of
//! two lines that overlap the later one holds. The text is untrusted: any bytes are taken, lines that say nothing are
//! counted, and what is kept is bounded.

use std::collections::BTreeMap;

use crate::object::demangle::cut;

/// The most bytes of a name; longer ones are cut.
pub const MAX_NAME_BYTES: usize = 4096;
/// The largest piece of code: one garbled line must not cover all the others.
pub const MAX_RANGE_SIZE: u64 = 1 << 32;
/// The most ranges of one map.
pub const MAX_RANGES: usize = 1 << 20;
/// What a range takes in memory, in bytes without its name: key and value in a tree whose nodes are half full.
pub const RANGE_BYTES: u64 = 64;
/// Two 16-digit numbers, perhaps with `0x`, and two blanks come before a name; a lossy character is three bytes.
const MAX_LINE_BYTES: usize = MAX_NAME_BYTES + 2 * 18 + 2;

/// Cuts bytes that come in pieces into lines.
#[derive(Debug, Default)]
struct Lines {
    /// The line that has not ended yet, up to the bound.
    begun: Vec<u8>,
}

impl Lines {
    /// Takes the next bytes, and hands on each line that ends in them. Of a line that is too long the beginning counts.
    fn feed(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8])) {
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            if self.begun.is_empty() {
                line(&bytes[..end.min(MAX_LINE_BYTES)]);
            } else {
                self.begin(&bytes[..end]);
                line(&self.begun);
                self.begun.clear();
            }
            bytes = &bytes[end + 1..];
        }
        self.begin(bytes);
    }

    fn begin(&mut self, bytes: &[u8]) {
        let room = MAX_LINE_BYTES - self.begun.len();
        self.begun.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// `START SIZE NAME` as start, end, name; `None` for a line that names nothing.
fn parse(line: &[u8]) -> Option<(u64, u64, &[u8])> {
    let mut fields = line.splitn(3, |&byte| byte == b' ');
    let start = hexadecimal(fields.next()?)?;
    let size = hexadecimal(fields.next()?).filter(|&size| size <= MAX_RANGE_SIZE)?;
    let end = start.checked_add(size)?;
    let name = fields.next()?.trim_ascii();
    (start < end && !name.is_empty()).then_some((start, end, name))
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    let digits = digits.strip_prefix(b"0x").unwrap_or(digits);
    // The standard library's parser takes a sign.
    let all_digits = digits.iter().all(u8::is_ascii_hexdigit);
    if !all_digits {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// What an address lies in.
#[derive(Clone, Copy, Debug)]
struct Range {
    end: u64,
    /// Where in the text its name is.
    name: u32,
    name_bytes: u32,
}

/// The names of a perf map, as far as it has been read.
#[derive(Debug, Default)]
pub struct PerfMap {
    lines: Lines,
    /// By start; none overlap.
    ranges: BTreeMap<u64, Range>,
    names: String,
    /// Lines that name nothing.
    pub skipped_lines: u64,
}

impl PerfMap {
    /// Takes the next bytes of the file. False when it is full: the rest of these bytes, and of the file, is left out.
    pub fn feed(&mut self, bytes: &[u8]) -> bool {
        let Self { lines, ranges, names, skipped_lines } = self;
        let mut has_room = true;
        lines.feed(bytes, |line| match parse(line) {
            _ if !has_room => {}
            Some((start, end, name)) => {
                has_room = ranges.len() < MAX_RANGES;
                has_room = has_room && insert(ranges, names, start, end, name).is_some();
            }
            None => *skipped_lines += 1,
        });
        has_room
    }

    /// The start and the name of the piece of code at an address.
    pub fn at(&self, address: u64) -> Option<(u64, &str)> {
        let (&start, range) = self.ranges.range(..=address).next_back()?;
        let first = range.name as usize;
        (address < range.end).then(|| (start, &self.names[first..first + range.name_bytes as usize]))
    }

    /// How much memory it takes, about.
    pub fn bytes(&self) -> u64 {
        self.ranges.len() as u64 * RANGE_BYTES + self.names.len() as u64
    }
}

/// `None` when there is no room for the name.
fn insert(ranges: &mut BTreeMap<u64, Range>, names: &mut String, start: u64, end: u64, name: &[u8]) -> Option<()> {
    let name = cut(&String::from_utf8_lossy(name), MAX_NAME_BYTES);
    let new = Range { end, name: u32::try_from(names.len()).ok()?, name_bytes: u32::try_from(name.len()).ok()? };
    names.push_str(&name);
    // What begins before may end within or behind; what begins within may end behind.
    if let Some((_, before)) = ranges.range_mut(..start).next_back()
        && before.end > start
    {
        let rest = *before;
        before.end = start;
        if rest.end > end {
            ranges.insert(end, rest);
        }
    }
    while let Some((&covered, &range)) = ranges.range(start..end).next() {
        ranges.remove(&covered);
        if range.end > end {
            ranges.insert(end, range);
        }
    }
    ranges.insert(start, new);
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &[u8]) -> PerfMap {
        let mut map = PerfMap::default();
        assert!(map.feed(text));
        map
    }

    fn name(map: &PerfMap, address: u64) -> Option<&str> {
        map.at(address).map(|(_, name)| name)
    }

    #[test]
    fn a_line_names_its_range_and_no_more() {
        let map = read(b"7f00 10 JS:*leak /srv/a b.js:1:2\n0x8000 0X1 wrong\n0x9000 0x1 right\r\n");
        assert_eq!(map.at(0x7eff), None);
        assert_eq!(map.at(0x7f00), Some((0x7f00, "JS:*leak /srv/a b.js:1:2")));
        assert_eq!(name(&map, 0x7f0f), Some("JS:*leak /srv/a b.js:1:2"));
        assert_eq!(map.at(0x7f10), None);
        assert_eq!((name(&map, 0x8000), name(&map, 0x9000)), (None, Some("right")));
        assert_eq!(map.skipped_lines, 1);
    }

    #[test]
    fn lines_that_name_nothing_are_counted_and_spoil_no_other() {
        let bad =
            ["", " ", "1000", "1000 10", "1000 10 ", "x 10 f", "1000 -1 f", "+1000 10 f", "1000 0 f", "1000  10 f"];
        let overflow = ["ffffffffffffffff 2 f", "10000000000000000 1 f", "1000 100000001 f"];
        let bad: Vec<_> = bad.iter().chain(&overflow).collect();
        let mut text = String::from("2000 10 before\n");
        bad.iter().for_each(|line| text.push_str(&format!("{line}\n")));
        text.push_str("3000 10 after\n");
        let map = read(text.as_bytes());
        assert_eq!(map.skipped_lines, bad.len() as u64);
        assert_eq!((name(&map, 0x2000), name(&map, 0x3000), map.ranges.len()), (Some("before"), Some("after"), 2));
    }

    #[test]
    fn a_line_counts_when_it_has_ended() {
        let mut map = read(b"1000 10 whole\n2000 10 ha");
        assert_eq!(map.at(0x2000), None);
        assert!(map.feed(b"lf\n"));
        assert_eq!(name(&map, 0x2000), Some("half"));
    }

    #[test]
    fn the_later_line_wins_where_lines_overlap() {
        let map = read(b"1000 100 old\n1040 20 new\n10f0 20 next\nff0 20 before\n");
        let names = [0xff0, 0x100f, 0x1010, 0x103f, 0x1040, 0x105f, 0x1060, 0x10ef, 0x10f0, 0x110f, 0x1110];
        let names = names.map(|address| name(&map, address).unwrap_or("-"));
        assert_eq!(names, ["before", "before", "old", "old", "new", "new", "old", "old", "next", "next", "-"]);
    }

    #[test]
    fn a_long_name_is_cut_and_the_next_line_is_whole() {
        for length in [MAX_NAME_BYTES - 1, MAX_NAME_BYTES, MAX_NAME_BYTES + 1, 3 * MAX_NAME_BYTES] {
            let text = format!("1000 10 {}\n2000 10 next\n", "n".repeat(length));
            for piece in [1, 7, 4096, text.len()] {
                let mut map = PerfMap::default();
                text.as_bytes().chunks(piece).for_each(|bytes| assert!(map.feed(bytes)));
                assert_eq!(name(&map, 0x1000).map(str::len), Some(length.min(MAX_NAME_BYTES)));
                assert_eq!((name(&map, 0x2000), map.skipped_lines), (Some("next"), 0));
            }
        }
        // Characters that are no UTF-8 are replaced by ones that are longer.
        let map = read(&[&b"1000 10 "[..], &[0xff; MAX_NAME_BYTES], b"\n"].concat());
        assert!(name(&map, 0x1000).is_some_and(|name| name.len() <= MAX_NAME_BYTES));
    }

    #[test]
    fn beyond_the_bound_the_rest_is_left_out() {
        let mut map = PerfMap::default();
        let mut line = |at: usize| map.feed(format!("{:x} 1 f\n", at * 16).as_bytes());
        assert!((0..MAX_RANGES).all(&mut line));
        assert!(!line(MAX_RANGES));
        assert_eq!(map.ranges.len(), MAX_RANGES);
        assert_eq!(map.bytes(), MAX_RANGES as u64 * (RANGE_BYTES + 1));
    }

    /// Lines as runtimes write them, damaged again and again: what one damaged file may do, no file does.
    #[test]
    fn damaged_maps_end_in_names_or_none() {
        const SEEDS: [&str; 4] = [
            "7f9af806ea00 e0 JS:^hold_the_line /srv/b.js:2:23\n7f9af806eae0 5c JS:*outer /srv/b.js:3:19\n",
            "7f2b8c0a1000 b py::fetch:/srv/app.py\n7f2b8c0a100b b py::<module>:/srv/app.py\n",
            "0x00007f10d8a1c2c0 0x0000000000000150 java.lang.String java.lang.String.concat(java.lang.String)\n",
            "00007FE0A1B2C3D0 4f void [App] App.Program::Main(string[])[OptimizedTier1]\n18c4000 300 Builtin:Abort\n",
        ];
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as usize % below
        };
        let mut map = PerfMap::default();
        for round in 0..20_000 {
            let mut text = SEEDS[random(SEEDS.len())].repeat(1 + random(3)).into_bytes();
            for _ in 0..random(6) {
                let at = random(text.len());
                match random(4) {
                    0 => text[at] = random(256) as u8,
                    1 => text[at] ^= 1 << random(8),
                    2 => text.truncate(at + 1),
                    _ => text.insert(at, b"\n fF0x-\0"[random(8)]),
                }
            }
            assert!(map.feed(&text), "round {round}");
            if round % 500 == 0 {
                let ends: Vec<_> = map.ranges.iter().map(|(&start, range)| (start, range.end)).collect();
                assert!(ends.iter().all(|(start, end)| start < end));
                assert!(ends.windows(2).all(|pair| pair[0].1 <= pair[1].0));
                assert!(ends.iter().all(|&(start, _)| map.at(start).is_some_and(|(first, _)| first == start)));
            }
        }
        // The damage was neither none nor all.
        assert!((1000..40_000).contains(&map.skipped_lines) && map.ranges.len() > 100);
    }

    /// What a name table of nothing but the lines in their order says.
    fn last_line_over(lines: &[(u64, u64)], address: u64) -> Option<String> {
        let over = |&(start, size): &(u64, u64)| (start..start + size).contains(&address);
        lines.iter().rposition(over).map(|line| line.to_string())
    }

    proptest! {
        #[test]
        fn at_every_address_the_last_line_over_it_holds(
            lines in prop::collection::vec((0..64u64, 1..40u64), 0..30),
            piece in 1..20usize,
        ) {
            let text: String =
                lines.iter().enumerate().map(|(line, (start, size))| format!("{start:x} {size:x} {line}\n")).collect();
            let mut map = PerfMap::default();
            text.as_bytes().chunks(piece).for_each(|bytes| assert!(map.feed(bytes)));
            for address in 0..110 {
                prop_assert_eq!(name(&map, address).map(str::to_owned), last_line_over(&lines, address));
            }
            prop_assert!(map.ranges.len() <= 2 * lines.len());
        }

        #[test]
        fn any_bytes_are_taken_and_their_pieces_make_no_difference(
            bytes in prop::collection::vec(any::<u8>(), 0..2000),
            text in "([0-9a-fx]{1,17} [0-9a-f]{1,17} .{0,9}\n?){0,40}",
            piece in 1..300usize,
        ) {
            for bytes in [&bytes[..], text.as_bytes()] {
                let whole = read(bytes);
                let mut pieces = PerfMap::default();
                bytes.chunks(piece).for_each(|bytes| assert!(pieces.feed(bytes)));
                let ends = |map: &PerfMap| map.ranges.iter().map(|(&start, range)| (start, range.end)).collect::<Vec<_>>();
                prop_assert_eq!(ends(&whole), ends(&pieces));
                prop_assert_eq!((&whole.names, whole.skipped_lines), (&pieces.names, pieces.skipped_lines));
                prop_assert!(whole.ranges.values().all(|range| range.name_bytes as usize <= MAX_NAME_BYTES));
                prop_assert!(ends(&whole).windows(2).all(|pair| pair[0].1 <= pair[1].0));
                prop_assert!(pieces.lines.begun.len() <= MAX_LINE_BYTES);
            }
        }
    }
}
