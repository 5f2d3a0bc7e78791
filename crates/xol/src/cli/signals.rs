//! SIGINT, SIGTERM and SIGHUP: the first asks the session to end, the second ends xol at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use symbols::status::Status;

use super::failure::Failure;

/// Whether somebody wants the session to end. Clones share the answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct StopRequest(Arc<AtomicBool>);

impl StopRequest {
    /// Watches the signals for the rest of the process's life.
    ///
    /// A signal that xol was started with as ignored (`nohup`) stays ignored. When a second signal ends xol, the
    /// holder of the target notices and removes the probes.
    pub(crate) fn on_signals() -> Result<Self, Failure> {
        let stop = Self::default();
        let status = Status::parse(&std::fs::read("/proc/self/status").unwrap_or_default());
        let ignored = status.ignored.unwrap_or_default();
        for (signal, name) in [(SIGINT, "SIGINT"), (SIGTERM, "SIGTERM"), (SIGHUP, "SIGHUP")] {
            if !ignored.contains(signal.cast_unsigned()) {
                stop.watch(signal).map_err(|source| Failure::Signal { signal: name, source })?;
            }
        }
        Ok(stop)
    }

    /// Whether the first signal has come.
    pub(crate) fn requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The order of the two actions matters: the first runs first, so it sees the flag of an *earlier* signal.
    fn watch(&self, signal: i32) -> io::Result<()> {
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&self.0))?;
        flag::register(signal, Arc::clone(&self.0))?;
        Ok(())
    }

    /// As if a signal had come.
    #[cfg(test)]
    pub(crate) fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use signal_hook::low_level::raise;

    /// In a process of its own, since a second signal would end it: `cargo test` runs this test's executable once more.
    #[test]
    fn the_first_signal_asks_and_the_second_ends() {
        const AGAIN: &str = "XOL_TEST_SIGNALS";
        if std::env::var_os(AGAIN).is_some() {
            let stop = StopRequest::on_signals().unwrap();
            assert!(!stop.requested());
            raise(SIGTERM).unwrap();
            assert!(stop.requested());
            println!("asked");
            raise(SIGINT).unwrap();
            println!("still here");
            return;
        }
        let path = concat!(module_path!(), "::the_first_signal_asks_and_the_second_ends");
        let (_, name) = path.split_once("::").unwrap();
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        let output = command.args([name, "--exact", "--nocapture"]).env(AGAIN, "1").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(128 + SIGINT), "{text}");
        assert!(text.contains("asked") && !text.contains("still here"), "{text}");
    }
}
