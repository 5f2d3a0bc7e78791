//! The rounds and the table.

use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

use super::probe::{Armed, Function, Kind, Probe, Setting};
use super::{frida, gdb, kernel, lttng, ours, uftrace};
use crate::compile::Workshop;
use crate::cost::run_calls;
use crate::error::Error;
use crate::responder::Responder;
use crate::session::Xol;
use crate::stats::{Quartiles, figure, table};

/// Calls in a batch where a call costs a nanosecond or two, and where it costs more or writes what a buffer must hold.
const MANY: u64 = 4_000_000;
const BURST: u64 = 20_000;

const XOL: &str = "xol";

type Arm = fn(&Setting, Function, Kind) -> Result<Armed, Error>;

/// A row of the table.
struct Row {
    tool: &'static str,
    function: Function,
    kind: Kind,
    calls: u64,
    arm: Arm,
}

/// By function, as only the like is compared.
const ROWS: [Row; 16] = {
    use Function::{Lea, Nop5};
    use Kind::{Count, Event};
    const fn row(tool: &'static str, function: Function, kind: Kind, calls: u64, arm: Arm) -> Row {
        Row { tool, function, kind, calls, arm }
    }
    [
        row("stub by hand", Lea, Count, MANY, ours::by_hand),
        row(XOL, Lea, Count, MANY, ours::xol),
        row("Frida, callback in C", Lea, Count, BURST, frida::arm),
        row("kernel uprobe", Lea, Count, BURST, kernel::arm),
        row(XOL, Lea, Event, BURST, ours::xol),
        row("LTTng-UST, compiled in", Lea, Event, BURST, lttng::arm),
        row("Frida, callback in C", Lea, Event, BURST, frida::arm),
        row("kernel uprobe", Lea, Event, BURST, kernel::arm),
        row("stub by hand", Nop5, Count, MANY, ours::by_hand),
        row(XOL, Nop5, Count, MANY, ours::xol),
        row("gdb fast tracepoint", Nop5, Count, BURST, gdb::arm),
        row("kernel uprobe", Nop5, Count, BURST, kernel::arm),
        row(XOL, Nop5, Event, BURST, ours::xol),
        row("uftrace, entry and return", Nop5, Event, BURST, uftrace::arm),
        row("gdb fast tracepoint", Nop5, Event, BURST, gdb::arm),
        row("kernel uprobe", Nop5, Event, BURST, kernel::arm),
    ]
};

/// What a batch took, in nanoseconds a call.
#[derive(Clone, Copy)]
struct Batch {
    /// CPU time of the thread.
    cpu: f64,
    /// From the request to the answer.
    elapsed: f64,
}

/// A row while it is measured.
struct Measured {
    row: &'static Row,
    version: String,
    /// `None` once it is finished or has failed.
    probe: Option<Box<dyn Probe>>,
    hits: u64,
    /// What each round's batch took beyond the bare call's.
    over: Vec<Batch>,
    outcome: Result<u64, String>,
}

/// Measures and prints. Only what goes wrong with xol is an error.
pub(crate) fn run(workshop: &Workshop, xol: &Xol, python: &Path, rounds: u32) -> Result<(), Error> {
    let setting = Setting { workshop, xol, program: workshop.target()?, python };
    let mut bare = Responder::start(&setting.program, &[])?;
    let mut all: Vec<Measured> = ROWS.iter().map(|row| Measured::arm(row, &setting)).collect();
    for _ in 0..rounds {
        // All in every round, so that a change of the machine's speed meets all alike.
        for measured in &mut all {
            measured.round(&mut bare)?;
        }
    }
    for measured in &mut all {
        measured.finish();
    }
    println!("{}", render(&all, rounds));
    all.iter().filter(|measured| measured.row.tool == XOL).try_for_each(Measured::check)
}

impl Measured {
    fn arm(row: &'static Row, setting: &Setting) -> Self {
        let mut measured =
            Self { row, version: String::new(), probe: None, hits: 0, over: Vec::new(), outcome: Ok(0) };
        match (row.arm)(setting, row.function, row.kind) {
            Ok(armed) => (measured.version, measured.probe) = (armed.version, Some(armed.probe)),
            Err(error) => measured.fail(&error),
        }
        measured
    }

    /// What fails is not tried again; the rest goes on.
    fn fail(&mut self, error: &Error) {
        self.probe = None;
        self.outcome = Err(error.to_string());
    }

    /// A batch of the bare call and one of the probed; an error if the former fails.
    fn round(&mut self, bare: &mut Responder) -> Result<(), Error> {
        let Some(probe) = &mut self.probe else { return Ok(()) };
        let name = self.row.function.name();
        let without = batch(bare, name, self.row.function, self.row.calls)?;
        let name = probe.function().unwrap_or(name);
        self.hits += self.row.calls;
        let with = batch(probe.target(), name, self.row.function, self.row.calls)
            .and_then(|batch| probe.settle(self.hits).map(|()| batch));
        match with {
            Ok(with) => self.over.push(with.over(without)),
            Err(error) => self.fail(&error),
        }
        Ok(())
    }

    fn finish(&mut self) {
        if let Some(probe) = self.probe.take() {
            match probe.finish(self.hits) {
                Ok(known) => self.outcome = Ok(known),
                Err(error) => self.fail(&error),
            }
        }
    }

    /// Whether it was measured and knows of every hit.
    fn check(&self) -> Result<(), Error> {
        let Row { tool, function, kind, .. } = self.row;
        match &self.outcome {
            Ok(known) if *known == self.hits => Ok(()),
            Ok(known) => Err(Error::Inexact(format!(
                "{tool} knows of {known} hits of {} ({kind:?}), there were {}",
                function.name(),
                self.hits
            ))),
            Err(reason) => Err(Error::Missing(format!("{tool}: {reason}"))),
        }
    }

    fn median(&self, what: impl Fn(&Batch) -> f64) -> Option<Quartiles> {
        Quartiles::of(&self.over.iter().map(what).collect::<Vec<_>>())
    }
}

impl Batch {
    fn over(self, bare: Self) -> Self {
        Self { cpu: self.cpu - bare.cpu, elapsed: self.elapsed - bare.elapsed }
    }
}

/// Has `name`, which computes what `function` does, called.
fn batch(target: &mut Responder, name: &str, function: Function, calls: u64) -> Result<Batch, Error> {
    let started = Instant::now();
    let cpu = run_calls(target, name, function.name(), calls)?;
    #[allow(clippy::cast_precision_loss, reason = "far below 2^53 calls")]
    let elapsed = started.elapsed().as_secs_f64() * 1e9 / calls as f64;
    Ok(Batch { cpu, elapsed })
}

fn render(all: &[Measured], rounds: u32) -> String {
    let heading =
        ["tool", "version", "function", "does", "CPU ns", "than xol", "elapsed ns", "hits it knows of"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    // The figures of xol, which come before those of the tools that are compared with it.
    let mut ours: HashMap<(Function, Kind), f64> = HashMap::new();
    let mut skipped = String::new();
    for measured in all {
        let Row { tool, function, kind, .. } = measured.row;
        let key = (*function, *kind);
        let known = match &measured.outcome {
            Ok(known) => known,
            Err(reason) => {
                let reason = reason.replace('\n', " ");
                skipped.push_str(&format!(
                    "skipped: {tool}, {} of {}: {reason}\n",
                    kind.word(),
                    function.name()
                ));
                continue;
            }
        };
        let (cpu, elapsed) = (measured.median(|batch| batch.cpu), measured.median(|batch| batch.elapsed));
        if let (XOL, Some(cpu)) = (*tool, cpu) {
            ours.insert(key, cpu.median);
        }
        let ratio = ours.get(&key).zip(cpu).filter(|(ours, _)| **ours > 0.0);
        rows.push(vec![
            (*tool).to_owned(),
            measured.version.clone(),
            function.name().to_owned(),
            kind.word().to_owned(),
            cpu.map_or_else(|| "-".to_owned(), |cpu| cpu.to_string()),
            ratio.map_or_else(|| "-".to_owned(), |(ours, cpu)| format!("x {}", figure(cpu.median / ours))),
            elapsed.map_or_else(|| "-".to_owned(), |elapsed| figure(elapsed.median)),
            if *known == measured.hits { "all".to_owned() } else { format!("{known} of {}", measured.hits) },
        ]);
    }
    format!(
        "other tools: ns a hit over the bare call, median of {rounds} rounds [quartiles]\n\n{}\n{skipped}",
        table(&rows)
    )
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{BURST, Batch, Measured, ROWS, XOL, batch, render};
    use crate::compile::Workshop;
    use crate::peers::probe::{Function, Kind, Setting};
    use crate::responder::Responder;
    use crate::session::Xol;

    fn measured(index: usize, cpu: f64) -> Measured {
        Measured {
            row: &ROWS[index],
            version: "1.2".to_owned(),
            probe: None,
            hits: 9 * BURST,
            over: vec![Batch { cpu, elapsed: 2.0 * cpu }; 9],
            outcome: Ok(9 * BURST),
        }
    }

    #[test]
    fn the_table_compares_like_with_like() {
        let of = |tool: &str, kind| {
            ROWS.iter()
                .position(|row| row.tool == tool && row.kind == kind && row.function == Function::Lea)
                .unwrap()
        };
        let mut lossy = measured(of("LTTng-UST, compiled in", Kind::Event), 150.0);
        lossy.outcome = Ok(7);
        let mut gone = measured(of("Frida, callback in C", Kind::Event), 0.0);
        gone.outcome = Err("not\ninstalled".to_owned());
        let all = [measured(of(XOL, Kind::Count), 2.0), measured(of(XOL, Kind::Event), 20.0), lossy, gone];
        let text = render(&all, 9);
        assert!(text.contains("x 7.50"), "{text}");
        assert!(text.contains("150 [150 150]"), "{text}");
        assert!(text.contains("7 of 180000"), "{text}");
        assert!(text.contains("skipped: Frida, callback in C, event of lea: not installed\n"), "{text}");
        assert!(all[0].check().is_ok());
        assert!(all[2].check().is_err() && all[3].check().is_err());
    }

    #[test]
    fn xol_comes_before_what_is_compared_with_it() {
        for (index, row) in ROWS.iter().enumerate() {
            let ours = ROWS
                .iter()
                .position(|other| {
                    other.tool == XOL && other.kind == row.kind && other.function == row.function
                })
                .unwrap();
            assert!(row.tool == "stub by hand" || ours <= index, "{}", row.tool);
        }
    }

    #[test]
    fn each_tool_knows_of_every_hit_or_says_why_not() {
        let workshop = Workshop::new().unwrap();
        let program = workshop.target().unwrap();
        let mut bare = Responder::start(&program, &[]).unwrap();
        let xol = Xol::new(PathBuf::new());
        let setting = Setting { workshop: &workshop, xol: &xol, program, python: Path::new("python3") };
        for row in ROWS.iter().filter(|row| row.tool != XOL) {
            let mut measured = Measured::arm(row, &setting);
            measured.round(&mut bare).unwrap();
            measured.finish();
            match measured.outcome {
                Ok(known) => assert_eq!(known, row.calls, "{}", row.tool),
                Err(reason) => println!("skipped: {}, {:?}: {reason}", row.tool, row.kind),
            }
        }
    }

    #[test]
    fn a_wrong_checksum_is_an_error() {
        let workshop = Workshop::new().unwrap();
        let mut target = Responder::start(&workshop.target().unwrap(), &[]).unwrap();
        assert!(batch(&mut target, "lea", Function::Lea, 100).is_ok());
        assert!(batch(&mut target, "lea", Function::Nop5, 100).is_err());
    }
}
