//! The long table.
fn main() {
    let omit = std::env::var_os("OMIT").is_some();
    for case in coherence::table::shipped() {
        let key = case.key();
        for case in std::iter::once(case).chain(case.on_older_kernels()) {
            let started = std::time::Instant::now();
            let finding = case.check();
            println!(
                "{} {} {:?} {:?} [{}] {:?}: {} {:?} states={} {:?}",
                key.isa,
                key.cache,
                key.writer,
                key.situation,
                key.requires,
                case.key().kernels,
                if finding.holds() { "holds" } else { "BROKEN" },
                finding.broken(),
                finding.states(),
                started.elapsed()
            );
            if let coherence::model::Finding::Broken { trace, .. } = &finding {
                print!("{trace}");
            }
        }
        if !omit {
            continue;
        }
        for (index, step) in case.way.steps.iter().enumerate() {
            let finding = case.run(Some(index)).check();
            if finding.broken().is_none() != step.spare.is_some() {
                println!(
                    "    without {}: {:?} states={} MISMARKED",
                    case.way.step_names()[index],
                    finding.broken(),
                    finding.states()
                );
            }
        }
    }
}
