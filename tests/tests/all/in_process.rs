//! Sessions in the test's own process, through the library.

use tests::wait_for;

use target::TargetError;
use xol::session::{Action, Error, Nobody, Options, Session, Target};

/// Changes something, again if a thread had no processor within the deadline of the stop: nothing was changed then.
pub(crate) fn change<T>(what: &str, mut attempt: impl FnMut() -> Result<T, Error>) -> T {
    wait_for(what, || match attempt() {
        Ok(value) => Some(value),
        Err(Error::Target(TargetError::DidNotStop { .. })) => None,
        Err(error) => panic!("{what}: {error}"),
    })
}

/// A session on a running process.
pub(crate) fn open(pid: u32, specs: &[String], action: Action) -> Session {
    let options = || Options {
        target: Target::Attach(vec![pid]),
        specs: specs.to_vec(),
        action,
        follow: false,
        inject_freely: false,
        max_rate: None,
    };
    change("a session", || Session::start(options(), &mut Nobody))
}
