//! From arguments to exit status: one file a command.

pub(crate) mod args;
pub(crate) mod coherence;
mod detach;
pub(crate) mod dispatch;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod failure;
pub(crate) mod list;
pub(crate) mod live;
pub(crate) mod session;
pub(crate) mod signals;
pub(crate) mod stat;
pub(crate) mod trace;
pub(crate) mod version;
