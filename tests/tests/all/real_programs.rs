//! Programs that people run, against what they know of themselves or what another tool counts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tests::{Process, Report, Session, Snapshot, Watch, base_of, skip, which, xol};

fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The sum of `calls=` in `INFO commandstats`; the INFO itself is not in it yet.
fn calls(socket: &Path) -> u64 {
    let info = text(&run(Command::new("redis-cli").arg("-s").arg(socket).args(["info", "commandstats"])));
    info.lines().filter_map(|line| line.split_once("calls=")?.1.split(',').next()?.parse::<u64>().ok()).sum()
}

/// Where a function of a mapped file is now.
pub(crate) fn address_of(pid: u32, file: &Path, name: &str) -> u64 {
    let probe = format!("{}:{name}", file.display());
    let report = Report::of(&mut xol(["list", "--json", &probe]));
    let line = report.of_type("list").next().unwrap_or_else(|| panic!("{report:?}"));
    let offset = line["file_address"].as_str().unwrap().trim_start_matches("0x");
    base_of(pid, &file.to_string_lossy()).expect("mapped") + u64::from_str_radix(offset, 16).unwrap()
}

/// A server of its own, reached by a socket in a temporary folder.
pub(crate) struct Redis {
    server: std::process::Child,
    folder: tempfile::TempDir,
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Redis {
    /// Started, if it and its clients are on this machine.
    pub(crate) fn installed() -> Option<Self> {
        which("redis-cli")?;
        which("redis-benchmark")?;
        Some(Self::start(&which("redis-server")?))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.server.id()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    /// A probe in the server: Debian's redis-server is a link to a program that goes by its name.
    pub(crate) fn probe(&self, name: &str) -> String {
        let real = fs::read_link(format!("/proc/{}/exe", self.pid())).expect("it runs");
        format!("{}:{name}", real.display())
    }

    fn start(server: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("redis.sock");
        let server = Command::new(server)
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(&socket)
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis starts");
        tests::wait_for("redis to answer", || {
            let ping = Command::new("redis-cli").arg("-s").arg(&socket).arg("ping").output().ok()?;
            text(&ping).contains("PONG").then_some(())
        });
        Self { server, folder }
    }
}

/// `call` runs every command: its hits are what redis counts itself.
#[test]
fn redis_under_load() {
    let (Some(server), Some(_), Some(_)) =
        (which("redis-server"), which("redis-cli"), which("redis-benchmark"))
    else {
        skip!("redis is not installed")
    };
    // Debian's redis-server is a link to a program that goes by its name.
    let redis = Redis::start(&server);
    let server = fs::canonicalize(server).unwrap();
    let (pid, socket) = (redis.server.id(), redis.folder.path().join("redis.sock"));
    let probe = |name: &str| format!("{}:{name}", server.display());
    let probes = [probe("call"), probe("lookupKey*"), probe("dictFind")];
    let watch = Watch::at(pid, &[address_of(pid, &server, "call")]);
    let mut session = Session::stat(&[&probes[0], &probes[1], &probes[2]], pid);
    session.wait_armed(&watch);
    let first = calls(&socket);
    let load = run(Command::new("redis-benchmark").arg("-s").arg(&socket).args([
        "-n",
        "20000",
        "-c",
        "10",
        "-P",
        "4",
        "-t",
        "set,get,incr,lpush",
        "-q",
    ]));
    assert!(!text(&load).contains("ERR"), "{load:?}");
    let last = calls(&socket);
    let report = session.end();
    report.assert_clean();
    // From arming to removal: the first INFO, the load, the last INFO; the difference lacks the last.
    assert_eq!(report.hits(&probes[0]), last - first + 1, "{report:?}");
    assert_eq!(report.summary()["lost"], 0, "{report:?}");
    assert!(report.hits(&probes[2]) > 20_000, "{report:?}");
    let looked_up = report.of_type("stat").filter(|line| line["spec"] == probes[1].as_str());
    let looked_up: Vec<_> = looked_up.filter_map(|line| line["hits"].as_u64()).collect();
    assert!(looked_up.len() > 3 && looked_up.iter().sum::<u64>() > 20_000, "{looked_up:?}");
    assert!(watch.is_restored());
    let load =
        run(Command::new("redis-benchmark").arg("-s").arg(&socket).args(["-n", "2000", "-q", "-t", "get"]));
    assert!(!text(&load).contains("ERR"), "the server goes on: {load:?}");
}

const SQL: &str = "create table t(a integer, b text); \
    with recursive n(i) as (select 1 union all select i+1 from n where i<500) insert into t select i, hex(i) from n; \
    select count(*), sum(a) from t where b like '3%'; \
    select a, b from t order by b limit 40; delete from t where a % 3 = 0; select count(*) from t;";

/// `sqlite3_step`, counted by xol and by gdb on the same input.
#[test]
fn sqlite_steps_as_gdb_counts_them() {
    let (Some(sqlite), Some(_)) = (which("sqlite3"), which("gdb")) else {
        skip!("sqlite3 or gdb is not installed")
    };
    let linked = text(&run(Command::new("ldd").arg(&sqlite)));
    let probe =
        if linked.contains("libsqlite3") { "libsqlite3:sqlite3_step" } else { "sqlite3:sqlite3_step" };
    let program = sqlite.to_string_lossy().into_owned();
    let report = Session::start(["stat", probe, "--", &program, ":memory:", SQL]).wait();
    report.assert_clean();
    let gdb = run(Command::new("gdb").args(["-batch", "-nx", "-ex", "set breakpoint pending on"]).args([
        "-ex",
        "set debuginfod enabled off",
        "-ex",
        "break sqlite3_step",
        "-ex",
        "ignore 1 1000000",
        "-ex",
        "run",
        "-ex",
        "info breakpoints",
        "--args",
        &program,
        ":memory:",
        SQL,
    ]));
    let out = text(&gdb);
    let Some(counted) = out
        .lines()
        .find_map(|line| line.split_once("already hit ")?.1.split(' ').next()?.parse::<u64>().ok())
    else {
        skip!("gdb cannot count here: {out}")
    };
    assert!(counted > 10, "{out}");
    assert_eq!(report.summary()["hits"].as_u64(), Some(counted), "{report:?}");
}

/// The interpreter's own functions; one more call for each more that the script makes.
#[test]
fn python_calls() {
    let Some(python) =
        ["/usr/bin/python3", "/usr/local/bin/python3"].into_iter().find(|path| Path::new(path).exists())
    else {
        skip!("there is no system python3")
    };
    let real = fs::canonicalize(python).unwrap();
    let linked = text(&run(Command::new("ldd").arg(&real)));
    let file =
        if linked.contains("libpython") { "libpython*".to_owned() } else { real.display().to_string() };
    if file.contains('*') {
        skip!("python is linked with a libpython of unknown name")
    }
    let probe = |name: &str| format!("{file}:{name}");
    // What is called often inside the interpreter is inlined there (its own build optimises across files), so the exact
    // ones are those that `str` and `int` call.
    let names = ["PyObject_Str", "PyLong_FromString", "PyObject_Malloc", "_PyEval_EvalFrameDefault"];
    let probes = names.map(probe);
    let hits = |calls: u64| {
        let script = format!("for i in range({calls}): str(i); int('7')");
        let report = Session::start([
            "stat",
            &probes[0],
            &probes[1],
            &probes[2],
            &probes[3],
            "--",
            &real.to_string_lossy(),
            "-S",
            "-E",
            "-c",
            &script,
        ])
        .wait();
        report.assert_clean();
        assert!(report.hits(&probes[2]) > 0 && report.hits(&probes[3]) > 10, "{report:?}");
        [report.hits(&probes[0]), report.hits(&probes[1])]
    };
    let (few, many) = (hits(1000), hits(3000));
    assert_eq!([many[0] - few[0], many[1] - few[1]], [2000, 2000]);
}

/// A program with so many functions, each of which returns its argument times something plus something.
fn many_functions(count: u64) -> Option<(tempfile::TempDir, PathBuf)> {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("many.c");
    let mut code = String::from("#include \"common.h\"\n");
    for n in 0..count {
        code += &format!("NOINLINE long many_{n}(long a) {{ return a * {} + {n}; }}\n", n % 77 + 3);
    }
    code += "static long (*const all[])(long) = {";
    code += &(0..count).map(|n| format!("many_{n}")).collect::<Vec<_>>().join(",");
    code += "};\nint main(void) { struct command command; say(\"ready pid=%d last=%p\", getpid(), (void *)all[9999]); \
             while (hear(&command)) { long bad = 0; for (word k = 0; k < command.number; k++) \
             for (long i = 0; i < 10000; i++) bad += all[i](k) != (long)k * (i % 77 + 3) + i; \
             say(\"done bad=%ld\", bad); } return 0; }\n";
    fs::write(&source, code).unwrap();
    let program = folder.path().join("many");
    let mut gcc = Command::new("gcc");
    gcc.args(["-O1", "-I"]).arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("programs"));
    let built = gcc.arg("-o").arg(&program).arg(&source).status();
    built.is_ok_and(|status| status.success()).then_some((folder, program))
}

/// All functions of a large program at once: armed, exact, removed.
#[test]
fn ten_thousand_sites() {
    let count = 10_000_u64;
    let Some((_folder, program)) = many_functions(count) else { skip!("gcc is not installed") };
    let mut target = Process::start(&program, &[]);
    let before = Snapshot::of(target.pid());
    let watch = Watch::on(&target, &["last"]);
    let mut session = Session::stat(&[&format!("{}:many_*", program.display())], target.pid());
    session.wait_armed(&watch);
    assert_eq!(target.ask("calls 20").number("bad"), 0);
    let report = session.end();
    report.assert_clean();
    let stats: Vec<_> = report.of_type("stat").collect();
    assert_eq!(stats.len() as u64, count);
    for line in stats {
        let armed = line["mechanism"] == "jump" || line["mechanism"] == "trap";
        assert!(armed && line["hits"] == 20 && line["lost"] == 0, "{line}");
    }
    before.assert_unchanged(target.pid());
    assert_eq!(target.ask("calls 1").number("bad"), 0);
    target.finish();
    println!("{}", report.summary());
}
