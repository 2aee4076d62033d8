//! Multi-uprobe links: many sites of one file in one link, which attaches and, above all, detaches in one step.
//!
//! A perf-event link waits for about a tenth of a second when it goes, under a lock that they all share; thirty of them
//! take three seconds. The loader crate has no such links yet, so the programs are loaded once more from the same
//! object with the attach type that they need (`BPF_TRACE_UPROBE_MULTI`), over the maps that it made.
//! Layouts and numbers: include/uapi/linux/bpf.h.

use std::{
    cell::OnceCell,
    collections::{HashMap, HashSet},
    ffi::CString,
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    thread,
};

use aya::{Ebpf, maps::Map};
use aya_obj::{Function, Object};

use super::features;
use crate::target::Pid;

/// Multi links came with 6.6; until 6.10 their process filter let one thread only through
/// (commit 46ba0e49b642, "bpf: fix multi-uprobe PID filtering logic").
const MINIMUM: (u32, u32) = (6, 10);

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_BTF_LOAD: libc::c_int = 18;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_PROG_TYPE_KPROBE: u32 = 2;
const BPF_TRACE_UPROBE_MULTI: u32 = 48;
const BPF_TRACE_UPROBE_SESSION: u32 = 57;
const BPF_F_UPROBE_MULTI_RETURN: u32 = 1;

/// The programs, loaded for multi links when they are first needed.
pub(super) struct MultiPrograms {
    programs: HashMap<&'static str, Program>,
    btf: OwnedFd,
    /// What the programs that are not loaded yet refer to; others may close theirs.
    _maps: Vec<OwnedFd>,
    has_sessions: bool,
}

struct Program {
    at: At,
    function: Function,
    loaded: OnceCell<OwnedFd>,
}

/// Where a program is attached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum At {
    Entry,
    Return,
    /// At both, where the entry says whether the return is wanted: a session, which came with 6.13.
    Both,
}

/// Programs that are attached through uprobes.
const PROGRAMS: [(&str, At); 13] = [
    ("heap_entry", At::Entry),
    ("heap_return", At::Return),
    (HEAP_SESSION, At::Both),
    ("heap_release", At::Entry),
    ("heap_release_outer", At::Entry),
    (RELEASE_SESSION, At::Both),
    ("way_out", At::Entry),
    ("heap_raise", At::Entry),
    (MAPPING_ENTRY, At::Entry),
    ("pool_entry", At::Entry),
    ("pool_return", At::Return),
    ("empty_entry", At::Entry),
    ("empty_return", At::Return),
];

/// The program on the entries of mapping functions.
pub(super) const MAPPING_ENTRY: &str = "mapping_entry";

/// The programs on both ends of a call, which a kernel before Linux 6.13 cannot load.
pub(super) const HEAP_SESSION: &str = "heap_session";
pub(super) const RELEASE_SESSION: &str = "heap_release_session";

/// Those that the verifier takes long for, and that most runs need: with sessions and without. The one that takes longest comes first.
const LARGE: [[&str; 3]; 2] =
    [[HEAP_SESSION, MAPPING_ENTRY, "heap_release"], ["heap_entry", MAPPING_ENTRY, "heap_release"]];

impl At {
    /// `BPF_PROG_LOAD`'s and `BPF_LINK_CREATE`'s attach type.
    fn attach_type(self) -> u32 {
        match self {
            At::Entry | At::Return => BPF_TRACE_UPROBE_MULTI,
            At::Both => BPF_TRACE_UPROBE_SESSION,
        }
    }
}

impl MultiPrograms {
    /// Loads the large ones over the maps of `programs`; `None` where the kernel cannot, so that the caller attaches one by
    /// one.
    pub(super) fn load(programs: &Ebpf, object: Object) -> Option<Self> {
        if features::kernel_version().is_none_or(|version| version < MINIMUM) {
            return None;
        }
        let maps: HashMap<&str, OwnedFd> =
            programs.maps().filter_map(|(name, map)| Some((name, descriptor(map)?))).collect();
        let (mut functions, btf) = relocated(object, &maps)?;
        let mut programs = HashMap::new();
        for (name, at) in PROGRAMS {
            let function = functions.remove(name)?;
            programs.insert(name, Program { at, function, loaded: OnceCell::new() });
        }
        let has_sessions = features::has_sessions();
        let large = if has_sessions { LARGE[0] } else { LARGE[1] };
        // Side by side.
        let descriptor = btf.as_raw_fd();
        let loaded: Option<Vec<_>> = thread::scope(|scope| {
            let load = |name: &'static str| {
                let Program { at, function, .. } = programs.get(name)?;
                let (function, attach_type) = (function, at.attach_type());
                Some((name, scope.spawn(move || load_program(name, function, attach_type, descriptor))))
            };
            let begun: Option<Vec<_>> = large.into_iter().map(load).collect();
            begun?.into_iter().map(|(name, program)| Some((name, program.join().ok()?.ok()?))).collect()
        });
        for (name, program) in loaded? {
            programs.get(name)?.loaded.set(program).ok()?;
        }
        Some(Self { programs, btf, _maps: maps.into_values().collect(), has_sessions })
    }

    /// Whether the kernel lets a program at the entry say whether it is needed at the return.
    pub(super) fn has_sessions(&self) -> bool {
        self.has_sessions
    }

    /// Attaches one program to `sites` (file offset, cookie) of `file`, for one process.
    pub(super) fn attach(&self, program: &str, file: &Path, pid: Pid, sites: &[(u64, u64)]) -> io::Result<OwnedFd> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("no program {program}"));
        let Program { at, function, loaded } = self.programs.get(program).ok_or_else(missing)?;
        let descriptor = match loaded.get() {
            Some(descriptor) => descriptor,
            None => {
                let descriptor = load_program(program, function, at.attach_type(), self.btf.as_raw_fd())?;
                loaded.get_or_init(|| descriptor)
            }
        };
        let path = CString::new(file.as_os_str().as_bytes())?;
        let (offsets, cookies): (Vec<u64>, Vec<u64>) = sites.iter().copied().unzip();
        let attributes = LinkAttributes {
            prog_fd: descriptor.as_raw_fd() as u32,
            target_fd: 0,
            attach_type: at.attach_type(),
            flags: 0,
            path: path.as_ptr() as u64,
            offsets: offsets.as_ptr() as u64,
            ref_ctr_offsets: 0,
            cookies: cookies.as_ptr() as u64,
            count: sites.len() as u32,
            multi_flags: if *at == At::Return { BPF_F_UPROBE_MULTI_RETURN } else { 0 },
            pid: pid.0,
            padding: 0,
        };
        bpf(BPF_LINK_CREATE, &attributes)
    }
}

/// The functions of the object with the maps' descriptors in place of their names, and the loaded type information.
fn relocated(mut object: Object, descriptors: &HashMap<&str, OwnedFd>) -> Option<(HashMap<String, Function>, OwnedFd)> {
    let features = aya::features();
    let btf = object.fixup_and_sanitize_btf(features.btf()?).ok()??.to_bytes();
    let btf = load_btf(&btf).ok()?;
    let maps: Vec<(String, aya_obj::Map)> = object.maps.drain().collect();
    let text_sections: HashSet<usize> = object.functions.keys().map(|&(section, _)| section).collect();
    let map_table: Option<Vec<_>> = maps
        .iter()
        .map(|(name, map)| Some((name.as_str(), descriptors.get(name.as_str())?.as_raw_fd(), map)))
        .collect();
    object.relocate_maps(map_table?.into_iter(), &text_sections).ok()?;
    object.relocate_calls(&text_sections).ok()?;
    object.sanitize_functions(features);
    let mut functions = HashMap::new();
    for (name, program) in &object.programs {
        let function = object.functions.get(&program.function_key())?;
        functions.insert(name.clone(), function.clone());
    }
    Some((functions, btf))
}

/// A descriptor of our own for a map.
fn descriptor(map: &Map) -> Option<OwnedFd> {
    let (Map::Array(data) | Map::HashMap(data) | Map::RingBuf(data) | Map::PerCpuArray(data) | Map::Unsupported(data)) =
        map
    else {
        return None;
    };
    data.fd().as_fd().try_clone_to_owned().ok()
}

fn load_btf(bytes: &[u8]) -> io::Result<OwnedFd> {
    bpf(BPF_BTF_LOAD, &BtfAttributes { btf: bytes.as_ptr() as u64, log: 0, size: bytes.len() as u32, rest: [0; 3] })
}

fn load_program(name: &str, function: &Function, attach_type: u32, btf: RawFd) -> io::Result<OwnedFd> {
    let func_info = function.func_info.func_info_bytes();
    let line_info = function.line_info.line_info_bytes();
    let mut attributes = ProgramAttributes {
        prog_type: BPF_PROG_TYPE_KPROBE,
        insn_cnt: function.instructions.len() as u32,
        insns: function.instructions.as_ptr() as u64,
        license: c"Dual MIT/GPL".as_ptr() as u64,
        expected_attach_type: attach_type,
        prog_btf_fd: btf as u32,
        func_info_rec_size: function.func_info_rec_size as u32,
        func_info: func_info.as_ptr() as u64,
        func_info_cnt: function.func_info.len() as u32,
        line_info_rec_size: function.line_info_rec_size as u32,
        line_info: line_info.as_ptr() as u64,
        line_info_cnt: function.line_info.len() as u32,
        ..ProgramAttributes::default()
    };
    // The last byte stays 0.
    for (to, &from) in attributes.prog_name.iter_mut().take(15).zip(name.as_bytes()) {
        *to = from;
    }
    bpf(BPF_PROG_LOAD, &attributes)
}

/// Calls bpf(2) with attributes whose pointers the caller keeps alive; a new descriptor comes back.
fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: each attribute type here is a prefix of `union bpf_attr` for its command, and the callers' buffers live.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(result as RawFd) })
}

/// `BPF_PROG_LOAD`'s attributes as far as they are used.
#[derive(Default)]
#[repr(C)]
struct ProgramAttributes {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
}

/// `BPF_BTF_LOAD`'s attributes as far as they are used.
#[repr(C)]
struct BtfAttributes {
    btf: u64,
    log: u64,
    size: u32,
    rest: [u32; 3],
}

/// `BPF_LINK_CREATE`'s attributes for a multi-uprobe link.
#[repr(C)]
struct LinkAttributes {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    path: u64,
    offsets: u64,
    ref_ctr_offsets: u64,
    cookies: u64,
    count: u32,
    multi_flags: u32,
    pid: u32,
    padding: u32,
}

const _: () = assert!(size_of::<ProgramAttributes>() == 112);
const _: () = assert!(size_of::<LinkAttributes>() == 64);
