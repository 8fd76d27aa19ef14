//! The pool over the processor's memory.
#![cfg(not(loom))]

use model_checked::Pool;

#[test]
fn many_jobs_are_each_done_once() {
    let pool = Pool::start(4, 8, |number| 10 * number).unwrap();
    for number in 1..=10_000 {
        pool.submit(number).unwrap();
        let (done, sum) = pool.progress().look();
        assert!(done <= number && sum >= 10 * done * (done + 1) / 2);
    }
    assert_eq!(pool.finish(), 10 * 10_000 * 10_001 / 2);
}
