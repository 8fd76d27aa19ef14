//! A forked child and the handles that it inherited.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use quoit::{Options, mpmc};

use crate::actor::{Actor, word};
use crate::harness::{Ring, everywhere};

/// Forks; the child does something with the handles and ends. What it said.
fn in_child(body: impl FnOnce() -> String) -> String {
    let (mut read, mut write) = std::os::unix::net::UnixStream::pair().unwrap();
    // SAFETY: the child is a copy of a process of one thread, and leaves by _exit.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "{}", std::io::Error::last_os_error());
    if pid == 0 {
        // SAFETY: alarm takes a number.
        unsafe { libc::alarm(30) };
        let said = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| "panicked".into());
        let _ = write.write_all(said.as_bytes());
        // SAFETY: _exit ends the process and runs nothing of ours.
        unsafe { libc::_exit(0) };
    }
    drop(write);
    let mut said = String::new();
    std::io::Read::read_to_string(&mut read, &mut said).unwrap();
    let mut status = 0;
    // SAFETY: `status` is a live integer of this frame.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    format!("{said}, status {status}")
}

/// Takes note of what a verb answered, unless it was the right answer.
fn note(wrong: &mut Vec<String>, verb: &str, answer: &str) {
    if answer != "Forked" {
        wrong.push(format!("{verb}: {answer}"));
    }
}

macro_rules! all_forked {
    ($wrong:ident; $($handle:ident.$verb:ident($($arg:expr),*);)*) => {
        $(
            let answer = match $handle.$verb($($arg),*) {
                Ok(_) => String::from("ok"),
                Err(error) => word(&error),
            };
            note(&mut $wrong, stringify!($verb), &answer);
        )*
    };
}

/// Orders that have to do with forks.
pub(crate) fn obey(actor: &mut Actor, what: &str) -> String {
    match what {
        "verbs" => {
            let (mut tx, mut rx) = (actor.tx.take().unwrap(), actor.rx.take().unwrap());
            let said = in_child(|| verbs(&mut tx, &mut rx));
            (actor.tx, actor.rx) = (Some(tx), Some(rx));
            said
        }
        "drop" => {
            let (tx, rx) = (&mut actor.tx, &mut actor.rx);
            in_child(|| {
                (*tx, *rx) = (None, None);
                "dropped".into()
            })
        }
        "reopen" => {
            let path = actor.path.clone();
            in_child(|| match quoit::spsc::Sender::open(&path) {
                Ok(_) => "ok".into(),
                Err(error) => word(&error),
            })
        }
        "guards" => guards(actor),
        "survivor" => survivor(actor),
        "slots" => slots(&format!("{}.slots", actor.path)),
        "threads" => threads(&format!("{}.slots", actor.path)),
        "slots_survivor" => {
            let mut tx = mpmc::Sender::open(&format!("{}.slots", actor.path)).unwrap();
            tx.send(b"sent").unwrap();
            let claimed = tx.reserve(5).unwrap();
            let said = survivor(actor);
            drop(claimed);
            said
        }
        _ => panic!("no such order: {what}"),
    }
}

/// Every verb of both ends; which ones did not answer `Forked`.
fn verbs(tx: &mut quoit::spsc::Sender, rx: &mut quoit::spsc::Receiver) -> String {
    let mut wrong = Vec::new();
    let (soon, then) = (Duration::from_millis(1), Instant::now());
    let (m, batch, mut into) = (b"m", [b"m"], vec![7]);
    all_forked! { wrong;
        tx.try_send(m);
        tx.send(m);
        tx.send_timeout(m, soon);
        tx.send_deadline(m, then);
        tx.try_send_batch(&batch);
        tx.send_batch(&batch);
        tx.send_batch_timeout(&batch, soon);
        tx.send_batch_deadline(&batch, then);
        tx.try_reserve(1);
        tx.reserve(1);
        tx.reserve_timeout(1, soon);
        tx.reserve_deadline(1, then);
        rx.try_recv();
        rx.recv();
        rx.recv_timeout(soon);
        rx.recv_deadline(then);
        rx.try_recv_into(&mut into);
        rx.recv_into(&mut into);
        rx.recv_into_timeout(&mut into, soon);
        rx.recv_into_deadline(&mut into, then);
    }
    if into != [7] || rx.iter().next().is_some() {
        wrong.push("something was received".into());
    }
    // These have no error to answer, and must not touch what is not there.
    let _ = (tx.len(), tx.is_empty(), tx.is_full(), tx.is_disconnected(), tx.stats());
    let _ = (rx.len(), rx.is_empty(), rx.is_disconnected(), rx.stats());
    let _ = (tx.capacity(), tx.max_len(), rx.capacity(), rx.max_len(), rx.name().clone());
    let _ = format!("{tx:?} {rx:?}");
    tx.set_keep_open(true);
    rx.set_wait(quoit::Wait::Block);
    if wrong.is_empty() { "all forked".into() } else { wrong.join("; ") }
}

/// A message and a reservation that were in hand at the fork.
fn guards(actor: &mut Actor) -> String {
    let (mut tx, mut rx) = (actor.tx.take().unwrap(), actor.rx.take().unwrap());
    let answer = {
        let mut message = Some(rx.recv().unwrap());
        let mut room = Some(tx.reserve(5).unwrap());
        room.as_mut().unwrap().write_all(b"ab").unwrap();
        let said = in_child(|| {
            let (message, mut room) = (message.take().unwrap(), room.take().unwrap());
            let read = (message.to_vec(), message.copy_to(&mut [0; 8]));
            drop(message);
            let wrote = room.write_at(0, b"x").is_ok();
            let committed = word(&room.commit().unwrap_err());
            format!("{read:?} {wrote} {committed}")
        });
        let mut room = room.unwrap();
        room.write_all(b"cde").unwrap();
        room.commit().unwrap();
        let kept = message.take().unwrap().to_vec();
        format!("{said}, kept {}", String::from_utf8(kept).unwrap())
    };
    let next = rx.recv().unwrap().to_vec();
    (actor.tx, actor.rx) = (Some(tx), Some(rx));
    format!("{answer}, then {}", String::from_utf8(next).unwrap())
}

/// The same of a ring of slots, with a message and a reservation in hand.
fn slots(path: &str) -> String {
    let mut tx = mpmc::Sender::create(path, &Options::new().capacity(8).max_len(48)).unwrap();
    let rx = mpmc::Receiver::open(path).unwrap();
    let (another, clone) = (tx.clone(), rx.clone());
    tx.send(b"kept").unwrap();
    let mut message = Some(rx.recv().unwrap());
    let mut room = Some(tx.reserve(5).unwrap());
    room.as_mut().unwrap().write_all(b"abc").unwrap();
    let said = in_child(|| {
        let (message, room) = (message.take().unwrap(), room.take().unwrap());
        let mut wrong = slot_verbs(&another, &clone);
        note(&mut wrong, "commit", &room.commit().map_or_else(|e| word(&e), |()| "ok".into()));
        if !message.to_vec().is_empty() {
            wrong.push("the message was read".into());
        }
        drop(message);
        drop((another, clone));
        if wrong.is_empty() { "all forked".into() } else { wrong.join("; ") }
    });
    let mut room = room.unwrap();
    room.write_all(b"de").unwrap();
    room.commit().unwrap();
    let kept = String::from_utf8(message.take().unwrap().to_vec()).unwrap();
    let next = String::from_utf8(rx.recv().unwrap().to_vec()).unwrap();
    let peers = (tx.stats().peers, rx.stats().peers);
    format!(
        "{said}, kept {kept}, then {next}, {peers:?} peers, {}",
        word(&rx.try_recv().unwrap_err())
    )
}

/// Every verb of both kinds of handle; which ones did not answer `Forked`.
fn slot_verbs(tx: &mpmc::Sender, rx: &mpmc::Receiver) -> Vec<String> {
    let mut wrong = Vec::new();
    let (soon, then) = (Duration::from_millis(1), Instant::now());
    let (m, batch, mut into) = (b"m", [b"m"], vec![7]);
    all_forked! { wrong;
        tx.try_send(m);
        tx.send(m);
        tx.send_timeout(m, soon);
        tx.send_deadline(m, then);
        tx.try_send_batch(&batch);
        tx.send_batch(&batch);
        tx.send_batch_timeout(&batch, soon);
        tx.send_batch_deadline(&batch, then);
        tx.recover();
        rx.try_recv();
        rx.recv();
        rx.recv_timeout(soon);
        rx.recv_deadline(then);
        rx.try_recv_into(&mut into);
        rx.recv_into(&mut into);
        rx.recv_into_timeout(&mut into, soon);
        rx.recv_into_deadline(&mut into, then);
        rx.recover();
    }
    let mut messages = Vec::new();
    all_forked! { wrong;
        rx.try_recv_batch(&mut messages, 2);
        rx.recv_batch(&mut messages, 2);
        rx.recv_batch_timeout(&mut messages, 2, soon);
        rx.recv_batch_deadline(&mut messages, 2, then);
    }
    // These have no error to answer, and must not touch what is not there.
    let _ = (tx.len(), tx.stats(), tx.capacity(), tx.max_len(), tx.seat(), tx.name().clone());
    let _ = (rx.len(), rx.is_empty(), rx.is_disconnected(), rx.stats(), rx.seat());
    let _ = format!("{tx:?} {rx:?}");
    drop((tx.clone(), rx.clone()));
    if into != [7] || !messages.is_empty() || rx.iter().next().is_some() {
        wrong.push("something was received".into());
    }
    wrong
}

/// Forks while other threads send and receive: no child can use a handle, and no message is lost or comes twice.
fn threads(path: &str) -> String {
    const MESSAGES: u64 = 20_000;
    let tx = mpmc::Sender::create(path, &Options::new().capacity(8).max_len(48)).unwrap();
    let rx = mpmc::Receiver::open(path).unwrap();
    let (sends, receives) = (tx.clone(), rx.clone());
    std::thread::scope(|s| {
        s.spawn(move || {
            (0..MESSAGES).for_each(|number| sends.send(&number.to_le_bytes()).unwrap());
        });
        let received = s.spawn(move || {
            for number in 0..MESSAGES {
                assert_eq!(receives.recv().unwrap().to_vec(), number.to_le_bytes());
            }
        });
        let mut forks = 0;
        while !received.is_finished() || forks < 20 {
            let said = in_child(|| slot_verbs(&tx, &rx).join("; "));
            if said != ", status 0" {
                return said;
            }
            forks += 1;
        }
        received.join().map_or_else(|_| "a message is missing".into(), |()| "all in order".into())
    })
}

/// Forks a child that lives until nobody gives orders any more, and waits to be killed.
fn survivor(actor: &mut Actor) -> String {
    // SAFETY: as in `in_child`.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        // SAFETY: alarm takes a number.
        unsafe { libc::alarm(60) };
        actor.say("the child lives");
        let mut last_words = actor.order();
        while last_words.as_deref() == Some("alive?") {
            actor.say("alive");
            last_words = actor.order();
        }
        // SAFETY: _exit ends the process and runs nothing of ours.
        unsafe { libc::_exit(0) };
    }
    loop {
        std::thread::park();
    }
}

#[test]
fn every_verb_of_an_inherited_handle_says_that_it_was_forked() {
    everywhere(|ring| {
        let mut both = ring.sender();
        assert_eq!(both.ask("receiver open"), "ok");
        assert_eq!(both.ask("send 1"), "ok");
        assert_eq!(both.ask("fork verbs"), "all forked, status 0");
        assert_eq!(both.recv().unwrap().attempt, 1, "the parent's message is untouched");
        assert_eq!(both.ask("send 2"), "ok");
        assert_eq!(both.recv().unwrap().number, 2);
        assert_eq!(both.ask("try_recv"), "Empty", "nothing came from the child");
    });
}

#[test]
fn a_child_that_drops_an_inherited_handle_disturbs_nobody() {
    everywhere(|ring| {
        let (mut tx, mut rx) = (ring.sender(), ring.receiver());
        assert_eq!(tx.ask("fork drop"), "dropped, status 0");
        assert_eq!(rx.ask("fork drop"), "dropped, status 0");
        assert_eq!((tx.ask("peer"), rx.ask("peer")), ("Present".into(), "Present".into()));
        let another = ring.process().ask("sender open");
        assert!(another.starts_with("SeatTaken"), "{another}");
        assert_eq!(tx.ask("send 1"), "ok");
        assert_eq!(rx.recv().unwrap().number, 1);
        assert_eq!(tx.ask("leave"), "ok");
        assert_eq!(rx.ask("recv"), "Disconnected");
    });
}

#[test]
fn a_child_may_open_the_ring_itself_when_the_seat_is_free() {
    everywhere(|ring| {
        let mut rx = ring.receiver();
        assert_eq!(rx.ask("fork reopen"), "ok, status 0");
        let _tx = ring.sender();
        assert_eq!(rx.ask("fork reopen"), "SeatTaken, status 0");
    });
}

#[test]
fn what_was_in_hand_at_a_fork_stays_the_parents() {
    everywhere(|ring| {
        let mut both = ring.sender();
        assert_eq!(both.ask("receiver open"), "ok");
        assert_eq!(both.ask("send_text hello"), "ok");
        assert_eq!(
            both.ask("fork guards"),
            "([], 0) false Forked, status 0, kept hello, then abcde"
        );
    });
}

#[test]
fn the_death_of_a_parent_is_noticed_while_its_child_lives() {
    for role in ["sender", "receiver"] {
        everywhere(|ring| {
            let (mut tx, mut rx) = (ring.sender(), ring.receiver());
            assert_eq!(tx.ask("send 1"), "ok");
            let (parent, other) = match role {
                "sender" => (&mut tx, &mut rx),
                _ => (&mut rx, &mut tx),
            };
            assert_eq!(parent.ask("fork survivor"), "the child lives");
            if role == "sender" {
                other.tell("drain");
            } else {
                let next = other.fill(2);
                other.tell(format!("send {next}"));
            }
            other.asleep();
            parent.kill();
            let end = if role == "sender" { "1..2 Disconnected" } else { "Disconnected" };
            assert_eq!(other.answer(), end);
            assert_eq!(other.ask("peer"), "Died");
            let successor = ring.process().ask(format!("{role} open"));
            assert_eq!(successor, "ok", "and its seat is free");
            assert_eq!(parent.ask("alive?"), "alive", "all the while");
        });
    }
}

#[test]
fn handles_of_a_ring_of_slots_say_that_they_were_forked_and_stay_the_parents() {
    let ring = Ring::new(0);
    assert_eq!(
        ring.process().ask("fork slots"),
        "all forked, status 0, kept kept, then abcde, (1, 1) peers, Empty"
    );
}

#[test]
fn forks_while_other_threads_send_and_receive_disturb_nobody() {
    let ring = Ring::new(0);
    assert_eq!(ring.process().ask("fork threads"), "all in order");
}

#[test]
fn the_death_of_a_parent_with_a_claim_is_noticed_while_its_child_lives() {
    let ring = Ring::new(0);
    let path = ring.beside("ring.slots");
    let rx = mpmc::Receiver::create(&path, &Options::new().capacity(8).max_len(48)).unwrap();
    let mut parent = ring.process();
    assert_eq!(parent.ask("fork slots_survivor"), "the child lives");
    assert_eq!(rx.recv().unwrap().to_vec(), b"sent");
    parent.kill();
    assert!(rx.recv().unwrap_err().is_disconnected());
    assert_eq!(rx.stats().end, Some(quoit::Presence::Died));
    assert_eq!(parent.ask("alive?"), "alive", "all the while");
}
