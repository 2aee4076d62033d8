//! Where V8 keeps what memtrace reads: bytes from the beginning of an object, for builds for x86-64 whose pointers are whole words.
//!
//! V8 exports constants for debuggers (`v8dbg_*`, made by tools/gen-postmortem-metadata.py), which say most of it for the very build. What
//! they leave out was compared with live processes of Node 20, 22, 24 and 26 (V8 11.3, 12.4, 13.6 and 14.6), in which it is one of two
//! forms.

use std::collections::HashMap;

/// What a constant is called in one version or another.
type Names = &'static [&'static str];

/// Constants that have to be there.
const SHARED: Names = &["class_JSFunction__shared__SharedFunctionInfo"];
const INSTANCE_TYPE: Names = &["class_Map__instance_type__uint16_t"];
const NAME: Names = &[
    "class_SharedFunctionInfo__name_or_scope_info__Tagged_NameOrScopeInfoT_",
    "class_SharedFunctionInfo__name_or_scope_info__Tagged_Object_",
    "class_SharedFunctionInfo__name_or_scope_info__Object",
];
const SCRIPT: Names = &[
    "class_SharedFunctionInfo__script__Tagged_HeapObject_",
    "class_SharedFunctionInfo__raw_script__Tagged_Object_",
    "class_SharedFunctionInfo__script_or_debug_info__HeapObject",
];
const SCRIPT_NAME: Names = &["class_Script__name__Object"];
const SOURCE: Names = &["class_Script__source__Object"];
const LENGTH: Names = &["class_String__length__int32_t"];
const FIRST_VARIABLE: Names = &["scopeinfo_idx_first_vars"];
const LOCALS: Names = &["scopeinfo_idx_ncontextlocals"];
const BYTECODE: Names = &["class_BytecodeArray__data__uintptr_t"];
const SHARED_TYPE: Names = &["type_SharedFunctionInfo__SHARED_FUNCTION_INFO_TYPE"];
const BYTECODE_TYPE: Names = &["type_BytecodeArray__BYTECODE_ARRAY_TYPE"];
const SCOPE_TYPE: Names = &["type_ScopeInfo__SCOPE_INFO_TYPE"];
const STREAM_TYPE: Names = &["type_InstructionStream__INSTRUCTION_STREAM_TYPE"];
const LITERALS: Names = &["DeoptimizationDataLiteralArrayIndex"];
const INLINING: Names = &["DeoptimizationDataInliningPositionsIndex"];
/// Constants that have to have this value: the kernel's side and the readers rely on it.
pub const FIXED: [(&str, u32); 9] = [
    ("TaggedSize", 8),
    ("SmiShiftSize", 31),
    ("off_fp_context", (-8i32).cast_unsigned()),
    ("off_fp_function", (-16i32).cast_unsigned()),
    ("off_fp_bytecode_array", (-32i32).cast_unsigned()),
    ("off_fp_bytecode_offset", (-40i32).cast_unsigned()),
    ("class_FixedArrayBase__length__SMI", 8),
    ("class_FixedArray__data__uintptr_t", 16),
    ("class_ConsString__first__String", 16),
];
/// A constant that is there since code and its instructions are two objects, and bytecode keeps its tables in another order.
pub const CODE_START: &str = "class_Code__instruction_start__Address";
/// What says how many bytes compiled code has.
pub const CODE_SIZE: &str = "class_Code__instruction_size__int";

/// Where one build of V8 keeps what is read. All offsets are bytes from the beginning of an object.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Layout {
    /// In a function: what describes its code (`SharedFunctionInfo`).
    pub shared: u64,
    /// In a map, which is what V8 calls a type: the number of the type.
    pub instance_type: u64,
    /// In the description of a function: its name or its scope.
    pub name: u64,
    /// In the description of a function: its script.
    pub script: u64,
    /// In a script: its name.
    pub script_name: u64,
    /// In a script: its source text.
    pub source: u64,
    /// In a string: how many characters it has.
    pub length: u64,
    /// In a scope: which word is the name of the first variable.
    pub first_variable: u64,
    /// In a scope: which word is the number of variables.
    pub locals: u64,
    /// In bytecode: the first instruction.
    pub bytecode: u64,
    /// In bytecode: the table of source positions.
    pub bytecode_positions: u64,
    /// In compiled code: the address of its instructions.
    pub code_start: u64,
    /// In compiled code: how many bytes its instructions have.
    pub code_size: u64,
    /// In compiled code: its data for going back to the interpreter.
    pub code_deoptimization: u64,
    /// In compiled code: the table of source positions.
    pub code_positions: u64,
    /// In the data for going back: which element has the functions that were inlined.
    pub literals: u64,
    /// In the data for going back: which element says where they were.
    pub inlining: u64,
    /// The number of the type of descriptions of functions.
    pub shared_type: u16,
    /// The number of the type of bytecode.
    pub bytecode_type: u16,
    /// The number of the type of scopes.
    pub scope_type: u16,
    /// The number of the type of instructions of compiled code.
    pub stream_type: u16,
    /// The number of the type of scripts, which no constant says: what most functions have. 0 until that is known.
    pub script_type: u16,
}

/// In the description of a function: its bytecode, or code that has it.
pub const DATA: u64 = 8;
/// In a script: the line at which it begins in its file.
pub const LINE_OFFSET: u64 = 24;
/// In strings of two parts, of a part of another, and that are another: the first string.
pub const STRING: u64 = 16;
/// In strings of two parts: the second string. In a part of another: where it begins. In one whose characters are outside of the heap: where.
pub const SECOND: u64 = 24;
/// In arrays: how many elements, as a small number.
pub const SIZE: u64 = 8;
/// In arrays: where the first element is.
pub const ELEMENTS: u64 = 16;
/// Number of the first type that is no string.
pub const FIRST_NO_STRING: u16 = 0x80;

/// All constants that are looked up, without the part that they have in common.
pub fn wanted() -> Vec<&'static str> {
    let lists = [
        SHARED,
        INSTANCE_TYPE,
        NAME,
        SCRIPT,
        SCRIPT_NAME,
        SOURCE,
        LENGTH,
        FIRST_VARIABLE,
        LOCALS,
        BYTECODE,
        SHARED_TYPE,
        BYTECODE_TYPE,
        SCOPE_TYPE,
        STREAM_TYPE,
        LITERALS,
        INLINING,
    ];
    let fixed = FIXED.iter().map(|(name, _)| *name);
    lists.into_iter().flatten().copied().chain(fixed).chain([CODE_START, CODE_SIZE]).collect()
}

impl Layout {
    /// The layout that these constants describe.
    ///
    /// # Errors
    ///
    /// Which constant is missing or has a value with which nothing can be read.
    pub fn of(constants: &HashMap<&str, u32>) -> Result<Layout, &'static str> {
        for (name, value) in FIXED {
            if constants.get(name) != Some(&value) {
                return Err(name);
            }
        }
        let value = |names: Names| {
            let found = names.iter().find_map(|name| constants.get(name));
            found.copied().filter(|&value| value < 1 << 12).ok_or(names[0])
        };
        let offset = |names: Names| value(names).map(u64::from);
        let number = |names: Names| value(names).map(|value| value as u16);
        let own = |name: &str| constants.get(name).map(|&value| u64::from(value) & 0xfff);
        let is_split = constants.contains_key(CODE_START);
        Ok(Layout {
            shared: offset(SHARED)?,
            instance_type: offset(INSTANCE_TYPE)?,
            name: offset(NAME)?,
            script: offset(SCRIPT)?,
            script_name: offset(SCRIPT_NAME)?,
            source: offset(SOURCE)?,
            length: offset(LENGTH)?,
            first_variable: offset(FIRST_VARIABLE)?,
            locals: offset(LOCALS)?,
            bytecode: offset(BYTECODE)?,
            bytecode_positions: if is_split { 24 } else { 32 },
            code_start: own(CODE_START).unwrap_or(40),
            code_size: own(CODE_SIZE).unwrap_or(56),
            code_deoptimization: if is_split { 8 } else { 16 },
            code_positions: if is_split { 16 } else { 24 },
            literals: offset(LITERALS)?,
            inlining: offset(INLINING)?,
            shared_type: number(SHARED_TYPE)?,
            bytecode_type: number(BYTECODE_TYPE)?,
            scope_type: number(SCOPE_TYPE)?,
            stream_type: number(STREAM_TYPE)?,
            script_type: 0,
        })
    }
}
