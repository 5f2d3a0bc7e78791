//! Libraries that are loaded later, unloaded, and loaded again.

use std::fs;

use tests::{Process, Program, Session, need};

use crate::probes::probe;

/// Constructors run probed; an unloaded library takes its probes along, and a second load is probed again, also of a copy.
#[test]
fn come_and_go() {
    let library = need!(Program::new("libplug.c").library("libplug.so").build());
    let program = need!(Program::new("dl.c").flag("-ldl").build());
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("libplug.so");
    fs::copy(&library, &copy).unwrap();
    let mut target = Process::start(&program, &[]);
    let pid = target.pid().to_string();
    let (first, second) = (probe(&library, "plug_inner"), probe(&copy, "plug_inner"));
    let session = Session::start(["stat", &first, &second, "-p", &pid]);
    wait_for_loader_breakpoint(&target);
    let mut expected = [0_u64; 2];
    for (path, index) in [(&library, 0), (&copy, 1), (&library, 0), (&copy, 1), (&library, 0)] {
        let loaded = target.ask(&format!("load {}", path.display()));
        assert!(loaded.number("inner") > 0);
        let done = target.ask("calls 1000");
        assert_eq!(done.number("bad"), 0);
        target.ask("unload");
        expected[index] += 3 + 1000;
    }
    let report = session.end();
    report.assert_clean();
    assert_eq!([report.sum(&first, "hits"), report.sum(&second, "hits")], expected, "{report:?}");
    target.finish();
}

/// Nothing of the program is probed yet, so what shows that the session is armed is its area.
fn wait_for_loader_breakpoint(target: &Process) {
    tests::wait_for("the area in the target", || {
        let maps = tests::maps(target.pid());
        maps.iter().any(tests::Region::is_xol).then_some(())
    });
    // The breakpoint is written right after the area is described: the loader's function is watched for it.
    tests::wait_for("the loader's breakpoint", || {
        (!tests::text_changes(target.pid()).is_empty()).then_some(())
    });
}
