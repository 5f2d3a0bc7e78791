//! Tests of the crate from outside.

mod goldens;
mod places;
mod plans;
mod properties;
mod slots;
mod targets;
