//! A stream that reports are written to as the run goes. A thread writes, so that a reader who does not read (a full pipe, a
//! stopped terminal) holds up nothing else: then reports are left out until it does, all but the last one.

use std::{
    io::{self, Write},
    mem,
    sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TryRecvError},
    thread,
    time::Duration,
};

/// How long a report is waited for before the run goes on without knowing whether it has been read.
const PATIENCE: Duration = Duration::from_millis(100);

/// Bytes of the last report that are made ahead of the reader, so that a large one need not fit into memory.
const AHEAD: usize = 64 << 10;

/// The writing end.
pub(super) struct Stream {
    pieces: SyncSender<Vec<u8>>,
    written: Receiver<io::Result<()>>,
    /// A piece was handed over, and is not known to be written.
    is_busy: bool,
    left_out: u64,
}

impl Stream {
    /// Starts the thread. It ends with the stream, or with the process if the reader does not read.
    pub(super) fn new(mut out: impl Write + Send + 'static) -> Self {
        let (pieces, to_write) = mpsc::sync_channel::<Vec<u8>>(1);
        let (tell, written) = mpsc::channel();
        thread::spawn(move || {
            for piece in to_write {
                // Nobody hears it when the run is over.
                let _ = tell.send(out.write_all(&piece).and_then(|()| out.flush()));
            }
        });
        Self { pieces, written, is_busy: false, left_out: 0 }
    }

    /// Reports that were left out.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Writes a report that another one will follow, unless an earlier one is still being written.
    pub(super) fn offer(&mut self, render: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        if self.is_busy {
            match self.written.try_recv() {
                Ok(result) => result?,
                Err(TryRecvError::Empty) => {
                    self.left_out += 1;
                    return Ok(());
                }
                Err(TryRecvError::Disconnected) => return Err(ended()),
            }
            self.is_busy = false;
        }
        let mut report = Vec::new();
        render(&mut report)?;
        self.hand_over(report)?;
        match self.written.recv_timeout(PATIENCE) {
            Ok(result) => {
                self.is_busy = false;
                result
            }
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => Err(ended()),
        }
    }

    /// Writes a report whatever it takes.
    pub(super) fn write(&mut self, render: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let mut pieces = Pieces { stream: self, piece: Vec::with_capacity(AHEAD) };
        render(&mut pieces)?;
        pieces.flush()
    }

    fn hand_over(&mut self, piece: Vec<u8>) -> io::Result<()> {
        self.pieces.send(piece).map_err(|_| ended())?;
        self.is_busy = true;
        Ok(())
    }

    /// Waits until the last piece is written.
    fn finish(&mut self) -> io::Result<()> {
        if mem::take(&mut self.is_busy) { self.written.recv().map_err(|_| ended())? } else { Ok(()) }
    }
}

/// A thread that panicked; nothing in it does.
fn ended() -> io::Error {
    io::Error::other("the writing thread has ended")
}

/// Hands a report over piece by piece.
struct Pieces<'a> {
    stream: &'a mut Stream,
    piece: Vec<u8>,
}

impl Pieces<'_> {
    fn hand_over(&mut self) -> io::Result<()> {
        self.stream.finish()?;
        self.stream.hand_over(mem::replace(&mut self.piece, Vec::with_capacity(AHEAD)))
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= AHEAD {
            self.hand_over()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.piece.is_empty() {
            self.hand_over()?;
        }
        self.stream.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{BufRead as _, BufReader, Read as _},
    };

    use super::*;

    fn pipe() -> (BufReader<File>, Stream) {
        let (read, write) = rustix::pipe::pipe().unwrap();
        (BufReader::new(File::from(read)), Stream::new(File::from(write)))
    }

    fn line(number: usize) -> impl FnOnce(&mut dyn Write) -> io::Result<()> {
        move |out| writeln!(out, "{number:020000}")
    }

    #[test]
    fn a_reader_who_does_not_read_holds_up_nothing_and_gets_the_last_report() {
        let (mut reader, mut stream) = pipe();
        // More than any pipe holds by default.
        for number in 0..100 {
            stream.offer(line(number)).unwrap();
        }
        assert!(stream.left_out() > 80, "{}", stream.left_out());
        let reading = thread::spawn(move || {
            let mut lines = String::new();
            reader.read_to_string(&mut lines).unwrap();
            lines
        });
        stream.write(line(100)).unwrap();
        let written = 101 - stream.left_out();
        drop(stream);
        let lines = reading.join().unwrap();
        let numbers: Vec<usize> = lines.lines().map(|line| line.parse().unwrap()).collect();
        assert!(numbers.is_sorted() && numbers.last() == Some(&100), "{numbers:?}");
        assert!(numbers.len() as u64 == written && lines.lines().all(|line| line.len() == 20_000), "{numbers:?}");
    }

    #[test]
    fn once_it_reads_again_it_gets_reports_again() {
        let (mut reader, mut stream) = pipe();
        for number in 0..100 {
            stream.offer(line(number)).unwrap();
        }
        assert!(stream.left_out() > 0);
        let (mut read, mut last) = (String::new(), 0);
        // What is offered now comes through at some time, and then the next one.
        let reading = thread::spawn(move || {
            while last < 1000 {
                read.clear();
                reader.read_line(&mut read).unwrap();
                last = read.trim().parse().unwrap();
            }
            // Not dropped before the last report was offered.
            reader
        });
        let mut number = 1000;
        while !reading.is_finished() {
            stream.offer(line(number)).unwrap();
            number += 1;
        }
        drop(reading.join().unwrap());
    }

    #[test]
    fn a_reader_who_has_gone_is_told_of_at_once() {
        let (reader, mut stream) = pipe();
        stream.offer(line(1)).unwrap();
        drop(reader);
        let error = (2..4).find_map(|number| stream.offer(line(number)).err());
        assert_eq!(error.unwrap().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_large_report_is_handed_over_in_pieces() {
        let (mut reader, mut stream) = pipe();
        let reading = thread::spawn(move || {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).unwrap();
            bytes
        });
        stream.write(|out| (0..100_000).try_for_each(|number| writeln!(out, "{number}"))).unwrap();
        drop(stream);
        let expected: String = (0..100_000).map(|number| format!("{number}\n")).collect();
        assert!(reading.join().unwrap() == expected.into_bytes());
    }
}
