//! Pieces of `malloc` as compilers might write them, from which tests and the fuzzer's seeds are made.
//!
//! Each piece leaves what it found in a register for the next one, and has its own jumps only.

/// The bin, into `rcx`: without branches, by the least size of a block.
pub(super) const BIN: &[&[u8]] = &[
    &[0x48, 0x8d, 0x4f, 0x17], // lea rcx, [rdi + 23]
    &[0x48, 0x83, 0xe1, 0xf0], // and rcx, -16
    &[0xbe, 0x20, 0, 0, 0],    // mov esi, 32
    &[0x48, 0x39, 0xf1],       // cmp rcx, rsi
    &[0x48, 0x0f, 0x42, 0xce], // cmovb rcx, rsi
    &[0x48, 0xc1, 0xe9, 4],    // shr rcx, 4
    &[0x48, 0x83, 0xe9, 2],    // sub rcx, 2
];

/// The same of the size alone, after a test whether it is a size at all.
pub(super) const BIN_BY_BRANCHES: &[&[u8]] = &[
    &[0x53],                   // push rbx
    &[0x48, 0x89, 0xe3],       // mov rbx, rsp
    &[0x48, 0x85, 0xff],       // test rdi, rdi
    &[0x79, 7],                // jns +7
    &[0xb8, 0, 0, 0, 0],       // mov eax, 0
    &[0x5b],                   // pop rbx
    &[0xc3],                   // ret
    &[0x31, 0xc9],             // xor ecx, ecx
    &[0x48, 0x83, 0xff, 0x18], // cmp rdi, 24
    &[0x76, 9],                // jbe +9
    &[0x8d, 0x47, 0xf7],       // lea eax, [rdi - 9]
    &[0xc1, 0xf8, 4],          // sar eax, 4
    &[0x48, 0x63, 0xc8],       // movsxd rcx, eax
    &[0x48, 0x83, 0xc4, 8],    // add rsp, 8
];

/// The cache, into `rdx`: its place is a word 0x1000 bytes behind the instruction that reads it. Ends when there is none.
pub(super) const INITIAL_EXEC: &[&[u8]] = &[
    &[0x48, 0x8b, 5, 0, 0x10, 0, 0], // mov rax, [rip + 0x1000]
    &[0x64, 0x48, 0x8b, 0x10],       // mov rdx, fs:[rax]
    &[0x48, 0x85, 0xd2],             // test rdx, rdx
    &[0x75, 3],                      // jne +3
    &[0x31, 0xc0],                   // xor eax, eax
    &[0xc3],                         // ret
];

/// The same place, added to the thread pointer.
pub(super) const BY_THREAD_POINTER: &[&[u8]] = &[
    &[0x64, 0x48, 0x8b, 4, 0x25, 0, 0, 0, 0], // mov rax, fs:[0]
    &[0x48, 3, 5, 0, 0x10, 0, 0],             // add rax, [rip + 0x1000]
    &[0x48, 0x8b, 0x10],                      // mov rdx, [rax]
];

/// The same place, added in the load.
pub(super) const BY_SUM: &[&[u8]] = &[
    &[0x4c, 0x8b, 5, 0, 0x10, 0, 0],             // mov r8, [rip + 0x1000]
    &[0x64, 0x4c, 0x8b, 0x0c, 0x25, 0, 0, 0, 0], // mov r9, fs:[0]
    &[0x4b, 0x8b, 0x14, 8],                      // mov rdx, [r8 + r9]
];

/// The cache, into `rdx`: its place is 72 bytes before the thread pointer.
pub(super) const LOCAL_EXEC: &[&[u8]] = &[
    &[0x64, 0x48, 0x8b, 0x14, 0x25, 0xb8, 0xff, 0xff, 0xff], // mov rdx, fs:[-72]
];

/// The same place: what linkers make of the initial-exec form.
pub(super) const RELAXED: &[&[u8]] = &[
    &[0x49, 0xc7, 0xc0, 0xb8, 0xff, 0xff, 0xff], // mov r8, -72
    &[0x64, 0x49, 0x8b, 0x10],                   // mov rdx, fs:[r8]
];

/// The same place, from the thread pointer.
pub(super) const LOCAL_BY_THREAD_POINTER: &[&[u8]] = &[
    &[0x64, 0x48, 0x8b, 4, 0x25, 0, 0, 0, 0], // mov rax, fs:[0]
    &[0x48, 0x8b, 0x50, 0xb8],                // mov rdx, [rax - 72]
];

/// Takes the first block of bin `rcx` of cache `rdx` if there is one by the count, as glibc since 2.30.
pub(super) const COUNTED: &[&[u8]] = &[
    &[0x0f, 0xb7, 0x34, 0x4a],                // movzx esi, word ptr [rdx + rcx*2]
    &[0x66, 0x85, 0xf6],                      // test si, si
    &[0x75, 3],                               // jne +3
    &[0x31, 0xc0],                            // xor eax, eax
    &[0xc3],                                  // ret
    &[0x48, 0x8b, 0x84, 0xca, 0x80, 0, 0, 0], // mov rax, [rdx + rcx*8 + 128]
    &[0x4c, 0x8b, 0],                         // mov r8, [rax]
    &[0x4c, 0x89, 0x84, 0xca, 0x80, 0, 0, 0], // mov [rdx + rcx*8 + 128], r8
    &[0x83, 0xee, 1],                         // sub esi, 1
    &[0x66, 0x89, 0x34, 0x4a],                // mov [rdx + rcx*2], si
    &[0x48, 0xc7, 0x40, 8, 0, 0, 0, 0],       // mov qword ptr [rax + 8], 0
    &[0xc3],                                  // ret
];

/// The same, with the count left in memory, and the bins found by words of the cache.
pub(super) const COUNTED_IN_PLACE: &[&[u8]] = &[
    &[0x4c, 0x8d, 0x49, 0x10],    // lea r9, [rcx + 16]
    &[0x66, 0x83, 0x3c, 0x4a, 0], // cmp word ptr [rdx + rcx*2], 0
    &[0x77, 2],                   // ja +2
    &[0xeb, 0x16],                // jmp +22
    &[0x4a, 0x8b, 4, 0xca],       // mov rax, [rdx + r9*8]
    &[0x49, 0x89, 0xc0],          // mov r8, rax
    &[0x49, 0xc1, 0xe8, 0x0c],    // shr r8, 12
    &[0x4c, 0x33, 0],             // xor r8, [rax]
    &[0x4e, 0x89, 4, 0xca],       // mov [rdx + r9*8], r8
    &[0x66, 0xff, 0x0c, 0x4a],    // dec word ptr [rdx + rcx*2]
    &[0xc3],                      // ret
];

/// The same by the block, with counts of one byte, as glibc up to 2.29.
pub(super) const COUNTING_BYTES: &[&[u8]] = &[
    &[0x4c, 0x8d, 0x4c, 0xca, 0x40], // lea r9, [rdx + rcx*8 + 64]
    &[0x49, 0x8b, 1],                // mov rax, [r9]
    &[0x48, 0x85, 0xc0],             // test rax, rax
    &[0x74, 0x0a],                   // je +10
    &[0x4c, 0x8b, 0],                // mov r8, [rax]
    &[0x4d, 0x89, 1],                // mov [r9], r8
    &[0x80, 0x2c, 0x0a, 1],          // sub byte ptr [rdx + rcx], 1
    &[0xc3],                         // ret
];

/// The same by the block, with the places that are left counted in 76 bins, as glibc since 2.42.
pub(super) const COUNTING_FREE_PLACES: &[&[u8]] = &[
    &[0x48, 0x8d, 0x71, 0x12],    // lea rsi, [rcx + 18]
    &[0x48, 0x8b, 0x44, 0xf2, 8], // mov rax, [rdx + rsi*8 + 8]
    &[0x48, 0x21, 0xc0],          // and rax, rax
    &[0x74, 0x0d],                // je +13
    &[0x4c, 0x8b, 0],             // mov r8, [rax]
    &[0x4c, 0x89, 0x44, 0xf2, 8], // mov [rdx + rsi*8 + 8], r8
    &[0x66, 0x83, 4, 0x4a, 1],    // add word ptr [rdx + rcx*2], 1
    &[0xc3],                      // ret
];

/// Takes a block without asking whether there is one.
pub(super) const UNTESTED: &[&[u8]] = &[
    &[0x48, 0x8b, 0x84, 0xca, 0x80, 0, 0, 0], // mov rax, [rdx + rcx*8 + 128]
    &[0x4c, 0x8b, 0],                         // mov r8, [rax]
    &[0x4c, 0x89, 0x84, 0xca, 0x80, 0, 0, 0], // mov [rdx + rcx*8 + 128], r8
    &[0x66, 0x83, 0x2c, 0x4a, 1],             // sub word ptr [rdx + rcx*2], 1
    &[0xc3],                                  // ret
];

/// Takes a block without counting it.
pub(super) const UNCOUNTED: &[&[u8]] = &[
    &[0x48, 0x8b, 0x84, 0xca, 0x80, 0, 0, 0], // mov rax, [rdx + rcx*8 + 128]
    &[0x48, 0x85, 0xc0],                      // test rax, rax
    &[0x74, 0x0b],                            // je +11
    &[0x4c, 0x8b, 0],                         // mov r8, [rax]
    &[0x4c, 0x89, 0x84, 0xca, 0x80, 0, 0, 0], // mov [rdx + rcx*8 + 128], r8
    &[0xc3],                                  // ret
];

/// Returns the first block and leaves it in its bin.
pub(super) const LEFT_THERE: &[&[u8]] = &[
    &[0x66, 0x83, 0x3c, 0x4a, 0],             // cmp word ptr [rdx + rcx*2], 0
    &[0x74, 8],                               // je +8
    &[0x48, 0x8b, 0x84, 0xca, 0x80, 0, 0, 0], // mov rax, [rdx + rcx*8 + 128]
    &[0xc3],                                  // ret
];

/// Returns the block behind the first one.
pub(super) const SECOND: &[&[u8]] = &[
    &[0x0f, 0xb7, 0x34, 0x4a],                // movzx esi, word ptr [rdx + rcx*2]
    &[0x66, 0x85, 0xf6],                      // test si, si
    &[0x74, 0x13],                            // je +19
    &[0x48, 0x8b, 0x84, 0xca, 0x80, 0, 0, 0], // mov rax, [rdx + rcx*8 + 128]
    &[0x48, 0x8b, 0],                         // mov rax, [rax]
    &[0x48, 0x89, 0x84, 0xca, 0x80, 0, 0, 0], // mov [rdx + rcx*8 + 128], rax
    &[0xc3],                                  // ret
];

/// Writes to memory that may be the cache.
pub(super) const FLUSHES: &[&[u8]] = &[
    &[0x49, 0xc7, 0, 0, 0, 0, 0], // mov qword ptr [r8], 0
];

/// A bin that is right for some sizes only.
pub(super) const WRONG_BIN: &[&[u8]] = &[
    &[0x48, 0x8d, 0x4f, 0x0f], // lea rcx, [rdi + 15]
    &[0x48, 0xc1, 0xe9, 4],    // shr rcx, 4
];

/// Behind [`BIN`]: the last bin is the one before.
pub(super) const ALL_BUT_THE_LAST_BIN: &[&[u8]] = &[
    &[0x48, 0x83, 0xf9, 0x3f], // cmp rcx, 63
    &[0x72, 5],                // jb +5
    &[0xb9, 0x3e, 0, 0, 0],    // mov ecx, 62
];

/// Calls something.
pub(super) const CALLS: &[&[u8]] = &[
    &[0xe8, 0, 0, 0, 0], // call +0
];

/// Counts until memory says otherwise.
pub(super) const ENDLESS: &[&[u8]] = &[
    &[0x31, 0xc0],                // xor eax, eax
    &[0x48, 0x83, 0xc0, 1],       // add rax, 1
    &[0x48, 0x3b, 5, 0, 0, 0, 0], // cmp rax, [rip]
    &[0x75, 0xf3],                // jne -13
];

/// Waits until memory says otherwise.
pub(super) const SPINS: &[&[u8]] = &[
    &[0xf3, 0x90],                   // pause
    &[0x83, 0x3d, 0, 0x20, 0, 0, 0], // cmp dword ptr [rip + 0x2000], 0
    &[0x75, 0xf5],                   // jne -11
];

/// Hands its work on to a function elsewhere.
pub(super) const HANDS_ON: &[&[u8]] = &[
    &[0xe9, 0xfb, 0x4f, 0, 0], // jmp .+0x5000
];

/// Jumps over a byte.
pub(super) const JUMPS: &[&[u8]] = &[
    &[0xeb, 1], // jmp +1
    &[0xcc],    // int3
];

/// Takes another cache, 80 bytes before the thread pointer, if memory says so.
pub(super) const TWO_CACHES: &[&[u8]] = &[
    &[0x83, 0x3d, 0, 0x20, 0, 0, 0], // cmp dword ptr [rip + 0x2000], 0
    &[0x74, 9],                      // je +9
    &[0x64, 0x48, 0x8b, 0x14, 0x25, 0xb0, 0xff, 0xff, 0xff], // mov rdx, fs:[-80]
];
