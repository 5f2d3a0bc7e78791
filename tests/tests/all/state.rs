//! A probe changes nothing that the program can see: registers, flags, vector registers, red zone, stack pointer.

use tests::{Process, Program, Report, Session, Snapshot, Watch, need, rounds};

use crate::probes::{borrowed, probe, probe_at};

/// The places of state.S, those with 256-bit registers only where the processor has them.
fn places(target: &Process) -> Vec<(String, u64)> {
    let wide = target.ready.number("wide") != 0;
    let keys = target.ready.fields.keys();
    let sites = keys.filter(|key| key.starts_with("site_") || key.starts_with("leaf"));
    let used = sites.filter(|key| wide || !key.ends_with("_wide"));
    used.map(|key| (key.clone(), target.address(key))).collect()
}

fn state() -> Program {
    Program::new("state.c").source("state.S")
}

fn unchanged(program: Program, verb: &str, calls: u64) {
    let program = need!(program.build());
    let mut target = Process::start(&program, &[]);
    let before = Snapshot::of(target.pid());
    assert_eq!(target.ask("go 20").number("bad"), 0, "the program is right unprobed");
    let places = places(&target);
    let addresses: Vec<_> = places.iter().map(|(_, at)| *at).collect();
    let watch = Watch::at(target.pid(), &addresses);
    let probes: Vec<_> = addresses.iter().map(|&at| probe_at(&target, &program, at)).collect();
    let pid = target.pid().to_string();
    let mut session = Session::start([&[verb], &borrowed(&probes)[..], &["-p", &pid]].concat());
    session.wait_armed(&watch);
    let answer = target.ask(&format!("go {calls}"));
    let report = session.end();
    assert_eq!(answer.number("bad"), 0, "{answer:?}");
    report.assert_clean();
    if verb == "stat" {
        for ((place, _), probe) in places.iter().zip(&probes) {
            assert_eq!((report.hits(probe), report.lost(probe)), (calls, 0), "{place}: {report:?}");
            let own = ["trap", "pun"].into_iter().find(|own| place.starts_with(&format!("site_{own}")));
            let mechanism = own.unwrap_or("jump");
            assert_eq!(report.mechanism(probe), mechanism, "{place}: {report:?}");
        }
    } else {
        let lost: u64 = report.of_type("lost").filter_map(|line| line["count"].as_u64()).sum();
        assert_eq!(
            report.traced().len() as u64 + lost,
            calls * probes.len() as u64,
            "{:?}",
            report.summary()
        );
        if lost == 0 {
            assert_eq!(arguments(&report), answer.number("args"), "{:?}", report.traced().first());
        }
    }
    before.assert_unchanged(target.pid());
    target.finish();
}

/// What the program calls `args`, from the events.
fn arguments(report: &Report) -> u64 {
    let lines = report.traced().into_iter().filter(|line| line["probe"].as_str().unwrap().contains(":site_"));
    let words = lines.flat_map(|line| {
        (0..6_u64).map(move |n| {
            let text = line["args"][format!("arg{n}")].as_str().expect("a hex string");
            let word = u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
            word.wrapping_mul(2 * n + 1)
        })
    });
    words.fold(0, u64::wrapping_add)
}

#[test]
fn of_a_count() {
    unchanged(state(), "stat", rounds(2_000, 100_000));
    unchanged(state().i386(), "stat", rounds(2_000, 100_000));
}

#[test]
fn of_an_event() {
    unchanged(state(), "trace", rounds(500, 20_000));
    unchanged(state().i386(), "trace", rounds(500, 20_000));
}

/// Function entries too: the whole functions around the places, entered by a call.
#[test]
fn of_counts_at_entries() {
    at_entries(state());
    at_entries(state().i386());
}

fn at_entries(program: Program) {
    let program = need!(program.build());
    let mut target = Process::start(&program, &[]);
    let watch = Watch::on(&target, &["leaf"]);
    let probes = [probe(&program, "state_*"), probe(&program, "leaf*")];
    let mut session = Session::stat(&borrowed(&probes), target.pid());
    session.wait_armed(&watch);
    let calls = 500;
    let answer = target.ask(&format!("go {calls}"));
    let report = session.end();
    report.assert_clean();
    assert_eq!(answer.number("bad"), 0, "{answer:?}");
    let variants = if target.ready.number("wide") != 0 { 12 } else { 6 };
    let hits = |spec: &String| -> u64 {
        let lines = report.of_type("stat").filter(|line| line["spec"] == spec.as_str());
        lines.filter_map(|line| line["hits"].as_u64()).sum()
    };
    assert_eq!(hits(&probes[0]), variants * calls, "{report:?}");
    assert_eq!(hits(&probes[1]), variants / 6 * calls, "{report:?}");
    target.finish();
}
