//! Names for people: they come from foreign files, may be very long, and may hold anything.

use std::borrow::Cow;

use symbols::Spec;
use symbols::demangle::demangle;
use symbols::spec::{NamePattern, PathPattern};

/// `text` without characters that would do something to a terminal: a hostile file may name a function so.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return text.into();
    }
    let escaped = text.chars().flat_map(|c| match c.is_control() {
        true => c.escape_default().collect::<Vec<_>>(),
        false => vec![c],
    });
    Cow::Owned(escaped.collect())
}

/// File and name of a canonical probe for people: unquoted, and as the programmer wrote them.
pub(crate) fn file_and_name(probe: &str) -> (String, String) {
    let Ok(Spec { path: PathPattern::Named(path), name, .. }) = Spec::parse(probe) else {
        return (String::new(), printable(probe).into_owned());
    };
    let readable = |symbol: &str| demangle(symbol).map_or(symbol.to_string(), |demangled| demangled.full);
    let name = match name {
        NamePattern::Symbol(symbol) => readable(&symbol),
        NamePattern::Offset { symbol, offset } => format!("{}+{offset:#x}", readable(&symbol)),
        other => other.to_string(),
    };
    (printable(&path).into_owned(), printable(&name).into_owned())
}

/// `text` in at most `width` columns: the middle gives way, since paths differ at the end and symbols at both ends.
pub(crate) fn shorten(text: &str, width: usize) -> String {
    let length = console::measure_text_width(text);
    if length <= width {
        return text.into();
    }
    let keep = width.saturating_sub(1);
    // More of the end: the symbol stands there.
    let tail = keep.div_ceil(2);
    let head: String = take_columns(text.chars(), keep - tail).into_iter().collect();
    let end: String = take_columns(text.chars().rev(), tail).into_iter().rev().collect();
    match width {
        0 => String::new(),
        _ => format!("{head}…{end}"),
    }
}

/// The first characters that fit into `columns`.
fn take_columns(characters: impl Iterator<Item = char>, columns: usize) -> Vec<char> {
    let mut used = 0;
    let mut buffer = [0; 4];
    characters
        .take_while(|character| {
            used += console::measure_text_width(character.encode_utf8(&mut buffer));
            used <= columns
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_not_obeyed() {
        assert_eq!(printable("malloc"), "malloc");
        assert_eq!(printable("a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\n");
    }

    #[test]
    fn parts_of_a_probe() {
        let cases = [
            ("uprobe:/bin/a:main", ("/bin/a", "main")),
            ("uprobe:/bin/a:_ZN1a1fEi+0x4", ("/bin/a", "a::f(int)+0x4")),
            ("uprobe:\"/odd:dir/a b\":\"operator+\"", ("/odd:dir/a b", "operator+")),
            ("uprobe:/bin/a:0x1130", ("/bin/a", "0x1130")),
            ("nonsense", ("", "nonsense")),
        ];
        for (probe, (file, name)) in cases {
            assert_eq!(file_and_name(probe), (file.into(), name.into()), "{probe}");
        }
    }

    #[test]
    fn names_give_way_in_the_middle() {
        assert_eq!(shorten("malloc", 6), "malloc");
        assert_eq!(shorten("/usr/lib/libc.so.6:malloc", 11), "/usr/…alloc");
        assert_eq!(shorten("abcdef", 2), "…f");
        assert_eq!(shorten("abcdef", 1), "…");
        assert_eq!(shorten("abcdef", 0), "");
    }

    #[test]
    fn shortened_names_fit_whatever_they_are_made_of() {
        for text in ["漢字漢字漢字", "äöüäöüäöü", "/a/very/long/path:symbol"] {
            for width in 0..12 {
                assert!(console::measure_text_width(&shorten(text, width)) <= width, "{text} {width}");
            }
        }
    }
}
