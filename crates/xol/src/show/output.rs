//! Where results go: standard output or a file. Everything xol says of itself goes to standard error instead.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use console::Term;

use super::json::Line;
use crate::cli::failure::Failure;

/// The results of a command.
pub(crate) struct Output {
    writer: BufWriter<Box<dyn Write>>,
    name: String,
    terminal: Option<Term>,
}

impl Output {
    /// Standard output, or `file`, which is made or emptied now: before the target is touched.
    pub(crate) fn open(file: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = file else {
            let term = Term::stdout();
            let terminal = term.is_term().then_some(term);
            return Ok(Self { terminal, ..Self::to(Box::new(io::stdout()), "standard output") });
        };
        let name = path.display().to_string();
        match File::create(path) {
            Ok(file) => Ok(Self::to(Box::new(file), &name)),
            Err(source) => Err(Failure::Output { to: name, source }),
        }
    }

    /// Any writer.
    pub(crate) fn to(writer: Box<dyn Write>, name: &str) -> Self {
        Self { writer: BufWriter::with_capacity(1 << 16, writer), name: name.into(), terminal: None }
    }

    /// The terminal that results appear on, if they do.
    pub(crate) fn terminal(&self) -> Option<&Term> {
        self.terminal.as_ref()
    }

    /// Columns to fit into: only a terminal has any.
    pub(crate) fn width(&self) -> Option<usize> {
        self.terminal.as_ref().and_then(Term::size_checked).map(|(_, columns)| usize::from(columns))
    }

    /// Whether to use colours: a terminal, and no `NO_COLOR` (no-color.org).
    pub(crate) fn colours(&self) -> bool {
        self.terminal.is_some() && console::colors_enabled()
    }

    /// Writes a line of text.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), Failure> {
        let written = self.writer.write_all(text.as_bytes()).and_then(|()| self.writer.write_all(b"\n"));
        self.check(written)
    }

    /// Writes lines of text.
    pub(crate) fn lines(&mut self, lines: &[String]) -> Result<(), Failure> {
        lines.iter().try_for_each(|line| self.line(line))
    }

    /// Writes a line of JSON.
    pub(crate) fn json(&mut self, line: &Line<'_>) -> Result<(), Failure> {
        let written = serde_json::to_writer(&mut self.writer, line).map_err(io::Error::from);
        let written = written.and_then(|()| self.writer.write_all(b"\n"));
        self.check(written)
    }

    /// Hands everything to the kernel, which is when a full disk or a closed pipe shows.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        let flushed = self.writer.flush();
        self.check(flushed)
    }

    fn check(&self, result: io::Result<()>) -> Result<(), Failure> {
        result.map_err(|source| match source.kind() {
            io::ErrorKind::BrokenPipe => Failure::ClosedPipe,
            _ => Failure::Output { to: self.name.clone(), source },
        })
    }
}

/// What xol says of itself. Standard error that cannot be written to is no reason to leave a target probed.
pub(crate) struct Notes {
    writer: Box<dyn Write>,
    quiet: bool,
}

impl Notes {
    /// Standard error; `quiet` keeps all but warnings back.
    pub(crate) fn new(quiet: bool) -> Self {
        Self { writer: Box::new(io::stderr()), quiet }
    }

    /// Any writer.
    #[cfg(test)]
    pub(crate) fn to(writer: Box<dyn Write>) -> Self {
        Self { writer, quiet: false }
    }

    /// Something that is good to know.
    pub(crate) fn note(&mut self, text: &str) {
        if !self.quiet {
            self.warn(text);
        }
    }

    /// Something that must be known, such as a loss.
    pub(crate) fn warn(&mut self, text: &str) {
        let _ = writeln!(self.writer, "{text}");
    }
}

/// A writer whose contents a test can look at.
#[cfg(test)]
pub(crate) mod capture {
    use std::cell::RefCell;
    use std::io::{self, Write};
    use std::rc::Rc;

    #[derive(Clone, Default)]
    pub(crate) struct Capture(Rc<RefCell<Vec<u8>>>);

    impl Capture {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.borrow().clone()).unwrap()
        }
    }

    impl Write for Capture {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Always fails.
    pub(crate) struct Broken(pub(crate) io::ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::capture::{Broken, Capture};
    use super::*;

    #[test]
    fn lines_arrive_in_order() {
        let capture = Capture::default();
        let mut output = Output::to(Box::new(capture.clone()), "x");
        output.line("one").unwrap();
        output.json(&Line::File { path: "/a", functions: 1 }).unwrap();
        output.flush().unwrap();
        assert_eq!(capture.text(), "one\n{\"type\":\"file\",\"path\":\"/a\",\"functions\":1}\n");
    }

    #[test]
    fn a_closed_pipe_is_told_from_a_full_disk() {
        let failure = |kind| {
            let mut output = Output::to(Box::new(Broken(kind)), "FILE");
            output.line("x").and_then(|()| output.flush()).unwrap_err()
        };
        assert!(matches!(failure(io::ErrorKind::BrokenPipe), Failure::ClosedPipe));
        let full = failure(io::ErrorKind::StorageFull);
        assert!(full.to_string().starts_with("cannot write to FILE: "), "{full}");
        assert_eq!(full.status(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_made_is_named() {
        let Err(failure) = Output::open(Some(Path::new("/nowhere/at/all"))) else { panic!("made it") };
        assert!(failure.to_string().contains("/nowhere/at/all"), "{failure}");
    }
}
