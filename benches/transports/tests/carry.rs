//! Every transport carries what it is given, in every manner of waiting. The two ends are threads here: what is tested
//! is the transport, not its speed.

use std::any::type_name;
use std::io::Write;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use quoit_transports::{
    Check, Futex, Name, Refusal, Rx, Seen, Shape, Side, Source, Threads, Transport, Tx, Wait, with,
};

/// When threads that sleep are taken for hung.
const HUNG: Duration = Duration::from_secs(60);

/// Dropped at the end of what may hang; if it is not, the program is ended and says what hung.
fn watched(what: String) -> Sender<()> {
    let (done, end) = mpsc::channel();
    thread::spawn(move || {
        if end.recv_timeout(HUNG) == Err(RecvTimeoutError::Timeout) {
            // Nothing else would end two threads of which one sleeps for good. Past the harness, which is ended with it.
            let _ = std::io::stderr().write_all(format!("hung: {what}\n").as_bytes());
            std::process::abort();
        }
    });
    done
}

fn carry<T: Transport>(shape: Shape, trips: u64) -> Result<(), String> {
    let _watch = watched(format!("{} carries {shape:?}", type_name::<T>()));
    let laid = match T::lay(&shape) {
        Ok(laid) => laid,
        Err(Refusal::Here(why)) => return Err(why),
        Err(Refusal::Failed(error)) => panic!("{error}"),
    };
    let (client, server, names) = (laid.client, laid.server, laid.names);
    thread::scope(|scope| {
        scope.spawn(move || {
            let (mut tx, mut rx) = T::ends(server, Side::Server, &shape).unwrap();
            let (mut source, mut check) = (Source::new(shape.size), Check::new(shape.size));
            while check.look(rx.recv().unwrap()).unwrap() != Seen::End {
                source.emit(|message| tx.send(message)).unwrap();
            }
        });
        let (mut tx, mut rx) = T::ends(client, Side::Client, &shape).unwrap();
        let (mut source, mut check) = (Source::new(shape.size), Check::new(shape.size));
        for number in 0..trips {
            source.emit(|message| tx.send(message)).unwrap();
            assert_eq!(check.look(rx.recv().unwrap()), Ok(Seen::Next(number)));
        }
        source.end(|message| tx.send(message)).unwrap();
    });
    drop(names);
    Ok(())
}

#[test]
fn every_transport_carries_messages_of_every_size_in_every_manner() {
    for name in Name::ALL {
        for wait in [Wait::Spin, Wait::Adaptive, Wait::Block] {
            for size in [8, 13, 57, 64, 4096] {
                let carried = with!(name, T => carry::<T>(Shape { size, wait }, 20));
                // Message queues are the one thing that a small machine may lack at such sizes.
                assert!(carried.is_ok() || name == Name::Mqueue, "{name:?}: {carried:?}");
            }
        }
    }
}

#[test]
fn a_slot_between_threads_carries_messages_of_every_size_in_every_manner() {
    for wait in [Wait::Spin, Wait::Adaptive, Wait::Block] {
        for size in [8, 13, 57, 64, 4096] {
            assert_eq!(carry::<Threads>(Shape { size, wait }, 2000), Ok(()));
        }
    }
}

/// One end that goes after a message, and another that goes on.
fn part<T: Transport>(wait: Wait) {
    let shape = Shape { size: 8, wait };
    let _watch = watched(format!("{} is left, {wait:?}", type_name::<T>()));
    let laid = T::lay(&shape).unwrap_or_else(|refusal| panic!("{refusal:?}"));
    let (client, server, names) = (laid.client, laid.server, laid.names);
    let (mut tx, mut rx) = T::ends(client, Side::Client, &shape).unwrap();
    thread::scope(|scope| {
        let other = scope.spawn(move || {
            let (_tx, mut rx) = T::ends(server, Side::Server, &shape).unwrap();
            rx.recv().unwrap().to_vec()
        });
        tx.send(b"the last").unwrap();
        // What was sent before is there all the same, and then nothing more is taken or given.
        assert!(rx.recv().is_err());
        assert_eq!(other.join().unwrap(), b"the last");
    });
    assert!(tx.send(b"too late").is_ok() && tx.send(b"too late").is_err());
    drop(names);
}

#[test]
fn whoever_waits_at_a_slot_learns_that_the_other_is_gone() {
    for wait in [Wait::Spin, Wait::Adaptive, Wait::Block] {
        part::<Threads>(wait);
        part::<Futex>(wait);
    }
}

#[test]
fn a_sender_at_a_slot_waits_until_the_last_message_was_taken() {
    for wait in [Wait::Spin, Wait::Adaptive, Wait::Block] {
        let shape = Shape { size: 100, wait };
        for stream in [stream::<Threads>, stream::<Futex>] {
            assert_eq!(stream(shape, 1000), 1000, "{wait:?}");
        }
    }
}

/// So many messages, one behind the other; how many arrived as they were sent.
fn stream<T: Transport>(shape: Shape, messages: u64) -> u64 {
    let _watch = watched(format!("{} streams {shape:?}", type_name::<T>()));
    let laid = T::lay(&shape).unwrap_or_else(|refusal| panic!("{refusal:?}"));
    let (client, server, names) = (laid.client, laid.server, laid.names);
    let arrived = thread::scope(|scope| {
        let other = scope.spawn(move || {
            let (_tx, mut rx) = T::ends(server, Side::Server, &shape).unwrap();
            let (mut check, mut arrived) = (Check::new(shape.size), 0);
            while check.look(rx.recv().unwrap()).unwrap() != Seen::End {
                arrived += 1;
            }
            arrived
        });
        let (mut tx, _rx) = T::ends(client, Side::Client, &shape).unwrap();
        let mut source = Source::new(shape.size);
        for _ in 0..messages {
            source.emit(|message| tx.send(message)).unwrap();
        }
        source.end(|message| tx.send(message)).unwrap();
        other.join().unwrap()
    });
    drop(names);
    arrived
}

#[test]
fn a_slot_between_threads_is_not_to_be_had_without_its_name() {
    let shape = Shape { size: 8, wait: Wait::Block };
    let laid = Threads::lay(&shape).unwrap_or_else(|refusal| panic!("{refusal:?}"));
    drop(laid.names);
    let error = Threads::ends(laid.client, Side::Client, &shape).unwrap_err();
    assert!(error.to_string().contains("this process"), "{error}");
}

#[test]
fn a_message_that_a_queue_does_not_take_is_refused_in_a_sentence() {
    let shape = Shape { size: 1 << 20, wait: Wait::Block };
    // Whoever has the privilege, and the room, may carry it.
    if let Err(why) = carry::<quoit_transports::Mqueue>(shape, 1) {
        assert!(why.contains("queue"), "{why}");
    }
    match carry::<quoit_transports::UnixSeqpacket>(shape, 1) {
        Ok(()) => {}
        Err(why) => assert!(why.contains("1048576"), "{why}"),
    }
}

#[test]
fn a_mebibyte_goes_through_whatever_has_no_limit() {
    for name in [
        Name::Floor,
        Name::Futex,
        Name::Spsc,
        Name::Mpmc,
        Name::Pipe,
        Name::UnixStream,
        Name::Tcp,
        Name::Eventfd,
    ] {
        let shape = Shape { size: 1 << 20, wait: Wait::Adaptive };
        assert_eq!(with!(name, T => carry::<T>(shape, 3)), Ok(()), "{name:?}");
    }
}
