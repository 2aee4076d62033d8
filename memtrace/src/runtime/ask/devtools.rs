//! The inspector of a Node process, spoken to by the DevTools protocol over a WebSocket on loopback.
//!
//! What answers need not be an inspector, and need not mean well: each wait has an end, and each answer a bound on its size.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use thiserror::Error;
use tungstenite::{Message, WebSocket, client::client_with_config, protocol::WebSocketConfig};

/// The longest message that is read.
const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// The longest answer by which an inspector says where it is.
const MAX_LIST_BYTES: u64 = 64 << 10;
/// The most messages that answer nothing, while an answer is waited for.
const MAX_OTHERS: usize = 1024;
/// The longest path of an inspector.
const MAX_PATH_BYTES: usize = 128;
/// The most characters of what an inspector says is wrong.
const MAX_REASON_CHARACTERS: usize = 200;
/// How long a connection on loopback and its first answer may take.
const NEAR: Duration = Duration::from_secs(2);
/// How soon it is noticed that there is nothing to wait for any more.
const SLICE: Duration = Duration::from_millis(50);

/// Why an inspector gave no answer.
#[derive(Debug, Error)]
pub enum NoAnswer {
    /// It took too long, or nobody waits any more.
    #[error("it gave no answer in time")]
    Late,
    /// The connection failed or ended.
    #[error("{0}")]
    Connection(io::Error),
    /// It is no WebSocket.
    #[error("{0}")]
    Protocol(tungstenite::Error),
    /// What was asked for is refused.
    #[error("it says: {0}")]
    Refused(String),
    /// The answer is none that the protocol has.
    #[error("its answer is not understood: {0}")]
    Odd(String),
}

impl From<io::Error> for NoAnswer {
    fn from(error: io::Error) -> Self {
        if error.kind() == ErrorKind::WouldBlock { NoAnswer::Late } else { NoAnswer::Connection(error) }
    }
}

impl From<tungstenite::Error> for NoAnswer {
    fn from(error: tungstenite::Error) -> Self {
        match error {
            tungstenite::Error::Io(error) => error.into(),
            error => NoAnswer::Protocol(error),
        }
    }
}

/// A connection of which nothing takes longer than until a moment, and nothing goes on when nobody waits any more.
struct Timed {
    stream: TcpStream,
    until: Instant,
    is_over: Arc<AtomicBool>,
}

impl Timed {
    fn connect(address: SocketAddr, is_over: &Arc<AtomicBool>) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, NEAR)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, until: Instant::now() + NEAR, is_over: Arc::clone(is_over) })
    }

    /// Repeats what comes to nothing in a slice of time until it does, or the time is up.
    fn repeat(&self, mut attempt: impl FnMut(&TcpStream) -> io::Result<usize>) -> io::Result<usize> {
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.is_over.load(Ordering::Relaxed) {
                return Err(ErrorKind::WouldBlock.into());
            }
            self.stream.set_read_timeout(Some(left.min(SLICE)))?;
            self.stream.set_write_timeout(Some(left.min(SLICE)))?;
            match attempt(&self.stream) {
                Err(error)
                    if [ErrorKind::WouldBlock, ErrorKind::TimedOut, ErrorKind::Interrupted].contains(&error.kind()) => {
                }
                done => return done,
            }
        }
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.repeat(|mut stream| stream.read(buffer))
    }
}

impl Write for Timed {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.repeat(|mut stream| stream.write(buffer))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Inspected {
    web_socket_debugger_url: String,
}

/// The path at which the inspector of a process's main thread is found, if an inspector listens at this address.
///
/// # Errors
///
/// When no inspector answers there.
pub fn path(address: SocketAddr, is_over: &Arc<AtomicBool>) -> Result<String, NoAnswer> {
    let mut connection = Timed::connect(address, is_over)?;
    write!(connection, "GET /json/list HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut limited = connection.take(MAX_LIST_BYTES);
    let mut part = [0; 4096];
    // Not all close the connection when they have answered.
    while !is_whole(&answer) {
        match limited.read(&mut part)? {
            0 => break,
            read => answer.extend(&part[..read]),
        }
    }
    let odd = |what: &str| NoAnswer::Odd(what.to_owned());
    let (head, body) = halves(&answer).ok_or_else(|| odd("no HTTP"))?;
    if !head.starts_with(b"HTTP/1.1 200") && !head.starts_with(b"HTTP/1.0 200") {
        return Err(odd("no inspector's HTTP"));
    }
    let list: Vec<Inspected> = serde_json::from_slice(body).map_err(|_unreadable| odd("no inspector's list"))?;
    let first = list.into_iter().next().ok_or_else(|| odd("an empty list"))?.web_socket_debugger_url;
    // Where it is has been found out: only what stands behind that is taken from its word.
    let path = first.strip_prefix("ws://").and_then(|rest| rest.find('/').map(|at| rest[at..].to_owned()));
    let is_plain = |path: &String| {
        path.len() <= MAX_PATH_BYTES && path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-_".contains(&byte))
    };
    path.filter(is_plain).ok_or_else(|| odd("no inspector's path"))
}

/// The head of an answer, and what comes behind it.
fn halves(answer: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some((&answer[..end], &answer[end + 4..]))
}

/// Whether an answer has as many bytes as its head says.
fn is_whole(answer: &[u8]) -> bool {
    let Some((head, body)) = halves(answer) else { return false };
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    length.is_some_and(|length| body.len() >= length)
}

/// A session with an inspector, in which methods are called.
pub struct Session {
    socket: WebSocket<Timed>,
    last: u64,
}

#[derive(Deserialize)]
struct Answer<'a> {
    id: Option<u64>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<Wrong>,
}

#[derive(Deserialize)]
struct Wrong {
    message: String,
}

impl Session {
    /// Begins a session at an address and a path that [`path`] has found. It stops waiting when `is_over` is set.
    ///
    /// # Errors
    ///
    /// When what listens there is no WebSocket, or takes too long.
    pub fn open(address: SocketAddr, path: &str, is_over: &Arc<AtomicBool>) -> Result<Self, NoAnswer> {
        let connection = Timed::connect(address, is_over)?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES));
        match client_with_config(format!("ws://{address}{path}"), connection, Some(config)) {
            Ok((socket, _answer)) => Ok(Self { socket, last: 0 }),
            Err(tungstenite::HandshakeError::Failure(error)) => Err(error.into()),
            Err(tungstenite::HandshakeError::Interrupted(_)) => Err(NoAnswer::Late),
        }
    }

    /// From now on nothing but the time ends a wait.
    pub fn outlast(&mut self) {
        self.socket.get_mut().is_over = Arc::default();
    }

    /// Calls a method and gives what it returns to `read`.
    ///
    /// # Errors
    ///
    /// When there is no answer within this time, or another one than the protocol's.
    pub fn call<T>(
        &mut self,
        method: &str,
        parameters: Value,
        within: Duration,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, NoAnswer> {
        self.socket.get_mut().until = Instant::now() + within;
        self.last += 1;
        let call = json!({ "id": self.last, "method": method, "params": parameters });
        self.socket.send(Message::text(call.to_string()))?;
        for _ in 0..MAX_OTHERS {
            // Events, and answers that were given up, are passed over.
            let Message::Text(text) = self.socket.read()? else { continue };
            let odd = |error: serde_json::Error| NoAnswer::Odd(cut(&error.to_string()));
            let answer: Answer<'_> = serde_json::from_str(&text).map_err(odd)?;
            if answer.id != Some(self.last) {
                continue;
            }
            if let Some(Wrong { message }) = answer.error {
                return Err(NoAnswer::Refused(cut(&message)));
            }
            return read(answer.result.map_or("{}", RawValue::get)).map_err(|wrong| NoAnswer::Odd(cut(&wrong)));
        }
        Err(NoAnswer::Odd("too many other messages".to_owned()))
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_REASON_CHARACTERS).collect()
}
