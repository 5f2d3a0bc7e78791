//! Names as the programmer wrote them: C++ (Itanium ABI) and Rust (legacy and v0 mangling).

use std::fmt::{self, Write};

/// Longer names are left as they are: demangling may take time and memory far beyond the length of a hostile name.
const LONGEST_MANGLED: usize = 16 << 10;

/// Longer results are given up for the same reason (substitutions can double the length with every few bytes).
const LONGEST_DEMANGLED: usize = 64 << 10;

/// The two ways a demangled name is matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demangled {
    /// With parameters, as `c++filt` and `nm -C` print it; Rust names without the hash.
    pub full: String,
    /// Without parameters and return type; the same as `full` in Rust.
    pub bare: String,
}

/// `true` for names that [`demangle`] may have an answer for: a cheap test of the prefix.
#[must_use]
pub fn is_mangled(name: &str) -> bool {
    name.starts_with("_Z") || name.starts_with("_R")
}

/// Demangles `name`; `None` for a name that is not mangled, or not within reason.
#[must_use]
pub fn demangle(name: &str) -> Option<Demangled> {
    if !is_mangled(name) || name.len() > LONGEST_MANGLED {
        return None;
    }
    rust(name).or_else(|| cpp(name))
}

/// Rust first: its legacy scheme is a subset of C++'s, told apart by the trailing hash.
fn rust(name: &str) -> Option<Demangled> {
    let symbol = rustc_demangle::try_demangle(name).ok()?;
    let mut text = Bounded::default();
    write!(text, "{symbol:#}").ok()?;
    Some(Demangled { bare: text.0.clone(), full: text.0 })
}

fn cpp(name: &str) -> Option<Demangled> {
    let symbol = cpp_demangle::Symbol::new(name.as_bytes()).ok()?;
    let write = |options: &cpp_demangle::DemangleOptions| {
        let mut text = Bounded::default();
        symbol.structured_demangle(&mut text, options).ok()?;
        Some(text.0)
    };
    let options = cpp_demangle::DemangleOptions::new();
    let full = write(&options)?;
    let bare = write(&options.no_params().no_return_type())?;
    Some(Demangled { full, bare })
}

/// Text that refuses to grow past [`LONGEST_DEMANGLED`].
#[derive(Default)]
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > LONGEST_DEMANGLED {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpp_names_have_a_form_without_parameters() {
        let name = demangle("_ZN5space3fooEibc").unwrap();
        assert_eq!(name.full, "space::foo(int, bool, char)");
        assert_eq!(name.bare, "space::foo");
        // A template instance states its return type.
        let template = demangle("_Z3maxIiET_S0_S0_").unwrap();
        assert_eq!(template.full, "int max<int>(int, int)");
        assert_eq!(template.bare, "max<int>");
    }

    #[test]
    fn rust_names_lose_their_hash() {
        assert_eq!(demangle("_ZN3foo3bar17h05af221e174051e9E").unwrap().full, "foo::bar");
        assert_eq!(demangle("_RNvCs15kBYyAo9fc_7mycrate7example").unwrap().bare, "mycrate::example");
    }

    #[test]
    fn other_names_stay() {
        for name in ["main", "_start", "", "_Z", "_ZN", "_R", "_Rust"] {
            assert_eq!(demangle(name), None, "{name}");
        }
    }

    #[test]
    fn a_name_that_explodes_is_given_up() {
        // Each S<n>_ pair repeats everything before it: 2^30 parameters if it were written out.
        let mut name = String::from("_Z1fN1aIiiEE");
        for index in 0..30 {
            let last = if index == 0 { "S_".to_owned() } else { format!("S{}_", radix36(index - 1)) };
            name += &format!("N1bI{last}{last}EE");
        }
        if let Some(demangled) = demangle(&name) {
            assert!(demangled.full.len() <= LONGEST_DEMANGLED);
        }
        assert_eq!(demangle(&format!("_Z{}", "N".repeat(1 << 20))), None);
    }

    fn radix36(value: u32) -> String {
        let digit = |d| char::from_digit(d, 36).unwrap().to_ascii_uppercase().to_string();
        if value < 36 { digit(value) } else { radix36(value / 36) + &digit(value % 36) }
    }
}
