//! What callgrind counted, from its output file (Valgrind's manual, "Callgrind Format Specification").

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::rc::Rc;

/// Executions of each instruction, by object and address; addresses are the file's.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Counts(pub(super) HashMap<String, BTreeMap<u64, Count>>);

/// Executions of one instruction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) times: u64,
    /// Of which function: by its symbol, also where only a file with debug information has that.
    pub(super) function: Rc<str>,
}

/// The object of code that valgrind attributes to none: the entries of PLTs. Addresses are those of the process.
pub(super) const UNKNOWN: &str = "???";

impl Counts {
    /// Reads the output of a run with `--dump-instr=yes`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut names = HashMap::new();
        let mut counts = Self::default();
        let mut functions = HashMap::new();
        let (mut object, mut function, mut at) = ("".into(), "".into(), 0);
        // The line behind `calls=` is the cost of the called functions, at the calling instruction.
        let mut is_inclusive = false;
        for line in text.lines() {
            if line.starts_with("calls=") {
                is_inclusive = true;
            } else if let Some(name) = line.strip_prefix("ob=") {
                object = named(&mut names, name)?;
            } else if let Some(name) = line.strip_prefix("fn=") {
                function = named(&mut functions, name)?;
            } else if let Some(name) = line.strip_prefix("cfn=") {
                named(&mut functions, name)?;
            } else if let Some(name) = line.strip_prefix("cob=") {
                named(&mut names, name)?;
            } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
                let (next, cost) = cost_line(line, at).ok_or_else(|| format!("a strange line: {line}"))?;
                at = next;
                if !std::mem::take(&mut is_inclusive) {
                    let of_object: &mut BTreeMap<u64, Count> =
                        counts.0.entry(object.to_string()).or_default();
                    let count = of_object.entry(at).or_default();
                    count.times += cost;
                    count.function = Rc::clone(&function);
                }
            }
        }
        Ok(counts)
    }
}

/// `(3) NAME` defines a number, `(3)` uses it.
fn named(names: &mut HashMap<String, Rc<str>>, text: &str) -> Result<Rc<str>, String> {
    let Some((number, rest)) = text.split_once(')').filter(|_| text.starts_with('(')) else {
        return Ok(text.into());
    };
    if let Some(name) = rest.strip_prefix(' ') {
        names.insert(number.to_owned(), name.into());
    }
    names.get(number).cloned().ok_or_else(|| format!("a number without a name: {text}"))
}

/// `ADDRESS LINE COST`; the address may be relative to the last one, or `*`: the same.
fn cost_line(line: &str, last: u64) -> Option<(u64, u64)> {
    let mut fields = line.split(' ');
    let address = fields.next()?;
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    let at = match address.split_at(1) {
        ("*", "") => last,
        ("+", distance) => last.checked_add(number(distance)?)?,
        ("-", distance) => last.checked_sub(number(distance)?)?,
        _ => number(address)?,
    };
    // Without events a line costs nothing.
    Some((at, fields.nth(1).map_or(Some(0), number)?))
}

/// Where valgrind mapped the code of each file: file name, addresses, offset in the file. From what it says with `-d`.
pub(super) fn mappings(log: &str) -> Vec<(String, Range<u64>, u64)> {
    // `aspacem (6,253,7) /usr/lib/libc.so.6` names what segments refer to as `(6,253)`.
    let mut names: HashMap<&str, &str> = HashMap::new();
    let mut found = Vec::new();
    for line in log.lines() {
        let Some((_, rest)) = line.split_once(" aspacem ") else { continue };
        let rest = rest.trim_start();
        if let Some((numbers, name)) = rest.strip_prefix('(').and_then(|rest| rest.split_once(") ")) {
            if let Some((key, _)) = numbers.rsplit_once(',') {
                names.insert(key, name);
            }
        } else if let Some(segment) = segment(rest) {
            found.push(segment);
        }
    }
    let named = found.into_iter().filter_map(|(key, range, offset)| {
        let name = names.get(key)?;
        Some(((*name).to_owned(), range, offset))
    });
    let mut named: Vec<_> = named.collect();
    named.sort_by(|a, b| (&a.0, a.1.start).cmp(&(&b.0, b.1.start)));
    named.dedup();
    named
}

/// `22: file 000486b000-00049c0fff 1400832 r-xT- d=0xfe00 i=326279 o=155648 (6,253)`.
fn segment(text: &str) -> Option<(&str, Range<u64>, u64)> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let range = fields.iter().find_map(|field| {
        let (start, end) = field.split_once('-')?;
        let hex = |digits| u64::from_str_radix(digits, 16).ok();
        (start.len() >= 8).then_some(())?;
        Some(hex(start)?..hex(end)?.checked_add(1)?)
    })?;
    let is_code = fields.contains(&"file") && fields.iter().any(|field| field.starts_with("r-x"));
    let offset = fields.iter().find_map(|field| field.strip_prefix("o=")?.parse().ok())?;
    let key = fields.last()?.strip_prefix('(')?.strip_suffix(')')?;
    is_code.then_some((key, range, offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressed_names_and_relative_addresses() {
        let text = "positions: instr line\nevents: Ir\n\nob=(2) /bin/a\nfl=(1) ???\nfn=(1) main\n0x10 0 3\n+4 0 2\n\
                    cob=(3) /lib/b\ncfn=(2) f\ncalls=2 0x50 0\n* 0 100\n-4 0 1\nfn=(2)\nob=(3)\n0x50 0 2\n* 0 5\n";
        let counts = Counts::parse(text).unwrap();
        let of = |object: &str| -> Vec<_> {
            counts.0[object].iter().map(|(at, count)| (*at, count.times, &*count.function)).collect()
        };
        assert_eq!(of("/bin/a"), [(0x10, 4, "main"), (0x14, 2, "main")]);
        assert_eq!(of("/lib/b"), [(0x50, 7, "f")]);
        assert!(Counts::parse("ob=(9)\n").is_err() && Counts::parse("+q 0 1\n").is_err());
    }

    #[test]
    fn where_code_was_mapped() {
        let log = "--1:1: aspacem (6,253,7) /usr/lib/libc.so.6\n--1:1: aspacem  22: file 000486b000-00049c0fff 1400832 \
                   r-xT- d=0xfe00 i=326279  o=155648  (6,253)\n--1:1: aspacem  23: file 0004001000-0004026fff  155648 \
                   r--T- d=0xfe00 i=1  o=0    (6,253)\n";
        let wanted = ("/usr/lib/libc.so.6".to_owned(), 0x486_b000..0x49c_1000, 155_648);
        assert_eq!(mappings(log), [wanted]);
    }
}
