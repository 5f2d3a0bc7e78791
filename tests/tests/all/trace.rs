//! `xol trace`: arguments, threads, order, limits, losses.

use std::collections::HashMap;

use tests::{Process, Program, Session, Watch, need};

use crate::probes::probe;

#[test]
fn arguments_threads_and_order() {
    let program = need!(Program::work().build());
    let mut target = Process::start(&program, &["4"]);
    let work = probe(&program, "work");
    let mut session = Session::trace(&[&work], target.pid());
    session.wait_armed(&Watch::on(&target, &["work"]));
    assert_eq!(target.ask("calls 500").number("bad"), 0);
    let report = session.end();
    report.assert_clean();
    let lines = report.traced();
    assert_eq!(lines.len(), 2000, "{:?}", report.summary());
    let mut threads: HashMap<u64, Vec<(u64, u64, u64)>> = HashMap::new();
    for line in lines {
        let arg = |name: &str| {
            let text = line["args"][name].as_str().expect("a hex string").trim_start_matches("0x");
            u64::from_str_radix(text, 16).unwrap()
        };
        let time = line["time"].as_u64().unwrap();
        threads.entry(line["tid"].as_u64().unwrap()).or_default().push((time, arg("arg0"), arg("arg1")));
    }
    assert_eq!(threads.len(), 4);
    for (tid, hits) in threads {
        assert!(hits.is_sorted_by_key(|hit| hit.0), "thread {tid} out of order");
        let base = hits[0].1;
        let expected = (0..500).map(|n| (base + n, n));
        assert!(hits.iter().map(|hit| (hit.1, hit.2)).eq(expected), "arguments of thread {tid}");
        assert_eq!(base % 1_000_003, 0, "the first argument of a thread's first call");
    }
    target.finish();
}

#[test]
fn exactly_so_many_lines() {
    let program = need!(Program::work().build());
    let mut target = Process::start(&program, &["2"]);
    target.ask("run");
    let pid = target.pid().to_string();
    let report = Session::start(["trace", "--max-hits", "137", &probe(&program, "work"), "-p", &pid]).wait();
    assert_eq!(report.traced().len(), 137);
    assert_eq!(report.summary()["text_restored"], true, "{:?}", report.summary());
    assert_eq!(target.ask("stop").number("bad"), 0);
    target.finish();
}

/// Far more hits than anybody can write down: what is not a line is lost, and said to be.
#[test]
fn nothing_is_lost_silently() {
    let program = need!(Program::work().build());
    let mut target = Process::start(&program, &["4"]);
    let work = probe(&program, "work");
    let mut session = Session::trace(&[&work], target.pid());
    session.wait_armed(&Watch::on(&target, &["work"]));
    let done = target.ask("calls 500000");
    let report = session.end();
    let number = |name: &str| report.summary()[name].as_u64().unwrap();
    assert_eq!(number("hits"), done.number("work"));
    assert_eq!(report.traced().len() as u64 + number("lost"), number("hits"), "{:?}", report.summary());
    let told: u64 = report.of_type("lost").map(|line| line["count"].as_u64().unwrap()).sum();
    assert_eq!(told, number("lost"));
    target.finish();
}

/// A program of one thread does not look for whose an event is: the thread's, its vfork child's while it sleeps, and each
/// thread's from the second on.
#[test]
fn whose_events_they_are() {
    let program = need!(Program::new("second.c").source("work.S").build());
    let mut target = Process::start(&program, &[]);
    let pid = u64::from(target.pid());
    let mut session = Session::trace(&[&probe(&program, "work")], target.pid());
    session.wait_armed(&Watch::on(&target, &["work"]));
    let done = ["calls 100", "vfork 50", "calls 70", "threads 60"].map(|order| target.ask(order));
    let report = session.end();
    assert!(done.iter().all(|done| done.number("bad") == 0));
    let expected: u64 = done.iter().map(|done| done.number("work")).sum();
    let tids: Vec<u64> = report.traced().iter().map(|line| line["tid"].as_u64().unwrap()).collect();
    assert_eq!((tids.len() as u64, report.lost_in_all()), (expected, 0), "{report:?}");
    let child = done[1].number("child");
    let before = usize::try_from(done[0].number("work")).unwrap();
    assert!(tids[..before].iter().all(|tid| *tid == pid), "{tids:?}");
    assert!(tids[before..before + 50].iter().all(|tid| *tid == child), "{tids:?}");
    let mut others: Vec<u64> = tids.iter().copied().filter(|tid| ![pid, child].contains(tid)).collect();
    // The timer's handler makes three calls on whatever thread it interrupts.
    assert!(others.len() >= 240 && others.len().is_multiple_of(3), "{tids:?}");
    others.sort_unstable();
    others.dedup();
    assert_eq!(others.len(), 4, "{tids:?}");
    target.finish();
}
