//! How is a debugger's stub spoken to?
//!
//! The client's side of the GDB remote serial protocol (GDB manual, appendix "Remote Serial Protocol"), in all-stop mode:
//!
//! * [`packet`] frames, escapes and expands bytes; [`link`] is the lines they go over; [`connection`] speaks packets over a line;
//! * [`client`] is what others build on: a [`Client`] asks for memory, registers, threads and files, and lets threads go on;
//! * [`stop`] is what a stopped target says of itself; [`description`] which registers it has, and where they belong in the
//!   kernel's `NT_PRSTATUS` set.
//!
//! Whatever a remote says is checked: it may lie, hang, close or never end, and gives an error then, soon. Every read has a
//! deadline, every reply a longest length.
#![forbid(unsafe_code)]

pub mod client;
pub mod connection;
pub mod description;
pub mod error;
mod fixed;
pub mod link;
pub mod packet;
pub mod stop;

pub use client::Client;
pub use description::Description;
pub use error::RemoteError;
pub use link::{Endpoint, Link, Stream};
pub use stop::{Cause, Signal, Stop, ThreadId};
