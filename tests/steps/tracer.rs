//! A process that is run one instruction after the other and killed where one likes. Knows ptrace and two processors; knows
//! nothing of what the process does, nor which boundary is worth a death.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use libc::{c_int, pid_t};

use crate::harness::dies_with_its_parent;

/// The libraries differ in the sign.
#[cfg(target_env = "musl")]
type Request = c_int;
#[cfg(not(target_env = "musl"))]
type Request = libc::c_uint;

/// What stops a traced process at a gate.
const AT_GATE: c_int = libc::SIGUSR1;

/// What stops a traced process at a system call.
const AT_CALL: c_int = libc::SIGTRAP | 0x80;

/// The general registers: NT_PRSTATUS of <linux/elf.h>.
const GENERAL: usize = 1;

/// A system call that a traced process stands before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemCall {
    pub(crate) number: libc::c_long,
    pub(crate) args: [u64; 6],
    /// Whether it gives a lock back.
    pub(crate) unlocks: bool,
}

/// Where the call begins, and where it has returned: the process stops until its tracer goes on with it.
#[inline(never)]
pub(crate) fn gate() {
    // SAFETY: getpid takes nothing.
    let me = unsafe { libc::getpid() };
    // SAFETY: kill takes two numbers; this is about this process alone.
    unsafe { libc::kill(me, AT_GATE) };
}

/// What a child that may not be traced ends with.
const FORBIDDEN: c_int = 77;
/// What a child ends with that passed more gates than there are.
const BEYOND: c_int = 78;
/// What a child ends with whose body panicked.
const PANICKED: c_int = 79;

/// What a traced process does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// It made its step, or met a breakpoint.
    Trap,
    /// It stands at a gate.
    Gate,
    /// It stands before a system call, or behind one.
    Call,
    /// A signal that nobody asked for.
    Signal(c_int),
    Exited(c_int),
    Killed(c_int),
}

/// A forked child that stands at its first gate, or somewhere behind it. It is killed with its value.
pub(crate) struct Traced {
    pid: pid_t,
}

impl Traced {
    /// Forks a child that runs `body`, which passes two gates at least; the child stands at the first one.
    pub(crate) fn start(body: impl FnOnce()) -> Traced {
        // SAFETY: getpid takes nothing.
        let parent = unsafe { libc::getpid() };
        // SAFETY: this process has one thread that does anything (the test harness's waits for it), so the child may do
        // all that it may. It never returns from here.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "{}", io::Error::last_os_error());
        if pid == 0 {
            child(parent, body);
        }
        let traced = Traced { pid };
        match traced.stopped(wait(pid), libc::PTRACE_CONT) {
            Event::Gate => {}
            event => panic!("the child never came to its first gate: {event:?}"),
        }
        // A tracer that dies takes its children with it.
        let options = libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACESYSGOOD;
        traced.ask(libc::PTRACE_SETOPTIONS, 0, options as usize);
        traced
    }

    /// Makes one step. False when it stands at the second gate instead.
    pub(crate) fn step(&self) -> bool {
        self.resume(libc::PTRACE_SINGLESTEP)
    }

    /// Runs until the instruction at `address` is the next one and has run so many times. False when it met its second gate
    /// first.
    pub(crate) fn run_to(&self, address: usize, times: usize) -> bool {
        let word = program(address);
        for passed in 0..=times {
            if passed > 0 && !self.step() {
                return false;
            }
            self.ask(libc::PTRACE_POKEDATA, address, cpu::with_breakpoint(word));
            let met = self.resume(libc::PTRACE_CONT);
            self.ask(libc::PTRACE_POKEDATA, address, word);
            if !met {
                return false;
            }
            self.set_next(address);
        }
        true
    }

    /// Goes on freely to the second gate.
    pub(crate) fn run_to_gate(&self) {
        assert!(!self.resume(libc::PTRACE_CONT), "a trap at {}", place(self.next()));
    }

    /// Goes on to the next system call, which is not made yet. `None` when it stands at the next gate instead.
    pub(crate) fn to_call(&self) -> Option<SystemCall> {
        loop {
            if !self.resume(libc::PTRACE_SYSCALL) {
                return None;
            }
            let (number, args) = cpu::call(&self.registers());
            let unlocks = number == libc::SYS_fcntl
                && args[1] == libc::F_OFD_SETLK as u64
                && self.peek(args[2]) as i16 == libc::F_UNLCK as i16;
            let call = SystemCall { number, args, unlocks };
            // What a gate is made of.
            if call.number != libc::SYS_kill && call.number != libc::SYS_getpid {
                return Some(call);
            }
            self.make();
        }
    }

    /// A word of its memory.
    fn peek(&self, address: u64) -> u64 {
        let mut word = [0; 8];
        let memory = std::fs::File::open(format!("/proc/{}/mem", self.pid)).unwrap();
        std::os::unix::fs::FileExt::read_exact_at(&memory, &mut word, address).unwrap();
        u64::from_ne_bytes(word)
    }

    /// Makes the system call that it stands before.
    pub(crate) fn make(&self) {
        assert!(self.resume(libc::PTRACE_SYSCALL), "a gate in a system call");
    }

    /// Makes the system call that it stands before, with another third argument: the count of bytes, where there is one.
    pub(crate) fn make_shorter(&self, count: u64) {
        let mut registers = self.registers();
        cpu::set_third(&mut registers, count);
        self.exchange(libc::PTRACE_SETREGSET, GENERAL, &mut registers);
        self.make();
    }

    /// Has the system call that it stands before answered by an error, without being made.
    pub(crate) fn refuse(&self, errno: c_int) {
        self.unmake();
        self.make();
        self.answer(errno);
    }

    /// Makes the system call that it stands before, and has it answered by an error.
    pub(crate) fn make_and_refuse(&self, errno: c_int) {
        self.make();
        self.answer(errno);
    }

    fn answer(&self, errno: c_int) {
        let mut registers = self.registers();
        cpu::set_answer(&mut registers, -i64::from(errno));
        self.exchange(libc::PTRACE_SETREGSET, GENERAL, &mut registers);
    }

    /// Puts a system call that there is not in the place of the one that comes.
    #[cfg(target_arch = "x86_64")]
    fn unmake(&self) {
        let mut registers = self.registers();
        registers.orig_rax = u64::MAX;
        self.exchange(libc::PTRACE_SETREGSET, GENERAL, &mut registers);
    }

    /// Puts a system call that there is not in the place of the one that comes.
    #[cfg(target_arch = "aarch64")]
    fn unmake(&self) {
        // NT_ARM_SYSTEM_CALL of <linux/elf.h>.
        self.exchange(libc::PTRACE_SETREGSET, 0x404, &mut -1i32);
    }

    /// The address of the instruction that comes next.
    pub(crate) fn next(&self) -> usize {
        cpu::next(&self.registers()) as usize
    }

    /// SIGKILL, at this very boundary; returns when the process is gone.
    pub(crate) fn kill(self) {}

    /// Goes on with it. False when it stands at a gate then.
    fn resume(&self, how: Request) -> bool {
        self.ask(how, 0, 0);
        match self.stopped(wait(self.pid), how) {
            Event::Trap | Event::Call => true,
            Event::Gate => false,
            Event::Signal(signal) => {
                panic!("signal {signal} in the call at {}", place(self.next()))
            }
            event => panic!("the child ended in its call: {event:?}"),
        }
    }

    /// What it was that stopped it, but for signals from whoever has the number of a process that was there before. Those
    /// never arrive.
    fn stopped(&self, mut by: Event, how: Request) -> Event {
        while let Event::Signal(libc::SIGCONT | libc::SIGSTOP | libc::SIGWINCH) = by {
            self.ask(how, 0, 0);
            by = wait(self.pid);
        }
        by
    }

    fn registers(&self) -> libc::user_regs_struct {
        // SAFETY: registers are integers, for which zero is a value.
        let mut registers = unsafe { std::mem::zeroed() };
        self.exchange(libc::PTRACE_GETREGSET, GENERAL, &mut registers);
        registers
    }

    fn set_next(&self, address: usize) {
        let mut registers = self.registers();
        cpu::set_next(&mut registers, address as u64);
        self.exchange(libc::PTRACE_SETREGSET, GENERAL, &mut registers);
    }

    fn exchange<T: Copy>(&self, request: Request, which: usize, registers: &mut T) {
        let len = size_of::<T>();
        let mut area = libc::iovec { iov_base: (&raw mut *registers).cast(), iov_len: len };
        self.ask(request, which, (&raw mut area) as usize);
        assert_eq!(area.iov_len, len);
    }

    fn ask(&self, request: Request, address: usize, data: usize) {
        // SAFETY: the child is this thread's and stopped. The kernel writes into this process only where PTRACE_GETREGSET
        // is told to, which is the structure that `exchange` was given.
        let rc = unsafe { libc::ptrace(request, self.pid, address, data) };
        assert!(rc != -1, "ptrace {request}: {}", io::Error::last_os_error());
    }
}

/// What a child did next.
fn wait(pid: pid_t) -> Event {
    let mut status = 0;
    loop {
        // SAFETY: `status` is a live integer of this frame.
        let rc = unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) };
        if rc == pid {
            break;
        }
        let error = io::Error::last_os_error();
        assert_eq!(error.kind(), io::ErrorKind::Interrupted, "{error}");
    }
    if libc::WIFEXITED(status) {
        return Event::Exited(libc::WEXITSTATUS(status));
    }
    if libc::WIFSIGNALED(status) {
        return Event::Killed(libc::WTERMSIG(status));
    }
    match libc::WSTOPSIG(status) {
        libc::SIGTRAP => Event::Trap,
        AT_CALL => Event::Call,
        AT_GATE => Event::Gate,
        signal => Event::Signal(signal),
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        end(self.pid);
    }
}

/// A child that runs freely. It is killed with its value.
pub(crate) struct Forked {
    pid: pid_t,
}

impl Forked {
    /// Forks a child that runs `body`.
    pub(crate) fn start(body: impl FnOnce()) -> Forked {
        // SAFETY: as in `Traced::start`.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "{}", io::Error::last_os_error());
        if pid == 0 {
            dies_with_its_parent();
            let code = catch_unwind(AssertUnwindSafe(body)).map_or(PANICKED, |()| 0);
            // SAFETY: _exit takes a number.
            unsafe { libc::_exit(code) }
        }
        Forked { pid }
    }

    /// Waits for its end; whether `body` returned.
    pub(crate) fn returned(self) -> bool {
        let end = wait(self.pid);
        std::mem::forget(self);
        end == Event::Exited(0)
    }

    /// Whether it sleeps in the kernel on a word of memory.
    pub(crate) fn is_asleep(&self) -> bool {
        // As the kernel prints it: the call's number first, and the state behind the name.
        let on_a_word = self.proc("syscall").starts_with(&format!("{} ", libc::SYS_futex));
        on_a_word && self.proc("stat").rsplit_once(") ").is_some_and(|(_, it)| it.starts_with('S'))
    }

    fn proc(&self, what: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{what}", self.pid)).unwrap()
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        end(self.pid);
    }
}

/// What a forked child does that is to be killed some time.
pub(crate) fn forever() -> ! {
    loop {
        // SAFETY: pause takes nothing.
        unsafe { libc::pause() };
    }
}

/// Kills a child that nobody has waited for yet, and waits until it is gone.
fn end(pid: pid_t) {
    // SAFETY: kill takes two numbers.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    // A stop may be reported before the end.
    while !matches!(wait(pid), Event::Killed(_) | Event::Exited(_)) {}
}

/// Memory of zeroes that this process shares with the children that it will fork, for the rest of its life.
pub(crate) fn shared_memory<T>() -> NonNull<T> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping, wherever the kernel likes.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), size_of::<T>(), access, flags, -1, 0) };
    assert!(at != libc::MAP_FAILED, "{}", io::Error::last_os_error());
    NonNull::new(at.cast()).unwrap()
}

/// Runs `body` in a child, which ends it with [`sigkill`]; returns when the child is gone.
pub(crate) fn die(body: impl FnOnce()) {
    let child = Forked::start(body);
    assert_eq!(wait(child.pid), Event::Killed(libc::SIGKILL));
    std::mem::forget(child);
}

/// The end of this process.
pub(crate) fn sigkill() -> ! {
    // SAFETY: getpid takes nothing.
    let me = unsafe { libc::getpid() };
    // SAFETY: kill takes two numbers; this is about this process alone.
    unsafe { libc::kill(me, libc::SIGKILL) };
    unreachable!("SIGKILL kills")
}

/// Why no call can be stepped here, if none can.
pub(crate) fn hindrance() -> Option<&'static str> {
    #[cfg(target_arch = "aarch64")]
    if !std::arch::is_aarch64_feature_detected!("lse") {
        return Some("an atomic operation of this processor never succeeds when it is stepped");
    }
    // SAFETY: as in `start`; this child does nothing but ask and end.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "{}", io::Error::last_os_error());
    if pid == 0 {
        // SAFETY: PTRACE_TRACEME takes nothing.
        let refused = unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) } == -1;
        // SAFETY: _exit takes a number.
        unsafe { libc::_exit(if refused { FORBIDDEN } else { 0 }) };
    }
    (wait(pid) == Event::Exited(FORBIDDEN)).then_some("no process may trace another here")
}

/// What the forked child does.
fn child(parent: pid_t, body: impl FnOnce()) -> ! {
    dies_with_its_parent();
    // SAFETY: getppid takes nothing.
    let orphan = unsafe { libc::getppid() } != parent;
    // SAFETY: PTRACE_TRACEME takes nothing.
    let refused = unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) } == -1;
    // What a child ends with is news for `start` alone.
    let code = match (orphan, refused) {
        (false, false) => match catch_unwind(AssertUnwindSafe(body)) {
            Ok(()) => BEYOND,
            Err(_) => PANICKED,
        },
        _ => FORBIDDEN,
    };
    // SAFETY: _exit takes a number, and runs nothing of what the parent has in mind for its own end.
    unsafe { libc::_exit(code) }
}

/// One word of program. The child is forked from this process, so its program is at the same place.
fn program(address: usize) -> usize {
    // SAFETY: the address is that of an instruction which a fork of this process ran. Program is not written, and what
    // follows it within a word is mapped: the linker puts more than that behind the last instruction.
    unsafe { (address as *const usize).read_unaligned() }
}

/// Whether the instruction at this address enters the kernel.
pub(crate) fn enters_the_kernel(address: usize) -> bool {
    program(address).to_le_bytes().starts_with(&cpu::SYSCALL)
}

/// An address as a person wants it: what function it is in, if this machine has a tool to tell.
pub(crate) fn place(address: usize) -> String {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let parse = |word: &str| usize::from_str_radix(word, 16).unwrap_or(0);
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let Some((from, to)) = words.next().and_then(|range| range.split_once('-')) else {
            continue;
        };
        let offset = parse(words.nth(1).unwrap_or_default());
        let file = words.nth(2).unwrap_or_default();
        if (parse(from)..parse(to)).contains(&address) {
            // Linkers place a program's addresses by whole pages off its offsets.
            let Some(base) = maps.lines().find(|line| line.ends_with(file)) else { break };
            let base = parse(base.split('-').next().unwrap_or_default());
            let tool = std::process::Command::new("addr2line")
                .args(["-fipCe", file, &format!("{:#x}", address - base)])
                .output();
            let said = tool.map(|done| String::from_utf8_lossy(&done.stdout).into_owned());
            return format!(
                "{address:#x} ({file}+{:#x}; file offset {:#x}): {}",
                address - base,
                address - parse(from) + offset,
                said.unwrap_or_default().trim_end()
            );
        }
    }
    format!("{address:#x}")
}

#[cfg(target_arch = "x86_64")]
mod cpu {
    //! The breakpoint leaves the processor one byte behind it.

    pub(super) const SYSCALL: [u8; 2] = [0x0f, 0x05];

    pub(super) fn with_breakpoint(word: usize) -> usize {
        word & !0xff | 0xcc
    }

    pub(super) fn next(registers: &libc::user_regs_struct) -> u64 {
        registers.rip
    }

    pub(super) fn set_next(registers: &mut libc::user_regs_struct, address: u64) {
        registers.rip = address;
    }

    pub(super) fn call(r: &libc::user_regs_struct) -> (libc::c_long, [u64; 6]) {
        (r.orig_rax as libc::c_long, [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9])
    }

    pub(super) fn set_third(registers: &mut libc::user_regs_struct, value: u64) {
        registers.rdx = value;
    }

    pub(super) fn set_answer(registers: &mut libc::user_regs_struct, answer: i64) {
        registers.rax = answer as u64;
    }
}

#[cfg(target_arch = "aarch64")]
mod cpu {
    //! The breakpoint is an instruction that the processor stays on.

    pub(super) const SYSCALL: [u8; 4] = [0x01, 0x00, 0x00, 0xd4];

    pub(super) fn with_breakpoint(word: usize) -> usize {
        word & !0xffff_ffff | 0xd420_0000
    }

    pub(super) fn next(registers: &libc::user_regs_struct) -> u64 {
        registers.pc
    }

    pub(super) fn set_next(registers: &mut libc::user_regs_struct, address: u64) {
        registers.pc = address;
    }

    pub(super) fn call(registers: &libc::user_regs_struct) -> (libc::c_long, [u64; 6]) {
        let r = registers.regs;
        (r[8] as libc::c_long, [r[0], r[1], r[2], r[3], r[4], r[5]])
    }

    pub(super) fn set_third(registers: &mut libc::user_regs_struct, value: u64) {
        registers.regs[2] = value;
    }

    pub(super) fn set_answer(registers: &mut libc::user_regs_struct, answer: i64) {
        registers.regs[0] = answer as u64;
    }
}
