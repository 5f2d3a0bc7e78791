//! Placeholder.
use crate::address::Address;

pub(crate) fn branch_target(
    _at: Address,
    _bytes: &[u8],
    _registers: &[u8],
    _read: &mut dyn FnMut(Address, &mut [u8]) -> bool,
) -> Option<(Address, Address)> {
    None
}
