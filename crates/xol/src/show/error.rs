//! The one place where errors become text.

use std::error::Error;

use console::style;

use crate::cli::failure::Failure;

/// `error: ...` with its causes, then a `help:` line if something can be done.
pub(crate) fn render(failure: &Failure, colours: bool) -> String {
    let label = |text| style(text).bold().force_styling(colours);
    let mut text = format!("{} {}", label("error:").red(), with_causes(failure));
    if let Some(help) = failure.help() {
        text.push_str(&format!("\n{} {help}", label("help:").cyan()));
    }
    text
}

/// The message and those of its causes that it does not contain itself.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_then_help() {
        let text = render(&Failure::NotRestored, false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "error: the program's text could not be restored");
        assert!(lines[1].starts_with("help: restart the program"));
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn a_cause_is_said_once() {
        let source = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let text = render(&Failure::Output { to: "f".into(), source }, false);
        assert_eq!(text, "error: cannot write to f: permission denied");
    }

    #[test]
    fn colours_only_when_asked_for() {
        let failure = Failure::NotAvailable("lat".into());
        assert!(!render(&failure, false).contains('\x1b'));
        assert!(render(&failure, true).contains('\x1b'));
    }
}
