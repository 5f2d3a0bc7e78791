//! Every shipped procedure holds, and each of its steps is needed or says why it is there.

use coherence::model::{Finding, Promise, Setup};
use coherence::table::{Case, shipped};
use coherence::{Architecture, KernelVersion, Situation};

fn name(case: &Case) -> String {
    let key = case.key();
    format!("{} {}, {}, {} ({})", key.isa, key.cache, key.writer, key.situation, key.requires)
}

#[test]
fn shipped_procedures_hold() {
    let broken: Vec<String> = shipped()
        .iter()
        .filter_map(|case| match case.check() {
            Finding::Holds { .. } => None,
            finding => Some(format!("{}: {finding:#?}", name(case))),
        })
        .collect();
    assert_eq!(broken, Vec::<String>::new());
}

#[test]
fn each_step_is_needed_or_marked() {
    let mut wrong = Vec::new();
    for case in shipped() {
        for (index, step) in case.way.steps.iter().enumerate() {
            let finding = case.run(Some(index)).check();
            assert!(!matches!(finding, Finding::Undecided { .. }), "{}", name(&case));
            if finding.holds() != step.spare.is_some() {
                wrong.push(format!("{} without {}: {finding:?}", name(&case), case.way.step_names()[index]));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// No promise is kept by the model itself: each is broken by some omission.
#[test]
fn each_promise_can_be_broken() {
    let broken: Vec<Promise> = shipped()
        .into_iter()
        .flat_map(|case| (0..case.way.steps.len()).map(move |index| case.run(Some(index))))
        .filter_map(|run| run.check_within(5_000).broken())
        .collect();
    for promise in Promise::ALL {
        assert!(broken.contains(&promise), "nothing breaks \"{promise}\"");
    }
}

/// The procedure for the caches that ask for most is right on all the others, as far as they can carry it out.
#[test]
fn the_first_caches_ask_for_most() {
    for case in shipped() {
        let first = &case.description.variants[0];
        let Ok(procedure) = first.procedure(case.writer, case.situation) else { continue };
        let ways = procedure.ways.iter().filter(|way| way.requires == case.way.requires);
        for way in ways {
            let can = |step: &coherence::Step| match step.action {
                coherence::Action::Perform(means) => case.variant.operation(means).is_some(),
                _ => true,
            };
            if way.steps.iter().all(can) {
                let finding = Case { way, ..case }.check();
                assert!(finding.holds(), "{}: {finding:#?}", name(&case));
            }
        }
    }
}

#[test]
fn old_kernels_have_the_hole_on_alpha_only() {
    for case in shipped().into_iter().flat_map(|case| std::iter::once(case).chain(case.on_older_kernels())) {
        let hole = case.care.and_then(|care| care.hole);
        assert_eq!(hole.is_some(), !case.check().holds(), "{}", name(&case));
    }
    let older: Vec<(&str, Option<Promise>)> = shipped()
        .into_iter()
        .flat_map(Case::on_older_kernels)
        .map(|case| (case.description.name, case.check().broken()))
        .collect();
    assert_eq!(older, [("alpha", Some(Promise::NewAfter)); 3]);
}

#[test]
fn a_kernel_is_known_by_its_version() {
    let alpha = &coherence::description(Architecture::Alpha).variants[0];
    let has_hole =
        |release| alpha.care_on(KernelVersion::of_release(release).unwrap()).unwrap().hole.is_some();
    // Read: 6.1, 6.12.117, 7.3. Not looked at, so bad: all that lies between these.
    for bad in ["3.15", "6.1", "6.1.192-generic", "6.2", "6.12", "6.12.116", "6.13", "6.14", "7.0", "7.2.99"]
    {
        assert!(has_hole(bad), "{bad}");
    }
    for good in ["6.12.117", "6.12.200-rt", "7.3", "7.3-rc1", "7.3.4", "8.0"] {
        assert!(!has_hole(good), "{good}");
    }
    let x86 = &coherence::description(Architecture::X86).variants[0];
    assert!(x86.care_on(KernelVersion(2, 6, 0)).unwrap().hole.is_none());
}

#[test]
fn a_release_is_read_to_the_patch() {
    let version = KernelVersion::of_release;
    assert_eq!(version("6.12.117"), Some(KernelVersion(6, 12, 117)));
    assert_eq!(version("6.1.0-13-amd64\n"), Some(KernelVersion(6, 1, 0)));
    assert_eq!(version("7.3-rc1"), Some(KernelVersion(7, 3, 0)));
    assert_eq!(version("6.12.117+deb13"), Some(KernelVersion(6, 12, 117)));
    for no in ["", "next", "6", "6.", ".1", "6.x", "6.1.", "99999999999.1", "6.1.99999999999"] {
        assert_eq!(version(no), None, "{no}");
    }
}

/// No version is in two descriptions of one kernel's care, and none in none.
#[test]
fn each_kernel_has_one_care() {
    for case in shipped() {
        let cares = case.variant.caches.debugger_write;
        let ranges = cares.iter().flat_map(|care| care.kernels.ranges);
        let ends = ranges.flat_map(|range| [Some(range.from), range.before]).flatten();
        for at in ends {
            let KernelVersion(major, minor, patch) = at;
            let before = match patch.checked_sub(1) {
                Some(patch) => KernelVersion(major, minor, patch),
                None => KernelVersion(major, minor.saturating_sub(1), u32::MAX),
            };
            for version in
                [before, at, KernelVersion(major, minor, patch + 1), KernelVersion(major + 1, 0, 0)]
            {
                let of = cares.iter().filter(|care| care.kernels.contain(version)).count();
                assert_eq!(of, 1, "{} {version}", name(&case));
            }
        }
    }
}

/// One more CPU than needed finds nothing new, nor one more thread. Of the large machines one line is enough for that:
/// lines meet in a mixture only, which two CPUs have shown not to be.
#[test]
fn three_find_what_two_do() {
    if std::env::var_os("XOL_LONG").is_none() {
        println!("skipped: XOL_LONG=1 runs every procedure with three CPUs, and with three threads");
        return;
    }
    for case in shipped().iter().filter(|case| case.variant.caches.is_smp) {
        let lines = if case.check().states() > 1_000 { 1 } else { 2 };
        for (cpus, threads) in [(3, 2), (2, 3)] {
            let mut run = case.run(None);
            run.setup = Setup { cpus, threads, lines, ..run.setup };
            let finding = run.check();
            println!(
                "{}: {cpus} CPUs, {threads} threads, {lines} lines: {} states",
                name(case),
                finding.states()
            );
            assert!(finding.holds(), "{}: {finding:#?}", name(case));
        }
    }
}

/// A search that reaches its bound proves nothing, and says so.
#[test]
fn the_bound_is_no_proof() {
    let case = shipped().into_iter().find(|case| case.situation == Situation::FreshCode).unwrap();
    let finding = case.run(None).check_within(10);
    assert!(matches!(finding, Finding::Undecided { .. }) && !finding.holds(), "{finding:?}");
}
