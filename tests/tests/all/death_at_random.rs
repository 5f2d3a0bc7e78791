//! `kill -9` of the front, of the holder, of both, at random moments of arming, running and removing.
//!
//! The holder marks the moments in which its death does harm (`xol:windows`): kills inside them are counted apart, and the
//! target that bore one is replaced. Outside them nothing may ever come of it.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use tests::{
    Handle, PATIENCE, Process, Program, Report, Session, Signal, Snapshot, Watch, Window, Windows,
    children_of, need, rounds, tracer_of, wait_for, xol,
};

use crate::probes::probe;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Front,
    Holder,
    Both,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Arming,
    Running,
    Removing,
}

const VICTIMS: [Victim; 3] = [Victim::Front, Victim::Holder, Victim::Both];
const PHASES: [Phase; 3] = [Phase::Arming, Phase::Running, Phase::Removing];

/// What is probed, how, and what the program does meanwhile.
struct Scene {
    program: PathBuf,
    arguments: &'static [&'static str],
    /// The command line of xol before the probe.
    verb: &'static [&'static str],
    /// Before anything: what the program keeps from its first time on is there then.
    warm: fn(&mut Process),
    /// Makes the program busy.
    begin: fn(&mut Process),
    /// Asserts that it goes on, or has done all, and that everything was right.
    check: fn(&mut Process),
}

/// How long the phases take when nobody is killed.
#[derive(Clone, Copy, Debug)]
struct Times {
    arming: Duration,
    removing: Duration,
}

/// A running program of a scene, as it was before any session.
struct Subject {
    process: Process,
    watch: Watch,
    before: Snapshot,
}

/// What came of the kills.
#[derive(Debug, Default)]
struct Tally {
    outside: usize,
    in_windows: usize,
    /// Of those in windows: how many the program died of, so far as was seen.
    harmed: usize,
    /// From the kill to the restored text.
    restored: Vec<Duration>,
    windows: Vec<Window>,
}

impl Scene {
    fn start(&self) -> Subject {
        let mut process = Process::start(&self.program, self.arguments);
        (self.warm)(&mut process);
        let watch = Watch::on(&process, &["work"]);
        let before = Snapshot::of(process.pid());
        Subject { process, watch, before }
    }

    fn attach(&self, subject: &Subject) -> Session {
        let pid = subject.process.pid().to_string();
        let work = probe(&self.program, "work");
        Session::start([self.verb, &[&work, "-p", &pid]].concat())
    }

    /// The times of one session that nobody disturbs.
    fn times(&self) -> Times {
        let mut subject = self.start();
        (self.begin)(&mut subject.process);
        let mut session = self.attach(&subject);
        let front = Handle::of(session.process.child_id(), || true).expect("our child");
        spin("the tracer", || tracer_of(subject.process.pid()).is_some());
        let begun = Instant::now();
        // The real thing or not: it only serves to choose moments.
        spin("the probes", || subject.watch.is_armed() || session.process.ended().is_some());
        let arming = begun.elapsed();
        let begun = Instant::now();
        front.send(Signal::Interrupt);
        spin("the end of tracing", || tracer_of(subject.process.pid()).is_none());
        let removing = begun.elapsed();
        session.process.wait();
        (self.check)(&mut subject.process);
        Times { arming: arming * 3 / 2, removing }
    }

    /// So many kills of each victim, spread over the phases. Gives the windows of each victim's sessions.
    fn kill(&self, victims: &[Victim], count: u64) -> Vec<Window> {
        let mut windows = Vec::new();
        let times = self.times();
        println!("{times:?}");
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for &victim in victims {
            let mut tally = Tally::default();
            let mut subject = self.start();
            for (round, phase) in (0..count).zip(PHASES.into_iter().cycle()) {
                println!("{victim:?} {phase:?} {round}");
                if !self.kill_one(&mut subject, victim, phase, times, &mut random, &mut tally) {
                    subject = self.start();
                }
            }
            subject.process.finish();
            tally.print(victim);
            windows.append(&mut tally.windows);
        }
        windows
    }

    /// Gives whether the target is as good as new.
    fn kill_one(
        &self,
        subject: &mut Subject,
        victim: Victim,
        phase: Phase,
        times: Times,
        random: &mut Random,
        tally: &mut Tally,
    ) -> bool {
        let pid = subject.process.pid();
        (self.begin)(&mut subject.process);
        let mut session = self.attach(subject);
        // By handles: in the removing phase they may be gone already, and their numbers another's.
        let front = Handle::of(session.process.child_id(), || true).expect("our child");
        spin("the tracer", || tracer_of(pid).is_some() || session.process.ended().is_some());
        let found = holder_of(&session)
            .filter(|_| wait_for_moment(&mut session, &front, &subject.watch, phase, times, random));
        let Some((holder, windows)) = found else {
            session.process.wait();
            let errors = session.errors();
            assert!(errors.contains("did not stop"), "{errors}; the target: {:?}", subject.process.ended());
            println!("no stop: {errors}");
            (self.check)(&mut subject.process);
            return true;
        };
        if victim == Victim::Both {
            stop(&front, session.process.child_id());
        }
        let was_armed = subject.watch.is_armed();
        let killed = Instant::now();
        if victim != Victim::Front {
            holder.send(Signal::Kill);
        }
        if victim != Victim::Holder {
            front.send(Signal::Kill);
        }
        if victim != Victim::Both && was_armed {
            // A target that died of it has no text: seen below.
            spin("the text", || subject.watch.is_restored() || subject.process.ended().is_some());
            tally.restored.push(killed.elapsed());
        }
        session.process.wait();
        spin("the end of tracing", || tracer_of(pid).is_none());
        tally.add(&windows);
        if victim != Victim::Front && !windows.open().is_empty() {
            println!("in a window: {:?}", windows.open());
            tally.in_windows += 1;
            tally.harmed += usize::from(subject.process.ended().is_some());
            return false;
        }
        tally.outside += 1;
        let errors = session.errors();
        assert!(!errors.contains("panicked"), "{errors}");
        println!("{errors}");
        if victim != Victim::Both {
            assert!(subject.watch.is_restored());
        }
        detach(pid);
        assert!(subject.watch.is_restored());
        (self.check)(&mut subject.process);
        subject.before.assert_unchanged(pid);
        true
    }
}

/// Takes out what is left: everything, if both were killed; else at most mappings with a thread in them that got no processor.
fn detach(pid: u32) {
    wait_for("nothing to be left", || {
        let detached = Report::of(&mut xol(["detach", "-p", &pid.to_string()]));
        assert!(detached.status.success(), "{detached:?}");
        (!detached.errors.contains("left behind")).then_some(())
    });
}

/// A random delay chooses the moment; nothing depends on how long it really is. False if xol gave up because some thread got no
/// processor within the deadline of the stop.
fn wait_for_moment(
    session: &mut Session,
    front: &Handle,
    watch: &Watch,
    phase: Phase,
    times: Times,
    random: &mut Random,
) -> bool {
    if !matches!(phase, Phase::Arming) {
        spin("the probes", || watch.is_armed() || session.process.ended().is_some());
        if session.process.ended().is_some() {
            return false;
        }
    }
    let most = match phase {
        Phase::Arming => times.arming,
        Phase::Running => Duration::from_millis(30),
        Phase::Removing => {
            thread::sleep(random.up_to(Duration::from_millis(30)));
            front.send(Signal::Interrupt);
            times.removing
        }
    };
    thread::sleep(random.up_to(most));
    true
}

/// The holder, and its windows; `None` if the session is over.
fn holder_of(session: &Session) -> Option<(Handle, Windows)> {
    let front = session.process.child_id();
    let holder = *children_of(front).first()?;
    let handle = Handle::of(holder, || children_of(front).contains(&holder))?;
    Some((handle, Windows::of(holder)?))
}

/// Stopped, it cannot repair anything. It may be gone already; our child, its number is still its own.
fn stop(front: &Handle, pid: u32) {
    front.send(Signal::Stop);
    let state = || tests::status_field(pid, "State");
    spin("a stop", || state().is_none_or(|state| state.starts_with(['T', 'Z', 'X'])));
}

/// Waits without a pause: what is waited for may be short.
fn spin(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for {what}");
        thread::yield_now();
    }
}

/// Marsaglia's xorshift.
struct Random(u64);

impl Random {
    fn up_to(&mut self, most: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        most.mul_f64((self.0 >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

impl Tally {
    fn add(&mut self, windows: &Windows) {
        let new = windows.all();
        if self.windows.is_empty() {
            self.windows = new;
            return;
        }
        for (sum, new) in self.windows.iter_mut().zip(new) {
            sum.count += new.count;
            sum.total += new.total;
            sum.longest = sum.longest.max(new.longest);
        }
    }

    fn print(&mut self, victim: Victim) {
        let Self { outside, in_windows, harmed, .. } = self;
        println!(
            "{victim:?}: {outside} kills outside windows, {in_windows} inside, of which {harmed} harmed"
        );
        self.restored.sort();
        if let (Some(most), Some(middle)) = (self.restored.last(), self.restored.get(self.restored.len() / 2))
        {
            println!(
                "  text restored after {middle:?} (median of {}), {most:?} (longest)",
                self.restored.len()
            );
        }
        for Window { name, count, total, longest, .. } in &self.windows {
            println!("  {name}: {count} windows, {total} ns in all, the longest {longest} ns");
        }
    }
}

fn begin_work(process: &mut Process) {
    process.ask("run");
}

fn check_work(process: &mut Process) {
    let before = process.ask("counters").number("ended");
    wait_for("more calls", || (process.ask("counters").number("ended") > before + 1000).then_some(()));
    assert_eq!(process.ask("stop").number("bad"), 0);
}

fn check_done(process: &mut Process) {
    let done = process.hear();
    assert_eq!(done.number("bad"), 0, "{done:?}");
}

fn work(verb: &'static [&'static str]) -> Result<Scene, String> {
    work_of(Program::work(), verb)
}

fn work_of(program: Program, verb: &'static [&'static str]) -> Result<Scene, String> {
    let program = program.build()?;
    Ok(Scene { program, arguments: &["3"], verb, warm: |_| {}, begin: begin_work, check: check_work })
}

#[test]
fn of_the_front() {
    need!(work(&["stat"])).kill(&[Victim::Front], rounds(30, 300));
}

#[test]
fn of_the_holder() {
    need!(work(&["stat"])).kill(&[Victim::Holder], rounds(30, 300));
}

#[test]
fn of_both() {
    need!(work(&["stat"])).kill(&[Victim::Both], rounds(30, 300));
}

/// A jump over the end of a page takes two writes: between them its holder must not die, and it says when that is.
#[test]
fn while_a_jump_crosses_a_page() {
    let windows = need!(work_of(Program::work().flag("-DACROSS"), &["stat"])).kill(&VICTIMS, rounds(9, 90));
    let half_written = windows.iter().filter(|window| window.name == "half written" && window.count > 0);
    assert!(half_written.count() > 0, "{windows:?}");
}

#[test]
fn while_tracing() {
    need!(work(&["trace"])).kill(&VICTIMS, rounds(9, 90));
}

/// Without membarrier and without a name for the area.
#[test]
fn under_a_filter() {
    let program = need!(Program::new("seccomp.c").source("work.S").build());
    let scene = Scene {
        program,
        arguments: &["default"],
        verb: &["stat"],
        // The C library keeps the second thread's stack.
        warm: |process| assert_eq!(process.ask("calls 10").number("bad"), 0),
        begin: |process| process.tell("calls 20000000"),
        check: check_done,
    };
    scene.kill(&VICTIMS, rounds(9, 90));
}

/// Children come and go meanwhile, each with probes of its own.
#[test]
fn while_children_are_followed() {
    let program = need!(Program::new("storm.c").source("work.S").build());
    let scene = Scene {
        program,
        arguments: &["1"],
        verb: &["stat", "-f"],
        warm: |_| {},
        begin: |process| process.tell("forks 200"),
        check: check_done,
    };
    scene.kill(&VICTIMS, rounds(9, 90));
}

/// Threads come and go meanwhile: one that has no place to write its events to must not ask a dead holder for it.
#[test]
fn while_threads_are_traced() {
    let program = need!(Program::new("storm.c").source("work.S").build());
    let scene = Scene {
        program,
        arguments: &["20"],
        verb: &["trace"],
        // The C library keeps their stacks.
        warm: |process| assert_eq!(process.ask("threads 200").number("bad"), 0),
        begin: |process| process.tell("threads 5000"),
        check: check_done,
    };
    scene.kill(&VICTIMS, rounds(9, 90));
}
