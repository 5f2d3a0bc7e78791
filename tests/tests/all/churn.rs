//! Probes that come and go in one session while the program runs, and sessions that come and go.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use tests::{Process, Program, Random, need, rounds, wait_for};
use xol::session::{Action, Hit, Mechanism, Nobody, Session, SiteStatus, Summary};

use crate::in_process::{self, change};
use crate::probes::probe;

/// Offsets of the instructions of `work` (programs/work.S).
const INSTRUCTIONS: [u64; 8] = [0, 1, 4, 11, 15, 18, 22, 23];

fn open(target: &Process, specs: &[String]) -> Session {
    in_process::open(target.pid(), specs, Action::Count)
}

fn end(mut session: Session) -> (Vec<SiteStatus>, Summary) {
    let ended = session.remove(&mut |_: Hit| {}).expect("the probes are removed");
    session.wait().expect("the holder ends");
    assert!(ended.1.text_restored, "{:?}", ended.1);
    ended
}

fn add(session: &mut Session, spec: &str) -> usize {
    change("a new probe", || session.add(spec, &mut Nobody))[0]
}

fn drop_probe(session: &mut Session, site: usize) {
    change("one probe less", || session.drop_probe(site, &mut Nobody));
}

/// News of the target are looked at while probes stay armed.
fn look(session: &mut Session) {
    session.poll(Duration::from_millis(1), &mut |_| {}).expect("the session goes on");
}

fn counters(target: &mut Process) -> (u64, u64) {
    let line = target.ask("counters");
    (line.number("begun"), line.number("ended"))
}

/// Waits until the program has made so many calls.
fn wait_calls(target: &mut Process, calls: u64) {
    wait_for("so many calls", || (counters(target).1 >= calls).then_some(()));
}

/// Counts `counted` in four threads while the same session adds and removes the other probes, in turn, 100 times each,
/// and the program makes at least so many calls: every one of them is counted.
fn come_and_go(command: &str, counted: &str, mechanism: Mechanism, others: &[&str], calls: u64) {
    let program = need!(Program::work().build());
    let mut target = Process::start(&program, &["4"]);
    let mut session = open(&target, &[probe(&program, counted)]);
    target.ask(command);
    for _ in 0..rounds(100, 1000) {
        for name in others {
            let site = add(&mut session, &probe(&program, name));
            look(&mut session);
            drop_probe(&mut session, site);
        }
    }
    wait_calls(&mut target, calls);
    let stopped = target.ask("stop");
    assert_eq!(session.sites()[0].mechanism, mechanism);
    let (sites, summary) = end(session);
    assert_eq!(stopped.number("bad"), 0, "{stopped:?}");
    assert_eq!((sites[0].hits, sites[0].lost), (stopped.number("ended"), 0));
    assert!(sites.iter().skip(1).any(|site| site.hits > 0), "no neighbour was ever hit: {sites:?}");
    assert_eq!((summary.lost, summary.left_mapped), (0, 0), "{summary:?}");
    target.finish();
}

/// A neighbour's probe, and one inside the span of `work`'s own jump.
#[test]
fn neighbours_come_and_go() {
    come_and_go("run", "work", Mechanism::Jump, &["neighbour", "work+4"], 10_000_000);
}

/// The same around a breakpoint: a neighbour's probe, a second one at the same place, one right behind it.
#[test]
fn neighbours_of_a_breakpoint_come_and_go() {
    come_and_go("trapping", "trapped+5", Mechanism::Trap, &["neighbour", "trapped+5", "trapped+7"], 10_000);
}

/// A probe that is armed now: its site, and the program's counters just outside and just inside its arming.
struct Armed {
    offset: u64,
    site: usize,
    before: (u64, u64),
    inside: (u64, u64),
}

/// What the hits of a site must lie between.
struct Bounds {
    site: usize,
    least: u64,
    most: u64,
}

/// Every instruction of `work`, added and removed in random order while four threads run it.
#[test]
fn every_instruction_in_random_order() {
    let program = need!(Program::work().build());
    let mut target = Process::start(&program, &["4"]);
    let mut session = open(&target, &[probe(&program, "work")]);
    target.ask("run");
    let mut armed: Vec<Armed> = Vec::new();
    let mut bounds = Vec::new();
    let mut random = Random::new(12_345);
    for _ in 0..rounds(120, 1000) {
        let offset = INSTRUCTIONS[random.below(INSTRUCTIONS.len())];
        match armed.iter().position(|one| one.offset == offset) {
            Some(at) => bounds.push(disarm(&mut session, &mut target, &armed.remove(at))),
            None => armed.push(arm(&mut session, &mut target, &program, offset)),
        }
        look(&mut session);
    }
    for one in &armed {
        bounds.push(disarm(&mut session, &mut target, one));
    }
    let stopped = target.ask("stop");
    let (sites, _) = end(session);
    assert_eq!(stopped.number("bad"), 0, "{stopped:?}");
    assert_eq!((sites[0].hits, sites[0].lost), (stopped.number("ended"), 0), "armed throughout");
    let places: BTreeSet<_> = bounds.iter().map(|one| sites[one.site].file_address).collect();
    assert_eq!(places.len(), INSTRUCTIONS.len(), "every instruction was probed");
    let mut seen = 0;
    for Bounds { site, least, most } in bounds {
        let hits = sites[site].hits;
        seen += least;
        assert!((least..=most).contains(&hits), "{}: {hits} not in {least}..={most}", sites[site].probe);
    }
    assert!(seen > 0, "no call was ever made while a probe was armed");
    target.finish();
}

fn arm(session: &mut Session, target: &mut Process, program: &Path, offset: u64) -> Armed {
    let before = counters(target);
    let name = if offset == 0 { "work".to_owned() } else { format!("work+{offset}") };
    let site = add(session, &probe(program, &name));
    Armed { offset, site, before, inside: counters(target) }
}

fn disarm(session: &mut Session, target: &mut Process, one: &Armed) -> Bounds {
    let inside = counters(target);
    drop_probe(session, one.site);
    let after = counters(target);
    Bounds { site: one.site, least: inside.1.saturating_sub(one.inside.0), most: after.0 - one.before.1 }
}

/// Whole sessions attach and detach: their hits together lie between the program's own counters outside and inside.
#[test]
fn sessions_come_and_go() {
    let program = need!(Program::work().build());
    let mut target = Process::start(&program, &["4"]);
    target.ask("run");
    let (mut hits, mut least, mut most) = (0, 0, 0);
    for _ in 0..rounds(100, 1000) {
        let before = counters(&mut target);
        let mut session = open(&target, &[probe(&program, "work"), probe(&program, "neighbour")]);
        let first = counters(&mut target);
        look(&mut session);
        let last = counters(&mut target);
        hits += end(session).0[0].hits;
        let after = counters(&mut target);
        least += last.1.saturating_sub(first.0);
        most += after.0 - before.1;
    }
    assert!(least > 0, "no call was ever made while a session was there");
    assert!((least..=most).contains(&hits), "{hits} not in {least}..={most}");
    assert_eq!(target.ask("stop").number("bad"), 0);
    target.finish();
}

/// Handlers sleep while probes come and go: saved PCs in signal frames lie inside spans at both ends.
#[test]
fn handlers_sleep_meanwhile() {
    let program = need!(Program::work().build());
    let mut target = Process::start(&program, &["4", "alarm"]);
    target.ask("run");
    for _ in 0..rounds(100, 1000) {
        let mut session = open(&target, &[probe(&program, "work")]);
        session.poll(Duration::from_millis(8), &mut |_| {}).expect("the session goes on");
        end(session);
    }
    let stopped = target.ask("stop");
    assert_eq!(stopped.number("bad"), 0, "{stopped:?}");
    assert!(stopped.number("signals") > 0, "no handler ever ran");
    target.finish();
}

/// An undefined instruction of the program's own, which a probe's jump covered: after the probe is gone its fault is the
/// program's again, also while the session goes on.
#[test]
fn the_program_faults_where_a_probe_was() {
    let program = need!(Program::new("faulty.c").source("faulty.S").source("work.S").build());
    let mut target = Process::start(&program, &[]);
    let mut session = open(&target, &[probe(&program, "work")]);
    let site = add(&mut session, &probe(&program, "raises"));
    assert_eq!(session.sites()[site].mechanism, Mechanism::Jump, "the test is about covered instructions");
    let calls = rounds(1000, 100_000);
    let call = |target: &mut Process, session: &mut Session| {
        target.tell(&format!("calls {calls}"));
        look(session);
        let done = target.hear();
        assert_eq!((done.number("faults"), done.number("bad")), (calls, 0), "{done:?}");
    };
    call(&mut target, &mut session);
    drop_probe(&mut session, site);
    call(&mut target, &mut session);
    let again = add(&mut session, &probe(&program, "raises"));
    call(&mut target, &mut session);
    drop_probe(&mut session, again);
    call(&mut target, &mut session);
    let (sites, _) = end(session);
    assert_eq!((sites[0].hits, sites[site].hits, sites[again].hits), (4 * calls, calls, calls));
    target.finish();
}
