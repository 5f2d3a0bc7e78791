//! The programs, and what is known of each.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::lockstep::Windows;
use crate::{Program, Random, which};

/// How long a case is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Seconds: for continuous integration.
    Short,
    /// Minutes.
    Long,
}

impl Size {
    fn of<T>(self, short: T, long: T) -> T {
        match self {
            Self::Short => short,
            Self::Long => long,
        }
    }
}

/// A count that differs from callgrind's for a reason that is no fault of xol's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Difference {
    /// How the module's file name begins.
    pub(super) module: &'static str,
    pub(super) functions: &'static [&'static str],
    pub(super) why: &'static str,
}

impl Difference {
    pub(super) fn is_about(&self, function: &str) -> bool {
        self.functions.contains(&function)
    }
}

/// Whether the program's own counts, from its output, are those of functions that xol counted.
pub(super) type OwnCount = fn(&[u8], &dyn Fn(&str) -> Option<u64>) -> Result<String, String>;

/// A program with all that is needed to run it.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its modules that are probed.
    pub(super) modules: Vec<PathBuf>,
    /// Program and arguments; paths are absolute, others in the case's folder.
    pub(super) command: Vec<String>,
    pub(super) environment: Vec<(&'static str, &'static str)>,
    /// A library that makes a program do the same wherever it runs.
    pub(super) preload: Option<PathBuf>,
    /// Its counts are compared with callgrind's.
    pub(super) has_oracle: bool,
    pub(super) differences: Vec<Difference>,
    pub(super) own_count: Option<OwnCount>,
    /// What of its state is compared.
    pub(super) windows: Option<Windows>,
}

/// Makes a case, with its files in a folder.
///
/// # Errors
/// What is missing on this machine: a reason to skip.
pub type Make = fn(&Path, Size) -> Result<Case, String>;

/// All cases by name.
#[must_use]
pub fn all() -> Vec<(&'static str, Make)> {
    vec![
        ("gzip", gzip),
        ("gunzip", gunzip),
        ("deflate", deflate),
        ("digests", digests),
        ("sqlite", sqlite),
        ("python", python),
        ("bash", bash),
        ("throwing", throwing),
        ("goroutines", goroutines),
    ]
}

/// What every program has of the kind.
const COMMON: [Difference; 2] = [
    Difference {
        module: "libc.so",
        functions: &["_Exit"],
        why: "valgrind ends with the system call, before it has counted the block that makes it",
    },
    Difference {
        module: "libc.so",
        functions: &["__strrchr_avx2"],
        why: "the program's own name, in which libc looks for a slash, begins elsewhere between two multiples of 32",
    },
];

impl Case {
    fn new(program: &Path, arguments: &[&str], modules: Vec<PathBuf>, size: Size) -> Self {
        let mut command = vec![program.to_string_lossy().into_owned()];
        command.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        let windows =
            Windows { steps: size.of(20_000, 25_000), count: size.of(6, 20), apart: size.of(4, 40) };
        Self {
            modules,
            command,
            environment: Vec::new(),
            preload: None,
            has_oracle: true,
            differences: COMMON.to_vec(),
            own_count: None,
            windows: Some(windows),
        }
    }
}

fn command(name: &str) -> Result<PathBuf, String> {
    let found = [format!("/usr/bin/{name}"), format!("/bin/{name}")].map(PathBuf::from);
    let found = found.into_iter().find(|path| path.is_file()).or_else(|| which(name));
    let path = found.ok_or_else(|| format!("no {name} on this machine"))?;
    path.canonicalize().map_err(|error| format!("{name}: {error}"))
}

fn library(name: &str) -> Result<PathBuf, String> {
    let folders = ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/usr/lib"];
    let found = folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.exists());
    let path = found.ok_or_else(|| format!("no {name} on this machine"))?;
    path.canonicalize().map_err(|error| format!("{name}: {error}"))
}

fn write(folder: &Path, name: &str, text: &str) -> Result<(), String> {
    fs::write(folder.join(name), text).map_err(|error| format!("{name}: {error}"))
}

/// Copies a script of the test programs.
fn copy_program(folder: &Path, name: &str) -> Result<(), String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs").join(name);
    let copied = fs::copy(&script, folder.join(name));
    copied.map(drop).map_err(|error| format!("{}: {error}", script.display()))
}

/// Text that compresses as text does: words of a vocabulary in an order without period.
fn prose(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 16);
    let mut random = Random::new(1);
    while text.len() < bytes {
        let random = random.word();
        let word = (random >> 40) % 977;
        let _ = write!(text, "{:x}", word * word * 7919);
        text.push(if random >> 60 == 0 { '\n' } else { ' ' });
    }
    text
}

fn gzip(folder: &Path, size: Size) -> Result<Case, String> {
    write(folder, "text", &prose(size.of(20_000, 4 << 20)))?;
    let program = command("gzip")?;
    let mut modules = vec![program.clone()];
    if size == Size::Long {
        modules.push(library("libc.so.6")?);
    }
    Ok(Case::new(&program, &["-c", "text"], modules, size))
}

fn gunzip(folder: &Path, size: Size) -> Result<Case, String> {
    write(folder, "text", &prose(size.of(50_000, 16 << 20)))?;
    let program = command("gzip")?;
    let status = std::process::Command::new(&program).args(["-n", "text"]).current_dir(folder).status();
    status.ok().filter(|status| status.success()).ok_or("gzip does not work")?;
    let modules = vec![program.clone(), library("libc.so.6")?];
    Ok(Case::new(&program, &["-dc", "text.gz"], modules, size))
}

fn deflate(folder: &Path, size: Size) -> Result<Case, String> {
    write(folder, "text", &prose(size.of(20_000, 1 << 20)))?;
    let libraries = ["libz.so.1", "libm.so.6", "libc.so.6"].map(library);
    let mut modules: Vec<PathBuf> = libraries.into_iter().collect::<Result<_, _>>()?;
    let libz = modules[0].to_string_lossy().into_owned();
    let program = Program::new("deflate.c").flag(libz).flag("-lm").build()?;
    modules.push(program.clone());
    Ok(Case::new(&program, &["text"], modules, size))
}

fn digests(_folder: &Path, size: Size) -> Result<Case, String> {
    let libcrypto = library("libcrypto.so.3")?;
    let program = Program::new("digests.c").flag(libcrypto.to_string_lossy()).build()?;
    let rounds = size.of("1", "50");
    let mut case = Case::new(&program, &[rounds], vec![libcrypto, program.clone()], size);
    // What valgrind's processor has too: no SHA, AVX-512, VAES or random numbers.
    case.environment.push(("OPENSSL_ia32cap", "0x02020000078bffff:0x0"));
    Ok(case)
}

fn sqlite(folder: &Path, size: Size) -> Result<Case, String> {
    write(folder, "script", &statements(size.of(40, 500)))?;
    let program = command("sqlite3")?;
    let modules = vec![library("libsqlite3.so.0")?, program.clone()];
    Ok(Case::new(&program, &["-batch", ":memory:", ".read script"], modules, size))
}

/// Tables, indexes, joins, triggers, views, transactions, and functions over what was inserted.
fn statements(count: u64) -> String {
    let mut script = String::from(
        "create table item(id integer primary key, name text, price real, kind int);\n\
         create table sale(item int references item(id), day int, amount int);\n\
         create index by_day on sale(day, item);\ncreate table log(what text);\n\
         create trigger sold after insert on sale begin insert into log values('sold ' || new.item); end;\n\
         create view total as select item, sum(amount) as amount from sale group by item;\n",
    );
    for n in 0..count {
        let _ = writeln!(
            script,
            "insert into item values({n}, 'item {}', {}.25, {});",
            n * 7919 % 1000,
            n % 97,
            n % 7
        );
        let _ = writeln!(script, "insert into sale values({}, {}, {});", n * 31 % count, n % 365, n % 13);
        match n % 8 {
            0 => script.push_str("begin; update item set price = price * 1.01 where kind = 3; commit;\n"),
            1 => script.push_str("select count(*), sum(amount), avg(amount), min(day), max(day) from sale;\n"),
            2 => script.push_str("select name, t.amount from item join total t on t.item = id order by 2 desc, 1 limit 3;\n"),
            3 => script.push_str("begin; delete from sale where day = 200; rollback;\n"),
            4 => script.push_str("select upper(substr(name, 3)), length(name), printf('%08.3f', price) from item where name like '%9%' limit 2;\n"),
            5 => script.push_str("with recursive n(i) as (select 1 union all select i + 1 from n where i < 20) select sum(i * i) from n;\n"),
            6 => script.push_str("select kind, group_concat(id) from (select * from item order by id limit 30) group by kind having count(*) > 1;\n"),
            _ => script.push_str("select hex(name), quote(price), abs(-id), round(price, 1) from item order by price, id limit 2;\n"),
        }
    }
    script.push_str("vacuum;\npragma integrity_check;\nselect count(*) from log;\n");
    script
}

/// Tests of modules of the standard library.
fn python(folder: &Path, size: Size) -> Result<Case, String> {
    copy_program(folder, "modules.py")?;
    let program = command("python3.11")?;
    let arguments = ["-S", "-B", "modules.py", size.of("1", "5")];
    let mut case = Case::new(&program, &arguments, vec![program.clone()], size);
    // Hashes are of addresses and of chance: objects come from a heap that lies alike in all runs, and the seed is fixed.
    case.environment.extend([("PYTHONHASHSEED", "0"), ("PYTHONMALLOC", "malloc")]);
    case.preload = Some(Program::new("libalike.c").library("libalike.so").build()?);
    Ok(case)
}

fn bash(folder: &Path, size: Size) -> Result<Case, String> {
    copy_program(folder, "long.sh")?;
    let program = command("bash")?;
    let arguments = ["--norc", "--noprofile", "long.sh", size.of("3", "20")];
    let mut case = Case::new(&program, &arguments, vec![program.clone()], size);
    case.differences.push(Difference {
        module: "bash",
        functions: &["fmtumax"],
        why: "PPID, a variable of bash's, is written with as many digits as the number of the process has that started it",
    });
    Ok(case)
}

fn throwing(_folder: &Path, size: Size) -> Result<Case, String> {
    let program = Program::new("throwing.cc").build()?;
    let mut modules = vec![program.clone(), library("libgcc_s.so.1")?];
    if size == Size::Long {
        modules.push(library("libstdc++.so.6")?);
    }
    Ok(Case::new(&program, &[size.of("20", "500")], modules, size))
}

/// No callgrind here: its threads are no Go runtime's. The program counts its own calls.
fn goroutines(_folder: &Path, size: Size) -> Result<Case, String> {
    let program = Program::new("goroutines.go").build()?;
    let mut case = Case::new(&program, &[size.of("50", "1000")], vec![program.clone()], size);
    case.has_oracle = false;
    case.windows = None;
    case.own_count = Some(|output, hits| {
        let text = String::from_utf8_lossy(output);
        let counts = text.lines().filter_map(|line| line.strip_prefix("calls ")?.split_once(' '));
        let mut told = Vec::new();
        for (function, times) in counts {
            let wanted: u64 = times.parse().map_err(|error| format!("{times}: {error}"))?;
            let counted = hits(function);
            if counted != Some(wanted) {
                return Err(format!("{function} was called {wanted} times and counted {counted:?}"));
            }
            told.push(format!("{function} {wanted}"));
        }
        if told.is_empty() {
            Err(format!("it counted nothing: {text}"))
        } else {
            Ok(format!("its own counts: {}", told.join(", ")))
        }
    });
    Ok(case)
}
