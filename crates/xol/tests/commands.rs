//! The command as its users run it: arguments in, output and status out. Nothing is probed here.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn xol(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xol")).args(arguments).env("NO_COLOR", "1").output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Status 0; standard output.
fn succeeds(arguments: &[&str]) -> String {
    let output = xol(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
    stdout(&output)
}

/// The status; standard error. Nothing on standard output.
fn fails(arguments: &[&str]) -> (i32, String) {
    let output = xol(arguments);
    assert_eq!(stdout(&output), "", "{arguments:?}");
    (output.status.code().unwrap(), stderr(&output))
}

/// Compiles C into `folder`; `None`, with a word, where there is no compiler.
fn compile(folder: &Path, source: &str, flags: &[&str]) -> Option<String> {
    let program = folder.join("program");
    let mut gcc = Command::new("gcc");
    gcc.args(["-x", "c", "-", "-O1", "-o"]).arg(&program).args(flags).stdin(Stdio::piped());
    let Ok(mut child) = gcc.spawn() else {
        println!("skipped: no gcc");
        return None;
    };
    child.stdin.take().unwrap().write_all(source.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    Some(program.to_str().unwrap().into())
}

const PROGRAM: &str = "
    int variable = 7;
    __attribute__((noinline)) int work_one(int x) { return x * variable; }
    __attribute__((noinline)) int work_two(int x) { return x + variable; }
    int main(void) { return work_one(1) - work_two(0); }
";

/// Address and name as `nm` has them.
fn nm(program: &str, symbol: &str) -> u64 {
    let output = Command::new("nm").arg(program).output().unwrap();
    let text = stdout(&output);
    let line = text.lines().find(|line| line.split_whitespace().last() == Some(symbol)).unwrap();
    u64::from_str_radix(line.split_whitespace().next().unwrap(), 16).unwrap()
}

#[test]
fn list_of_a_program() {
    let folder = tempfile::tempdir().unwrap();
    let Some(program) = compile(folder.path(), PROGRAM, &[]) else { return };
    let real = fs::canonicalize(&program).unwrap();
    let listed = succeeds(&["list", &format!("{program}:work_*")]);
    let mut lines: Vec<&str> = listed.lines().collect();
    lines.sort_unstable();
    let expected = ["one", "two"].map(|name| format!("uprobe:{}:work_{name}", real.display()));
    assert_eq!(lines, expected);
    // What is printed can be given back, and means the same.
    for line in lines {
        assert_eq!(succeeds(&["list", line]).trim_end(), line);
    }
}

#[test]
fn list_agrees_with_nm() {
    let folder = tempfile::tempdir().unwrap();
    for (number, flags) in [&["-pie"][..], &["-no-pie"], &["-static"]].iter().enumerate() {
        let folder = folder.path().join(number.to_string());
        fs::create_dir(&folder).unwrap();
        let Some(program) = compile(&folder, PROGRAM, flags) else { return };
        let line: Value =
            serde_json::from_str(&succeeds(&["list", "--json", &format!("{program}:work_two")])).unwrap();
        let address = nm(&program, "work_two");
        assert_eq!(line["type"], "list");
        assert_eq!(line["file_address"], format!("{address:#x}"));
        assert!(line["size"].as_u64().unwrap() > 0);
        let by_address = succeeds(&["list", &format!("{program}:{address:#x}")]);
        assert_eq!(by_address.trim_end(), line["probe"]);
    }
}

#[test]
fn list_of_a_library_by_its_short_name() {
    let listed = succeeds(&["list", "libc:mall*"]);
    let malloc = listed.lines().find(|line| line.ends_with(":malloc")).expect("malloc");
    assert!(malloc.starts_with("uprobe:/"), "{malloc}");
    assert_eq!(succeeds(&["list", "libc:malloc"]).trim_end(), malloc);
    assert_eq!(succeeds(&["list", "libc.so.6:malloc"]).trim_end(), malloc);
}

#[test]
fn names_that_mean_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let Some(program) = compile(folder.path(), PROGRAM, &[]) else { return };
    let (status, text) = fails(&["list", &format!("{program}:work_tow")]);
    assert_eq!(status, 1);
    assert!(text.contains("work_two"), "no near match: {text}");
    let (status, text) = fails(&["list", &format!("{program}:variable")]);
    assert!(status == 1 && text.contains("data"), "{text}");
    let (status, text) = fails(&["list", &format!("{program}:0x7fffffff0000")]);
    assert!(status == 1 && text.contains("outside"), "{text}");
    let (status, text) = fails(&["list", "/no/such/file:f"]);
    assert!(status == 1 && text.contains("/no/such/file"), "{text}");
    for path in ["/", "/dev/zero"] {
        let (status, text) = fails(&["list", &format!("{path}:f")]);
        assert!(status == 1 && text.contains("not a regular one"), "{text}");
    }
    let (status, text) = fails(&["list", "[vdso]:time"]);
    assert!(status == 1 && text.contains("belongs to the kernel"), "{text}");
    let (status, text) = fails(&["list", "no_such_library_anywhere:f"]);
    assert!(status == 1 && text.contains("no_such_library_anywhere"), "{text}");
}

#[test]
fn files_that_are_no_programs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let own = fs::read(env!("CARGO_BIN_EXE_xol")).unwrap();
    for bytes in [&b""[..], b"#!/bin/sh\n", &own[..40], &own[..64], &own[..4096]] {
        fs::write(&path, bytes).unwrap();
        let (status, text) = fails(&["list", &format!("{}:main", path.display())]);
        assert_eq!(status, 1);
        assert!(text.starts_with("error: ") && !text.contains("panicked"), "{text}");
    }
}

#[test]
fn badly_written_probes_are_wrong_usage() {
    for probe in ["malloc", "libc:", ":malloc", "libc:malloc+x", "libc:0xzz", "\"libc:malloc"] {
        let (status, text) = fails(&["list", probe]);
        assert_eq!(status, 2, "{probe}");
        assert!(text.contains('^'), "does not point at the place: {text}");
    }
}

#[test]
fn explain_shows_every_part() {
    let text = succeeds(&["explain", "libc:malloc"]);
    for part in [
        "uprobe:/",
        "address 0x",
        "assumed",
        "mechanism: ",
        "displaced:",
        "written over it:",
        "stub:",
        "lock",
        "coherence:",
    ] {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
    assert_eq!(
        text.matches("lock inc").count() + text.matches("lock add").count(),
        1,
        "one count for one site:\n{text}"
    );
}

#[test]
fn explain_of_this_process() {
    let pid = std::process::id().to_string();
    let line: Value =
        serde_json::from_str(&succeeds(&["explain", "libc:getpid", "-p", &pid, "--json"])).unwrap();
    assert_eq!((&line["type"], &line["assumed"]), (&"explain".into(), &false.into()));
    let address =
        u64::from_str_radix(line["address"].as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let holds = |line: &&str| {
        let (start, end) = line.split_whitespace().next().unwrap().split_once('-').unwrap();
        let number = |text| u64::from_str_radix(text, 16).unwrap();
        (number(start)..number(end)).contains(&address)
    };
    let mapping = maps.lines().find(holds).expect("the address is mapped");
    assert!(mapping.contains("r-xp") && mapping.contains("libc"), "{mapping}");
    assert!(
        !line["stub"].as_array().unwrap().is_empty() && !line["coherence"].as_array().unwrap().is_empty()
    );
    // Where the stub would lie, nothing is mapped now.
    let stub = line["stub"][0]["address"].as_str().unwrap().trim_start_matches("0x").to_string();
    let stub = u64::from_str_radix(&stub, 16).unwrap();
    let free = |line: &str| {
        let (start, end) = line.split_whitespace().next().unwrap().split_once('-').unwrap();
        let number = |text| u64::from_str_radix(text, 16).unwrap();
        !(number(start)..number(end)).contains(&stub)
    };
    assert!(maps.lines().all(free), "{stub:#x} is taken:\n{maps}");
}

/// Three functions whose every instruction is known.
const KNOWN: &str = r#"asm(
    ".globl _start, loops, interrupts\n"
    ".type _start, @function\n .type loops, @function\n .type interrupts, @function\n"
    /* room; room; room; from `sub`; from `sub` */
    "_start: push %rbp\n mov %rsp, %rbp\n sub $16, %rsp\n leave\n ret\n .size _start, . - _start\n"
    /* ends in `dec`; room; from `dec`; from `dec` */
    "loops: xor %eax, %eax\n 1: dec %edi\n jnz 1b\n ret\n .size loops, . - loops\n"
    /* refused; breakpoint */
    "interrupts: int $4\n ret\n .size interrupts, . - interrupts\n"
);"#;

/// Of real programs and libraries hardly an instruction needs a breakpoint, and no function entry but of a fixed program.
#[test]
fn breakpoints_are_rare() {
    let libraries = "/usr/lib/x86_64-linux-gnu";
    let anywhere = [0.002, 0.000_1, 0.05];
    let fixed = [0.01, 0.01, 0.1];
    let files = [
        (format!("{libraries}/libc.so.6"), anywhere),
        (format!("{libraries}/libcrypto.so.3"), anywhere),
        (format!("{libraries}/libsqlite3.so.0"), anywhere),
        ("/bin/bash".to_owned(), anywhere),
        ("/usr/bin/python3.11".to_owned(), fixed),
        ("/usr/i686-linux-gnu/lib/libc.so.6".to_owned(), anywhere),
    ];
    for (file, most) in files {
        if fs::metadata(&file).is_err() {
            eprintln!("skipped: no {file} on this machine");
            continue;
        }
        let line: Value = serde_json::from_str(&succeeds(&["explain", "--json", "--all", &file])).unwrap();
        for (of, most) in ["sites", "entries", "returns"].into_iter().zip(most) {
            let [jump, pun, trap, refused] =
                ["jump", "pun", "trap", "refused"].map(|how| line[of][how].as_f64().unwrap());
            let all = jump + pun + trap + refused;
            assert!(all > 1_000.0 && trap + refused <= most * all, "{of}: {line}");
        }
    }
}

#[test]
fn explain_of_all_instructions_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none"];
    let Some(program) = compile(folder.path(), KNOWN, &flags) else { return };
    let text = succeeds(&["explain", "--all", &program]);
    let lines: Vec<&str> = text.lines().collect();
    let real = fs::canonicalize(&program).unwrap();
    assert_eq!(lines[0], real.to_str().unwrap());
    assert_eq!(
        lines[1..lines.len() - 1].join("\n"),
        "  \
         20 bytes of code, 3 functions
  loaded at 0x0 (assumed: the usual address, with everything around the image free; give -p PID for the real one)
  each instruction as if it alone were probed, with any number of mappings
                        number        jump     earlier         pun        trap     refused
  instructions              11    72.727 %    36.364 %     9.091 %     9.091 %     9.091 %
  function entries           3    33.333 %     0.000 %    33.333 %     0.000 %    33.333 %
  returns                    3    66.667 %    66.667 %     0.000 %    33.333 %     0.000 %
why not a jump:
           1    9.091 %  a jump would run over the end of the function
why refused:
           1    9.091 %  it raises a signal that is reported behind it"
    );
    assert!(lines.last().unwrap().starts_with("  took "), "{text}");

    let mut line: Value = serde_json::from_str(&succeeds(&["explain", "--json", "--all", &program])).unwrap();
    assert!(line["took_us"].take().is_u64());
    let sites = |jump, pun, trap, refused| serde_json::json!({ "jump": jump, "pun": pun, "trap": trap, "refused": refused, "waiting": 0 });
    let expected = serde_json::json!({
        "type": "summary", "file": real.to_str().unwrap(), "load_address": "0x0", "assumed": true,
        "code_bytes": 20, "functions": 3, "sites": sites(8, 1, 1, 1), "earlier": 4,
        "entries": sites(1, 1, 0, 1), "returns": sites(2, 0, 1, 0), "took_us": null,
        "no_jump_by": {
            "a jump would run over the end of the function": 1,
        },
        "refused_by": { "it raises a signal that is reported behind it": 1 },
    });
    assert_eq!(line, expected);
}

#[test]
fn explain_takes_a_probe_or_a_file() {
    for arguments in [&["explain"][..], &["explain", "libc:malloc", "--all", "/bin/sh"]] {
        assert_eq!(fails(arguments).0, 2);
    }
    assert_eq!(fails(&["explain", "--all", "/no/such/file"]).0, 1);
}

#[test]
fn explain_refuses_the_middle_of_an_instruction() {
    let line: Value = serde_json::from_str(&succeeds(&["explain", "--json", "libc:getpid"])).unwrap();
    let first = line["displaced"][0]["bytes"].as_str().unwrap().split(' ').count();
    assert!(first > 1, "{line}");
    let text = succeeds(&["explain", "libc:getpid+1"]);
    assert!(text.contains("mechanism: refused") && text.contains("inside the instruction"), "{text}");
}

#[test]
fn list_of_a_process() {
    let pid = std::process::id().to_string();
    let own = std::env::current_exe().unwrap();
    let listed = succeeds(&["list", "-p", &pid]);
    let line = listed.lines().find(|line| line.ends_with(own.to_str().unwrap())).expect("own executable");
    let count: u64 = line.split_whitespace().next().unwrap().replace(',', "").parse().unwrap();
    assert!(count > 100, "{line}");
    let json = succeeds(&["list", "-p", &pid, "--json"]);
    let lines: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["path"] == own.to_str().unwrap() && line["functions"] == count));
    let everywhere = succeeds(&["list", "-p", &pid, "*:malloc"]);
    assert!(everywhere.lines().any(|line| line.ends_with(":malloc")), "{everywhere}");
}

#[test]
fn processes_that_are_not_there() {
    for command in [
        &["list", "-p", "4194304"][..],
        &["list", "libc:malloc", "-p", "4194304"],
        &["explain", "libc:malloc", "-p", "4194304"],
        &["doctor", "-p", "4194304"],
        &["detach", "-p", "4194304"],
    ] {
        let (status, text) = fails(command);
        assert_eq!((status, text.trim_end()), (1, "error: there is no process 4194304"), "{command:?}");
    }
}

/// What `list` prints can be given back, and means the place that it was printed for: names with versions, of C++.
#[test]
fn what_is_listed_can_be_pasted_back() {
    for pattern in ["libc:*pthread_*specific", "libc:sem_close*", "libc:*regex*", "libstdc++:*is_open*"] {
        let listed = xol(&["list", "--json", pattern]);
        if !listed.status.success() {
            println!("skipped: {}", stderr(&listed).trim_end());
            continue;
        }
        for line in stdout(&listed).lines() {
            let entry: Value = serde_json::from_str(line).unwrap();
            let again = succeeds(&["list", "--json", entry["probe"].as_str().unwrap()]);
            let again: Vec<Value> = again.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert!(again.contains(&entry), "{entry} is not among {again:?}");
            // A name means all its versions, but no place twice.
            let places: BTreeSet<_> = again.iter().map(|entry| entry["file_address"].to_string()).collect();
            assert_eq!(places.len(), again.len(), "{again:?}");
        }
    }
}

#[test]
fn results_go_to_the_file_that_was_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out");
    assert_eq!(succeeds(&["list", "libc:malloc", "-o", file.to_str().unwrap()]), "");
    assert!(fs::read_to_string(&file).unwrap().trim_end().ends_with(":malloc"));
    let (status, text) = fails(&["list", "libc:malloc", "-o", "/dev/full"]);
    assert!(status == 1 && text.contains("/dev/full"), "{text}");
    let (status, text) = fails(&["list", "libc:malloc", "-o", "/no/such/folder/out"]);
    assert!(status == 1 && text.contains("/no/such/folder/out"), "{text}");
}

#[test]
fn a_closed_pipe_is_a_quiet_end() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xol"));
    let mut child =
        command.args(["list", "libc:*"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
}

#[test]
fn wrong_usage() {
    let (status, text) = fails(&["stat", "libc:malloc"]);
    assert_eq!((status, text.trim_end().lines().count()), (2, 1), "{text}");
    assert!(text.contains("-p PID[,PID...]") && text.contains("-- CMD ARG..."), "{text}");
    let (status, text) = fails(&["stat", "libc:malloc", "-p", "1", "--", "ls"]);
    assert_eq!((status, text.trim_end().lines().count()), (2, 1), "{text}");
    let (status, text) = fails(&["list"]);
    assert!(
        status == 2 && text.contains("PATTERN [-p PID]") && text.contains("xol list [OPTIONS] -p PID"),
        "{text}"
    );
    for arguments in [&[][..], &["what"], &["stat", "libc:malloc", "-p", "me"]] {
        assert_eq!(fails(arguments).0, 2, "{arguments:?}");
    }
}

#[test]
fn what_is_not_built_yet_says_so() {
    for arguments in [
        &["lat", "libc:malloc", "-p", "1"][..],
        &["tree", "libc:malloc"],
        &["run", "-e", "BEGIN{}"],
        &["trace", "uretprobe:libc:malloc", "-p", "1"],
        &["list", "usdt:libc:*"],
    ] {
        let (status, text) = fails(arguments);
        assert_eq!(status, 2, "{arguments:?}");
        assert!(text.contains("not available yet"), "{text}");
    }
}

#[test]
fn coherence_shows_procedures_with_their_proofs() {
    let all = succeeds(&["coherence"]);
    assert!(all.lines().any(|line| line.starts_with("arm64") && line.contains("pipt-idc")), "{all}");
    let text = succeeds(&["coherence", "s390"]);
    assert!(text.contains("holds: ") && text.contains("because"), "{text}");
    for line in json_lines(&["coherence", "i386", "--writer", "debugger-write", "--json"]) {
        assert!(line["type"] == "coherence" && line["isa"] == "x86" && line["verdict"] == "holds", "{line}");
        assert!(line["states"].as_u64().unwrap() > 0 && !line["steps"].as_array().unwrap().is_empty());
    }
}

fn json_lines(arguments: &[&str]) -> Vec<Value> {
    succeeds(arguments).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn coherence_lists_every_kind_of_caches() {
    let caches = json_lines(&["coherence", "--json"]);
    for line in &caches {
        assert!(line["type"] == "caches" && !line["what"].as_str().unwrap().is_empty(), "{line}");
    }
    let has = |isa: &str, cache: &str| caches.iter().any(|line| line["isa"] == isa && line["cache"] == cache);
    assert!(
        has("arm64", "pipt-idc-dic") && has("alpha", "smp") && has("loongarch", "coherent"),
        "{caches:?}"
    );
    let listed = succeeds(&["coherence"]);
    for line in &caches {
        let (isa, cache) = (line["isa"].as_str().unwrap(), line["cache"].as_str().unwrap());
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let in_list = |text: &str| words(text).first().is_some_and(|name| name == isa);
        let of_isa = listed.lines().find(|text| in_list(text)).unwrap();
        assert!(words(of_isa).contains(&cache.to_owned()), "{isa} {cache}: {listed}");
    }
}

/// A procedure or a reason, for each writer in each situation.
#[test]
fn coherence_says_why_a_writer_is_refused() {
    let never = json_lines(&["coherence", "s390", "--writer", "process-vm-writev", "--json"]);
    assert_eq!(never.len(), 4, "{never:?}");
    for line in &never {
        assert!(line["type"] == "refusal" && line["isa"] == "s390" && line["cache"] == "coherent", "{line}");
        assert!(line["reason"].as_str().unwrap().contains("process_vm_writev"), "{line}");
    }
    let mut said: Vec<(String, String)> = json_lines(&["coherence", "s390", "--json"])
        .iter()
        .map(|line| (line["writer"].to_string(), line["situation"].to_string()))
        .collect();
    said.sort();
    said.dedup();
    assert_eq!(said.len(), 4 * 4, "{said:?}");
}

#[test]
fn coherence_shows_what_goes_wrong_without_a_step() {
    let broken = ["coherence", "arm64", "--cache", "pipt", "--writer", "target-store", "--omit", "ic"];
    let output = xol(&broken);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("broken: ") && text.contains("stale") && text.contains("stores unit"), "{text}");
    let old = xol(&["coherence", "alpha", "--kernel", "6.1", "--writer", "debugger-write"]);
    assert_eq!(old.status.code(), Some(1));
    assert!(String::from_utf8(old.stdout).unwrap().contains("the debugger ran"));
    // Not looked at is not good.
    for (kernel, status) in [("6.12.116", 1), ("6.12.117", 0), ("6.14", 1), ("7.3", 0), ("8.0", 0)] {
        let output = xol(&["coherence", "alpha", "--kernel", kernel, "--writer", "debugger-write", "--json"]);
        assert_eq!(output.status.code(), Some(status), "{kernel}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.contains("count as bad"), status == 1, "{kernel}: {text}");
    }
}

#[test]
fn coherence_names_what_there_is() {
    let (status, text) = fails(&["coherence", "alphaa"]);
    assert!(status == 2 && text.contains("alpha"), "{text}");
    let (status, text) = fails(&["coherence", "arm64", "--cache", "vivt"]);
    assert!(status == 2 && text.contains("pipt-dic"), "{text}");
    let (status, text) = fails(&["coherence", "alpha", "--omit", "dsb"]);
    assert!(status == 2 && text.contains("mprotect"), "{text}");
    assert_eq!(fails(&["coherence", "--cache", "pipt"]).0, 2);
    assert_eq!(fails(&["coherence", "arm64", "--kernel", "new"]).0, 2);
}

#[test]
fn doctor_ends_with_a_sentence() {
    let text = succeeds(&["doctor", "-p", &std::process::id().to_string()]);
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("You can") && last.ends_with('.'), "{last}");
    for line in succeeds(&["doctor", "--json"]).lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["type"], "doctor");
        assert!(line["check"].is_string() && line["ok"].is_boolean() && line["detail"].is_string());
        assert_eq!(line["ok"].as_bool().unwrap(), line["fix"].is_null());
    }
}

#[test]
fn version_names_kernel_and_cpu() {
    let text = succeeds(&["--version"]);
    assert!(text.starts_with(concat!("xol ", env!("CARGO_PKG_VERSION"), "\n")), "{text}");
    assert!(text.contains("\nkernel: ") && text.contains("\nfeatures: "), "{text}");
}
