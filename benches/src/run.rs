//! Commands with a limit on how long they may take.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Error;

/// How often we look.
const INTERVAL: Duration = Duration::from_millis(5);

/// What a command writes to its standard output, a pipe's worth (64 KiB) at most; its standard error is the reason if it
/// fails. It is killed after `limit`.
pub(crate) fn output(command: &mut Command, limit: Duration) -> Result<String, Error> {
    let name = command.get_program().display().to_string();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::io(format!("starting {name}")))?;
    let status = wait(&mut child, limit, &format!("the end of {name}"))?;
    let (mut said, mut complaint) = (String::new(), String::new());
    if let (Some(stdout), Some(stderr)) = (&mut child.stdout, &mut child.stderr) {
        stdout.read_to_string(&mut said).map_err(Error::io(format!("reading from {name}")))?;
        stderr.read_to_string(&mut complaint).map_err(Error::io(format!("reading from {name}")))?;
    }
    match status.success() {
        true => Ok(said),
        false => Err(Error::Command { command: name, detail: format!("{status}: {}", complaint.trim()) }),
    }
}

/// Waits until a child has ended; kills it after `limit`.
pub(crate) fn wait(child: &mut Child, limit: Duration, what: &str) -> Result<ExitStatus, Error> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(Error::io("waiting for a child"))? {
            return Ok(status);
        }
        if started.elapsed() > limit {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Error::Deadline { what: what.to_owned(), limit });
        }
        thread::sleep(INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::output;
    use crate::error::Error;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_command_says_something_or_why_it_failed() {
        assert_eq!(output(Command::new("echo").arg("hello"), LONG).unwrap(), "hello\n");
        let error = output(Command::new("sh").args(["-c", "echo broken >&2; exit 3"]), LONG).unwrap_err();
        assert!(error.to_string().contains("exit status: 3: broken"), "{error}");
    }

    #[test]
    fn a_command_that_takes_too_long_is_killed() {
        let error = output(Command::new("sleep").arg("600"), Duration::ZERO).unwrap_err();
        assert!(matches!(error, Error::Deadline { .. }), "{error}");
    }
}
