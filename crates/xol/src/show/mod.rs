//! What the user sees: tables, lines, JSON, errors.

pub(crate) mod coherence;
pub(crate) mod doctor;
pub(crate) mod error;
pub(crate) mod explain;
pub(crate) mod flood;
pub(crate) mod hit_line;
pub(crate) mod json;
pub(crate) mod name;
pub(crate) mod number;
pub(crate) mod output;
pub(crate) mod progress;
pub(crate) mod screen;
pub(crate) mod stat_table;
pub(crate) mod summary;
pub(crate) mod survey;
