//! Placeholder.
use insn::Address;
use crate::stub::{Environment, Routines};
pub(crate) fn assemble(_environment: &Environment, at: Address) -> Routines {
    Routines { at, bytes: Vec::new(), event: 0, asks: Vec::new(), recoveries: Vec::new() }
}
