//! What a report looks like, what it weighs stacks by, and what follows from that.

use std::path::Path;

macro_rules! formats {
    ($($(#[$attribute:meta])* $form:ident = $name:literal: $words:literal,)+) => {
        /// The form of a report, as `--format` names it.
        #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
        pub enum Format { $(#[doc = $words] $(#[$attribute])* $form,)+ }

        impl Format {
            /// All of them, in the order of the help.
            pub const ALL: &[Self] = &[$(Self::$form,)+];

            /// The name on the command line.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$form => $name,)+ }
            }

            /// What it is for, in words.
            pub const fn words(self) -> &'static str {
                match self { $(Self::$form => $words,)+ }
            }
        }
    };
}

formats! {
    #[default]
    Text = "text": "For people, 80 columns",
    Json = "json": "One object a line, for scripts",
    Folded = "folded": "One line a stack, for other flame graph tools",
    Flamegraph = "flamegraph": "A flame graph, coloured by growth (SVG)",
    Pprof = "pprof": "For `go tool pprof` (protobuf, compressed)",
    Html = "html": "One page with everything, for a browser",
}

impl Format {
    /// The form that a file's name asks for.
    pub fn of_file(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_string_lossy().to_lowercase();
        let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        match () {
            () if ends(&[".json", ".jsonl"]) => Some(Self::Json),
            () if ends(&[".folded"]) => Some(Self::Folded),
            () if ends(&[".svg"]) => Some(Self::Flamegraph),
            () if ends(&[".pb.gz", ".pprof"]) => Some(Self::Pprof),
            () if ends(&[".html", ".htm"]) => Some(Self::Html),
            () if ends(&[".txt"]) => Some(Self::Text),
            () => None,
        }
    }

    /// Whether a run writes it once, at its end.
    pub const fn is_written_once(self) -> bool {
        match self {
            Self::Text | Self::Json => false,
            Self::Folded | Self::Flamegraph | Self::Pprof | Self::Html => true,
        }
    }

    /// Whether a terminal cannot show it.
    pub const fn is_binary(self) -> bool {
        match self {
            Self::Pprof => true,
            Self::Text | Self::Json | Self::Folded | Self::Flamegraph | Self::Html => false,
        }
    }

    /// Whether it has one weight for each stack, that `--metric` chooses.
    pub const fn has_metric(self) -> bool {
        match self {
            Self::Text | Self::Json => false,
            Self::Folded | Self::Flamegraph | Self::Pprof | Self::Html => true,
        }
    }
}

/// How many stacks a report for a person shows.
pub const FEW: usize = 10;

/// More stacks than a run keeps verdicts for; a bound of what a report takes.
pub const ALL: usize = 100_000;

/// What stacks are weighed by, where a form has room for one weight. The names are those of pprof's heap profiles.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Metric {
    /// Bytes that live.
    #[default]
    InuseSpace,
    /// Blocks that live.
    InuseObjects,
    /// Bytes ever allocated.
    AllocSpace,
    /// Blocks ever allocated.
    AllocObjects,
    /// Growth in bytes per hour.
    Growth,
}

impl Metric {
    /// All of them, in the order of the sample types of a pprof file.
    pub const ALL: [Self; 5] =
        [Self::InuseSpace, Self::InuseObjects, Self::AllocSpace, Self::AllocObjects, Self::Growth];

    /// The name on the command line and in pprof files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InuseSpace => "inuse_space",
            Self::InuseObjects => "inuse_objects",
            Self::AllocSpace => "alloc_space",
            Self::AllocObjects => "alloc_objects",
            Self::Growth => "growth",
        }
    }

    /// The unit, as pprof knows it. Growth is bytes per hour; pprof scales nothing that it does not know.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::InuseSpace | Self::AllocSpace | Self::Growth => "bytes",
            Self::InuseObjects | Self::AllocObjects => "count",
        }
    }

    /// What stacks are weighed by, in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::InuseSpace => "outstanding bytes",
            Self::InuseObjects => "outstanding blocks",
            Self::AllocSpace => "allocated bytes",
            Self::AllocObjects => "allocations",
            Self::Growth => "growth in bytes per hour",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_name_tells_its_form() {
        for (name, format) in [
            ("run.json", Some(Format::Json)),
            ("run.jsonl", Some(Format::Json)),
            ("a/b.folded", Some(Format::Folded)),
            ("leak.SVG", Some(Format::Flamegraph)),
            ("heap.pb.gz", Some(Format::Pprof)),
            ("heap.pprof", Some(Format::Pprof)),
            ("page.html", Some(Format::Html)),
            ("report.txt", Some(Format::Text)),
            ("report", None),
            ("run.json.old", None),
            ("/", None),
        ] {
            assert_eq!(Format::of_file(Path::new(name)), format, "{name}");
        }
    }
}
