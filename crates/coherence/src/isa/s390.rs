//! s390.
//!
//! Hardware keeps instruction fetch and stores coherent; what was fetched ahead is dropped by serialisation, which every
//! interruption and every return from one includes. (The serialisation rules are stated here from memory of the
//! manual.)

use crate::cache::{Caches, Completes, Effect, Finds, Index, Operation, Scope};
use crate::cite::Citation;
use crate::{Description, Variant};

use super::common::{PROTECT_OPERATION, SNOOPING, instruction, snooping};

pub(crate) static DESCRIPTION: Description = Description {
    name: "s390",
    isas: &["s390x"],
    variants: &[Variant {
        name: "coherent",
        what: "all",
        caches: CACHES,
        operations: OPERATIONS,
        procedures: SNOOPING,
    }],
};

const STORAGE: Citation =
    Citation::Manual { title: "z/Architecture Principles of Operation", section: "Conceptual Sequence" };
const SERIALIZATION: Citation =
    Citation::Manual { title: "z/Architecture Principles of Operation", section: "CPU Serialization" };

const CACHES: Caches = snooping(
    Index::Physical,
    &[STORAGE],
    &[STORAGE, SERIALIZATION],
    "the new PSW is loaded, which serialises",
    &[SERIALIZATION],
);

const OPERATIONS: &[Operation] = &[
    instruction(
        "bcr 15,0",
        &[Effect::DropPrefetched],
        Scope::ThisCpu,
        Finds::Everything,
        Completes::AtOnce,
        "each CPU for itself; `bcr 14,0` where the machine has fast serialisation",
        &[SERIALIZATION],
    ),
    PROTECT_OPERATION,
];
