//! Who holds the target: the holder process (the ptracer) and the front's end of the line to it.
//!
//! The holder is one thread in one loop: it waits for the target's events and the front's requests and never reads
//! symbols, compiles, prints or blocks on anything else. Each side watches the other: when the front is gone the holder
//! takes the probes out, detaches and ends; when the holder is gone the front does (see [`crate::recover`]).

mod client;
mod line;
mod messages;
mod serve;

pub use client::Client;
pub use messages::{Attached, Manner, Newborn, News, Origin, Reply, Request, Space, Status};
