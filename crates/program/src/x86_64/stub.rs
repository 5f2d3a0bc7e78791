//! Placeholder.
use insn::Address;
use insn::plan::{Patch, Reason};
use crate::stub::{Action, Environment, Routines, Stub};
pub(crate) fn assemble(_e: &Environment, _r: &Routines, _p: &Patch, _a: &dyn Fn(Address) -> Vec<Action>, _at: Address) -> Result<Stub, Reason> {
    Err(Reason::Undecodable)
}
