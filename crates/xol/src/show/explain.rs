//! What `explain` says of a site, for people.

use console::style;
use xol::explain::{Explanation, Instruction, Step};

use super::name::printable;

/// The name of a mechanism in output.
pub(crate) fn mechanism(explanation: &Explanation) -> &'static str {
    explanation.mechanism.map_or("refused", name)
}

/// The name of a mechanism that a plan chooses.
pub(crate) fn name(mechanism: insn::plan::Mechanism) -> &'static str {
    match mechanism {
        insn::plan::Mechanism::Jump => "jump",
        insn::plan::Mechanism::Pun => "pun",
        insn::plan::Mechanism::Trap => "trap",
        // The list of mechanisms will grow.
        _ => "other",
    }
}

/// All of it, section by section.
pub(crate) fn lines(explanation: &Explanation, colours: bool) -> Vec<String> {
    let heading = |text: &str| style(text.to_string()).bold().force_styling(colours).to_string();
    let mut lines = vec![heading(&printable(&explanation.probe))];
    let assumed = if explanation.is_assumed {
        " (assumed: the usual load address; give -p PID for the real one)"
    } else {
        ""
    };
    lines.push(format!(
        "  address {}{assumed}, in the file {:#x}",
        explanation.address, explanation.file_address.0
    ));
    lines.extend(explanation.notes.iter().map(|note| format!("  note: {note}")));
    lines.push(format!("{} {}", heading("mechanism:"), mechanism(explanation)));
    lines.extend(explanation.refused.iter().map(|reason| format!("  because {reason}")));
    lines.extend(
        explanation
            .rejected
            .iter()
            .map(|(mechanism, reason)| format!("  not {}: {reason}", name(*mechanism))),
    );
    let displaced = if explanation.mechanism.is_some() { "displaced:" } else { "found there:" };
    section(&mut lines, heading(displaced), listing(&explanation.displaced));
    if let Some(placed) = &explanation.placed {
        section(
            &mut lines,
            heading("written over it:"),
            vec![format!("  {}", insn::plan::hex(&placed.written))],
        );
        let island = placed.island.iter();
        let island = island.map(|(at, bytes)| format!("  {at}  {}", insn::plan::hex(bytes)));
        section(&mut lines, heading("island:"), island.collect());
        let interior = placed.interior.iter();
        let interior = interior
            .map(|byte| format!("  {}  {:02x}  traps whoever arrives there", byte.address, byte.byte));
        section(&mut lines, heading("interior:"), interior.collect());
        section(&mut lines, heading("stub:"), listing(&placed.stub));
    }
    section(&mut lines, heading("coherence:"), steps(&explanation.coherence));
    lines
}

/// Numbered, below the situation that each belongs to.
fn steps(steps: &[Step]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut situation = None;
    for (number, step) in (1..).zip(steps) {
        if situation.replace(step.situation) != Some(step.situation) {
            lines.push(format!("  {}", step.situation));
        }
        lines.push(format!("    {number}. {}", step.text));
        lines.push(format!("       {}", step.why));
    }
    lines
}

/// A heading with what is below it, if anything is.
fn section(lines: &mut Vec<String>, heading: String, body: Vec<String>) {
    if !body.is_empty() {
        lines.push(heading);
        lines.extend(body);
    }
}

/// Address, bytes, text, in columns.
fn listing(instructions: &[Instruction]) -> Vec<String> {
    let bytes: Vec<String> = instructions.iter().map(|one| insn::plan::hex(&one.bytes)).collect();
    let width = bytes.iter().map(String::len).max().unwrap_or(0);
    let lines = instructions.iter().zip(bytes);
    lines.map(|(one, bytes)| format!("  {}  {bytes:width$}  {}", one.address, one.text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use coherence::Situation;
    use insn::Address;
    use insn::plan::Mechanism;
    use symbols::FileAddress;
    use xol::explain::{Interior, Placed};

    fn explanation() -> Explanation {
        let push =
            Instruction { address: Address(0x5010), bytes: vec![0x41, 0x57], text: "push %r15".into() };
        let stub = Instruction { address: Address(0x9000), bytes: vec![0x90], text: "nop".into() };
        Explanation {
            probe: "uprobe:/bin/a:f".into(),
            file_address: FileAddress(0x10),
            address: Address(0x5010),
            is_assumed: false,
            mechanism: Some(Mechanism::Jump),
            refused: None,
            rejected: Vec::new(),
            displaced: vec![push],
            placed: Some(Placed {
                stub: vec![stub],
                written: vec![0xe9, 1, 6, 0, 0],
                island: None,
                interior: vec![Interior { address: Address(0x5012), byte: 6 }],
            }),
            coherence: vec![
                Step { situation: Situation::FreshCode, text: "write it".into(), why: "it is new" },
                Step { situation: Situation::LiveTextStopped, text: "let go".into(), why: "all is well" },
            ],
            notes: Vec::new(),
        }
    }

    #[test]
    fn a_jump() {
        assert_eq!(
            lines(&explanation(), false),
            [
                "uprobe:/bin/a:f",
                "  address 0x5010, in the file 0x10",
                "mechanism: jump",
                "displaced:",
                "  0x5010  41 57  push %r15",
                "written over it:",
                "  e9 01 06 00 00",
                "interior:",
                "  0x5012  06  traps whoever arrives there",
                "stub:",
                "  0x9000  90  nop",
                "coherence:",
                "  code that nobody can reach yet",
                "    1. write it",
                "       it is new",
                "  program text, all threads stopped",
                "    2. let go",
                "       all is well",
            ]
        );
    }

    #[test]
    fn a_trap_says_why_it_is_no_jump() {
        let rejected = vec![(Mechanism::Jump, "too short".into())];
        let lines =
            lines(&Explanation { mechanism: Some(Mechanism::Trap), rejected, ..explanation() }, false);
        assert_eq!(lines[2..4], ["mechanism: trap", "  not jump: too short"]);
    }

    #[test]
    fn a_refusal_shows_what_is_there() {
        let refused = Explanation {
            mechanism: None,
            refused: Some("it is odd".into()),
            placed: None,
            coherence: Vec::new(),
            is_assumed: true,
            ..explanation()
        };
        let lines = lines(&refused, false);
        assert!(lines[1].contains("assumed"), "{lines:?}");
        assert_eq!(lines[2..5], ["mechanism: refused", "  because it is odd", "found there:"]);
        assert_eq!(lines.len(), 6);
    }
}
