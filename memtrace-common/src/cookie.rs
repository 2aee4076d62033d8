//! The attach cookie: what a probe knows about the site it sits on, in 64 bits.
//!
//! Bits 0-7: the [`Call`]'s number. Bits 16-31: the target's [`Slot`]. Bits 32-63: the [`Signature`]. The rest is 0.
//! The slot comes from the probe, not from the running task: a child made by `vfork` runs in the target's memory under
//! another process id, and what it allocates belongs to the target.

use crate::{Slot, call::Call, signature::Signature};

/// Packs a call, its signature (empty for one that is no heap call) and a slot into a cookie.
pub const fn pack(call: Call, signature: Signature, slot: Slot) -> u64 {
    call as u64 | (slot.0 as u64) << 16 | (signature.0 as u64) << 32
}

/// The number of the call in a cookie.
pub const fn call_number(cookie: u64) -> u8 {
    cookie as u8
}

/// The slot of the target that a cookie carries.
pub const fn slot(cookie: u64) -> Slot {
    Slot((cookie >> 16) as u16)
}

/// The signature of the function that a cookie carries.
pub const fn signature(cookie: u64) -> Signature {
    Signature((cookie >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_gives_back_what_was_packed() {
        for &call in Call::ALL {
            for slot_number in [0, 1, 1023, u16::MAX] {
                let signature = Signature::product(4, 5).of(3).throwing();
                let cookie = pack(call, signature, Slot(slot_number));
                assert_eq!(call_number(cookie), call as u8);
                assert_eq!(slot(cookie), Slot(slot_number));
                assert_eq!(super::signature(cookie), signature);
            }
        }
    }
}
