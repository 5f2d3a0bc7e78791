//! Compiling the programs, once for each content: the result is kept under a key of everything that went into it.

use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use insn::Isa;

use crate::server::Machine;

/// A program to compile: its sources, and the flags that make this variant of it.
#[derive(Clone, Debug)]
pub struct Program {
    name: String,
    compiler: &'static str,
    /// For another machine than this one, to be run by an emulator.
    is_foreign: bool,
    sources: Vec<PathBuf>,
    flags: Vec<String>,
}

impl Program {
    /// A program of `programs/`, or a generated one by its absolute path. The compiler follows from the extension.
    #[must_use]
    pub fn new(source: impl AsRef<Path>) -> Self {
        let source = source.as_ref();
        let (compiler, flags): (_, &[&str]) =
            match source.extension().and_then(|extension| extension.to_str()) {
                Some("cc") => ("g++", &["-O1", "-g0", "-pthread", "-Wall"]),
                Some("rs") => ("rustc", &["--edition=2024", "-Copt-level=1"]),
                Some("go") => ("go", &[]),
                _ => ("gcc", &["-O1", "-g0", "-pthread", "-Wall"]),
            };
        Self {
            name: source.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            compiler,
            is_foreign: false,
            sources: vec![programs_dir().join(source)],
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
        }
    }

    /// The program that most tests use: `work.c` with the functions of `work.S`.
    #[must_use]
    pub fn work() -> Self {
        Self::new("work.c").source("work.S")
    }

    /// One more source file.
    #[must_use]
    pub fn source(mut self, source: impl AsRef<Path>) -> Self {
        self.sources.push(programs_dir().join(source));
        self
    }

    /// One more argument of the compiler.
    #[must_use]
    pub fn flag(mut self, flag: impl Into<String>) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// Whether the compiler is given this argument.
    #[must_use]
    pub fn has_flag(&self, flag: &str) -> bool {
        self.flags.iter().any(|known| known == flag)
    }

    /// Another compiler of the same language, such as `musl-gcc`.
    #[must_use]
    pub fn compiler(mut self, compiler: &'static str) -> Self {
        self.compiler = compiler;
        self
    }

    /// The 32-bit variant: of each source the one in `programs/i386` if there is one, by the cross compiler, whose libraries
    /// and loader are in a folder of their own.
    #[must_use]
    pub fn i386(mut self) -> Self {
        for source in &mut self.sources {
            let variant = programs_dir().join("i386").join(source.file_name().unwrap_or_default());
            if variant.exists() {
                *source = variant;
            }
        }
        self.compiler = match self.compiler {
            "g++" => "i686-linux-gnu-g++",
            _ => "i686-linux-gnu-gcc",
        };
        self
    }

    /// For another machine, with all its libraries inside; that of alpha, which qemu 7.2 does not start so, with them
    /// beside it.
    #[must_use]
    pub fn machine(mut self, machine: &Machine) -> Self {
        self.compiler = machine.compiler;
        self.is_foreign = true;
        match machine.isa {
            Isa::Alpha => self.flag("-no-pie"),
            Isa::Sparc => self.flag("-static").flag("-m32").flag("-mcpu=v8"),
            _ => self.flag("-static"),
        }
    }

    /// Where the cross compiler's dynamic programs find their loader and libraries, which are not where they say.
    fn loader_flags(&self) -> Vec<String> {
        let is_static = self.flags.iter().any(|flag| flag.starts_with("-static") || flag == "-nostdlib");
        let folder = match self.compiler.split_once('-') {
            Some((machine @ ("i686" | "alpha"), _)) if !is_static => format!("/usr/{machine}-linux-gnu/lib"),
            _ => return Vec::new(),
        };
        vec![format!("-Wl,--dynamic-linker={folder}/ld-linux.so.2"), format!("-Wl,-rpath,{folder}")]
    }

    /// A shared library called `name`.
    #[must_use]
    pub fn library(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self.flag("-shared").flag("-fPIC")
    }

    /// The compiled file, from the cache if it is there.
    ///
    /// # Errors
    /// The compiler is not on this machine: a reason to skip.
    ///
    /// # Panics
    /// The program does not compile.
    pub fn build(&self) -> Result<PathBuf, String> {
        let is_i386 = self.compiler.starts_with("i686-");
        if std::env::var_os("XOL_TEST_ISA").is_some_and(|isa| isa == "i386") && !is_i386 && !self.is_foreign {
            return self.clone().i386().build();
        }
        if is_i386 && !self.is_foreign {
            runs_32_bit_programs()?;
        }
        let compiler = self.find_compiler()?;
        let folder = out_dir().join(format!("{:016x}", self.key()));
        let file = folder.join(&self.name);
        if !file.exists() {
            self.compile(&compiler, &folder);
        }
        Ok(file)
    }

    fn find_compiler(&self) -> Result<PathBuf, String> {
        let found = which(self.compiler).or_else(|| {
            let debian = PathBuf::from("/usr/lib/go-1.19/bin/go");
            (self.compiler == "go" && debian.exists()).then_some(debian)
        });
        found.ok_or_else(|| format!("no {} on this machine", self.compiler))
    }

    /// Everything that decides what comes out.
    fn key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.compiler, &self.name, &self.flags).hash(&mut hasher);
        let headers =
            fs::read_dir(programs_dir()).expect("programs/ is there").flatten().map(|entry| entry.path());
        let mut inputs: Vec<_> = headers.filter(|path| path.extension().is_some_and(|e| e == "h")).collect();
        inputs.extend(self.sources.iter().cloned());
        inputs.sort();
        for input in inputs {
            fs::read(&input).unwrap_or_else(|error| panic!("{}: {error}", input.display())).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Compiles beside the cache and renames: several test processes may do the same at once.
    fn compile(&self, compiler: &Path, folder: &Path) {
        let scratch = tempfile::Builder::new()
            .prefix("compile-")
            .tempdir_in(out_dir())
            .expect("target/tmp is writable");
        open_to_all(scratch.path());
        let output = scratch.path().join(&self.name);
        let mut command = Command::new(compiler);
        if self.compiler == "go" {
            command
                .env("GO111MODULE", "off")
                .env("GOCACHE", out_dir().join("go-cache"))
                .env("CGO_ENABLED", "0");
            command.arg("build");
        }
        command.args(["-o".as_ref(), output.as_os_str()]);
        let result = command
            .args(&self.sources)
            .args(&self.flags)
            .args(self.loader_flags())
            .output()
            .expect("the compiler runs");
        let said = String::from_utf8_lossy(&result.stderr);
        assert!(result.status.success(), "{} does not compile:\n{said}", self.name);
        if fs::rename(scratch.path(), folder).is_ok() {
            let _ = scratch.keep();
        }
        assert!(folder.join(&self.name).exists(), "{} is not there", folder.display());
    }
}

/// Whether the kernel was built for 32-bit programs, and was not told to refuse them (`ia32_emulation=0`): it knows such a
/// program from a file of no known format.
fn runs_32_bit_programs() -> Result<(), String> {
    static RUNS: OnceLock<bool> = OnceLock::new();
    let runs = || {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (source, program) = (folder.path().join("empty.S"), folder.path().join("empty"));
        fs::write(&source, ".globl _start\n_start: xor %ebx, %ebx\n mov $1, %eax\n int $0x80\n")
            .expect("a file of ours");
        let mut compiler = Command::new("i686-linux-gnu-gcc");
        compiler.args(["-nostdlib", "-static", "-o"]).args([&program, &source]);
        // Without a compiler the reason is that.
        !compiler.status().is_ok_and(|status| status.success())
            || Command::new(&program).status().is_ok_and(|status| status.success())
    };
    if *RUNS.get_or_init(runs) { Ok(()) } else { Err("the kernel runs no 32-bit programs".to_owned()) }
}

/// The temporary folder's own mode hides it from other users; xol as an ordinary user must be able to read programs.
fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("a folder of ours");
}

/// Copies a program file, by a child: had this process a descriptor open for writing, a child that another test forks at
/// that moment would inherit it, and executing the copy would fail with ETXTBSY.
///
/// # Panics
/// It cannot be copied.
pub fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("--").arg(from).arg(to).status().expect("cp runs");
    assert!(status.success(), "cp {} {}: {status:?}", from.display(), to.display());
}

/// Where compiled programs are kept.
///
/// # Panics
/// The place cannot be made.
#[must_use]
pub fn out_dir() -> PathBuf {
    let out =
        env::var_os("XOL_TEST_OUT").map_or_else(|| profile_dir().join("../tmp/programs"), PathBuf::from);
    fs::create_dir_all(&out).unwrap_or_else(|error| panic!("{}: {error}", out.display()));
    out.canonicalize().expect("just made")
}

/// `target/<profile>`: a running test lies in its `deps`, another program in itself.
pub(crate) fn profile_dir() -> PathBuf {
    let program = env::current_exe().expect("the program has a path");
    let folder = program.parent().expect("it is in a folder");
    let is_deps = folder.file_name().is_some_and(|name| name == "deps");
    let profile = if is_deps { folder.parent() } else { Some(folder) };
    profile.expect("target/<profile>/deps/test").to_owned()
}

fn programs_dir() -> PathBuf {
    env::var_os("XOL_TEST_PROGRAMS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("programs"), PathBuf::from)
}

/// A command on `PATH`.
#[must_use]
pub fn which(command: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(command)).find(|candidate| candidate.is_file())
}
