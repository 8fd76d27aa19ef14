//! Single calls of one thread that holds both ends of a ring: the price of a call that waits for nobody.
//!
//! It knows the verbs that both kinds of ring share, and where a ring for them lies. It refuses to know other processes:
//! every line is in this core's cache, so no figure here says what a message costs between two.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use quoit::{Options, TryRecvError, TrySendError, mpmc, spsc, unlink};
use tempfile::TempDir;

const SIZES: [usize; 3] = [8, 64, 1024];
/// Of the rows that are about one size.
const SIZE: usize = 64;
/// Messages of a batch.
const BATCH: usize = 16;

/// Shorter than between two processes: nobody has to be found on another core.
const MEASURED: Duration = Duration::from_millis(400);

/// A folder for rings, in shared memory as rings are.
fn folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("quoit-groups-").tempdir_in("/dev/shm");
    folder.expect("a folder in /dev/shm")
}

/// The rows of one kind of ring. Its verbs are those of the other.
macro_rules! rows {
    ($name:ident, $kind:ident, $options:expr) => {
        // Ends of one kind are taken exclusively, those of the other are shared.
        #[allow(unused_mut)]
        fn $name(criterion: &mut Criterion) {
            let options: Options = $options;
            let kind = stringify!($kind);
            let folder = folder();
            let path = |name: &str| folder.path().join(name).to_str().expect("ASCII").to_owned();
            let id = |what: &str, size: usize| BenchmarkId::new(format!("{kind}/{what}"), size);
            let mut rows = criterion.benchmark_group("operations");
            rows.measurement_time(MEASURED);

            let name = path("ring");
            let mut tx = $kind::Sender::create(&name, &options).expect("a new ring");
            let mut rx = $kind::Receiver::open(&name).expect("the same ring");
            let mut out = [0; 1024];
            for size in SIZES {
                let message = vec![7; size];
                rows.throughput(Throughput::Bytes(size as u64));
                rows.bench_function(id("try_send+try_recv", size), |b| {
                    b.iter(|| {
                        tx.try_send(black_box(&message)).expect("room");
                        let len = rx.try_recv().expect("what was sent").copy_to(&mut out);
                        assert_eq!(black_box(&mut out)[..len], message);
                    });
                });
                rows.bench_function(id("reserve+commit+try_recv", size), |b| {
                    b.iter(|| {
                        let mut place = tx.try_reserve(size).expect("room");
                        place
                            .write_at(0, black_box(&message))
                            .expect("as long as it was asked for");
                        place.commit().expect("a receiver");
                        let len = rx.try_recv().expect("what was sent").copy_to(&mut out);
                        assert_eq!(black_box(&mut out)[..len], message);
                    });
                });
            }
            let message = vec![7; SIZE];
            let batch = [[7; SIZE]; BATCH];
            rows.throughput(Throughput::Elements(BATCH as u64));
            rows.bench_function(id("try_send_batch+try_recv", BATCH), |b| {
                b.iter(|| {
                    assert_eq!(tx.try_send_batch(black_box(&batch)).expect("room"), BATCH);
                    for _ in 0..BATCH {
                        let len = rx.try_recv().expect("what was sent").copy_to(&mut out);
                        assert_eq!(black_box(&mut out)[..len], message);
                    }
                });
            });
            drop(rows);

            let id = |what: &str| format!("{kind}/{what}");
            let mut rows = criterion.benchmark_group("operations");
            rows.measurement_time(MEASURED);
            rows.bench_function(id("try_recv on empty"), |b| {
                b.iter(|| assert!(matches!(rx.try_recv(), Err(TryRecvError::Empty))));
            });
            for _ in 0..3 {
                tx.try_send(&message).expect("room");
            }
            rows.bench_function(id("len"), |b| b.iter(|| assert_ne!(black_box(rx.len()), 0)));
            rows.bench_function(id("is_empty"), |b| b.iter(|| assert!(!black_box(rx.is_empty()))));
            while tx.try_send(&message).is_ok() {}
            rows.bench_function(id("try_send on full"), |b| {
                b.iter(|| {
                    let sent = tx.try_send(black_box(&message));
                    assert!(matches!(sent, Err(TrySendError::Full)));
                });
            });
            drop((tx, rx));

            let (new, old) = (path("new"), path("old"));
            rows.bench_function(id("create+open+drop+unlink"), |b| {
                b.iter(|| {
                    let tx = $kind::Sender::create(&new, &options).expect("a new ring");
                    let rx = $kind::Receiver::open(&new).expect("the same ring");
                    drop((tx, rx));
                    unlink(&new).expect("nobody else does");
                });
            });
            $kind::create(&old, &options.keep_open(true)).expect("a new ring");
            rows.bench_function(id("attach+detach"), |b| {
                b.iter(|| drop(black_box($kind::Receiver::open(&old).expect("an old ring"))));
            });
        }
    };
}

rows!(bytes, spsc, Options::new().capacity(64 * 1024));
rows!(slots, mpmc, Options::new().capacity(64).max_len(1024));

/// What only a ring of slots has: many messages in hand at once.
fn taken_together(criterion: &mut Criterion) {
    let options = Options::new().capacity(64).max_len(SIZE);
    let (tx, rx) = mpmc::channel(&options).expect("memory for a ring");
    let batch = [[7; SIZE]; BATCH];
    let mut taken = Vec::with_capacity(BATCH);
    let mut rows = criterion.benchmark_group("operations");
    rows.measurement_time(MEASURED).throughput(Throughput::Elements(BATCH as u64));
    rows.bench_function(BenchmarkId::new("mpmc/try_send_batch+try_recv_batch", BATCH), |b| {
        b.iter(|| {
            assert_eq!(tx.try_send_batch(black_box(&batch)).expect("room"), BATCH);
            assert_eq!(rx.try_recv_batch(&mut taken, BATCH).expect("what was sent"), BATCH);
            taken.clear();
        });
    });
}

pub(crate) fn all(criterion: &mut Criterion) {
    bytes(criterion);
    slots(criterion);
    taken_together(criterion);
}
