//! The runs of a case: plain, under xol, under callgrind. All in one environment, without address space randomisation.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::cases::Case;
use crate::process::wait_within;
use crate::{Process, which, xol_binary};

/// How long one run may take.
const LIMIT: Duration = Duration::from_secs(3 * 3600);

/// How long somebody may hold the pipe for its errors after it has ended.
const LAST_WORDS: Duration = Duration::from_secs(60);

/// What valgrind loads into every program: the other runs load it too, so that all do the same.
const PRELOADED: &str = "/usr/libexec/valgrind/vgpreload_core-amd64-linux.so";

/// What valgrind's processor lacks (it has AVX2 at most) glibc is not to use in any run. Where its string functions change their
/// way depends on the processor's caches, and valgrind's has others. Without rseq the kernel writes no CPU's number into the
/// thread's memory.
const TUNABLES: &str = "glibc.cpu.hwcaps=-AVX512F,-AVX512BW,-AVX512CD,-AVX512DQ,-AVX512ER,-AVX512PF,-AVX512VL:\
                        glibc.cpu.x86_rep_movsb_threshold=4096:glibc.cpu.x86_rep_stosb_threshold=4096:glibc.cpu.\
                        x86_non_temporal_threshold=67108864:glibc.pthread.rseq=0";

/// Folder of what the runs write, in the case's: a program that lists the folder it runs in always finds the same there.
const RESULTS: &str = "results";

/// A case in its folder.
#[derive(Clone, Copy, Debug)]
pub(super) struct Runs<'a> {
    pub(super) case: &'a Case,
    pub(super) folder: &'a Path,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) status: ExitStatus,
    pub(super) output: Vec<u8>,
    pub(super) errors: String,
    pub(super) time: Duration,
}

impl Outcome {
    /// The same for whoever uses the program: what it writes, and how it ends.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        (self.status, &self.output) == (other.status, &other.output)
    }
}

impl<'a> Runs<'a> {
    pub(super) fn new(case: &'a Case, folder: &'a Path) -> Result<Self, String> {
        let results = folder.join(RESULTS);
        fs::create_dir(&results).map_err(|error| format!("{}: {error}", results.display()))?;
        Ok(Self { case, folder })
    }

    /// A file that is no part of the program's run.
    pub(super) fn result(&self, name: &str) -> PathBuf {
        self.folder.join(RESULTS).join(name)
    }

    /// The program as it is.
    pub(super) fn plain(&self) -> Result<Outcome, String> {
        self.run("plain", &mut self.plain_command())
    }

    pub(super) fn plain_command(&self) -> Command {
        self.command(self.preload(true), &[])
    }

    /// Under `xol stat` with a probe at each instruction of each module. Gives the outcome and the JSON lines.
    pub(super) fn probed(&self) -> Result<(Outcome, String), String> {
        let probes: Vec<_> = self.case.modules.iter().map(|module| every_instruction(module)).collect();
        self.with_probes(&probes)
    }

    /// The same with these probes.
    pub(super) fn with_probes(&self, probes: &[String]) -> Result<(Outcome, String), String> {
        let json = self.result("probed.json");
        let mut xol: Vec<OsString> = vec![xol_binary().into(), "stat".into(), "--json".into(), "-o".into()];
        xol.push(json.clone().into());
        xol.extend(probes.iter().map(OsString::from));
        let mut preload = self.preload(true);
        if self.case.preload.is_some() {
            // What changes the program must not change xol: it is loaded into what env executes.
            xol.extend(["--follow", "--", "/usr/bin/env"].map(OsString::from));
            xol.extend(preload.take());
        } else {
            xol.push("--".into());
        }
        let outcome = self.run("probed", &mut self.command(preload, &xol))?;
        let text = fs::read_to_string(&json)
            .map_err(|error| format!("{}: {error}\n{}", json.display(), outcome.errors))?;
        let _ = fs::remove_file(&json);
        Ok((outcome, text))
    }

    /// Under callgrind. Gives the outcome, with what valgrind says of itself among the errors, and callgrind's output.
    pub(super) fn counted(&self) -> Result<(Outcome, String), String> {
        let out = self.result("callgrind.out");
        let mut valgrind: Vec<OsString> = vec![valgrind().ok_or("no valgrind on this machine")?.into()];
        let options = [
            "--tool=callgrind",
            "--dump-instr=yes",
            // Else entries of PLTs are part of no function, and what valgrind's preloaded object frees at the end counts.
            "--skip-plt=no",
            "--run-libc-freeres=no",
            "--run-cxx-freeres=no",
            "--vgdb=no",
            "-d",
        ];
        valgrind.extend(options.map(OsString::from));
        valgrind.push(format!("--callgrind-out-file={}", out.display()).into());
        let outcome = self.run("counted", &mut self.command(self.preload(false), &valgrind))?;
        let counts = fs::read(&out).map_err(|error| format!("{}: {error}", out.display()))?;
        Ok((outcome, String::from_utf8_lossy(&counts).into_owned()))
    }

    /// The command line of a run: `setarch -R env -i NAME=VALUE... WRAPPER... COMMAND...`. The order of the environment is the
    /// same in all: what is preloaded comes last, where valgrind appends it.
    fn command(&self, preload: Option<OsString>, wrapper: &[OsString]) -> Command {
        let mut command = Command::new("setarch");
        command.args(["-R", "env", "-i", "LC_ALL=C"]).arg(format!("GLIBC_TUNABLES={TUNABLES}"));
        command.args(self.case.environment.iter().map(|(name, value)| format!("{name}={value}")));
        command.args(preload).args(wrapper).args(&self.case.command);
        command.current_dir(self.folder).stdin(Stdio::null());
        command
    }

    /// `LD_PRELOAD=...`, if there is something to preload; valgrind adds its own by itself.
    fn preload(&self, with_valgrinds: bool) -> Option<OsString> {
        let is_there = with_valgrinds && self.case.has_oracle && Path::new(PRELOADED).exists();
        let libraries =
            is_there.then_some(Path::new(PRELOADED)).into_iter().chain(self.case.preload.as_deref());
        let libraries: Vec<_> = libraries.map(Path::to_string_lossy).collect();
        (!libraries.is_empty()).then(|| format!("LD_PRELOAD={}", libraries.join(":")).into())
    }

    /// The program that is executed in the end.
    pub(super) fn program(&self) -> Result<PathBuf, String> {
        let name = &self.case.command[0];
        Path::new(name).canonicalize().map_err(|error| format!("{name}: {error}"))
    }

    fn run(&self, name: &str, command: &mut Command) -> Result<Outcome, String> {
        let out = self.result(&format!("{name}.out"));
        let file = File::create(&out).map_err(|error| format!("{}: {error}", out.display()))?;
        // A pipe: xol and valgrind write there too, and a program may ask where it is in a file.
        command.stdout(file).stderr(Stdio::piped());
        let begun = Instant::now();
        let mut child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        let (written, errors) = mpsc::channel();
        if let Some(mut pipe) = child.stderr.take() {
            thread::spawn(move || {
                let mut bytes = Vec::new();
                let _ = pipe.read_to_end(&mut bytes);
                let _ = written.send(bytes);
            });
        }
        let ended = wait_within(LIMIT, || child.try_wait().ok().flatten());
        let Some(status) = ended else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("{name}: not finished within {LIMIT:?}"));
        };
        let output = fs::read(&out).map_err(|error| error.to_string())?;
        let errors =
            errors.recv_timeout(LAST_WORDS).map_err(|_| format!("{name}: its errors have no end"))?;
        let errors = String::from_utf8_lossy(&errors).into_owned();
        Ok(Outcome { status, output, errors, time: begun.elapsed() })
    }
}

/// The PROBE of every instruction of a file.
pub(super) fn every_instruction(module: &Path) -> String {
    format!("{}:0x*", module.display())
}

/// The program behind the script that sets variables of its own.
fn valgrind() -> Option<PathBuf> {
    which("valgrind.bin").or_else(|| which("valgrind"))
}

/// Starts xol on a running process. It writes to `said` once the probes are armed: the first interval begins then.
pub(super) fn attach(probes: &[String], pid: u32, said: &Path) -> Process {
    let mut command = Command::new(xol_binary());
    command.args(["stat", "--interval", "500ms", "-o"]).arg(said).args(probes).arg("-p").arg(pid.to_string());
    Process::spawn(command.stderr(Stdio::null()))
}
