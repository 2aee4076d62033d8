//! Follows the perf map of a process: finds the file, reads what was appended, notices when it was begun anew.
//!
//! The file is `/tmp/perf-PID.map` as the process sees it, with the id that it knows itself by. It is held open from
//! the first time on: names that were written can be read when the file has been deleted and the process has ended.
//!
//! A name is given only by a map that has been read to its end at that moment. A runtime writes the line before the
//! code runs, so such a name is that of the code the stack went through; of a map that is behind, it could be that of
//! code which lay there before. How much of the time reading may take is bounded, because a target can make the file
//! grow, and begin it anew, as fast as it likes.
//!
//! Everyone can put a file of that name into `/tmp`, and an earlier process of the same id may have left one: only a
//! regular file of root's or of the process's own user counts, and only if it was written since the process began.

use std::{
    collections::HashSet,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, Instant},
};

use rustix::{
    fs::Stat,
    time::{ClockId, clock_gettime},
};
use thiserror::Error;

use super::{
    file::{OpenFiles, Permit, Root},
    perf_map::PerfMap,
    process::Budget,
};
use crate::target::status::{Status, start_ticks};

/// How much of a perf map is read.
const MAX_MAP_BYTES: u64 = 64 << 20;
/// How much of it is read for one stack: more waits, while the ring fills.
const MAX_STACK_BYTES: u64 = 4 << 20;
/// The end of what was read is compared, to notice a file that was written anew in place.
const MARK_BYTES: usize = 64;
/// Problems of one process that are told apart.
const MAX_PROBLEMS: usize = 32;
/// No file of `/proc` that is read here is longer.
const MAX_PROC_BYTES: usize = 64 << 10;
/// The unit of times in `/proc/PID/stat`: USER_HZ, 100 on every architecture that we run on.
const TICKS_PER_SECOND: i64 = 100;
/// File systems and ticks round times.
const SLACK_SECONDS: i64 = 2;

/// Why code of a process may lack names.
#[derive(Debug, Error)]
enum MapError {
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} belongs to user {owner}, who is neither root nor the process's user: not read", path.display())]
    Foreign { path: PathBuf, owner: u32 },
    #[error("{} was last written before the process began: not read", path.display())]
    Stale { path: PathBuf },
    #[error("{} was not opened: {limit} files are open already", path.display())]
    TooManyOpen { path: PathBuf, limit: usize },
    #[error("only the first {read} bytes of the perf map are used: the bound of {bound} is reached")]
    Full { read: u64, bound: &'static str },
}

/// What a name is wanted for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Occasion {
    /// A new stack: there are many, and the ring fills meanwhile.
    Stack,
    /// A stack on show.
    Report,
}

impl Occasion {
    /// Time between two looks at the file, in units of what the last one took.
    fn pause(self) -> u32 {
        match self {
            Occasion::Stack => 20,
            Occasion::Report => 1,
        }
    }

    fn max_bytes(self) -> u64 {
        match self {
            Occasion::Stack => MAX_STACK_BYTES,
            Occasion::Report => MAX_MAP_BYTES,
        }
    }
}

/// Whose map it is.
#[derive(Debug)]
struct Writer {
    /// Its directory below `/proc`.
    directory: PathBuf,
    /// Its id, as we know it and as it knows itself.
    pid: u32,
    own_pid: u32,
    uids: Vec<u32>,
    /// When it began; another process of the same id began at another time.
    start_ticks: u64,
}

impl Writer {
    fn read(directory: &Path, pid: u32) -> Option<Writer> {
        let status = Status::parse(&read_proc(&directory.join("status"))?)?;
        let start_ticks = start_ticks(&read_proc(&directory.join("stat"))?)?;
        let own_pid = status.namespace_pids.last().copied().unwrap_or(pid);
        Some(Writer { directory: directory.to_owned(), pid, own_pid, uids: status.uids, start_ticks })
    }

    /// Whether its id is another process's by now; while it lives, brings its users up to date.
    fn is_another(&mut self) -> bool {
        let Some(now) = Writer::read(&self.directory, self.pid) else { return false };
        let is_another = now.start_ticks != self.start_ticks;
        if !is_another {
            self.uids = now.uids;
        }
        is_another
    }

    /// Whether a file that was last written at `seconds` since 1970 can be its work. By the clock as it is set now.
    fn began_before(&self, seconds: i64) -> bool {
        let now = clock_gettime(ClockId::Realtime).tv_sec;
        let up = clock_gettime(ClockId::Boottime).tv_sec;
        let age = up.saturating_sub(i64::try_from(self.start_ticks).unwrap_or(i64::MAX) / TICKS_PER_SECOND);
        seconds.saturating_add(SLACK_SECONDS) >= now.saturating_sub(age)
    }
}

/// The file that is read.
#[derive(Debug)]
struct Held {
    file: File,
    permit: Permit,
    identity: (u64, u64),
    /// Which of the places it was found in.
    place: usize,
    /// How much has been read.
    read: u64,
    /// The last bytes of that.
    mark: Vec<u8>,
    /// Whether a bound was reached: the rest is left out.
    is_full: bool,
}

impl Held {
    /// Whether the file still begins with what was read, as far as that can be told cheaply.
    fn goes_on(&self, size: u64) -> bool {
        let mut mark = [0; MARK_BYTES];
        let mark = &mut mark[..self.mark.len()];
        size >= self.read && self.file.read_exact_at(mark, self.read - mark.len() as u64).is_ok() && *mark == *self.mark
    }
}

/// How far the map can be relied on for the stack at hand.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// The file has not been looked at since the stack came.
    Unasked(Occasion),
    /// Read to its end.
    Current,
    /// There may be more.
    Behind,
}

/// The perf map of one program of a process, if it writes one.
#[derive(Debug)]
pub struct PerfFile {
    writer: Writer,
    ours: Rc<Root>,
    open_files: OpenFiles,
    held: Option<Held>,
    map: PerfMap,
    /// What of the budget the map has.
    charged: u64,
    state: State,
    /// When the file was last looked at, and how long that took.
    last_look: Option<(Instant, Duration)>,
    skipped_lines: u64,
    problems: Vec<String>,
    known_problems: HashSet<String>,
}

impl PerfFile {
    /// That of process `pid`, whose directory below `/proc` is `directory`. No file is opened before a name is wanted.
    /// `None` for a process that has gone.
    pub fn new(directory: &Path, pid: u32, ours: &Rc<Root>, open_files: &OpenFiles) -> Option<Self> {
        Some(Self {
            writer: Writer::read(directory, pid)?,
            ours: Rc::clone(ours),
            open_files: open_files.clone(),
            held: None,
            map: PerfMap::default(),
            charged: 0,
            state: State::Behind,
            last_look: None,
            skipped_lines: 0,
            problems: Vec::new(),
            known_problems: HashSet::new(),
        })
    }

    /// From now on [`at`](Self::at) is asked about one stack.
    pub fn begin_stack(&mut self, occasion: Occasion) {
        self.state = State::Unasked(occasion);
    }

    /// The start and the name of the code at an address, by a map that has been read to its end.
    pub fn at(&mut self, address: u64, budget: &mut Budget) -> Option<(u64, &str)> {
        if let State::Unasked(occasion) = self.state {
            self.state = if self.look(occasion, budget) { State::Current } else { State::Behind };
        }
        if self.state == State::Behind {
            return None;
        }
        self.map.at(address)
    }

    /// Gives back to `budget` what the map took.
    pub fn release(&mut self, budget: &mut Budget) {
        budget.code_bytes -= self.charged;
        self.charged = 0;
    }

    /// Takes what was in the way since the last call, each only once: the file's name and the sentences.
    pub fn take_problems(&mut self) -> Option<(String, Vec<String>)> {
        let problems = std::mem::take(&mut self.problems);
        (!problems.is_empty()).then(|| (format!("perf-{}.map", self.writer.own_pid), problems))
    }

    /// Takes the number of lines since the last call that named nothing.
    pub fn take_skipped_lines(&mut self) -> u64 {
        std::mem::take(&mut self.skipped_lines)
    }

    /// Looks at the file, if it is time to; tells whether the map is read to its end.
    fn look(&mut self, occasion: Occasion, budget: &mut Budget) -> bool {
        let begun = Instant::now();
        if self.last_look.is_some_and(|(ended, took)| begun < ended + took * occasion.pause()) {
            // Too early to read, but not to see that there is nothing to read.
            return self.held.as_ref().is_some_and(|held| {
                held.is_full || rustix::fs::fstat(&held.file).is_ok_and(|stat| size(&stat) == held.read)
            });
        }
        self.find(budget);
        let is_current = self.read(occasion.max_bytes(), budget);
        let ended = Instant::now();
        self.last_look = Some((ended, (ended - begun).max(Duration::from_micros(50))));
        is_current
    }

    /// Takes hold of the file where it is now, if that is another one.
    fn find(&mut self, budget: &mut Budget) {
        let Writer { pid, own_pid, .. } = self.writer;
        let theirs = Root::open(&self.writer.directory.join("root"));
        let theirs = theirs.as_ref().ok();
        let places = [(theirs, own_pid), (theirs.filter(|_| pid != own_pid), pid), (Some(&*self.ours), pid)];
        let places = places.map(|(root, pid)| (root, PathBuf::from(format!("/tmp/perf-{pid}.map"))));
        // What is held came from the best place where there was one: a worse one does not replace it.
        let last = self.held.as_ref().map_or(places.len() - 1, |held| held.place);
        let mut failures = Vec::new();
        let mut found = None;
        for (place, (root, path)) in places.into_iter().enumerate().take(last + 1) {
            let Some(root) = root else { continue };
            let opened = root.open_file_itself(&path).and_then(|file| Ok((rustix::fs::fstat(&file)?, file)));
            match opened {
                Ok((stat, _)) if self.held.as_ref().is_some_and(|held| held.identity == identity(&stat)) => break,
                Ok((stat, file)) => {
                    // Then the file may be that one's, too.
                    if self.writer.is_another() {
                        return;
                    }
                    match self.check(path, &stat) {
                        Ok(path) => {
                            found = Some((place, path, identity(&stat), file));
                            break;
                        }
                        Err(error) => failures.push(error),
                    }
                }
                Err(source) if source.kind() == io::ErrorKind::NotFound => {}
                Err(source) => failures.push(MapError::Unreadable { path, source }),
            }
        }
        failures.iter().for_each(|error| self.note(error));
        let Some((place, path, identity, file)) = found else { return };
        let Some(permit) = self.held.take().map(|held| held.permit).or_else(|| self.open_files.permit()) else {
            self.note(&MapError::TooManyOpen { path, limit: self.open_files.limit() });
            return;
        };
        self.held = Some(Held { file, permit, identity, place, read: 0, mark: Vec::new(), is_full: false });
        self.begin_anew(budget);
    }

    /// Gives back the path of a file that was found, if the file can be the process's.
    fn check(&self, path: PathBuf, stat: &Stat) -> Result<PathBuf, MapError> {
        let owner = stat.st_uid;
        if owner != 0 && !self.writer.uids.contains(&owner) {
            return Err(MapError::Foreign { path, owner });
        }
        if !self.writer.began_before(stat.st_mtime) {
            return Err(MapError::Stale { path });
        }
        Ok(path)
    }

    /// Forgets what was read.
    fn begin_anew(&mut self, budget: &mut Budget) {
        self.map = PerfMap::default();
        self.release(budget);
        if let Some(held) = &mut self.held {
            held.read = 0;
            held.mark.clear();
            held.is_full = false;
        }
    }

    /// Reads at most `most` bytes on; tells whether that was the end.
    fn read(&mut self, most: u64, budget: &mut Budget) -> bool {
        let goes_on = |held: &Held| {
            let size = rustix::fs::fstat(&held.file).map_or(0, |stat| size(&stat));
            size == held.read || held.goes_on(size)
        };
        if self.held.as_ref().is_some_and(|held| !goes_on(held)) {
            self.begin_anew(budget);
        }
        let Some(held) = &mut self.held else { return false };
        let mut failure = None;
        let mut left = most;
        let mut buffer = vec![0; 64 << 10];
        while !held.is_full && left > 0 {
            let length = buffer.len().min(usize::try_from(left.min(MAX_MAP_BYTES - held.read)).unwrap_or(usize::MAX));
            let read = match held.file.read_at(&mut buffer[..length], held.read) {
                Ok(0) if length > 0 => return true,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    let path = PathBuf::from(format!("perf-{}.map", self.writer.own_pid));
                    failure = Some(MapError::Unreadable { path, source });
                    break;
                }
            };
            let has_room = self.map.feed(&buffer[..read]);
            held.read += read as u64;
            left -= read as u64;
            held.mark.extend_from_slice(&buffer[read.saturating_sub(MARK_BYTES)..read]);
            held.mark.drain(..held.mark.len().saturating_sub(MARK_BYTES));
            self.skipped_lines += std::mem::take(&mut self.map.skipped_lines);
            let bytes = self.map.bytes();
            budget.code_bytes = budget.code_bytes - self.charged + bytes;
            self.charged = bytes;
            let bound = if length == 0 {
                Some("64 MiB a map")
            } else if !has_room {
                Some("1,048,576 pieces of code a map")
            } else if budget.code_bytes > budget.max_code_bytes / 4 * 3 {
                // The last quarter is for names that frames have got.
                Some("memory for names of all processes")
            } else {
                None
            };
            if let Some(bound) = bound {
                held.is_full = true;
                failure = Some(MapError::Full { read: held.read, bound });
            }
        }
        // What was left out of a full map is missing, but what it has is as good as it gets.
        let is_full = held.is_full;
        if let Some(error) = failure {
            self.note(&error);
        }
        is_full
    }

    fn note(&mut self, error: &MapError) {
        let reason = error.to_string();
        if self.known_problems.len() < MAX_PROBLEMS && self.known_problems.insert(reason.clone()) {
            self.problems.push(reason);
        }
    }
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

fn read_proc(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).ok()?;
    io::Read::read_to_end(&mut io::Read::take(file, MAX_PROC_BYTES as u64), &mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::Write,
        os::unix::fs::{chown, symlink},
        process::Command,
    };

    use tempfile::TempDir;

    use super::*;

    const PID: u32 = 4242;
    const OWN_PID: u32 = 17;

    fn budget() -> Budget {
        Budget { frames: 0, max_frames: 0, distinct: 0, max_distinct: 0, code_bytes: 0, max_code_bytes: 1 << 30 }
    }

    /// A directory as `/proc/PID` is, of a process in a container, with its root.
    struct FakeProcess {
        dir: TempDir,
        budget: Budget,
    }

    impl FakeProcess {
        fn new() -> FakeProcess {
            let dir = TempDir::new().expect("a temporary directory");
            fs::create_dir_all(dir.path().join("root/tmp")).expect("a temporary directory");
            let process = FakeProcess { dir, budget: budget() };
            process.set_start(0);
            process.set_uid(1000);
            process
        }

        fn write(&self, name: &str, text: String) {
            fs::write(self.dir.path().join(name), text).expect("room for a small file");
        }

        /// In ticks since the machine started.
        fn set_start(&self, ticks: u64) {
            self.write("stat", format!("{PID} (node) S 1 1 1 0 -1 0 0 0 0 0 1 2 0 0 20 0 1 0 {ticks} 0 0\n"));
        }

        fn set_uid(&self, uid: u32) {
            let uids = format!("{uid}\t{uid}\t{uid}\t{uid}");
            self.write("status", format!("State:\tS\nTgid:\t{PID}\nUid:\t{uids}\nNStgid:\t{PID}\t{OWN_PID}\n"));
        }

        fn map(&self, pid: u32) -> PathBuf {
            self.dir.path().join(format!("root/tmp/perf-{pid}.map"))
        }

        fn append(&self, text: &str) {
            let file = fs::OpenOptions::new().append(true).create(true).open(self.map(OWN_PID));
            file.expect("our own file").write_all(text.as_bytes()).expect("room for a small file");
        }

        fn perf_file(&self) -> PerfFile {
            self.perf_file_of(&OpenFiles::new(1))
        }

        fn perf_file_of(&self, open_files: &OpenFiles) -> PerfFile {
            let ours = Rc::new(Root::ours().expect("our own root"));
            PerfFile::new(self.dir.path(), PID, &ours, open_files).expect("a process")
        }

        /// The name at an address for a stack that comes long after the last one.
        fn name(&mut self, perf_file: &mut PerfFile, address: u64) -> Option<String> {
            perf_file.last_look = None;
            perf_file.begin_stack(Occasion::Stack);
            perf_file.at(address, &mut self.budget).map(|(_, name)| name.to_owned())
        }

        /// The name at 0x1000 by a new look, and what was in the way.
        fn name_and_problems(&mut self) -> (Option<String>, Vec<String>) {
            let mut perf_file = self.perf_file();
            let name = self.name(&mut perf_file, 0x1000);
            (name, perf_file.take_problems().map_or_else(Vec::new, |(_, problems)| problems))
        }
    }

    #[test]
    fn the_map_has_the_processs_own_id_below_its_own_root_or_else_ours() {
        let mut process = FakeProcess::new();
        assert_eq!(process.name_and_problems(), (None, vec![]));
        fs::write(process.map(PID), "1000 10 by our id\n").expect("room for a small file");
        assert_eq!(process.name_and_problems().0.as_deref(), Some("by our id"));
        process.append("1000 10 by its id\n");
        assert_eq!(process.name_and_problems().0.as_deref(), Some("by its id"));
    }

    #[test]
    fn what_is_appended_is_read_on() {
        let mut process = FakeProcess::new();
        let mut perf_file = process.perf_file();
        process.append("1000 10 first\ngarbage\n2000 10 sec");
        assert_eq!(process.name(&mut perf_file, 0x1000).as_deref(), Some("first"));
        assert_eq!(process.name(&mut perf_file, 0x2000), None);
        process.append("ond\n1000 10 replaced\n");
        assert_eq!(process.name(&mut perf_file, 0x2000).as_deref(), Some("second"));
        assert_eq!(process.name(&mut perf_file, 0x1000).as_deref(), Some("replaced"));
        assert_eq!((perf_file.take_skipped_lines(), perf_file.take_skipped_lines()), (1, 0));
        assert_eq!(perf_file.take_problems(), None);
    }

    #[test]
    fn a_map_that_is_behind_names_nothing_until_it_is_time_to_read_on() {
        let mut process = FakeProcess::new();
        let mut perf_file = process.perf_file();
        process.append("1000 10 first\n");
        assert_eq!(process.name(&mut perf_file, 0x1000).as_deref(), Some("first"));
        perf_file.last_look = Some((Instant::now(), Duration::from_secs(60)));
        perf_file.begin_stack(Occasion::Stack);
        assert_eq!(perf_file.at(0x1000, &mut process.budget), Some((0x1000, "first")));
        process.append("1000 10 replaced\n");
        perf_file.begin_stack(Occasion::Stack);
        assert_eq!(perf_file.at(0x1000, &mut process.budget), None);
        assert_eq!(process.name(&mut perf_file, 0x1000).as_deref(), Some("replaced"));
    }

    #[test]
    fn for_a_stack_a_long_map_is_read_in_parts_and_for_a_report_whole() {
        let mut process = FakeProcess::new();
        process.append(&"2000 10 again\n".repeat((MAX_STACK_BYTES / 14 + 1) as usize));
        process.append("1000 10 last\n");
        let mut perf_file = process.perf_file();
        assert_eq!(process.name(&mut perf_file, 0x2000), None);
        assert_eq!(process.name(&mut perf_file, 0x1000).as_deref(), Some("last"));
        let mut perf_file = process.perf_file();
        perf_file.begin_stack(Occasion::Report);
        assert_eq!(perf_file.at(0x1000, &mut process.budget), Some((0x1000, "last")));
    }

    #[test]
    fn a_map_that_is_written_anew_is_read_anew() {
        let mut process = FakeProcess::new();
        let mut perf_file = process.perf_file();
        let rewrites = ["1000 10 one\n", "2000 10 shorter\n", "1000 10 longer than the one before it\n3000 10 f\n"];
        for (text, addresses) in rewrites.into_iter().zip([[1, 0, 0], [0, 1, 0], [1, 0, 1]]) {
            // In place, and as a new file.
            for replace in [false, true] {
                if replace {
                    let new = process.dir.path().join("root/tmp/new");
                    fs::write(&new, text).expect("room for a small file");
                    fs::rename(new, process.map(OWN_PID)).expect("our own file");
                } else {
                    fs::write(process.map(OWN_PID), text).expect("room for a small file");
                }
                let names = [0x1000, 0x2000, 0x3000].map(|address| process.name(&mut perf_file, address).is_some());
                assert_eq!(names, addresses.map(|known| known == 1), "{text}");
            }
        }
        assert_eq!(process.budget.code_bytes, perf_file.map.bytes());
        perf_file.release(&mut process.budget);
        assert_eq!(process.budget.code_bytes, 0);
    }

    #[test]
    fn a_deleted_map_is_read_on_and_outlives_its_process() {
        let mut process = FakeProcess::new();
        let mut perf_file = process.perf_file();
        process.append("1000 10 first\n");
        let mut writer = fs::OpenOptions::new().append(true).open(process.map(OWN_PID)).expect("our own file");
        assert!(process.name(&mut perf_file, 0x1000).is_some());
        fs::remove_file(process.map(OWN_PID)).expect("our own file");
        // Not a reason to turn to one that was not good enough before.
        fs::write(process.map(PID), "1000 10 another\n").expect("room for a small file");
        writer.write_all(b"2000 10 late\n").expect("room for a small file");
        fs::remove_file(process.dir.path().join("status")).expect("our own file");
        fs::remove_dir_all(process.dir.path().join("root")).expect("our own directory");
        assert_eq!(process.name(&mut perf_file, 0x1000).as_deref(), Some("first"));
        assert_eq!(process.name(&mut perf_file, 0x2000).as_deref(), Some("late"));
    }

    #[test]
    fn what_is_no_regular_file_is_not_opened() {
        let mut process = FakeProcess::new();
        let map = process.map(OWN_PID);
        let elsewhere = process.dir.path().join("root/tmp/elsewhere");
        fs::write(&elsewhere, "1000 10 wrong\n").expect("room for a small file");
        let make_fifo = |path: &Path| assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo").success());
        let make: [&dyn Fn(&Path); 3] = [&make_fifo, &|path| fs::create_dir(path).expect("an empty place"), &|path| {
            symlink("elsewhere", path).expect("an empty place")
        }];
        for make in make {
            make(&map);
            let (name, problems) = process.name_and_problems();
            assert_eq!((name, problems.len()), (None, 1));
            assert!(problems[0].contains("not a regular file"), "{problems:?}");
            fs::remove_file(&map).or_else(|_| fs::remove_dir(&map)).expect("our own file");
        }
    }

    #[test]
    fn only_roots_file_and_the_users_own_count() {
        let mut process = FakeProcess::new();
        process.append("1000 10 f\n");
        for (owner, is_read) in [(0, true), (1000, true), (1001, false)] {
            chown(process.map(OWN_PID), Some(owner), None).expect("these tests run as root");
            let (name, problems) = process.name_and_problems();
            assert_eq!((name.is_some(), problems.is_empty()), (is_read, is_read), "{owner} {problems:?}");
        }
        // It may have become another user since.
        let mut perf_file = process.perf_file();
        process.set_uid(1001);
        assert!(process.name(&mut perf_file, 0x1000).is_some());
    }

    #[test]
    fn the_map_of_an_earlier_process_of_that_id_is_not_read() {
        let mut process = FakeProcess::new();
        process.append("1000 10 f\n");
        let uptime = clock_gettime(ClockId::Boottime).tv_sec as u64;
        process.set_start((uptime + 60) * 100);
        let (name, problems) = process.name_and_problems();
        assert_eq!((name, problems.len()), (None, 1));
        assert!(problems[0].contains("before the process began"), "{problems:?}");
        process.set_start(uptime * 100);
        assert_eq!(process.name_and_problems().0.as_deref(), Some("f"));
    }

    #[test]
    fn the_map_of_a_later_process_of_that_id_is_not_read() {
        let mut process = FakeProcess::new();
        let mut perf_file = process.perf_file();
        process.append("1000 10 f\n");
        process.set_start(1);
        assert_eq!(process.name(&mut perf_file, 0x1000), None);
    }

    #[test]
    fn bounds_leave_out_the_rest_and_say_so() {
        let mut process = FakeProcess::new();
        process.append("1000 10 first\n");
        // Nothing but zeros from here on: a line that has no end.
        let file = fs::OpenOptions::new().write(true).open(process.map(OWN_PID)).expect("our own file");
        file.set_len(10 << 30).expect("a sparse file");
        let mut perf_file = process.perf_file();
        perf_file.begin_stack(Occasion::Report);
        perf_file.at(0x1000, &mut process.budget);
        assert_eq!(process.name(&mut perf_file, 0x1000).as_deref(), Some("first"));
        assert_eq!(perf_file.held.as_ref().map(|held| held.read), Some(MAX_MAP_BYTES));
        let (file, problems) = perf_file.take_problems().expect("a problem");
        assert_eq!((file.as_str(), problems.len()), ("perf-17.map", 1));
        assert!(problems[0].contains("67108864 bytes"), "{problems:?}");

        let mut process = FakeProcess::new();
        process.append("1000 10 first\n");
        (0..20_000).for_each(|at| process.append(&format!("{:x} 1 f\n", 0x2000 + at)));
        process.budget.max_code_bytes = 1000;
        let mut perf_file = process.perf_file();
        assert_eq!(process.name(&mut perf_file, 0x1000).as_deref(), Some("first"));
        assert!(perf_file.held.as_ref().is_some_and(|held| held.read <= 64 << 10));
        assert!(perf_file.take_problems().is_some_and(|(_, problems)| problems[0].contains("of all processes")));
    }

    #[test]
    fn a_map_takes_one_of_the_files_that_may_be_open() {
        let mut process = FakeProcess::new();
        process.append("1000 10 f\n");
        let open_files = OpenFiles::new(1);
        let mut first = process.perf_file_of(&open_files);
        let mut second = process.perf_file_of(&open_files);
        assert!(process.name(&mut first, 0x1000).is_some());
        assert_eq!(process.name(&mut second, 0x1000), None);
        assert!(second.take_problems().is_some_and(|(_, problems)| problems[0].contains("1 files are open")));
        drop(first);
        assert!(process.name(&mut second, 0x1000).is_some());
        assert_eq!(open_files.open(), 1);
    }
}
