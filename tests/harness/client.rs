//! A client of the servers under test.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
};

use anyhow::{Result, ensure};

use crate::wait;

/// Connects to a server's socket, as soon as there is one; reading from it has the deadline of every wait.
///
/// # Errors
/// When there is none by the deadline.
pub fn connect(socket: &Path) -> Result<UnixStream> {
    let stream = wait::until("the server's socket", || Ok(UnixStream::connect(socket).ok()))?;
    stream.set_read_timeout(Some(wait::DEADLINE))?;
    Ok(stream)
}

/// Sends one request and reads until the answer holds `wanted`.
///
/// # Errors
/// When the server says no more before.
pub fn ask(stream: &mut (impl Read + Write), request: &str, wanted: &str) -> Result<()> {
    stream.write_all(request.as_bytes())?;
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&answer).contains(wanted) {
        let length = stream.read(&mut part)?;
        ensure!(
            length > 0,
            "{:?} was answered with {:?}",
            request.chars().take(200).collect::<String>(),
            String::from_utf8_lossy(&answer)
        );
        answer.extend_from_slice(&part[..length]);
    }
    Ok(())
}
