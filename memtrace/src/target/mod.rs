//! The `target` room.
