//! Stack ids: a 64-bit hash over the target's slot and every frame.

/// Starts the hash of a stack of the target in `slot`; `generation` counts the target's images (exec), whose addresses
/// mean different code.
#[inline(always)]
pub const fn seed(slot: u16, generation: u32) -> u64 {
    mix(0x9e37_79b9_7f4a_7c15, ((slot as u64) << 32) | generation as u64)
}

/// Adds one frame address to the hash. A multiply and two folds: every input bit reaches every output bit after two
/// steps, and no input but one cancels a difference.
#[inline(always)]
pub const fn mix(hash: u64, frame: u64) -> u64 {
    let mixed = (hash ^ frame).wrapping_mul(0xd6e8_feb8_6659_fd93);
    (mixed ^ (mixed >> 32)).wrapping_mul(0x9fb2_1c65_1e98_df25)
}

/// Ends the hash. 0 means "no stack" elsewhere, so it is never an id.
#[inline(always)]
pub const fn finish(hash: u64) -> u64 {
    let folded = hash ^ (hash >> 29);
    if folded == 0 { 1 } else { folded }
}

/// The id of a stack that has these native frames and interpreter frames with this hash; 0 is the hash of none.
#[inline(always)]
pub const fn with_chain(native: u64, chain: u64) -> u64 {
    if chain == 0 { native } else { finish(mix(native, chain)) }
}

/// The id of a whole stack of native frames.
pub fn id(slot: u16, generation: u32, frames: &[u64]) -> u64 {
    finish(frames.iter().fold(seed(slot, generation), |hash, &frame| mix(hash, frame)))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn near_stacks_have_different_ids() {
        let mut seen = HashMap::new();
        for slot in 0..4 {
            for generation in 0..4 {
                for base in 0..200u64 {
                    for depth in 0..20 {
                        let frames: Vec<u64> =
                            (0..depth).map(|level| 0x7f00_0000_1000 + base * 4 + level * 16).collect();
                        let key = (slot, generation, frames.clone());
                        if let Some(other) = seen.insert(id(slot, generation, &frames), key.clone()) {
                            assert_eq!(other, key, "two stacks share an id");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_order_of_frames_matters() {
        assert_ne!(id(0, 0, &[1, 2]), id(0, 0, &[2, 1]));
        assert_ne!(id(0, 0, &[1]), id(0, 0, &[1, 0]));
    }
}
