//! Inspectors that are none: they are silent, end at once, send too much, and never stop.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket, accept};

use super::{
    Told,
    devtools::{NoAnswer, Session, path},
    is_caught,
    listeners::Listener,
    node::{inspector, profiles},
};

/// Longer than any answer takes that comes.
const LONG: Duration = Duration::from_secs(60);
/// Time for an answer that does not come.
const SHORT: Duration = Duration::from_millis(100);

/// A server on loopback that does this with its first connection.
fn server(serve: impl FnOnce(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        let (connection, _) = listener.accept().expect("a connection");
        serve(connection);
    });
    address
}

/// A server that speaks WebSocket; a connection that the other end gives up ends it.
fn speaker(speak: impl FnOnce(&mut WebSocket<TcpStream>) -> tungstenite::Result<()> + Send + 'static) -> SocketAddr {
    server(|connection| {
        let mut socket = accept(connection).expect("a WebSocket");
        let _ = speak(&mut socket);
    })
}

/// The id of the next call, and its method.
fn call(socket: &mut WebSocket<TcpStream>) -> tungstenite::Result<(u64, String)> {
    let text = socket.read()?;
    let call: Value = serde_json::from_str(text.to_text()?).expect("a call");
    Ok((call["id"].as_u64().expect("an id"), call["method"].as_str().expect("a method").to_owned()))
}

fn answer(socket: &mut WebSocket<TcpStream>, id: u64, result: &Value) -> tungstenite::Result<()> {
    socket.send(Message::text(json!({ "id": id, "result": result }).to_string()))
}

/// Waits until the other end has closed the connection.
fn until_closed(mut connection: &TcpStream) {
    let mut part = [0; 1024];
    while connection.read(&mut part).is_ok_and(|read| read > 0) {}
}

fn session(address: SocketAddr) -> Session {
    Session::open(address, "/1-2", &Arc::default()).expect("a session")
}

fn ask(session: &mut Session, within: Duration) -> Result<String, NoAnswer> {
    session.call("Some.method", json!({}), within, |text| Ok(text.to_owned()))
}

/// What is said by a server that answers the request for the list with this.
fn path_of(text: impl Into<String>) -> Result<String, NoAnswer> {
    let text = text.into();
    let address = server(move |mut connection| {
        let mut request = BufReader::new(connection.try_clone().expect("a connection")).lines();
        while request.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
        let _ = connection.write_all(text.as_bytes());
    });
    path(address, &Arc::default())
}

fn list(url: &str) -> String {
    let body = json!([{ "webSocketDebuggerUrl": url, "title": "node" }]).to_string();
    format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn the_path_of_an_inspector_is_taken_from_its_list_and_nothing_else_is() {
    assert_eq!(path_of(list("ws://127.0.0.1:9229/0a-1b")).expect("a path"), "/0a-1b");
    // Another machine's inspector is not gone to: the address is known.
    assert_eq!(path_of(list("ws://10.0.0.1:80/x")).expect("a path"), "/x");
    for odd in [
        String::new(),
        "HTTP/1.1 200 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 404 Not Found\r\n\r\n[]".to_owned(),
        "HTTP/1.1 200 OK\r\n\r\n[]".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n[{}]".to_owned(),
        format!("HTTP/1.1 200 OK\r\n\r\n{}", "[".repeat(1 << 16)),
        "x".repeat(1 << 20),
        list("ws://127.0.0.1:9229"),
        list("ws://127.0.0.1:9229/a\r\nX: y"),
        list(&format!("ws://127.0.0.1:9229/{}", "a".repeat(1000))),
        list("wss://127.0.0.1:9229/a"),
    ] {
        assert!(path_of(odd.clone()).is_err(), "{}", odd.chars().take(80).collect::<String>());
    }
}

#[test]
fn of_several_sockets_the_inspector_is_found() {
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("an address");
    let other = server(|mut connection| _ = connection.write_all(b"220 mail\r\n"));
    let right = server(|mut connection| {
        let _ = connection.write_all(list("ws://127.0.0.1:9229/a").as_bytes());
        until_closed(&connection);
    });
    let all = [closed, other, right].map(|address| Listener { address, inode: 1 });
    let (listener, path) = inspector(&all, &Arc::default()).expect("an inspector");
    assert_eq!((listener.address, path.as_str()), (right, "/a"));
    assert!(inspector(&all[..1], &Arc::default()).is_none());
}

#[test]
fn events_and_answers_to_other_calls_are_passed_over_and_refusals_are_said() {
    let address = speaker(|socket| {
        let (id, method) = call(socket)?;
        socket.send(Message::text(r#"{"method":"Some.event","params":{}}"#))?;
        answer(socket, id + 7, &json!("wrong"))?;
        answer(socket, id, &json!(method))?;
        let (id, _) = call(socket)?;
        let error = json!({ "code": -32000, "message": "x".repeat(1 << 20) });
        socket.send(Message::text(json!({ "id": id, "error": error }).to_string()))
    });
    let mut session = session(address);
    assert_eq!(ask(&mut session, LONG).expect("an answer"), "\"Some.method\"");
    let refused = ask(&mut session, LONG).expect_err("a refusal").to_string();
    assert!(refused.starts_with("it says: xxx") && refused.len() < 1000, "{refused}");
    let gone = ask(&mut session, LONG).expect_err("the end");
    assert!(!matches!(gone, NoAnswer::Late), "{gone}");
}

#[test]
fn silence_has_an_end() {
    let quiet = || server(|connection| until_closed(&connection));
    // Neither a list nor a WebSocket comes.
    assert!(matches!(path(quiet(), &Arc::default()), Err(NoAnswer::Late)));
    assert!(matches!(Session::open(quiet(), "/a", &Arc::default()), Err(NoAnswer::Late)));
    let address = speaker(|socket| {
        until_closed(socket.get_ref());
        Ok(())
    });
    let mut session = session(address);
    assert!(matches!(ask(&mut session, SHORT), Err(NoAnswer::Late)));
}

#[test]
fn nobody_waits_when_the_run_is_over() {
    let is_over = Arc::new(AtomicBool::new(false));
    let end = Arc::clone(&is_over);
    let address = speaker(move |socket| {
        call(socket)?;
        end.store(true, Ordering::Relaxed);
        let (id, _) = call(socket)?;
        answer(socket, id, &json!({}))
    });
    let mut session = Session::open(address, "/a", &is_over).expect("a session");
    assert!(matches!(ask(&mut session, LONG), Err(NoAnswer::Late)));
    // What has to be said at the end is.
    session.outlast();
    assert_eq!(ask(&mut session, LONG).expect("an answer"), "{}");
}

#[test]
fn what_is_too_much_is_not_read() {
    // A frame of 2^50 bytes, and one that says so and is cut off.
    let address = speaker(|socket| {
        call(socket)?;
        let mut frame = vec![0x81, 127];
        frame.extend((1u64 << 50).to_be_bytes());
        socket.get_mut().write_all(&frame)?;
        until_closed(socket.get_ref());
        Ok(())
    });
    let error = ask(&mut session(address), LONG).expect_err("too long");
    assert!(matches!(error, NoAnswer::Protocol(_)), "{error}");
    let address = speaker(|socket| {
        call(socket)?;
        Ok(socket.get_mut().write_all(&[0x81, 126, 0xff, 0xff, b'{'])?)
    });
    assert!(ask(&mut session(address), LONG).is_err());
    // Parts of a message, without end.
    let address = speaker(|socket| {
        call(socket)?;
        let part = [0x01, 126, 0xff, 0xff].into_iter().chain([b'x'; 0xffff]).collect::<Vec<u8>>();
        socket.get_mut().write_all(&part)?;
        let next = [0x00, 126, 0xff, 0xff].into_iter().chain([b'x'; 0xffff]).collect::<Vec<u8>>();
        loop {
            socket.get_mut().write_all(&next)?;
        }
    });
    let error = ask(&mut session(address), LONG).expect_err("too long");
    assert!(!matches!(error, NoAnswer::Late), "{error}");
    // Messages that answer nothing, without end.
    let address = speaker(|socket| {
        call(socket)?;
        loop {
            socket.send(Message::text("{}"))?;
        }
    });
    let error = ask(&mut session(address), LONG).expect_err("too many").to_string();
    assert!(error.contains("too many"), "{error}");
    // Deep, and no JSON.
    for text in ["[".repeat(1 << 20), format!("{}1{}", r#"{"a":"#.repeat(1 << 18), "}".repeat(1 << 18)), "\u{0}".into()]
    {
        let address = speaker(move |socket| {
            call(socket)?;
            socket.send(Message::text(text))?;
            until_closed(socket.get_ref());
            Ok(())
        });
        let answer = ask(&mut session(address), Duration::from_secs(5));
        assert!(answer.is_err(), "{answer:?}");
    }
}

#[test]
fn there_is_a_profile_for_each_wish_until_one_is_none() {
    let address = speaker(|socket| {
        let head = json!({
            "callFrame": { "functionName": "(root)", "url": "", "lineNumber": -1, "columnNumber": -1 },
            "id": 1,
            "children": [{
                "callFrame": { "functionName": "keep", "url": "/a.js", "lineNumber": 6, "columnNumber": 0 },
                "id": 2,
                "children": [],
            }],
        });
        for samples in [json!([]), json!([{ "size": 40000, "nodeId": 2, "ordinal": 1 }])] {
            let (id, method) = call(socket)?;
            assert_eq!(method, "Runtime.discardConsoleEntries");
            answer(socket, id, &json!({}))?;
            let (id, method) = call(socket)?;
            assert_eq!(method, "HeapProfiler.getSamplingProfile");
            answer(socket, id, &json!({ "profile": { "head": head, "samples": samples } }))?;
        }
        let (id, _) = call(socket)?;
        answer(socket, id, &json!({}))?;
        let (id, _) = call(socket)?;
        answer(socket, id, &json!({ "profile": 7 }))
    });
    let (wishes, wished) = mpsc::channel();
    let (tell, told) = mpsc::channel();
    for _ in 0..3 {
        wishes.send(()).expect("a wish");
    }
    let ended = profiles(&mut session(address), true, &wished, &tell);
    assert!(matches!(ended, Err(NoAnswer::Odd(_))), "{ended:?}");
    drop(tell);
    let said: Vec<u64> = told
        .into_iter()
        .filter_map(|told| match told {
            Told::Profile { held, .. } => Some(held.iter().map(|held| held.live.bytes).sum()),
            _ => None,
        })
        .collect();
    assert_eq!(said, [0, 40_000]);
}

#[test]
fn whether_the_signal_is_caught_is_told_by_the_tenth_bit() {
    assert!(is_caught("Name:\tnode\nSigIgn:\t0000000000000000\nSigCgt:\t0000000108004602\n", Signal::USR1));
    assert!(!is_caught("SigIgn:\tffffffffffffffff\nSigCgt:\t0000000108004402\n", Signal::USR1));
    for odd in ["", "SigCgt:\t", "SigCgt:\tzz", "SigCgt:\t10000000000000200"] {
        assert!(!is_caught(odd, Signal::USR1), "{odd}");
    }
}
