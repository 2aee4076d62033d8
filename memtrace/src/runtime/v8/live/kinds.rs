//! How many bytes an object of V8's heap has, and which of its words refer to others, by the number of its type.

use std::{collections::HashMap, ops::Range};

use super::super::layout::{ELEMENTS, FIRST_NO_STRING, SIZE};

/// Types that are told apart. Of all others the words are looked at as what they are: a pointer has a mark in its lowest bits.
const WANTED: [(&str, Kind); 19] = [
    (MAP, Kind::Map),
    ("type_HeapNumber__HEAP_NUMBER_TYPE", Kind::Number),
    (BYTES, Kind::Bytes),
    ("type_TrustedByteArray__TRUSTED_BYTE_ARRAY_TYPE", Kind::Bytes),
    ("type_FixedDoubleArray__FIXED_DOUBLE_ARRAY_TYPE", Kind::Numbers),
    (ELEMENTS_TYPE, Kind::Elements),
    ("type_PropertyArray__PROPERTY_ARRAY_TYPE", Kind::Properties),
    (FEEDBACK, Kind::Feedback),
    ("type_DescriptorArray__DESCRIPTOR_ARRAY_TYPE", Kind::Descriptors),
    ("type_StrongDescriptorArray__STRONG_DESCRIPTOR_ARRAY_TYPE", Kind::Descriptors),
    ("type_ScopeInfo__SCOPE_INFO_TYPE", Kind::Scope),
    ("type_BytecodeArray__BYTECODE_ARRAY_TYPE", Kind::Bytecode),
    ("type_InstructionStream__INSTRUCTION_STREAM_TYPE", Kind::Opaque),
    ("type_PreparseData__PREPARSE_DATA_TYPE", Kind::Opaque),
    (FREE_SPACE, Kind::Opaque),
    ("type_WeakCell__WEAK_CELL_TYPE", Kind::WeakCell),
    ("type_JSWeakRef__JS_WEAK_REF_TYPE", Kind::WeakRef),
    ("type_JSFunction__JS_FUNCTION_TYPE", Kind::Function),
    ("type_JSArrayBuffer__JS_ARRAY_BUFFER_TYPE", Kind::ArrayBuffer),
];

/// The constant with the number of the type of types.
pub const MAP: &str = "type_Map__MAP_TYPE";

/// How far into what describes the properties of a type the first one's name is.
pub const DESCRIPTORS_BEGIN: &str = "class_DescriptorArray__header_size__uintptr_t";

/// The type of memory that is free.
const FREE_SPACE: &str = "type_FreeSpace__FREE_SPACE_TYPE";

/// The type whose number is two less where there is no constant for that: types are in the order of their names, and fillers of one
/// word are between the two.
const FEEDBACK: &str = "type_FeedbackVector__FEEDBACK_VECTOR_TYPE";

/// The types between these two are tables: those of maps, sets, and objects with many properties.
const ELEMENTS_TYPE: &str = "type_FixedArray__FIXED_ARRAY_TYPE";
const BYTES: &str = "type_ByteArray__BYTE_ARRAY_TYPE";

/// How far into a buffer of the language the address of its memory is.
pub const BACKING_STORE: &str = "class_JSArrayBuffer__backing_store__uintptr_t";

/// The collections whose tables hold a value only as long as its key lives.
const WEAK_COLLECTIONS: [&str; 2] = ["type_JSWeakMap__JS_WEAK_MAP_TYPE", "type_JSWeakSet__JS_WEAK_SET_TYPE"];

/// The first type of objects of the language: all types from it on are such.
const FIRST_RECEIVER: &str = "type_JSProxy__JS_PROXY_TYPE";

/// What a string is made of, in its type's lowest bits: characters, two strings, one elsewhere.
const REPRESENTATION: u16 = 7;
/// Set in a string's type unless it is the only one of its text.
const NOT_INTERNALIZED: u16 = 0x20;
/// Set in the type of a string whose characters have one byte.
const ONE_BYTE: u16 = 8;

/// In a feedback vector: more words than it has besides its slots.
const FEEDBACK_WORDS: u64 = 6;
/// In a scope: more words than most have; what is left out are names, which functions have as well.
const SCOPE_WORDS: u64 = 20;
/// In bytecode: the words before its instructions.
const BYTECODE_WORDS: u64 = 10;
/// In a cell that refers weakly: the words of its target and of the token by which it is unregistered.
pub const WEAK_CELL_WORDS: Range<u64> = 16..32;
/// In a weak reference: its target.
pub const WEAK_REF_WORDS: Range<u64> = 24..32;
/// In a weak collection: its table.
pub const TABLE: u64 = 24;
/// In the table of a weak collection: its first key, to which the value is the next word.
pub const FIRST_KEY: u64 = 40;

/// What kind of object a type stands for, as far as its words go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// What V8 calls a type.
    Map,
    /// A string; the number is that of its type.
    String(u16),
    /// A number that is no small integer.
    Number,
    /// An array of bytes.
    Bytes,
    /// An array of numbers.
    Numbers,
    /// An array of anything, or a table.
    Elements,
    /// The variables of a function that functions in it use.
    Context,
    /// The properties of an object that have no room in it.
    Properties,
    /// What a function has learnt of the types that it meets.
    Feedback,
    /// Names of the properties of objects of a type.
    Descriptors,
    /// Names of the variables of a function.
    Scope,
    /// Instructions for the interpreter.
    Bytecode,
    /// Something without references that matter.
    Opaque,
    /// A cell of a registry of objects whose end is told.
    WeakCell,
    /// A weak reference of the language.
    WeakRef,
    /// A function with its variables.
    Function,
    /// A buffer, whose memory is outside of the heap.
    ArrayBuffer,
    /// A map or set of the language whose keys are weak.
    WeakCollection,
    /// The table of such a one.
    WeakTable,
    /// An object of the language, by its own number.
    Receiver(u16),
    /// Something else of V8's own.
    Other(u16),
}

/// Which types are of which kind in one build.
#[derive(Clone, Debug)]
pub struct Kinds {
    known: HashMap<u16, Kind>,
    /// The types of tables.
    tables: Range<u16>,
    first_receiver: u16,
    /// The type of the tables of weak collections, once it is known.
    weak_table: Option<u16>,
}

/// All constants that are looked up, without the part that they have in common.
pub fn wanted() -> impl Iterator<Item = &'static str> {
    WANTED.iter().map(|(name, _)| *name).chain(WEAK_COLLECTIONS).chain([
        FIRST_RECEIVER,
        DESCRIPTORS_BEGIN,
        BACKING_STORE,
    ])
}

impl Kinds {
    /// The kinds by these constants; `None` if one of the most common types is missing.
    pub fn of(constants: &HashMap<&str, u32>) -> Option<Kinds> {
        let number = |name: &str| constants.get(name).and_then(|&number| u16::try_from(number).ok());
        let weak = WEAK_COLLECTIONS.iter().map(|name| (*name, Kind::WeakCollection));
        let all = WANTED.into_iter().chain(weak);
        let mut known: HashMap<u16, Kind> = all.filter_map(|(name, kind)| Some((number(name)?, kind))).collect();
        if let (None, Some(feedback)) = (number(FREE_SPACE), number(FEEDBACK)) {
            known.entry(feedback + 2).or_insert(Kind::Opaque);
        }
        let has = |kind| known.values().any(|&known| known == kind);
        let is_enough = [Kind::Map, Kind::Number, Kind::Bytes, Kind::Numbers, Kind::Elements].into_iter().all(has);
        let tables = number(ELEMENTS_TYPE)?..number(BYTES)?;
        is_enough.then_some(Kinds { known, tables, first_receiver: number(FIRST_RECEIVER)?, weak_table: None })
    }

    /// The kind of objects of this type.
    pub fn kind(&self, number: u16) -> Kind {
        if number < FIRST_NO_STRING {
            return Kind::String(number);
        }
        if self.weak_table == Some(number) {
            return Kind::WeakTable;
        }
        match self.known.get(&number) {
            Some(&kind) => kind,
            None if self.tables.contains(&number) => Kind::Elements,
            None if number >= self.first_receiver => Kind::Receiver(number),
            None => Kind::Other(number),
        }
    }

    /// The table of a weak collection has this type. Whether that is new.
    pub fn learn_weak_table(&mut self, number: u16) -> bool {
        let is_new = matches!(self.kind(number), Kind::Other(_) | Kind::Elements);
        if is_new {
            self.weak_table = Some(number);
        }
        is_new
    }
}

/// The bytes of an object, and which of them may refer to others.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Shape {
    /// Bytes of the object.
    pub bytes: u64,
    /// The bytes of it in which its references are; words, the type's left out.
    pub references: Range<u64>,
}

impl Kind {
    /// The shape of an object of this kind. `fixed` is the number of bytes that its type says, 0 for those that differ. `second` is the second
    /// word of the object, which tells how many elements it has.
    pub fn shape(self, fixed: u64, second: u64) -> Shape {
        let raw = |bytes: u64| Shape { bytes, references: 8..8 };
        let words = |bytes: u64| Shape { bytes, references: 8..bytes };
        // A small number in the upper half, or a number in the lower one.
        let elements = if second as u32 == 0 { second >> 32 } else { 0 };
        let elements = if elements > u64::from(u32::MAX >> 1) { 0 } else { elements };
        let low = second & 0xffff_ffff;
        match self {
            Kind::String(number) => match number & REPRESENTATION {
                0 => {
                    let width = if number & ONE_BYTE != 0 { 1 } else { 2 };
                    raw((ELEMENTS + width * (second >> 32)).next_multiple_of(8))
                }
                // Its characters are outside of the heap.
                2 => raw(32),
                // In a part of another the last word is a number, which is no reference.
                _ => Shape { bytes: if fixed == 0 { 32 } else { fixed }, references: 16..32 },
            },
            Kind::Number => raw(fixed.max(16)),
            Kind::Opaque => raw(fixed.max(16)),
            Kind::Bytes => raw((ELEMENTS + elements).next_multiple_of(8)),
            Kind::Numbers => raw(ELEMENTS + 8 * elements),
            _ if fixed > 0 => words(fixed),
            // The number of properties shares its word with a hash.
            Kind::Properties => words(ELEMENTS + 8 * (elements & 0x3ff)),
            Kind::Feedback => words(8 * (FEEDBACK_WORDS + low.min(1 << 20))),
            Kind::Descriptors => words(32 + 24 * (low & 0xffff)),
            Kind::Scope => words(8 * SCOPE_WORDS),
            Kind::Bytecode => words(8 * BYTECODE_WORDS),
            // Some have the number of elements in use behind that of all.
            _ => words(ELEMENTS + 8 * (elements + 1)),
        }
    }

    /// Whether objects of this kind are what the program makes and uses, and not what V8 has of its code and types.
    pub const fn is_of_program(self) -> bool {
        matches!(
            self,
            Kind::String(_)
                | Kind::Number
                | Kind::Numbers
                | Kind::Elements
                | Kind::Context
                | Kind::Properties
                | Kind::WeakRef
                | Kind::Function
                | Kind::ArrayBuffer
                | Kind::WeakCollection
                | Kind::WeakTable
                | Kind::Receiver(_)
        )
    }

    /// Whether objects of this kind are kept in a table of V8's own for as long as it is not collected, dead or alive.
    pub const fn is_in_table(self) -> bool {
        matches!(self, Kind::String(number) if number & NOT_INTERNALIZED == 0)
    }
}

const _: () = assert!(SIZE == 8);

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Those of a build in which the constants have these values.
    pub fn kinds() -> Kinds {
        let number = |name: &str| match name {
            MAP => 278,
            ELEMENTS_TYPE => 205,
            BYTES => 218,
            FEEDBACK => 271,
            "type_FixedDoubleArray__FIXED_DOUBLE_ARRAY_TYPE" => 219,
            "type_HeapNumber__HEAP_NUMBER_TYPE" => 130,
            "type_ScopeInfo__SCOPE_INFO_TYPE" => 286,
            "type_JSWeakMap__JS_WEAK_MAP_TYPE" => 2130,
            "type_JSArrayBuffer__JS_ARRAY_BUFFER_TYPE" => 2063,
            FIRST_RECEIVER => 300,
            _ => 0,
        };
        let constants = wanted().map(|name| (name, number(name))).filter(|(_, number)| *number > 0).collect();
        Kinds::of(&constants).expect("all that have to be are there")
    }

    #[test]
    fn types_are_told_by_their_numbers() {
        let mut kinds = kinds();
        let all = [278, 0x28, 286, 1057, 2130, 130, 150].map(|number| kinds.kind(number));
        let receiver = Kind::Receiver(1057);
        let expected = [
            Kind::Map,
            Kind::String(0x28),
            Kind::Scope,
            receiver,
            Kind::WeakCollection,
            Kind::Number,
            Kind::Other(150),
        ];
        assert_eq!(all, expected);
        // Tables have no constants, and free memory has none in some versions.
        assert_eq!(
            [205, 210, 218, 273].map(|number| kinds.kind(number)),
            [Kind::Elements, Kind::Elements, Kind::Bytes, Kind::Opaque]
        );
        assert!(kinds.learn_weak_table(211) && kinds.kind(211) == Kind::WeakTable);
        assert!(!kinds.learn_weak_table(211) && !kinds.learn_weak_table(278) && !kinds.learn_weak_table(0x28));
        assert!(receiver.is_of_program() && !Kind::Scope.is_of_program());
        assert!(Kinds::of(&HashMap::from([(MAP, 278)])).is_none());
    }

    #[test]
    fn shapes_are_those_of_objects() {
        let small = |number: u64| number << 32;
        assert_eq!(Kind::String(0x28).shape(0, small(5)), Shape { bytes: 24, references: 8..8 });
        assert_eq!(Kind::String(0x20).shape(0, small(5)), Shape { bytes: 32, references: 8..8 });
        assert_eq!(Kind::String(0x29).shape(32, small(5)), Shape { bytes: 32, references: 16..32 });
        assert_eq!(Kind::Elements.shape(0, small(3)), Shape { bytes: 48, references: 8..48 });
        assert_eq!(Kind::Bytes.shape(0, small(3)).bytes, 24);
        assert_eq!(Kind::Numbers.shape(0, small(3)), Shape { bytes: 40, references: 8..8 });
        assert_eq!(Kind::Properties.shape(0, small(0x1c03)).bytes, 40);
        assert_eq!(Kind::Receiver(1057).shape(56, 0), Shape { bytes: 56, references: 8..56 });
        assert!(Kind::String(0x08).is_in_table() && !Kind::String(0x28).is_in_table() && !Kind::Number.is_in_table());
    }

    proptest::proptest! {
        #[test]
        fn any_object_has_a_bounded_shape(number in 0u16..3000, fixed in 0u64..2048, second in proptest::num::u64::ANY) {
            let Shape { bytes, references } = kinds().kind(number).shape(fixed, second);
            proptest::prop_assert!(bytes <= 1 << 36 && references.end <= bytes.max(32));
        }
    }
}
