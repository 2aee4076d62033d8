//! What tracing costs a call on this machine: a child of memtrace's own allocates in a loop, without probes and with them.

use std::{
    hint::black_box,
    io::{self, BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use super::measure;
use crate::session::{SessionError, TraceConfig};

/// Pairs of malloc and free in a round: some ten milliseconds under probes.
const PAIRS: u32 = 5_000;

/// Rounds of which the middle one counts.
const ROUNDS: usize = 9;

/// Longer than the rounds take even on a slow machine.
const ENOUGH: Duration = Duration::from_secs(10);

/// Nanoseconds that tracing, in the way that `adjust` makes it, adds to one call of malloc and the free of its block.
///
/// # Errors
///
/// When the child cannot be started, or not be traced.
pub(in crate::session) fn pair_ns(adjust: impl FnOnce(&mut TraceConfig)) -> Result<f64, SessionError> {
    let broken = |source| SessionError::System { action: "measuring what a probe costs here", source };
    let mut child = Loop::start().map_err(broken)?;
    let alone = child.measure().map_err(broken)?;
    let pid = child.process.id();
    // The run ends when the loop does, which ends when it has answered.
    let (tell, attached) = mpsc::channel();
    let rounds = std::thread::spawn(move || {
        // A run that ends without a look tells nothing, and has an error of its own to tell.
        attached.recv().map_err(io::Error::other)?;
        child.measure()
    });
    let adjust = |config: &mut TraceConfig| {
        config.times.interval = FIRST_LOOK;
        adjust(config);
    };
    let on_look = move || {
        // The loop may have ended, with an error of its own.
        let _ = tell.send(());
    };
    let ran = measure::run(&[pid], ENOUGH, adjust, on_look);
    let traced = rounds.join().map_err(|_panicked| broken(io::ErrorKind::Other.into()))?;
    ran?;
    Ok((traced.map_err(broken)? - alone).max(0.0))
}

/// When the probes are surely there.
const FIRST_LOOK: Duration = Duration::from_millis(100);

/// The name of the subcommand that the child runs.
pub const ALLOCATION_LOOP: &str = "allocation-loop";

/// The child.
struct Loop {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Loop {
    fn start() -> io::Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.arg(ALLOCATION_LOOP).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let (Some(orders), Some(answers)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        Ok(Self { process, orders, answers: BufReader::new(answers) })
    }

    /// Nanoseconds a pair.
    fn measure(&mut self) -> io::Result<f64> {
        let mut rounds = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            self.orders.write_all(b"\n")?;
            let mut line = String::new();
            self.answers.read_line(&mut line)?;
            rounds.push(line.trim().parse().map_err(io::Error::other)?);
        }
        rounds.sort_by(f64::total_cmp);
        Ok(rounds[ROUNDS / 2])
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The child's side: allocates and releases for each line that it reads, and says how long a pair took.
///
/// # Errors
///
/// Those of standard input and output.
pub fn allocation_loop() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        line?;
        let begun = Instant::now();
        for _ in 0..PAIRS {
            // SAFETY: what malloc returned goes to free once; the compiler must not see that nothing happens between.
            unsafe { libc::free(black_box(libc::malloc(black_box(32)))) };
        }
        writeln!(out, "{}", begun.elapsed().as_nanos() as f64 / f64::from(PAIRS))?;
        out.flush()?;
    }
    Ok(())
}
