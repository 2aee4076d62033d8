//! How long V8's bytecodes are: what is needed to count them, by which the table of baseline code says where a call is.

use super::positions::number;

/// The bytecodes of one version of V8.
struct Sizes {
    /// By which numbers of types the version is told: those of descriptions of functions and of bytecode.
    types: (u16, u16),
    /// For each bytecode its bytes, as a digit.
    single: &'static [u8],
    /// For each bytecode its bytes where its operands are twice as wide, as a hexadecimal digit, without the prefix.
    double: &'static [u8],
}

/// The prefixes of bytecodes whose operands are two and four times as wide (`Bytecode::kWide`, `kExtraWide`).
const WIDE: u8 = 0;
const EXTRA_WIDE: u8 = 1;

/// `Bytecodes::kBytecodeSizes` of the versions in Node 20, 22, 24 and 26, compared with what `--print-bytecode` prints.
const VERSIONS: [Sizes; 4] = [
    // V8 11.3.
    Sizes {
        types: (262, 191),
        single: b"1111123455621211111244222322211123334224424434433344454533333333333333333333333322221112224554565345\
              55644553333333322221541241434233331114222222222222222222222242335211112112454412211111111111111111",
        double: b"11111357979313111113773335333111255573377377477555777878555555555555555555555555333311133379979b9579\
              97966995555555533331761361656355551117333333333333333333333373559311113113797713311111111111111111",
    },
    // V8 12.4.
    Sizes {
        types: (274, 205),
        single: b"1111123455621211111244222322211123334242244244344353344454533333333333333333333333322221112224554565\
              3455564455333333333122211541241434233331114222222222222222222222242335211112112454412211111111111111\
              111",
        double: b"11111357979313111113773335333111255573733773774775955777878555555555555555555555555333311133379979b9\
              5799796699555555555133311761361656355551117333333333333333333333373559311113113797713311111111111111\
              111",
    },
    // V8 13.6.
    Sizes {
        types: (282, 186),
        single: b"1111123455621211111244422223222111233342422444244434435334445453333333333333333333333332222112222455\
              4565345556445533333333312221154124143423333111422222222224222222222222442352111121124544122111111111\
              11111111",
        double: b"1111135797931311111377733335333111255573733777377747759557778785555555555555555555555553333113333799\
              79b9579979669955555555513331176136165635555111733333333337333333333333773593111131137977133111111111\
              11111111",
    },
    // V8 14.6.
    Sizes {
        types: (288, 185),
        single: b"1111123455621211111244422223222111233342422444244434435334445453333333333333433333333333322221122224\
              5545653455564455344444433122211541241434233333111422222222224222222222222442352511112112454412211111\
              111111111111",
        double: b"1111135797931311111377733335333111255573733777377747759557778785555555555555655555555555533331133337\
              9979b95799796699555555555133311761361656355555111733333333337333333333333773593911113113797713211111\
              111111111111",
    },
];

impl Sizes {
    /// Bytes of the bytecode at the beginning of these, with its prefix; `None` for one that there is not.
    fn of(&self, instructions: &[u8]) -> Option<usize> {
        let (&first, rest) = instructions.split_first()?;
        let digit = |digits: &[u8], bytecode: u8| char::from(*digits.get(usize::from(bytecode))?).to_digit(16);
        let single = |bytecode| digit(self.single, bytecode);
        let double = |bytecode| digit(self.double, bytecode);
        let size = match first {
            WIDE => 1 + double(*rest.first()?)?,
            EXTRA_WIDE => {
                let (single, double) = (single(*rest.first()?)?, double(*rest.first()?)?);
                1 + single + 3 * double.checked_sub(single)?
            }
            bytecode => single(bytecode)?,
        };
        usize::try_from(size).ok().filter(|&size| size > 0)
    }
}

/// The versions whose bytecodes are known, by the numbers of types that tell them, the oldest first.
pub fn known() -> impl Iterator<Item = (u16, u16)> {
    VERSIONS.iter().map(|sizes| sizes.types)
}

/// The offset of the bytecode of which the baseline compiler made the machine code that ends at `inside` or behind it, from the first bytecode
/// on, in bytes: -1 for what stands before the first one. `table` says for what comes before the first bytecode, and then for each, how
/// many bytes it became (`BytecodeOffsetIterator` in src/baseline/bytecode-offset-iterator.h). `types` are the numbers by which the
/// version is told. `None` if the version is not known, or the table is not of these instructions.
pub fn offset(instructions: &[u8], table: &[u8], inside: u64, types: (u16, u16)) -> Option<i64> {
    let sizes = VERSIONS.iter().find(|sizes| sizes.types == types)?;
    let mut table = table;
    let mut end = number(&mut table)?;
    let mut found = (inside <= end).then_some(-1);
    let mut at = 0;
    while at < instructions.len() {
        end = end.checked_add(number(&mut table)?)?;
        if found.is_none() && inside <= end {
            found = i64::try_from(at).ok();
        }
        at += sizes.of(&instructions[at..])?;
    }
    // Both have to end together, or the bytecodes are others.
    found.filter(|_| at == instructions.len() && table.iter().all(|&byte| byte == 0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const V8_11: (u16, u16) = (262, 191);

    /// `LdaConstant`, the same with a wide operand, `Return`.
    fn instructions() -> Vec<u8> {
        let sizes = &VERSIONS[0];
        let with =
            |bytes: &[u8; 1]| (11u8..).find(|&code| sizes.single[usize::from(code)] == bytes[0]).expect("a bytecode");
        let (one, two) = (with(b"1"), with(b"2"));
        vec![two, 7, WIDE, two, 7, 0, one]
    }

    #[test]
    fn the_table_of_baseline_code_counts_bytecodes() {
        let table = [20, 8, 12, 0x81, 0x01];
        let at = |inside| offset(&instructions(), &table, inside, V8_11);
        assert_eq!([1, 20, 21, 28, 29, 40, 41, 169].map(at), [-1, -1, 0, 0, 2, 2, 6, 6].map(Some));
        assert_eq!((at(170), offset(&instructions(), &table, 21, (1, 1))), (None, None));
    }

    #[test]
    fn a_table_of_other_instructions_says_nothing() {
        assert_eq!(offset(&instructions(), &[20, 8, 12], 21, V8_11), None);
        assert_eq!(offset(&instructions(), &[20, 8, 12, 9, 9], 21, V8_11), None);
    }

    #[test]
    fn all_versions_have_as_many_sizes_of_both_widths() {
        for sizes in &VERSIONS {
            assert_eq!(sizes.single.len(), sizes.double.len());
        }
    }

    proptest! {
        #[test]
        fn any_instructions_and_tables_are_read(
            instructions in prop::collection::vec(any::<u8>(), 0..60),
            table in prop::collection::vec(any::<u8>(), 0..60),
            inside in any::<u64>(),
        ) {
            for sizes in &VERSIONS {
                let found = offset(&instructions, &table, inside, sizes.types);
                prop_assert!(found.is_none_or(|at| at >= -1 && at < instructions.len() as i64));
            }
        }
    }
}
