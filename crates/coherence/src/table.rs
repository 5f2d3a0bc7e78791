//! Every shipped procedure as a case that the model can check.

use serde::Serialize;

use crate::cache::{DebuggerWriteCare, Kernels};
use crate::model::{Finding, Run, stages};
use crate::procedure::{Action, Situation, Way, Writer};
use crate::{Architecture, Description, Variant};

/// One way of one procedure on one kind of caches.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The architecture's description.
    pub description: &'static Description,
    /// The caches.
    pub variant: &'static Variant,
    /// Who writes.
    pub writer: Writer,
    /// What is written over.
    pub situation: Situation,
    /// How.
    pub way: &'static Way,
    /// How the code is made reachable, where its own procedure leaves that to another.
    pub published_by: Option<&'static Way>,
    /// What the kernel does after a debugger's write; `None` for another writer.
    pub care: Option<&'static DebuggerWriteCare>,
}

/// The names that identify a case in a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Key {
    /// The architecture.
    pub isa: &'static str,
    /// The caches.
    pub cache: &'static str,
    /// Who writes.
    pub writer: Writer,
    /// What is written over.
    pub situation: Situation,
    /// What is required of kernel and target, as text.
    pub requires: String,
    /// Which kernels; only where they differ.
    pub kernels: Option<&'static str>,
}

/// Every case of every architecture, with the newest kernel's care for a debugger's write.
#[must_use]
pub fn shipped() -> Vec<Case> {
    Architecture::ALL.iter().flat_map(|architecture| shipped_for(*architecture)).collect()
}

/// Every case of an architecture.
#[must_use]
pub fn shipped_for(architecture: Architecture) -> Vec<Case> {
    let description = crate::description(architecture);
    description.variants.iter().flat_map(|variant| cases(description, variant)).collect()
}

fn cases(description: &'static Description, variant: &'static Variant) -> Vec<Case> {
    let mut cases = Vec::new();
    for writer in Writer::ALL {
        for situation in Situation::ALL {
            let Ok(procedure) = variant.procedure(writer, situation) else { continue };
            let care = variant.caches.debugger_write.first().filter(|_| writer == Writer::DebuggerWrite);
            for way in procedure.ways {
                let case = Case { description, variant, writer, situation, way, published_by: None, care };
                cases.extend(
                    publications(variant, way).into_iter().map(|published_by| Case { published_by, ..case }),
                );
            }
        }
    }
    cases
}

/// The ways by which a way's code may be made reachable: those of the procedure that its last step names.
fn publications(variant: &'static Variant, way: &Way) -> Vec<Option<&'static Way>> {
    let named = way.steps.iter().find_map(|step| match step.action {
        Action::PublishBy(situation) => Some(situation),
        _ => None,
    });
    let Some(situation) = named else { return vec![None] };
    let procedure = variant.procedure(Writer::DebuggerWrite, situation).ok();
    procedure.into_iter().flat_map(|procedure| procedure.ways).map(Some).collect()
}

impl Case {
    /// The same with what older kernels do.
    pub fn on_older_kernels(self) -> impl Iterator<Item = Self> {
        let older = self.variant.caches.debugger_write.get(1..).filter(|_| self.care.is_some());
        older.unwrap_or_default().iter().map(move |care| Self { care: Some(care), ..self })
    }

    /// The run that checks it, without the step of the index `omitted`.
    #[must_use]
    pub fn run(&self, omitted: Option<usize>) -> Run {
        let steps = self.way.steps.iter().enumerate();
        let kept = steps.filter(|(index, _)| Some(*index) != omitted).map(|(_, step)| step);
        let stages = stages(self.variant, kept, self.published_by);
        let run = Run::new(self.variant, self.writer, self.situation, stages);
        Run { care: self.care.copied(), ..run }
    }

    /// Checks it.
    #[must_use]
    pub fn check(&self) -> Finding {
        self.run(None).check()
    }

    /// What identifies it.
    #[must_use]
    pub fn key(&self) -> Key {
        let ways = [Some(self.way), self.published_by];
        let requires: Vec<String> =
            ways.into_iter().flatten().flat_map(|way| way.requires).map(ToString::to_string).collect();
        let differs = self.variant.caches.debugger_write.len() > 1;
        Key {
            isa: self.description.name,
            cache: self.variant.name,
            writer: self.writer,
            situation: self.situation,
            requires: requires.join(", "),
            kernels: self
                .care
                .filter(|_| differs)
                .map(|DebuggerWriteCare { kernels: Kernels { text, .. }, .. }| *text),
        }
    }
}
