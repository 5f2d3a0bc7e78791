//! `xol list`: what can be probed.

use symbols::Spec;
use xol::catalogue::{self, LookupError};
use xol::files::System;
use xol::remote::{self, Place};

use super::args::{ListArgs, attached};
use super::failure::Failure;
use crate::show::json::{Hex, Line};
use crate::show::name::printable;
use crate::show::number::thousands;
use crate::show::output::{Notes, Output};

pub(crate) fn run(args: &ListArgs) -> Result<u8, Failure> {
    // A badly written pattern is wrong usage, whatever the process is.
    let spec = args.pattern.as_deref().map(catalogue::parse).transpose()?;
    let mut output = Output::open(args.output.output.as_deref())?;
    let mut notes = Notes::new(args.output.quiet);
    if let Some(place) = args.remote.place(attached(args.pid)) {
        list_remote(&place, spec.as_ref(), args.output.json, &mut output)?;
        output.flush()?;
        return Ok(0);
    }
    let system = catalogue::system(args.pid)?;
    match spec {
        Some(spec) => {
            let notices = catalogue::notices(&system, &spec);
            notices.iter().for_each(|notice| notes.note(&printable(notice)));
            for entry in catalogue::list(&system, &spec)? {
                print_entry(&entry, args.output.json, &mut output)?;
            }
        }
        None => print_files(&system, args.output.json, &mut output, &mut notes)?,
    }
    output.flush()?;
    Ok(0)
}

fn list_remote(place: &Place, spec: Option<&Spec>, json: bool, output: &mut Output) -> Result<(), Failure> {
    match spec {
        Some(spec) => {
            remote::list(place, spec)?.iter().try_for_each(|entry| print_entry(entry, json, output))
        }
        None => remote::mapped(place)?
            .iter()
            .try_for_each(|(path, functions)| print_file(&path.to_string_lossy(), *functions, json, output)),
    }
}

/// One PROBE a line, ready to be given to `stat`.
fn print_entry(entry: &catalogue::Entry, json: bool, output: &mut Output) -> Result<(), Failure> {
    match json {
        true => output.json(&Line::List {
            probe: &entry.probe,
            file_address: Hex(entry.file_address.0),
            size: entry.size,
            demangled: entry.demangled.as_deref(),
        }),
        false => output.line(&printable(&entry.probe)),
    }
}

/// The mapped files, with how many functions each names.
fn print_files(system: &System, json: bool, output: &mut Output, notes: &mut Notes) -> Result<(), Failure> {
    for (path, counted) in catalogue::mapped(system) {
        if let Some(notice) = system.replaced_notice(&path) {
            notes.note(&printable(&notice));
        }
        let path = path.to_string_lossy();
        match counted {
            Ok(functions) => print_file(&path, functions, json, output)?,
            Err(error) => notes.note(&unreadable(&error)),
        }
    }
    Ok(())
}

fn print_file(path: &str, functions: u64, json: bool, output: &mut Output) -> Result<(), Failure> {
    match json {
        true => output.json(&Line::File { path, functions }),
        false => output.line(&format!("{:>9}  {}", thousands(functions), printable(path))),
    }
}

fn unreadable(error: &LookupError) -> String {
    printable(&format!("left out: {error}")).into_owned()
}
