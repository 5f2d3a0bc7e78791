//! The long table: every verdict, and the shortest counterexample for every step that is left out.
//!
//!     cargo run --release -p coherence --example verdicts

fn main() {
    print!("{}", coherence::report::markdown(coherence::report::Traces::All));
}
