//! What all tools have in common: a probe, armed in a process of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::compile::Workshop;
use crate::error::Error;
use crate::responder::Responder;
use crate::session::Xol;

/// How long a tool's own commands may take, and its arming.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// What there is to probe with.
pub(super) struct Setting<'a> {
    pub workshop: &'a Workshop,
    pub xol: &'a Xol,
    /// The measured program.
    pub program: PathBuf,
    /// The Python that has Frida.
    pub python: &'a Path,
}

/// What is done at a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// A number goes up.
    Count,
    /// A record is written, with the time unless the tool does without.
    Event,
}

/// The probed function: the 8 bytes of `lea`, which begin with an instruction too short for a jump, or `nop5`, for tools that
/// need five bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Function {
    Lea,
    Nop5,
}

/// A probe that is armed. Dropped, it takes its processes with it.
pub(super) trait Probe {
    /// The process to measure.
    fn target(&mut self) -> &mut Responder;

    /// Its function, where that is a copy of the one that others probe.
    fn function(&self) -> Option<&'static str> {
        None
    }

    /// Waits, after `hits` hits in all, until there is room for another burst.
    fn settle(&mut self, hits: u64) -> Result<(), Error> {
        let _ = hits;
        Ok(())
    }

    /// Ends it after `hits` hits: how many of them the tool knows of.
    fn finish(self: Box<Self>, hits: u64) -> Result<u64, Error>;
}

/// An armed probe and the version of what armed it.
pub(super) struct Armed {
    pub version: String,
    pub probe: Box<dyn Probe>,
}

impl Kind {
    /// As the tools' drivers are told.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Event => "event",
        }
    }
}

impl Function {
    /// As the measured program knows it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Lea => "lea",
            Self::Nop5 => "nop5",
        }
    }
}

/// A tool that a program of ours drives: that says `armed` or why not, then to each line how many hits there were, and ends with
/// its input.
pub(super) struct Driven {
    // In this order: each needs the next.
    driver: Responder,
    target: Responder,
    _folder: Option<TempDir>,
}

impl Driven {
    /// Waits until the driver has armed its probe of the target. What they write to a folder goes with them.
    pub(super) fn armed(
        mut driver: Responder,
        target: Responder,
        folder: Option<TempDir>,
    ) -> Result<Box<dyn Probe>, Error> {
        match driver.hear("the word that a probe is armed", LIMIT)? {
            word if word == "armed" => Ok(Box::new(Self { driver, target, _folder: folder })),
            said => Err(Error::Missing(said)),
        }
    }
}

impl Probe for Driven {
    fn target(&mut self) -> &mut Responder {
        &mut self.target
    }

    fn finish(mut self: Box<Self>, _: u64) -> Result<u64, Error> {
        let [hits] = self.driver.ask_numbers("hits")?;
        // It takes its probe out while there is a program yet.
        self.driver.close()?;
        Ok(hits)
    }
}

/// The version in the first line of what a program says to `--version`: the first word that has the form of one.
pub(super) fn version(text: &str) -> String {
    let is_version = |word: &&str| {
        let digits = word.trim_start_matches('v');
        digits.starts_with(|first: char| first.is_ascii_digit())
            && digits.contains('.')
            && !digits.contains(')')
    };
    let line = text.lines().next().unwrap_or_default();
    let found = line.split_whitespace().find(is_version).unwrap_or("of unknown version");
    found.trim_start_matches('v').to_owned()
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn versions_are_found_where_programs_put_them() {
        assert_eq!(version("uftrace v0.13 ( x86_64 dwarf python3 )\n"), "0.13");
        assert_eq!(version("GNU gdbserver (Debian 13.1-3) 13.1\nCopyright 2023"), "13.1");
        assert_eq!(version("17.26.2\n"), "17.26.2");
        assert_eq!(version(""), "of unknown version");
    }
}
