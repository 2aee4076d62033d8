//! The `report` room: one [`snapshot::Snapshot`] in, text or JSON out. It keeps no truth of its own.

pub mod snapshot;
/// TEMP
#[derive(Clone,Copy,Debug,PartialEq,Eq,clap::ValueEnum)]
pub enum Format {
/// t
Text,
/// j
Json }
