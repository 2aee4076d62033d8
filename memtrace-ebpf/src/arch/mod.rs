//! Which register holds what when a program is called: one file for each processor architecture. No other file of these
//! programs knows a register by its name.
//!
//! Another architecture brings a file with the same functions, and a choice here by `bpf_target_arch`.

mod x86_64;

pub use x86_64::{
    argument_and_result, arguments, caller, instruction_pointer, interrupted, is_return_of, mapping_arguments,
    registers, result, return_slot, return_slot_once,
};
