//! The sockets by which a process listens on its own machine: told by the table of its network namespace and by its descriptors.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Read as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::object::Pid;

/// The most bytes of a table of sockets that are read, and the most descriptors that are looked at.
const MAX_TABLE_BYTES: u64 = 16 << 20;
const MAX_DESCRIPTORS: usize = 1 << 16;

/// How a table says that a socket listens.
const LISTENS: &str = "0A";

/// A socket that listens on the machine of the process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Listener {
    /// Where it can be reached from within its network namespace.
    pub address: SocketAddr,
    /// Its number, by which descriptors and tables know it.
    pub inode: u64,
}

/// Brings the calling thread, and no other, into the network namespace of a process, if that is another one. Sockets that it makes belong
/// there.
///
/// # Errors
///
/// When there is no such process, or no permission.
pub fn enter_namespace(pid: Pid) -> io::Result<()> {
    let namespace = File::open(pid.proc_path("ns/net"))?;
    let ours = fs::metadata("/proc/thread-self/ns/net")?;
    let theirs = namespace.metadata()?;
    if (ours.dev(), ours.ino()) != (theirs.dev(), theirs.ino()) {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    }
    Ok(())
}

/// The sockets by which a process listens to its own machine. Where it listens on all addresses that is the one of the machine itself.
///
/// # Errors
///
/// When the process has ended, or may not be looked at.
pub fn of_process(pid: Pid) -> io::Result<Vec<Listener>> {
    let own: HashSet<u64> = fs::read_dir(pid.proc_path("fd"))?
        .take(MAX_DESCRIPTORS)
        .filter_map(|entry| socket(fs::read_link(entry.ok()?.path()).ok()?.to_str()?))
        .collect();
    let mut found = Vec::new();
    for table in ["net/tcp", "net/tcp6"] {
        // A kernel without IPv6 has one of them only.
        let Ok(file) = File::open(pid.proc_path(table)) else { continue };
        let mut text = String::new();
        file.take(MAX_TABLE_BYTES).read_to_string(&mut text)?;
        found.extend(text.lines().filter_map(listener).filter(|listener| own.contains(&listener.inode)));
    }
    Ok(found)
}

/// The number in `socket:[123]`.
fn socket(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// The socket of a line of a table, if it listens and can be reached from its own machine.
fn listener(line: &str) -> Option<Listener> {
    let mut words = line.split_ascii_whitespace();
    let (address, _remote, state) = (words.nth(1)?, words.next()?, words.next()?);
    let inode = words.nth(5)?.parse().ok()?;
    let address = address_of(address).filter(|_| state == LISTENS)?;
    let near = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => Some(ip).filter(IpAddr::is_loopback)?,
    };
    Some(Listener { address: SocketAddr::new(near, address.port()), inode })
}

/// The address in `0100007F:240D`: words of 32 bits as they lie in memory, each written as a number (`get_tcp4_sock` in the kernel's
/// net/ipv4/tcp_ipv4.c).
fn address_of(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| Some(u32::from_str_radix(address.get(8 * at..8 * at + 8)?, 16).ok()?.to_ne_bytes());
    match address.len() {
        8 => Some(SocketAddr::new(IpAddr::from(word(0)?), port)),
        32 => {
            let mut bytes = [0; 16];
            for (at, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(at)?);
            }
            Some(SocketAddr::new(IpAddr::from(bytes), port))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_line_of_a_table_is_a_socket_that_listens_nearby_or_none() {
        let line = |address: &str, state: &str| {
            listener(&format!(
                "   1: {address} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 21557 1 0 100 0 0 10 0"
            ))
        };
        let near = |text: &str| Some(Listener { address: text.parse().expect("an address"), inode: 21557 });
        assert_eq!(line("0100007F:240D", "0A"), near("127.0.0.1:9229"));
        assert_eq!(line("00000000:1F90", "0A"), near("127.0.0.1:8080"));
        assert_eq!(line("00000000000000000000000001000000:240D", "0A"), near("[::1]:9229"));
        assert_eq!(line("00000000000000000000000000000000:240D", "0A"), near("[::1]:9229"));
        // One that is connected, one that can be reached from outside only, and what is none.
        assert_eq!(line("0100007F:240D", "01"), None);
        assert_eq!(line("0A00000A:240D", "0A"), None);
        for odd in ["", "7F:240D", "0100007F", "0100007F:24GD", "ü100007F:240D", "0100007F:240D0"] {
            assert_eq!(line(odd, "0A"), None, "{odd}");
        }
        assert_eq!(listener("  sl  local_address rem_address   st"), None);
    }

    #[test]
    fn the_sockets_of_a_process_are_found() {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let address = socket.local_addr().expect("an address");
        let here = || of_process(Pid(std::process::id())).expect("our own sockets");
        assert!(here().iter().any(|listener| listener.address == address), "{:?}", here());
        drop(socket);
        assert!(here().iter().all(|listener| listener.address != address), "{:?}", here());
    }
}
