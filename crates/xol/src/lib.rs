//! Sessions, and what the `xol` command knows besides them: the files a name means, how a site would be probed, what
//! this machine allows.

pub mod catalogue;
pub mod doctor;
pub mod explain;
pub mod files;
mod mapped;
pub mod remote;
pub mod room;
pub mod session;
