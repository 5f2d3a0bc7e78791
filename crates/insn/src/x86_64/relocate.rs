//! Placeholder.
use crate::address::Address;
use crate::plan::Reason;
use crate::relocate::Moved;

pub(crate) fn relocate(_original: Address, _bytes: &[u8], _at: Address) -> Result<Moved, Reason> {
    Err(Reason::Undecodable)
}
