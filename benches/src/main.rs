//! `cargo run --release -p xol-bench`: what a hit costs, what it takes to probe
//! 10,000 functions at once, and what being attached costs without a hit.
//!
//! Everything is measured in one run on one machine, so that the ratios mean something: the bare call, a hand-written
//! stub as the floor, xol's count, xol's traced event, and (where root allows) the kernel's uprobe on the same
//! functions; then the other tools that are installed. Times are CPU time of the measured thread. Nothing here is a test:
//! a slow machine fails nothing. Wrong counts of xol's do.

mod attached;
mod compile;
mod cost;
mod error;
mod many;
mod peers;
mod responder;
mod run;
mod session;
mod stats;
mod sys;
mod threads;
mod uprobe;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use crate::compile::Workshop;
use crate::error::Error;
use crate::session::Xol;

/// What a hit costs, and what 10,000 sites cost.
#[derive(Parser)]
#[command(name = "xol-bench")]
struct Arguments {
    /// Rounds of the cost table; each figure is the median over them
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u32).range(9..))]
    rounds: u32,
    /// Rounds of the run with many sites
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    many_rounds: u32,
    /// How many functions the library with many sites has
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    sites: u32,
    /// Do one part only
    #[arg(long)]
    only: Option<Part>,
    /// The Python that has Frida
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// The xol to measure, instead of the one built from this source
    #[arg(long)]
    xol: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The cost of a hit.
    Cost,
    /// Several threads that hit one probe.
    Threads,
    /// Many sites at once.
    Many,
    /// Being attached, no probe hit.
    Attached,
    /// Other tools beside xol, those that are installed.
    Peers,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xol-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Error> {
    let workshop = Workshop::new()?;
    let xol = Xol::new(match &arguments.xol {
        Some(path) => path.clone(),
        None => compile::build_xol()?,
    });
    println!("{}\n", stats::machine());
    let wanted = |part| arguments.only.is_none_or(|only| only == part);
    // Each part is shown even if one before it fails.
    let cost = if wanted(Part::Cost) { cost::run(&workshop, &xol, arguments.rounds) } else { Ok(()) };
    let threads =
        if wanted(Part::Threads) { threads::run(&workshop, &xol, arguments.rounds) } else { Ok(()) };
    let many = if wanted(Part::Many) {
        many::run(&workshop, &xol, arguments.sites, arguments.many_rounds)
    } else {
        Ok(())
    };
    let attached =
        if wanted(Part::Attached) { attached::run(&workshop, &xol, arguments.rounds) } else { Ok(()) };
    let peers = if wanted(Part::Peers) {
        peers::run(&workshop, &xol, &arguments.python, arguments.rounds)
    } else {
        Ok(())
    };
    cost.and(threads).and(many).and(attached).and(peers)
}
