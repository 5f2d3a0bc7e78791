//! Where a statement about a machine or the kernel can be looked up.

use std::fmt;

use serde::Serialize;

/// A source. Sections are named by their titles, since their numbers change with each edition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Citation {
    /// An architecture's manual.
    Manual {
        /// Short title with the volume.
        title: &'static str,
        /// Title of the section.
        section: &'static str,
    },
    /// The Linux kernel's source.
    Kernel {
        /// The file.
        path: &'static str,
        /// The function, macro or heading in it.
        symbol: &'static str,
    },
    /// A public discussion.
    Discussion {
        /// Its subject line and place.
        title: &'static str,
    },
}

impl fmt::Display for Citation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manual { title, section } => write!(f, "{title}, \"{section}\""),
            Self::Kernel { path, symbol } => write!(f, "Linux {path}: {symbol}"),
            Self::Discussion { title } => write!(f, "{title}"),
        }
    }
}
