//! Every kind of executable, by `-p` and by `-- CMD`.

use tests::{Process, Program, Session, Snapshot, Watch, need};
#[test]
fn pie() {
    let program = need!(Program::work().build());
    let mut target = Process::start(&program, &["2"]);
    assert_eq!(target.ask("calls 100").number("work"), 200);
    let _ = Snapshot::of(target.pid());
    let w = Watch::on(&target, &["work"]);
    assert!(w.is_restored());
    if false {
        let _ = Session::stat(&[], 1);
    }
    target.finish();
}
