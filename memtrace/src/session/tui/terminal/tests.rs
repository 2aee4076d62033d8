use std::{
    fs::{File, OpenOptions},
    io::Read as _,
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt as _},
    process::Command,
};

use rustix::{
    fs::OFlags,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Termios, tcgetattr},
};

use super::*;

/// This very test binary, on a terminal of its own, runs `inside_a_terminal`.
const INSIDE: &str = "session::tui::terminal::tests::inside_a_terminal";

fn modes(terminal: &OwnedFd) -> String {
    let Termios { input_modes, output_modes, control_modes, local_modes, .. } = tcgetattr(terminal).unwrap();
    format!("{input_modes:?} {output_modes:?} {control_modes:?} {local_modes:?}")
}

#[test]
fn a_panic_gives_the_terminal_back_before_it_says_why() {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let path = ptsname(&master, Vec::new()).unwrap();
    let flags = i32::try_from(OFlags::NOCTTY.bits()).unwrap();
    let open = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path.to_str().unwrap());
    let terminal: OwnedFd = open.unwrap().into();
    let before = modes(&terminal);
    let mut inside = Command::new("setsid")
        .arg("--ctty")
        .arg(std::env::current_exe().unwrap())
        .args([INSIDE, "--exact", "--ignored", "--nocapture"])
        .stdin(terminal.try_clone().unwrap())
        .stdout(terminal.try_clone().unwrap())
        .stderr(terminal.try_clone().unwrap())
        .spawn()
        .unwrap();
    let mut master = File::from(master);
    let reader = std::thread::spawn(move || {
        let (mut written, mut chunk) = (Vec::new(), [0; 4096]);
        while let Ok(length @ 1..) = master.read(&mut chunk) {
            written.extend_from_slice(&chunk[..length]);
        }
        String::from_utf8_lossy(&written).into_owned()
    });
    let status = inside.wait().unwrap();
    let after = modes(&terminal);
    // With its last descriptor the terminal ends, and so does the reader.
    drop(terminal);
    let written = reader.join().unwrap();
    assert_eq!(after, before, "{written}");
    let entered = written.find("\x1b[?1049h").unwrap_or_else(|| panic!("entered the view: {status} {written:?}"));
    let left = written.find("\x1b[?1049l").unwrap_or_else(|| panic!("left the view: {written:?}"));
    let said = |text: &str| written.find(text).unwrap_or_else(|| panic!("{text} in {written:?}"));
    assert!(entered < left && left < said("said while the view was shown") && left < said("a worker panics"));
    assert!(!written.contains("drawn too late"), "{written:?}");
}

#[test]
#[ignore = "the inner half of the test above, which runs it on a terminal"]
fn inside_a_terminal() {
    stderr::hold().unwrap();
    take().unwrap();
    eprintln!("said while the view was shown");
    let worker = std::thread::spawn(|| panic!("a worker panics"));
    assert!(worker.join().is_err());
    let mut frames = Frames(Vec::new());
    frames.write_all(b"drawn too late").unwrap();
    frames.flush().unwrap();
}
