//! Frida: an agent in the target whose callback is C, compiled in the target (`programs/frida_probe.py`). Its callbacks
//! in JavaScript, the usual way, are several times dearer.

use std::process::Command;

use super::probe::{Armed, Driven, Function, Kind, LIMIT, Setting};
use crate::compile;
use crate::error::Error;
use crate::responder::Responder;
use crate::run;

/// Attaches to a process of its own.
pub(super) fn arm(setting: &Setting, function: Function, kind: Kind) -> Result<Armed, Error> {
    let version = version(setting)?;
    let mut target = Responder::start(&setting.program, &[])?;
    let address = target.address_of(function.name())?;
    let folder = tempfile::Builder::new()
        .prefix("xol-frida")
        .tempdir()
        .map_err(Error::io("making a temporary folder"))?;
    let driver = Responder::spawn(
        Command::new(setting.python)
            .arg(compile::program("frida_probe.py"))
            .env("TMPDIR", folder.path())
            .args([target.pid().to_string(), format!("{address:#x}"), kind.word().to_owned()]),
    )?;
    Ok(Armed { version, probe: Driven::armed(driver, target, Some(folder))? })
}

fn version(setting: &Setting) -> Result<String, Error> {
    let asked = run::output(
        Command::new(setting.python).args(["-c", "import frida; print(frida.__version__)"]),
        LIMIT,
    );
    match asked {
        Ok(version) => Ok(version.trim().to_owned()),
        Err(Error::Command { .. }) => Err(Error::Missing(format!(
            "{} has no module frida (--python names another one)",
            setting.python.display()
        ))),
        Err(error) => Err(error),
    }
}
