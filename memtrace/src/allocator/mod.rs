//! The `allocator` room.
use std::path::PathBuf;
use memtrace_common::call::Call;
/// TEMP
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "temp")]
pub struct ProbeSite { pub function: String, pub call: Call, pub object_path: PathBuf, pub open_path: PathBuf, pub file_offset: u64, pub displacement: u64, pub instruction: String, pub emulated: bool }
