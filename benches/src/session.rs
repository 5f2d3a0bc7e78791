//! xol, driven as its users do: by its command line, its results read from `-o FILE --json`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::error::Error;
use crate::sys;

/// How long arming and removing may take before we give up.
const LIMIT: Duration = Duration::from_secs(120);
/// How often we look.
const INTERVAL: Duration = Duration::from_micros(500);

/// The xol binary under measurement.
pub(crate) struct Xol {
    binary: PathBuf,
}

/// A running `xol stat` or `xol trace`; killed when dropped without `finish`.
pub(crate) struct Session {
    child: Child,
    results: PathBuf,
    started: Instant,
}

/// What a session reported.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Per site: what was asked for, and its hits.
    pub sites: Vec<Site>,
    /// Lines about hits.
    pub hit_lines: u64,
    /// The last line.
    pub summary: Summary,
}

/// A `stat` line, as far as it matters here.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Site {
    /// The probe's canonical name.
    pub probe: String,
    /// `jump`, `trap`, ...
    pub mechanism: String,
    /// Hits counted.
    pub hits: u64,
    /// Hits lost.
    pub lost: u64,
}

/// A `summary` line, as far as it matters here.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Hits of all sites.
    pub hits: u64,
    /// Losses of all sites.
    pub lost: u64,
    /// Microseconds in which the target stood still, all stops together.
    pub stopped_us: u64,
    /// The longest of them.
    pub longest_stop_us: u64,
    /// Whether the text is as it was.
    pub text_restored: bool,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Line {
    Stat(Site),
    Hit {},
    Lost {},
    Summary(Summary),
    #[serde(other)]
    Other,
}

impl Xol {
    /// For a binary.
    pub(crate) fn new(binary: PathBuf) -> Self {
        Self { binary }
    }

    /// Starts `xol COMMAND PROBE... -p PID`.
    pub(crate) fn start(
        &self,
        command: &str,
        probes: &[String],
        pid: u32,
        results: &Path,
    ) -> Result<Session, Error> {
        let started = Instant::now();
        let child = Command::new(&self.binary)
            .arg(command)
            .args(probes)
            // The duration only bounds a run that nobody ends.
            .args(["-p", &pid.to_string(), "--duration", "10m", "--json", "-o"])
            .arg(results)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(Error::io(format!("starting {}", self.binary.display())))?;
        Ok(Session { child, results: results.to_owned(), started })
    }
}

impl Session {
    /// Waits until `armed` says so; the time since xol was started.
    pub(crate) fn armed(
        &mut self,
        mut armed: impl FnMut() -> Result<bool, Error>,
    ) -> Result<Duration, Error> {
        loop {
            if armed()? {
                return Ok(self.started.elapsed());
            }
            if let Some(status) = self.poll()? {
                return Err(self.ended(status));
            }
            if self.started.elapsed() > LIMIT {
                return Err(Error::Deadline { what: "arming".to_owned(), limit: LIMIT });
            }
            thread::sleep(INTERVAL);
        }
    }

    /// Waits until `hits` hits are in the results, or a loss is.
    pub(crate) fn told(&mut self, hits: u64) -> Result<(), Error> {
        let what = format!("reading {}", self.results.display());
        let what = || what.clone();
        let asked = Instant::now();
        let mut results = BufReader::new(File::open(&self.results).map_err(Error::io(what()))?);
        let (mut found, mut line) = (0, String::new());
        while found < hits {
            // A line that is not all there yet is read on the next time.
            if results.read_line(&mut line).map_err(Error::io(what()))? > 0 && line.ends_with('\n') {
                match serde_json::from_str(&line) {
                    Ok(Line::Hit {}) => found += 1,
                    Ok(Line::Lost {}) => return Ok(()),
                    _ => {}
                }
                line.clear();
                continue;
            }
            if let Some(status) = self.poll()? {
                return Err(self.ended(status));
            }
            if asked.elapsed() > LIMIT {
                return Err(Error::Deadline { what: format!("reading {hits} hits"), limit: LIMIT });
            }
            thread::sleep(INTERVAL);
        }
        Ok(())
    }

    /// Ends it as a user does, by Ctrl-C, and reads what it reported; with the time that the end took.
    pub(crate) fn finish(mut self) -> Result<(Report, Duration), Error> {
        let asked = Instant::now();
        sys::interrupt(&self.child).map_err(Error::io("interrupting xol"))?;
        let report = self.wait_from(asked)?;
        Ok((report, asked.elapsed()))
    }

    /// Waits until it ends with its target, and reads what it reported.
    pub(crate) fn wait(mut self) -> Result<Report, Error> {
        self.wait_from(Instant::now())
    }

    fn wait_from(&mut self, asked: Instant) -> Result<Report, Error> {
        let status = loop {
            if let Some(status) = self.poll()? {
                break status;
            }
            if asked.elapsed() > LIMIT {
                return Err(Error::Deadline { what: "removing the probes".to_owned(), limit: LIMIT });
            }
            thread::sleep(INTERVAL);
        };
        if !status.success() {
            return Err(self.ended(status));
        }
        let file =
            File::open(&self.results).map_err(Error::io(format!("opening {}", self.results.display())))?;
        let report = Report::read(BufReader::new(file))
            .map_err(|detail| Error::Results { path: self.results.clone(), detail })?;
        Ok(report)
    }

    fn poll(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.child.try_wait().map_err(Error::io("waiting for xol"))
    }

    /// xol has ended although it should not have, or not well.
    fn ended(&mut self, status: ExitStatus) -> Error {
        let mut said = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            let _ = stderr.read_to_string(&mut said);
        }
        let detail = match said.trim() {
            "" => format!("ended early with {status}"),
            said => format!("{status}: {said}"),
        };
        Error::Command { command: "xol".to_owned(), detail }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Only if `finish` did not get that far; xol's holder then removes the probes.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Report {
    /// Reads result lines; the last must be the summary.
    pub(crate) fn read(lines: impl BufRead) -> Result<Self, String> {
        let mut report = Self::default();
        let mut complete = false;
        for (number, line) in (1_u64..).zip(lines.lines()) {
            let line = line.map_err(|error| error.to_string())?;
            let parsed = serde_json::from_str(&line).map_err(|error| format!("line {number}: {error}"))?;
            complete = false;
            match parsed {
                Line::Stat(site) => report.sites.push(site),
                Line::Hit {} => report.hit_lines += 1,
                Line::Summary(summary) => {
                    report.summary = summary;
                    complete = true;
                }
                Line::Lost {} | Line::Other => {}
            }
        }
        if complete { Ok(report) } else { Err("the last line is not a summary".to_owned()) }
    }

    /// Hits of the site whose canonical name ends in `:NAME`.
    pub(crate) fn hits_of(&self, name: &str) -> Option<u64> {
        let suffix = format!(":{name}");
        self.sites.iter().find(|site| site.probe.ends_with(&suffix)).map(|site| site.hits)
    }
}

#[cfg(test)]
mod tests {
    use super::{Report, Xol};
    use crate::error::Error;

    const RESULTS: &str = r#"{"type":"hit","time":1,"pid":2,"tid":2,"probe":"uprobe:/bin/x:lea","args":{"arg0":"0x1"}}
{"type":"lost","probe":"uprobe:/bin/x:lea","count":3,"reason":"ring full"}
{"type":"stat","probe":"uprobe:/bin/x:lea","spec":"x:lea","pid":7,"address":"0x55","file_address":"0x11","mechanism":"jump","hits":12,"lost":3,"lost_by":{"ring full":3,"nested":0,"abandoned":0},"reason":null}
{"type":"summary","sites":{"jump":1,"pun":0,"trap":0,"refused":0,"waiting":0},"hits":12,"lost":3,"threads":1,"stopped_us":400,"longest_stop_us":300,"text_restored":true,"left_mapped":0,"warnings":[]}
"#;

    #[test]
    fn results_are_read() {
        let report = Report::read(RESULTS.as_bytes()).unwrap();
        assert_eq!(report.hits_of("lea"), Some(12));
        assert_eq!(report.hits_of("ea"), None);
        assert_eq!(report.hit_lines, 1);
        assert_eq!(report.sites[0].mechanism, "jump");
        let summary = &report.summary;
        assert_eq!((summary.hits, summary.lost), (12, 3));
        assert_eq!((summary.stopped_us, summary.longest_stop_us), (400, 300));
        assert!(summary.text_restored);
    }

    #[test]
    fn results_without_a_summary_at_the_end_are_refused() {
        assert!(Report::read("".as_bytes()).is_err());
        let (without, _) = RESULTS.trim_end().rsplit_once('\n').unwrap();
        assert!(Report::read(without.as_bytes()).is_err());
        assert!(Report::read(format!("{RESULTS}{without}").as_bytes()).is_err());
        assert!(Report::read("{\"type\":\"stat\"}".as_bytes()).is_err());
    }

    #[test]
    fn an_xol_that_ends_before_it_armed_is_an_error_with_its_words() {
        let folder = tempfile::tempdir().unwrap();
        let xol = Xol::new("/bin/false".into());
        let mut session = xol.start("stat", &[], 1, &folder.path().join("out")).unwrap();
        let error = session.armed(|| Ok(false)).unwrap_err();
        assert!(
            matches!(&error, Error::Command { detail, .. } if detail.contains("exit status: 1")),
            "{error}"
        );
    }
}
