//! The messages of a pprof file, as its schema numbers them
//! (<https://github.com/google/pprof/blob/main/proto/profile.proto>). Strings are indices into `string_table`.

use prost::Message;

/// A profile: the message that a pprof file holds.
#[derive(Clone, PartialEq, Message)]
pub struct Profile {
    /// What the values of a sample are.
    #[prost(message, repeated, tag = "1")]
    pub sample_type: Vec<ValueType>,
    /// The stacks.
    #[prost(message, repeated, tag = "2")]
    pub sample: Vec<Sample>,
    /// The modules.
    #[prost(message, repeated, tag = "3")]
    pub mapping: Vec<Mapping>,
    /// Places in code.
    #[prost(message, repeated, tag = "4")]
    pub location: Vec<Location>,
    /// Functions.
    #[prost(message, repeated, tag = "5")]
    pub function: Vec<Function>,
    /// All strings; the first is empty.
    #[prost(string, repeated, tag = "6")]
    pub string_table: Vec<String>,
    /// The beginning, in nanoseconds since 1970.
    #[prost(int64, tag = "9")]
    pub time_nanos: i64,
    /// How long it took.
    #[prost(int64, tag = "10")]
    pub duration_nanos: i64,
    /// The unit of `period`.
    #[prost(message, optional, tag = "11")]
    pub period_type: Option<ValueType>,
    /// One event in so many was recorded.
    #[prost(int64, tag = "12")]
    pub period: i64,
    /// Free text, as strings.
    #[prost(int64, repeated, tag = "13")]
    pub comment: Vec<i64>,
    /// The type that is shown first, as a string.
    #[prost(int64, tag = "14")]
    pub default_sample_type: i64,
}

/// What a value of a sample is, and its unit.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct ValueType {
    /// Its name.
    #[prost(int64, tag = "1")]
    pub r#type: i64,
    /// Its unit.
    #[prost(int64, tag = "2")]
    pub unit: i64,
}

/// A stack with its values, one for each type.
#[derive(Clone, PartialEq, Message)]
pub struct Sample {
    /// Its locations, the innermost first.
    #[prost(uint64, repeated, tag = "1")]
    pub location_id: Vec<u64>,
    /// A value for each sample type.
    #[prost(int64, repeated, tag = "2")]
    pub value: Vec<i64>,
    /// What else is known of it.
    #[prost(message, repeated, tag = "3")]
    pub label: Vec<Label>,
}

/// A key with a text or a number, on a sample.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Label {
    /// The key.
    #[prost(int64, tag = "1")]
    pub key: i64,
    /// The text.
    #[prost(int64, tag = "2")]
    pub str: i64,
}

/// A module that code addresses lie in.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Mapping {
    /// Not 0.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Its first address.
    #[prost(uint64, tag = "2")]
    pub memory_start: u64,
    /// The address after its last.
    #[prost(uint64, tag = "3")]
    pub memory_limit: u64,
    /// Its name.
    #[prost(int64, tag = "5")]
    pub filename: i64,
    /// Its build id in hexadecimal.
    #[prost(int64, tag = "6")]
    pub build_id: i64,
    /// Whether pprof need not look for functions.
    #[prost(bool, tag = "7")]
    pub has_functions: bool,
    /// Nor for files.
    #[prost(bool, tag = "8")]
    pub has_filenames: bool,
    /// Nor for lines.
    #[prost(bool, tag = "9")]
    pub has_line_numbers: bool,
    /// Nor for inlined functions.
    #[prost(bool, tag = "10")]
    pub has_inline_frames: bool,
}

/// A place in code, with its functions, the inlined ones first.
#[derive(Clone, PartialEq, Message)]
pub struct Location {
    /// Not 0.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Its module, or 0.
    #[prost(uint64, tag = "2")]
    pub mapping_id: u64,
    /// Its address.
    #[prost(uint64, tag = "3")]
    pub address: u64,
    /// Its functions: inlined ones first, the one they were inlined into last.
    #[prost(message, repeated, tag = "4")]
    pub line: Vec<Line>,
}

/// A line of a function, in its source file.
#[derive(Clone, Copy, Eq, Hash, PartialEq, Message)]
pub struct Line {
    /// The function.
    #[prost(uint64, tag = "1")]
    pub function_id: u64,
    /// The line; 0 when unknown.
    #[prost(int64, tag = "2")]
    pub line: i64,
}

/// A function with its names and its source file.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Function {
    /// Not 0.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Its name.
    #[prost(int64, tag = "2")]
    pub name: i64,
    /// Its name as the linker has it.
    #[prost(int64, tag = "3")]
    pub system_name: i64,
    /// Its source file.
    #[prost(int64, tag = "4")]
    pub filename: i64,
}
