//! Cross compilers and binutils.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles and links; `None`, with a line that says so, where the target's compiler is not installed.
pub(crate) fn compile(target: &str, arguments: &[&str], files: &[PathBuf], into: &Path) -> Option<()> {
    let mut command = Command::new(format!("{target}-gcc"));
    run(command.args(arguments).arg("-o").arg(into).args(files), &format!("gcc-{target}")).map(drop)
}

/// What the target's disassembler prints of a file, zeros included; `None`, with a line that says so, where it is not installed.
pub(crate) fn objdump(target: &str, arguments: &[&str], file: &Path) -> Option<String> {
    let mut command = Command::new(format!("{target}-objdump"));
    run(command.arg("-z").args(arguments).arg(file), &format!("binutils-{target}"))
}

fn run(command: &mut Command, package: &str) -> Option<String> {
    match command.output() {
        Ok(run) if run.status.success() => Some(String::from_utf8(run.stdout).unwrap()),
        Ok(run) => panic!("{}", String::from_utf8_lossy(&run.stderr)),
        Err(error) => {
            println!("skipped: no {} (Debian: {package}): {error}", command.get_program().display());
            None
        }
    }
}
