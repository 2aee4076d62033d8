use proptest::prelude::*;

use super::*;

const BEGIN: u64 = 0x40_1000;

/// Go 1.19: sub rsp, 64; and rsp, -16; mov [rsp+48], rdi; mov rdi, [rdi+8]; sub rdi, rdx; mov [rsp+40], rdi; call rax; mov rsp, rsi.
const CALL_19: &[u8] = &[
    0x48, 0x83, 0xec, 0x40, 0x48, 0x83, 0xe4, 0xf0, 0x48, 0x89, 0x7c, 0x24, 0x30, 0x48, 0x8b, 0x7f, 0x08, 0x48, 0x29,
    0xd7, 0x48, 0x89, 0x7c, 0x24, 0x28, 0xff, 0xd0, 0x48, 0x89, 0xf4,
];

/// Go 1.26: push rbp; sub rsp, 16; and rsp, -16; mov [rsp+8], rdi; mov rdi, [rdi+8]; sub rdi, rdx; mov [rsp], rdi; mov rsp, rsi.
const CALL_26: &[u8] = &[
    0x55, 0x48, 0x83, 0xec, 0x10, 0x48, 0x83, 0xe4, 0xf0, 0x48, 0x89, 0x7c, 0x24, 0x08, 0x48, 0x8b, 0x7f, 0x08, 0x48,
    0x29, 0xd7, 0x48, 0x89, 0x3c, 0x24, 0x48, 0x89, 0xf4,
];

/// push rbp; call rdi; mov rax, fs:[-8]; mov rbx, [rax+48]; mov rax, [rbx+184]; mov fs:[-8], rax; mov rsp, [rax+56].
const SYSTEM_26: &[u8] = &[
    0x55, 0xff, 0xd7, 0x64, 0x48, 0x8b, 0x04, 0x25, 0xf8, 0xff, 0xff, 0xff, 0x48, 0x8b, 0x58, 0x30, 0x48, 0x8b, 0x83,
    0xb8, 0, 0, 0, 0x64, 0x48, 0x89, 0x04, 0x25, 0xf8, 0xff, 0xff, 0xff, 0x48, 0x8b, 0x60, 0x38,
];

/// In a file that may be loaded anywhere: call rdi; mov rcx, -16; mov rax, fs:[rcx]; mov rbx, [rax+48]; mov rax, [rbx+192];
/// mov fs:[rcx], rax; mov rsp, [rax+56].
const SYSTEM_19: &[u8] = &[
    0xff, 0xd7, 0x48, 0xc7, 0xc1, 0xf0, 0xff, 0xff, 0xff, 0x64, 0x48, 0x8b, 0x01, 0x48, 0x8b, 0x58, 0x30, 0x48, 0x8b,
    0x83, 0xc0, 0, 0, 0, 0x64, 0x48, 0x89, 0x01, 0x48, 0x8b, 0x60, 0x38,
];

/// sub rsp, 24; mov rbx, rsp; and rsp, -16; mov [rsp], rbx; call rax; mov rsp, [rsp]; add rsp, 24; ret.
const MAPS: &[u8] = &[
    0x48, 0x83, 0xec, 0x18, 0x48, 0x89, 0xe3, 0x48, 0x83, 0xe4, 0xf0, 0x48, 0x89, 0x1c, 0x24, 0xff, 0xd0, 0x48, 0x8b,
    0x24, 0x24, 0x48, 0x83, 0xc4, 0x18, 0xc3,
];

/// sub rsp, 48; mov [rsp+40], rbp; lea rbp, [rsp+40]; sub rsp, 24.
const FROM_C_19: &[u8] =
    &[0x48, 0x83, 0xec, 0x30, 0x48, 0x89, 0x6c, 0x24, 0x28, 0x48, 0x8d, 0x6c, 0x24, 0x28, 0x48, 0x83, 0xec, 0x18];

/// A function that calls another of its name: sub rsp, 24; call; add rsp, 24; ret.
const CALLS_IT: &[u8] = &[0x48, 0x83, 0xec, 0x18, 0xe8, 0, 0, 0, 0, 0x48, 0x83, 0xc4, 0x18, 0xc3];

/// Saves where it is and goes to another stack: mov [r14+56], rbx; mov rsp, [r14+56].
const LEAVES: &[u8] = &[0x49, 0x89, 0x5e, 0x38, 0x49, 0x8b, 0x66, 0x38];

/// A function by its name, its code, and how deep its stack is from which offset on.
type Made<'a> = (&'a str, &'a [u8], &'a [(u64, i64)]);

/// The rules of each of the functions that change stacks, by offset.
fn rules(functions: &[Made<'_>]) -> Vec<Vec<(u64, Rule)>> {
    let mut changes = Changes::default();
    for &(name, code, depths) in functions {
        let end = BEGIN + code.len() as u64;
        let mut depths: Vec<_> = depths.iter().map(|&(offset, depth)| (BEGIN + offset, Some(depth))).collect();
        depths.push((end, None));
        changes.add(Function { name, begin: BEGIN, end, code, depths: &depths });
    }
    changes.rules().map(|(_, rows)| rows.into_iter().map(|(address, rule)| (address - BEGIN, rule)).collect()).collect()
}

fn whole(rule: Rule) -> Vec<(u64, Rule)> {
    vec![(0, rule)]
}

const CUT: Rule = Rule::Unsupported(Unsupported::CfaRegister);

#[test]
fn a_call_of_c_keeps_the_goroutine_and_the_depth_of_its_stack_where_its_version_does() {
    let call = |depth, left, saves_fp| whole(Rule::Switch(Switch::Call { depth, left, saves_fp }));
    assert_eq!(rules(&[(CALL, CALL_19, &[])]), [call(5, 8, false)]);
    assert_eq!(rules(&[(CALL, CALL_26, &[])]), [call(0, 2, true)]);
    // Go was called by C, which aligned the stack: how Go aligned it anew follows from how deep it was then.
    let from_c: Made<'_> = (FROM_C, FROM_C_19, &[(0, 0), (4, 0x30), (18, 0x48)]);
    let callback: Made<'_> = (CALLBACK, LEAVES, &[(0, 0x20)]);
    assert_eq!(rules(&[(CALL, CALL_19, &[]), callback, from_c])[0], call(5, 9, false));
    let from_c = (FROM_C, FROM_C_19, &[(0, 0), (18, 0x50)][..]);
    assert_eq!(rules(&[(CALL, CALL_26, &[]), callback, from_c])[0], call(0, 2, true));
}

#[test]
fn the_system_stack_is_left_by_the_goroutine_of_the_thread() {
    let system = |goroutine, current, saves_fp| whole(Rule::Switch(Switch::System { goroutine, current, saves_fp }));
    assert_eq!(rules(&[(SYSTEM, SYSTEM_26, &[])]), [system(-1, 23, true)]);
    assert_eq!(rules(&[(SYSTEM, SYSTEM_19, &[])]), [system(-2, 24, false)]);
}

#[test]
fn a_call_of_go_from_c_has_a_frame_of_one_size_and_keeps_cs_frame_pointer() {
    let by = |bytes, fp| Rule::Frame { cfa: Cfa::Sp(bytes), fp };
    let found = rules(&[(CALLBACK, LEAVES, &[(0, 0), (4, 0x20)])]);
    let switch = Rule::Switch(Switch::Callback { frame: 5 });
    assert_eq!(found, [vec![(0, by(8, FramePointer::Unchanged)), (4, switch), (8, Rule::Gap)]]);
    let saved = FramePointer::AtCfa(-16);
    let found = rules(&[(FROM_C, FROM_C_19, &[(0, 0), (4, 0x30), (18, 0x48)])]);
    let rows = [(0, by(8, FramePointer::Unchanged)), (4, by(0x38, saved)), (18, by(0x50, saved)), (18, Rule::Gap)];
    assert_eq!(found, [rows.to_vec()]);
    assert!(rules(&[(FROM_C, CALLS_IT, &[(0, 0)])]).is_empty(), "it saves no frame pointer");
}

#[test]
fn a_call_of_libc_keeps_the_pointer_of_the_stack_that_it_aligns() {
    let by = |cfa| Rule::Frame { cfa, fp: FramePointer::Unchanged };
    let found = rules(&[(ALIGNS[0], MAPS, &[(0, 0), (4, 24), (25, 0)])]);
    let rows = [
        (0, by(Cfa::Sp(8))),
        (4, by(Cfa::Sp(32))),
        (15, by(Cfa::DerefSp { offset: 0, add: 32 })),
        (17, by(Cfa::Sp(32))),
        (25, by(Cfa::Sp(8))),
        (26, Rule::Gap),
    ];
    assert_eq!(found, [rows.to_vec()]);
}

#[test]
fn functions_of_the_same_name_that_change_no_stack_keep_their_rules() {
    for name in [CALL, SYSTEM, CALLBACK, GROWS, ALIGNS[2]] {
        assert!(rules(&[(name, CALLS_IT, &[(0, 0), (4, 24)])]).is_empty(), "{name}");
    }
}

#[test]
fn stacks_end_where_they_begin_and_where_it_is_not_known_how_they_go_on() {
    for name in FIRST {
        assert_eq!(rules(&[(name, LEAVES, &[])]), [whole(Rule::EndOfStack)], "{name}");
    }
    for name in [CALL, SYSTEM, GROWS, ALIGNS[1]] {
        assert_eq!(rules(&[(name, LEAVES, &[(0, 8)])]), [whole(CUT)], "{name}");
    }
    assert_eq!(rules(&[(CALLBACK, LEAVES, &[(0, 3)])]), [whole(CUT)]);
    // One instruction of the way is another.
    for (name, code) in [(CALL, CALL_19), (CALL, CALL_26), (SYSTEM, SYSTEM_26), (SYSTEM, SYSTEM_19)] {
        let known = rules(&[(name, code, &[])]);
        let mut others = 0;
        for at in 0..code.len() {
            let mut other = code.to_vec();
            other[at] ^= 1;
            let found = rules(&[(name, &other, &[])]);
            others += usize::from(found != known);
            let is_safe = |rows: &Vec<(u64, Rule)>| {
                matches!(rows[..], [(0, Rule::Switch(Switch::Call { .. } | Switch::System { .. }) | CUT)])
            };
            assert!(found.iter().all(is_safe), "{name} {at}: {found:?}");
        }
        assert!(others > code.len() / 2, "{name}: {others}");
    }
}

proptest! {
    #[test]
    fn any_code_has_rules_that_can_be_packed_or_none(
        name in prop::sample::select(NAMES.to_vec()),
        code in prop::collection::vec(any::<u8>(), 0..200),
        known in prop::sample::select(vec![&b""[..], CALL_19, CALL_26, SYSTEM_26, SYSTEM_19, MAPS, FROM_C_19]),
        depths in prop::collection::vec((0u64..300, any::<i64>()), 0..6),
    ) {
        let code = [&code[..], known].concat();
        for rows in rules(&[(name, &code, &depths)]) {
            for (_, rule) in rows {
                let packed = Rule::unpack(rule.pack());
                prop_assert!(packed == rule || packed == Rule::Unsupported(Unsupported::Offset));
            }
        }
    }
}
