//! The room with a server on loopback that behaves as badly as a server can.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    sync::{Condvar, Mutex},
};

use tempfile::TempDir;

use super::*;

const ID: [u8; 20] = [0xab; 20];
/// Nothing takes that long unless the test fails.
const LONG: Duration = Duration::from_secs(60);

/// What the server does with a request.
#[derive(Clone)]
enum Reply {
    /// Sends this with status 200.
    File(Vec<u8>),
    /// Sends this status and no more.
    Status(u16),
    /// Sends this, and says that it is one byte more.
    CutOff(Vec<u8>),
    /// Says that it will send so many bytes.
    Announced(u64),
    /// Sends bytes until nobody takes them any more, with a rest after each piece.
    Endless { piece: usize, rest: Duration },
    /// Sends nothing.
    Silence,
    /// Sends the client to this path, and sends the file from there.
    Redirect(&'static str, Vec<u8>),
    /// Sends this once the gate is open.
    Behind(Arc<Gate>, Vec<u8>),
}

/// Holds a reply back.
#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    opens: Condvar,
}

impl Gate {
    fn open(&self) {
        *self.is_open.lock().expect("no test panicked") = true;
        self.opens.notify_all();
    }

    fn pass(&self) {
        let closed = self.is_open.lock().expect("no test panicked");
        drop(self.opens.wait_while(closed, |is_open| !*is_open).expect("no test panicked"));
    }
}

/// A server on loopback, until it is dropped.
struct Server {
    address: SocketAddr,
    /// The paths that were asked for.
    paths: Arc<Mutex<Vec<String>>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(reply: Reply) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let (paths, ends) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(AtomicBool::new(false)));
        let (noted, stop) = (Arc::clone(&paths), Arc::clone(&ends));
        let serve = move || {
            thread::scope(|scope| {
                for stream in listener.incoming().map_while(Result::ok) {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let (reply, noted) = (&reply, &noted);
                    scope.spawn(move || answer(stream, reply, noted));
                }
            });
        };
        Server { address, paths, ends, thread: Some(thread::spawn(serve)) }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn requests(&self) -> usize {
        self.paths.lock().expect("no test panicked").len()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        // Wakes it.
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Answers the requests of a connection. The client may be gone at any time.
fn answer(mut stream: TcpStream, reply: &Reply, paths: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream.try_clone().expect("a descriptor")).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    lines.find(String::is_empty);
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    paths.lock().expect("no test panicked").push(path.clone());
    let ok = |bytes: usize| format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\nConnection: close\r\n\r\n");
    let _ = match reply {
        Reply::File(file) => stream.write_all(&[ok(file.len()).as_bytes(), file].concat()),
        Reply::Status(code) => {
            write!(stream, "HTTP/1.1 {code} So\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        }
        Reply::CutOff(file) => stream.write_all(&[ok(file.len() + 1).as_bytes(), file].concat()),
        Reply::Announced(bytes) => write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n"),
        Reply::Endless { piece, rest } => {
            let mut sent = write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
            while sent.is_ok() {
                sent = stream.write_all(&vec![0; *piece]);
                thread::sleep(*rest);
            }
            sent
        }
        // Until the client hangs up.
        Reply::Silence => stream.read_to_end(&mut Vec::new()).map(|_| ()),
        Reply::Redirect(to, file) if path == *to => stream.write_all(&[ok(file.len()).as_bytes(), file].concat()),
        Reply::Redirect(to, _) => {
            write!(stream, "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        }
        Reply::Behind(gate, file) => {
            gate.pass();
            stream.write_all(&[ok(file.len()).as_bytes(), file].concat())
        }
    };
}

/// A client with a cache of its own, and what it said.
struct Client {
    debuginfod: Debuginfod,
    said: Arc<Mutex<Vec<String>>>,
}

impl Client {
    fn new(servers: &[&Server], cache: &TempDir, change: impl FnOnce(&mut Options)) -> Client {
        let servers = servers.iter().map(|server| server.url()).collect();
        let mut options = Options::new(servers, cache.path().join("cache"));
        change(&mut options);
        let said = Arc::<Mutex<Vec<String>>>::default();
        let hears = Arc::clone(&said);
        let say = move |sentence: &str| hears.lock().expect("no test panicked").push(sentence.to_owned());
        Client { debuginfod: Debuginfod::new(options, Arc::new(say)), said }
    }

    /// Asks, and waits for the answer.
    fn get(&mut self, build_id: &[u8]) -> Answer {
        self.debuginfod.ask(build_id, "libx.so.1");
        self.debuginfod.wait(LONG);
        self.debuginfod.ask(build_id, "libx.so.1")
    }

    fn said(&self) -> Vec<String> {
        self.said.lock().expect("no test panicked").clone()
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// A file with this build id.
fn file_of(build_id: &[u8]) -> Vec<u8> {
    let folder = folder();
    let path = folder.path().join("file");
    let id: String = build_id.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut command = Command::new("cc");
    command.args(["-shared", "-nostdlib", "-x", "c", "/dev/null"]).arg(format!("-Wl,--build-id=0x{id}"));
    let output = command.arg("-o").arg(&path).output().expect("a C compiler");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::read(path).expect("what was made")
}

/// What is in the cache, folders too.
fn kept(cache: &TempDir) -> usize {
    fs::read_dir(cache.path().join("cache")).map_or(0, Iterator::count)
}

/// Asks one server with a fault for a file: it must not come, and exactly one sentence says why.
fn refused(reply: Reply, change: impl FnOnce(&mut Options)) -> String {
    let (server, cache) = (Server::start(reply), folder());
    let mut client = Client::new(&[&server], &cache, change);
    assert!(matches!(client.get(&ID), Answer::Missing));
    assert_eq!((server.requests(), kept(&cache)), (1, 0));
    let [said] = client.said().try_into().expect("one sentence");
    said.strip_prefix(&server.url()).expect("it begins with the server").to_owned()
}

#[test]
fn a_file_is_fetched_once_and_then_comes_from_the_cache() {
    let (server, cache) = (Server::start(Reply::File(file_of(&ID))), folder());
    for _ in 0..2 {
        let mut client = Client::new(&[&server], &cache, |_| {});
        assert!(matches!(client.debuginfod.ask(&ID, "libx.so.1"), Answer::Pending));
        assert!(client.debuginfod.wait(LONG));
        let Answer::Found(found) = client.get(&ID) else { panic!("it was kept") };
        assert_eq!((found.layout.build_id, found.is_trusted), (ID.to_vec(), false));
        assert!(client.said().is_empty());
    }
    let asked = server.paths.lock().expect("no test panicked").clone();
    assert_eq!(asked, [format!("/buildid/{}/debuginfo", "ab".repeat(20))]);
}

#[test]
fn without_a_question_there_is_no_folder_and_no_thread() {
    let (server, cache) = (Server::start(Reply::Status(404)), folder());
    let mut client = Client::new(&[&server], &cache, |_| {});
    assert!(!client.debuginfod.wait(LONG) && !client.debuginfod.take_answers());
    assert!(client.debuginfod.fetcher.is_none());
    assert!(!cache.path().join("cache").exists());
    assert_eq!(server.requests(), 0);
}

#[test]
fn what_is_not_found_is_remembered_and_no_fault() {
    let (server, cache) = (Server::start(Reply::Status(404)), folder());
    let mut client = Client::new(&[&server], &cache, |_| {});
    for _ in 0..3 {
        assert!(matches!(client.get(&ID), Answer::Missing));
    }
    assert_eq!((server.requests(), kept(&cache)), (1, 0));
    assert!(client.said().is_empty());
}

#[test]
fn what_is_not_the_file_is_refused_by_name() {
    let said = refused(Reply::CutOff(file_of(&ID)), |_| {});
    assert!(said.starts_with(" gave no debug file: "), "{said}");
    let said = refused(Reply::File(file_of(&[0xcd; 20])), |_| {});
    assert_eq!(said, " sent a file of another build");
    let said = refused(Reply::File(b"<html>Please log in</html>".to_vec()), |_| {});
    assert!(said.starts_with(" sent a file that cannot be read: "), "{said}");
    let mut damaged = file_of(&ID);
    damaged.truncate(damaged.len() / 2);
    let said = refused(Reply::File(damaged), |_| {});
    assert!(said.starts_with(" sent a file that cannot be read: "), "{said}");
    assert_eq!(refused(Reply::Status(503), |_| {}), " gave no debug file but the HTTP status 503");
}

#[test]
fn what_is_too_large_is_not_taken_whether_or_not_it_says_so() {
    let too_large = " has a debug file of more than 1000000 bytes, which is not taken";
    let few = |options: &mut Options| options.most_bytes = 1_000_000;
    assert_eq!(refused(Reply::Announced(1_000_001), few), too_large);
    assert_eq!(refused(Reply::Endless { piece: 1 << 16, rest: Duration::ZERO }, few), too_large);
}

#[test]
fn a_server_that_sends_nothing_or_too_little_is_given_up() {
    let too_slow = " was too slow: it sent no debug file in time";
    assert_eq!(refused(Reply::Silence, |options| options.patience = Duration::from_millis(50)), too_slow);
    // There is progress, and no end.
    let reply = Reply::Endless { piece: 1, rest: Duration::from_millis(5) };
    assert_eq!(refused(reply, |options| options.longest = Duration::from_millis(200)), too_slow);
}

#[test]
fn a_server_may_send_us_on_but_not_in_circles() {
    let (server, cache) = (Server::start(Reply::Redirect("/elsewhere", file_of(&ID))), folder());
    let mut client = Client::new(&[&server], &cache, |_| {});
    assert!(matches!(client.get(&ID), Answer::Found(_)));
    assert_eq!(server.requests(), 2);
    let here = "/buildid/abababababababababababababababababababab/debuginfo?again";
    let server = Server::start(Reply::Redirect("", Vec::new()));
    let circle = Server::start(Reply::Redirect(here, Vec::new()));
    for server in [server, circle] {
        let cache = folder();
        let mut client = Client::new(&[&server], &cache, |_| {});
        assert!(matches!(client.get(&ID), Answer::Missing));
        assert!(server.requests() <= 7, "{}", server.requests());
        assert_eq!(client.said().len(), 1, "{:?}", client.said());
    }
}

#[test]
fn the_next_server_is_asked_and_one_that_fails_is_told_of_once_and_left_alone() {
    let (faulty, good, cache) = (Server::start(Reply::Status(500)), Server::start(Reply::File(file_of(&ID))), folder());
    let mut client = Client::new(&[&faulty, &good], &cache, |_| {});
    assert!(matches!(client.get(&ID), Answer::Found(_)));
    for number in 0..5 {
        assert!(matches!(client.get(&[number; 20]), Answer::Missing));
    }
    assert_eq!((faulty.requests(), good.requests()), (3, 4));
    let said = client.said();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("500") && said[1].contains("another build"), "{said:?}");
}

#[test]
fn no_more_files_are_asked_for_than_the_limit() {
    let (server, cache) = (Server::start(Reply::Status(404)), folder());
    let mut client = Client::new(&[&server], &cache, |_| {});
    for number in 0..=MAX_FILES {
        client.debuginfod.ask(&[7, number as u8], "libx.so.1");
    }
    client.debuginfod.wait(LONG);
    assert_eq!(server.requests(), MAX_FILES);
}

#[test]
fn a_file_that_takes_longer_than_a_second_is_told_of_once() {
    let (gate, cache) = (Arc::new(Gate::default()), folder());
    let server = Server::start(Reply::Behind(Arc::clone(&gate), file_of(&ID)));
    let mut client = Client::new(&[&server], &cache, |_| {});
    assert!(!client.debuginfod.is_soon());
    assert!(matches!(client.debuginfod.ask(&ID, "libx.so.1"), Answer::Pending));
    assert!(client.debuginfod.is_soon());
    let until = Instant::now() + LONG;
    while client.said().is_empty() && Instant::now() < until {
        assert!(!client.debuginfod.wait(Duration::from_millis(5)), "nothing can have come");
    }
    gate.open();
    assert!(client.debuginfod.wait(LONG) && !client.debuginfod.is_soon());
    let said = client.said();
    assert_eq!(said, [format!("fetching the debug file of libx.so.1 from {}; names come with it", server.url())]);
}

#[test]
fn the_end_of_a_run_does_not_wait_for_a_file_and_takes_its_rest_away() {
    let (server, cache) = (Server::start(Reply::Endless { piece: 1, rest: Duration::from_millis(5) }), folder());
    let mut client = Client::new(&[&server], &cache, |_| {});
    assert!(matches!(client.debuginfod.ask(&ID, "libx.so.1"), Answer::Pending));
    let until = Instant::now() + LONG;
    while kept(&cache) == 0 && Instant::now() < until {
        thread::yield_now();
    }
    assert_eq!(kept(&cache), 1, "the file has begun to come");
    drop(client);
    assert_eq!(kept(&cache), 0);
}

#[test]
fn a_folder_that_cannot_be_used_is_told_of_once_and_nobody_is_asked() {
    let (server, cache) = (Server::start(Reply::File(file_of(&ID))), folder());
    fs::write(cache.path().join("cache"), "a file").expect("room for it");
    let mut client = Client::new(&[&server], &cache, |_| {});
    assert!(matches!(client.get(&ID), Answer::Missing));
    assert!(matches!(client.get(&[1; 20]), Answer::Missing));
    assert_eq!((server.requests(), client.said().len()), (0, 1));
}
