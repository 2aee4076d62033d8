use std::io::Write as _;

use proptest::prelude::*;

use super::*;

/// Where the code of the table below begins.
const TEXT: u64 = 0x40_1000;

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A table as Go 1.20 and later write it, of two functions of 32 bytes: `main.f`, into which `main.inlined` is inlined from its
/// eighth byte to its sixteenth, and `main.g`. Behind it comes the tree of inlined functions.
fn table() -> (Vec<u8>, GoTable) {
    let names = b"\0main.f\0main.g\0main.inlined\0".to_vec();
    let files = b"\0/srv/app/main.go\0".to_vec();
    let units = words(&[1]);
    // Changes of the value, doubled, each with the number of bytes for which it holds: file 0; line 7, then 12, then 8; no inlined
    // function, then the first one, then none.
    let values = [&[0][..], &[2, 32, 0], &[16, 8, 10, 8, 7, 16, 0], &[0, 8, 2, 8, 1, 16, 0]].concat();
    let function = |begin: u32, name: u32, depths: u32, runs: u32, index: u32, tree: u32| {
        [
            words(&[begin, name, 0, 0, depths, 1, 4, runs, 0, 0]),
            vec![0, 0, 0, 4],
            words(&[0, 0, index]),
            words(&[u32::MAX; 3]),
        ]
        .concat()
        .into_iter()
        .chain(tree.to_le_bytes())
        .collect::<Vec<u8>>()
    };
    // The depths of the stack are the numbers of the lines.
    let (f, g) = (function(0, 1, 4, 3, 11, 0), function(32, 8, 0, 3, 0, u32::MAX));
    let list = words(&[0, 20, 32, 20 + f.len() as u32, 64]);
    let mut bytes = Vec::new();
    let mut place = |part: &[u8]| {
        let at = bytes.len() as u64;
        bytes.extend_from_slice(part);
        at
    };
    let (names, units, files, values) = (place(&names), place(&units), place(&files), place(&values));
    let entries = place(&[list, f, g].concat());
    let end = bytes.len() as u64;
    bytes.extend(words(&[0, 15, 4, 1]));
    let table = GoTable {
        pieces: Pieces::of(Rc::new(file(&bytes))),
        offset: 0,
        bytes: end,
        is_18: false,
        quantum: 1,
        functions: 2,
        text: TEXT,
        names,
        units,
        files,
        values,
        entries,
        trees: Some(end),
    };
    (bytes, table)
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(bytes).expect("room for it");
    file
}

fn shown(functions: &[GoFunction]) -> Vec<(&str, Option<&str>, Option<u32>)> {
    functions.iter().map(|found| (found.name.as_str(), found.file.as_deref(), found.line)).collect()
}

#[test]
fn functions_are_named_with_their_lines_and_what_is_inlined() {
    let (_, table) = table();
    let main = Some("/srv/app/main.go");
    assert_eq!(shown(&table.functions_at(TEXT + 3)), [("main.f", main, Some(7))]);
    let inlined = table.functions_at(TEXT + 9);
    assert_eq!(shown(&inlined), [("main.inlined", main, Some(12)), ("main.f", main, Some(7))]);
    assert_eq!(shown(&table.functions_at(TEXT + 20)), [("main.f", main, Some(8))]);
    assert_eq!(table.function_at(TEXT + 32), Some((TEXT + 32, "main.g".to_owned())));
    assert_eq!((table.function_at(TEXT - 1), table.function_at(TEXT + 64)), (None, None));
    assert_eq!(table.find("main.g"), Some((TEXT + 32, TEXT + 64)));
    assert_eq!(table.find("main.h"), None);
}

#[test]
fn a_table_that_is_damaged_anywhere_is_read_to_an_end() {
    let (bytes, whole) = table();
    for at in 0..bytes.len() {
        for damage in [0xff, 0x80, 1] {
            let mut damaged = bytes.clone();
            damaged[at] ^= damage;
            let table = GoTable { pieces: Pieces::of(Rc::new(file(&damaged))), ..table().1 };
            let _ = (table.functions_at(TEXT + 9), table.find("main.g"));
            for listed in table.functions().take(100) {
                let _ = (table.which(&listed, &["main.g"]), table.depths(&listed));
            }
        }
    }
    drop(whole);
}

proptest! {
    #[test]
    fn any_bytes_and_any_places_are_read_to_an_end(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        places in prop::array::uniform8(prop_oneof![0u64..700, any::<u64>()]),
        address in prop_oneof![0u64..200, any::<u64>()],
    ) {
        let [names, units, files, values, entries, trees, functions, text] = places;
        let table = GoTable {
            pieces: Pieces::of(Rc::new(file(&bytes))),
            offset: 0,
            bytes: bytes.len() as u64,
            is_18: address % 2 == 0,
            quantum: 1,
            functions,
            text,
            names,
            units,
            files,
            values,
            entries,
            trees: Some(trees),
        };
        let _ = (table.functions_at(address), table.function_at(address), table.find("main.g"));
        for listed in table.functions().take(100) {
            let _ = (table.which(&listed, &["main.g"]), table.depths(&listed));
        }
    }
}

#[test]
fn all_functions_are_listed_with_how_deep_their_stacks_are() {
    let (_, table) = table();
    let listed: Vec<_> = table.functions().collect();
    let ranges: Vec<_> = listed.iter().map(|function| (function.begin, function.end)).collect();
    assert_eq!(ranges, [(TEXT, TEXT + 32), (TEXT + 32, TEXT + 64)]);
    let names = ["main.ff", "main.g", "main.f"];
    let which: Vec<_> = listed.iter().map(|function| table.which(function, &names)).collect();
    assert_eq!(which, [Some("main.f"), Some("main.g")]);
    assert_eq!(table.which(&listed[0], &["main", "main.function"]), None);
    let depths = [(TEXT, Some(7)), (TEXT + 8, Some(12)), (TEXT + 16, Some(8)), (TEXT + 32, None)];
    assert_eq!(table.depths(&listed[0]), depths);
    assert_eq!(table.depths(&listed[1]), []);
}
