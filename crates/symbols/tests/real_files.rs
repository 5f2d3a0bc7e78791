//! Real files: this test program itself, the C library it runs on, and small programs that gcc makes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use insn::{Address, Isa};
use symbols::elf::Linkage;
use symbols::frames::{frame_of, frames};
use symbols::functions::Outline;
use symbols::glob::Glob;
use symbols::relocations::{self, ifunc_slots, import_slots, relocations};
use symbols::resolve::{Match, ResolveError, resolve};
use symbols::symbols::Kind;
use symbols::{Bias, Class, FileAddress, Image, NamePattern, Symbols, auxv, loader, maps};

/// Compiles one source text; `None` (and a line that says so) without a compiler or without what it needs.
fn compile(directory: &Path, compiler: &str, source: &str, flags: &[&str]) -> Option<Vec<u8>> {
    let extension = if compiler.ends_with("++") { "cc" } else { "c" };
    let input = directory.join(format!("program.{extension}"));
    let output = directory.join("program");
    std::fs::write(&input, source).unwrap();
    let run = Command::new(compiler).args(flags).arg("-o").arg(&output).arg(&input).output();
    match run {
        Ok(run) if run.status.success() => Some(std::fs::read(output).unwrap()),
        Ok(run) => {
            eprintln!("skipped: {compiler} {flags:?}: {}", String::from_utf8_lossy(&run.stderr));
            None
        }
        Err(error) => {
            eprintln!("skipped: no {compiler}: {error}");
            None
        }
    }
}

struct Module<'a> {
    image: Image<'a>,
    symbols: Symbols<'a>,
    outline: Outline,
}

fn module(bytes: &[u8]) -> Module<'_> {
    let image = Image::parse(bytes).unwrap();
    let frames = frames(&image);
    let symbols = Symbols::read(&image, &frames);
    let outline = Outline::read(&image, &frames, &symbols);
    Module { image, symbols, outline }
}

impl Module<'_> {
    fn find(&self, name: &str) -> Result<Vec<Match>, ResolveError> {
        resolve(&self.image, &self.symbols, &NamePattern::Symbol(name.to_owned()))
    }

    fn one(&self, name: &str) -> Match {
        let mut found = self.find(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        found.remove(0)
    }

    fn starts_function(&self, address: FileAddress) -> bool {
        self.outline.functions.iter().any(|range| range.start == address)
    }
}

fn libc() -> Option<(PathBuf, Vec<u8>)> {
    let maps = maps::parse(&std::fs::read("/proc/self/maps").unwrap());
    let path = maps.iter().filter_map(|mapping| mapping.path.clone()).find(|path| path.contains("libc.so"));
    if path.is_none() {
        eprintln!("skipped: this test is not linked to a shared libc");
    }
    path.map(|path| (PathBuf::from(&path), std::fs::read(&path).unwrap()))
}

/// Never inlined; found by its demangled name.
#[inline(never)]
fn marker(value: u64) -> u64 {
    value.rotate_left(7)
}

#[test]
fn our_own_function_is_where_the_process_has_it() {
    let here = marker as fn(u64) -> u64 as usize as u64;
    let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let own = module(&bytes);
    assert_eq!(own.image.isa(), Ok(Isa::X86_64));
    let found = own.one("real_files::marker");
    let maps = maps::parse(&std::fs::read("/proc/self/maps").unwrap());
    let mapping = maps::mapping_of(&maps, Address(here)).unwrap();
    let bias = own.image.bias_of(mapping.range.start, mapping.offset, mapping.executable).unwrap();
    assert_eq!(bias.run_time(found.file_address), Address(here));
    // Any other mapping of the file tells the same.
    for other in maps.iter().filter(|other| other.is_file() && other.path == mapping.path) {
        let told = own.image.bias_of(other.range.start, other.offset, other.executable);
        assert_eq!(told, Some(bias), "{other:?}");
    }
    assert!(own.starts_function(found.file_address));
    let auxv = auxv::Auxv::parse(Class::Elf64, &std::fs::read("/proc/self/auxv").unwrap());
    assert_eq!(auxv.entry, Some(bias.run_time(own.image.entry())));
}

#[test]
fn rust_names_are_found_demangled() {
    let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let own = module(&bytes);
    let name = "real_files::rust_names_are_found_demangled";
    let found = own.find(name).unwrap();
    let raw = found[0].symbol.clone().unwrap();
    assert_ne!(raw, name);
    assert_eq!(symbols::demangle::demangle(&raw).unwrap().full, name);
}

#[test]
fn near_names_are_suggested_and_data_is_told_apart() {
    let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let own = module(&bytes);
    let Err(ResolveError::NotFound { near, .. }) = own.find("real_files::markr") else {
        panic!("a misspelt name was found")
    };
    assert_eq!(near.first().map(String::as_str), Some("real_files::marker"));
    let size = own.one("real_files::marker").size;
    let offset = |offset| {
        let symbol = "real_files::marker".to_owned();
        resolve(&own.image, &own.symbols, &NamePattern::Offset { symbol, offset })
    };
    assert_eq!(offset(size - 1).unwrap()[0].offset, size - 1);
    assert!(matches!(offset(size), Err(ResolveError::OutsideSymbol { size: told, .. }) if told == size));
}

#[test]
fn libc_has_versions_ifuncs_and_exact_function_ranges() {
    let Some((_, bytes)) = libc() else { return };
    let libc = module(&bytes);
    assert_eq!(libc.image.linkage(), Linkage::Shared);
    assert_eq!(libc.image.soname(), Some("libc.so.6"));
    assert!(libc.image.build_id().is_some_and(|id| id.len() >= 8));
    let malloc = libc.one("malloc");
    assert_eq!(malloc.kind, Kind::Function);
    assert!(libc.outline.functions.contains(&malloc.file_address.span(malloc.size)), "{malloc:?}");
    assert!(libc.outline.pointed_at.contains(&malloc.file_address));
    assert_eq!(libc.find("malloc@@GLIBC_2.2.5").unwrap(), [malloc]);
    // strlen is chosen at run time, and its result is in a slot of libc's own or of whoever imports it.
    let strlen = libc.one("strlen");
    assert_eq!(strlen.kind, Kind::Ifunc);
    // memcpy has two versions with different code: the old one must name itself.
    let names: Vec<_> = libc.find("memcpy").unwrap().into_iter().filter_map(|found| found.symbol).collect();
    assert_eq!(names.len(), 2);
    assert!(names.contains(&"memcpy".to_owned()) && names.contains(&"memcpy@GLIBC_2.2.5".to_owned()));
    for name in names {
        assert_eq!(libc.find(&name).unwrap().iter().filter(|m| m.symbol.as_ref() == Some(&name)).count(), 1);
    }
}

#[test]
fn a_glob_gives_each_address_once_by_its_best_name() {
    let Some((_, bytes)) = libc() else { return };
    let libc = module(&bytes);
    let found = resolve(&libc.image, &libc.symbols, &NamePattern::Glob(Glob::new("*alloc"))).unwrap();
    let addresses: Vec<_> = found.iter().map(|found| found.file_address).collect();
    assert!(addresses.windows(2).all(|pair| pair[0] < pair[1]));
    let names: Vec<_> = found.iter().filter_map(|found| found.symbol.as_deref()).collect();
    // __libc_malloc is an alias of malloc.
    assert!(names.contains(&"malloc") && names.contains(&"calloc") && !names.contains(&"__libc_malloc"));
    assert!(matches!(libc.find("environ"), Err(ResolveError::DataSymbol { .. })));
    let outside = resolve(&libc.image, &libc.symbols, &NamePattern::Address(FileAddress(u64::MAX)));
    assert!(matches!(outside, Err(ResolveError::OutsideText { .. })));
}

/// What the loader wrote into the slots of this process must be what the tables say.
#[test]
fn our_slots_hold_addresses_of_libc() {
    let Some((path, bytes)) = libc() else { return };
    let own_bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let own = module(&own_bytes);
    let libc = module(&bytes);
    let slots = import_slots(&own.image, "memcpy");
    assert!(!slots.is_empty(), "a Rust program calls memcpy");
    let maps = maps::parse(&std::fs::read("/proc/self/maps").unwrap());
    let exe = std::env::current_exe().unwrap();
    let bias = |image: &Image<'_>, path: &Path| {
        let mapped = maps.iter().find(|m| m.executable && m.path.as_deref() == path.to_str()).unwrap();
        image.bias_of(mapped.range.start, mapped.offset, true).unwrap()
    };
    let value = read_own(bias(&own.image, &exe).run_time(slots[0]));
    let chosen = bias(&libc.image, &path).file(Address(value));
    // The implementation has no name in a stripped libc.
    assert!(libc.starts_function(chosen), "no function at {chosen:?}");
}

fn read_own(address: Address) -> u64 {
    use std::os::unix::fs::FileExt;
    let mut word = [0; 8];
    std::fs::File::open("/proc/self/mem").unwrap().read_exact_at(&mut word, address.0).unwrap();
    u64::from_le_bytes(word)
}

#[test]
fn our_loaders_list_has_libc_and_a_place_to_stop() {
    use std::os::unix::fs::FileExt;
    let Some((path, _)) = libc() else { return };
    let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let own = module(&bytes);
    let auxv = auxv::Auxv::parse(Class::Elf64, &std::fs::read("/proc/self/auxv").unwrap());
    let bias = Bias::between(auxv.entry.unwrap(), own.image.entry());
    let memory = std::fs::File::open("/proc/self/mem").unwrap();
    let mut read = |at: Address, into: &mut [u8]| memory.read_exact_at(into, at.0).is_ok();
    let at = loader::find_rendezvous(&own.image, bias, &mut read).unwrap();
    let rendezvous = loader::rendezvous(Class::Elf64, at, &mut read).unwrap();
    let modules = loader::modules(Class::Elf64, &rendezvous, &mut read);
    assert_eq!(modules[0].bias, bias);
    assert!(modules.iter().any(|module| Path::new(&module.name).file_name() == path.file_name()));
    // The loader's own symbol is the place that it announces.
    let maps = maps::parse(&std::fs::read("/proc/self/maps").unwrap());
    let mapped = maps::mapping_of(&maps, rendezvous.break_address).unwrap();
    let ld_so = std::fs::read(mapped.path.as_deref().unwrap()).unwrap();
    let ld_so = module(&ld_so);
    let bias = ld_so.image.bias_of(mapped.range.start, mapped.offset, true).unwrap();
    assert_eq!(
        loader::loader_break(&ld_so.symbols).map(|at| bias.run_time(at)),
        Some(rendezvous.break_address)
    );
}

/// A module read back from memory has no section headers: the dynamic section must do.
#[test]
fn libc_from_memory_has_the_same_exports() {
    use std::os::unix::fs::FileExt;
    let Some((path, bytes)) = libc() else { return };
    let libc = module(&bytes);
    let maps = maps::parse(&std::fs::read("/proc/self/maps").unwrap());
    let memory = std::fs::File::open("/proc/self/mem").unwrap();
    let mut loaded = vec![0; bytes.len()];
    let mut bias = None;
    for mapping in maps.iter().filter(|m| m.readable && m.path.as_deref() == path.to_str()) {
        bias = bias.or(libc.image.bias_of(mapping.range.start, mapping.offset, mapping.executable));
        let start = usize::try_from(mapping.offset).unwrap();
        let len = usize::try_from(mapping.range.end - mapping.range.start).unwrap();
        let end = (start + len).min(loaded.len());
        memory.read_exact_at(&mut loaded[start..end], mapping.range.start.0).unwrap();
    }
    // What was behind the last segment stays zero: no section headers.
    let image = Image::parse_loaded(&loaded, bias.unwrap()).unwrap();
    assert!(image.section(".text").is_none());
    let found = frames(&image);
    let symbols = Symbols::read(&image, &found);
    assert_eq!(found, frames(&libc.image));
    assert_eq!(image.soname(), Some("libc.so.6"));
    let address = |symbols: &Symbols<'_>| symbols.functions().find(|s| s.name == "malloc").map(|s| s.address);
    assert!(address(&symbols).is_some());
    assert_eq!(address(&symbols), address(&libc.symbols));
}

const CPP: &str = r#"
#include <stdexcept>
#include <cstdio>
namespace shop { 
  __attribute__((noinline)) int price(int n) { if (n > 2) throw std::runtime_error("n"); return n; }
  __attribute__((noinline)) int price(double d) { return static_cast<int>(d); }
  struct Cart { int total; __attribute__((noinline)) int operator+(int more) const { return total + more; } };
}
template <class T> __attribute__((noinline)) T twice(T value) { return value + value; }
int main(int argc, char **) {
  try { std::printf("%d %d\n", shop::price(argc), shop::price(argc * 0.5)); }
  catch (const std::exception &error) { std::puts(error.what()); }
  return twice(argc) + (shop::Cart{argc} + 1);
}
"#;

#[test]
fn cpp_overloads_templates_and_landing_pads() {
    let directory = tempfile::tempdir().unwrap();
    let Some(bytes) = compile(directory.path(), "g++", CPP, &["-O1", "-fpie", "-pie"]) else { return };
    let program = module(&bytes);
    assert!(program.image.is_pie() && !program.image.is_static());
    assert!(program.image.interpreter().is_some_and(|path| path.contains("ld-linux")));
    assert!(program.image.needed().contains(&"libc.so.6"));
    assert_eq!(program.find("shop::price").unwrap().len(), 2);
    assert_eq!(program.one("shop::price(int)").symbol.as_deref(), Some("_ZN4shop5priceEi"));
    assert_eq!(program.one("_ZN4shop5priceEi"), program.one("shop::price(int)"));
    assert_eq!(program.one("twice<int>").symbol.as_deref(), Some("_Z5twiceIiET_S0_"));
    assert_eq!(program.one("shop::Cart::operator+").symbol.as_deref(), Some("_ZNK4shop4CartplEi"));
    let both = resolve(&program.image, &program.symbols, &NamePattern::Glob(Glob::new("shop::price(*)")));
    assert_eq!(both.unwrap().len(), 2);
    // The handler in main is entered from the unwinder, in the middle of main.
    let main = program.one("main");
    let body = main.file_address + 1..main.file_address + main.size;
    let pads = program.outline.pointed_at.iter().filter(|address| body.contains(address)).count();
    let cold = program.symbols.functions().filter(|symbol| symbol.name == "main.cold").count();
    assert!(pads > 0 || cold > 0, "no landing pad: {:?}", program.outline.pointed_at);
}

const IFUNC: &str = r#"
static int one(void) { return 1; }
static int (*resolve_it(void))(void) { return one; }
int chosen(void) __attribute__((ifunc("resolve_it")));
int (*table[])(void) = { one, chosen };
int main(void) { return table[0]() - chosen(); }
"#;

#[test]
fn ifunc_slots_of_a_static_program() {
    let directory = tempfile::tempdir().unwrap();
    for (flags, pie) in [(&["-static", "-no-pie"][..], false), (&["-static-pie", "-fpie"][..], true)] {
        let Some(bytes) = compile(directory.path(), "gcc", IFUNC, flags) else { continue };
        let program = module(&bytes);
        assert!(program.image.is_static());
        assert_eq!(program.image.is_static_pie(), pie);
        let chosen = program.one("chosen");
        assert_eq!(chosen.kind, Kind::Ifunc);
        assert!(!ifunc_slots(&program.image, chosen.file_address).is_empty(), "{flags:?}");
        // The table is filled by relocation in one and written by the linker in the other.
        let mut pointed_at = program.outline.pointed_at.iter().chain(&program.outline.may_point_at);
        assert!(pointed_at.any(|at| *at == program.one("one").file_address), "{flags:?}");
    }
}

const ASSEMBLY: &str = r#"
__asm__(".text\n.globl bare\nbare: nop\nnop\nret\n.globl after\n.type after,@function\nafter: ret\n.size after,1\n");
int number = 3;
extern void bare(void);
int main(void) { bare(); return number; }
"#;

#[test]
fn labels_of_assembly_reach_to_the_next_function() {
    let directory = tempfile::tempdir().unwrap();
    let Some(bytes) = compile(directory.path(), "gcc", ASSEMBLY, &["-O0"]) else { return };
    let program = module(&bytes);
    let bare = program.one("bare");
    assert_eq!((bare.size, bare.kind), (3, Kind::Function));
    let symbol = program.symbols.functions().find(|symbol| symbol.name == "bare").unwrap();
    assert!(symbol.size_guessed);
    assert!(matches!(program.find("number"), Err(ResolveError::DataSymbol { .. })));
    assert!(matches!(program.find("__libc_start_main"), Err(ResolveError::Imported { .. })));
    let inside = NamePattern::Address(bare.file_address + 2);
    let found = resolve(&program.image, &program.symbols, &inside).unwrap().remove(0);
    assert_eq!((found.symbol.as_deref(), found.offset), (Some("bare"), 2));
}

/// Labels without types or unwind tables: a constant, as perlasm has them, and what is called, branched to, gone on into, pointed
/// at, or called by the C library's start-up code.
const UNTYPED: &str = r#"
asm(".text; .balign 64; constants: .long 0x5a827999, 0x5a827999;"
    "main: lea constants(%rip), %rax; mov (%rax), %edi; call called; call *pointer(%rip); xor %eax, %eax; ret;"
    "called: xor %eax, %eax; jmp branched; further: .long 0x5a827999;"
    "branched: inc %eax; gone_into: inc %eax; cmp $9, %eax; jb called; ret; behind: .long 0xc3c3c3c3;"
    "pointed_at: ret; alone: ret;"
    ".data; .balign 8; pointer: .quad pointed_at;"
    ".globl main");
"#;

#[test]
fn untyped_labels_are_functions_where_something_leads_to_them() {
    let directory = tempfile::tempdir().unwrap();
    for flags in [&["-pie"][..], &["-no-pie"], &["-static"]] {
        let Some(bytes) = compile(directory.path(), "gcc", UNTYPED, flags) else { continue };
        let program = module(&bytes);
        for name in ["main", "called", "branched", "gone_into", "pointed_at"] {
            let found = program.one(name);
            assert_eq!((found.kind, found.symbol.as_deref()), (Kind::Function, Some(name)));
            assert!(program.outline.functions.contains(&found.file_address.span(found.size)), "{name}");
        }
        for name in ["constants", "further", "behind", "alone"] {
            let label = program.symbols.labels().find(|label| label.name == name).unwrap();
            assert!(matches!(program.find(name), Err(ResolveError::Untyped { .. })), "{name}");
            assert!(!program.outline.functions.iter().any(|range| range.contains(&label.address)), "{name}");
            assert!(program.outline.pointed_at.contains(&label.address), "{name}");
            let pattern = NamePattern::Glob(Glob::new(&format!("{name}*")));
            let found = resolve(&program.image, &program.symbols, &pattern);
            assert!(matches!(found, Err(ResolveError::Untyped { .. })), "{name}: {found:?}");
        }
    }
}

#[test]
fn a_stripped_program_still_has_function_ranges() {
    let directory = tempfile::tempdir().unwrap();
    let Some(bytes) = compile(directory.path(), "gcc", ASSEMBLY, &["-O0"]) else { return };
    let Some(stripped) = compile(directory.path(), "gcc", ASSEMBLY, &["-O0", "-s"]) else { return };
    let main = module(&bytes).one("main");
    let stripped = module(&stripped);
    assert!(stripped.find("main").is_err());
    assert!(stripped.outline.functions.contains(&main.file_address.span(main.size)));
    let found =
        resolve(&stripped.image, &stripped.symbols, &NamePattern::Address(main.file_address)).unwrap();
    assert_eq!((found[0].symbol.as_ref(), found[0].file_address), (None, main.file_address));
    // `0x*` means the same instructions with symbols and without, but for functions that only a symbol tells of.
    let every = |module: &Module<'_>| -> BTreeSet<FileAddress> {
        let found = resolve(&module.image, &module.symbols, &NamePattern::Instructions).unwrap();
        found.iter().map(|place| place.file_address).collect()
    };
    let (with, without) = (every(&module(&bytes)), every(&stripped));
    assert!(without.is_subset(&with) && without.contains(&main.file_address));
    let inside = |at: &&FileAddress| main.file_address.span(main.size).contains(at);
    assert_eq!(with.iter().filter(inside).count(), without.iter().filter(inside).count());
    assert!(without.iter().filter(inside).count() > 1);
}

const RSEQ: &str = r#"
struct cs { unsigned version, flags; unsigned long start, length, abort; };
__asm__(".text\nsection_start: nop\nnop\nnop\nsection_end: ret\n.long 0x53053053\nsection_abort: ret\n");
extern char section_start[], section_abort[];
__attribute__((section("__rseq_cs"), used, aligned(32))) struct cs descriptor =
  { 0, 0, (unsigned long)section_start, 3, (unsigned long)section_abort };
int main(void) { return 0; }
"#;

#[test]
fn restartable_sequences_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    for flags in
        [&["-no-pie"][..], &["-fpie", "-pie"][..], &["-fpie", "-pie", "-Wl,-z,pack-relative-relocs"][..]]
    {
        let Some(bytes) = compile(directory.path(), "gcc", RSEQ, flags) else { continue };
        let program = module(&bytes);
        let address = |name: &str| program.one(name).file_address;
        let (start, abort) = (address("section_start"), address("section_abort"));
        let signature = FileAddress(abort.0 - 4)..abort + 1;
        assert_eq!(program.outline.refused, [start..start + 3, signature], "{flags:?}");
        let bias = Bias(0x7000_0000);
        assert_eq!(program.outline.refused_at(bias)[0].start, bias.run_time(start));
    }
}

#[test]
fn packed_relocations_point_where_plain_ones_do() {
    let directory = tempfile::tempdir().unwrap();
    let source =
        "void f(void){} void g(void){} void (*table[])(void)={f,g,f,g}; int main(void){return table[1]==f;}";
    for flags in [&["-O0", "-pie", "-fpie"][..], &["-O0", "-pie", "-fpie", "-Wl,-z,pack-relative-relocs"][..]]
    {
        let Some(bytes) = compile(directory.path(), "gcc", source, flags) else { continue };
        let program = module(&bytes);
        // Local functions would not be in the list but for the table.
        let static_source = source.replace("void f", "static void f").replace("void g", "static void g");
        let Some(bytes) = compile(directory.path(), "gcc", &static_source, flags) else { continue };
        for program in [program, module(&bytes)] {
            for name in ["f", "g"] {
                assert!(
                    program.outline.pointed_at.contains(&program.one(name).file_address),
                    "{flags:?} {name}"
                );
            }
        }
    }
}

#[test]
fn protection_notes_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let source = "int main(void){return 0;}";
    let flags = ["-fcf-protection=full", "-nostdlib", "-Wl,-e,main", "-Wl,-z,shstk", "-Wl,-z,ibt"];
    let Some(bytes) = compile(directory.path(), "gcc", source, &flags) else { return };
    let protection = module(&bytes).image.control_flow_protection();
    assert!(protection.indirect_branch_tracking && protection.shadow_stack);
    let Some(bytes) =
        compile(directory.path(), "gcc", source, &["-fcf-protection=none", "-nostdlib", "-Wl,-e,main"])
    else {
        return;
    };
    assert!(!module(&bytes).image.control_flow_protection().shadow_stack);
}

/// What is read of a program of either class, by the same source.
#[test]
fn a_32_bit_program_is_read_like_one_of_64_bits() {
    let directory = tempfile::tempdir().unwrap();
    let source = "__attribute__((noinline)) int twice(int x){return 2*x;}\n\
                  int (*pointer)(int)=twice; int main(void){return twice(0);}";
    let flags = ["-nostdlib", "-ffreestanding", "-Wl,-e,main", "-Wl,--build-id=sha1"];
    for (class, shape) in [("-m32", "-static"), ("-m32", "-shared"), ("-m64", "-static"), ("-m64", "-shared")]
    {
        let all: Vec<&str> = flags.into_iter().chain([class, shape, "-fPIC"]).collect();
        let Some(bytes) = compile(directory.path(), "gcc", source, &all) else { return };
        let module = module(&bytes);
        let image = &module.image;
        let isa = if class == "-m32" { Isa::I386 } else { Isa::X86_64 };
        assert_eq!((image.isa(), image.class()), (Ok(isa), Class::of(isa)));
        assert_eq!(symbols::elf::isa_of(&bytes[..symbols::elf::HEADER_LEN]), Ok(isa));
        assert_eq!(image.build_id().map(<[u8]>::len), Some(20));
        let twice = module.symbols.functions().find(|symbol| symbol.name == "twice").unwrap();
        assert!(!twice.size_guessed && image.is_code(twice.address), "{twice:?}");
        assert!(frame_of(&frames(image), twice.address).is_some_and(|frame| frame.range == twice.range()));
        assert_eq!(image.got().is_some(), isa == Isa::I386);
        if shape == "-shared" {
            // The relocation of `pointer` says where `twice` is, or by which symbol it is found.
            let targets = &module.outline.pointed_at;
            assert!(targets.contains(&twice.address), "{targets:x?}");
            assert!(relocations(image).any(|relocation| relocation.kind == relocations::Kind::Symbol));
        }
    }
}

/// Programs of other machines: the class, the order of bytes, where functions begin, and what is code.
#[test]
fn programs_of_other_machines() {
    let directory = tempfile::tempdir().unwrap();
    let source = "int data[3]={1,2,3}; __attribute__((noinline)) int twice(int x){return x+data[x&1];}\n\
                  int main(void){return twice(0);}";
    for (compiler, isa, extra) in [
        ("aarch64-linux-gnu-gcc", Isa::Arm64, "-O1"),
        ("arm-linux-gnueabihf-gcc", Isa::Arm, "-marm"),
        ("arm-linux-gnueabihf-gcc", Isa::Arm, "-mthumb"),
        ("powerpc-linux-gnu-gcc", Isa::PowerPc, "-O1"),
        ("powerpc64-linux-gnu-gcc", Isa::PowerPc64, "-O1"),
        ("powerpc64le-linux-gnu-gcc", Isa::PowerPc64Le, "-O1"),
        ("riscv64-linux-gnu-gcc", Isa::RiscV64, "-O1"),
        ("alpha-linux-gnu-gcc", Isa::Alpha, "-O1"),
        ("mips-linux-gnu-gcc", Isa::Mips, "-O1"),
        ("mipsel-linux-gnu-gcc", Isa::MipsLe, "-O1"),
        ("mips64el-linux-gnuabi64-gcc", Isa::Mips64Le, "-O1"),
        ("sparc64-linux-gnu-gcc", Isa::Sparc64, "-O1"),
        ("s390x-linux-gnu-gcc", Isa::S390x, "-O1"),
    ] {
        let flags = ["-static", "-Wl,--build-id=sha1", extra];
        let Some(bytes) = compile(directory.path(), compiler, source, &flags) else { continue };
        let module = module(&bytes);
        let image = &module.image;
        assert_eq!((image.isa(), image.order()), (Ok(isa), isa.abi().order), "{compiler} {extra}");
        assert_eq!(image.build_id().map(<[u8]>::len), Some(20));
        let twice = module.one("twice");
        assert!(image.is_code(twice.file_address), "{compiler}: {twice:?}");
        assert_eq!(twice.file_address.0 % 2, 0, "{compiler} {extra}");
        let symbol = module.symbols.functions().find(|symbol| symbol.name == "twice").unwrap();
        let local_entry = if matches!(isa, Isa::PowerPc64Le | Isa::Alpha) { 8 } else { 0 };
        assert_eq!((symbol.local_entry, symbol.address + local_entry), (local_entry, twice.file_address));
        let code = if extra == "-mthumb" { Isa::Thumb } else { isa };
        assert_eq!(module.symbols.isa_at(image, twice.file_address), Some(code), "{compiler} {extra}");
        if isa == Isa::Arm {
            // The address of `data` lies behind the code, which is marked.
            let last = symbol.address + (symbol.size - 4);
            assert_eq!(module.symbols.isa_at(image, last), None, "{extra}");
        }
    }
}

/// Which the symbols tell: it is not to be taken for code of the file's own kind. Nor is n32 taken for o32.
#[test]
fn compressed_code_of_mips_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let source = "int twice(int x){return 2*x;}";
    for (extra, is_compressed) in [("-mmicromips", true), ("-mips16", true), ("-O2", false)] {
        let flags = ["-shared", "-nostdlib", "-fPIC", extra];
        let Some(bytes) = compile(directory.path(), "mips-linux-gnu-gcc", source, &flags) else { continue };
        let module = module(&bytes);
        let twice = module.one("twice").file_address;
        assert_eq!(twice.0 % 2, 0);
        assert_eq!(module.symbols.isa_at(&module.image, twice).is_none(), is_compressed, "{extra}");
        let other = module.symbols.other_code_at(twice);
        assert_eq!(other, is_compressed.then_some("MIPS16 or microMIPS"), "{extra}");
    }
    let flags = ["-shared", "-nostdlib", "-fPIC", "-mabi=n32"];
    let Some(bytes) = compile(directory.path(), "mips64el-linux-gnuabi64-gcc", source, &flags) else {
        return;
    };
    let error = Image::parse(&bytes).unwrap().isa().unwrap_err();
    assert!(error.to_string().contains("n32"), "{error}");
}

/// The cases of a position-independent `switch` are known: i386 counts them from its global offset table.
#[test]
fn cases_of_a_32_bit_switch_may_be_pointed_at() {
    let directory = tempfile::tempdir().unwrap();
    let cases: String = (0..12).map(|n| format!("case {n}: return f{}(x, {n});", n % 3)).collect();
    let source = format!(
        "int f0(int,int); int f1(int,int); int f2(int,int); int choose(int x){{switch(x){{{cases}}} return 0;}}"
    );
    let flags = ["-m32", "-O1", "-shared", "-fPIC", "-nostdlib", "-fno-reorder-functions"];
    let Some(bytes) = compile(directory.path(), "gcc", &source, &flags) else { return };
    let module = module(&bytes);
    let choose = module.symbols.functions().find(|symbol| symbol.name == "choose").unwrap().range();
    let inside = |at: &&FileAddress| choose.start < **at && **at < choose.end;
    let cases = module.outline.may_point_at.iter().filter(inside).count();
    assert!(cases >= 12, "{cases} places in {choose:x?}");
}

#[test]
fn an_object_file_is_not_a_program() {
    let directory = tempfile::tempdir().unwrap();
    let Some(bytes) = compile(directory.path(), "gcc", "int f(void){return 0;}", &["-c"]) else { return };
    assert!(Image::parse(&bytes).unwrap().isa().unwrap_err().to_string().contains("object file"));
}

const GO: &str = "package main\n\n//go:noinline\nfunc work(n int) int { return n * 3 }\n\nfunc main() { println(work(4)) }\n";

/// Builds a Go program with the cache in its own directory; bounded, because the first build compiles the runtime.
fn compile_go(directory: &Path, flags: &[&str]) -> Option<Vec<u8>> {
    std::fs::write(directory.join("main.go"), GO).unwrap();
    let run = Command::new("timeout")
        .args(["240", "go", "build", "-o", "program"])
        .args(flags)
        .arg("main.go")
        .current_dir(directory)
        .env("GOCACHE", directory.join("cache"))
        .env("GOFLAGS", "-mod=mod")
        .env("GO111MODULE", "off")
        .output();
    match run {
        Ok(run) if run.status.success() => Some(std::fs::read(directory.join("program")).unwrap()),
        Ok(run) => {
            eprintln!("skipped: go build {flags:?}: {}", String::from_utf8_lossy(&run.stderr));
            None
        }
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

#[test]
fn a_stripped_go_program_names_its_functions() {
    let directory = tempfile::tempdir().unwrap();
    let Some(with_symbols) = compile_go(directory.path(), &[]) else { return };
    let Some(stripped) = compile_go(directory.path(), &["-ldflags=-s"]) else { return };
    let (with_symbols, stripped) = (module(&with_symbols), module(&stripped));
    assert!(stripped.image.is_static_go());
    let (named, found) = (with_symbols.one("main.work"), stripped.one("main.work"));
    assert_eq!(found.file_address, named.file_address);
    // The table has no sizes: a function reaches to the next one.
    assert!(found.size >= named.size);
    assert!(stripped.starts_function(found.file_address));
}

/// What ends a signal handler is described from one byte before its first instruction on: that byte is no function's.
#[test]
fn a_signal_frame_begins_behind_its_padding() {
    const SOURCE: &str = r#"
        __asm__(".text\n.balign 16\nnopl 0(%rax)\nnopl 0(%rax)\nnopl 0(%rax)\nnopl 0(%rax)\nnopl 0(%rax)\n"
                ".cfi_startproc\n.cfi_signal_frame\nnop\n.globl ends_handler\nends_handler: mov $15, %eax\nret\n.cfi_endproc");
        int main(void) { return 0; }
    "#;
    let directory = tempfile::tempdir().unwrap();
    let Some(bytes) = compile(directory.path(), "gcc", SOURCE, &[]) else { return };
    let image = Image::parse(&bytes).unwrap();
    let frames = frames(&image);
    let symbols = Symbols::read(&image, &frames);
    let start = symbols.all().iter().find(|symbol| symbol.name == "ends_handler").unwrap().address;
    assert_eq!(frame_of(&frames, start).map(|frame| frame.range.clone()), Some(start.span(6)));
}
