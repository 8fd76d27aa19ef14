//! The process that forks the others.
//!
//! To run a program anew costs more than all that a worker does before it is killed; a copy of a process that has done nothing
//! yet costs little. Knows lines of orders, and processes. Has opened no ring and never does: a copy would hold the lock of
//! a handle that was open here, and its death would go unnoticed.

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::worker::{self, FORSAKEN};

/// Obeys until nobody gives orders any more.
pub(crate) fn run() {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().unwrap());
    let mut answers = socket.try_clone().unwrap();
    for order in BufReader::new(socket).lines() {
        let order = order.unwrap();
        // SAFETY: alarm takes a number. Whoever is asked now and then is not forgotten.
        unsafe { libc::alarm(FORSAKEN) };
        let answer = match order.split_once(' ') {
            Some(("reap", process)) => end_of(process, 0),
            Some(("ended", process)) => end_of(process, libc::WNOHANG),
            _ => fork(&order),
        };
        answers.write_all(format!("{answer}\n").as_bytes()).unwrap();
    }
}

/// How a child ended, as `waitpid` tells it; -1 while it lives.
fn end_of(process: &str, how: libc::c_int) -> i32 {
    let (process, mut status) = (process.parse().unwrap(), 0);
    // SAFETY: `status` is a live integer of this frame.
    let found = unsafe { libc::waitpid(process, &raw mut status, how) };
    assert!(found >= 0, "{}", io::Error::last_os_error());
    if found == process { status } else { -1 }
}

/// A copy of this process that works and then is no more; its number.
fn fork(work: &str) -> i32 {
    // SAFETY: the child is a copy of this thread alone, leaves by _exit, and uses no lock that the other thread, which waits for
    // this one to end, can hold.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "{}", io::Error::last_os_error());
    if child == 0 {
        let done = catch_unwind(AssertUnwindSafe(|| worker::work_at(work)));
        // SAFETY: _exit ends the process and runs nothing of ours.
        unsafe { libc::_exit(if done.is_ok() { 0 } else { 101 }) };
    }
    child
}
