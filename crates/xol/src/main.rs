//! The `xol` command.

mod cli;
mod show;

fn main() -> std::process::ExitCode {
    cli::dispatch::main()
}
