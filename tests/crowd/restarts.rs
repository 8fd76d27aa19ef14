//! Whoever is killed, its successor comes at once: at either end of either ring, by each way to come, also when the one before
//! was killed while it came, and while the name is given and taken away.
//!
//! A process comes, exchanges messages as they are there, and is killed, mostly while it still comes. At no time are there two for
//! one end, so no answer but success has an excuse: of `create` that the name is there, of `open` that it is not.

use std::time::Duration;

use quoit::{OpenError, Options, mpmc, spsc};

use crate::books::id_of;
use crate::harness::{Process, Random, Ring, Shape, now, say, sized};
use crate::names::nothing_is_left;
use crate::notes::{DOING, Doing, Histogram, LONGEST, READY};
use crate::toll::{Death, Toll};
use crate::worker::{Refusal, Worker, body, id_in};

/// How long a receiver waits for a message.
const A_MOMENT: Duration = Duration::from_millis(1);

const KINDS: [&str; 2] = ["bytes", "slots"];
const ROLES: [&str; 2] = ["sender", "receiver"];
const WAYS: [&str; 3] = ["open", "create", "open_or_create"];

fn name(path: &str, kind: &str) -> String {
    format!("{path}.{kind}")
}

/// One end of a ring, of whichever kind.
trait End: Sized {
    fn open(name: &str) -> Result<Self, OpenError>;
    fn create(name: &str, options: &Options) -> Result<Self, OpenError>;
    fn open_or_create(name: &str, options: &Options) -> Result<Self, OpenError>;
    /// Exchanges a message if that can be done at once.
    fn exchange(&mut self, worker: &mut Worker, number: u64);
}

macro_rules! ends {
    ($($end:ty)*, |$it:ident, $worker:ident, $number:ident| $exchange:block) => {$(
        impl End for $end {
            fn open(name: &str) -> Result<Self, OpenError> {
                <$end>::open(name)
            }
            fn create(name: &str, options: &Options) -> Result<Self, OpenError> {
                <$end>::create(name, options)
            }
            fn open_or_create(name: &str, options: &Options) -> Result<Self, OpenError> {
                <$end>::open_or_create(name, options)
            }
            fn exchange(&mut self, $worker: &mut Worker, $number: u64) {
                let $it = self;
                $exchange
            }
        }
    )*};
}

ends!(spsc::Sender mpmc::Sender, |tx, worker, number| {
    let message = body(number);
    let _ = worker.call(Doing::Sending, None, || tx.try_send(&message)).map_err(Refusal::from);
});

ends!(spsc::Receiver mpmc::Receiver, |rx, worker, _number| {
    let took = worker.call(Doing::Receiving, Some(A_MOMENT), || rx.recv_timeout(A_MOMENT));
    if let Ok(message) = took.map_err(Refusal::from) {
        worker.doing(Doing::InHand);
        id_in(&message.to_vec());
        worker.call(Doing::Releasing, None, || drop(message));
    }
});

/// Comes to a ring in one way, and exchanges messages until it is killed.
pub(crate) fn take_part(worker: &mut Worker, kind: &str, role: &str, way: &str) {
    let options = match kind {
        "bytes" => Options::new().capacity(4096),
        _ => Options::new().capacity(8).max_len(512),
    };
    match (kind, role) {
        ("bytes", "sender") => work::<spsc::Sender>(worker, kind, way, &options),
        ("bytes", _) => work::<spsc::Receiver>(worker, kind, way, &options),
        (_, "sender") => work::<mpmc::Sender>(worker, kind, way, &options),
        _ => work::<mpmc::Receiver>(worker, kind, way, &options),
    }
}

fn work<E: End>(worker: &mut Worker, kind: &str, way: &str, options: &Options) {
    let name = name(&worker.path, kind);
    let open_or_create = || E::open_or_create(&name, options);
    let came = worker.call(Doing::Opening, None, || match way {
        "open" => E::open(&name),
        "create" => E::create(&name, options),
        _ => open_or_create(),
    });
    let mut end = match (way, came) {
        ("open", Err(OpenError::NotFound { .. }))
        | ("create", Err(OpenError::AlreadyExists { .. })) => {
            worker.call(Doing::Opening, None, open_or_create).unwrap()
        }
        (_, came) => came.unwrap(),
    };
    worker.ready(1);
    for seq in 0.. {
        end.exchange(worker, id_of(worker.number, seq));
        worker.linger();
    }
}

/// Those who were killed, and how long those took who came.
struct Starts {
    toll: Toll,
    killed: [u64; KINDS.len()],
    came: [u64; WAYS.len()],
    took: Histogram,
}

impl Starts {
    /// Kills somebody, who has not ended by itself.
    fn end(&mut self, seat: &mut Seat) {
        let death = Death::begin(&seat.process);
        self.toll.end(&mut seat.process, &death);
        let journal = &seat.process.journal;
        self.toll.gone(journal);
        self.killed[seat.kind] += 1;
        if journal.get(READY) > 0 {
            self.came[seat.way] += 1;
            self.took.note(journal.get(LONGEST + Doing::Opening as usize));
        }
    }
}

/// One end of one ring, and who is there.
struct Seat {
    kind: usize,
    role: usize,
    way: usize,
    process: Process,
}

impl Seat {
    fn taken(ring: &Ring, kind: usize, role: usize, random: &mut Random) -> Seat {
        let way = random.below(WAYS.len() as u64) as usize;
        let work = format!("restart {} {} {}", KINDS[kind], ROLES[role], WAYS[way]);
        Seat { kind, role, way, process: ring.process(&work, 0) }
    }
}

#[test]
fn whoever_is_killed_at_any_moment_of_its_start_too_its_successor_comes_at_once() {
    let ring = Ring::new(Shape::default()).with_nursery();
    let mut random = Random::seeded("restarts");
    let mut seats: Vec<_> = (0..KINDS.len())
        .flat_map(|kind| (0..ROLES.len()).map(move |role| (kind, role)))
        .map(|(kind, role)| Seat::taken(&ring, kind, role, &mut random))
        .collect();
    let mut starts = Starts {
        toll: Toll::new(),
        killed: [0; KINDS.len()],
        came: [0; WAYS.len()],
        took: Histogram::new(),
    };
    let least = sized(100, 10_000);
    let mut last = 0;
    while starts.killed.iter().any(|killed| *killed < least) {
        if random.once_in(16) {
            // Whoever is there stays with those who are there.
            let gone = name(&ring.path, KINDS[random.below(KINDS.len() as u64) as usize]);
            let unlinked = quoit::unlink(&gone);
            assert!(matches!(unlinked, Ok(()) | Err(OpenError::NotFound { .. })), "{unlinked:?}");
        }
        if random.once_in(2) {
            // The one who has just begun, wherever it is; or not before it makes its first call.
            if random.once_in(2) {
                while seats[last].process.journal.get(DOING) == Doing::Starting as u64 {
                    std::hint::spin_loop();
                }
            }
            let until = now() + random.below(200_000);
            while now() < until {
                std::hint::spin_loop();
            }
        } else {
            last = random.below(seats.len() as u64) as usize;
            seats[last].process.ready(&ring, 1);
            std::thread::sleep(Duration::from_micros(random.below(300)));
        }
        let seat = &mut seats[last];
        starts.end(seat);
        *seat = Seat::taken(&ring, seat.kind, seat.role, &mut random);
        ring.alive();
    }
    for seat in &mut seats {
        seat.process.ready(&ring, 1);
        starts.end(seat);
    }
    for kind in KINDS {
        let _ = quoit::unlink(&name(&ring.path, kind));
    }
    nothing_is_left(&ring);
    let each = |names: &[&str], counts: &[u64]| -> String {
        let each: Vec<_> =
            names.iter().zip(counts).map(|(name, count)| format!("{name} {count}")).collect();
        each.join(", ")
    };
    say(&format!(
        "restarts: {} killed; {} came, by {}, 0 failed; a start took {}\n{}",
        each(&KINDS, &starts.killed),
        starts.took.count(),
        each(&WAYS, &starts.came),
        starts.took.show(),
        starts.toll.show()
    ));
}
