//! Processes in surroundings of their own: namespaces, roots, limits, and what forbids tracing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use tests::{
    Process, Program, Report, Session, Snapshot, Watch, children_of, is_root, need, skip, which, xol,
};

use crate::probes::probe;

const YAMA: &str = "/proc/sys/kernel/yama/ptrace_scope";

fn program() -> Result<PathBuf, String> {
    Program::new("surroundings.c").source("work.S").build()
}

/// `unshare` with these flags; an ordinary user becomes root of a user namespace for it.
fn unshared(flags: &[&str]) -> Result<Command, String> {
    which("unshare").ok_or("no unshare on this machine")?;
    let mut all = flags.to_vec();
    if !is_root() {
        all.extend(["--user", "--map-root-user"]);
    }
    let mut attempt = Command::new("unshare");
    let works = attempt.args(&all).arg("true").stderr(Stdio::null()).status().is_ok_and(|end| end.success());
    let mut command = Command::new("unshare");
    command.args(&all);
    works.then_some(command).ok_or_else(|| format!("unshare {} is not permitted here", all.join(" ")))
}

/// A shell that carries out `script` in namespaces of its own, with these words as `$1` and so on.
fn script_in(flags: &[&str], script: &str, words: &[&Path]) -> Result<Command, String> {
    let mut command = unshared(flags)?;
    command.args(["sh", "-c", &format!("set -e; {script}"), "sh"]).args(words);
    Ok(command)
}

/// Whether that script can be carried out here at all, its last step being `true`.
fn need_script(flags: &[&str], script: &str, words: &[&Path]) -> Result<(), String> {
    let result = script_in(flags, script, words)?.output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&result.stderr).into_owned();
    result.status.success().then_some(()).ok_or_else(|| format!("`{script}` fails here: {said}"))
}

/// A folder that is a root directory with one program in it, `/program`, which needs nothing else.
fn jail() -> Result<TempDir, String> {
    let program = Program::new("surroundings.c").source("work.S").flag("-static").build()?;
    let folder = tempfile::tempdir().expect("a temporary folder");
    // By a child: a descriptor that is open for writing here would be inherited by whatever another test starts.
    let copied = Command::new("cp").arg(program).arg(folder.path().join("program")).status();
    assert!(copied.expect("cp runs").success());
    Ok(folder)
}

/// Counted exactly, and as before afterwards.
fn counted(target: &mut Process, work: &str) -> Report {
    let before = Snapshot::of(target.pid());
    let watch = Watch::on(target, &["work"]);
    let mut session = Session::stat(&[work], target.pid());
    session.wait_armed(&watch);
    let done = target.ask("calls 10000");
    let report = session.end();
    report.assert_clean();
    assert_eq!((report.hits(work), done.number("bad")), (10000, 0), "{report:?}");
    before.assert_unchanged(target.pid());
    assert_eq!(target.ask("calls 10").number("bad"), 0);
    report
}

/// Refused with a message that has these words, and nothing changed.
fn refused(mut target: Process, work: &str, words: &[&str]) {
    let before = Snapshot::of(target.pid());
    let pid = target.pid().to_string();
    Report::of(&mut xol(["stat", work, "-p", &pid])).assert_error(1, words);
    before.assert_unchanged(target.pid());
    assert_eq!(target.ask("calls 10").number("bad"), 0);
    target.finish();
}

/// The program says which number it has in its own pid namespace; here it is known by another.
fn known_here_as(mut target: Process, pid: u32) -> Process {
    target.ready.fields.insert("pid".to_owned(), pid.to_string());
    target
}

fn only_child_of(pid: u32) -> u32 {
    tests::wait_for("a child", || children_of(pid).first().copied())
}

/// Another file at the same path: what counts is what the process has there.
#[test]
fn a_library_bound_over_another() {
    let here = need!(Program::new("libplug.c").library("libplug.so").build());
    let there = need!(Program::new("libplug.c").flag("-O0").library("libother.so").build());
    let program = need!(Program::new("dl.c").flag("-ldl").build());
    let script = r#"mount --bind "$1" "$2"; exec "$3""#;
    need!(need_script(&["--mount"], script, &[&there, &here, Path::new("true")]));
    let mut command = need!(script_in(&["--mount"], script, &[&there, &here, &program]));
    let mut target = Process::of_command(&mut command);
    let inner = target.ask(&format!("load {}", here.display())).number("inner");
    let spec = probe(&here, "plug_inner");
    let mut session = Session::stat(&[&spec], target.pid());
    session.wait_armed(&Watch::at(target.pid(), &[inner]));
    let done = target.ask("calls 1000");
    let report = session.end();
    report.assert_clean();
    assert_eq!((report.hits(&spec), done.number("bad")), (1000, 0), "{report:?}");
    target.finish();
}

/// Another root directory: the PATH is the process's, and ours of the same file means nothing to it.
#[test]
fn another_root() {
    let jail = need!(jail());
    let mut command = need!(script_in(&[], r#"exec chroot "$1" /program"#, &[jail.path()]));
    need!(need_script(&[], r#"chroot "$1" /program < /dev/null"#, &[jail.path()]));
    let mut target = Process::of_command(&mut command);
    let report = counted(&mut target, "/program:work");
    let probe = report.stats("/program:work").next().expect("its line")["probe"].clone();
    assert_eq!(probe, "uprobe:/program:work");
    let outside = jail.path().join("program");
    assert!(outside.exists() && !Path::new("/program").exists());
    refused(target, &self::probe(&outside, "work"), &["program"]);
}

/// A root directory that was made by pivot_root(2), as containers have it.
#[test]
fn a_pivoted_root() {
    let jail = need!(jail());
    fs::create_dir(jail.path().join("old")).unwrap();
    let script =
        r#"mount --bind "$1" "$1"; cd "$1"; PATH=$PATH:/sbin:/usr/sbin pivot_root . old; exec /program"#;
    need!(need_script(&["--mount"], &format!("{script} < /old/dev/null"), &[jail.path()]));
    let mut command = need!(script_in(&["--mount"], script, &[jail.path()]));
    let mut target = Process::of_command(&mut command);
    counted(&mut target, "/program:work");
    // By name, as mapped.
    counted(&mut target, "program:work");
    target.finish();
}

/// Numbers of processes and threads are ours.
#[test]
fn another_pid_namespace() {
    let program = need!(Program::work().build());
    let mut command = need!(unshared(&["--pid", "--fork"]));
    let target = Process::of_command(command.arg(&program).arg("3"));
    assert_eq!(target.ready.number("pid"), 1);
    let pid = only_child_of(target.child_id());
    let mut target = known_here_as(target, pid);
    let work = probe(&program, "work");
    let mut session = Session::trace(&[&work], pid);
    session.wait_armed(&Watch::on(&target, &["work"]));
    let done = target.ask("calls 100");
    let report = session.end();
    report.assert_clean();
    assert_eq!((report.traced().len() as u64, done.number("bad")), (done.number("work"), 0), "{report:?}");
    for hit in report.traced() {
        assert_eq!(hit["pid"], pid, "{hit}");
        let is_thread = Path::new(&format!("/proc/{pid}/task/{}", hit["tid"])).exists();
        assert!(is_thread, "{hit}");
    }
    target.finish();
}

/// A signal that was held back while its thread left a stub may have to be queued again: by the thread itself, under the number
/// that it has in its own namespace, or where a filter might mind from outside, as a sender that has no number there.
fn signals_in_another_pid_namespace(filter: &[&str]) {
    let program = need!(Program::new("ticking.c").source("work.S").build());
    let mut command = need!(unshared(&["--pid", "--fork"]));
    let target = Process::of_command(command.arg(&program).arg("2").args(filter));
    let pid = only_child_of(target.child_id());
    let mut target = known_here_as(target, pid);
    let watch = Watch::on(&target, &["work"]);
    let work = probe(&program, "work");
    for _ in 0..tests::rounds(5, 100) {
        let before = target.ask("counters");
        let mut session = Session::stat(&[&work], pid);
        session.wait_armed(&watch);
        tests::wait_for("calls and signals", || {
            let now = target.ask("counters");
            let more = |name| now.number(name) > before.number(name) + 500;
            (more("calls") && more("signals")).then_some(())
        });
        let report = session.end();
        report.assert_clean();
        // Nothing was in the way of a signal.
        let warnings = report.summary()["warnings"].as_array().expect("a list").clone();
        let others = warnings.iter().filter(|warning| !warning.to_string().contains("of the area stay"));
        assert_eq!(others.count(), 0, "{warnings:?}");
    }
    let counters = target.ask("counters");
    assert_eq!((counters.number("bad"), counters.number("foreign")), (0, 0), "{counters:?}");
    target.finish();
}

#[test]
fn signals_queued_by_the_thread_itself() {
    signals_in_another_pid_namespace(&[]);
}

#[test]
fn signals_sent_again_from_outside() {
    signals_in_another_pid_namespace(&["filtered"]);
}

/// A user namespace without any of our users in it.
#[test]
fn another_user_namespace() {
    let program = need!(program());
    let mut command = need!(unshared(&["--user"]));
    let mut target = Process::of_command(command.arg(&program));
    counted(&mut target, &probe(&program, "work"));
    let pid = target.pid().to_string();
    let report = Report::of(&mut xol(["doctor", "--json", "-p", &pid]));
    let said = report.of_type("doctor").find(|line| line["check"] == "namespaces");
    assert!(said.is_some_and(|line| line["detail"].to_string().contains("user")), "{report:?}");
    target.finish();
}

/// A command that makes the namespaces while it is traced.
#[test]
fn followed_into_namespaces() {
    let program = need!(program());
    need!(unshared(&["--pid", "--mount", "--fork"]));
    let work = probe(&program, "work");
    let mut flags = vec!["--pid", "--mount", "--fork"];
    if !is_root() {
        flags.extend(["--user", "--map-root-user"]);
    }
    let program = program.display().to_string();
    let words = [&["stat", "-f", &work, "--", "unshare"], flags.as_slice(), &[&program]].concat();
    let mut session = Session::start(words);
    session.process.wait_ready();
    assert_eq!(session.process.ready.number("pid"), 1);
    let done = session.process.ask("calls 10000");
    session.process.close_stdin();
    let report = session.wait();
    report.assert_clean();
    assert_eq!((report.hits(&work), done.number("bad")), (10000, 0), "{report:?}");
    let armed = report.stats(&work).filter(|line| line["hits"] == 10000).count();
    assert_eq!(armed, 1, "one process ran it: {report:?}");
}

#[test]
fn no_new_privileges_and_a_declared_tracer() {
    let program = need!(program());
    let mut target = Process::start(&program, &["nnp", "ptracer"]);
    counted(&mut target, &probe(&program, "work"));
    target.finish();
}

/// Not dumpable: for root it makes no difference, another user is told what would permit it.
#[test]
fn not_dumpable() {
    let program = need!(program());
    let work = probe(&program, "work");
    let mut target = Process::start(&program, &["undumpable"]);
    if is_root() {
        counted(&mut target, &work);
        return target.finish();
    }
    // Its /proc files are root's: nothing can be looked at from here, but that it goes on.
    let pid = target.pid().to_string();
    let refused = Report::of(&mut xol(["stat", &work, "-p", &pid]));
    refused.assert_error(1, &["permi", "CAP_SYS_PTRACE"]);
    let doctor = Report::of(&mut xol(["doctor", "--json", "-p", &pid]));
    let dumpable = doctor.of_type("doctor").find(|line| line["check"] == "dumpable");
    assert!(dumpable.is_some_and(|line| line["ok"] == false), "{doctor:?}");
    assert_eq!(target.ask("calls 10").number("bad"), 0);
    target.finish();
}

/// No descriptor for a memfd: private memory does it, and that is said.
#[test]
fn no_descriptor_to_be_had() {
    let program = need!(program());
    let mut target = Process::start(&program, &["nofile"]);
    let report = counted(&mut target, &probe(&program, "work"));
    assert!(report.summary()["warnings"].to_string().contains("memfd"), "{report:?}");
    target.finish();
}

#[test]
fn no_address_space_to_be_had() {
    let program = need!(program());
    let target = Process::start(&program, &["as"]);
    refused(target, &probe(&program, "work"), &["mmap", "memory", "/limits"]);
}

/// Everything mapped is locked: too much for an ordinary user's limit, which root does not have.
#[test]
fn no_memory_to_be_locked() {
    let program = need!(program());
    let work = probe(&program, "work");
    if is_root() {
        let mut target = Process::start(&program, &["locked"]);
        counted(&mut target, &work);
        target.finish();
        need!(which("setpriv").ok_or("no setpriv on this machine"));
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program).arg("locked");
        refused(Process::of_command(&mut command), &work, &["mmap", "/limits"]);
    } else {
        refused(Process::start(&program, &["locked"]), &work, &["mmap", "/limits"]);
    }
}

/// However few descriptors xol may have: it works or says what is missing, and the program is as before.
#[test]
fn few_descriptors_for_xol() {
    let program = need!(program());
    let mut target = Process::start(&program, &[]);
    let before = Snapshot::of(target.pid());
    let (work, pid) = (probe(&program, "work"), target.pid().to_string());
    let binary = tests::xol_binary();
    let mut succeeded = 0;
    for limit in 3..30 {
        let script = format!("ulimit -n {limit} && exec \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh"]).arg(&binary);
        command.args(["stat", "--json", &work, "-p", &pid, "--duration", "10ms"]);
        let report = Report::of(&mut command);
        report.assert_no_panic();
        match report.status.code() {
            Some(0) => succeeded += 1,
            Some(1) => assert!(report.errors.contains("Too many open files"), "{limit}: {report:?}"),
            // The loader itself needs one.
            Some(127) if limit == 3 => {}
            other => panic!("{limit}: {other:?}: {report:?}"),
        }
        before.assert_unchanged(target.pid());
        assert_eq!(target.ask("calls 10").number("bad"), 0);
    }
    assert!(succeeded > 0);
    target.finish();
}

/// A root file system that nobody can write to, and no /proc/sys: xol needs neither.
#[test]
fn a_read_only_root_without_sysctls() {
    let program = need!(program());
    let folder = tempfile::tempdir().unwrap();
    let script = r#"mount --bind "$1" "$1"; mount -o remount,bind,ro /; mount -t tmpfs none /proc/sys; shift;
        ! touch "$0.x" 2> /dev/null; exec "$@""#;
    need!(need_script(&["--mount"], script, &[folder.path(), Path::new("true")]));
    let (work, out) = (probe(&program, "work"), folder.path().join("out"));
    let mut command = need!(script_in(&["--mount"], script, &[folder.path()]));
    command.arg(tests::xol_binary()).args(["stat", "--json", &work, "-o"]).arg(&out).arg("--").arg(&program);
    let mut started = Process::of_command(&mut command);
    assert_eq!(started.ask("calls 10000").number("bad"), 0);
    started.close_stdin();
    let status = started.wait();
    let report = Report::parse(status, String::new(), &fs::read_to_string(out).unwrap());
    report.assert_clean();
    assert_eq!(report.hits(&work), 10000, "{report:?}");
}

/// The scope of before, whatever happens.
struct Scope(String);

impl Drop for Scope {
    fn drop(&mut self) {
        fs::write(YAMA, &self.0).expect("it could be written before");
    }
}

/// Yama's scopes that can be undone. Root is not affected by them (so no other test is): user 65534 traces a program of its own.
#[test]
fn yama() {
    let Ok(scope) = fs::read_to_string(YAMA) else { skip!("this kernel has no Yama") };
    if !is_root() || scope.trim() == "3" {
        skip!("the scope may not be set here (it is {})", scope.trim());
    }
    need!(which("setpriv").ok_or("no setpriv on this machine"));
    let program = need!(program());
    let binary = tests::xol_binary();
    if fs::metadata(&binary).map(|file| file.mode() & 1).unwrap_or(0) == 0 {
        skip!("user 65534 cannot execute {}", binary.display());
    }
    let as_nobody = |program: &Path| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
        command
    };
    let work = probe(&program, "work");
    let restored = Scope(scope);
    for (scope, words, permitted) in
        [("0", "nnp", true), ("1", "nnp", false), ("1", "ptracer", true), ("2", "ptracer", false)]
    {
        fs::write(YAMA, scope).expect("root may");
        let mut target = Process::of_command(as_nobody(&program).arg(words));
        let pid = target.pid().to_string();
        let mut command = as_nobody(&binary);
        let report = Report::of(command.args(["stat", "--json", &work, "-p", &pid, "--duration", "10ms"]));
        if permitted {
            report.assert_clean();
        } else {
            report.assert_error(1, &["ptrace_scope"]);
        }
        assert_eq!(target.ask("calls 10").number("bad"), 0);
        target.finish();
    }
    fs::write(YAMA, "1").expect("root may");
    let started = as_nobody(&binary).args(["stat", "--json", &work, "--"]).arg(&program).output().unwrap();
    assert!(started.status.success(), "a command of its own: {started:?}");
    drop(restored);
}
