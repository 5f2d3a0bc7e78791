//! What a process executes, and whether that gives it privileges: a traced exec does not get them (kernel/exec and
//! security/commoncap.c, `cap_bprm_creds_from_file`), unless the tracer is capable itself.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use insn::Address;
use symbols::status::Status;

use super::{Process, status_of};
use crate::registers::Registers;
use crate::seam::{Executable, Target, Tid};
use crate::sys::process;

/// The longest path that the kernel takes (PATH_MAX).
const PATH_MAX: usize = 4096;
/// Interpreters of interpreters that the kernel follows (fs/exec.c, `exec_binprm`).
const INTERPRETERS: usize = 5;
const SET_USER: u32 = 0o4000;
const EXECUTE: u32 = 0o111;
/// Without execution by the group, the bit means mandatory locking (it did once) and gives nothing.
const SET_GROUP: u32 = 0o2010;

/// See [`Target::about_to_execute`]. At the entry of a system call the result register holds -ENOSYS
/// (arch/x86/entry/common.c), at its exit nothing else does for these calls.
pub(super) fn about_to(target: &Process, tid: Tid) -> Option<Executable> {
    let registers = target.registers(tid).ok()?;
    let abi = target.isa().abi();
    let is_entry = registers.answer() == -i64::from(libc::ENOSYS);
    let number = registers.get(abi.syscall.original_number?);
    let path = match number {
        _ if !is_entry => return None,
        number if number == abi.numbers.execve => named(target, tid, &registers, 0, None)?,
        number if number == abi.numbers.execveat => {
            named(target, tid, &registers, 1, abi.syscall.arguments.first().copied())?
        }
        _ => return None,
    };
    let file = final_file(tid, path.clone())?;
    Some(Executable {
        path: path.to_string_lossy().into_owned(),
        gives_privilege: gives_privilege(&file, &status_of(tid)?),
        is_deprived: false,
    })
}

/// See [`Target::executable`].
pub(super) fn executed(tid: Tid) -> Option<Executable> {
    let link = PathBuf::from(format!("/proc/{tid}/exe"));
    let metadata = fs::metadata(&link).ok()?;
    let status = status_of(tid)?;
    let mode = metadata.permissions().mode();
    // Real, effective, saved, file system.
    let is_not = |ids: Option<[u32; 4]>, id: u32| ids.is_some_and(|[_, effective, ..]| effective != id);
    let lost_user = mode & SET_USER != 0 && is_not(status.uids, metadata.uid());
    let lost_group = mode & SET_GROUP == SET_GROUP && is_not(status.gids, metadata.gid());
    let lost_capabilities = has_capabilities(&link) && status.permitted == Some(0);
    let gives_privilege = gives_privilege(&link, &status);
    Some(Executable {
        path: fs::read_link(&link).unwrap_or(link.clone()).to_string_lossy().into_owned(),
        gives_privilege,
        is_deprived: gives_privilege && (lost_user || lost_group || lost_capabilities),
    })
}

/// The path argument of an exec call, as we reach it: through the process's own root and working directory.
fn named(
    target: &Process,
    tid: Tid,
    registers: &Registers,
    argument: usize,
    folder: Option<insn::isa::RegisterSlot>,
) -> Option<PathBuf> {
    let at = registers.get(*target.isa().abi().syscall.arguments.get(argument)?);
    let path = read_path(target, Address(at))?;
    let descriptor =
        folder.map(|slot| i32::try_from(registers.get(slot) & 0xffff_ffff).unwrap_or(libc::AT_FDCWD));
    Some(match (path.is_absolute(), descriptor) {
        (true, _) => reached(tid, &path),
        (false, None | Some(libc::AT_FDCWD)) => PathBuf::from(format!("/proc/{tid}/cwd")).join(path),
        (false, Some(number)) if path.as_os_str().is_empty() => {
            PathBuf::from(format!("/proc/{tid}/fd/{number}"))
        }
        (false, Some(number)) => PathBuf::from(format!("/proc/{tid}/fd/{number}")).join(path),
    })
}

fn reached(tid: Tid, path: &Path) -> PathBuf {
    PathBuf::from(format!("/proc/{tid}/root")).join(path.strip_prefix("/").unwrap_or(path))
}

/// A NUL-terminated string of the target's, page by page: the next page may not be there.
fn read_path(target: &Process, at: Address) -> Option<PathBuf> {
    let mut bytes = Vec::new();
    while bytes.len() < PATH_MAX {
        let here = at + bytes.len() as u64;
        let room = usize::try_from(4096 - here.0 % 4096).ok()?;
        let mut piece = vec![0; room];
        target.read(here, &mut piece).ok()?;
        if let Some(end) = piece.iter().position(|byte| *byte == 0) {
            bytes.extend_from_slice(&piece[..end]);
            return Some(PathBuf::from(std::ffi::OsStr::from_bytes(&bytes)));
        }
        bytes.extend(piece);
    }
    None
}

/// The file whose privileges count: of a script, its interpreter (fs/exec.c, `bprm_creds_from_file`).
fn final_file(tid: Tid, mut path: PathBuf) -> Option<PathBuf> {
    for _ in 0..INTERPRETERS {
        let mut line = [0; 256];
        let len = File::open(&path).and_then(|mut file| file.read(&mut line)).unwrap_or(0);
        let Some(rest) = line.get(..len)?.strip_prefix(b"#!") else { break };
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let mut words =
            rest[..end].split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
        path = reached(tid, Path::new(std::ffi::OsStr::from_bytes(words.next()?)));
    }
    Some(path)
}

/// Whether an execution that nobody traces would bring privileges: nobody can execute a file without an execute bit, and
/// neither `nosuid` nor `no_new_privs` lets one gain anything (fs/exec.c, `bprm_fill_uid`).
fn gives_privilege(path: &Path, status: &Status) -> bool {
    let Ok(metadata) = fs::metadata(path) else { return false };
    let mode = metadata.permissions().mode();
    let has_some = mode & SET_USER != 0 || mode & SET_GROUP == SET_GROUP || has_capabilities(path);
    let is_kept_from_it = || {
        status.no_new_privileges == Some(true)
            || as_c_string(path).is_some_and(|path| process::gives_no_privileges(&path))
    };
    has_some && mode & EXECUTE != 0 && !is_kept_from_it()
}

fn has_capabilities(path: &Path) -> bool {
    as_c_string(path).is_some_and(|path| process::has_file_capabilities(&path))
}

fn as_c_string(path: &Path) -> Option<CString> {
    CString::new(path.as_os_str().as_bytes()).ok()
}
