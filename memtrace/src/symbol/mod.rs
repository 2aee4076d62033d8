//! The `symbol` room.
