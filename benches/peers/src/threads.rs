//! Channels between two threads: typed queues that move arrays by value, and the rings of `quoit` on the heap.
//!
//! It knows how each queue is made, filled and emptied by one attempt. How an end waits is in `spin`, the same for all.

use std::io;
use std::marker::PhantomData;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};

use quoit_measure::{Channel, Crowded, Job, Kind, Outcome, crowd, together};
use quoit_transports::{Kit, Mpmc, MpmcRx, MpmcTx, Refusal, Rx, Shape, Spsc, SpscRx, SpscTx, Tx};
use ringbuf::traits::{Consumer as _, Producer as _, Split as _};

use crate::spin;

/// A queue of arrays, for each length of them.
pub(crate) trait Queue<const N: usize>: 'static {
    /// The sending end.
    type Tx: Send + 'static;
    /// The receiving end.
    type Rx: Send + 'static;

    /// Makes one with that many places.
    fn make(places: usize) -> (Self::Tx, Self::Rx);
    /// Whether there was room for it.
    fn put(tx: &mut Self::Tx, message: [u8; N]) -> bool;
    /// The next, if there is one.
    fn take(rx: &mut Self::Rx) -> Option<[u8; N]>;
}

/// A queue whose ends may be many.
pub(crate) trait Many<const N: usize>: Queue<N> {
    /// One more end of each kind.
    fn more(tx: &Self::Tx, rx: &Self::Rx) -> (Self::Tx, Self::Rx);
}

/// Such a queue as a channel of messages of that length.
struct Typed<Q>(PhantomData<Q>);

struct ByValue<Q, const N: usize>(PhantomData<Q>);

impl<Q: Queue<N>, const N: usize> Channel for ByValue<Q, N> {
    type Tx = TypedTx<Q, N>;
    type Rx = TypedRx<Q, N>;

    fn make(shape: &Shape) -> Result<(Self::Tx, Self::Rx), Refusal> {
        let (tx, rx) = Q::make(Mpmc::slots(shape));
        Ok((TypedTx(tx), TypedRx { end: rx, message: [0; N] }))
    }
}

impl<Q: Many<N>, const N: usize> Crowded for ByValue<Q, N> {
    fn more(tx: &Self::Tx, rx: &Self::Rx) -> (Self::Tx, Self::Rx) {
        let (tx, rx) = Q::more(&tx.0, &rx.end);
        (TypedTx(tx), TypedRx { end: rx, message: [0; N] })
    }
}

/// The sending end.
struct TypedTx<Q: Queue<N>, const N: usize>(Q::Tx);

impl<Q: Queue<N>, const N: usize> Tx for TypedTx<Q, N> {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let message = message.try_into().map_err(io::Error::other)?;
        spin::until(|| Q::put(&mut self.0, message).then_some(()));
        Ok(())
    }
}

/// The receiving end.
struct TypedRx<Q: Queue<N>, const N: usize> {
    end: Q::Rx,
    message: [u8; N],
}

impl<Q: Queue<N>, const N: usize> Rx for TypedRx<Q, N> {
    #[inline(always)]
    fn recv(&mut self) -> io::Result<&[u8]> {
        self.message = spin::until(|| Q::take(&mut self.end));
        Ok(&self.message)
    }
}

/// Does the same with the array of a message's length.
macro_rules! sized {
    ($job:expr, $N:ident => $do:expr; $($size:literal)*) => {
        match $job.shape().size {
            $($size => {
                const $N: usize = $size;
                $do
            })*
            size => Err(io::Error::other(format!("no array has {size} bytes here"))),
        }
    };
}

/// Lengths that there are arrays of.
const SIZES: [usize; 5] = [8, 64, 256, 1024, 4096];

fn fits(shape: &Shape) -> Result<(), Refusal> {
    match SIZES.contains(&shape.size) {
        true => Ok(()),
        false => Err(Refusal::Here(format!("it moves arrays by value, here of {SIZES:?} bytes"))),
    }
}

/// A queue that is asked of one sender and one receiver.
pub(crate) fn queue<Q>() -> Kind
where
    Q: Queue<8> + Queue<64> + Queue<256> + Queue<1024> + Queue<4096>,
{
    Kind::together(fits, Typed::<Q>::two, None)
}

/// A queue that is asked of two and two as well.
pub(crate) fn many<Q>() -> Kind
where
    Q: Many<8> + Many<64> + Many<256> + Many<1024> + Many<4096>,
{
    Kind::together(fits, Typed::<Q>::two, Some(Typed::<Q>::four))
}

impl<Q> Typed<Q> {
    fn two(job: &Job, kit: Kit, control: &mut UnixStream) -> io::Result<Vec<Outcome>>
    where
        Q: Queue<8> + Queue<64> + Queue<256> + Queue<1024> + Queue<4096>,
    {
        sized!(job, N => together::<ByValue<Q, N>>(job, kit, control); 8 64 256 1024 4096)
    }

    fn four(job: &Job, kit: Kit, control: &mut UnixStream) -> io::Result<Vec<Outcome>>
    where
        Q: Many<8> + Many<64> + Many<256> + Many<1024> + Many<4096>,
    {
        sized!(job, N => crowd::<ByValue<Q, N>>(job, kit, control); 8 64 256 1024 4096)
    }
}

/// `quoit::spsc::channel`.
pub(crate) struct QuoitSpsc;

impl Channel for QuoitSpsc {
    type Tx = SpscTx;
    type Rx = SpscRx;

    fn make(shape: &Shape) -> Result<(SpscTx, SpscRx), Refusal> {
        Ok(Spsc::channel(shape)?)
    }
}

impl QuoitSpsc {
    pub(crate) fn kind() -> Kind {
        Kind::together(|_| Ok(()), together::<QuoitSpsc>, None)
    }
}

/// `quoit::mpmc::channel`.
pub(crate) struct QuoitMpmc;

impl Channel for QuoitMpmc {
    type Tx = MpmcTx;
    type Rx = MpmcRx;

    fn make(shape: &Shape) -> Result<(MpmcTx, MpmcRx), Refusal> {
        Ok(Mpmc::channel(shape)?)
    }
}

impl Crowded for QuoitMpmc {
    fn more(tx: &MpmcTx, rx: &MpmcRx) -> (MpmcTx, MpmcRx) {
        (tx.clone(), rx.clone())
    }
}

impl QuoitMpmc {
    pub(crate) fn kind() -> Kind {
        Kind::together(|_| Ok(()), together::<QuoitMpmc>, Some(crowd::<QuoitMpmc>))
    }
}

/// Whoever knows the queue can be at both ends.
macro_rules! shared {
    ($Queue:ident) => {
        impl<const N: usize> Many<N> for $Queue {
            fn more(tx: &Self::Tx, rx: &Self::Rx) -> (Self::Tx, Self::Rx) {
                (tx.clone(), rx.clone())
            }
        }
    };
}

/// `rtrb::RingBuffer`.
pub(crate) struct Rtrb;

impl<const N: usize> Queue<N> for Rtrb {
    type Tx = rtrb::Producer<[u8; N]>;
    type Rx = rtrb::Consumer<[u8; N]>;

    fn make(places: usize) -> (Self::Tx, Self::Rx) {
        rtrb::RingBuffer::new(places)
    }

    #[inline(always)]
    fn put(tx: &mut Self::Tx, message: [u8; N]) -> bool {
        tx.push(message).is_ok()
    }

    #[inline(always)]
    fn take(rx: &mut Self::Rx) -> Option<[u8; N]> {
        rx.pop().ok()
    }
}

/// `ringbuf::HeapRb`.
pub(crate) struct Ringbuf;

impl<const N: usize> Queue<N> for Ringbuf {
    type Tx = ringbuf::HeapProd<[u8; N]>;
    type Rx = ringbuf::HeapCons<[u8; N]>;

    fn make(places: usize) -> (Self::Tx, Self::Rx) {
        ringbuf::HeapRb::new(places).split()
    }

    #[inline(always)]
    fn put(tx: &mut Self::Tx, message: [u8; N]) -> bool {
        tx.try_push(message).is_ok()
    }

    #[inline(always)]
    fn take(rx: &mut Self::Rx) -> Option<[u8; N]> {
        rx.try_pop()
    }
}

/// `crossbeam_queue::ArrayQueue`.
pub(crate) struct ArrayQueue;

impl<const N: usize> Queue<N> for ArrayQueue {
    type Tx = Arc<crossbeam_queue::ArrayQueue<[u8; N]>>;
    type Rx = Self::Tx;

    fn make(places: usize) -> (Self::Tx, Self::Rx) {
        let queue = Arc::new(crossbeam_queue::ArrayQueue::new(places));
        (Arc::clone(&queue), queue)
    }

    #[inline(always)]
    fn put(tx: &mut Self::Tx, message: [u8; N]) -> bool {
        tx.push(message).is_ok()
    }

    #[inline(always)]
    fn take(rx: &mut Self::Rx) -> Option<[u8; N]> {
        rx.pop()
    }
}

shared!(ArrayQueue);

/// `crossbeam_channel::bounded`.
pub(crate) struct CrossbeamChannel;

impl<const N: usize> Queue<N> for CrossbeamChannel {
    type Tx = crossbeam_channel::Sender<[u8; N]>;
    type Rx = crossbeam_channel::Receiver<[u8; N]>;

    fn make(places: usize) -> (Self::Tx, Self::Rx) {
        crossbeam_channel::bounded(places)
    }

    #[inline(always)]
    fn put(tx: &mut Self::Tx, message: [u8; N]) -> bool {
        tx.try_send(message).is_ok()
    }

    #[inline(always)]
    fn take(rx: &mut Self::Rx) -> Option<[u8; N]> {
        rx.try_recv().ok()
    }
}

shared!(CrossbeamChannel);

/// `flume::bounded`.
pub(crate) struct Flume;

impl<const N: usize> Queue<N> for Flume {
    type Tx = flume::Sender<[u8; N]>;
    type Rx = flume::Receiver<[u8; N]>;

    fn make(places: usize) -> (Self::Tx, Self::Rx) {
        flume::bounded(places)
    }

    #[inline(always)]
    fn put(tx: &mut Self::Tx, message: [u8; N]) -> bool {
        tx.try_send(message).is_ok()
    }

    #[inline(always)]
    fn take(rx: &mut Self::Rx) -> Option<[u8; N]> {
        rx.try_recv().ok()
    }
}

shared!(Flume);

/// `kanal::bounded`.
pub(crate) struct Kanal;

impl<const N: usize> Queue<N> for Kanal {
    type Tx = kanal::Sender<[u8; N]>;
    type Rx = kanal::Receiver<[u8; N]>;

    fn make(places: usize) -> (Self::Tx, Self::Rx) {
        kanal::bounded(places)
    }

    #[inline(always)]
    fn put(tx: &mut Self::Tx, message: [u8; N]) -> bool {
        tx.try_send(message).unwrap_or(false)
    }

    #[inline(always)]
    fn take(rx: &mut Self::Rx) -> Option<[u8; N]> {
        rx.try_recv().ok().flatten()
    }
}

shared!(Kanal);

/// `thingbuf::ThingBuf`, which is written and read in place.
pub(crate) struct Thingbuf;

/// An array that a `ThingBuf` takes: it wants a default.
#[derive(Clone)]
pub(crate) struct Slot<const N: usize>([u8; N]);

impl<const N: usize> Default for Slot<N> {
    fn default() -> Self {
        Slot([0; N])
    }
}

impl<const N: usize> Queue<N> for Thingbuf {
    type Tx = Arc<thingbuf::ThingBuf<Slot<N>>>;
    type Rx = Self::Tx;

    fn make(places: usize) -> (Self::Tx, Self::Rx) {
        let queue = Arc::new(thingbuf::ThingBuf::new(places));
        (Arc::clone(&queue), queue)
    }

    #[inline(always)]
    fn put(tx: &mut Self::Tx, message: [u8; N]) -> bool {
        tx.push_with(|slot| slot.0 = message).is_ok()
    }

    #[inline(always)]
    fn take(rx: &mut Self::Rx) -> Option<[u8; N]> {
        rx.pop_with(|slot| slot.0)
    }
}

shared!(Thingbuf);

/// `std::sync::mpsc::sync_channel`.
pub(crate) struct Std;

impl<const N: usize> Queue<N> for Std {
    type Tx = mpsc::SyncSender<[u8; N]>;
    type Rx = mpsc::Receiver<[u8; N]>;

    fn make(places: usize) -> (Self::Tx, Self::Rx) {
        mpsc::sync_channel(places)
    }

    #[inline(always)]
    fn put(tx: &mut Self::Tx, message: [u8; N]) -> bool {
        tx.try_send(message).is_ok()
    }

    #[inline(always)]
    fn take(rx: &mut Self::Rx) -> Option<[u8; N]> {
        rx.try_recv().ok()
    }
}
