//! Real processes under xol. One binary, one module for each part of what must hold.

mod kinds;
