//! The rings that ship, through their public face.
//!
//! It knows how to name a ring for one burst and how each end opens it. It refuses to know what is inside: validation,
//! liveness, wake-ups and crash repair are all there, and what they cost is the difference to `bare`,
//! or to `textbook`.

use std::marker::PhantomData;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use quoit::{Options, Wait, mpmc, spsc};

use super::proc::Arena;
use super::work::Job;
use super::{Candidate, Rx, Tx, Way};

/// How the ends of a burst behave.
pub(crate) trait Manner: 'static {
    /// How a handle waits.
    const WAIT: Wait = Wait::Spin;
    /// Whether the receiver copies the payload out, as safe code does, instead of reading it in place.
    const COPY_OUT: bool = false;
}

/// Spins, reads in place.
#[derive(Debug)]
pub(crate) struct Spins;
impl Manner for Spins {}

/// Waits as a handle does by default, reads in place.
#[derive(Debug)]
pub(crate) struct Adapts;
impl Manner for Adapts {
    const WAIT: Wait = Wait::Adaptive;
}

/// Spins, copies out.
#[derive(Debug)]
pub(crate) struct Copies;
impl Manner for Copies {
    const COPY_OUT: bool = true;
}

/// The names of two rings, which go with their creator.
#[derive(Debug)]
struct Names {
    names: [PathBuf; 2],
    creator: u32,
}

impl Names {
    /// Draws two names and makes a ring of each.
    fn draw(create: impl Fn(&str)) -> Names {
        static BURSTS: AtomicU32 = AtomicU32::new(0);
        let (creator, burst) = (std::process::id(), BURSTS.fetch_add(1, Relaxed));
        let name = |way| PathBuf::from(format!("/dev/shm/quoit-bench-{creator}-{burst}-{way}"));
        let names = Names { names: [name("there"), name("back")], creator };
        create(names.of(Way::There));
        create(names.of(Way::Back));
        names
    }

    fn of(&self, way: Way) -> &str {
        self.names[usize::from(way == Way::Back)].to_str().expect("plain")
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        if std::process::id() == self.creator {
            for way in [Way::There, Way::Back] {
                let _ = quoit::unlink(self.of(way));
            }
        }
    }
}

/// Two rings of one sender and one receiver each.
#[derive(Debug)]
pub(crate) struct Quoit<M> {
    names: Names,
    capacity: usize,
    manner: PhantomData<M>,
}

impl<M: Manner> Candidate for Quoit<M> {
    type Tx = QuoitTx<M>;
    type Rx = QuoitRx<M>;

    fn lay(_: &Rc<Arena>, job: &Job) -> Self {
        let options = Options::new().capacity(job.capacity);
        let names =
            Names::draw(|name| spsc::create(name, &options).expect("there is room for a ring"));
        Quoit { names, capacity: job.capacity, manner: PhantomData }
    }

    fn tx(&self, way: Way) -> QuoitTx<M> {
        let mut end = spsc::Sender::open(self.names.of(way)).expect("made before the fork");
        end.set_wait(M::WAIT);
        QuoitTx { end, manner: PhantomData }
    }

    fn rx(&self, way: Way) -> QuoitRx<M> {
        let mut end = spsc::Receiver::open(self.names.of(way)).expect("made before the fork");
        end.set_wait(M::WAIT);
        QuoitRx { end, out: vec![0; self.capacity / 2], manner: PhantomData }
    }
}

/// The sending end.
#[derive(Debug)]
pub(crate) struct QuoitTx<M> {
    end: spsc::Sender,
    manner: PhantomData<M>,
}

impl<M: Manner> Tx for QuoitTx<M> {
    #[inline(always)]
    fn send(&mut self, payload: &[u8]) {
        self.end.send(payload).expect("the receiver is there");
    }
}

/// The receiving end.
#[derive(Debug)]
pub(crate) struct QuoitRx<M> {
    end: spsc::Receiver,
    out: Vec<u8>,
    manner: PhantomData<M>,
}

impl<M: Manner> Rx for QuoitRx<M> {
    #[inline(always)]
    fn recv<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> R {
        let message = self.end.recv().expect("the sender is there");
        if M::COPY_OUT {
            let len = message.copy_to(&mut self.out);
            look(&self.out[..len])
        } else {
            // SAFETY: both processes of a burst are this program, and the name of its rings is its own.
            look(unsafe { message.as_slice() })
        }
    }
}

/// Two rings of slots, with one sender and one receiver each.
#[derive(Debug)]
pub(crate) struct Mpmc<M> {
    names: Names,
    max_len: usize,
    manner: PhantomData<M>,
}

impl<M: Manner> Candidate for Mpmc<M> {
    type Tx = MpmcTx<M>;
    type Rx = MpmcRx<M>;

    fn lay(_: &Rc<Arena>, job: &Job) -> Self {
        let options = Options::new().capacity(job.slots).max_len(job.size);
        let names =
            Names::draw(|name| mpmc::create(name, &options).expect("there is room for a ring"));
        Mpmc { names, max_len: job.size, manner: PhantomData }
    }

    fn tx(&self, way: Way) -> MpmcTx<M> {
        let end = mpmc::Sender::open(self.names.of(way)).expect("made before the fork");
        end.set_wait(M::WAIT);
        MpmcTx { end, manner: PhantomData }
    }

    fn rx(&self, way: Way) -> MpmcRx<M> {
        let end = mpmc::Receiver::open(self.names.of(way)).expect("made before the fork");
        end.set_wait(M::WAIT);
        MpmcRx { end, out: vec![0; self.max_len], manner: PhantomData }
    }
}

/// The sending end.
#[derive(Debug)]
pub(crate) struct MpmcTx<M> {
    end: mpmc::Sender,
    manner: PhantomData<M>,
}

impl<M: Manner> Tx for MpmcTx<M> {
    #[inline(always)]
    fn send(&mut self, payload: &[u8]) {
        self.end.send(payload).expect("a receiver is there");
    }
}

/// The receiving end.
#[derive(Debug)]
pub(crate) struct MpmcRx<M> {
    end: mpmc::Receiver,
    out: Vec<u8>,
    manner: PhantomData<M>,
}

impl<M: Manner> Rx for MpmcRx<M> {
    #[inline(always)]
    fn recv<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> R {
        let message = self.end.recv().expect("a sender is there");
        if M::COPY_OUT {
            let len = message.copy_to(&mut self.out);
            look(&self.out[..len])
        } else {
            // SAFETY: both processes of a burst are this program, and the name of its rings is its own.
            look(unsafe { message.as_slice() })
        }
    }
}
