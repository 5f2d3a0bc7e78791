// Shows: Rust names, threads, and a panic that unwinds through a probed function.
//
//   calls N  two threads call numbers::double N times each, and one panics N/100 times -> done double= unwound= bad=
use std::io::{BufRead, Write};
use std::panic::catch_unwind;

mod numbers {
    #[inline(never)]
    pub fn double(value: u64) -> u64 {
        std::hint::black_box(value).wrapping_mul(2)
    }

    #[inline(never)]
    pub fn unwinds(value: u64) -> u64 {
        if std::hint::black_box(value) < u64::MAX {
            std::panic::resume_unwind(Box::new(double(value)));
        }
        value
    }
}

fn run(times: u64) -> (u64, u64, u64) {
    let thread = |start: u64| {
        move || {
            let wrong = |i: &u64| numbers::double(start + i) != 2 * (start + i);
            (times, (0..times).filter(wrong).count() as u64)
        }
    };
    let threads = [std::thread::spawn(thread(0)), std::thread::spawn(thread(1 << 40))];
    let (mut double, mut unwound, mut bad) = (0, 0, 0);
    for thread in threads {
        let (calls, wrong) = thread.join().unwrap();
        double += calls;
        bad += wrong;
    }
    for i in 0..times / 100 {
        let answer = catch_unwind(|| numbers::unwinds(i)).unwrap_err().downcast::<u64>().unwrap();
        bad += u64::from(*answer != 2 * i);
        double += 1;
        unwound += 1;
    }
    (double, unwound, bad)
}

fn main() {
    println!("ready pid={}", std::process::id());
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let times = line.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
        let (double, unwound, bad) = run(times);
        println!("done double={double} unwound={unwound} bad={bad}");
        std::io::stdout().flush().unwrap();
    }
}
