//! Shell patterns over names: `*`, `?`, `[...]` (POSIX 2.14, without the special role of `/` and leading dots).

use std::fmt;

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// `*`
    Any,
    /// `?`
    One,
    Literal(char),
    /// `[a-z_]`, `[!a-z]`
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Glob {
    /// Compiles a pattern. Every text is one: a `[` that is never closed stands for itself, as in the shell.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let tail = rest.get(first.len_utf8()..).unwrap_or("");
            let (part, tail) = match first {
                '*' => (Part::Any, tail),
                '?' => (Part::One, tail),
                '[' => class(tail).unwrap_or((Part::Literal('['), tail)),
                other => (Part::Literal(other), tail),
            };
            if part != Part::Any || parts.last() != Some(&Part::Any) {
                parts.push(part);
            }
            rest = tail;
        }
        Self { text: text.to_owned(), parts }
    }

    /// `text` has a character that means something in a pattern (an unclosed `[` does not).
    #[must_use]
    pub fn is_pattern(text: &str) -> bool {
        Self::new(text).parts.iter().any(|part| !matches!(part, Part::Literal(_)))
    }

    /// The pattern as typed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The whole of `name` matches.
    ///
    /// Going back only to the last `*` is enough, so the work is at most the product of the lengths.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (mut part, mut rest) = (0, name);
        let mut retry: Option<(usize, &str)> = None;
        loop {
            let next = rest.chars().next();
            match (self.parts.get(part), next) {
                (None, None) => return true,
                (Some(Part::Any), _) => {
                    retry = Some((part + 1, rest));
                    part += 1;
                    continue;
                }
                (Some(wanted), Some(found)) if wanted.accepts(found) => {
                    part += 1;
                    rest = behind(rest, found);
                    continue;
                }
                _ => {}
            }
            // Let the last `*` take one character more.
            let Some((after, from)) = retry else { return false };
            let Some(taken) = from.chars().next() else { return false };
            rest = behind(from, taken);
            part = after;
            retry = Some((after, rest));
        }
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Part {
    fn accepts(&self, found: char) -> bool {
        match self {
            Self::Any | Self::One => true,
            Self::Literal(wanted) => *wanted == found,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(first, last)| (*first..=*last).contains(&found)) != *negated
            }
        }
    }
}

fn behind(text: &str, first: char) -> &str {
    text.get(first.len_utf8()..).unwrap_or("")
}

/// The class whose `[` was just read, and what follows its `]`. A `]` right at the start is a member.
fn class(text: &str) -> Option<(Part, &str)> {
    let negated = text.starts_with(['!', '^']);
    let mut rest = text.get(usize::from(negated)..)?;
    let mut ranges = Vec::new();
    loop {
        let first = rest.chars().next()?;
        rest = behind(rest, first);
        if first == ']' && !ranges.is_empty() {
            return Some((Part::Class { negated, ranges }, rest));
        }
        let last = rest.strip_prefix('-').and_then(|tail| tail.chars().next()).filter(|last| *last != ']');
        match last {
            Some(last) => {
                ranges.push((first, last));
                rest = behind(behind(rest, '-'), last);
            }
            None => ranges.push((first, first)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_match_whole_names() {
        let cases = [
            ("mall*", "malloc", true),
            ("mall*", "xmalloc", false),
            ("*alloc", "malloc", true),
            ("*a*o*c", "malloc", true),
            ("m?lloc", "malloc", true),
            ("m?lloc", "mlloc", false),
            ("[mc]alloc", "calloc", true),
            ("[!mc]alloc", "calloc", false),
            ("[^mc]alloc", "valloc", true),
            ("f[0-9a]", "f7", true),
            ("f[0-9a]", "fb", false),
            ("f[]x]", "f]", true),
            ("f[a-]", "f-", true),
            ("operator[", "operator[", true),
            ("*", "", true),
            ("", "", true),
            ("", "x", false),
            ("?", "é", true),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(Glob::new(pattern).matches(name), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn plain_text_is_no_pattern() {
        assert!(!Glob::is_pattern("main"));
        assert!(!Glob::is_pattern("operator["));
        assert!(!Glob::is_pattern("operator[]"));
        assert!(Glob::is_pattern("a[b]"));
    }

    #[test]
    fn a_hostile_pattern_takes_no_exponential_time() {
        let pattern = "a*".repeat(500) + "b";
        assert!(!Glob::new(&pattern).matches(&"a".repeat(5000)));
    }

    /// The textbook definition, exponential but obviously right.
    fn slow(parts: &[Part], name: &[char]) -> bool {
        match (parts.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((Part::Any, rest)), found) => {
                slow(rest, name) || found.is_some_and(|(_, tail)| slow(parts, tail))
            }
            (Some((part, rest)), Some((found, tail))) => part.accepts(*found) && slow(rest, tail),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_definition(pattern in "[ab*?]{0,8}", name in "[ab]{0,8}") {
            let glob = Glob::new(&pattern);
            let chars: Vec<char> = name.chars().collect();
            prop_assert_eq!(glob.matches(&name), slow(&glob.parts, &chars));
        }
    }
}
