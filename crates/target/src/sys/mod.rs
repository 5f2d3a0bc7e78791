//! System calls: the trusted base. Each module that allows `unsafe` opens with a `# Safety` chapter.

pub mod affinity;
pub mod clock;
pub mod poll;
pub mod process;
pub mod ptrace;
mod robust;
pub mod shared;
