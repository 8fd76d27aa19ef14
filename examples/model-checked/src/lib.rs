//! Workers that share a queue of numbers and add up what they make of them.

use std::sync::Arc;

// What a model replaces: atomics and threads (and locks and cells, where there are any). The rest is the same text.
#[cfg(loom)]
use loom::{sync::atomic, thread};
#[cfg(not(loom))]
use std::{sync::atomic, thread};

use atomic::{AtomicU64, Ordering};
use quoit::mpmc::{self, Receiver, Sender};
use quoit::{OpenError, Options, SendError};

/// What has been done so far. Anybody may look at any time.
#[derive(Debug, Default)]
pub struct Progress {
    sum: AtomicU64,
    done: AtomicU64,
}

impl Progress {
    /// One more job is done.
    pub fn add(&self, result: u64) {
        self.sum.fetch_add(result, Ordering::Relaxed);
        // Release: whoever sees the job counted sees its result in the sum.
        self.done.fetch_add(1, Ordering::Release);
    }

    /// How many jobs are done, and a sum that has the results of all of these.
    pub fn look(&self) -> (u64, u64) {
        let done = self.done.load(Ordering::Acquire);
        (done, self.sum.load(Ordering::Relaxed))
    }
}

/// A worker: does jobs until nobody is left who could send one.
pub fn work(jobs: &Receiver, mut job: impl FnMut(u64)) {
    while let Ok(message) = jobs.recv() {
        let mut number = [0; 8];
        message.copy_to(&mut number);
        job(u64::from_le_bytes(number));
    }
}

/// The workers and their queue.
#[derive(Debug)]
pub struct Pool {
    jobs: Sender,
    progress: Arc<Progress>,
    workers: Vec<thread::JoinHandle<()>>,
}

impl Pool {
    /// So many workers, who call `job` for each number; at most `waiting` numbers wait, a power of two.
    pub fn start(workers: usize, waiting: usize, job: fn(u64) -> u64) -> Result<Pool, OpenError> {
        let (jobs, queue) = mpmc::channel(&Options::new().capacity(waiting).max_len(8))?;
        let progress = Arc::new(Progress::default());
        let worker = || {
            let (queue, progress) = (queue.clone(), progress.clone());
            thread::spawn(move || work(&queue, |number| progress.add(job(number))))
        };
        let workers = (0..workers).map(|_| worker()).collect();
        Ok(Pool { jobs, progress, workers })
    }

    /// Hands a number to the workers; waits while too many are waiting already.
    pub fn submit(&self, number: u64) -> Result<(), SendError> {
        self.jobs.send(&number.to_le_bytes())
    }

    /// What has been done so far.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Lets the workers do what was submitted, and answers the sum.
    pub fn finish(self) -> u64 {
        drop(self.jobs);
        for worker in self.workers {
            worker.join().expect("a job does not panic");
        }
        self.progress.look().1
    }
}
