//! The `object` room: what a process has mapped, and every read of the files among it.
//!
//! In: a process id ([`Pid`]) and its [`maps`]. Out: the very file that is [`mapped`], also when its name is gone ([`open`]); its
//! [`layout`], its functions ([`symbols`]), its call frame information ([`frames`]), its [`debug_file`]; code that has [`moved`] from
//! it, and whether it is [`patched`]; and its names as people write them
//! ([`demangle`]). Files and `/proc` are the target's to shape: every read has a bound ([`bounds`]), what does not
//! parse is an [`ObjectError`], and what may reach a terminal goes through [`printable`] first.

pub mod bounds;
pub mod build_id;
pub mod debug_file;
pub mod demangle;
pub mod frames;
pub mod go_table;
pub mod layout;
pub mod load;
pub mod mapped;
pub mod maps;
pub mod moved;
pub mod open;
pub mod patched;
pub mod printable;
pub mod root;
pub mod symbols;

mod error;
mod pid;

pub use error::ObjectError;
pub use load::Load;
pub use pid::Pid;
