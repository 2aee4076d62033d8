//! Why the kernel did not do what it was asked, in sentences that say what to do.

use std::{error::Error, io, iter};

use aya::{maps::MapError, programs::ProgramError};
use memtrace_common::limits::MAX_TARGETS;

use super::features::FeatureError;

/// Why the kernel did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// Something is missing on this machine.
    #[error(transparent)]
    Feature(#[from] FeatureError),
    /// The programs could not be loaded.
    #[error("the BPF programs could not be loaded: {}; please report this with the output of `memtrace doctor`", chain(.0))]
    Load(#[source] Box<aya::EbpfError>),
    /// The verifier or the kernel's limits refused one program.
    #[error(
        "the BPF program {program} could not be loaded: {source}; please report this with the output of `memtrace doctor`"
    )]
    LoadProgram {
        /// Its name.
        program: &'static str,
        /// What the kernel said.
        source: Box<ProgramError>,
    },
    /// A probe could not be attached.
    #[error("could not attach to {function} in {object}: {}", attach_refusal(source))]
    Attach {
        /// The probed function or tracepoint.
        function: String,
        /// The file.
        object: String,
        /// What the kernel said.
        source: Box<ProgramError>,
    },
    /// Probes of one file could not be attached.
    #[error("could not attach to {functions} in {object}: {}", refusal(source))]
    AttachMany {
        /// The probed functions.
        functions: String,
        /// The file.
        object: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A map of the object is missing or of another type: object and program do not belong together.
    #[error("the embedded BPF object has no usable map {0}; rebuild memtrace")]
    Map(&'static str),
    /// A map could not be read or written.
    #[error(
        "could not access the BPF map {name}: {}; please report this with the output of `memtrace doctor`",
        chain(source)
    )]
    MapAccess {
        /// Its name.
        name: &'static str,
        /// What the kernel said.
        source: Box<MapError>,
    },
    /// A system call failed.
    #[error("{action}: {source}")]
    System {
        /// What was attempted.
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// More processes than there are slots.
    #[error("more than {MAX_TARGETS} processes cannot be traced at once; name fewer")]
    TooManyTargets,
}

impl KernelError {
    /// Whether another tracer holds a probe with a reference counter at one of the places.
    pub(super) fn is_other_reference_counter(&self) -> bool {
        self.refused_by_kernel().is_some_and(is_other_reference_counter)
    }

    /// Whether the file that was to be probed is not there any more.
    pub fn is_not_found(&self) -> bool {
        self.refused_by_kernel().is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    /// The kernel's own error, where it refused to attach.
    fn refused_by_kernel(&self) -> Option<&io::Error> {
        match self {
            Self::AttachMany { source, .. } => Some(source),
            Self::Attach { source, .. } => by_kernel(source),
            _ => None,
        }
    }
}

/// An error and all of its causes.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |&error| error.source())
}

/// The kernel's own error among the causes of one.
fn by_kernel<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    causes(error).find_map(|error| error.downcast_ref())
}

/// What an error and all of its causes say, each thing once: the last one is what the kernel said.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    for said in causes(error).map(ToString::to_string) {
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
    }
    text
}

/// Why a probe could not be attached.
fn attach_refusal(error: &ProgramError) -> String {
    match by_kernel(error) {
        Some(source) => refusal(source),
        None => chain(error),
    }
}

/// Whether the kernel refused probes for another tracer's. Two probes on one instruction must name the same reference counter
/// (kernel/events/uprobes.c, `alloc_uprobe`), and we name none.
fn is_other_reference_counter(source: &io::Error) -> bool {
    source.raw_os_error() == Some(libc::EINVAL)
}

/// Why the kernel refused probes that it takes elsewhere.
fn refusal(source: &io::Error) -> String {
    if is_other_reference_counter(source) {
        return "another tracer holds a probe with a reference counter at the same place, as tools built on bcc do; end it and \
                try again (the kernel says: invalid argument)"
            .to_owned();
    }
    source.to_string()
}

/// What to make of an error of the map of this name.
pub(super) fn access(name: &'static str) -> impl Fn(MapError) -> KernelError {
    move |source| KernelError::MapAccess { name, source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_said_stands_in_the_sentence() {
        let source = io::Error::from_raw_os_error(libc::EPERM);
        let error = KernelError::MapAccess { name: "TARGETS", source: Box::new(MapError::IoError(source)) };
        let text = error.to_string();
        assert!(text.contains("Operation not permitted") && text.contains("memtrace doctor"), "{text}");
        let refused = |code| KernelError::AttachMany {
            functions: "malloc".into(),
            object: "libc.so.6".into(),
            source: io::Error::from_raw_os_error(code),
        };
        assert!(
            refused(libc::EINVAL).is_other_reference_counter() && !refused(libc::ENOENT).is_other_reference_counter()
        );
        assert!(refused(libc::ENOENT).is_not_found());
    }
}
