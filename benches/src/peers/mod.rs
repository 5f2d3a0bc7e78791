//! What a hit costs by other tools, those that are installed, beside xol in the same run. One file a tool; all probe the
//! entry of a function of the measured program, and none needs to be installed: what is not is skipped, with the reason.

mod frida;
mod gdb;
mod kernel;
mod lttng;
mod measure;
mod ours;
mod probe;
mod uftrace;

pub(crate) use measure::run;
