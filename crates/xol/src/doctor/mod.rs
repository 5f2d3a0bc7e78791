//! What this machine allows, and what is left over in a process.
//!
//! [`facts`] reads files, [`findings`] judges their text, [`verdict`] says it in a sentence.

mod facts;
mod findings;
mod parse;
mod verdict;

pub use facts::{AreaFacts, Attempt, Facts, ProcessFacts};
pub use findings::{Finding, examine};
pub use verdict::verdict;
