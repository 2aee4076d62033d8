use proptest::prelude::*;

use super::*;

const ADDRESS: u64 = 0x1000;

/// The first so many arguments are read.
const ONE: u8 = 0b1;
const TWO: u8 = 0b11;
const THREE: u8 = 0b111;
const FOUR: u8 = 0b1111;

fn whole(code: &[u8], arguments: u8) -> Site {
    choose(code, ADDRESS, Some(code.len() as u64), arguments).expect("a site")
}

fn at(code: &[u8], arguments: u8) -> (u64, bool) {
    let site = whole(code, arguments);
    (site.displacement, site.emulated)
}

const RET: u8 = 0xc3;
const PUSH_RBX: u8 = 0x53;

#[test]
fn an_emulated_entry_is_the_site() {
    for entry in [
        &[0x55][..],               // push rbp
        &[0x41, 0x54],             // push r12
        &[0x90],                   // nop
        &[0x66, 0x90],             // xchg ax, ax
        &[0xeb, 0x10],             // jmp short
        &[0xe9, 0, 1, 0, 0],       // jmp
        &[0x74, 0x10],             // je short
        &[0x0f, 0x84, 0, 1, 0, 0], // je
        &[0xe8, 0, 1, 0, 0],       // call
        &[0xf2, 0xe9, 0, 1, 0, 0], // bnd jmp
    ] {
        let mut code = entry.to_vec();
        code.push(RET);
        assert_eq!(at(&code, ONE), (0, true), "{entry:x?}");
    }
}

#[test]
fn look_alikes_of_emulated_instructions_are_single_stepped() {
    for entry in [
        &[0x66, 0x50][..],               // push ax
        &[0x48, 0x50],                   // push rax with a needless prefix
        &[0x41, 0x90],                   // xchg r8, rax
        &[0xf3, 0x90],                   // pause
        &[0x0f, 0x1f, 0x00],             // multi-byte nop
        &[0x66, 0xe9, 0, 1, 0, 0],       // jmp with an operand-size prefix
        &[0x66, 0x0f, 0x84, 0, 1, 0, 0], // je with one
        &[0xff, 0xe0],                   // jmp rax
        &[0xff, 0xd0],                   // call rax
        &[0xe3, 0x10],                   // jrcxz
        &[0xe2, 0x10],                   // loop
        &[0x6a, 0x01],                   // push 1
        &[0xff, 0x35, 0, 0, 0, 0],       // push [rip]
    ] {
        let mut code = entry.to_vec();
        code.push(RET);
        assert_eq!(at(&code, ONE), (0, false), "{entry:x?}");
    }
}

#[test]
fn endbr64_and_harmless_instructions_are_passed() {
    let code = [0xf3, 0x0f, 0x1e, 0xfa, PUSH_RBX, 0x5b, RET];
    assert_eq!(at(&code, ONE), (4, true));
    // glibc 2.36's free: test rdi, rdi; je +8
    let site = whole(&[0x48, 0x85, 0xff, 0x74, 0x08, RET], ONE);
    assert_eq!((site.displacement, site.emulated, site.instruction.as_str()), (3, true, "je 0x100d"));
    // nop dword ptr [rax]; mov rax, rdi; push rbx
    assert_eq!(at(&[0x0f, 0x1f, 0x00, 0x48, 0x89, 0xf8, PUSH_RBX, RET], ONE), (6, true));
}

#[test]
fn an_overwritten_argument_ends_the_search_only_for_calls_that_have_it() {
    let write_second = [0x31, 0xf6, PUSH_RBX, RET]; // xor esi, esi; push rbx
    assert_eq!(at(&write_second, ONE), (2, true));
    assert_eq!(at(&write_second, TWO), (0, false));
    let write_third = [0x48, 0xf7, 0xe6, PUSH_RBX, RET]; // mul rsi: writes rdx, which its text does not name
    assert_eq!(at(&write_third, TWO), (3, true));
    assert_eq!(at(&write_third, THREE), (0, false));
    let write_fourth = [0xb1, 0x01, PUSH_RBX, RET]; // mov cl, 1
    assert_eq!(at(&write_fourth, THREE), (2, true));
    assert_eq!(at(&write_fourth, FOUR), (0, false));
    let maybe_write_first = [0x48, 0x0f, 0x44, 0xf8, PUSH_RBX, RET]; // cmove rdi, rax
    assert_eq!(at(&maybe_write_first, ONE), (0, false));
}

#[test]
fn a_changed_stack_pointer_or_callee_saved_register_ends_the_search() {
    for change in [
        &[0x48, 0x83, 0xec, 0x18][..], // sub rsp, 24
        &[0x6a, 0x01],                 // push 1
        &[0x58],                       // pop rax
        &[0x48, 0x89, 0xe5],           // mov rbp, rsp
        &[0x48, 0x89, 0xfb],           // mov rbx, rdi
        &[0x4d, 0x31, 0xe4],           // xor r12, r12
        &[0x41, 0xb7, 0x01],           // mov r15b, 1
        &[0xc9],                       // leave
    ] {
        let mut code = change.to_vec();
        code.extend([PUSH_RBX, RET]);
        assert_eq!(at(&code, ONE), (0, false), "{change:x?}");
    }
}

#[test]
fn nothing_behind_what_leaves_the_straight_line_is_chosen() {
    for leave in [
        &[RET][..],
        &[0x0f, 0x05],             // syscall
        &[0x0f, 0x0b],             // ud2
        &[0xcc],                   // int3
        &[0xcd, 0x80],             // int 0x80
        &[0xf4],                   // hlt
        &[0xff, 0xe0],             // jmp rax
        &[0xff, 0xd0],             // call rax
        &[0x66, 0xe9, 0, 1, 0, 0], // jmp with an operand-size prefix
        &[0xe3, 0x10],             // jrcxz
    ] {
        let mut code = leave.to_vec();
        code.extend([PUSH_RBX, RET]);
        assert_eq!(at(&code, ONE), (0, false), "{leave:x?}");
    }
}

#[test]
fn a_branch_back_to_the_line_makes_the_entry_the_site() {
    // mov rax, rdi; push rbx; jmp back to the push
    let to_site = [0x48, 0x89, 0xf8, PUSH_RBX, 0xeb, 0xfd];
    assert_eq!(at(&to_site, ONE), (0, false));
    // mov rax, rdi; test rax, rax; push rbx; jmp back to the test, from where control comes by the push again
    let before_site = [0x48, 0x89, 0xf8, 0x48, 0x85, 0xc0, PUSH_RBX, 0xeb, 0xfa];
    assert_eq!(at(&before_site, ONE), (0, false));
    // the same, but to behind the push
    let behind_site = [0x48, 0x89, 0xf8, PUSH_RBX, 0x90, 0xeb, 0xfd];
    assert_eq!(at(&behind_site, ONE), (3, true));
    assert!(!whole(&behind_site, ONE).reentered);
}

#[test]
fn a_branch_back_to_the_entry_is_reported_and_recursion_is_not_one() {
    let site = whole(&[0x48, 0x85, 0xff, 0x74, 0x02, 0xeb, 0xf9, RET], ONE); // test; je; jmp entry
    assert_eq!((site.displacement, site.emulated, site.reentered), (0, false, true));
    let site = whole(&[PUSH_RBX, 0xeb, 0xfd], ONE);
    assert_eq!((site.displacement, site.emulated, site.reentered), (0, true, true));
    let recursion = [0x48, 0x85, 0xff, PUSH_RBX, 0xe8, 0xf7, 0xff, 0xff, 0xff, RET]; // test; push; call entry
    let site = whole(&recursion, ONE);
    assert_eq!((site.displacement, site.emulated, site.reentered), (3, true, false));
}

#[test]
fn unless_the_whole_function_is_seen_only_the_entry_is_chosen() {
    let code = [0xf3, 0x0f, 0x1e, 0xfa, PUSH_RBX, 0x5b, RET];
    for size in [None, Some(8), Some(100_000), Some(u64::MAX)] {
        let site = choose(&code, ADDRESS, size, ONE).expect("the entry");
        assert_eq!((site.displacement, site.emulated, site.instruction.as_str()), (0, false, "endbr64"), "{size:?}");
    }
    let mut long = vec![0x90; MAX_CODE_BYTES as usize + 1];
    long[..4].copy_from_slice(&[0xf3, 0x0f, 0x1e, 0xfa]);
    assert_eq!(at(&long, ONE), (0, false));
    long.pop();
    assert_eq!(at(&long, ONE), (4, true));
    // Data among the code: what follows may be read out of step, and branches may be missed.
    assert_eq!(at(&[0x48, 0x85, 0xff, PUSH_RBX, RET, 0x06], ONE), (0, false));
    // Bytes behind the function's end are not its code.
    let beyond = [0x48, 0x85, 0xff, PUSH_RBX, RET];
    assert_eq!(choose(&beyond, ADDRESS, Some(3), ONE).expect("the entry").displacement, 0);
}

#[test]
fn what_cannot_be_probed_is_an_error() {
    for code in [&[][..], &[0x06], &[0x48], &[0xe8, 0, 0], &[0xff, 0xff]] {
        assert_eq!(choose(code, ADDRESS, Some(code.len() as u64), ONE), Err(SiteError::NoInstruction));
        assert_eq!(choose(code, ADDRESS, None, ONE), Err(SiteError::NoInstruction));
    }
    let notrack = [0x3e, 0xff, 0xe0, RET]; // notrack jmp rax
    assert_eq!(choose(&notrack, ADDRESS, Some(4), ONE), Err(SiteError::Refused));
    let aligned = [0x2e, 0x48, 0x85, 0xff, PUSH_RBX, RET]; // cs test rdi, rdi; push rbx
    assert_eq!(at(&aligned, ONE), (4, true));
}

/// Instructions that compilers put at the beginning of functions, and others that must stop the search.
fn fragments() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(vec![0xf3, 0x0f, 0x1e, 0xfa]),
        Just(vec![0x48, 0x85, 0xff]),
        Just(vec![0x48, 0x89, 0xf8]),
        Just(vec![0x31, 0xd2]),
        Just(vec![0x48, 0x83, 0xec, 0x08]),
        Just(vec![0x55]),
        Just(vec![0x41, 0x57]),
        Just(vec![0x0f, 0x05]),
        any::<u8>().prop_map(|target| vec![0xeb, target]),
        any::<u8>().prop_map(|target| vec![0x74, target]),
        any::<u8>().prop_map(|byte| vec![byte]),
    ]
}

fn calls() -> impl Strategy<Value = u8> {
    0u8..64
}

/// The rules again, told from the instructions before the site one by one.
fn obeys_the_rules(code: &[u8], size: Option<u64>, arguments: u8, site: &Site) -> Result<(), TestCaseError> {
    let start = site.displacement as usize;
    let mut decoder = Decoder::with_ip(64, code, ADDRESS, DecoderOptions::NONE);
    while decoder.position() < start {
        let instruction = decoder.decode();
        prop_assert!(!instruction.is_invalid());
        prop_assert_eq!(instruction.flow_control(), FlowControl::Next);
        prop_assert_eq!(instruction.stack_pointer_increment(), 0);
        let mut information = InstructionInfoFactory::new();
        for used in information.info(&instruction).used_registers() {
            if format!("{:?}", used.access()).contains("Write") {
                let index = used.register().full_register().number();
                let kept: &[usize] = &[4, 5, 3, 12, 13, 14, 15];
                let read = [7, 6, 2, 1, 8, 9].iter().position(|&argument| argument == index);
                let protected = kept.contains(&index) || read.is_some_and(|at| arguments >> at & 1 == 1);
                prop_assert!(!used.register().is_gpr() || !protected, "{instruction:?}");
            }
        }
    }
    prop_assert_eq!(decoder.position(), start, "the site is on the line");
    if start > 0 {
        prop_assert!(site.emulated);
        prop_assert_eq!(size, Some(code.len() as u64));
        let mut decoder = Decoder::with_ip(64, code, ADDRESS, DecoderOptions::NONE);
        for instruction in &mut decoder {
            prop_assert!(!instruction.is_invalid());
            let target = instruction.near_branch_target();
            if target != 0 && !(instruction.is_call_near() && target == ADDRESS) {
                prop_assert!(!(ADDRESS..=ADDRESS + site.displacement).contains(&target));
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn any_bytes_give_a_site_that_obeys_the_rules(code in prop::collection::vec(any::<u8>(), 0..60), known in any::<bool>(), arguments in calls()) {
        let size = known.then_some(code.len() as u64);
        if let Ok(site) = choose(&code, ADDRESS, size, arguments) {
            obeys_the_rules(&code, size, arguments, &site)?;
        }
    }

    #[test]
    fn likely_code_gives_a_site_that_obeys_the_rules(parts in prop::collection::vec(fragments(), 1..12), arguments in calls()) {
        let code = parts.concat();
        let size = Some(code.len() as u64);
        if let Ok(site) = choose(&code, ADDRESS, size, arguments) {
            obeys_the_rules(&code, size, arguments, &site)?;
        }
    }
}
