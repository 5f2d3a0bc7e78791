//! From a NAME to the places it means in one file.

use crate::address::FileAddress;
use crate::demangle::{demangle, is_mangled};
use crate::elf::Image;
use crate::frames::frames;
use crate::functions::functions;
use crate::glob::Glob;
use crate::instructions::instructions;
use crate::near::nearest;
use crate::spec::NamePattern;
use crate::symbols::{Kind, Symbol, Symbols, preferred};

/// A place that a name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// The symbol it belongs to, raw, with `@VERSION` where it is not the default version; `None` for a bare address in code
    /// without symbols.
    pub symbol: Option<String>,
    /// The place itself: the symbol's address plus `offset`.
    pub file_address: FileAddress,
    /// Bytes behind the symbol's start.
    pub offset: u64,
    /// Size of the symbol in bytes; 0 where it is not known.
    pub size: u64,
    /// [`Kind::Ifunc`]: the place is the resolver, which runs once; the function it chose must be read from the running
    /// process (see [`crate::relocations::ifunc_slots`]).
    pub kind: Kind,
}

impl Match {
    fn of(symbol: &Symbol<'_>, offset: u64) -> Self {
        // A function by its name alone is what runs at every call of it.
        let entry = if offset == 0 { symbol.local_entry } else { offset };
        Self {
            symbol: Some(symbol.versioned_name()),
            file_address: symbol.address + entry,
            offset,
            size: symbol.size,
            kind: symbol.kind,
        }
    }

    /// The NAME that means this place, for the canonical form of a probe.
    #[must_use]
    pub fn name(&self) -> NamePattern {
        match &self.symbol {
            None => NamePattern::Address(self.file_address),
            Some(symbol) if self.offset == 0 => NamePattern::Symbol(symbol.clone()),
            Some(symbol) => NamePattern::Offset { symbol: symbol.clone(), offset: self.offset },
        }
    }
}

/// Why a name means no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// No symbol has that name.
    #[error("no symbol matches `{name}`{}", suggestion(near))]
    NotFound {
        /// As typed.
        name: String,
        /// Up to five names like it.
        near: Vec<String>,
    },
    /// The file has no symbols of functions at all.
    #[error(
        "no symbol `{name}`: the file is stripped of symbols (give an address: 0xN as objdump prints it)"
    )]
    Stripped {
        /// As typed.
        name: String,
    },
    /// Neither symbols nor unwind tables tell where functions are.
    #[error("neither symbols nor unwind tables tell where its functions are")]
    NoFunctions,
    /// The name is used here, but another library defines it.
    #[error("`{name}` is only imported here: name the library that defines it, or use *:{name} with -p")]
    Imported {
        /// As typed.
        name: String,
    },
    /// A variable.
    #[error("`{name}` is data, not code: only instructions can be probed")]
    DataSymbol {
        /// As typed.
        name: String,
    },
    /// Code or data, which the file does not tell.
    #[error(
        "`{name}` has no type, and no unwind table, pointer or branch says that it is code: it may be data (its address is \
         taken for what it is: 0xN as nm prints it)"
    )]
    Untyped {
        /// As typed.
        name: String,
    },
    /// Behind the symbol's end.
    #[error("`{symbol}+{offset:#x}` is outside the symbol, which has {size} bytes")]
    OutsideSymbol {
        /// The symbol.
        symbol: String,
        /// The offset asked for.
        offset: u64,
        /// The size of the (largest) symbol of that name.
        size: u64,
    },
    /// Not in the file's code.
    #[error("address {address:#x} is outside the code{}", if .code.is_empty() { String::new() } else { format!(" (which is at {})", .code) })]
    OutsideText {
        /// The address.
        address: FileAddress,
        /// Where code is.
        code: String,
    },
}

fn suggestion(near: &[String]) -> String {
    match near {
        [] => String::new(),
        names => format!("; is it one of: {}?", names.join(", ")),
    }
}

/// All places that `name` means, sorted by address, each once: an exact name's without a version first.
///
/// # Errors
/// [`ResolveError`]: nothing can be probed under that name, and why.
pub fn resolve(
    image: &Image<'_>,
    symbols: &Symbols<'_>,
    name: &NamePattern,
) -> Result<Vec<Match>, ResolveError> {
    match name {
        NamePattern::Address(address) => at_address(image, symbols, *address),
        NamePattern::Symbol(name) => exact(image, symbols, name, 0),
        NamePattern::Offset { symbol, offset } => exact(image, symbols, symbol, *offset),
        NamePattern::Glob(glob) => matching(image, symbols, glob),
        NamePattern::Instructions => everywhere(image, symbols),
    }
}

fn at_address(
    image: &Image<'_>,
    symbols: &Symbols<'_>,
    address: FileAddress,
) -> Result<Vec<Match>, ResolveError> {
    check_text(image, address)?;
    Ok(vec![place_at(symbols, address)])
}

fn place_at(symbols: &Symbols<'_>, address: FileAddress) -> Match {
    let found = match symbols.function_of(address) {
        Some(symbol) => Match::of(symbol, address - symbol.address),
        None => Match { symbol: None, file_address: address, offset: 0, size: 0, kind: Kind::Function },
    };
    // The place was given as an address: an ifunc's resolver is then what was meant.
    Match { kind: Kind::Function, file_address: address, ..found }
}

/// Every instruction of every function.
fn everywhere(image: &Image<'_>, symbols: &Symbols<'_>) -> Result<Vec<Match>, ResolveError> {
    let functions = functions(image, &frames(image), symbols);
    let found: Vec<Match> =
        instructions(image, &functions).into_iter().map(|at| place_at(symbols, at)).collect();
    if found.is_empty() { Err(ResolveError::NoFunctions) } else { Ok(found) }
}

fn exact(
    image: &Image<'_>,
    symbols: &Symbols<'_>,
    name: &str,
    offset: u64,
) -> Result<Vec<Match>, ResolveError> {
    let named = named(symbols, name);
    let functions: Vec<_> = named.iter().filter(|symbol| symbol.is_function()).collect();
    if functions.is_empty() {
        return Err(match named.first() {
            None => not_found(symbols, name),
            Some(symbol) if symbol.kind == Kind::Label => untyped(name),
            Some(_) => data(name),
        });
    }
    // Offset 0 is the function itself, whatever its size; any other must be inside.
    let inside: Vec<_> = functions.iter().filter(|symbol| offset == 0 || offset < symbol.size).collect();
    if inside.is_empty() {
        let size = functions.iter().map(|symbol| symbol.size).max().unwrap_or(0);
        return Err(ResolveError::OutsideSymbol { symbol: name.to_owned(), offset, size });
    }
    let mut matches: Vec<_> = inside.into_iter().map(|symbol| Match::of(symbol, offset)).collect();
    let first = matches.first().map(|found| found.file_address);
    matches.retain(|found| image.is_code(found.file_address));
    if let (Some(address), true) = (first, matches.is_empty()) {
        return Err(outside_text(image, address));
    }
    if offset != 0 {
        // An instruction inside a resolver is not the chosen function.
        matches.iter_mut().for_each(|found| found.kind = Kind::Function);
    }
    matches.sort_by(|a, b| (a.file_address, &a.symbol).cmp(&(b.file_address, &b.symbol)));
    // Versions of a symbol at one address are one place, and so are a constructor's variants.
    matches.dedup_by(|a, b| a.file_address == b.file_address);
    Ok(matches)
}

/// Symbols of that raw name; if there is none, of that demangled name, with or without parameters.
fn named<'s, 'a>(symbols: &'s Symbols<'a>, name: &str) -> Vec<&'s Symbol<'a>> {
    let raw: Vec<_> = symbols.all().iter().filter(|symbol| symbol.has_raw_name(name)).collect();
    if !raw.is_empty() {
        return raw;
    }
    let part = certain_part(name);
    let possible =
        |symbol: &&Symbol<'_>| is_mangled(symbol.name) && part.is_none_or(|part| symbol.name.contains(part));
    let demangled = |symbol: &&Symbol<'_>| {
        symbol.demangled().is_some_and(|demangled| demangled.full == name || demangled.bare == name)
    };
    symbols.all().iter().filter(possible).filter(demangled).collect()
}

/// A part of a demangled name that its mangled form must contain, so that only few names need to be demangled: the last
/// identifier of the function's own path. Both schemes keep identifiers as they are, except where the C++ ABI has an
/// abbreviation (`std::string` is `Ss`) or a demangler makes words up (`{lambda()#1}`, `operator new`, `{{closure}}`).
fn certain_part(name: &str) -> Option<&str> {
    let path = name.split_once('(').map_or(name, |(path, _)| path);
    let identifier = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    if path.contains("operator") || !path.ends_with(identifier) {
        return None;
    }
    let last = path.rsplit(|letter| !identifier(letter)).next()?;
    let abbreviated = ["string", "allocator", "istream", "ostream", "iostream"]
        .iter()
        .any(|word| last == *word || last.strip_prefix("basic_") == Some(word));
    (!last.is_empty() && !abbreviated).then_some(last)
}

/// Every function whose raw or demangled name matches; of aliases at one address the preferred one that matches.
fn matching(image: &Image<'_>, symbols: &Symbols<'_>, glob: &Glob) -> Result<Vec<Match>, ResolveError> {
    let is_named = |symbol: &&Symbol<'_>| glob.matches(symbol.name) || matches_demangled(glob, symbol.name);
    let hit = |symbol: &&Symbol<'_>| image.is_code(symbol.address) && is_named(symbol);
    let mut found: Vec<Match> = Vec::new();
    let mut rest = symbols.all();
    while let Some(first) = rest.first() {
        let (group, behind) = rest.split_at(rest.partition_point(|symbol| symbol.address == first.address));
        let hits = group.iter().filter(|symbol| symbol.is_function()).filter(hit);
        found.extend(preferred(hits).map(|symbol| Match::of(symbol, 0)));
        rest = behind;
    }
    match symbols.labels().find(is_named) {
        _ if !found.is_empty() => Ok(found),
        Some(label) => Err(untyped(label.name)),
        None => Err(not_found(symbols, glob.as_str())),
    }
}

fn matches_demangled(glob: &Glob, name: &str) -> bool {
    demangle(name).is_some_and(|demangled| glob.matches(&demangled.full) || glob.matches(&demangled.bare))
}

fn untyped(name: &str) -> ResolveError {
    ResolveError::Untyped { name: name.to_owned() }
}

fn data(name: &str) -> ResolveError {
    ResolveError::DataSymbol { name: name.to_owned() }
}

fn not_found(symbols: &Symbols<'_>, name: &str) -> ResolveError {
    let name = name.to_owned();
    if symbols.imports(&name) {
        return ResolveError::Imported { name };
    }
    if symbols.functions().next().is_none() {
        return ResolveError::Stripped { name };
    }
    let mut near = nearest(&name, symbols.functions().map(|symbol| symbol.name));
    if near.is_empty() {
        near = near_demangled(symbols, &name);
    }
    ResolveError::NotFound { name, near }
}

/// As `nearest`, over demangled names without parameters; bounded, since each must be demangled.
fn near_demangled(symbols: &Symbols<'_>, name: &str) -> Vec<String> {
    const MOST: usize = 100_000;
    let mangled = symbols.functions().filter(|symbol| is_mangled(symbol.name)).take(MOST);
    let bare: Vec<String> = mangled.filter_map(|symbol| Some(symbol.demangled()?.bare)).collect();
    nearest(name, bare.iter().map(String::as_str))
}

fn check_text(image: &Image<'_>, address: FileAddress) -> Result<(), ResolveError> {
    if image.is_code(address) { Ok(()) } else { Err(outside_text(image, address)) }
}

fn outside_text(image: &Image<'_>, address: FileAddress) -> ResolveError {
    let ranges = image.code();
    let shown =
        ranges.iter().map(|(start, bytes)| format!("{start:#x}-{:#x}", start.span(bytes.len() as u64).end));
    ResolveError::OutsideText { address, code: shown.collect::<Vec<_>>().join(", ") }
}
