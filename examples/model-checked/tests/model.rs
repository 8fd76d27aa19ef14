//! Models of the pool: every order of its steps, and of quoit's, with a bounded number of preemptions.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release --test model
//! ```
#![cfg(loom)]

use std::sync::Arc;

use loom::sync::atomic::{AtomicU64, Ordering::Relaxed};
use loom::thread;
use model_checked::{Pool, work};
use quoit::Options;
use quoit::mpmc::{self, Receiver, Sender};

/// Explores `model`, with at most so many preemptions in one execution unless `LOOM_MAX_PREEMPTIONS` says otherwise.
fn check(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut explorer = loom::model::Builder::new();
    explorer.preemption_bound.get_or_insert(preemptions);
    // Steps of one execution: a ring takes more than the usual 1000.
    explorer.max_branches = 10_000;
    explorer.check(model);
}

#[test]
fn every_job_is_done_once_and_the_end_reaches_every_worker() {
    check(1, || {
        let pool = Pool::start(2, 2, |number| 10 * number).unwrap();
        pool.submit(1).unwrap();
        pool.submit(2).unwrap();
        assert_eq!(pool.finish(), 30);
    });
}

#[test]
fn more_jobs_than_room_wake_the_submitter_each_time_there_is_some() {
    check(2, || {
        let pool = Pool::start(1, 2, |number| number).unwrap();
        for number in 1..=4 {
            pool.submit(number).unwrap();
        }
        assert_eq!(pool.finish(), 10);
    });
}

#[test]
fn whoever_sees_a_job_counted_sees_its_result() {
    check(2, || {
        let pool = Pool::start(1, 2, |number| 10 * number).unwrap();
        pool.submit(1).unwrap();
        let (done, sum) = pool.progress().look();
        assert!(sum >= 10 * done, "{done} done, but the sum is {sum}");
        pool.finish();
    });
}

// What follows is wrong, as it is easily written. Loom finds it: what it explores is this program, not only the ring in it.

#[test]
#[should_panic = "counted, but its result is not there"]
fn a_job_that_is_counted_without_release_is_found_out() {
    check(2, || {
        let (jobs, queue) = queue();
        let (sum, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let worker = thread::spawn({
            let (sum, done) = (sum.clone(), done.clone());
            move || {
                work(&queue, |number| {
                    sum.fetch_add(number, Relaxed);
                    done.fetch_add(1, Relaxed);
                })
            }
        });
        jobs.send(&7u64.to_le_bytes()).unwrap();
        if done.load(Relaxed) == 1 {
            assert_eq!(sum.load(Relaxed), 7, "counted, but its result is not there");
        }
        drop(jobs);
        worker.join().unwrap();
    });
}

#[test]
#[should_panic = "deadlock"]
fn a_worker_that_looks_before_it_takes_is_found_out() {
    check(2, || {
        let (jobs, queue) = queue();
        jobs.send(&7u64.to_le_bytes()).unwrap();
        let hasty = |queue: Receiver| {
            thread::spawn(move || {
                // Another worker may take it in between.
                if !queue.is_empty() {
                    queue.recv().unwrap();
                }
            })
        };
        for worker in [hasty(queue.clone()), hasty(queue)] {
            worker.join().unwrap();
        }
        drop(jobs);
    });
}

fn queue() -> (Sender, Receiver) {
    mpmc::channel(&Options::new().capacity(2).max_len(8)).unwrap()
}
