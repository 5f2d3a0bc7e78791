// Shows: Rust futures that move between the threads of an executor.
//
//   calls N   64 tasks on 3 threads, each of N steps -> done steps= bad=
use std::collections::VecDeque;
use std::future::Future;
use std::io::{BufRead, Write};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

#[derive(Default)]
struct Executor {
    queue: Mutex<VecDeque<Arc<Job>>>,
    ready: Condvar,
    left: AtomicU64,
}

struct Job {
    task: Mutex<Option<Task>>,
    executor: Arc<Executor>,
}

impl Wake for Job {
    fn wake(self: Arc<Self>) {
        let executor = Arc::clone(&self.executor);
        executor.queue.lock().unwrap().push_back(self);
        executor.ready.notify_one();
    }
}

impl Executor {
    fn run(&self) {
        while self.left.load(Ordering::Acquire) > 0 {
            let job = {
                let queue = self.queue.lock().unwrap();
                let wait = std::time::Duration::from_millis(20);
                let mut queue = self.ready.wait_timeout_while(queue, wait, |queue| queue.is_empty()).unwrap().0;
                queue.pop_front()
            };
            if let Some(job) = job {
                poll_job(&job);
            }
        }
    }
}

#[inline(never)]
fn poll_job(job: &Arc<Job>) {
    let waker = Waker::from(Arc::clone(job));
    let mut slot = job.task.lock().unwrap();
    if let Some(task) = slot.as_mut()
        && task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()
    {
        *slot = None;
        job.executor.left.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Gives way once.
struct Yield(bool);

impl Future for Yield {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

#[inline(never)]
fn step(sum: u64, n: u64) -> u64 {
    std::hint::black_box(sum).wrapping_mul(31).wrapping_add(n)
}

async fn job(steps: u64, expected: u64, bad: Arc<AtomicU64>) {
    let mut sum = 0;
    for n in 0..steps {
        sum = step(sum, n);
        Yield(false).await;
    }
    bad.fetch_add(u64::from(sum != expected), Ordering::Relaxed);
}

fn run(steps: u64) -> u64 {
    const TASKS: u64 = 64;
    let bad = Arc::new(AtomicU64::new(0));
    let expected = (0..steps).fold(0_u64, |sum, n| sum.wrapping_mul(31).wrapping_add(n));
    let executor = Arc::new(Executor::default());
    executor.left.store(TASKS, Ordering::Release);
    for _ in 0..TASKS {
        let task: Task = Box::pin(job(steps, expected, Arc::clone(&bad)));
        Arc::new(Job { task: Mutex::new(Some(task)), executor: Arc::clone(&executor) }).wake();
    }
    let run = || {
        let executor = Arc::clone(&executor);
        std::thread::spawn(move || executor.run())
    };
    let threads = [run(), run(), run()];
    for thread in threads {
        thread.join().unwrap();
    }
    bad.load(Ordering::Relaxed)
}

fn main() {
    println!("ready pid={}", std::process::id());
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let steps = line.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
        println!("done steps={} bad={}", 64 * steps, run(steps));
        std::io::stdout().flush().unwrap();
    }
}
