//! Robust futexes: words in shared memory in which the kernel notes that this thread has died (robust_futexes(2),
//! Documentation/locking/robust-futex-ABI.rst). No code of ours runs then, so it holds for SIGKILL too.
//!
//! # Safety
//! The kernel keeps the address of the list's head for the thread that registers it, so the head is a static, and each thread
//! that uses this has one of its own. Links lie in shared memory whose other side may write anything into them: they are
//! written here and read by the kernel alone, which bounds its walk and writes only to words that hold this thread's id. A
//! thread that registers a list takes the place of the C library's own, which only robust mutexes use; we have none.
#![allow(unsafe_code, reason = "set_robust_list(2) takes the address of a list that the kernel walks")]

use std::cell::{RefCell, UnsafeCell};
use std::sync::atomic::{AtomicU64, Ordering};

/// `struct robust_list_head`: the first link, the futex's distance from its link, and what is being changed.
#[repr(C)]
struct Head {
    first: AtomicU64,
    distance: i64,
    pending: AtomicU64,
}

/// The calling thread's list.
struct List {
    head: UnsafeCell<Head>,
    /// The links in it: addresses of words that live until they are taken out.
    links: RefCell<Vec<u64>>,
}

thread_local! {
    static LIST: List = const {
        List {
            head: UnsafeCell::new(Head { first: AtomicU64::new(0), distance: 0, pending: AtomicU64::new(0) }),
            links: RefCell::new(Vec::new()),
        }
    };
}

/// A link in the calling thread's list; dropped, it is taken out.
#[derive(Debug)]
pub(super) struct Link(u64);

impl Link {
    /// Puts this thread's id into `word` and links it. `None` where the kernel has no such lists, or where an earlier word had
    /// another distance from its link.
    ///
    /// Both words must stay where they are until the link is dropped.
    pub(super) fn new(word: &AtomicU64, link: &AtomicU64) -> Option<Self> {
        let (at, link_at) = (std::ptr::from_ref(word) as u64, std::ptr::from_ref(link) as u64);
        let distance = at.cast_signed().wrapping_sub(link_at.cast_signed());
        LIST.with(|list| {
            let mut links = list.links.borrow_mut();
            if !list.register(distance, links.is_empty()) {
                return None;
            }
            // SAFETY: gettid has no arguments.
            let tid = unsafe { libc::gettid() };
            word.store(u64::from(tid.cast_unsigned()), Ordering::Release);
            links.push(link_at);
            list.chain(&links);
            Some(Self(link_at))
        })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // A thread that ends has no list any more.
        let _ = LIST.try_with(|list| {
            let mut links = list.links.borrow_mut();
            links.retain(|link| *link != self.0);
            list.chain(&links);
        });
    }
}

impl List {
    /// Registers the list with the kernel for links of this distance.
    fn register(&self, distance: i64, is_empty: bool) -> bool {
        let head = self.head.get();
        if !is_empty {
            // SAFETY: the head lives as long as the thread, and only this thread writes to it.
            return unsafe { (*head).distance == distance };
        }
        // SAFETY: as above; the kernel reads it only when this thread ends.
        unsafe { (*head).distance = distance };
        self.chain(&[]);
        // SAFETY: the head is a valid `struct robust_list_head` of this size, whose list is empty.
        unsafe { libc::syscall(libc::SYS_set_robust_list, head, size_of::<Head>()) == 0 }
    }

    /// Writes all links anew: each leads to the next, the last back to the head. A link is never read here.
    fn chain(&self, links: &[u64]) {
        let head = self.head.get() as u64;
        let mut next = head;
        for link in links.iter().rev() {
            // SAFETY: the word of a link lives until the link is taken out, and is only ever accessed atomically.
            let word = unsafe {
                &*(std::ptr::with_exposed_provenance::<AtomicU64>(usize::try_from(*link).unwrap_or(0)))
            };
            word.store(next, Ordering::Release);
            next = *link;
        }
        // SAFETY: the head lives as long as the thread; the field is atomic.
        unsafe { (*self.head.get()).first.store(next, Ordering::Release) };
    }
}
