//! Two ends of a ring that live in worlds of their own: other process numbers, other users, another clock, another width of
//! the word. Knows how to start them; what they do is what any two do.

use std::process::{Command, Stdio};

use crate::harness::{Process, Ring, everywhere, say};

/// Worlds that the kernel makes for a process, and what util-linux calls them.
const WORLDS: [&[&str]; 5] = [
    &["--pid", "--fork", "--kill-child"],
    &["--user", "--map-current-user", "--pid", "--fork", "--kill-child"],
    // A user who is nobody that it knows.
    &["--user", "--pid", "--fork", "--kill-child"],
    &["--ipc", "--uts", "--net", "--mount", "--fork", "--kill-child"],
    &["--time", "--monotonic", "1000000", "--fork", "--kill-child"],
];

fn unshare(world: &[&str], program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("unshare");
    command.args(world).arg("--").arg(program);
    command
}

fn can(world: &[&str]) -> bool {
    let tried = unshare(world, "true").stdout(Stdio::null()).stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}

/// What two ends do, one of which dies at last and has a successor.
fn meet(ring: &Ring, mut tx: Process, mut rx: Process, successor: Process) {
    assert_eq!((tx.ask("peer"), rx.ask("peer")), ("Present".into(), "Present".into()));
    tx.tell("send_lengths 300");
    assert_eq!(rx.ask("recv_lengths 300"), "ok");
    assert_eq!(tx.answer(), "ok");
    // Asleep, and woken from the other world.
    let waits = ring.inspect().receiver.waits;
    rx.tell("recv");
    while ring.inspect().receiver.waits == waits {
        std::thread::yield_now();
    }
    assert_eq!(tx.ask("send 1"), "ok");
    assert!(rx.answer().starts_with("1 at "));
    let another = rx.ask("another sender");
    assert!(another.starts_with("SeatTaken"), "{another}");
    rx.tell("recv");
    tx.kill();
    assert_eq!(rx.answer(), "Disconnected");
    assert_eq!(rx.ask("end"), "Some(Died)");
    let mut tx = successor.seated("sender");
    assert_eq!(tx.ask("send 2"), "ok");
    assert_eq!(rx.recv().unwrap().number, 2);
}

#[test]
fn peers_in_namespaces_of_their_own_meet_and_notice_each_others_death() {
    let program = std::env::current_exe().unwrap();
    for world in WORLDS {
        if !can(world) {
            say(&format!("SKIPPED: no process can be put apart by unshare {}", world.join(" ")));
            continue;
        }
        everywhere(|ring| {
            let apart = || ring.process_by(unshare(world, &program));
            // Each in one of its own, and one of them in none.
            let (tx, rx) = (apart().seated("sender"), apart().seated("receiver"));
            meet(&ring, tx, rx, ring.process());
        });
        everywhere(|ring| {
            let apart = ring.process_by(unshare(world, &program));
            let (tx, rx) = (ring.sender(), apart.seated("receiver"));
            meet(&ring, tx, rx, ring.process_by(unshare(world, &program)));
        });
    }
}

/// This test's program, built for a machine whose words have another width and which runs here too.
const OTHER_WIDTH: &str = "QUOIT_OTHER_WIDTH";

#[test]
fn a_program_of_32_bits_and_one_of_64_share_a_ring() {
    let Some(other) = std::env::var_os(OTHER_WIDTH) else {
        return say(&format!("SKIPPED: {OTHER_WIDTH} names no build of this test (just widths)"));
    };
    everywhere(|ring| {
        let other = || ring.process_by(Command::new(&other));
        meet(&ring, other().seated("sender"), ring.receiver(), ring.process());
    });
    everywhere(|ring| {
        let other = || ring.process_by(Command::new(&other));
        meet(&ring, ring.sender(), other().seated("receiver"), other());
    });
}
