//! The text of a PROBE: `[KIND:]PATH:NAME`.
//!
//! NAME is a symbol (raw or demangled), a pattern of them (`*`, `?`, `[...]`), `SYMBOL+N`, `0xN`, an address as `nm` prints it, or `0x*`,
//! every instruction. Double quotes take colons, patterns and `+` as plain text; inside them `\"` and `\\` are a quote and a backslash.

use std::fmt;

use crate::address::FileAddress;
use crate::glob::Glob;

/// What kind of event a probe waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Reaching an instruction.
    #[default]
    Uprobe,
    /// A function's return.
    Uretprobe,
    /// A static marker of the program.
    Usdt,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Uprobe, Self::Uretprobe, Self::Usdt];

    /// The word that stands before the first colon.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Uprobe => "uprobe",
            Self::Uretprobe => "uretprobe",
            Self::Usdt => "usdt",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The PATH of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    /// `*`: every mapped file.
    Every,
    /// A file, a command, or a library by name; [`crate::path`] decides.
    Named(String),
}

/// The NAME of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamePattern {
    /// A symbol, raw or demangled, with or without parameters.
    Symbol(String),
    /// All symbols that match.
    Glob(Glob),
    /// So many bytes behind a symbol.
    Offset {
        /// The symbol.
        symbol: String,
        /// Bytes from its start.
        offset: u64,
    },
    /// A virtual address of the file.
    Address(FileAddress),
    /// Every instruction of every function of the file.
    Instructions,
}

/// A PROBE as the user typed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// What to wait for.
    pub kind: Kind,
    /// In which file.
    pub path: PathPattern,
    /// Where in it.
    pub name: NamePattern,
    /// The text it was read from.
    pub text: String,
}

/// The NAME that means every instruction: an address, whichever.
const EVERY_INSTRUCTION: &str = "0x*";

/// What is wrong with the text of a probe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad probe `{text}`: {reason}")]
pub struct SpecError {
    /// The whole text.
    pub text: String,
    /// The byte of the text where it goes wrong.
    pub at: usize,
    /// What is wrong there.
    pub reason: Reason,
}

impl SpecError {
    /// The text and, below it, a mark under the place.
    #[must_use]
    pub fn pointed(&self) -> String {
        let column = self.text.get(..self.at).map_or(0, |before| before.chars().count());
        format!("{}\n{}^", self.text, " ".repeat(column))
    }
}

/// What may be wrong with a probe's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Only one part.
    #[error("no `:` between PATH and NAME (write PATH:NAME, for instance libc:malloc)")]
    NoColon,
    /// Nothing before the colon.
    #[error(
        "PATH is empty (write the file, command or library that has the symbol, or * for every mapped file)"
    )]
    EmptyPath,
    /// Nothing behind the colon.
    #[error("NAME is empty (write a symbol, a pattern such as mall*, SYMBOL+N or 0xADDRESS)")]
    EmptyName,
    /// A quote that does not end.
    #[error("the quote that begins here is not closed")]
    OpenQuote,
    /// Something other than `:`, `+` or the end behind a quoted part.
    #[error("unexpected text behind the closing quote")]
    AfterQuote,
    /// `+` and no number.
    #[error("the offset behind `+` is no number (decimal, or hexadecimal with 0x)")]
    BadOffset,
    /// `0x` and no number.
    #[error("not a hexadecimal address")]
    BadAddress,
    /// A number of more than 64 bits.
    #[error("the number does not fit into 64 bits")]
    TooLarge,
    /// `mall*+4`.
    #[error("an offset needs one symbol, not a pattern (quote a symbol that contains *, ? or [)")]
    OffsetOfPattern,
    /// A NUL, which no path or symbol can hold.
    #[error("NUL bytes are not allowed")]
    Nul,
}

/// An error at a byte.
type Wrong = (usize, Reason);

impl Spec {
    /// Reads the text of a probe.
    ///
    /// # Errors
    /// [`SpecError`] with the place.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let wrong = |(at, reason)| SpecError { text: text.to_owned(), at, reason };
        let mut cursor = Cursor { text, at: 0 };
        let (kind, path, name) = parts(&mut cursor).map_err(wrong)?;
        Ok(Self { kind, path, name, text: text.to_owned() })
    }

    /// The spec of one place, whose text is its canonical form.
    #[must_use]
    pub fn canonical(kind: Kind, path: &str, name: NamePattern) -> Self {
        let mut spec = Self { kind, path: PathPattern::Named(path.to_owned()), name, text: String::new() };
        spec.text = spec.to_string();
        spec
    }

    /// Whether it names one place, whose refusal is an error; not a pattern, of which others may do.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        !matches!(self.name, NamePattern::Glob(_) | NamePattern::Instructions)
            && self.path != PathPattern::Every
    }
}

impl std::str::FromStr for Spec {
    type Err = SpecError;
    fn from_str(text: &str) -> Result<Self, SpecError> {
        Self::parse(text)
    }
}

/// The canonical form: `KIND:PATH:NAME`, quoted where that is needed to be read back as the same.
impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.kind, self.path, self.name)
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every => f.write_str("*"),
            Self::Named(path) => {
                let special = path.contains(':') || path.starts_with('"') || path == "*";
                quoted(f, path, special)
            }
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Symbol(symbol) => quoted(f, symbol, symbol_needs_quotes(symbol)),
            Self::Glob(glob) => glob.fmt(f),
            Self::Offset { symbol, offset } => {
                quoted(f, symbol, symbol_needs_quotes(symbol))?;
                write!(f, "+{offset:#x}")
            }
            Self::Address(address) => write!(f, "{address:#x}"),
            Self::Instructions => f.write_str(EVERY_INSTRUCTION),
        }
    }
}

fn symbol_needs_quotes(symbol: &str) -> bool {
    let special = symbol.contains(['+', '*', '?', '[']) || symbol.starts_with('"');
    special || hexadecimal(symbol).is_some()
}

fn quoted(f: &mut fmt::Formatter<'_>, text: &str, needed: bool) -> fmt::Result {
    if needed {
        write!(f, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        f.write_str(text)
    }
}

/// A read position in the text.
struct Cursor<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Cursor<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn take(&mut self, len: usize) -> &'t str {
        let taken = self.rest().get(..len).unwrap_or("");
        self.at += taken.len();
        taken
    }

    /// A quoted part with its escapes undone; `None` where no quote begins.
    fn quoted(&mut self) -> Result<Option<String>, Wrong> {
        let start = self.at;
        let Some(inside) = self.rest().strip_prefix('"') else { return Ok(None) };
        let mut text = String::new();
        let mut escaped = false;
        for (index, letter) in inside.char_indices() {
            match letter {
                '"' if !escaped => {
                    self.at += index + 2;
                    return Ok(Some(text));
                }
                '\\' if !escaped => escaped = true,
                '"' | '\\' => {
                    text.push(letter);
                    escaped = false;
                }
                other => {
                    if std::mem::take(&mut escaped) {
                        text.push('\\');
                    }
                    text.push(other);
                }
            }
        }
        Err((start, Reason::OpenQuote))
    }
}

fn parts(cursor: &mut Cursor<'_>) -> Result<(Kind, PathPattern, NamePattern), Wrong> {
    if let Some(at) = cursor.text.find('\0') {
        return Err((at, Reason::Nul));
    }
    let kind = kind(cursor);
    let path = path(cursor)?;
    let name = name(cursor)?;
    Ok((kind, path, name))
}

fn kind(cursor: &mut Cursor<'_>) -> Kind {
    let rest = cursor.rest();
    let named = Kind::ALL
        .into_iter()
        .find(|kind| rest.strip_prefix(kind.as_str()).is_some_and(|behind| behind.starts_with(':')));
    cursor.take(named.map_or(0, |kind| kind.as_str().len() + 1));
    named.unwrap_or_default()
}

fn path(cursor: &mut Cursor<'_>) -> Result<PathPattern, Wrong> {
    let start = cursor.at;
    let path = match cursor.quoted()? {
        Some(_) if cursor.rest().is_empty() => {
            return Err((cursor.at, Reason::NoColon));
        }
        Some(_) if !cursor.rest().starts_with(':') => return Err((cursor.at, Reason::AfterQuote)),
        Some(path) => PathPattern::Named(path),
        None => {
            let colon = cursor.rest().find(':').ok_or((cursor.text.len(), Reason::NoColon))?;
            match cursor.take(colon) {
                "*" => PathPattern::Every,
                path => PathPattern::Named(path.to_owned()),
            }
        }
    };
    if path == PathPattern::Named(String::new()) {
        return Err((start, Reason::EmptyPath));
    }
    cursor.take(1); // the colon
    Ok(path)
}

fn name(cursor: &mut Cursor<'_>) -> Result<NamePattern, Wrong> {
    let start = cursor.at;
    if let Some(symbol) = cursor.quoted()? {
        return quoted_name(cursor, start, symbol);
    }
    let text = cursor.rest();
    if text.is_empty() {
        return Err((start, Reason::EmptyName));
    }
    if text == EVERY_INSTRUCTION {
        return Ok(NamePattern::Instructions);
    }
    if let Some(digits) = hexadecimal(text) {
        let value = number(16, digits).map_err(|reason| (start, reason.unwrap_or(Reason::BadAddress)))?;
        return Ok(NamePattern::Address(FileAddress(value)));
    }
    if let Some((symbol, offset)) = split_offset(text) {
        let at = start + symbol.len() + 1;
        let offset = parse_offset(offset).map_err(|reason| (at, reason))?;
        if Glob::is_pattern(symbol) {
            return Err((start, Reason::OffsetOfPattern));
        }
        return Ok(NamePattern::Offset { symbol: symbol.to_owned(), offset });
    }
    if Glob::is_pattern(text) {
        return Ok(NamePattern::Glob(Glob::new(text)));
    }
    Ok(NamePattern::Symbol(text.to_owned()))
}

fn quoted_name(cursor: &mut Cursor<'_>, start: usize, symbol: String) -> Result<NamePattern, Wrong> {
    if symbol.is_empty() {
        return Err((start, Reason::EmptyName));
    }
    match cursor.rest().strip_prefix('+') {
        None if cursor.rest().is_empty() => Ok(NamePattern::Symbol(symbol)),
        None => Err((cursor.at, Reason::AfterQuote)),
        Some(offset) => {
            let offset = parse_offset(offset).map_err(|reason| (cursor.at + 1, reason))?;
            Ok(NamePattern::Offset { symbol, offset })
        }
    }
}

/// What follows `0x`; a symbol never begins with a digit.
fn hexadecimal(text: &str) -> Option<&str> {
    text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))
}

/// Splits at the last `+` where that can only begin an offset: a number follows, or a plain identifier comes before and
/// something follows (so that `operator+` and `<A as B + C>::f` stay names).
fn split_offset(text: &str) -> Option<(&str, &str)> {
    let (symbol, offset) = text.rsplit_once('+')?;
    if symbol.is_empty() || (symbol.ends_with("operator") && offset.is_empty()) {
        return None;
    }
    let plain = |letter: char| letter.is_alphanumeric() || "_.$@".contains(letter);
    let meant = offset.starts_with(|first: char| first.is_ascii_digit()) || symbol.chars().all(plain);
    meant.then_some((symbol, offset))
}

fn parse_offset(text: &str) -> Result<u64, Reason> {
    let (radix, digits) = hexadecimal(text).map_or((10, text), |digits| (16, digits));
    number(radix, digits).map_err(|reason| reason.unwrap_or(Reason::BadOffset))
}

/// Digits only: Rust's own parser would take a sign. The error is `None` for what is no number at all.
fn number(radix: u32, digits: &str) -> Result<u64, Option<Reason>> {
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return Err(None);
    }
    u64::from_str_radix(digits, radix).map_err(|_| Some(Reason::TooLarge))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn symbol(name: &str) -> NamePattern {
        NamePattern::Symbol(name.to_owned())
    }

    fn offset(name: &str, offset: u64) -> NamePattern {
        NamePattern::Offset { symbol: name.to_owned(), offset }
    }

    #[test]
    fn names_in_all_their_forms() {
        let cases = [
            ("libc:malloc", "libc", symbol("malloc")),
            ("uprobe:libc:malloc", "libc", symbol("malloc")),
            ("./uprobe:f", "./uprobe", symbol("f")),
            ("a.out:ns::f(int)", "a.out", symbol("ns::f(int)")),
            ("bash:main+4", "bash", offset("main", 4)),
            ("bash:main+0x1f", "bash", offset("main", 0x1f)),
            ("bash:0x1f", "bash", NamePattern::Address(FileAddress(0x1f))),
            ("bash:0x*", "bash", NamePattern::Instructions),
            ("libc:mall*", "libc", NamePattern::Glob(Glob::new("mall*"))),
            (r#""/tmp/a:b":f"#, "/tmp/a:b", symbol("f")),
            (r#"x:"operator*""#, "x", symbol("operator*")),
            (r#"x:"operator+"+8"#, "x", offset("operator+", 8)),
            (r#"x:"a\"b\\c\d""#, "x", symbol(r#"a"b\c\d"#)),
            ("x:operator+", "x", symbol("operator+")),
            ("x:operator[]", "x", symbol("operator[]")),
            ("x:<A as B+C>::f", "x", symbol("<A as B+C>::f")),
            ("x:memcpy@GLIBC_2.2.5", "x", symbol("memcpy@GLIBC_2.2.5")),
        ];
        for (text, path, name) in cases {
            let spec = Spec::parse(text).unwrap();
            assert_eq!(spec.path, PathPattern::Named(path.to_owned()), "{text}");
            assert_eq!(spec.name, name, "{text}");
        }
        assert_eq!(Spec::parse("*:main").unwrap().path, PathPattern::Every);
        assert_eq!(Spec::parse("\"*\":main").unwrap().path, PathPattern::Named("*".to_owned()));
        assert_eq!(Spec::parse("uretprobe:c:f").unwrap().kind, Kind::Uretprobe);
        assert_eq!(Spec::parse("usdt:c:p:n").unwrap().name, symbol("p:n"));
    }

    #[test]
    fn errors_point_into_the_text() {
        let cases = [
            ("malloc", 6, Reason::NoColon),
            ("", 0, Reason::NoColon),
            ("uprobe:malloc", 13, Reason::NoColon),
            (":malloc", 0, Reason::EmptyPath),
            ("usdt::x", 5, Reason::EmptyPath),
            ("libc:", 5, Reason::EmptyName),
            ("libc:\"\"", 5, Reason::EmptyName),
            ("libc:\"x", 5, Reason::OpenQuote),
            ("\"libc:x", 0, Reason::OpenQuote),
            ("\"libc\"x:y", 6, Reason::AfterQuote),
            ("\"libc\"", 6, Reason::NoColon),
            ("libc:\"x\"y", 8, Reason::AfterQuote),
            ("libc:malloc+", 12, Reason::BadOffset),
            ("libc:malloc+0xzz", 12, Reason::BadOffset),
            ("libc:malloc+4z", 12, Reason::BadOffset),
            ("libc:malloc+-4", 12, Reason::BadOffset),
            ("libc:malloc+99999999999999999999", 12, Reason::TooLarge),
            ("libc:0x", 5, Reason::BadAddress),
            ("libc:0xfoo", 5, Reason::BadAddress),
            ("libc:0x*f", 5, Reason::BadAddress),
            ("libc:0x11112222333344445", 5, Reason::TooLarge),
            ("libc:mall*+4", 5, Reason::OffsetOfPattern),
            ("libc:a\0b", 6, Reason::Nul),
        ];
        for (text, at, reason) in cases {
            let error = Spec::parse(text).unwrap_err();
            assert_eq!((error.at, error.reason), (at, reason), "{text}");
        }
        assert_eq!(Spec::parse("libc:f+q").unwrap_err().pointed(), "libc:f+q\n       ^");
    }

    fn any_name() -> impl Strategy<Value = NamePattern> {
        let text = "[^\0]{1,12}";
        prop_oneof![
            text.prop_map(NamePattern::Symbol),
            (text, any::<u64>()).prop_map(|(symbol, offset)| NamePattern::Offset { symbol, offset }),
            any::<u64>().prop_map(|address| NamePattern::Address(FileAddress(address))),
            Just(NamePattern::Instructions),
            "[a-z:*?]{0,6}\\*[a-z:*?]{0,6}".prop_map(|text| NamePattern::Glob(Glob::new(&text))),
        ]
    }

    fn any_path() -> impl Strategy<Value = PathPattern> {
        prop_oneof![Just(PathPattern::Every), "[^\0]{1,12}".prop_map(PathPattern::Named)]
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back_the_same(
            kind in prop::sample::select(Kind::ALL.to_vec()), path in any_path(), name in any_name()
        ) {
            let text = Spec { kind, path: path.clone(), name: name.clone(), text: String::new() }.to_string();
            let read = Spec::parse(&text).unwrap();
            prop_assert_eq!((read.kind, read.path, read.name), (kind, path, name));
        }

        #[test]
        fn any_text_is_read_or_refused_inside_the_text(text in "(u?probe:|usdt:)?[\"\\\\:+*?a0x\\[\\]é]{0,16}") {
            match Spec::parse(&text) {
                Ok(spec) => prop_assert_eq!(Spec::parse(&spec.to_string()).unwrap().name, spec.name),
                Err(error) => prop_assert!(error.at <= text.len() && text.is_char_boundary(error.at)),
            }
        }
    }
}
