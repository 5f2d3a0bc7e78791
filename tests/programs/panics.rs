// Shows: panics that unwind through probed frames, with drops on the way.
//
//   calls N   -> done inner= outer= caught= cleaned= bad=
use std::cell::Cell;
use std::hint::black_box;
use std::io::{BufRead, Write};
use std::panic::{catch_unwind, resume_unwind};

thread_local! {
    static CLEANED: Cell<u64> = const { Cell::new(0) };
}

struct Cleanup;

impl Drop for Cleanup {
    fn drop(&mut self) {
        CLEANED.with(|cleaned| cleaned.set(cleaned.get() + 1));
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
pub fn inner(value: u64) -> u64 {
    if black_box(value) % 3 == 0 {
        resume_unwind(Box::new(value));
    }
    value * 2
}

#[unsafe(no_mangle)]
#[inline(never)]
pub fn middle(value: u64) -> u64 {
    let _cleanup = Cleanup;
    inner(value) + 1
}

#[unsafe(no_mangle)]
#[inline(never)]
pub fn outer(value: u64) -> u64 {
    catch_unwind(|| middle(value) + 1).unwrap_or_else(|thrown| *thrown.downcast::<u64>().unwrap() + 7)
}

fn main() {
    let id = std::process::id();
    let at = [inner, middle, outer].map(|function| function as *const () as usize);
    println!("ready pid={id} inner={:#x} middle={:#x} outer={:#x}", at[0], at[1], at[2]);
    std::io::stdout().flush().unwrap();
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let times = line.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
        CLEANED.with(|cleaned| cleaned.set(0));
        let wanted = |i: u64| if i % 3 == 0 { i + 7 } else { i * 2 + 2 };
        let bad = (0..times).filter(|i| outer(*i) != wanted(*i)).count();
        let cleaned = CLEANED.with(Cell::get);
        let caught = (times + 2) / 3;
        println!("done inner={times} outer={times} caught={caught} cleaned={cleaned} bad={bad}");
        std::io::stdout().flush().unwrap();
    }
}
