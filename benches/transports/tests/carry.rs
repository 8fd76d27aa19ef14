//! Every transport carries what it is given, in every manner of waiting. The two ends are threads here: what is tested
//! is the transport, not its speed.

use std::thread;

use quoit_transports::{
    Check, Futex, Name, Refusal, Rx, Seen, Shape, Side, Source, Transport, Tx, Wait, with,
};

fn carry<T: Transport>(shape: Shape, trips: u64) -> Result<(), String> {
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
            assert_eq!(carry::<Futex>(Shape { size, wait }, 2000), Ok(()));
        }
    }
}

#[test]
fn whoever_waits_at_a_slot_between_threads_learns_that_the_other_is_gone() {
    for wait in [Wait::Spin, Wait::Adaptive, Wait::Block] {
        let shape = Shape { size: 8, wait };
        let laid = Futex::lay(&shape).unwrap_or_else(|refusal| panic!("{refusal:?}"));
        let (client, server, names) = (laid.client, laid.server, laid.names);
        let (mut tx, mut rx) = Futex::ends(client, Side::Client, &shape).unwrap();
        thread::scope(|scope| {
            let other = scope.spawn(move || {
                let (_tx, mut rx) = Futex::ends(server, Side::Server, &shape).unwrap();
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
}

#[test]
fn a_slot_between_threads_is_not_to_be_had_without_its_name() {
    let shape = Shape { size: 8, wait: Wait::Block };
    let laid = Futex::lay(&shape).unwrap_or_else(|refusal| panic!("{refusal:?}"));
    drop(laid.names);
    let error = Futex::ends(laid.client, Side::Client, &shape).unwrap_err();
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
