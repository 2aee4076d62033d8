//! The linker's identity of a file: the note `NT_GNU_BUILD_ID` of the name `GNU`.

use object::{LittleEndian as LE, elf, pod};

use super::bounds::MAX_BUILD_ID_BYTES;

/// The build id among these notes, whose contents begin and end at multiples of `align`, 4 or 8; `None` when there is none.
/// (System V ABI, chapter 5, "Note Section".)
pub fn of_notes(mut notes: &[u8], align: usize) -> Option<Vec<u8>> {
    loop {
        let (header, rest) = pod::from_bytes::<elf::NoteHeader64<LE>>(notes).ok()?;
        let name_bytes = header.n_namesz.get(LE) as usize;
        let desc_bytes = header.n_descsz.get(LE) as usize;
        let name = rest.get(..name_bytes)?;
        // Counted from the note's start.
        let desc_at = (12usize.checked_add(name_bytes)?).checked_next_multiple_of(align)? - 12;
        let desc = rest.get(desc_at..desc_at.checked_add(desc_bytes)?)?;
        if header.n_type.get(LE) == elf::NT_GNU_BUILD_ID && name == b"GNU\0" {
            return (1..=MAX_BUILD_ID_BYTES).contains(&desc.len()).then(|| desc.to_vec());
        }
        let next = (12 + desc_at).checked_add(desc_bytes)?.checked_next_multiple_of(align)?;
        notes = notes.get(next..)?;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn note(kind: u32, name: &[u8], desc: &[u8], align: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [name.len() as u32, desc.len() as u32, kind] {
            bytes.extend(number.to_le_bytes());
        }
        for part in [name, desc] {
            bytes.extend(part);
            bytes.resize(bytes.len().next_multiple_of(align), 0);
        }
        bytes
    }

    #[test]
    fn it_is_found_behind_other_notes() {
        for align in [4, 8] {
            let other = note(1, b"GNU\0", &[1; 16], align);
            let stranger = note(elf::NT_GNU_BUILD_ID, b"Go\0\0", b"abc", align);
            let id = note(elf::NT_GNU_BUILD_ID, b"GNU\0", &[7; 20], align);
            let notes = [other.clone(), stranger, id].concat();
            assert_eq!(of_notes(&notes, align), Some(vec![7; 20]));
            assert_eq!(of_notes(&other, align), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_notes_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200), wide in any::<bool>()) {
            let _ = of_notes(&bytes, if wide { 8 } else { 4 });
        }
    }
}
