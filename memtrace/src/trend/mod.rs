//! The `trend` room.
