//! Every example runs as its own words say, and leaves no ring behind.
//!
//! Knows where cargo puts the examples that it builds for this test; knows
//! nothing of how they do it.

#![cfg(target_os = "linux")]

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::Duration;

const NAMES: [&str; 6] =
    ["crash_recovery", "hello_sender", "hello_receiver", "request_reply", "workers", "zero_copy"];

/// When an example is taken for hung, and the test fails.
const HUNG: Duration = Duration::from_secs(60);

/// `target/<profile>/examples`, beside the folder of this test. `cargo test`
/// has built them; `cargo test --test examples` alone has not.
fn example(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let test = env::current_exe().unwrap();
        let folder = test.ancestors().nth(2).unwrap().join("examples");
        if !NAMES.iter().all(|name| folder.join(name).exists()) {
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["build", "--quiet", "--examples", "--manifest-path"]);
            cargo.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
            cargo.arg("--target-dir").arg(folder.ancestors().nth(2).unwrap());
            if !cfg!(debug_assertions) {
                cargo.arg("--release");
            }
            assert!(cargo.status().unwrap().success());
        }
        folder
    });
    let path = folder.join(name);
    assert!(path.exists(), "{} is not there: cargo build --examples", path.display());
    path
}

struct House(tempfile::TempDir);

impl House {
    fn new() -> House {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        House(dir)
    }

    fn start(&self, name: &str, args: &[&str]) -> Child {
        Command::new(example(name))
            .args(args)
            .env("QUOIT_DIR", self.0.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn is_empty(&self) -> bool {
        fs::read_dir(self.0.path()).unwrap().next().is_none()
    }
}

/// What it printed; it must end by itself and well.
fn output(name: &str, child: Child) -> String {
    let pid = child.id();
    let (ended, end) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        let hung = end.recv_timeout(HUNG) == Err(mpsc::RecvTimeoutError::Timeout);
        if hung {
            let _ = Command::new("sh").args(["-c", &format!("kill -KILL {pid}")]).status();
        }
        hung
    });
    let out = child.wait_with_output().unwrap();
    drop(ended);
    assert!(!watchdog.join().unwrap(), "{name} hung");
    assert!(out.status.success(), "{name} ended with {}", out.status);
    String::from_utf8(out.stdout).unwrap()
}

const HELLOS: &str = "\
hello, you (1 of 3)
hello, you (2 of 3)
hello, you (3 of 3)
the sender has left
";

#[test]
fn hello_goes_from_one_terminal_to_the_other_whoever_comes_first() {
    let house = House::new();
    let sender = house.start("hello_sender", &["you"]);
    assert_eq!(output("hello_sender", sender), "sent 3 messages to you\n");
    let receiver = house.start("hello_receiver", &[]);
    assert_eq!(output("hello_receiver", receiver), HELLOS);
    assert!(house.is_empty());

    let receiver = house.start("hello_receiver", &[]);
    let sender = house.start("hello_sender", &["you"]);
    assert_eq!(output("hello_sender", sender), "sent 3 messages to you\n");
    assert_eq!(output("hello_receiver", receiver), HELLOS);
    assert!(house.is_empty());
}

#[test]
fn requests_are_answered_by_the_other_process() {
    let house = House::new();
    let out = output("request_reply", house.start("request_reply", &[]));
    assert!(out.starts_with("1 squared is 1\n2 squared is 4\n"), "{out}");
    assert!(out.contains("5 squared is 25\n"), "{out}");
    assert!(out.contains("exit status: 0"), "{out}");
    assert!(house.is_empty());
}

#[test]
fn frames_are_written_and_read_in_place() {
    let house = House::new();
    let out = output("zero_copy", house.start("zero_copy", &[]));
    assert_eq!(out.lines().count(), 3, "{out}");
    assert!(out.contains("25 bytes in place: FRAME 2: abcdefghijklmnop"), "{out}");
    assert!(house.is_empty());
}

#[test]
fn jobs_are_done_although_a_worker_is_killed_with_one_in_hand() {
    let house = House::new();
    let out = output("workers", house.start("workers", &[]));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.first(), Some(&"3 workers share 8 jobs"), "{out}");
    assert_eq!(lines.last(), Some(&"all 8 jobs are done"), "{out}");
    for job in 1..=8 {
        let done: Vec<_> =
            lines.iter().filter(|line| line.contains(&format!("did job {job}:"))).collect();
        assert_eq!(done.len(), 1, "{out}");
        assert_eq!(done[0].ends_with("(attempt 2)"), job == 4, "{out}");
    }
    assert_eq!(lines.iter().filter(|line| line.ends_with("holds job 4, and is killed")).count(), 1);
    assert_eq!(lines.len(), 11, "{out}");
    assert!(house.is_empty());
}

const RECOVERED: &str = "\
the sender has sent \"one\" and \"two\" and is in the middle of \"three\"
the receiver has \"one\" in hand
both are killed
2 seats of the dead: 1 claim skipped, 1 message put back, 0 lost
received \"one\", delivered again
received \"two\"
received \"three\"
";

#[test]
fn what_a_dead_sender_and_a_dead_receiver_left_does_not_stop_the_next() {
    let house = House::new();
    let out = output("crash_recovery", house.start("crash_recovery", &[]));
    assert_eq!(out, RECOVERED);
    assert!(house.is_empty());
}
