//! The tool as a shell sees it: what it prints where, and with which status it
//! ends. Every test has a folder of rings of its own, and every process that a
//! test starts has a watchdog.

mod common;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use quoit::{Info, Kind, Presence, Seated};
use serde_json::{Value, json};

use common::House;

/// When a process is taken for hung, and the test fails.
const HUNG: Duration = Duration::from_secs(60);

/// What `create` is told to make a ring of either kind.
const EITHER: [&str; 2] = ["", "--mpmc"];

impl House {
    fn ring(&self, name: &str) -> PathBuf {
        self.rings().join(name)
    }

    /// A file of the other folder.
    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn info(&self, name: &str) -> Info {
        quoit::inspect(self.ring(name).to_str().unwrap()).unwrap()
    }

    fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quoit"));
        command.args(args).env("QUOIT_DIR", self.rings()).stdin(Stdio::null());
        command
    }

    /// Starts the tool with these words.
    fn start(&self, line: &str) -> Run {
        self.start_with(line, Stdio::null())
    }

    fn start_with(&self, line: &str, stdin: Stdio) -> Run {
        Run::new(self.command(line.split_whitespace()).stdin(stdin), self.rings())
    }

    /// Runs the tool with these words to its end.
    fn run(&self, line: &str) -> Output {
        self.start(line).end()
    }

    /// The same with this on standard input.
    fn feed(&self, line: &str, input: &[u8]) -> Output {
        let path = self.file("stdin", input);
        self.start_with(line, File::open(path).unwrap().into()).end()
    }

    /// The seat of a process at a ring of slots.
    fn seat(&self, name: &str, of: &Run) -> Option<Seated> {
        self.info(name).seats.into_iter().find(|seat| seat.pid == of.child.id())
    }

    fn json(&self, line: &str) -> Value {
        let out = self.run(line);
        assert_status(&out, 0);
        serde_json::from_slice(&out.stdout).unwrap()
    }

    fn is_empty(&self) -> bool {
        fs::read_dir(self.rings()).unwrap().next().is_none()
    }
}

/// A process of a test. The watchdog kills it when it hangs, and shows the rings.
struct Run {
    child: Child,
    _ended: Sender<()>,
}

impl Run {
    fn new(command: &mut Command, rings: PathBuf) -> Run {
        let what = format!("{command:?}");
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (ended, end) = mpsc::channel();
        let pid = child.id();
        thread::spawn(move || {
            if end.recv_timeout(HUNG) == Err(mpsc::RecvTimeoutError::Timeout) {
                let mut dump = String::new();
                for entry in fs::read_dir(&rings).into_iter().flatten().flatten() {
                    let info = quoit::inspect(entry.path().to_str().unwrap_or_default());
                    dump += &format!("\n{info:#?}");
                }
                let _ = writeln!(std::io::stderr(), "hung: {what}{dump}");
                signal(pid, "KILL");
            }
        });
        Run { child, _ended: ended }
    }

    fn end(self) -> Output {
        self.child.wait_with_output().unwrap()
    }

    fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }
}

fn signal(pid: u32, name: &str) {
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().unwrap();
    assert!(status.success());
}

/// Waits for what another process does to a ring.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < HUNG, "never came: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A line of a table, with one space between the words.
fn in_words(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn assert_status(out: &Output, code: i32) {
    assert_eq!(
        out.status.code(),
        Some(code),
        "ended by signal {:?}; it said: {}",
        out.status.signal(),
        text(&out.stderr)
    );
}

/// The status, nothing on standard output, one line on standard error; gives it.
fn assert_fails(out: &Output, code: i32) -> String {
    assert_status(out, code);
    assert_eq!(text(&out.stdout), "");
    assert_one_line(out)
}

fn assert_one_line(out: &Output) -> String {
    let said = text(&out.stderr);
    assert_eq!(said.lines().count(), 1, "not one line: {said}");
    assert!(said.starts_with("quoit: "), "{said}");
    said
}

/// Done, without a word.
fn assert_quiet(out: &Output) {
    assert_status(out, 0);
    assert_eq!(text(&out.stderr), "");
}

/// Bytes that look like nothing, the same in every run.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

#[test]
fn a_missing_ring_is_status_3_and_the_error_says_how_to_make_one() {
    let house = House::new();
    for line in ["send nowhere hello", "recv nowhere"] {
        let said = assert_fails(&house.run(line), 3);
        assert!(said.contains("quoit create nowhere"), "{said}");
        assert!(said.contains("--create"), "{said}");
    }
    for line in [
        "stat nowhere",
        "stat nowhere --json",
        "recover nowhere",
        "rm nowhere",
        "rm nowhere --force",
    ] {
        let said = assert_fails(&house.run(line), 3);
        assert!(said.contains("nowhere"), "{said}");
    }
    assert!(house.is_empty());
}

#[test]
fn wrong_words_sizes_counts_and_names_are_status_2() {
    let house = House::new();
    for line in [
        "",
        "juggle",
        "create",
        "create r --capacity 64XB",
        "create r --capacity -1",
        "create r --capacity 0",
        "create r --capacity 5000",
        "create r --capacity 2KiB",
        "create r --mode 999",
        "create r --mpmc --capacity 4KiB",
        "create r --mpmc --slots 0",
        "create r --mpmc --slots 1000",
        "create r --mpmc --slots -2",
        "create r --mpmc --max-message 0",
        "create r --mpmc --max-message 2GiB",
        "create r --slots 8",
        "create r --max-message 64",
        "create .hidden",
        "recv r --count 0",
        "recv r --count many",
        "recv r --timeout soon",
        "recv r --lines --raw",
        "send r --capacity 4KiB",
        "send r --mpmc word",
        "send r --create --slots 8 word",
        "recv r --mpmc",
        "recv r --create --mpmc --capacity 4KiB",
        "send r word --raw",
        "send r --timeout 1s --no-wait",
        "stat r --watch 0s",
        "demo --count 0",
        "demo --count 1 --seconds 1",
        "demo --count 1 --mpmc",
        "demo --size 7 --mpmc",
        "recover",
        "recover .hidden",
        "completions cmd",
        "man juggle",
    ] {
        let out = house.run(line);
        assert_status(&out, 2);
        assert_eq!(text(&out.stdout), "", "{line}");
        assert_ne!(text(&out.stderr), "", "{line}");
    }
    assert!(house.is_empty());
}

#[test]
fn help_and_version_go_to_standard_output() {
    let house = House::new();
    for line in ["--help", "--version", "send --help", "stat --help"] {
        let out = house.run(line);
        assert_quiet(&out);
        assert!(text(&out.stdout).contains("quoit") || line.contains(' '));
    }
    assert!(text(&house.run("--help").stdout).contains("Exit status:"));
    for hidden in ["demo-peer", "demo-worker"] {
        assert!(!text(&house.run("--help").stdout).contains(hidden));
    }
}

#[test]
fn arguments_are_messages_and_the_receiver_ends_with_the_sender() {
    for ring in EITHER {
        let house = House::new();
        assert_quiet(&house.run(&format!("create r {ring}")));
        assert_quiet(
            &Run::new(
                &mut house.command(["send", "r", "one", "", "a b", "ü", "--", "--raw"]),
                house.rings(),
            )
            .end(),
        );
        let out = house.run("recv r");
        assert_quiet(&out);
        assert_eq!(text(&out.stdout), "one\n\na b\nü\n--raw\n");
    }
}

#[test]
fn a_second_round_on_the_same_ring_does_not_end_at_once() {
    for ring in EITHER {
        let house = House::new();
        assert_quiet(&house.run(&format!("create r {ring}")));
        assert_quiet(&house.run("send r first"));
        assert_eq!(text(&house.run("recv r").stdout), "first\n");

        let receiver = house.start("recv r");
        until("the receiver", || house.info("r").receiver.presence == Presence::Present);
        assert_quiet(&house.run("send r second"));
        let out = receiver.end();
        assert_quiet(&out);
        assert_eq!(text(&out.stdout), "second\n");
    }
}

#[test]
fn lines_come_out_as_they_went_in() {
    for ring in ["--capacity 4KiB", "--mpmc --slots 8 --max-message 2KiB"] {
        let house = House::new();
        assert_quiet(&house.run(&format!("create r {ring}")));
        let mut long = vec![b'x'; house.info("r").max_len as usize];
        long.push(b'\n');
        let mut many = Vec::new();
        for n in 0..5000 {
            many.extend(format!("line {n} {}\n", "-".repeat(n % 97)).bytes());
        }
        for input in [
            b"".as_slice(),
            b"\n",
            b"\n\n\na\n\n",
            b"a\r\nb\n",
            b"\xff\xfe\0\n\0\n",
            b" spaces \n\ttabs\t\n",
            &long,
            &many,
        ] {
            let stdin = File::open(house.file("stdin", input)).unwrap().into();
            let sender = house.start_with("send r --lines", stdin);
            let out = house.run("recv r --lines");
            assert_quiet(&out);
            assert_quiet(&sender.end());
            assert!(out.stdout == input, "{:?} became {:?}", text(input), text(&out.stdout));
        }
    }
}

#[test]
fn a_last_line_without_a_newline_is_a_message_too() {
    for ring in EITHER {
        let house = House::new();
        assert_quiet(&house.run(&format!("create r {ring}")));
        assert_quiet(&house.feed("send r", b"one\ntwo"));
        assert_eq!(house.info("r").sender.messages, 2);
        assert_eq!(text(&house.run("recv r").stdout), "one\ntwo\n");
    }
}

#[test]
fn a_line_longer_than_the_ring_takes_is_an_error_and_never_split() {
    for ring in ["--capacity 4KiB", "--mpmc"] {
        let house = House::new();
        assert_quiet(&house.run(&format!("create r {ring}")));
        let mut input = b"fine\n\n".to_vec();
        input.extend(vec![b'x'; house.info("r").max_len as usize + 1]);
        input.extend(b"\nafter\n");
        let said = assert_fails(&house.feed("send r", &input), 1);
        assert!(said.contains("line 3"), "{said}");

        // What stood before it came through, and the stream does not look whole.
        let out = house.run("recv r");
        assert_status(&out, 6);
        assert_eq!(text(&out.stdout), "fine\n\n");
    }
}

#[test]
fn a_line_without_an_end_is_refused_before_it_fills_the_memory() {
    for ring in ["--capacity 4KiB", "--mpmc"] {
        let house = House::new();
        assert_quiet(&house.run(&format!("create r {ring}")));
        let endless = house.start_with("send r", File::open("/dev/zero").unwrap().into()).end();
        assert_fails(&endless, 1);
        assert_eq!(house.info("r").sender.messages, 0);
    }
}

#[test]
fn a_line_is_sent_while_the_next_is_not_yet_written() {
    for ring in EITHER {
        let house = House::new();
        assert_quiet(&house.run(&format!("create r {ring}")));
        let mut receiver = house.start("recv r");
        let mut lines = BufReader::new(receiver.child.stdout.take().unwrap()).lines();
        let mut sender = house.start_with("send r", Stdio::piped());
        let mut pipe = sender.child.stdin.take().unwrap();
        for (piece, line) in [("one\n", "one"), ("two\nthr", "two"), ("ee\n\n", "three")] {
            pipe.write_all(piece.as_bytes()).unwrap();
            assert_eq!(lines.next().unwrap().unwrap(), line);
        }
        pipe.write_all(b"end").unwrap();
        drop(pipe);
        assert_quiet(&sender.end());
        assert_eq!(lines.map(Result::unwrap).collect::<Vec<_>>(), ["", "end"]);
        assert_quiet(&receiver.end());
    }
}

#[test]
fn raw_bytes_keep_every_bit_in_each_order_twice_on_one_ring() {
    let megabytes = std::env::var("QUOIT_PIPE_MB").map_or(8, |text| text.parse().unwrap());
    let house = House::new();
    let payload = noise(megabytes * 1_000_000 + 12_345);
    let digest = crc32fast::hash(&payload);
    let path = house.file("payload", &payload);

    for (size, ring) in [
        ("small", "--capacity 4KiB"),
        ("large", "--capacity 64MiB"),
        ("slots", "--mpmc --slots 64 --max-message 5KB"),
    ] {
        for sender_first in [true, false] {
            let name = format!("{size}-{sender_first}");
            assert_quiet(&house.run(&format!("create {name} {ring}")));
            for round in 1..=2 {
                let send = || {
                    let input = File::open(&path).unwrap().into();
                    let run = house.start_with(&format!("send {name} --raw"), input);
                    until("the sender", || house.info(&name).sender.arrivals == round);
                    run
                };
                let recv = || {
                    let run = house.start(&format!("recv {name} --raw"));
                    until("the receiver", || house.info(&name).receiver.arrivals == round);
                    run
                };
                let (sender, receiver) = if sender_first {
                    let sender = send();
                    (sender, recv())
                } else {
                    let receiver = recv();
                    (send(), receiver)
                };
                let out = receiver.end();
                assert_quiet(&out);
                assert_quiet(&sender.end());
                assert_eq!(out.stdout.len(), payload.len(), "{name}, round {round}");
                assert_eq!(crc32fast::hash(&out.stdout), digest, "{name}, round {round}");
            }
            assert_quiet(&house.run(&format!("rm {name}")));
        }
    }
}

#[test]
fn a_full_ring_is_status_5_without_waiting_and_4_in_time() {
    for ring in ["--capacity 4KiB", "--mpmc --slots 8 --max-message 2KiB"] {
        let house = House::new();
        assert_quiet(&house.run(&format!("create r {ring}")));
        let input = "0123456789\n".repeat(1000);
        let said = assert_fails(&house.feed("send r --no-wait", input.as_bytes()), 5);
        assert!(said.contains("after"), "{said}");
        assert_fails(&house.feed("send r --timeout 20ms", input.as_bytes()), 4);
        assert_fails(&house.run(&format!("send r --timeout 20ms {}", "x".repeat(1500))), 4);
    }
}

#[test]
fn an_empty_ring_is_status_5_without_waiting_and_4_in_time() {
    for ring in EITHER {
        let house = House::new();
        assert_quiet(&house.run(&format!("create r {ring}")));
        assert_fails(&house.run("recv r --no-wait"), 5);
        assert_fails(&house.run("recv r --timeout 20ms"), 4);

        let mut sender = house.start_with("send r", Stdio::piped());
        let mut pipe = sender.child.stdin.take().unwrap();
        pipe.write_all(b"one\ntwo\n").unwrap();
        until("two messages", || house.info("r").sender.messages == 2);
        let out = house.run("recv r --no-wait --count 3");
        assert_status(&out, 5);
        assert_eq!(text(&out.stdout), "one\ntwo\n");
        assert_one_line(&out);

        drop(pipe);
        assert_quiet(&sender.end());
        assert_quiet(&house.run("send r three"));
        let out = house.run("recv r --follow --timeout 20ms");
        assert_status(&out, 4);
        assert_eq!(text(&out.stdout), "three\n");
        assert_one_line(&out);
    }
}

#[test]
fn what_is_no_ring_is_status_7() {
    let house = House::new();
    fs::write(house.ring("garbage"), noise(100_000)).unwrap();
    fs::write(house.ring("zeros"), vec![0; 100_000]).unwrap();
    fs::write(house.ring("empty"), b"").unwrap();
    assert_quiet(&house.run("create cut"));
    File::options().write(true).open(house.ring("cut")).unwrap().set_len(30_000).unwrap();
    for name in ["garbage", "zeros", "empty", "cut"] {
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(house.ring(name), private).unwrap();
        for command in ["stat", "recv", "send", "recover", "rm"] {
            let said = assert_fails(&house.run(&format!("{command} {name}")), 7);
            assert!(said.contains(name), "{said}");
        }
    }

    // All of them are listed, with the reason.
    let out = house.run("ls");
    assert_quiet(&out);
    for name in ["garbage", "zeros", "empty", "cut"] {
        assert!(text(&out.stdout).contains(name), "{}", text(&out.stdout));
        let list = house.json("ls --json");
        let ring = list.as_array().unwrap().iter().find(|ring| ring["name"] == name).unwrap();
        assert_eq!(ring["code"], 7);
        assert!(!ring["error"].as_str().unwrap().is_empty());
    }

    // A ring that is cut short can be removed; what never was a ring is left
    // to others.
    assert_quiet(&house.run("rm cut --force"));
    assert_fails(&house.run("rm garbage --force"), 7);
    assert!(house.ring("garbage").exists());
}

#[test]
fn json_tells_what_create_was_asked_for() {
    let house = House::new();
    let made =
        house.json("create r --capacity 128KiB --mode 640 --keep-open --at-most-once --json");
    assert_eq!(made["name"], "r");
    assert_eq!(made["path"], house.ring("r").to_str().unwrap());
    assert_eq!(made["kind"], "spsc");
    assert_eq!(made["version"], 1);
    assert_eq!(made["capacity"], 131_072);
    assert_eq!(made["max_len"], 131_072 / 2 - 64);
    assert_eq!(made["mode"], "0640");
    assert_eq!(made["keep_open"], true);
    assert_eq!(made["delivery"], "at-most-once");
    assert_eq!(made["unlinked"], false);
    assert_eq!(made["sender"]["presence"], "never");
    assert_eq!(made["sender"]["pid"], Value::Null);
    assert_eq!(made["sender"]["bytes"], 0);
    assert_eq!(made["seats"], Value::Array(Vec::new()));
    assert_eq!(house.json("stat r --json"), made);
    assert_eq!(house.json("ls --json"), Value::Array(vec![made]));
}

#[test]
fn json_tells_what_create_was_asked_for_of_a_ring_of_slots() {
    let house = House::new();
    let made = house
        .json("create r --mpmc --slots 16 --max-message 1KiB --mode 660 --at-most-once --json");
    assert_eq!(made["kind"], "mpmc");
    assert_eq!(made["capacity"], 16);
    assert_eq!(made["max_len"], 1024);
    assert_eq!(made["mode"], "0660");
    assert_eq!(made["keep_open"], false);
    assert_eq!(made["delivery"], "at-most-once");
    assert_eq!(made["sender"]["presence"], "never");
    assert_eq!(made["sender"]["bytes"], Value::Null);
    assert_eq!(made["seats"], Value::Array(Vec::new()));
    assert_eq!(house.json("stat r --json"), made);

    let made = house.json("create plain --mpmc --keep-open --json");
    assert_eq!((made["capacity"].as_u64(), made["max_len"].as_u64()), (Some(1024), Some(256)));
    assert_eq!(made["keep_open"], true);
}

#[test]
fn a_ring_is_asked_for_in_the_words_of_its_kind() {
    let house = House::new();
    assert_quiet(&house.run("create bytes"));
    assert_quiet(&house.run("create slots --mpmc"));
    for (line, code, words) in [
        ("create r --mpmc --capacity 4KiB", 2, ["--slots", "--max-message"]),
        ("create r --slots 8", 2, ["--mpmc", "--capacity"]),
        ("create r --max-message 64", 2, ["--mpmc", "--capacity"]),
        ("create r --mpmc --slots 1000", 2, ["--slots", "1024"]),
        ("create r --mpmc --max-message 2GiB", 2, ["--max-message", "2147483648"]),
        ("send slots --mpmc word", 2, ["--mpmc", "add --create"]),
        ("send bytes --create --mpmc word", 7, ["spsc", "mpmc was asked for"]),
        ("recv slots --create --capacity 4KiB", 7, ["mpmc", "spsc was asked for"]),
        ("recv slots --create --mpmc --slots 8", 1, ["1024", "8 was asked for"]),
    ] {
        let said = assert_fails(&house.run(line), code);
        assert!(words.iter().all(|word| said.contains(word)), "{line}: {said}");
    }
}

#[test]
fn stat_and_ls_show_who_is_there_and_what_went_through() {
    let house = House::new();
    assert_quiet(&house.run("create r"));
    assert_quiet(&house.run("send r four more"));
    let receiver = house.start("recv r --follow --count 3");
    until("two messages", || house.info("r").receiver.messages == 2);

    let stat = house.json("stat r --json");
    assert_eq!(stat["used"], 0);
    assert_eq!(stat["sender"]["presence"], "left");
    assert_eq!(stat["sender"]["messages"], 2);
    assert_eq!(stat["sender"]["bytes"], 8);
    assert_eq!(stat["receiver"]["presence"], "present");
    assert_eq!(stat["receiver"]["pid"], receiver.child.id());
    assert_eq!(stat["receiver"]["messages"], 2);

    let page = text(&house.run("stat r").stdout);
    assert!(page.contains(&format!("present ({})", receiver.child.id())), "{page}");
    let table = text(&house.run("ls").stdout);
    let line = table.lines().find(|line| line.trim_start().starts_with("r ")).unwrap();
    for word in ["spsc", "64.0 KiB", "left", "present"] {
        assert!(line.contains(word), "{table}");
    }

    assert_quiet(&house.run("send r end"));
    let out = receiver.end();
    assert_quiet(&out);
    assert_eq!(text(&out.stdout), "four\nmore\nend\n");
}

#[test]
fn stat_watches_until_the_ring_is_gone() {
    let house = House::new();
    assert_quiet(&house.run("create r"));
    let mut watch = house.start("stat r --json --watch 5ms");
    let mut lines = BufReader::new(watch.child.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        let ring: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(ring["name"], "r");
    }
    assert_quiet(&house.run("rm r"));
    for line in lines {
        line.unwrap();
    }
    assert_fails(&watch.end(), 3);
}

#[test]
fn a_ring_in_use_is_not_removed_without_force() {
    let house = House::new();
    assert_quiet(&house.run("create r"));
    let receiver = house.start("recv r");
    // It is there when it has the lock, and writes its number a moment later.
    until("the receiver", || house.info("r").receiver.pid == receiver.child.id());
    let said = assert_fails(&house.run("rm r"), 1);
    assert!(said.contains("in use by its receiver"), "{said}");
    assert!(said.contains(&receiver.child.id().to_string()), "{said}");
    assert!(said.contains("--force"), "{said}");

    assert_quiet(&house.run("rm r --force"));
    assert!(house.is_empty());
    receiver.signal("TERM");
    assert_status(&receiver.end(), 143);
}

#[test]
fn a_seat_that_is_taken_and_a_name_that_is_taken_are_status_1() {
    let house = House::new();
    assert_quiet(&house.run("create r"));
    assert_fails(&house.run("create r"), 1);
    let receiver = house.start("recv r");
    until("the receiver", || house.info("r").receiver.presence == Presence::Present);
    assert_fails(&house.run("recv r"), 1);
    assert_quiet(&house.run("send r x"));
    assert_quiet(&receiver.end());
}

#[test]
fn either_side_makes_a_missing_ring_when_asked() {
    let house = House::new();
    assert_quiet(&house.run("send a --create --capacity 8KiB hello"));
    assert_eq!(house.info("a").capacity, 8192);
    let out = house.run("recv a --create");
    assert_quiet(&out);
    assert_eq!(text(&out.stdout), "hello\n");

    let receiver = house.start("recv b --create");
    until("the ring", || house.ring("b").exists());
    assert_quiet(&house.run("send b hello"));
    assert_eq!(text(&receiver.end().stdout), "hello\n");

    // An existing ring wins, and a size that differs is said.
    assert_fails(&house.run("send a --create --capacity 16KiB x"), 1);
}

#[test]
fn either_side_makes_a_missing_ring_of_slots_when_asked() {
    let house = House::new();
    assert_quiet(&house.run("send a --create --mpmc --slots 4 --max-message 32 hello"));
    let info = house.info("a");
    assert_eq!((info.kind, info.capacity, info.max_len), (Kind::Mpmc, 4, 32));
    // An existing ring wins, of whichever kind.
    assert_quiet(&house.run("send a --create again"));
    assert_eq!(text(&house.run("recv a --create --mpmc").stdout), "hello\nagain\n");

    let receiver = house.start("recv b --create --mpmc");
    until("the ring", || house.ring("b").exists());
    assert_quiet(&house.run("send b hello"));
    assert_eq!(text(&receiver.end().stdout), "hello\n");
    assert_eq!(house.info("b").kind, Kind::Mpmc);
}

#[test]
fn many_send_and_many_receive_and_each_line_goes_to_one_of_them() {
    const SENDERS: usize = 3;
    const LINES: usize = 3000;
    let house = House::new();
    assert_quiet(&house.run("create r --mpmc --slots 16"));
    let input = |sender: usize| -> String {
        (0..LINES).map(|n| format!("{sender} {n:05} {}\n", "-".repeat(n % 97))).collect()
    };
    let receivers = [(); 2].map(|()| house.start("recv r"));
    until("the receivers", || house.info("r").receiver.arrivals == 2);
    // One that says nothing, so that the stream does not end between two others.
    let mut silent = house.start_with("send r", Stdio::piped());
    let pipe = silent.child.stdin.take();
    until("a sender", || house.info("r").sender.arrivals == 1);
    let senders: Vec<Run> = (0..SENDERS)
        .map(|sender| {
            let path = house.file(&format!("stdin-{sender}"), input(sender).as_bytes());
            house.start_with("send r", File::open(path).unwrap().into())
        })
        .collect();

    // Read while they run: a pipe holds less than this.
    let outs = receivers.map(|receiver| thread::spawn(move || receiver.end()));
    for sender in senders {
        assert_quiet(&sender.end());
    }
    drop(pipe);
    assert_quiet(&silent.end());
    let mut all = Vec::new();
    for out in outs {
        let out = out.join().unwrap();
        assert_quiet(&out);
        let lines: Vec<String> = text(&out.stdout).lines().map(str::to_owned).collect();
        for sender in 0..SENDERS {
            let of = lines.iter().filter(|line| line.starts_with(&format!("{sender} ")));
            assert!(of.is_sorted(), "what one sends stays in order at each");
        }
        all.extend(lines);
    }
    all.sort();
    let sent: String = (0..SENDERS).map(input).collect();
    assert!(all.iter().map(String::as_str).eq(sent.lines()));
}

#[test]
fn a_path_is_a_ring_too() {
    let house = House::new();
    let path = house.dir.path().join("elsewhere");
    let path = path.to_str().unwrap();
    assert_quiet(&house.run(&format!("create {path}")));
    assert_quiet(&house.run(&format!("send {path} hello")));
    assert_eq!(text(&house.run(&format!("recv {path}")).stdout), "hello\n");
    assert!(house.is_empty());
    assert_quiet(&house.run(&format!("rm {path}")));
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_receiver_in_silence() {
    for ring in EITHER {
        let house = House::new();
        assert_quiet(&house.run(&format!("create r {ring}")));
        let mut receiver = house.start("recv r");
        let mut sender = house.start_with("send r", Stdio::piped());
        let mut pipe = sender.child.stdin.take().unwrap();
        pipe.write_all(b"0\n").unwrap();
        let mut reader = BufReader::new(receiver.child.stdout.take().unwrap());
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert_eq!(line, "0\n");
        drop(reader);
        // A process that another test is just starting may still have a copy of the
        // reader's end for a moment, so the first line need not be the last.
        let mut next = 1;
        until("the receiver's end", || {
            // The sender ends as soon as it sees the receiver gone.
            let _ = writeln!(pipe, "{next}");
            next += 1;
            receiver.child.try_wait().unwrap().is_some()
        });
        assert_quiet(&receiver.end());
        drop(pipe);
        sender.end();

        // What was not written is still there.
        let info = house.info("r");
        let (written, sent) = (info.receiver.messages, info.sender.messages);
        assert!(written < sent, "{written} of {sent}");
        let rest: String = (written..sent).map(|n| format!("{n}\n")).collect();
        assert_eq!(text(&house.run("recv r").stdout), rest);
    }
}

#[test]
fn every_listing_is_quiet_on_a_broken_pipe() {
    let house = House::new();
    assert_quiet(&house.run("create r"));
    for line in [
        "ls",
        "ls --json",
        "stat r",
        "stat r --json",
        "man",
        "completions bash",
        "stat r --watch 1ms",
    ] {
        let mut run = house.start(line);
        drop(run.child.stdout.take());
        assert_quiet(&run.end());
    }
}

#[test]
fn output_that_cannot_be_written_is_an_error_and_loses_no_message() {
    for ring in EITHER {
        let house = House::new();
        assert_quiet(&house.run(&format!("create r {ring}")));
        assert_quiet(&house.run("send r kept"));
        let full = File::options().write(true).open("/dev/full").unwrap();
        let status =
            house.command(["recv", "r"]).stdout(full).stderr(Stdio::null()).status().unwrap();
        assert_eq!(status.code(), Some(1));
        assert_eq!(text(&house.run("recv r").stdout), "kept\n");
    }
}

#[test]
fn a_killed_sender_is_status_6_after_all_that_it_committed() {
    for ring in EITHER {
        let house = House::new();
        assert_quiet(&house.run(&format!("create r {ring}")));
        let receiver = house.start("recv r");
        let mut sender = house.start_with("send r", Stdio::piped());
        let mut pipe = sender.child.stdin.take().unwrap();
        pipe.write_all(b"one\ntwo\nthr").unwrap();
        until("two messages", || house.info("r").sender.messages == 2);
        sender.child.kill().unwrap();
        let out = receiver.end();
        assert_status(&out, 6);
        assert_eq!(text(&out.stdout), "one\ntwo\n");
        let said = assert_one_line(&out);
        assert!(said.contains("died"), "{said}");
        sender.end();
        assert_eq!(house.json("stat r --json")["sender"]["presence"], "died");
    }
}

#[test]
fn a_killed_receiver_loses_no_message() {
    for ring in ["--capacity 1MiB", "--mpmc --slots 8 --max-message 512KiB"] {
        let house = House::new();
        assert_quiet(&house.run(&format!("create r {ring}")));
        // More than a pipe holds, so that the receiver hangs in its write.
        let line = "x".repeat(300_000);
        assert_quiet(&house.feed("send r", line.as_bytes()));
        let mut receiver = house.start("recv r");
        let mut some = [0; 1000];
        receiver.child.stdout.as_mut().unwrap().read_exact(&mut some).unwrap();
        receiver.child.kill().unwrap();
        receiver.end();

        let out = house.run("recv r");
        assert_quiet(&out);
        assert_eq!(text(&out.stdout).trim_end(), line);
        assert_eq!(house.info("r").redelivered, 1);
    }
}

#[test]
fn a_killed_receiver_is_status_6_for_its_sender() {
    for ring in ["--capacity 4KiB", "--mpmc --slots 8"] {
        let house = House::new();
        assert_quiet(&house.run(&format!("create r {ring}")));
        let mut receiver = house.start("recv r");
        let mut sender = house.start_with("send r", Stdio::piped());
        let mut pipe = sender.child.stdin.take().unwrap();
        pipe.write_all(b"hello\n").unwrap();
        until("a message taken", || house.info("r").receiver.messages == 1);
        receiver.child.kill().unwrap();
        receiver.child.wait().unwrap();
        // It ends before all of this is taken.
        let _ = pipe.write_all(&b"0123456789\n".repeat(100_000));
        drop(pipe);
        let out = sender.end();
        let said = assert_fails(&out, 6);
        assert!(said.contains("died"), "{said}");
    }
}

#[test]
fn a_receiver_asked_to_stop_leaves_in_order() {
    for ring in EITHER {
        let house = House::new();
        assert_quiet(&house.run(&format!("create r {ring}")));
        for (signal, code) in [("TERM", 143), ("INT", 130)] {
            let receiver = house.start("recv r --follow");
            until("the receiver", || house.info("r").receiver.presence == Presence::Present);
            // It reads, so it listens to signals already.
            let before = house.info("r").receiver.messages;
            assert_quiet(&house.run("send r word"));
            until("the word", || house.info("r").receiver.messages == before + 1);
            receiver.signal(signal);
            let out = receiver.end();
            assert_status(&out, code);
            assert_eq!(text(&out.stdout), "word\n");
            assert_eq!(house.info("r").receiver.presence, Presence::Left);
            assert_eq!(house.info("r").receiver.deaths, 0);
        }
    }
}

#[test]
fn a_receiver_that_follows_outlives_its_senders() {
    for ring in EITHER {
        let house = House::new();
        assert_quiet(&house.run(&format!("create r {ring}")));
        let receiver = house.start("recv r --follow --count 3");
        for word in ["one", "two", "three"] {
            assert_quiet(&house.run(&format!("send r {word}")));
        }
        let out = receiver.end();
        assert_quiet(&out);
        assert_eq!(text(&out.stdout), "one\ntwo\nthree\n");
    }
}

/// The ring that [`other_process`] is to send to.
const CLAIM: &str = "QUOIT_TEST_CLAIM";

/// Not a test, but the other process of some: a sender that claims a slot, and
/// waits in the middle of its message until it is ended.
#[test]
fn other_process() {
    let Ok(ring) = std::env::var(CLAIM) else { return };
    let mut sender = quoit::mpmc::Sender::open(&ring).unwrap();
    let _claim = sender.reserve(1).unwrap();
    // Or until the test is gone.
    let _ = std::io::stdin().read(&mut [0]);
}

/// A sender in the middle of a message.
fn claimant(house: &House, name: &str) -> Run {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "other_process", "--nocapture", "--test-threads=1"]);
    command.env(CLAIM, house.ring(name)).stdin(Stdio::piped());
    let claimant = Run::new(&mut command, house.rings());
    until("the claim", || house.seat(name, &claimant).is_some_and(|seat| seat.writing == 1));
    claimant
}

/// A receiver that has a message in hand: longer than its pipe, which nobody reads.
fn holder(house: &House, name: &str) -> Run {
    let sender = house.feed(&format!("send {name}"), &[b'x'; 300_000]);
    assert_quiet(&sender);
    let holder = house.start(&format!("recv {name}"));
    until("the message in hand", || {
        house.seat(name, &holder).is_some_and(|seat| seat.reading == 1)
    });
    holder
}

/// A ring of few slots for messages longer than a pipe holds.
const LONG: &str = "create r --mpmc --slots 4 --max-message 512KiB";

fn kill(run: Run) {
    run.signal("KILL");
    run.end();
}

#[test]
fn what_the_dead_left_is_given_back_and_counted() {
    let house = House::new();
    assert_quiet(&house.run(LONG));
    let holder = holder(&house, "r");
    let claimant = claimant(&house, "r");
    assert_eq!(text(&house.run("recover r").stdout), "nobody died\n");
    kill(holder);
    kill(claimant);

    let out = house.run("recover r");
    assert_quiet(&out);
    let said = "2 seats of the dead: 1 claim skipped, 1 message put back, 0 lost\n";
    assert_eq!(text(&out.stdout), said);
    let none = json!({ "seats": 0, "skipped": 0, "redelivered": 0, "lost": 0 });
    assert_eq!(house.json("recover r --json"), none);
    // What was put back is there again.
    let out = house.run("recv r --count 1");
    assert_quiet(&out);
    assert_eq!(out.stdout.len(), 300_001);
    assert_eq!(house.info("r").redelivered, 1);
}

#[test]
fn what_a_dead_receiver_had_in_hand_is_lost_where_that_was_asked_for() {
    let house = House::new();
    assert_quiet(&house.run(&format!("{LONG} --at-most-once")));
    kill(holder(&house, "r"));
    let done = json!({ "seats": 1, "skipped": 0, "redelivered": 0, "lost": 1 });
    assert_eq!(house.json("recover r --json"), done);
    assert_eq!(text(&house.run("recv r").stdout), "");
    assert_eq!(house.info("r").lost, 1);
}

#[test]
fn a_ring_of_bytes_is_repaired_by_whoever_comes_next_and_recover_says_so() {
    let house = House::new();
    assert_quiet(&house.run("create r"));
    let said = assert_fails(&house.run("recover r"), 7);
    assert!(said.contains("spsc") && said.contains("on arrival"), "{said}");
}

#[test]
fn whoever_is_stopped_in_the_way_is_named_when_time_is_up() {
    let house = House::new();
    assert_quiet(&house.run("create r --mpmc --slots 2"));
    let sender = claimant(&house, "r");
    sender.signal("STOP");
    assert_quiet(&house.run("send r behind"));
    let seat = house.seat("r", &sender).unwrap().seat;
    let named = |said: &str, role: &str, process: u32| {
        said.contains(&format!("{role} in seat {seat}")) && said.contains(&process.to_string())
    };
    let said = assert_fails(&house.run("recv r --timeout 20ms"), 4);
    assert!(named(&said, "sender", sender.child.id()), "{said}");
    let said = assert_fails(&house.run("send r --timeout 20ms more"), 4);
    assert!(named(&said, "sender", sender.child.id()), "{said}");

    // Dead, it is in nobody's way.
    kill(sender);
    assert_eq!(text(&house.run("recv r --count 1").stdout), "behind\n");
}

#[test]
fn stat_shows_the_living_the_stopped_and_the_dead_of_a_ring_of_slots() {
    let house = House::new();
    assert_quiet(&house.run(LONG));
    let dead = holder(&house, "r");
    let alive = claimant(&house, "r");
    let stopped = claimant(&house, "r");
    stopped.signal("STOP");
    until("the stop", || house.seat("r", &stopped).is_some_and(|seat| seat.stopped));
    let pids = [&dead, &alive, &stopped].map(|run| run.child.id());
    kill(dead);

    let page = text(&house.run("stat r").stdout);
    let rows: Vec<String> = page.lines().map(in_words).collect();
    for (pid, row) in pids.iter().zip([
        "receiver dead, 1 message in hand",
        "sender alive, in a claim",
        "sender stopped, in a claim",
    ]) {
        let row = format!(" {row} {pid} ");
        assert!(rows.iter().any(|line| line.contains(&row)), "{row}: {page}");
    }
    for words in ["4 slots", "512.0 KiB", "senders    2 present", "receivers  1 dead"] {
        assert!(page.contains(words), "{words}: {page}");
    }
    let list = text(&house.run("ls").stdout);
    let ring = list.lines().find(|line| line.starts_with("r ")).unwrap();
    for words in ["mpmc", "4 slots", "3 slots", "2 present", "1 dead"] {
        assert!(ring.contains(words), "{list}");
    }

    let stat = house.json("stat r --json");
    for (pid, role, presence, stopped, claims) in [
        (pids[0], "receiver", "died", false, (0, 1)),
        (pids[1], "sender", "present", false, (1, 0)),
        (pids[2], "sender", "present", true, (1, 0)),
    ] {
        let mut seats = stat["seats"].as_array().unwrap().iter();
        let seat = seats.find(|seat| seat["pid"] == pid).unwrap();
        assert_eq!(seat["role"], role);
        assert_eq!(seat["presence"], presence);
        assert_eq!(seat["stopped"], stopped);
        assert_eq!(
            (seat["writing"].as_u64(), seat["reading"].as_u64()),
            (Some(claims.0), Some(claims.1))
        );
    }
    kill(alive);
    kill(stopped);
}

#[test]
fn stat_sums_the_seats_that_are_free_unless_all_are_asked_for() {
    let house = House::new();
    assert_quiet(&house.run("create r --mpmc"));
    // All at once, so that they are three seats. The one in the way dies.
    let receiver = house.start("recv r --count 2");
    until("the receiver", || house.info("r").receiver.arrivals == 1);
    let claimant = claimant(&house, "r");
    assert_quiet(&house.run("send r one two"));
    kill(claimant);
    assert_quiet(&receiver.end());
    let rows = |line: &str| -> Vec<String> {
        let page = text(&house.run(line).stdout);
        let table = page.lines().skip_while(|line| !line.starts_with("SEAT")).skip(1);
        table.map(in_words).collect()
    };
    let sum = rows("stat r");
    assert_eq!(sum.len(), 1, "{sum:?}");
    assert!(sum[0].starts_with("3 free - 2 left, 1 died - 2 2 0 1 0 0 "), "{sum:?}");
    let all = rows("stat r --all");
    assert_eq!(all.len(), 3, "{all:?}");
    assert!(all[0].starts_with("0 - left ") && all[0].contains(" 0 2 0 1 0 0 "), "{all:?}");
    assert!(all[1].starts_with("1 - died ") && all[1].contains(" 0 0 0 0 0 0 "), "{all:?}");
    assert!(all[2].starts_with("2 - left ") && all[2].contains(" 2 0 0 0 0 0 "), "{all:?}");
}

#[test]
fn stat_watches_a_ring_of_slots_too() {
    let house = House::new();
    assert_quiet(&house.run("create r --mpmc"));
    let mut watch = house.start("stat r --watch 5ms");
    let mut lines = BufReader::new(watch.child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(in_words(&lines.next().unwrap()), "USED SENT/s RECEIVED/s SENDERS RECEIVERS");
    assert_eq!(in_words(&lines.next().unwrap()), "0 slots 0 0 never never");
    assert_quiet(&house.run("send r word"));
    until("the word", || in_words(&lines.next().unwrap()) == "1 slot 0 0 left never");
    assert_quiet(&house.run("rm r"));
    let _ = lines.by_ref().count();
    assert_fails(&watch.end(), 3);
}

#[test]
fn all_who_use_a_ring_of_slots_keep_it_from_being_removed() {
    let house = House::new();
    assert_quiet(&house.run("create r --mpmc"));
    let receivers = [(); 2].map(|()| house.start("recv r"));
    until("the receivers", || house.info("r").receiver.arrivals == 2);
    let sender = claimant(&house, "r");
    let said = assert_fails(&house.run("rm r"), 1);
    let pid = sender.child.id();
    let who = format!("in use by its sender (process {pid}) and its 2 receivers");
    assert!(said.contains(&who), "{said}");
    assert_quiet(&house.run("rm r --force"));
    kill(sender);
    receivers.into_iter().for_each(kill);
}

#[test]
fn a_demo_reports_and_leaves_nothing_behind() {
    let house = House::new();
    let report = house.json("demo --count 2000 --size 200 --json");
    assert_eq!(report["stream"]["messages"], 2000);
    assert_eq!(report["stream"]["checksum"], "ok");
    assert_eq!(report["round_trip"]["count"], 2000);
    assert_ne!(report["processes"]["parent"], report["processes"]["peer"]);
    assert!(house.is_empty());

    let out = house.run("demo --count 100 --size 1");
    assert_quiet(&out);
    assert!(text(&out.stdout).contains("checksum ok"), "{}", text(&out.stdout));
    assert!(house.is_empty());
}

#[test]
fn a_demo_of_many_accounts_for_every_message_and_leaves_nothing_behind() {
    let house = House::new();
    let report = house.json("demo --mpmc --seconds 1 --size 100 --json");
    assert!(report["sent"].as_u64().unwrap() > 0);
    assert_eq!(report["received"], report["sent"]);
    assert_eq!(report["lost"], 0);
    assert!(report["redelivered"].as_u64().unwrap() > 0);
    assert!(report["redelivered"].as_u64() >= report["reported_twice"].as_u64());
    let processes = &report["processes"];
    assert!(processes["receivers"].as_array().unwrap().contains(&processes["killed"]));
    assert!(!processes["receivers"].as_array().unwrap().contains(&processes["replacement"]));
    assert!(house.is_empty());

    let out = house.run("demo --mpmc --seconds 1 --size 8");
    assert_quiet(&out);
    let page = text(&out.stdout);
    for words in ["2 senders and 2 receivers", "SIGKILL", "redelivered", "0 lost"] {
        assert!(page.contains(words), "{words}: {page}");
    }
    assert!(house.is_empty());
}

#[test]
fn a_demo_that_is_asked_to_stop_leaves_nothing_behind() {
    for demo in ["demo --seconds 3600", "demo --mpmc --seconds 3600"] {
        let house = House::new();
        let demo = house.start(demo);
        until("the other process", || peer_of(demo.child.id()).is_some());
        demo.signal("TERM");
        assert_fails_silently(&demo.end(), 143);
        assert!(house.is_empty());
    }
}

#[test]
fn a_demo_whose_peer_dies_says_so_and_leaves_nothing_behind() {
    for demo in ["demo --seconds 3600", "demo --mpmc --seconds 3600"] {
        let house = House::new();
        let demo = house.start(demo);
        let mut peer = None;
        until("the other process", || {
            peer = peer_of(demo.child.id());
            peer.is_some()
        });
        signal(peer.unwrap(), "KILL");
        let said = assert_fails(&demo.end(), 6);
        assert!(said.contains("died"), "{said}");
        assert!(house.is_empty());
    }
}

fn assert_fails_silently(out: &Output, code: i32) {
    assert_status(out, code);
    assert_eq!(text(&out.stdout), "");
    assert_eq!(text(&out.stderr), "");
}

/// The child of a process, once it runs the tool's own other side.
fn peer_of(parent: u32) -> Option<u32> {
    fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // pid (name) state ppid: the name may hold anything, so from its end.
        let ppid: u32 = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        let words = fs::read(entry.path().join("cmdline")).ok()?;
        let is_peer = ppid == parent
            && ["demo-peer", "demo-worker"].iter().any(|word| text(&words).contains(word));
        is_peer.then_some(pid)
    })
}

#[test]
fn completions_and_manual_pages_are_printed() {
    let house = House::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let out = house.run(&format!("completions {shell}"));
        assert_quiet(&out);
        for word in ["quoit", "recover", "--max-message"] {
            // Some shells' completions have the options without their dashes.
            let word = word.trim_start_matches('-');
            assert!(text(&out.stdout).contains(word), "{shell}: {word}");
        }
    }
    let out = house.run("man");
    assert_quiet(&out);
    assert!(text(&out.stdout).contains(".TH quoit 1"), "{}", text(&out.stdout));
    assert!(text(&out.stdout).contains("quoit\\-recover(1)"), "{}", text(&out.stdout));
    let out = house.run("man send");
    assert_quiet(&out);
    assert!(text(&out.stdout).contains(".TH quoit-send 1"), "{}", text(&out.stdout));
    let page = text(&house.run("man recover").stdout);
    assert!(page.contains(".TH quoit-recover 1"), "{page}");
}

#[test]
fn an_error_stays_on_one_line_whatever_the_name() {
    let house = House::new();
    let out = Run::new(&mut house.command(["stat", "a\nb\u{1b}[31m"]), house.rings()).end();
    let said = assert_fails(&out, 3);
    assert!(!said.trim_end().contains(|c: char| c.is_control()), "{said:?}");
    assert!(Path::new(&house.rings()).exists());
}
