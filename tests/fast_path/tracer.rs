//! The system calls of a thread of another process, one by one, in the order in which it makes them. Knows ptrace; knows
//! nothing of what the thread does.
//!
//! Between two calls the thread runs at full speed: whoever makes none is not disturbed.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use libc::{c_int, c_long, c_uint, c_void, pid_t};

/// A call that means nothing to the kernel: no process has such a descriptor.
const MARK: c_int = -0x716f_6974;

/// Where counting begins, and where it ends.
pub(crate) fn mark() {
    // SAFETY: there is no such descriptor, so nothing is closed.
    let rc = unsafe { libc::syscall(libc::SYS_close, MARK) };
    assert_eq!(rc, -1);
}

/// A system call: its number and what it is given.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    number: c_long,
    arguments: [u64; 6],
}

impl Call {
    pub(crate) fn is(&self, number: c_long) -> bool {
        self.number == number
    }

    /// What a futex call is about, without its flags.
    fn futex(&self) -> Option<c_int> {
        let operation = self.arguments[1] as c_int;
        self.is(libc::SYS_futex)
            .then_some(operation & !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME))
    }

    /// Whether it wakes a sleeper.
    pub(crate) fn wakes(&self) -> bool {
        self.futex() == Some(libc::FUTEX_WAKE)
    }

    /// Whether it goes to sleep on a word.
    pub(crate) fn sleeps(&self) -> bool {
        matches!(self.futex(), Some(libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET))
    }

    fn is_mark(&self) -> bool {
        self.is(libc::SYS_close) && self.arguments[0] as c_int == MARK
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = [
            (libc::SYS_sched_yield, "sched_yield"),
            (libc::SYS_membarrier, "membarrier"),
            (libc::SYS_fcntl, "fcntl"),
            (libc::SYS_fstat, "fstat"),
            (libc::SYS_statx, "statx"),
        ];
        match known.iter().find(|(number, _)| self.is(*number)) {
            _ if self.wakes() => f.write_str("futex wake"),
            _ if self.sleeps() => f.write_str("futex wait"),
            Some((_, name)) => f.write_str(name),
            None => write!(f, "system call {}{:x?}", self.number, self.arguments),
        }
    }
}

/// How many of which, in words.
pub(crate) fn summary(calls: &[Call]) -> String {
    let mut counts = BTreeMap::new();
    for call in calls {
        *counts.entry(format!("{call:?}")).or_insert(0) += 1;
    }
    // Those that nobody expects differ in what they are given.
    let some = counts.iter().take(10).map(|(name, count)| format!("{count} x {name}"));
    format!("{} calls: {}", calls.len(), some.collect::<Vec<_>>().join(", "))
}

/// A thread of another process whose calls this thread sees.
pub(crate) struct Traced {
    thread: pid_t,
}

impl Traced {
    /// Seizes a thread, which waits for something. An error where no process may trace another.
    pub(crate) fn seize(thread: pid_t) -> io::Result<Traced> {
        let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;
        request(libc::PTRACE_SEIZE as c_uint, thread, 0, options as usize)?;
        let traced = Traced { thread };
        request(libc::PTRACE_INTERRUPT as c_uint, thread, 0, 0)?;
        traced.wait();
        Ok(traced)
    }

    /// Lets it run. Answers what it calls between its next mark and the one after that, where it stands then.
    pub(crate) fn calls(&mut self) -> Vec<Call> {
        let (mut calls, mut marks) = (Vec::new(), 0);
        let mut signal = 0;
        while marks < 2 {
            request(libc::PTRACE_SYSCALL as c_uint, self.thread, 0, signal as usize).unwrap();
            signal = match self.wait() {
                SYSTEM_CALL => {
                    if let Some(call) = self.entering() {
                        if call.is_mark() {
                            marks += 1;
                        } else if marks == 1 && !call.is(libc::SYS_clock_gettime) {
                            calls.push(call);
                        }
                    }
                    0
                }
                // What seizing it began with.
                libc::SIGTRAP => 0,
                other => other,
            };
        }
        calls
    }

    /// Which call it enters, if it does not leave one.
    fn entering(&self) -> Option<Call> {
        // <linux/ptrace.h>: `struct ptrace_syscall_info`, as words.
        const GET_SYSCALL_INFO: c_uint = 0x420e;
        const ENTRY: u8 = 1;
        let mut words = [0u64; 11];
        let at = (&raw mut words) as usize;
        request(GET_SYSCALL_INFO, self.thread, size_of_val(&words), at).unwrap();
        let [first, _, _, number, arguments @ .., _] = words;
        let operation = first.to_ne_bytes()[0];
        (operation == ENTRY).then_some(Call { number: number as c_long, arguments })
    }

    /// What it stopped for.
    fn wait(&self) -> c_int {
        let mut status = 0;
        // SAFETY: `status` is a live integer of this frame.
        let rc = unsafe { libc::waitpid(self.thread, &raw mut status, libc::__WALL) };
        assert_eq!(rc, self.thread, "{}", io::Error::last_os_error());
        assert!(libc::WIFSTOPPED(status), "the other process ended: {status:#x}");
        libc::WSTOPSIG(status)
    }
}

/// How a stop at a call is told from one for a signal (`PTRACE_O_TRACESYSGOOD`).
const SYSTEM_CALL: c_int = libc::SIGTRAP | 0x80;

impl Drop for Traced {
    fn drop(&mut self) {
        // Whoever is gone already is as good.
        let _ = request(libc::PTRACE_DETACH as c_uint, self.thread, 0, 0);
    }
}

fn request(what: c_uint, thread: pid_t, address: usize, data: usize) -> io::Result<()> {
    let (address, data) = (address as *mut c_void, data as *mut c_void);
    // SAFETY: the kernel writes into this process only for GET_SYSCALL_INFO, no more than it is told, which is the array of
    // `entering`.
    let rc = unsafe { libc::ptrace(what as _, thread, address, data) };
    if rc == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
