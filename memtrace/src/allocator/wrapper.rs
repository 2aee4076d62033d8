//! Functions of a program's own that allocate and release, as typed: `--alloc 'libpool.so:pool_take(size=arg0)'`.

use std::fmt;

use memtrace_common::{
    call::Call,
    signature::{REGISTER_ARGUMENTS, Signature},
};

use thiserror::Error;

/// A function to probe beside those of the known allocators.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wrapper {
    /// As typed, for messages.
    pub text: String,
    /// Which file it is in.
    pub object: ObjectName,
    /// Where in the file.
    pub place: Place,
    /// What it does.
    pub call: Call,
    /// Where it has its arguments.
    pub signature: Signature,
}

/// How a mapped file is named.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ObjectName {
    /// `exe`: the program itself.
    Executable,
    /// A file name, or a whole path as the target sees it.
    Named(String),
}

/// How a function in a file is named.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// By its symbol.
    Symbol(String),
    /// By its virtual address as linked: what `nm` and `objdump` show.
    Address(u64),
    /// By its offset in the file.
    Offset(u64),
}

impl fmt::Display for Wrapper {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flag = match self.call {
            Call::Allocate => "--alloc",
            Call::Reallocate => "--realloc",
            _ => "--free",
        };
        write!(formatter, "{flag} {}", self.text)
    }
}

/// Why a function cannot be read.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{flag} {value}: {reason}; write it such as {flag} '{example}'")]
pub struct WrapperError {
    /// The flag.
    flag: &'static str,
    /// What was typed.
    value: String,
    /// What is wrong with it.
    reason: String,
    /// A right one.
    example: &'static str,
}

/// What the flags of the three kinds resolve to.
///
/// # Errors
///
/// On the first that cannot be read.
pub fn wrappers(alloc: &[String], realloc: &[String], free: &[String]) -> Result<Vec<Wrapper>, WrapperError> {
    let kinds = [(Call::Allocate, alloc), (Call::Reallocate, realloc), (Call::ReleaseOuter, free)];
    kinds.into_iter().flat_map(|(call, texts)| texts.iter().map(move |text| parse(call, text))).collect()
}

/// `FILE:FUNCTION`, `FILE:0xADDRESS` or `FILE+0xOFFSET`, and `(name=argN,...)` behind it unless the usual ones are meant.
fn parse(call: Call, text: &str) -> Result<Wrapper, WrapperError> {
    let refused = |reason: &str| {
        let (flag, example) = match call {
            Call::Allocate => ("--alloc", "libpool.so:pool_take(size=arg0)"),
            Call::Reallocate => ("--realloc", "libpool.so:pool_resize(ptr=arg0,size=arg1)"),
            _ => ("--free", "libpool.so:pool_give(ptr=arg0)"),
        };
        WrapperError { flag, value: text.to_owned(), reason: reason.to_owned(), example }
    };
    let (place, arguments) = match text.split_once('(') {
        None => (text, None),
        Some((place, rest)) => (place, Some(rest.strip_suffix(')').ok_or_else(|| refused("the ) is missing"))?)),
    };
    let (object, place) = if let Some((object, function)) = place.rsplit_once(':') {
        match function.strip_prefix("0x") {
            Some(digits) => {
                (object, Place::Address(hexadecimal(digits).ok_or_else(|| refused("the address is not hexadecimal"))?))
            }
            None => (object, Place::Symbol(function.to_owned())),
        }
    } else if let Some((object, digits)) = place.rsplit_once("+0x") {
        (object, Place::Offset(hexadecimal(digits).ok_or_else(|| refused("the offset is not hexadecimal"))?))
    } else {
        return Err(refused("it names no file"));
    };
    if object.is_empty() || matches!(&place, Place::Symbol(name) if name.is_empty()) {
        return Err(refused("the file or the function is missing"));
    }
    let object = if object == "exe" { ObjectName::Executable } else { ObjectName::Named(object.to_owned()) };
    let signature = match arguments {
        None => usual(call),
        Some(arguments) => signature(call, arguments).map_err(|reason| refused(&reason))?,
    };
    // A C++ function may throw; the names of C and of Rust are not mangled like this.
    let may_throw = matches!(&place, Place::Symbol(name) if name.starts_with("_Z")) && call != Call::ReleaseOuter;
    let signature = if may_throw { signature.throwing() } else { signature };
    Ok(Wrapper { text: text.to_owned(), object, place, call, signature })
}

/// The arguments of malloc, realloc and free.
fn usual(call: Call) -> Signature {
    match call {
        Call::Allocate => Signature::size(0),
        Call::Reallocate => Signature::size(1).of(0),
        _ => Signature::block(0),
    }
}

fn signature(call: Call, text: &str) -> Result<Signature, String> {
    let (mut size, mut count, mut block, mut result) = (None, None, None, None);
    for part in text.split(',') {
        let (name, value) = part.trim().split_once('=').ok_or_else(|| format!("{part} is not name=argN"))?;
        let place = match name.trim() {
            "size" => &mut size,
            "count" => &mut count,
            "ptr" => &mut block,
            "result" => &mut result,
            other => return Err(format!("{other} is none of size, count, ptr and result")),
        };
        let number = value.trim().strip_prefix("arg").and_then(|digits| digits.parse::<u8>().ok());
        let number = number.filter(|&number| number < REGISTER_ARGUMENTS);
        let number = number.ok_or_else(|| format!("{value} is none of arg0 to arg{}", REGISTER_ARGUMENTS - 1))?;
        if place.replace(number).is_some() {
            return Err(format!("{} is given twice", name.trim()));
        }
    }
    let signature = match (call, size, block) {
        (Call::ReleaseOuter, None, Some(block)) if count.is_none() && result.is_none() => Signature::block(block),
        (Call::ReleaseOuter, ..) => return Err("it takes ptr and nothing else".to_owned()),
        (_, None, _) => return Err("size is missing".to_owned()),
        (Call::Allocate, _, Some(_)) => return Err("ptr is for --realloc and --free".to_owned()),
        (Call::Reallocate, _, None) => return Err("ptr is missing".to_owned()),
        (Call::Reallocate, ..) if result.is_some() => return Err("result is for --alloc".to_owned()),
        (_, Some(size), block) => {
            let signature = count.map_or(Signature::size(size), |count| Signature::product(count, size));
            let signature = block.map_or(signature, |block| signature.of(block));
            result.map_or(signature, |result| signature.stored_at(result))
        }
    };
    Ok(signature)
}

fn hexadecimal(digits: &str) -> Option<u64> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u64::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alloc(text: &str) -> Wrapper {
        parse(Call::Allocate, text).expect(text)
    }

    #[test]
    fn a_function_is_named_by_symbol_address_or_offset() {
        let wrapper = alloc("libpool.so:pool_take(size=arg1)");
        assert_eq!(wrapper.object, ObjectName::Named("libpool.so".to_owned()));
        assert_eq!(wrapper.place, Place::Symbol("pool_take".to_owned()));
        assert_eq!(wrapper.signature, Signature::size(1));
        assert_eq!(wrapper.to_string(), "--alloc libpool.so:pool_take(size=arg1)");
        let wrapper = alloc("exe:0x4010f0");
        assert_eq!((wrapper.object, wrapper.place), (ObjectName::Executable, Place::Address(0x40_10f0)));
        let wrapper = alloc("/opt/app/lib++.so+0x10f0( count = arg2, size=arg0 )");
        assert_eq!(wrapper.object, ObjectName::Named("/opt/app/lib++.so".to_owned()));
        assert_eq!((wrapper.place, wrapper.signature), (Place::Offset(0x10f0), Signature::product(2, 0)));
        assert_eq!(alloc("exe:_ZN4pool4takeEm").signature, Signature::size(0).throwing());
    }

    #[test]
    fn arguments_default_to_those_of_malloc_realloc_and_free() {
        assert_eq!(alloc("a:b").signature, Signature::size(0));
        assert_eq!(alloc("a:b(size=arg2,result=arg0)").signature, Signature::size(2).stored_at(0));
        let realloc = parse(Call::Reallocate, "a:b").expect("the usual ones");
        assert_eq!(realloc.signature, Signature::size(1).of(0));
        let free = parse(Call::ReleaseOuter, "a:b(ptr=arg3)").expect("one argument");
        assert_eq!(free.signature, Signature::block(3));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_an_example() {
        for (call, text) in [
            (Call::Allocate, ""),
            (Call::Allocate, "pool_take"),
            (Call::Allocate, ":pool_take"),
            (Call::Allocate, "a:"),
            (Call::Allocate, "a:0xzz"),
            (Call::Allocate, "a+0x"),
            (Call::Allocate, "a:0x11112222333344445"),
            (Call::Allocate, "a:b(size=arg0"),
            (Call::Allocate, "a:b()"),
            (Call::Allocate, "a:b(count=arg0)"),
            (Call::Allocate, "a:b(size=arg6)"),
            (Call::Allocate, "a:b(size=rdi)"),
            (Call::Allocate, "a:b(size=arg0,size=arg1)"),
            (Call::Allocate, "a:b(size=arg0,ptr=arg1)"),
            (Call::Reallocate, "a:b(size=arg0)"),
            (Call::Reallocate, "a:b(size=arg0,ptr=arg1,result=arg2)"),
            (Call::ReleaseOuter, "a:b(size=arg0)"),
            (Call::ReleaseOuter, "a:b(ptr=arg0,size=arg1)"),
        ] {
            let error = parse(call, text).expect_err(text).to_string();
            assert!(error.contains("such as") && !error.contains('\n'), "{text}: {error}");
        }
    }
}
