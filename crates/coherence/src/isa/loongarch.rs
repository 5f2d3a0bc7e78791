//! loongarch.
//!
//! Hardware keeps instruction lines coherent with stores; `ibar 0` drops what a CPU fetched ahead, and so does the return
//! from an exception (the latter from memory of the manual).

use crate::cache::{Caches, Completes, Effect, Finds, Index, Operation, Scope};
use crate::cite::Citation;
use crate::{Description, Variant};

use super::common::{PROTECT_OPERATION, SNOOPING, instruction, snooping};

pub(crate) static DESCRIPTION: Description = Description {
    name: "loongarch",
    isas: &["loongarch64"],
    variants: &[Variant {
        name: "coherent",
        what: "all",
        caches: CACHES,
        operations: OPERATIONS,
        procedures: SNOOPING,
    }],
};

const STORAGE: Citation =
    Citation::Kernel { path: "arch/loongarch/include/asm/cacheflush.h", symbol: "local_flush_icache_range" };
const SERIALIZATION: Citation =
    Citation::Manual { title: "LoongArch Reference Manual vol. 1", section: "IBAR" };

const CACHES: Caches = snooping(
    Index::Virtual,
    &[STORAGE],
    &[STORAGE, SERIALIZATION],
    "`ertn` drops what was fetched ahead (from memory)",
    &[SERIALIZATION],
);

const OPERATIONS: &[Operation] = &[
    instruction(
        "ibar 0",
        &[Effect::DropPrefetched],
        Scope::ThisCpu,
        Finds::Everything,
        Completes::AtOnce,
        "each CPU for itself; membarrier SYNC_CORE does not exist here",
        &[SERIALIZATION],
    ),
    PROTECT_OPERATION,
];
