//! One row of call frame information, as gimli evaluates it, as a [`Rule`].

use gimli::{
    CfaRule, EndianSlice, Expression, NativeEndian, Operation, Register, RegisterRule, UnwindExpression, UnwindSection,
    UnwindTableRow, X86_64,
};
use memtrace_common::unwind::{Cfa, FramePointer, Rule, Unsupported};

pub(super) type Bytes<'a> = EndianSlice<'a, NativeEndian>;

const ENCODING: gimli::Encoding = gimli::Encoding { address_size: 8, format: gimli::Format::Dwarf32, version: 4 };

/// The rule of a row, of a signal's trampoline (augmentation `S`) or not.
pub(super) fn rule<'a, S: UnwindSection<Bytes<'a>>>(row: &UnwindTableRow<usize>, section: &S, signal: bool) -> Rule {
    match convert(row, section, signal) {
        Ok(rule) => rule,
        Err(reason) => Rule::Unsupported(reason),
    }
}

fn convert<'a, S: UnwindSection<Bytes<'a>>>(
    row: &UnwindTableRow<usize>,
    section: &S,
    signal: bool,
) -> Result<Rule, Unsupported> {
    let return_address = row.register(X86_64::RA);
    if return_address == Some(RegisterRule::Undefined) {
        return Ok(Rule::EndOfStack);
    }
    if signal {
        return signal_frame(row, section);
    }
    if return_address != Some(RegisterRule::Offset(-8)) {
        return Err(Unsupported::ReturnAddress);
    }
    let cfa = match row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => base(*register, *offset).ok_or(match *register {
            X86_64::RSP | X86_64::RBP => Unsupported::Offset,
            _ => Unsupported::CfaRegister,
        })?,
        CfaRule::Expression(expression) => {
            cfa_expression(operations(expression, section)?.as_slice()).ok_or(Unsupported::CfaExpression)?
        }
    };
    Ok(Rule::Frame { cfa, fp: frame_pointer(row, section)? })
}

fn base(register: Register, offset: i64) -> Option<Cfa> {
    let offset = i32::try_from(offset).ok()?;
    match register {
        X86_64::RSP => Some(Cfa::Sp(offset)),
        X86_64::RBP => Some(Cfa::Fp(offset)),
        _ => None,
    }
}

fn frame_pointer<'a, S: UnwindSection<Bytes<'a>>>(
    row: &UnwindTableRow<usize>,
    section: &S,
) -> Result<FramePointer, Unsupported> {
    match row.register(X86_64::RBP) {
        // Undefined is what the outermost functions say; their callers do not need it.
        None | Some(RegisterRule::SameValue | RegisterRule::Undefined) => Ok(FramePointer::Unchanged),
        Some(RegisterRule::Offset(offset)) => {
            Ok(FramePointer::AtCfa(i32::try_from(offset).map_err(|_| Unsupported::Offset)?))
        }
        Some(RegisterRule::Expression(expression)) => match operations(&expression, section)?.as_slice() {
            [Operation::RegisterOffset { register: X86_64::RBP, offset, .. }] => {
                Ok(FramePointer::AtFp(i32::try_from(*offset).map_err(|_| Unsupported::Offset)?))
            }
            _ => Err(Unsupported::FramePointer),
        },
        Some(_) => Err(Unsupported::FramePointer),
    }
}

/// More operations than any form that is known has.
const MAX_OPERATIONS: usize = 10;

fn operations<'a, S: UnwindSection<Bytes<'a>>>(
    expression: &UnwindExpression<usize>,
    section: &S,
) -> Result<Vec<Operation<Bytes<'a>>>, Unsupported> {
    let Expression(bytes) = expression.get(section).map_err(|_| Unsupported::Malformed)?;
    let mut iterator = Expression(bytes).operations(ENCODING);
    let mut operations = Vec::new();
    while let Some(operation) = iterator.next().map_err(|_| Unsupported::Malformed)? {
        if operations.len() == MAX_OPERATIONS {
            return Err(Unsupported::CfaExpression);
        }
        operations.push(operation);
    }
    Ok(operations)
}

fn cfa_expression(operations: &[Operation<Bytes<'_>>]) -> Option<Cfa> {
    use Operation::{And, Deref, Ge, Plus, PlusConstant, RegisterOffset, Shl, UnsignedConstant as Constant};
    let (&RegisterOffset { register, offset, .. }, rest) = operations.split_first()? else { return None };
    // A linker's: sp + 8 + ((ip & 15) >= threshold) << 3.
    if let [
        RegisterOffset { register: X86_64::RA, offset: 0, .. },
        Constant { value: 15 },
        And,
        Constant { value: threshold @ 0..16 },
        Ge,
        Constant { value: 3 },
        Shl,
        Plus,
    ] = rest
    {
        let threshold = *threshold as u8;
        return (register == X86_64::RSP && offset == 8).then_some(Cfa::Plt { threshold });
    }
    let word = Deref { base_type: gimli::UnitOffset(0), size: 8, space: false };
    let add = match rest {
        [] => return base(register, offset),
        [deref] if *deref == word => 0,
        [deref, PlusConstant { value }] if *deref == word => i32::try_from(*value).ok()?,
        _ => return None,
    };
    match base(register, offset)? {
        Cfa::Sp(offset) => Some(Cfa::DerefSp { offset, add }),
        Cfa::Fp(offset) => Some(Cfa::DerefFp { offset, add }),
        _ => None,
    }
}

/// The C library describes the trampoline's frame by where the kernel has put each register.
fn signal_frame<'a, S: UnwindSection<Bytes<'a>>>(
    row: &UnwindTableRow<usize>,
    section: &S,
) -> Result<Rule, Unsupported> {
    let CfaRule::Expression(cfa) = row.cfa() else { return Err(Unsupported::SignalFrame) };
    let sp = cfa_expression(&operations(cfa, section)?);
    if sp != Some(Cfa::DerefSp { offset: 160, add: 0 }) {
        return Err(Unsupported::SignalFrame);
    }
    for (register, at) in [(X86_64::RA, 168), (X86_64::RBP, 120)] {
        let Some(RegisterRule::Expression(expression)) = row.register(register) else {
            return Err(Unsupported::SignalFrame);
        };
        match operations(&expression, section)?.as_slice() {
            [Operation::RegisterOffset { register: X86_64::RSP, offset, .. }] if *offset == at => {}
            _ => return Err(Unsupported::SignalFrame),
        }
    }
    Ok(Rule::SignalFrame)
}
