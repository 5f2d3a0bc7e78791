//! Several processes in one session: given by their numbers, or children that are followed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::{
    Process, Program, Report, Session, Snapshot, Watch, children_of, need, rounds, text_changes, tracer_of,
    wait_for, xol,
};

use crate::probes::probe;

fn family() -> Result<PathBuf, String> {
    Program::new("family.c").source("work.S").build()
}

/// Hits of a probe by process. One that executed itself has several lines.
fn by_pid(report: &Report, name: &str) -> BTreeMap<u32, u64> {
    let mut hits = BTreeMap::new();
    for line in report.stats(name) {
        let pid = u32::try_from(line["pid"].as_u64().expect("a process")).expect("a process");
        *hits.entry(pid).or_default() += line["hits"].as_u64().expect("a count");
    }
    hits
}

/// What the processes of a family counted themselves.
fn own_counts(target: &mut Process) -> BTreeMap<u32, u64> {
    let log = target.ask("log");
    assert_eq!(log.number("bad"), 0, "{log:?}");
    let of_one = |(key, _): (&String, _)| Some((key.strip_prefix('p')?.parse().ok()?, log.number(key)));
    log.fields.iter().filter_map(of_one).collect()
}

fn assert_own_text(pid: u32) {
    assert_eq!(text_changes(pid), Vec::<u64>::new(), "text of {pid} that differs from its file");
}

fn without_zeros(mut counts: BTreeMap<u32, u64>) -> BTreeMap<u32, u64> {
    counts.retain(|_, count| *count > 0);
    counts
}

/// A family under `xol stat -f`: what its processes counted is what xol counted, process by process.
fn followed(commands: &[&str]) {
    let program = need!(family());
    let mut target = Process::start(&program, &[]);
    let work = probe(&program, "work");
    let pid = target.pid().to_string();
    let watch = Watch::on(&target, &["work"]);
    let session = Session::armed(&[&watch], || Session::start(["stat", "-f", &work, "-p", &pid]));
    for command in commands {
        let done = target.ask(command);
        assert!(matches!(done.word.as_str(), "done" | "ready"), "{command}: {done:?}");
    }
    let expected = without_zeros(own_counts(&mut target));
    let report = session.end();
    report.assert_clean();
    assert_eq!(without_zeros(by_pid(&report, &work)), expected, "{report:?}");
    assert_eq!(report.lost(&work), 0);
    assert_own_text(target.pid());
    assert_eq!(target.ask("fork 2").number("bad"), 0);
    target.finish();
}

#[test]
fn forked_children_and_grandchildren() {
    followed(&["fork 20", "grand 10"]);
}

#[test]
fn children_by_vfork_and_posix_spawn() {
    followed(&["vfork 10", "spawn 10"]);
}

#[test]
fn children_by_clone() {
    followed(&["clonevm 5", "stay 1000", "other 500", "clonevm 5"]);
}

#[test]
fn chain_of_execs() {
    followed(&["fork 1", "chain 8", "fork 2", "chain 2"]);
}

/// A thread that is not the leader replaces the process while others are in probed code: they are killed in it.
#[test]
fn exec_by_another_thread() {
    let program = need!(family());
    for _ in 0..rounds(5, 50) {
        let mut target = Process::start(&program, &[]);
        let work = probe(&program, "work");
        let pid = target.pid();
        let watch = Watch::on(&target, &["work"]);
        let start = || Session::start(["stat", "-f", &work, "-p", &pid.to_string()]);
        let session = Session::armed(&[&watch], start);
        for _ in 0..3 {
            let ready = target.ask("thread");
            assert_eq!((ready.word.as_str(), ready.number("pid")), ("ready", u64::from(pid)));
        }
        target.ask("fork 3");
        let log = target.ask("log");
        let (begun, ended) = (log.number(&format!("b{pid}")), log.number(&format!("p{pid}")));
        let report = session.end();
        report.assert_clean();
        let hits = by_pid(&report, &work)[&pid];
        assert!((ended..=begun).contains(&hits), "{hits} not in {ended}..={begun}: {report:?}");
        assert_own_text(pid);
        target.finish();
    }
}

/// Memory and descriptors of front and holder do not grow with the number of children that came and went.
#[test]
fn many_short_lived_children() {
    let program = need!(family());
    let mut target = Process::start(&program, &[]);
    let work = probe(&program, "work");
    let pid = target.pid().to_string();
    let watch = Watch::on(&target, &["work"]);
    let session = Session::armed(&[&watch], || Session::start(["stat", "-f", &work, "-p", &pid]));
    let front = session.process.child_id();
    let holder = tracer_of(target.pid()).expect("it is traced");
    let held = || {
        let descriptors = fs::read_dir(format!("/proc/{holder}/fd")).expect("the holder lives").count();
        (tests::maps(front).iter().filter(|region| region.is_xol()).count(), descriptors)
    };
    let before = held();
    let count = rounds(200, 2000);
    target.ask(&format!("fork {count}"));
    // A few more than when the first probes had just come: the front may not have opened the first state yet.
    wait_for("the states of the dead to be closed", || {
        let now = held();
        (now.0 <= before.0 + 1 && now.1 <= before.1 + 4).then_some(())
    });
    let memory = |pid| tests::status_field(pid, "VmRSS").unwrap_or_default();
    println!("after {count} children: front {}, holder {}", memory(front), memory(holder));
    let expected = own_counts(&mut target);
    let report = session.end();
    report.assert_clean();
    assert_eq!(by_pid(&report, &work), expected);
    assert_eq!(expected.len() as u64, count + 1);
    target.finish();
}

/// Children made while the probes are only coming: each counts from some moment on, none is forgotten.
#[test]
fn children_made_while_the_probes_come() {
    let program = need!(family());
    let work = probe(&program, "work");
    for _ in 0..rounds(5, 50) {
        // A session that had to be begun again would know nothing of the children made in the first.
        let (mut target, session) = wait_for("a session from before the storm", || {
            let mut target = Process::start(&program, &[]);
            let watch = Watch::on(&target, &["work"]);
            let pid = target.pid();
            let session = Session::start(["stat", "-f", &work, "-p", &pid.to_string()]);
            wait_for("the tracer", || tracer_of(pid));
            target.tell("storm");
            assert_eq!(target.hear().word, "storming");
            let Some(session) = session.armed_at_once(&[&watch]) else {
                end_storm(&mut target);
                assert_eq!(target.ask("release").number("bad"), 0);
                target.finish();
                return None;
            };
            Some((target, session))
        });
        end_storm(&mut target);
        // Those that live on were made before, while and after the probes came.
        let alive = children_of(target.pid());
        for pid in &alive {
            wait_for("probes in a child", || (!text_changes(*pid).is_empty()).then_some(()));
        }
        let before = own_counts(&mut target);
        assert_eq!(target.ask("release").number("bad"), 0);
        let after = own_counts(&mut target);
        let report = session.end();
        report.assert_clean();
        let hits = by_pid(&report, &work);
        assert!(alive.iter().all(|pid| hits.contains_key(pid)), "{alive:?}: {report:?}");
        for (pid, hits) in &hits {
            let own = after.get(pid).copied().unwrap_or(0);
            let live = alive.contains(pid);
            let least = if live { own - before[pid] } else { 0 };
            assert!((least..=own).contains(hits), "{pid} (alive {live}): {hits} not in {least}..={own}");
        }
        target.finish();
    }
}

fn end_storm(target: &mut Process) {
    target.tell("enough");
    assert_eq!(target.hear().word, "stormed");
    assert_eq!(target.hear().word, "done");
}

/// Ctrl-C while children come and go: whoever lives on has its own text and no tracer.
fn interrupted(follow: bool) {
    let program = need!(family());
    let work = probe(&program, "work");
    for round in 0..rounds(8, 100) {
        let mut target = Process::start(&program, &[]);
        let pid = target.pid().to_string();
        let mut arguments = vec!["stat", &work, "-p", &pid];
        arguments.extend(follow.then_some("-f"));
        let watch = Watch::on(&target, &["work"]);
        let session = Session::armed(&[&watch], || Session::start(&arguments));
        target.tell("storm");
        assert_eq!(target.hear().word, "storming");
        let some = usize::try_from(1 + round % 4).expect("few");
        wait_for("children that live on", || (children_of(target.pid()).len() >= some).then_some(()));
        let report = session.end();
        report.assert_clean();
        // At its own first moments a child of clean text may still be on its way to its exec.
        end_storm(&mut target);
        for pid in children_of(target.pid()).into_iter().chain([target.pid()]) {
            assert_eq!(tracer_of(pid), None, "{pid}: {report:?}");
            assert_own_text(pid);
        }
        assert_eq!(target.ask("release").number("bad"), 0);
        target.finish();
    }
}

#[test]
fn interrupted_while_following() {
    interrupted(true);
}

#[test]
fn interrupted_while_letting_go() {
    interrupted(false);
}

/// A process that is killed while it forks: its last child may never be told of, and must not stay stopped or patched.
#[test]
fn killed_while_forking() {
    let program = need!(family());
    let work = probe(&program, "work");
    for round in 0..rounds(12, 200) {
        let mut target = Process::start(&program, &[]);
        let after = 5 + round;
        target.tell(&format!("kill {after}"));
        let maker = target.hear();
        let pid = u32::try_from(maker.number("pid")).expect("a process");
        let watch = Watch::at(pid, &[maker.number("work")]);
        let mut arguments = vec!["stat".to_owned(), work.clone(), "-p".to_owned(), pid.to_string()];
        arguments.extend((round % 2 == 0).then(|| "-f".to_owned()));
        let session = Session::armed(&[&watch], || Session::start(&arguments));
        target.tell("go");
        let killed = target.hear();
        assert_eq!(killed.word, "killed", "{killed:?}");
        let report = if round % 2 == 0 {
            // Its children are followed still.
            session.end()
        } else {
            session.wait()
        };
        report.assert_clean();
        let children = children_of(target.pid());
        assert!(children.len() as u64 >= killed.number("lives"), "{children:?}");
        for pid in children {
            wait_for("an untraced child", || tracer_of(pid).is_none().then_some(()));
            assert_own_text(pid);
        }
        assert_eq!(target.ask("release").number("bad"), 0);
        target.finish();
    }
}

/// Hits of a followed family name the process they are of.
#[test]
fn traced() {
    let program = need!(family());
    let mut target = Process::start(&program, &[]);
    let work = probe(&program, "work");
    let pid = target.pid().to_string();
    let watch = Watch::on(&target, &["work"]);
    let session = Session::armed(&[&watch], || Session::start(["trace", "-f", &work, "-p", &pid]));
    for command in ["fork 10", "vfork 3", "spawn 3", "grand 2", "chain 2", "stay 50"] {
        target.ask(command);
    }
    let expected = own_counts(&mut target);
    let report = session.end();
    report.assert_clean();
    let mut hits: BTreeMap<u32, u64> = BTreeMap::new();
    for hit in report.traced() {
        *hits
            .entry(u32::try_from(hit["pid"].as_u64().expect("a process")).expect("a process"))
            .or_default() += 1;
    }
    assert_eq!((hits, report.lost_in_all()), (without_zeros(expected), 0));
    target.finish();
}

/// `-f -- sh -c 'a | b'`: each process of a pipeline has its own count.
#[test]
fn pipeline() {
    let program = need!(family());
    let Some(shell) = tests::which("sh") else { tests::skip!("no sh") };
    let work = probe(&program, "work");
    let script = "printf 'fork 3\\nlog\\n' | $0 | cat >&2; printf 'vfork 2\\nlog\\n' | $0 >&2";
    let logs = tempfile::NamedTempFile::new().expect("a temporary file");
    let out = tempfile::NamedTempFile::new().expect("a temporary file");
    let mut command = xol(["stat", "-q", "--json", "-f", &work, "-o"]);
    command.arg(out.path()).arg("--").arg(shell).args(["-c", script]).arg(&program);
    let status = command.stderr(logs.reopen().expect("ours")).status().expect("xol runs");
    let said = fs::read_to_string(logs.path()).expect("ours");
    let report = Report::parse(status, said.clone(), &fs::read_to_string(out.path()).expect("ours"));
    report.assert_clean();
    let mut expected = BTreeMap::new();
    for field in said.lines().filter_map(|line| line.strip_prefix("log ")).flat_map(str::split_whitespace) {
        let (key, value) = field.split_once('=').expect("a field");
        let Some(pid) = key.strip_prefix('p') else { continue };
        expected.insert(pid.parse::<u32>().expect("a process"), value.parse::<u64>().expect("a count"));
    }
    assert_eq!(expected.len(), 2 + 3 + 2, "{said}");
    assert_eq!(without_zeros(by_pid(&report, &work)), expected, "{said}");
}

/// Several processes by number, of one file and of another: counts for each; one ends early, one executes another program.
#[test]
fn several_processes() {
    let (program, other) = (need!(family()), need!(Program::work().build()));
    let mut targets =
        [Process::start(&program, &[]), Process::start(&program, &[]), Process::start(&program, &[])];
    let mut worker = Process::start(&other, &["2"]);
    let (work, others) = (probe(&program, "work"), probe(&other, "work"));
    let numbers: Vec<String> =
        targets.iter().chain([&worker]).map(|target| target.pid().to_string()).collect();
    // Without -f the children are let go: only own calls count.
    let watches: Vec<Watch> =
        targets.iter().chain([&worker]).map(|target| Watch::on(target, &["work"])).collect();
    let start = || Session::start(["stat", &work, &others, "-p", &numbers.join(",")]);
    let session = Session::armed(&watches.iter().collect::<Vec<_>>(), start);
    let mut expected = BTreeMap::new();
    for (target, times) in targets.iter_mut().zip([5, 6, 7]) {
        target.ask(&format!("fork {times}"));
        expected.insert(target.pid(), own_counts(target)[&target.pid()]);
    }
    let done = worker.ask("calls 1000");
    let [first, second, mut third] = targets;
    first.finish();
    let mut second = second;
    second.tell("self /bin/true");
    assert!(second.wait().success());
    third.ask("vfork 2");
    expected.insert(third.pid(), own_counts(&mut third)[&third.pid()]);
    worker.ask("calls 10");
    let report = session.end();
    report.assert_clean();
    expected.insert(worker.pid(), 0);
    assert_eq!(without_zeros(by_pid(&report, &work)), without_zeros(expected), "{report:?}");
    let of_worker = without_zeros(by_pid(&report, &others));
    assert_eq!(of_worker, BTreeMap::from([(worker.pid(), done.number("work") + 20)]), "{report:?}");
    worker.finish();
    third.finish();
}

/// One that cannot be attached: an error that names it, and the others as they were.
#[test]
fn one_of_several_is_traced_already() {
    let program = need!(family());
    let mut free = Process::start(&program, &[]);
    let mut taken = Process::start(&program, &[]);
    let work = probe(&program, "work");
    let watch = Watch::on(&taken, &["work"]);
    let session = Session::armed(&[&watch], || Session::stat(&[&work], taken.pid()));
    for numbers in [format!("{},{}", free.pid(), taken.pid()), format!("{},{}", taken.pid(), free.pid())] {
        let before = Snapshot::of(free.pid());
        let report = Report::of(&mut xol(["stat", &work, "-p", &numbers]));
        report.assert_error(1, &["already traced", &taken.pid().to_string()]);
        before.assert_unchanged(free.pid());
    }
    taken.ask("fork 2");
    let calls = own_counts(&mut taken)[&taken.pid()];
    let report = session.end();
    report.assert_clean();
    assert_eq!(report.hits(&work), calls);
    assert_eq!(free.ask("fork 2").number("bad"), 0);
    free.finish();
    taken.finish();
}

/// A process that waits for its vfork child can be attached and left again and again: it never freezes the stop.
#[test]
fn vfork_parents_come_and_go() {
    let program = need!(family());
    let work = probe(&program, "work");
    let mut target = Process::start(&program, &[]);
    let pid = target.pid();
    let watch = Watch::on(&target, &["work"]);
    target.tell(&format!("slow {}", rounds(20, 200)));
    assert_eq!(target.hear().word, "slow");
    let mut longest = 0;
    for round in 0..rounds(20, 200) {
        let pid = pid.to_string();
        let mut arguments = vec!["stat", &work, "-p", &pid];
        arguments.extend((round % 2 == 1).then_some("-f"));
        let session = Session::armed(&[&watch], || Session::start(&arguments));
        let report = session.end();
        report.assert_clean();
        longest = longest.max(report.summary()["longest_stop_us"].as_u64().expect("a time"));
        watch.wait_restored();
    }
    println!("longest stop of a program that waits for vfork children: {longest} us");
    let done = target.hear();
    assert_eq!((done.word.as_str(), done.number("bad")), ("done", 0));
    for pid in children_of(pid).into_iter().chain([pid]) {
        assert_own_text(pid);
    }
    target.finish();
}

/// A place where set-user-ID files have their effect and an ordinary user can reach them.
fn place_for_privilege() -> Result<tempfile::TempDir, String> {
    if !tests::is_root() {
        return Err("only root can make a set-user-ID program of root's".to_owned());
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let is_nosuid = |folder: &Path| {
        let at = |line: &&str| line.split(' ').nth(1).is_some_and(|point| folder.starts_with(point));
        let longest = mounts.lines().filter(at).max_by_key(|line| line.split(' ').nth(1).map(str::len));
        longest.is_none_or(|line| line.split(' ').nth(3).is_some_and(|o| o.split(',').any(|o| o == "nosuid")))
    };
    let candidates = [std::env::temp_dir(), "/var/tmp".into(), "/tmp".into(), "/usr/local".into()];
    let place = candidates.iter().find(|place| place.is_dir() && !is_nosuid(place));
    let place = place.ok_or("every place for a set-user-ID program is mounted nosuid")?;
    let folder = tempfile::Builder::new().tempdir_in(place).map_err(|error| error.to_string())?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))
        .map_err(|error| error.to_string())?;
    Ok(folder)
}

/// A set-user-ID program of root's that tells whether it has root's rights, in that place; and an ordinary copy of another.
fn privileged_program(folder: &Path, ordinary: &Path) -> Result<(PathBuf, PathBuf), String> {
    let built = Program::new("euid.c").build()?;
    let (privileged, copy) = (folder.join("euid"), folder.join("family"));
    let run = |command: &str, arguments: &[&std::ffi::OsStr]| {
        let status = Command::new(command).args(arguments).status();
        status.is_ok_and(|status| status.success()).then_some(()).ok_or(format!("{command} failed"))
    };
    run("cp", &[built.as_ref(), privileged.as_ref()])?;
    run("cp", &[ordinary.as_ref(), copy.as_ref()])?;
    run("chmod", &["755".as_ref(), copy.as_ref()])?;
    run("chmod", &["4755".as_ref(), privileged.as_ref()])?;
    Ok((privileged, copy))
}

/// The status of `euid` with root's rights, and without.
const PRIVILEGED: u64 = 10;
const ORDINARY: u64 = 11;

struct Unprivileged {
    _folder: tempfile::TempDir,
    target: Process,
    work: String,
    euid: PathBuf,
}

/// A probed program of an ordinary user, and what it is to execute.
fn unprivileged() -> Result<Unprivileged, String> {
    let folder = place_for_privilege()?;
    let (euid, program) = privileged_program(folder.path(), &family()?)?;
    let mut target = Process::of_command(&mut tests::as_nobody(&program));
    // Unprobed it works, or the test means nothing here.
    let ran = target.ask(&format!("run fork {}", euid.display()));
    if ran.number("status") != PRIVILEGED {
        return Err("set-user-ID has no effect here (a user namespace, or no_new_privs)".to_owned());
    }
    let work = probe(&program, "work");
    Ok(Unprivileged { _folder: folder, target, work, euid })
}

fn session_of_nobody(one: &Unprivileged, follow: bool) -> Session {
    let pid = one.target.pid().to_string();
    let mut arguments = vec!["stat", &one.work, "-p", &pid];
    arguments.extend(follow.then_some("-f"));
    let watch = Watch::on(&one.target, &["work"]);
    Session::armed(&[&watch], || Session::start_as_nobody(&arguments))
}

/// Children that execute a set-user-ID program get its rights, however they were made.
#[test]
fn set_user_id_children_keep_their_privilege() {
    let mut one = need!(unprivileged());
    let session = session_of_nobody(&one, false);
    for how in ["fork", "vfork", "spawn", "vfork", "spawn"] {
        let ran = one.target.ask(&format!("run {how} {}", one.euid.display()));
        assert_eq!(ran.number("status"), PRIVILEGED, "by {how}: {}", session.errors());
    }
    one.target.ask("spawn 2");
    let report = session.end();
    report.assert_clean();
    assert!(!report.errors.contains("privilege"), "{report:?}");
    one.target.finish();
}

/// A followed child, and the traced process itself, do not get them: said.
#[test]
fn a_traced_exec_without_its_privilege_is_said() {
    let mut one = need!(unprivileged());
    let said = |report: &Report| report.errors.contains("euid without the privilege that the file gives");
    let session = session_of_nobody(&one, true);
    let ran = one.target.ask(&format!("run spawn {}", one.euid.display()));
    assert_eq!(ran.number("status"), ORDINARY);
    let report = session.end();
    report.assert_clean();
    assert!(said(&report), "{report:?}");

    let session = session_of_nobody(&one, false);
    one.target.tell(&format!("self {}", one.euid.display()));
    assert_eq!(one.target.wait().code(), Some(i32::try_from(ORDINARY).expect("small")));
    let report = session.wait();
    assert!(report.status.success(), "{report:?}");
    assert!(said(&report), "{report:?}");
}

/// One that could not gain any loses none by us.
#[test]
fn no_privilege_is_missed_where_none_can_be_gained() {
    let folder = need!(place_for_privilege());
    let family = need!(family());
    let (euid, program) = need!(privileged_program(folder.path(), &family));
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs", "--"]).arg(&program);
    let target = Process::of_command(&mut command);
    let work = probe(&program, "work");
    let mut one = Unprivileged { _folder: folder, target, work, euid };
    let session = session_of_nobody(&one, true);
    for how in ["fork", "vfork", "spawn"] {
        let ran = one.target.ask(&format!("run {how} {}", one.euid.display()));
        assert_eq!(ran.number("status"), ORDINARY, "by {how}: {}", session.errors());
    }
    let report = session.end();
    report.assert_clean();
    assert!(!report.errors.contains("privilege"), "{report:?}");
    one.target.finish();
}
