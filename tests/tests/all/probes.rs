//! How the tests name probes.

use std::path::{Path, PathBuf};

use tests::{Process, base_of};

/// `PATH:NAME`.
pub(crate) fn probe(file: &Path, name: &str) -> String {
    format!("{}:{name}", file.display())
}

/// `PATH:0xADDRESS`, the address as `nm` prints it, of a place in a position-independent program.
pub(crate) fn probe_at(target: &Process, file: &Path, runtime: u64) -> String {
    let base = base_of(target.pid(), &file.to_string_lossy()).expect("the program is mapped");
    probe(file, &format!("{:#x}", runtime - base))
}

/// A script of `programs/`.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("programs").join(name)
}

/// Borrowed forms, as the harness takes them.
pub(crate) fn borrowed(probes: &[String]) -> Vec<&str> {
    probes.iter().map(String::as_str).collect()
}
