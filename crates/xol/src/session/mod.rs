//! Sessions: from probe specifications and a target to counts and events, and back to the original text.
//!
//! [`Session::start`] resolves what was asked and touches nothing until that is known to mean something; then the holder
//! attaches, `arm` plans and installs, `events` reads, `finish` takes everything out. Whenever the program's mappings
//! change (the loader's breakpoint tells) `arm` runs again with what is mapped then.

mod arm;
mod binary;
mod events;
mod finish;
mod install;
mod modules;
mod pace;
mod rows;
mod start;
mod traced;
mod types;

pub use events::Nobody;
pub(crate) use install::{differs, unfit_mapping};
pub(crate) use modules::View;
pub(crate) use rows::implementation;
pub use start::Session;
pub(crate) use start::check_kind;
pub use types::{
    Action, Error, Hit, LostBy, Mechanism, Options, Progress, SiteStatus, State, Summary, Target,
};
