//! The files of this machine, as a process sees them.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::{env, fs};

use insn::{Address, Isa};
use symbols::maps::{self, Mapping};
use symbols::path::{CachedLibrary, Files, MappedFile};
use symbols::stat::Stat;
use symbols::status::Status;
use symbols::{elf, ld_cache};

/// Symbolic links that the kernel follows in one path (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// A version of a file: another one has another identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Identity {
    /// The file's inode.
    #[must_use]
    pub fn inode(&self) -> u64 {
        self.inode
    }
}

/// A root directory, what a process has mapped in it, and where names without a slash are looked for.
#[derive(Clone, Debug)]
pub struct System {
    root: PathBuf,
    /// `None` where there is no process.
    mappings: Option<Vec<Mapping>>,
    mapped: Option<Vec<MappedFile>>,
    /// The process whose mappings these are.
    pid: Option<u32>,
    path_dirs: Vec<PathBuf>,
    /// Read when first asked for: few names need it, and a thread of the target may be waiting.
    loader_cache: OnceCell<Vec<CachedLibrary>>,
    isa: OnceCell<Isa>,
}

/// The ISA of the file that a process executes; `None` where that cannot be read.
fn isa_of_process(pid: u32) -> Option<Isa> {
    let mut header = Vec::new();
    let exe = fs::File::open(shown(pid).join("exe")).ok()?;
    exe.take(elf::HEADER_LEN as u64).read_to_end(&mut header).ok()?;
    elf::isa_of(&header).ok()
}

/// The folder in which /proc shows a process.
pub(crate) fn shown(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{}", target::linux::shown_by(pid.cast_signed())))
}

impl System {
    /// As xol itself sees the files, nothing mapped.
    #[must_use]
    pub fn here() -> Self {
        Self::with(PathBuf::from("/"), None, None)
    }

    /// The files below `root`, as a process sees them whose root directory it is.
    #[must_use]
    pub fn of_root(root: &Path) -> Self {
        Self::with(root.to_owned(), None, None)
    }

    /// As process `pid` sees them, through `/proc/PID/root`: it may have another root or mount namespace.
    ///
    /// # Errors
    /// Where its mappings cannot be read: no such process, or not permitted.
    pub fn of_process(pid: u32) -> io::Result<Self> {
        let folder = shown(pid);
        let text = fs::read(folder.join("maps"))?;
        let root = folder.join("root");
        let mut mappings = maps::parse(&text);
        if let Ok(seen) = fs::read_link(&root) {
            mappings.iter_mut().for_each(|mapping| name_from(&seen, mapping));
        }
        Ok(Self::with(root, Some(pid), Some(mappings)))
    }

    fn with(root: PathBuf, pid: Option<u32>, mappings: Option<Vec<Mapping>>) -> Self {
        let path = env::var_os("PATH").unwrap_or_default();
        let path_dirs = env::split_paths(&path).filter(|folder| folder.is_absolute()).collect();
        let (loader_cache, isa) = (OnceCell::new(), OnceCell::new());
        let mut system = Self { root, mappings, mapped: None, pid, path_dirs, loader_cache, isa };
        system.mapped = system.mappings.as_deref().map(|mappings| system.read_mapped(mappings));
        system
    }

    /// The process, if there is one.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// The ISA that the process was started for; without a process, this machine's own.
    #[must_use]
    pub fn isa(&self) -> Isa {
        *self.isa.get_or_init(|| self.pid.and_then(isa_of_process).unwrap_or(Isa::X86_64))
    }

    /// What the process has mapped.
    #[must_use]
    pub fn mappings(&self) -> &[Mapping] {
        self.mappings.as_deref().unwrap_or_default()
    }

    /// Where the process's heap begins, though it may be empty.
    #[must_use]
    pub fn start_of_heap(&self) -> Option<Address> {
        let text = fs::read(shown(self.pid?).join("stat")).ok()?;
        Some(Stat::parse(&text)?.start_brk).filter(|start| *start != Address(0))
    }

    /// What the kernel says of the process; nothing where there is none.
    #[must_use]
    pub fn status(&self) -> Status {
        let read = |pid| fs::read(shown(pid).join("status")).ok();
        self.pid.and_then(read).map(|text| Status::parse(&text)).unwrap_or_default()
    }

    /// The bytes of the regular file at `path`. They are read, not mapped: a file that shrinks under a mapping kills
    /// the process that looks at it.
    ///
    /// # Errors
    /// As the file system says; also where `path` is no regular file.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let path = self.outside(&self.real_path(path)?);
        if !fs::metadata(&path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        fs::read(path)
    }

    /// `path` without symbolic links, as seen from the root. The kernel cannot be asked: from outside, it would follow
    /// absolute links to our root.
    ///
    /// # Errors
    /// As the file system says; also for a circle of links.
    pub fn real_path(&self, path: &Path) -> io::Result<PathBuf> {
        let mut todo: Vec<PathBuf> = components(&env::current_dir()?.join(path));
        let mut real = PathBuf::from("/");
        let mut links = 0;
        while let Some(next) = todo.pop() {
            if next == Path::new("..") {
                real.pop();
                continue;
            }
            let candidate = real.join(&next);
            let Ok(target) = fs::read_link(self.outside(&candidate)) else {
                real = candidate;
                continue;
            };
            links += 1;
            if links > MAX_LINKS {
                return Err(io::Error::other("too many levels of symbolic links"));
            }
            if target.is_absolute() {
                real = PathBuf::from("/");
            }
            todo.extend(components(&target));
        }
        fs::symlink_metadata(self.outside(&real)).map(|_| real)
    }

    /// Which version of which file is at `path` (without links).
    ///
    /// # Errors
    /// As the file system says.
    pub fn identity(&self, path: &Path) -> io::Result<Identity> {
        let metadata = fs::metadata(self.outside(path))?;
        Ok(Identity {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }

    fn metadata(&self, path: &Path) -> Option<fs::Metadata> {
        fs::metadata(self.outside(&self.real_path(path).ok()?)).ok()
    }

    /// `path` as this process reaches it.
    fn outside(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn read_loader_cache(&self) -> Vec<CachedLibrary> {
        let bytes = self.read(Path::new("/etc/ld.so.cache")).unwrap_or_default();
        ld_cache::parse(self.isa(), &bytes).unwrap_or_default()
    }

    fn read_mapped(&self, mappings: &[Mapping]) -> Vec<MappedFile> {
        let mut files = BTreeMap::new();
        for mapping in mappings.iter().filter(|mapping| mapping.executable && mapping.is_file()) {
            if let Some(path) = mapping.path.as_deref() {
                files.entry(path.to_owned()).or_insert_with(|| self.soname(Path::new(path)));
            }
        }
        files.into_iter().map(|(path, soname)| MappedFile { path: path.into(), soname }).collect()
    }

    /// Remembered for each version of a file: what a process has mapped is looked at each time a library comes or goes, while
    /// a thread of it waits, and to read all those files again would take as long as they are large.
    fn soname(&self, path: &Path) -> Option<String> {
        static KNOWN: Mutex<Option<HashMap<Identity, Option<String>>>> = Mutex::new(None);
        let identity = self.identity(&self.real_path(path).ok()?).ok()?;
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        known.get_or_insert_default().entry(identity).or_insert_with(|| self.read_soname(path)).clone()
    }

    fn read_soname(&self, path: &Path) -> Option<String> {
        let bytes = self.read(path).ok()?;
        symbols::Image::parse(&bytes).ok()?.soname().map(str::to_owned)
    }
}

/// Names a mapping's file as a process with this root does. The kernel writes paths as the reader's root has them, or from the
/// top of the process's own mount namespace where that is another (fs/d_path.c, `prepend_path`): a root directory below
/// that (chroot(2)) is part of them.
fn name_from(root: &Path, mapping: &mut Mapping) {
    let below = |path: &str| Path::new(path).strip_prefix(root).ok()?.to_str().map(|rest| format!("/{rest}"));
    if root != Path::new("/")
        && mapping.is_file()
        && let Some(path) = mapping.path.as_deref().and_then(below)
    {
        mapping.path = Some(path);
    }
}

/// The parts of a path, last first.
fn components(path: &Path) -> Vec<PathBuf> {
    let keep = |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::ParentDir);
    path.components().rev().filter(keep).map(|part| PathBuf::from(part.as_os_str())).collect()
}

impl Files for System {
    fn mapped(&self) -> Option<Vec<MappedFile>> {
        self.mapped.clone()
    }

    fn exists(&self, path: &Path) -> bool {
        self.metadata(path).is_some_and(|metadata| metadata.is_file())
    }

    fn is_executable(&self, path: &Path) -> bool {
        self.metadata(path).is_some_and(|metadata| metadata.is_file() && metadata.mode() & 0o111 != 0)
    }

    fn path_dirs(&self) -> Vec<PathBuf> {
        self.path_dirs.clone()
    }

    fn loader_cache(&self) -> Vec<CachedLibrary> {
        self.loader_cache.get_or_init(|| self.read_loader_cache()).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A root directory with a file at `/lib/real` and links to it.
    fn rooted() -> (tempfile::TempDir, System) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("lib")).unwrap();
        fs::write(folder.path().join("lib/real"), "x").unwrap();
        symlink("lib", folder.path().join("usr")).unwrap();
        symlink("/lib/real", folder.path().join("lib/absolute")).unwrap();
        symlink("../../../lib/./real", folder.path().join("lib/upwards")).unwrap();
        symlink("circle", folder.path().join("lib/circle")).unwrap();
        let system = System { root: folder.path().into(), ..System::with("/nowhere".into(), None, None) };
        (folder, system)
    }

    #[test]
    fn links_stay_inside_the_root() {
        let (_folder, system) = rooted();
        for path in ["/lib/real", "/usr/real", "/lib/absolute", "/usr/upwards", "/lib/../usr/./real"] {
            assert_eq!(system.real_path(Path::new(path)).unwrap(), Path::new("/lib/real"), "{path}");
            assert_eq!(system.read(Path::new(path)).unwrap(), b"x");
        }
    }

    #[test]
    fn what_is_not_there_or_no_file() {
        let (_folder, system) = rooted();
        assert!(!system.exists(Path::new("/lib/none")));
        assert!(!system.exists(Path::new("/lib/circle")));
        assert!(system.read(Path::new("/lib")).is_err());
        assert!(System::here().read(Path::new("/dev/zero")).is_err(), "would never end");
    }

    #[test]
    fn mappings_are_named_from_the_process_s_root() {
        let named = |root: &str, path: &str| {
            let line = format!("1000-2000 r-xp 00000000 08:01 12 {path}");
            let mut mapping = maps::parse(line.as_bytes()).remove(0);
            name_from(Path::new(root), &mut mapping);
            mapping.path.unwrap_or_default()
        };
        assert_eq!(named("/jail", "/jail/bin/program"), "/bin/program");
        assert_eq!(named("/jail", "/jailed/program"), "/jailed/program", "opened before it was locked in");
        assert_eq!(named("/", "/bin/program"), "/bin/program");
        assert_eq!(named("/jail", "[vdso]"), "[vdso]");
    }

    #[test]
    fn this_process_has_its_executable_mapped() {
        let system = System::of_process(std::process::id()).unwrap();
        let executable = env::current_exe().unwrap();
        assert!(system.mapped().unwrap().iter().any(|file| file.path == executable));
    }

    #[test]
    fn no_such_process() {
        assert_eq!(System::of_process(1 << 22).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
