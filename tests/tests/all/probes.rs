//! How the tests name probes.

use std::path::{Path, PathBuf};

use tests::{Process, Session, Watch, base_of, wait_for};

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

/// A `stat` session of a process that is so busy, on a machine that is so busy, that it may not be stopped in time: xol says so
/// then, has changed nothing, and is asked again.
pub(crate) fn armed_in_time(probes: &[&str], watch: &Watch, pid: u32) -> Session {
    for _ in 0..20 {
        let mut session = Session::stat(probes, pid);
        let is_armed = wait_for("the probes", || {
            let ended = session.process.ended().is_some();
            (ended || watch.is_armed()).then_some(!ended)
        });
        if is_armed {
            return session;
        }
        let errors = session.errors();
        assert!(errors.contains("did not stop within"), "{errors}");
        println!("again, since: {errors}");
    }
    panic!("the target could not be stopped in twenty attempts");
}
