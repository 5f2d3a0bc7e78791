//! Planning all sites of a module together.

use std::collections::HashMap;

use crate::address::Address;
use crate::code::{Code, Outline};
use crate::isa::Isa;
use crate::plan::{Mechanism, Plan};

/// Everything about a module's code that planning asks for; made once per module, used for every plan.
#[derive(Debug)]
pub struct Analysis<'a> {
    #[allow(dead_code, reason = "placeholder")]
    code: Vec<Code<'a>>,
}

impl<'a> Analysis<'a> {
    /// Sweeps the module: decodes every function once and collects branch targets.
    ///
    /// `progress` is told the number of bytes of code done so far, now and then.
    pub fn new(_isa: Isa, code: &[Code<'a>], _outline: &Outline, _progress: &mut dyn FnMut(u64)) -> Self {
        Self { code: code.to_vec() }
    }

    /// Plans `sites` (any order, duplicates allowed) together. `force` pins the mechanism of some sites.
    #[must_use]
    pub fn plan(&self, _sites: &[Address], _force: &HashMap<Address, Mechanism>) -> Plan {
        Plan::default()
    }
}
