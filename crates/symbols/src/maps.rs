//! The mappings of a process: `/proc/PID/maps` (proc_pid_maps(5)).

use std::ops::Range;

use insn::Address;

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The addresses.
    pub range: Range<Address>,
    /// `r`
    pub readable: bool,
    /// `w`
    pub writable: bool,
    /// `x`
    pub executable: bool,
    /// `s`: writes reach others; else private, copied on write.
    pub shared: bool,
    /// Where in the file the mapping begins, in bytes.
    pub offset: u64,
    /// The device, major and minor.
    pub device: (u32, u32),
    /// The inode; 0 for memory without a file.
    pub inode: u64,
    /// A file's path, or a name in brackets such as `[stack]`.
    pub path: Option<String>,
    /// The file was unlinked (or replaced) after it was mapped.
    pub deleted: bool,
}

impl Mapping {
    /// Bytes of the file: not the heap, a stack, the vdso or anonymous memory.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.inode != 0 && self.path.as_deref().is_some_and(|path| path.starts_with('/'))
    }

    /// The name in brackets, without them.
    #[must_use]
    pub fn special(&self) -> Option<&str> {
        self.path.as_deref()?.strip_prefix('[')?.strip_suffix(']')
    }

    /// The address at which the mapping shows that byte of its file.
    #[must_use]
    pub fn address_of(&self, offset: u64) -> Option<Address> {
        let inside = offset.checked_sub(self.offset)?;
        (inside < self.range.end - self.range.start).then(|| self.range.start + inside)
    }
}

/// Reads the whole file. A line that is not understood is left out: the kernel may add kinds of lines.
#[must_use]
pub fn parse(text: &[u8]) -> Vec<Mapping> {
    text.split(|byte| *byte == b'\n').filter_map(line).collect()
}

/// The mapping that `address` lies in.
#[must_use]
pub fn mapping_of(mappings: &[Mapping], address: Address) -> Option<&Mapping> {
    mappings.iter().find(|mapping| mapping.range.contains(&address))
}

fn line(line: &[u8]) -> Option<Mapping> {
    // Five fields in ASCII; then padding and the path, which may hold anything but a newline.
    let mut fields = Fields(line);
    let (start, end) = fields.next()?.split_once('-')?;
    let permissions = fields.next()?.as_bytes();
    let offset = hexadecimal(fields.next()?)?;
    let (major, minor) = fields.next()?.split_once(':')?;
    let inode = fields.next()?.parse().ok()?;
    let flag = |index: usize, letter: u8| permissions.get(index) == Some(&letter);
    let range = Address(hexadecimal(start)?)..Address(hexadecimal(end)?);
    let (path, deleted) = path(fields.0.trim_ascii_start());
    (range.start <= range.end).then_some(Mapping {
        range,
        readable: flag(0, b'r'),
        writable: flag(1, b'w'),
        executable: flag(2, b'x'),
        shared: flag(3, b's'),
        offset,
        device: (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?),
        inode,
        path,
        deleted,
    })
}

/// The rest of a line, given out field by field.
struct Fields<'l>(&'l [u8]);

impl<'l> Fields<'l> {
    fn next(&mut self) -> Option<&'l str> {
        let text = self.0.trim_ascii_start();
        let end = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
        let (field, rest) = text.split_at_checked(end)?;
        self.0 = rest;
        std::str::from_utf8(field).ok().filter(|field| !field.is_empty())
    }
}

fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

/// The kernel writes a newline in a path as `\012` and marks an unlinked file behind its name. It leaves a backslash as it is,
/// so a file whose real name holds the four characters `\012` cannot be told apart.
fn path(text: &[u8]) -> (Option<String>, bool) {
    if text.is_empty() {
        return (None, false);
    }
    let text = String::from_utf8_lossy(text);
    let (path, deleted) = match text.strip_suffix(" (deleted)") {
        Some(path) => (path, true),
        None => (text.as_ref(), false),
    };
    (Some(path.replace("\\012", "\n")), deleted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(text: &str) -> Mapping {
        let mappings = parse(text.as_bytes());
        assert_eq!(mappings.len(), 1, "{text}");
        mappings.into_iter().next().unwrap()
    }

    #[test]
    fn a_line_has_all_its_fields() {
        let text = "7f1c00000000-7f1c00021000 r-xp 00028000 fe:01 1234 /usr/lib/libc.so.6\n";
        let mapping = one(text);
        assert_eq!(mapping.range, Address(0x7f1c_0000_0000)..Address(0x7f1c_0002_1000));
        assert!(mapping.readable && !mapping.writable && mapping.executable && !mapping.shared);
        assert_eq!((mapping.offset, mapping.device, mapping.inode), (0x28000, (0xfe, 1), 1234));
        assert_eq!(mapping.path.as_deref(), Some("/usr/lib/libc.so.6"));
        assert!(mapping.is_file() && !mapping.deleted);
        assert_eq!(mapping.address_of(0x28010), Some(Address(0x7f1c_0000_0010)));
        assert_eq!((mapping.address_of(0x27fff), mapping.address_of(0x49000)), (None, None));
    }

    #[test]
    fn odd_paths() {
        let with = |path: &str| one(&format!("1000-2000 rw-s 00000000 00:01 7   {path}"));
        assert_eq!(with("/tmp/a b  c").path.as_deref(), Some("/tmp/a b  c"));
        assert_eq!(with("/tmp/a\\012b").path.as_deref(), Some("/tmp/a\nb"));
        let gone = with("/memfd:xol (deleted)");
        assert_eq!((gone.path.as_deref(), gone.deleted, gone.shared), (Some("/memfd:xol"), true, true));
        assert_eq!(with("[heap]").special(), Some("heap"));
        assert_eq!(one("1000-2000 ---p 00000000 00:00 0 ").path, None);
        assert_eq!(
            parse(b"1000-2000 r--p 0 00:00 5 /\xff\xfe")[0].path.as_deref(),
            Some("/\u{fffd}\u{fffd}")
        );
    }

    #[test]
    fn lines_that_make_no_sense_are_left_out() {
        for text in
            ["", "x", "1000 r-xp 0 0:0 0", "2000-1000 r-xp 0 0:0 0", "1-g r 0 0:0 0", "1-2 r-xp 0 00 0"]
        {
            assert!(parse(text.as_bytes()).is_empty(), "{text}");
        }
    }

    #[test]
    fn our_own_maps_hold_our_own_code() {
        let text = std::fs::read("/proc/self/maps").unwrap();
        let mappings = parse(&text);
        assert_eq!(mappings.len(), text.iter().filter(|byte| **byte == b'\n').count());
        let here = Address(our_own_maps_hold_our_own_code as fn() as usize as u64);
        let own = mapping_of(&mappings, here).unwrap();
        assert!(own.executable && own.is_file());
        assert_eq!(own.path.as_deref().map(Into::into), std::env::current_exe().ok());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_line_is_read(text in "[0-9a-f]{0,17}-[0-9a-f]{0,17} [rwxps-]{0,5} [0-9a-f]{1,17} .{0,20}") {
            let _ = parse(text.as_bytes());
        }
    }
}
