//! `xol explain`: how a site would be probed, and why; or how many of a file's would be probed in which way.

use std::time::Instant;

use symbols::Spec;
use xol::catalogue;
use xol::explain::{Explanation, Instruction, explain, explain_all};
use xol::files::System;

use super::args::{ExplainArgs, attached};
use super::failure::Failure;
use crate::show::explain::{lines, mechanism, name};
use crate::show::json::{self, Hex, HexBytes, Line};
use crate::show::output::Output;

pub(crate) fn run(args: &ExplainArgs) -> Result<u8, Failure> {
    let began = Instant::now();
    let spec = args.probe.as_deref().map(catalogue::parse).transpose()?;
    let mut output = Output::open(args.output.output.as_deref())?;
    if let Some(place) = args.remote.place(attached(args.pid)) {
        let Some(spec) = spec else { return Err(Failure::NotAvailable("--all with --remote".to_owned())) };
        print(&xol::remote::explain(&place, &spec)?, args.output.json, &mut output)?;
        output.flush()?;
        return Ok(0);
    }
    let system = catalogue::system(args.pid)?;
    if let Some(path) = &args.all {
        run_all(&system, path, began, args.output.json, &mut output)?;
    }
    if let Some(spec) = spec {
        run_one(&system, &spec, args.output.json, &mut output)?;
    }
    output.flush()?;
    Ok(0)
}

fn run_all(
    system: &System,
    path: &str,
    began: Instant,
    json: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    for (number, file) in explain_all(system, path)?.iter().enumerate() {
        let took = began.elapsed();
        if json {
            output.json(&Line::Survey(json::SurveyLine::new(file, took)))?;
            continue;
        }
        if number > 0 {
            output.line("")?;
        }
        output.lines(&crate::show::survey::lines(file, took, output.colours()))?;
    }
    Ok(())
}

fn run_one(system: &System, spec: &Spec, json: bool, output: &mut Output) -> Result<(), Failure> {
    print(&explain(system, spec)?, json, output)
}

fn print(explanations: &[Explanation], json: bool, output: &mut Output) -> Result<(), Failure> {
    for (number, explanation) in explanations.iter().enumerate() {
        if json {
            output.json(&Line::Explain(to_json(explanation)))?;
            continue;
        }
        if number > 0 {
            output.line("")?;
        }
        output.lines(&lines(explanation, output.colours()))?;
    }
    Ok(())
}

fn to_json(explanation: &Explanation) -> json::Explain<'_> {
    let placed = explanation.placed.as_ref();
    let interior = placed.map(|placed| placed.interior.as_slice()).unwrap_or_default();
    let rejected = explanation.rejected.iter();
    json::Explain {
        probe: &explanation.probe,
        address: Hex(explanation.address.0),
        file_address: Hex(explanation.file_address.0),
        assumed: explanation.is_assumed,
        mechanism: mechanism(explanation),
        reason: explanation.refused.as_deref(),
        displaced: listing(&explanation.displaced),
        written: HexBytes(placed.map(|placed| placed.written.as_slice()).unwrap_or_default()),
        island: placed
            .and_then(|placed| placed.island.as_ref())
            .map(|(at, bytes)| json::Island { address: Hex(at.0), written: HexBytes(bytes) }),
        stub: listing(placed.map(|placed| placed.stub.as_slice()).unwrap_or_default()),
        interior: interior
            .iter()
            .map(|byte| json::Interior { address: Hex(byte.address.0), byte: Hex(byte.byte.into()) })
            .collect(),
        coherence: explanation
            .coherence
            .iter()
            .map(|step| format!("{}: {}, because {}", step.situation, step.text, step.why))
            .collect(),
        rejected: rejected
            .map(|(mechanism, reason)| json::Rejected { mechanism: name(*mechanism), reason })
            .collect(),
        notes: &explanation.notes,
    }
}

fn listing(instructions: &[Instruction]) -> Vec<json::Instruction<'_>> {
    instructions
        .iter()
        .map(|Instruction { address, bytes, text }| json::Instruction {
            address: Hex(address.0),
            bytes: HexBytes(bytes),
            text,
        })
        .collect()
}
