//! What a program's libraries do before xol arms them, by single steps.
//!
//! xol arms them when the loader reports that they are mapped: `_dl_debug_state` is called once before it maps the first and once
//! when all are there (elf/rtld.c). By then their ifuncs' resolvers have run, and glibc's early initialisation.

use std::collections::HashMap;
use std::fs;

use symbols::auxv::Auxv;
use symbols::frames::frames;
use symbols::{Bias, Class, Symbols, loader};

use super::modules::Module;
use super::run::Runs;
use super::tracee::{Stop, Tracee};

/// The arrival at the loader's function at which the libraries are armed.
const ARMED_AT: u32 = 2;

/// Executions of each instruction of a module before it is armed, by file address.
pub(super) type Before = HashMap<u64, u64>;

/// Steps through the start of the program; one answer per module.
pub(super) fn before(runs: &Runs<'_>, modules: &[Module]) -> Result<Vec<Before>, String> {
    let program = runs.program()?;
    // Nothing else runs so early in a library, and the loader's own steps are many.
    let is_early = |module: &Module| module.path != program && module.has_ifuncs();
    if !modules.iter().any(is_early) {
        return Ok(vec![Before::new(); modules.len()]);
    }
    let mut tracee = Tracee::start(runs.plain_command().stdout(std::process::Stdio::null()), &program)
        .map_err(|error| format!("stepping: {error}"))?;
    let executed = match loader_function(&tracee)? {
        Some(report) => steps_to(&mut tracee, report)?,
        None => HashMap::new(),
    };
    let of = |module: &Module| -> Before {
        // The program itself is armed before its first instruction.
        if module.path == program {
            return Before::new();
        }
        let Some((code, bias)) = module.code_in(tracee.pid()) else { return Before::new() };
        let own = executed.iter().filter(|(at, _)| code.iter().any(|range| range.contains(at)));
        own.map(|(at, times)| (bias.file(insn::Address(*at)).0, *times)).collect()
    };
    Ok(modules.iter().map(of).collect())
}

/// Where the loader reports; `None` in a static program.
pub(super) fn loader_function(tracee: &Tracee) -> Result<Option<u64>, String> {
    let pid = tracee.pid();
    let auxv = fs::read(format!("/proc/{pid}/auxv")).map_err(|error| error.to_string())?;
    let Some(base) = Auxv::parse(Class::Elf64, &auxv).base.filter(|base| base.0 != 0) else {
        return Ok(None);
    };
    let regions = crate::maps(pid);
    let region = regions.iter().find(|region| region.range.contains(&base.0));
    let module = Module::read(region.ok_or("the loader is not mapped")?.path.as_ref())?;
    let symbols = Symbols::read(&module.image, &frames(&module.image));
    let at = loader::loader_break(&symbols).ok_or("the loader has no _dl_debug_state")?;
    Ok(Some(Bias(base.0).run_time(at).0))
}

/// Executions of every address until the loader's second report. A repeated string instruction counts once.
fn steps_to(tracee: &mut Tracee, report: u64) -> Result<HashMap<u64, u64>, String> {
    let wrong = |error: std::io::Error| format!("stepping: {error}");
    let mut executed = HashMap::new();
    let (mut last, mut reports) = (0, 0);
    loop {
        let at = tracee.registers().map_err(wrong)?.rip;
        reports += u32::from(at == report);
        if reports == ARMED_AT {
            return Ok(executed);
        }
        if at != last {
            *executed.entry(at).or_default() += 1;
        }
        last = at;
        match tracee.step(0).map_err(wrong)? {
            Stop::Signal(libc::SIGTRAP) => {}
            other => return Err(format!("stepping: {other:?} at {at:#x} before the libraries were there")),
        }
    }
}
