//! Builds what is measured: xol itself, and the programs in `programs/` with gcc.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::error::Error;

/// Builds `target/release/xol` from this source and says where it is.
pub(crate) fn build_xol() -> Result<PathBuf, Error> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    run(Command::new(cargo)
        .args(["build", "--release", "--quiet", "-p", "xol", "--bin", "xol"])
        .current_dir(root()))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Ok(target.join("release/xol"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// A temporary folder for everything that a run makes; gone at its end.
pub(crate) struct Workshop {
    folder: TempDir,
}

impl Workshop {
    /// An empty one.
    pub(crate) fn new() -> Result<Self, Error> {
        let folder = tempfile::Builder::new()
            .prefix("xol-bench")
            .tempdir()
            .map_err(Error::io("making a temporary folder"))?;
        Ok(Self { folder })
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program whose calls are timed.
    pub(crate) fn target(&self) -> Result<PathBuf, Error> {
        self.target_with("target", &[])
    }

    /// The same at a fixed address: no position-independent executable.
    pub(crate) fn fixed_target(&self) -> Result<PathBuf, Error> {
        self.target_with("fixed", &["-no-pie".as_ref()])
    }

    /// The same with the function `traced`, which has a tracepoint of LTTng's compiled in.
    pub(crate) fn traced_target(&self) -> Result<PathBuf, Error> {
        let (source, folder) = (program("lttng.c"), program(""));
        let tracepoint = ["-DTRACED".as_ref(), "-I".as_ref(), folder.as_ref(), source.as_ref()];
        self.target_with("traced", &[&tracepoint[..], &["-llttng-ust".as_ref(), "-ldl".as_ref()]].concat())
    }

    fn target_with(&self, name: &str, more: &[&OsStr]) -> Result<PathBuf, Error> {
        let sources = [program("target.c"), program("functions.S")];
        let mut arguments =
            vec!["-O2".as_ref(), "-pthread".as_ref(), sources[0].as_ref(), sources[1].as_ref()];
        arguments.extend(more);
        self.gcc(name, &arguments)
    }

    /// The program that makes events for a tracer.
    pub(crate) fn attached(&self) -> Result<PathBuf, Error> {
        let source = program("attached.c");
        self.gcc("attached", &["-O2".as_ref(), "-pthread".as_ref(), source.as_ref(), "-ldl".as_ref()])
    }

    /// The Go server; `None` where there is no Go compiler.
    pub(crate) fn server(&self) -> Result<Option<PathBuf>, Error> {
        if Command::new("go").arg("version").stdout(Stdio::null()).status().is_err() {
            return Ok(None);
        }
        let output = self.path("server");
        run(Command::new("go")
            .env("GO111MODULE", "off")
            .env("GOCACHE", self.path("go-cache"))
            .args(["build", "-o"])
            .arg(&output)
            .arg(program("server.go")))?;
        Ok(Some(output))
    }

    /// The host for the library with many functions.
    pub(crate) fn many_host(&self) -> Result<PathBuf, Error> {
        self.gcc("many", &["-O2".as_ref(), program("many.c").as_ref(), "-ldl".as_ref()])
    }

    /// A library with `count` functions, `site_0` and on.
    pub(crate) fn many_library(&self, count: u32) -> Result<PathBuf, Error> {
        let source = self.path("sites.c");
        fs::write(&source, many_source(count)).map_err(Error::io("writing the generated library"))?;
        self.gcc("libsites.so", &["-O1".as_ref(), "-fPIC".as_ref(), "-shared".as_ref(), source.as_ref()])
    }

    fn gcc(&self, name: &str, arguments: &[&OsStr]) -> Result<PathBuf, Error> {
        let output = self.path(name);
        run(Command::new("gcc").args(["-g0", "-Wall", "-Werror"]).args(arguments).arg("-o").arg(&output))?;
        Ok(output)
    }
}

/// A file of `programs/`.
pub(crate) fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("programs").join(name)
}

/// Functions of six shapes, each with constants of its own, and a table of them.
fn many_source(count: u32) -> String {
    let mut text = String::from("#include <stdint.h>\nstatic volatile uint64_t cell;\n");
    for index in 0..count {
        let odd = u64::from(index) * 2 + 3;
        let body = match index % 6 {
            0 => format!("return a * {odd}u + {index}u;"),
            1 => format!("if (a > {odd}u) return a - {index}u; return a ^ {odd}u;"),
            2 => format!("cell = a + {index}u; return cell;"),
            3 => {
                format!("uint64_t s = {index}u; for (uint64_t i = 0; i < (a & 3); i++) s += i * a; return s;")
            }
            4 => format!(
                "switch (a & 3) {{ case 0: return {index}u; case 1: return a; default: return a + {odd}u; }}"
            ),
            _ => format!("return (a << 3) | (a >> {}u);", index % 31 + 1),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "__attribute__((noinline)) uint64_t site_{index}(uint64_t a) {{ {body} }}");
    }
    let _ = writeln!(text, "const uint64_t table_len = {count};\nuint64_t (*const table[])(uint64_t) = {{");
    for index in 0..count {
        let _ = writeln!(text, "    site_{index},");
    }
    text.push_str("};\n");
    text
}

fn run(command: &mut Command) -> Result<(), Error> {
    let shown = format!("{command:?}");
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(Error::io(format!("starting `{}`", command.get_program().display())))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let detail = if stderr.trim().is_empty() { output.status.to_string() } else { stderr.trim().to_owned() };
    Err(Error::Command { command: shown, detail })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{many_source, run};
    use crate::error::Error;

    #[test]
    fn the_generated_library_has_every_function_once() {
        let text = many_source(7);
        for index in 0..7 {
            assert_eq!(text.matches(&format!(" site_{index}(uint64_t")).count(), 1);
            assert_eq!(text.matches(&format!("    site_{index},\n")).count(), 1);
        }
        assert!(!text.contains("site_7"));
        assert!(text.contains("table_len = 7;"));
    }

    #[test]
    fn a_failed_command_shows_what_it_said() {
        let error = run(Command::new("sh").args(["-c", "echo broken >&2; exit 3"])).unwrap_err();
        assert!(matches!(&error, Error::Command { detail, .. } if detail == "broken"), "{error}");
        let error = run(Command::new("sh").args(["-c", "exit 3"])).unwrap_err();
        assert!(error.to_string().contains("exit status: 3"), "{error}");
    }
}
