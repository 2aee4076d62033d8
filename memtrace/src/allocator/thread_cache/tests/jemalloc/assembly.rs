//! Pieces of jemalloc's `malloc` as compilers might write them, from which tests and the fuzzer's seeds are made.
//!
//! Each piece leaves what it found in a register for the next one, and has its own jumps only. What is not for the cache is
//! left to a function elsewhere.

/// The class of the size, into `rsi`, by a table 0x2000 bytes behind the instruction that reads its address. Leaves larger
/// sizes to a function elsewhere.
pub(super) const CLASS: &[&[u8]] = &[
    &[0x48, 0x81, 0xff, 0, 0x10, 0, 0], // cmp rdi, 4096
    &[0x76, 5],                         // jbe +5
    &[0xe9, 0xfb, 0x4f, 0, 0],          // jmp .+0x5000
    &[0x48, 0x8d, 0x15, 0, 0x20, 0, 0], // lea rdx, [rip + 0x2000]
    &[0x48, 0x8d, 0x47, 7],             // lea rax, [rdi + 7]
    &[0x48, 0xc1, 0xe8, 3],             // shr rax, 3
    &[0x0f, 0xb6, 0x34, 2],             // movzx esi, byte ptr [rdx + rax]
];

/// The same by a table at 0x404000, in static programs.
pub(super) const CLASS_BY_ADDRESS: &[&[u8]] = &[
    &[0x48, 0x81, 0xff, 0, 0x10, 0, 0],    // cmp rdi, 0x1000
    &[0x77, 0x11],                         // ja +17
    &[0x48, 0x83, 0xc7, 7],                // add rdi, 7
    &[0x48, 0xc1, 0xef, 3],                // shr rdi, 3
    &[0x0f, 0xb6, 0xb7, 0, 0x40, 0x40, 0], // movzx esi, byte ptr [rdi + 0x404000]
    &[0xeb, 5],                            // jmp +5
    &[0xe9, 0xfb, 0x4f, 0, 0],             // jmp .+0x5000
];

/// The class of a size of one byte more.
pub(super) const CLASS_OF_MORE: &[&[u8]] = &[
    &[0x48, 0x8d, 0x15, 0, 0x20, 0, 0], // lea rdx, [rip + 0x2000]
    &[0x48, 0x8d, 0x47, 8],             // lea rax, [rdi + 8]
    &[0x48, 0xc1, 0xe8, 3],             // shr rax, 3
    &[0x0f, 0xb6, 0x34, 2],             // movzx esi, byte ptr [rdx + rax]
];

/// The class, from another table where it is above 27.
pub(super) const CLASS_OF_SMALL: &[&[u8]] = &[
    &[0x48, 0x8d, 0x15, 0, 0x20, 0, 0], // lea rdx, [rip + 0x2000]
    &[0x48, 0x8d, 0x47, 7],             // lea rax, [rdi + 7]
    &[0x48, 0xc1, 0xe8, 3],             // shr rax, 3
    &[0x0f, 0xb6, 0x34, 2],             // movzx esi, byte ptr [rdx + rax]
    &[0x83, 0xfe, 0x1b],                // cmp esi, 27
    &[0x76, 0x0c],                      // jbe +12
    &[0x4c, 0x8d, 5, 0, 0x30, 0, 0],    // lea r8, [rip + 0x3000]
    &[0x41, 0x0f, 0xb6, 0x34, 0],       // movzx esi, byte ptr [r8 + rax]
];

/// What will have been allocated, into `rdx`, if nothing is due then: its place is 0x338 bytes behind one whose offset is a
/// word 0x1000 bytes behind the instruction that reads it, into `rcx`. The table of sizes is 0x3000 bytes behind the next
/// instruction.
pub(super) const NOT_DUE: &[&[u8]] = &[
    &[0x48, 0x8b, 0x0d, 0, 0x10, 0, 0],          // mov rcx, [rip + 0x1000]
    &[0x4c, 0x8d, 5, 0, 0x30, 0, 0],             // lea r8, [rip + 0x3000]
    &[0x64, 0x48, 0x8b, 0x91, 0x38, 3, 0, 0],    // mov rdx, fs:[rcx + 0x338]
    &[0x49, 3, 0x14, 0xf0],                      // add rdx, [r8 + rsi*8]
    &[0x64, 0x48, 0x3b, 0x91, 0x40, 3, 0, 0],    // cmp rdx, fs:[rcx + 0x340]
    &[0x72, 5],                                  // jb +5
    &[0xe9, 0xfb, 0x4f, 0, 0],                   // jmp .+0x5000
    &[0x64, 0x4c, 0x8b, 0x0c, 0x25, 0, 0, 0, 0], // mov r9, fs:[0]
    &[0x4c, 0x8d, 0x91, 0x38, 3, 0, 0],          // lea r10, [rcx + 0x338]
    &[0x4d, 1, 0xd1],                            // add r9, r10
];

/// The same 500 bytes before the thread pointer, with the table of sizes at 0x405000.
pub(super) const LOCAL_NOT_DUE: &[&[u8]] = &[
    &[0x48, 0x8b, 0x14, 0xf5, 0, 0x50, 0x40, 0], // mov rdx, [rsi*8 + 0x405000]
    &[0x64, 0x48, 3, 0x14, 0x25, 0x0c, 0xfe, 0xff, 0xff], // add rdx, fs:[-500]
    &[0x64, 0x48, 0x39, 0x14, 0x25, 0x14, 0xfe, 0xff, 0xff], // cmp fs:[-492], rdx
    &[0x77, 5],                                  // ja +5
    &[0xe9, 0xfb, 0x4f, 0, 0],                   // jmp .+0x5000
    &[0x64, 0x4c, 0x8b, 0x0c, 0x25, 0, 0, 0, 0], // mov r9, fs:[0]
    &[0x49, 0x81, 0xe9, 0xf4, 1, 0, 0],          // sub r9, 500
];

/// The same, from the thread pointer.
pub(super) const LOCAL_NOT_DUE_BY_THREAD_POINTER: &[&[u8]] = &[
    &[0x64, 0x48, 0x8b, 4, 0x25, 0, 0, 0, 0],    // mov rax, fs:[0]
    &[0x4c, 0x8d, 0x88, 0x0c, 0xfe, 0xff, 0xff], // lea r9, [rax - 500]
    &[0x4c, 0x8d, 5, 0, 0x30, 0, 0],             // lea r8, [rip + 0x3000]
    &[0x4d, 0x8b, 4, 0xf0],                      // mov r8, [r8 + rsi*8]
    &[0x4d, 0x8b, 0x11],                         // mov r10, [r9]
    &[0x4b, 0x8d, 0x14, 2],                      // lea rdx, [r10 + r8]
    &[0x49, 0x39, 0x51, 8],                      // cmp [r9 + 8], rdx
    &[0x76, 2],                                  // jbe +2
    &[0xeb, 5],                                  // jmp +5
    &[0xe9, 0xfb, 0x4f, 0, 0],                   // jmp .+0x5000
];

/// The same without asking whether anything is due.
pub(super) const ALWAYS: &[&[u8]] = &[
    &[0x48, 0x8b, 0x14, 0xf5, 0, 0x50, 0x40, 0], // mov rdx, [rsi*8 + 0x405000]
    &[0x64, 0x48, 3, 0x14, 0x25, 0x0c, 0xfe, 0xff, 0xff], // add rdx, fs:[-500]
    &[0x64, 0x4c, 0x8b, 0x0c, 0x25, 0, 0, 0, 0], // mov r9, fs:[0]
    &[0x49, 0x81, 0xe9, 0xf4, 1, 0, 0],          // sub r9, 500
];

/// The same by a comparison of numbers with a sign.
pub(super) const NOT_DUE_SIGNED: &[&[u8]] = &[
    &[0x48, 0x8b, 0x14, 0xf5, 0, 0x50, 0x40, 0], // mov rdx, [rsi*8 + 0x405000]
    &[0x64, 0x48, 3, 0x14, 0x25, 0x0c, 0xfe, 0xff, 0xff], // add rdx, fs:[-500]
    &[0x64, 0x48, 0x3b, 0x14, 0x25, 0x14, 0xfe, 0xff, 0xff], // cmp rdx, fs:[-492]
    &[0x7c, 5],                                  // jl +5
    &[0xe9, 0xfb, 0x4f, 0, 0],                   // jmp .+0x5000
    &[0x64, 0x4c, 0x8b, 0x0c, 0x25, 0, 0, 0, 0], // mov r9, fs:[0]
    &[0x49, 0x81, 0xe9, 0xf4, 1, 0, 0],          // sub r9, 500
];

/// The same by what was allocated before.
pub(super) const NOT_DUE_OF_BEFORE: &[&[u8]] = &[
    &[0x64, 0x48, 0x8b, 0x14, 0x25, 0x0c, 0xfe, 0xff, 0xff], // mov rdx, fs:[-500]
    &[0x64, 0x48, 0x3b, 0x14, 0x25, 0x14, 0xfe, 0xff, 0xff], // cmp rdx, fs:[-492]
    &[0x72, 5],                                              // jb +5
    &[0xe9, 0xfb, 0x4f, 0, 0],                               // jmp .+0x5000
    &[0x48, 3, 0x14, 0xf5, 0, 0x50, 0x40, 0],                // add rdx, [rsi*8 + 0x405000]
    &[0x64, 0x4c, 0x8b, 0x0c, 0x25, 0, 0, 0, 0],             // mov r9, fs:[0]
    &[0x49, 0x81, 0xe9, 0xf4, 1, 0, 0],                      // sub r9, 500
];

/// The bin of class `rsi`, into `rax`: 40 bytes behind `r9`, and 24 bytes each.
pub(super) const BIN_OF_CLASS: &[&[u8]] = &[
    &[0x4c, 0x8d, 0x14, 0x76], // lea r10, [rsi + rsi*2]
    &[0x4b, 0x8d, 4, 0xd1],    // lea rax, [r9 + r10*8]
    &[0x48, 0x83, 0xc0, 0x28], // add rax, 40
];

/// The same with bins of 16 bytes.
pub(super) const BIN_OF_16_BYTES: &[&[u8]] = &[
    &[0x48, 0x89, 0xf0],          // mov rax, rsi
    &[0x48, 0xc1, 0xe0, 4],       // shl rax, 4
    &[0x4a, 0x8d, 0x44, 8, 0x28], // lea rax, [rax + r9 + 40]
];

/// The same where they stand before the count.
pub(super) const BIN_BEFORE: &[&[u8]] = &[
    &[0x4c, 0x8d, 0x14, 0x76],    // lea r10, [rsi + rsi*2]
    &[0x4b, 0x8d, 4, 0xd1],       // lea rax, [r9 + r10*8]
    &[0x48, 0x2d, 0xe8, 3, 0, 0], // sub rax, 1000
];

/// Takes the first block of bin `rax`, and counts what `rdx` says at `r9`.
pub(super) const TAKES: &[&[u8]] = &[
    &[0x4c, 0x8b, 0],                // mov r8, [rax]
    &[0x4d, 0x8b, 0x18],             // mov r11, [r8]
    &[0x4d, 0x8d, 0x50, 8],          // lea r10, [r8 + 8]
    &[0x66, 0x44, 0x3b, 0x40, 0x10], // cmp r8w, [rax + 16]
    &[0x74, 0x0f],                   // je +15
    &[0x4c, 0x89, 0x10],             // mov [rax], r10
    &[0x49, 0x89, 0x11],             // mov [r9], rdx
    &[0x48, 0x83, 0x40, 8, 1],       // add qword ptr [rax + 8], 1
    &[0x4c, 0x89, 0xd8],             // mov rax, r11
    &[0xc3],                         // ret
    &[0x66, 0x44, 0x3b, 0x40, 0x14], // cmp r8w, [rax + 20]
    &[0x75, 5],                      // jne +5
    &[0xe9, 0xfb, 0x4f, 0, 0],       // jmp .+0x5000
    &[0x4c, 0x89, 0x10],             // mov [rax], r10
    &[0x66, 0x44, 0x89, 0x50, 0x10], // mov [rax + 16], r10w
    &[0x49, 0x89, 0x11],             // mov [r9], rdx
    &[0x48, 0x83, 0x40, 8, 1],       // add qword ptr [rax + 8], 1
    &[0x4c, 0x89, 0xd8],             // mov rax, r11
    &[0xc3],                         // ret
];

/// The same by `rcx`, behind [`NOT_DUE`], as gcc writes it.
pub(super) const TAKES_BY_SLOT: &[&[u8]] = &[
    &[0x64, 0x4c, 0x8b, 0x0c, 0x25, 0, 0, 0, 0], // mov r9, fs:[0]
    &[0x4c, 0x8d, 0x14, 0x76],                   // lea r10, [rsi + rsi*2]
    &[0x4b, 0x8d, 4, 0xd1],                      // lea rax, [r9 + r10*8]
    &[0x48, 1, 0xc8],                            // add rax, rcx
    &[0x4c, 0x8b, 0x80, 0x60, 3, 0, 0],          // mov r8, [rax + 0x360]
    &[0x4d, 0x8b, 0x18],                         // mov r11, [r8]
    &[0x4d, 0x8d, 0x50, 8],                      // lea r10, [r8 + 8]
    &[0x66, 0x44, 0x3b, 0x80, 0x70, 3, 0, 0],    // cmp r8w, [rax + 0x370]
    &[0x74, 0x2e],                               // je +46
    &[0x4c, 0x89, 0x90, 0x60, 3, 0, 0],          // mov [rax + 0x360], r10
    &[0x64, 0x48, 0x89, 0x91, 0x38, 3, 0, 0],    // mov fs:[rcx + 0x338], rdx
    &[0x48, 0x8b, 0xb8, 0x68, 3, 0, 0],          // mov rdi, [rax + 0x368]
    &[0x48, 0x83, 0xc7, 1],                      // add rdi, 1
    &[0x48, 0x8d, 0x34, 0x76],                   // lea rsi, [rsi + rsi*2]
    &[0x4c, 0x89, 0xd8],                         // mov rax, r11
    &[0x49, 0x8d, 0x14, 0xf1],                   // lea rdx, [r9 + rsi*8]
    &[0x48, 0x89, 0xbc, 0x0a, 0x68, 3, 0, 0],    // mov [rdx + rcx + 0x368], rdi
    &[0xc3],                                     // ret
    &[0x66, 0x44, 0x3b, 0x80, 0x74, 3, 0, 0],    // cmp r8w, [rax + 0x374]
    &[0x75, 5],                                  // jne +5
    &[0xe9, 0xfb, 0x4f, 0, 0],                   // jmp .+0x5000
    &[0x4c, 0x89, 0x90, 0x60, 3, 0, 0],          // mov [rax + 0x360], r10
    &[0x66, 0x44, 0x89, 0x90, 0x70, 3, 0, 0],    // mov [rax + 0x370], r10w
    &[0x64, 0x48, 0x89, 0x91, 0x38, 3, 0, 0],    // mov fs:[rcx + 0x338], rdx
    &[0x48, 0x8b, 0xb8, 0x68, 3, 0, 0],          // mov rdi, [rax + 0x368]
    &[0xeb, 0xb9],                               // jmp -71
];

/// The same with the comparisons the other way round, and without the statistic.
pub(super) const TAKES_WITHOUT_REQUESTS: &[&[u8]] = &[
    &[0x4c, 0x8b, 0],                // mov r8, [rax]
    &[0x49, 0x8b, 8],                // mov rcx, [r8]
    &[0x0f, 0xb7, 0x78, 0x10],       // movzx edi, word ptr [rax + 16]
    &[0x41, 0x0f, 0xb7, 0xf0],       // movzx esi, r8w
    &[0x39, 0xfe],                   // cmp esi, edi
    &[0x75, 0x10],                   // jne +16
    &[0x66, 0x44, 0x39, 0x40, 0x14], // cmp [rax + 20], r8w
    &[0x74, 0x14],                   // je +20
    &[0x4d, 0x8d, 0x50, 8],          // lea r10, [r8 + 8]
    &[0x66, 0x44, 0x89, 0x50, 0x10], // mov [rax + 16], r10w
    &[0x48, 0x83, 0, 8],             // add qword ptr [rax], 8
    &[0x49, 0x89, 0x11],             // mov [r9], rdx
    &[0x48, 0x89, 0xc8],             // mov rax, rcx
    &[0xc3],                         // ret
    &[0xe9, 0xfb, 0x4f, 0, 0],       // jmp .+0x5000
];

/// Takes a block without asking whether there is one.
pub(super) const NEVER_EMPTY: &[&[u8]] = &[
    &[0x4c, 0x8b, 0],                // mov r8, [rax]
    &[0x4d, 0x8b, 0x18],             // mov r11, [r8]
    &[0x4d, 0x8d, 0x50, 8],          // lea r10, [r8 + 8]
    &[0x66, 0x44, 0x3b, 0x40, 0x10], // cmp r8w, [rax + 16]
    &[0x74, 0x0f],                   // je +15
    &[0x4c, 0x89, 0x10],             // mov [rax], r10
    &[0x49, 0x89, 0x11],             // mov [r9], rdx
    &[0x48, 0x83, 0x40, 8, 1],       // add qword ptr [rax + 8], 1
    &[0x4c, 0x89, 0xd8],             // mov rax, r11
    &[0xc3],                         // ret
    &[0x90],                         // nop
    &[0x4c, 0x89, 0x10],             // mov [rax], r10
    &[0x66, 0x44, 0x89, 0x50, 0x10], // mov [rax + 16], r10w
    &[0x49, 0x89, 0x11],             // mov [r9], rdx
    &[0x48, 0x83, 0x40, 8, 1],       // add qword ptr [rax + 8], 1
    &[0x4c, 0x89, 0xd8],             // mov rax, r11
    &[0xc3],                         // ret
];

/// Takes a block if there is one, and knows of no fewest blocks.
pub(super) const NEVER_AT_LOW_WATER: &[&[u8]] = &[
    &[0x4c, 0x8b, 0],                // mov r8, [rax]
    &[0x4d, 0x8b, 0x18],             // mov r11, [r8]
    &[0x4d, 0x8d, 0x50, 8],          // lea r10, [r8 + 8]
    &[0x66, 0x44, 0x3b, 0x40, 0x14], // cmp r8w, [rax + 20]
    &[0x75, 5],                      // jne +5
    &[0xe9, 0xfb, 0x4f, 0, 0],       // jmp .+0x5000
    &[0x4c, 0x89, 0x10],             // mov [rax], r10
    &[0x49, 0x89, 0x11],             // mov [r9], rdx
    &[0x4c, 0x89, 0xd8],             // mov rax, r11
    &[0xc3],                         // ret
];

/// Takes the word between the two that have to be compared for that of the empty bin.
pub(super) const EMPTY_AT_FULL: &[&[u8]] = &[
    &[0x4c, 0x8b, 0],                // mov r8, [rax]
    &[0x4d, 0x8b, 0x18],             // mov r11, [r8]
    &[0x4d, 0x8d, 0x50, 8],          // lea r10, [r8 + 8]
    &[0x66, 0x44, 0x3b, 0x40, 0x10], // cmp r8w, [rax + 16]
    &[0x74, 0x0f],                   // je +15
    &[0x4c, 0x89, 0x10],             // mov [rax], r10
    &[0x49, 0x89, 0x11],             // mov [r9], rdx
    &[0x48, 0x83, 0x40, 8, 1],       // add qword ptr [rax + 8], 1
    &[0x4c, 0x89, 0xd8],             // mov rax, r11
    &[0xc3],                         // ret
    &[0x66, 0x44, 0x3b, 0x40, 0x12], // cmp r8w, [rax + 18]
    &[0x75, 5],                      // jne +5
    &[0xe9, 0xfb, 0x4f, 0, 0],       // jmp .+0x5000
    &[0x4c, 0x89, 0x10],             // mov [rax], r10
    &[0x66, 0x44, 0x89, 0x50, 0x10], // mov [rax + 16], r10w
    &[0x49, 0x89, 0x11],             // mov [r9], rdx
    &[0x48, 0x83, 0x40, 8, 1],       // add qword ptr [rax + 8], 1
    &[0x4c, 0x89, 0xd8],             // mov rax, r11
    &[0xc3],                         // ret
];

/// Returns the first block and leaves it in its bin.
pub(super) const LEFT_IN_BIN: &[&[u8]] = &[
    &[0x4c, 0x8b, 0],                // mov r8, [rax]
    &[0x4d, 0x8b, 0x18],             // mov r11, [r8]
    &[0x4d, 0x8d, 0x50, 8],          // lea r10, [r8 + 8]
    &[0x66, 0x44, 0x3b, 0x40, 0x10], // cmp r8w, [rax + 16]
    &[0x74, 0x0d],                   // je +13
    &[0x90],                         // nop
    &[0x49, 0x89, 0x11],             // mov [r9], rdx
    &[0x48, 0x83, 0x40, 8, 1],       // add qword ptr [rax + 8], 1
    &[0x4c, 0x89, 0xd8],             // mov rax, r11
    &[0xc3],                         // ret
    &[0x66, 0x44, 0x3b, 0x40, 0x14], // cmp r8w, [rax + 20]
    &[0x75, 5],                      // jne +5
    &[0xe9, 0xfb, 0x4f, 0, 0],       // jmp .+0x5000
    &[0x90],                         // nop
    &[0x66, 0x44, 0x89, 0x50, 0x10], // mov [rax + 16], r10w
    &[0x49, 0x89, 0x11],             // mov [r9], rdx
    &[0x48, 0x83, 0x40, 8, 1],       // add qword ptr [rax + 8], 1
    &[0x4c, 0x89, 0xd8],             // mov rax, r11
    &[0xc3],                         // ret
];

/// The same on one of the ways.
pub(super) const LEFT_IN_BIN_AT_LOW_WATER: &[&[u8]] = &[
    &[0x4c, 0x8b, 0],                // mov r8, [rax]
    &[0x4d, 0x8b, 0x18],             // mov r11, [r8]
    &[0x4d, 0x8d, 0x50, 8],          // lea r10, [r8 + 8]
    &[0x66, 0x44, 0x3b, 0x40, 0x10], // cmp r8w, [rax + 16]
    &[0x74, 0x0f],                   // je +15
    &[0x4c, 0x89, 0x10],             // mov [rax], r10
    &[0x49, 0x89, 0x11],             // mov [r9], rdx
    &[0x48, 0x83, 0x40, 8, 1],       // add qword ptr [rax + 8], 1
    &[0x4c, 0x89, 0xd8],             // mov rax, r11
    &[0xc3],                         // ret
    &[0x66, 0x44, 0x3b, 0x40, 0x14], // cmp r8w, [rax + 20]
    &[0x75, 5],                      // jne +5
    &[0xe9, 0xfb, 0x4f, 0, 0],       // jmp .+0x5000
    &[0x90],                         // nop
    &[0x66, 0x44, 0x89, 0x50, 0x10], // mov [rax + 16], r10w
    &[0x49, 0x89, 0x11],             // mov [r9], rdx
    &[0x48, 0x83, 0x40, 8, 1],       // add qword ptr [rax + 8], 1
    &[0x4c, 0x89, 0xd8],             // mov rax, r11
    &[0xc3],                         // ret
];

/// Takes two blocks and returns one.
pub(super) const TAKES_TWO: &[&[u8]] = &[
    &[0x4c, 0x8b, 0],                // mov r8, [rax]
    &[0x4d, 0x8b, 0x18],             // mov r11, [r8]
    &[0x4d, 0x8d, 0x50, 0x10],       // lea r10, [r8 + 16]
    &[0x66, 0x44, 0x3b, 0x40, 0x10], // cmp r8w, [rax + 16]
    &[0x74, 0x0f],                   // je +15
    &[0x4c, 0x89, 0x10],             // mov [rax], r10
    &[0x49, 0x89, 0x11],             // mov [r9], rdx
    &[0x48, 0x83, 0x40, 8, 1],       // add qword ptr [rax + 8], 1
    &[0x4c, 0x89, 0xd8],             // mov rax, r11
    &[0xc3],                         // ret
    &[0x66, 0x44, 0x3b, 0x40, 0x14], // cmp r8w, [rax + 20]
    &[0x75, 5],                      // jne +5
    &[0xe9, 0xfb, 0x4f, 0, 0],       // jmp .+0x5000
    &[0x4c, 0x89, 0x10],             // mov [rax], r10
    &[0x66, 0x44, 0x89, 0x50, 0x10], // mov [rax + 16], r10w
    &[0x49, 0x89, 0x11],             // mov [r9], rdx
    &[0x48, 0x83, 0x40, 8, 1],       // add qword ptr [rax + 8], 1
    &[0x4c, 0x89, 0xd8],             // mov rax, r11
    &[0xc3],                         // ret
];

/// Returns the block behind the first one.
pub(super) const SECOND_OF_BIN: &[&[u8]] = &[
    &[0x4c, 0x8b, 0],                // mov r8, [rax]
    &[0x4d, 0x8b, 0x18],             // mov r11, [r8]
    &[0x4d, 0x8d, 0x50, 8],          // lea r10, [r8 + 8]
    &[0x66, 0x44, 0x3b, 0x40, 0x10], // cmp r8w, [rax + 16]
    &[0x74, 0x0f],                   // je +15
    &[0x4c, 0x89, 0x10],             // mov [rax], r10
    &[0x49, 0x89, 0x11],             // mov [r9], rdx
    &[0x48, 0x83, 0x40, 8, 1],       // add qword ptr [rax + 8], 1
    &[0x49, 0x8b, 2],                // mov rax, [r10]
    &[0xc3],                         // ret
    &[0x66, 0x44, 0x3b, 0x40, 0x14], // cmp r8w, [rax + 20]
    &[0x75, 5],                      // jne +5
    &[0xe9, 0xfb, 0x4f, 0, 0],       // jmp .+0x5000
    &[0x4c, 0x89, 0x10],             // mov [rax], r10
    &[0x66, 0x44, 0x89, 0x50, 0x10], // mov [rax + 16], r10w
    &[0x49, 0x89, 0x11],             // mov [r9], rdx
    &[0x48, 0x83, 0x40, 8, 1],       // add qword ptr [rax + 8], 1
    &[0x49, 0x8b, 2],                // mov rax, [r10]
    &[0xc3],                         // ret
];

/// Takes a block without counting its bytes.
pub(super) const UNCOUNTED_BYTES: &[&[u8]] = &[
    &[0x4c, 0x8b, 0],                // mov r8, [rax]
    &[0x4d, 0x8b, 0x18],             // mov r11, [r8]
    &[0x4d, 0x8d, 0x50, 8],          // lea r10, [r8 + 8]
    &[0x66, 0x44, 0x3b, 0x40, 0x10], // cmp r8w, [rax + 16]
    &[0x74, 0x0d],                   // je +13
    &[0x4c, 0x89, 0x10],             // mov [rax], r10
    &[0x90],                         // nop
    &[0x48, 0x83, 0x40, 8, 1],       // add qword ptr [rax + 8], 1
    &[0x4c, 0x89, 0xd8],             // mov rax, r11
    &[0xc3],                         // ret
    &[0x66, 0x44, 0x3b, 0x40, 0x14], // cmp r8w, [rax + 20]
    &[0x75, 5],                      // jne +5
    &[0xe9, 0xfb, 0x4f, 0, 0],       // jmp .+0x5000
    &[0x4c, 0x89, 0x10],             // mov [rax], r10
    &[0x66, 0x44, 0x89, 0x50, 0x10], // mov [rax + 16], r10w
    &[0x90],                         // nop
    &[0x48, 0x83, 0x40, 8, 1],       // add qword ptr [rax + 8], 1
    &[0x4c, 0x89, 0xd8],             // mov rax, r11
    &[0xc3],                         // ret
];

/// Takes a block without noting that there were never fewer.
pub(super) const LOW_WATER_LEFT: &[&[u8]] = &[
    &[0x4c, 0x8b, 0],                // mov r8, [rax]
    &[0x4d, 0x8b, 0x18],             // mov r11, [r8]
    &[0x4d, 0x8d, 0x50, 8],          // lea r10, [r8 + 8]
    &[0x66, 0x44, 0x3b, 0x40, 0x10], // cmp r8w, [rax + 16]
    &[0x74, 0x0f],                   // je +15
    &[0x4c, 0x89, 0x10],             // mov [rax], r10
    &[0x49, 0x89, 0x11],             // mov [r9], rdx
    &[0x48, 0x83, 0x40, 8, 1],       // add qword ptr [rax + 8], 1
    &[0x4c, 0x89, 0xd8],             // mov rax, r11
    &[0xc3],                         // ret
    &[0x66, 0x44, 0x3b, 0x40, 0x14], // cmp r8w, [rax + 20]
    &[0x75, 5],                      // jne +5
    &[0xe9, 0xfb, 0x4f, 0, 0],       // jmp .+0x5000
    &[0x4c, 0x89, 0x10],             // mov [rax], r10
    &[0x90],                         // nop
    &[0x49, 0x89, 0x11],             // mov [r9], rdx
    &[0x48, 0x83, 0x40, 8, 1],       // add qword ptr [rax + 8], 1
    &[0x4c, 0x89, 0xd8],             // mov rax, r11
    &[0xc3],                         // ret
];

/// Takes a block and replaces the threshold.
pub(super) const RESETS_THRESHOLD: &[&[u8]] = &[
    &[0x4c, 0x8b, 0],                // mov r8, [rax]
    &[0x4d, 0x8b, 0x18],             // mov r11, [r8]
    &[0x4d, 0x8d, 0x50, 8],          // lea r10, [r8 + 8]
    &[0x66, 0x44, 0x3b, 0x40, 0x10], // cmp r8w, [rax + 16]
    &[0x74, 0x13],                   // je +19
    &[0x4c, 0x89, 0x10],             // mov [rax], r10
    &[0x49, 0x89, 0x11],             // mov [r9], rdx
    &[0x49, 0x89, 0x51, 8],          // mov [r9 + 8], rdx
    &[0x48, 0x83, 0x40, 8, 1],       // add qword ptr [rax + 8], 1
    &[0x4c, 0x89, 0xd8],             // mov rax, r11
    &[0xc3],                         // ret
    &[0x66, 0x44, 0x3b, 0x40, 0x14], // cmp r8w, [rax + 20]
    &[0x75, 5],                      // jne +5
    &[0xe9, 0xfb, 0x4f, 0, 0],       // jmp .+0x5000
    &[0x4c, 0x89, 0x10],             // mov [rax], r10
    &[0x66, 0x44, 0x89, 0x50, 0x10], // mov [rax + 16], r10w
    &[0x49, 0x89, 0x11],             // mov [r9], rdx
    &[0x48, 0x83, 0x40, 8, 1],       // add qword ptr [rax + 8], 1
    &[0x4c, 0x89, 0xd8],             // mov rax, r11
    &[0xc3],                         // ret
];

/// Takes a block and writes to memory that may be anything.
pub(super) const FLUSHES_BY_BLOCK: &[&[u8]] = &[
    &[0x4c, 0x8b, 0],                // mov r8, [rax]
    &[0x4d, 0x8b, 0x18],             // mov r11, [r8]
    &[0x4d, 0x8d, 0x50, 8],          // lea r10, [r8 + 8]
    &[0x66, 0x44, 0x3b, 0x40, 0x10], // cmp r8w, [rax + 16]
    &[0x74, 0x16],                   // je +22
    &[0x4c, 0x89, 0x10],             // mov [rax], r10
    &[0x49, 0x89, 0x11],             // mov [r9], rdx
    &[0x49, 0xc7, 3, 0, 0, 0, 0],    // mov qword ptr [r11], 0
    &[0x48, 0x83, 0x40, 8, 1],       // add qword ptr [rax + 8], 1
    &[0x4c, 0x89, 0xd8],             // mov rax, r11
    &[0xc3],                         // ret
    &[0x66, 0x44, 0x3b, 0x40, 0x14], // cmp r8w, [rax + 20]
    &[0x75, 5],                      // jne +5
    &[0xe9, 0xfb, 0x4f, 0, 0],       // jmp .+0x5000
    &[0x4c, 0x89, 0x10],             // mov [rax], r10
    &[0x66, 0x44, 0x89, 0x50, 0x10], // mov [rax + 16], r10w
    &[0x49, 0x89, 0x11],             // mov [r9], rdx
    &[0x48, 0x83, 0x40, 8, 1],       // add qword ptr [rax + 8], 1
    &[0x4c, 0x89, 0xd8],             // mov rax, r11
    &[0xc3],                         // ret
];

/// Goes on if memory says so.
pub(super) const IF_ENABLED: &[&[u8]] = &[
    &[0x83, 0x3d, 0, 0x20, 0, 0, 0], // cmp dword ptr [rip + 0x2000], 0
    &[0x74, 5],                      // je +5
    &[0xe9, 0xfb, 0x4f, 0, 0],       // jmp .+0x5000
];
