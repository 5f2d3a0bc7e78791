//! A server of one master and forked workers: the requests made are the hits of its function for each, over all workers.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::{
    Process, Report, Session, Signal, Watch, children_of, is_root, rounds, send, skip, text_changes,
    wait_for, which,
};

use crate::probes::probe;
use crate::real_programs::address_of;

const WORKERS: usize = 2;
/// Called once for each request.
const FUNCTION: &str = "ngx_http_process_request";

/// A folder with a configuration; nothing of the machine's own nginx is touched.
struct Place {
    folder: tempfile::TempDir,
    server: PathBuf,
    /// Run by root, for an ordinary user.
    lowered: bool,
}

impl Place {
    fn new(lowered: bool) -> Result<Self, String> {
        let server =
            which("nginx").or_else(|| Some(PathBuf::from("/usr/sbin/nginx")).filter(|path| path.exists()));
        let server =
            fs::canonicalize(server.ok_or("nginx is not installed")?).map_err(|error| error.to_string())?;
        if lowered && !is_root() {
            return Err("everything runs as an ordinary user already".to_owned());
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = folder.path().display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|kind| format!("{kind}_temp_path {at}/{kind};\n"))
            .collect();
        let configuration = format!(
            "daemon off;\nworker_processes {WORKERS};\npid {at}/pid;\nerror_log {at}/errors;\n\
             events {{ worker_connections 64; }}\n\
             http {{\naccess_log off;\n{temporary}\
             server {{ listen unix:{at}/socket; location / {{ return 200 \"well\"; }} }}\n}}\n"
        );
        fs::write(folder.path().join("conf"), configuration).expect("a folder of ours");
        if lowered {
            for path in [folder.path(), &folder.path().join("conf")] {
                chown(path, Some(65534), Some(65534)).expect("root may");
            }
        }
        Ok(Self { folder, server, lowered })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What nginx is started with.
    fn arguments(&self) -> Vec<String> {
        let path = |name: &str| self.path(name).display().to_string();
        vec!["-p".to_owned(), path(""), "-e".to_owned(), path("errors"), "-c".to_owned(), path("conf")]
    }

    fn command(&self) -> Command {
        let mut command =
            if self.lowered { tests::as_nobody(&self.server) } else { Command::new(&self.server) };
        command.args(self.arguments());
        command
    }

    fn xol<S: AsRef<std::ffi::OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Session {
        if self.lowered { Session::start_as_nobody(arguments) } else { Session::start(arguments) }
    }

    /// Waits until all workers are there and one answers; gives the master. One request is made.
    fn wait_up(&self) -> u32 {
        let master = wait_for("nginx to start", || {
            let pid = fs::read_to_string(self.path("pid")).ok()?.trim().parse().ok()?;
            (children_of(pid).len() == WORKERS && self.path("socket").exists()).then_some(pid)
        });
        wait_for("nginx to answer", || ask(&self.path("socket")).ok());
        master
    }

    fn requests(&self, count: u64) {
        for _ in 0..count {
            ask(&self.path("socket")).expect("nginx answers");
        }
    }

    fn probe(&self) -> String {
        probe(&self.server, FUNCTION)
    }
}

impl Drop for Place {
    /// A test that failed leaves no server behind.
    fn drop(&mut self) {
        let pid = fs::read_to_string(self.path("pid")).ok().and_then(|pid| pid.trim().parse().ok());
        if let Some(pid) = pid {
            send(pid, Signal::Terminate);
        }
    }
}

fn ask(socket: &Path) -> std::io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("well"), "{answer}");
    Ok(())
}

fn hits_of(report: &Report, name: &str, pid: u32) -> u64 {
    let of_pid = report.stats(name).filter(|line| line["pid"] == pid);
    of_pid.map(|line| line["hits"].as_u64().expect("a count")).sum()
}

/// Started under xol, its workers followed from their fork on.
fn started(lowered: bool) {
    let place = tests::need!(Place::new(lowered));
    let probe = place.probe();
    let server = place.server.display().to_string();
    let mut arguments = vec!["stat".to_owned(), "-f".to_owned(), probe.clone(), "--".to_owned(), server];
    arguments.extend(place.arguments());
    let session = place.xol(arguments);
    let master = place.wait_up();
    let workers = children_of(master);
    let count = rounds(300, 10_000);
    place.requests(count);
    assert!(send(master, Signal::Terminate));
    let report = session.wait();
    report.assert_clean();
    let of_workers: u64 = workers.iter().map(|pid| hits_of(&report, &probe, *pid)).sum();
    assert_eq!(
        (of_workers, report.hits(&probe), report.lost(&probe)),
        (count + 1, count + 1, 0),
        "{report:?}"
    );
    assert_eq!(hits_of(&report, &probe, master), 0, "a master answers nothing");
}

/// Attached while it runs: the master and each worker by its number.
fn attached(lowered: bool) {
    let place = tests::need!(Place::new(lowered));
    let probe = place.probe();
    let server = Process::spawn(&mut place.command());
    let master = place.wait_up();
    let pids: Vec<u32> = [master].into_iter().chain(children_of(master)).collect();
    let numbers: Vec<String> = pids.iter().map(u32::to_string).collect();
    let watches: Vec<Watch> =
        pids.iter().map(|pid| Watch::at(*pid, &[address_of(*pid, &place.server, FUNCTION)])).collect();
    let start = || place.xol(["stat", &probe, "-p", &numbers.join(",")]);
    let session = Session::armed(&watches.iter().collect::<Vec<_>>(), start);
    let count = rounds(300, 10_000);
    place.requests(count);
    let report = session.end();
    report.assert_clean();
    assert_eq!(report.stats(&probe).count(), pids.len(), "a row for each process");
    assert_eq!((report.hits(&probe), report.lost(&probe)), (count, 0), "{report:?}");
    for pid in pids {
        assert_eq!(text_changes(pid), Vec::<u64>::new(), "{pid}");
    }
    place.requests(10);
    assert!(send(master, Signal::Terminate));
    server.finish();
}

#[test]
fn started_under_xol() {
    started(false);
}

#[test]
fn attached_while_it_runs() {
    attached(false);
}

#[test]
fn as_an_ordinary_user() {
    if !is_root() {
        skip!("everything runs as an ordinary user already");
    }
    started(true);
    attached(true);
}
