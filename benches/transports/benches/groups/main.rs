//! Groups of criterion: what a round trip, a stream and a single call take, to be held against the run before.
//!
//! It knows which transports are asked what, in which manner and for how long. It refuses to know how the other end is
//! had (`pair`) and what the single calls are (`operations`). Where a figure stands against the machine, with percentiles
//! and a floor, is `quoit bench`; what a choice in the ring's design costs is the harness.
//!
//! ```text
//! cargo bench --bench groups                             everything
//! cargo bench --bench groups -- round_trip/spsc          what has this in its name
//! cargo bench --bench groups -- --save-baseline before   and later: --baseline before
//! ```

#![allow(clippy::print_stderr)]

mod operations;
mod pair;

use std::process::ExitCode;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput};
use quoit_transports::{Name, Shape, Threads, Transport, Wait, cores, with};

use pair::{Pair, Place, Work};

/// Those between processes; [`Threads`] comes to them, between threads.
const NAMES: [Name; 5] =
    [Name::Spsc, Name::Mpmc, Name::Pipe, Name::UnixStream, Name::UnixSeqpacket];
const SIZES: [usize; 3] = [8, 64, 1024];

/// For each benchmark. Bursts are as short as a sample, with pauses as long between them (`pair`), so that a machine with
/// a quota is not used up.
const SAMPLES: usize = 20;
const WARM_UP: Duration = Duration::from_millis(100);
const MEASURED: Duration = Duration::from_millis(600);

fn main() -> ExitCode {
    if let Some(end) = pair::other_end() {
        return end;
    }
    // Asked once: whoever is nailed to one of them may use that alone.
    let cores = match cores().unwrap_or_default().as_slice() {
        [one, other, ..] => Some([*one, *other]),
        _ => None,
    };
    let mut criterion = Criterion::default()
        .sample_size(SAMPLES)
        .warm_up_time(WARM_UP)
        .measurement_time(MEASURED)
        .nresamples(10_000)
        .without_plots()
        .configure_from_args();
    operations::all(&mut criterion);
    for (work, wait, name) in [
        (Work::RoundTrip, Wait::Spin, "round_trip"),
        (Work::Stream, Wait::Spin, "stream"),
        (Work::RoundTrip, Wait::Block, "round_trip_asleep"),
        (Work::Stream, Wait::Block, "stream_asleep"),
    ] {
        between_two(&mut criterion, work, wait, name, cores);
    }
    criterion.final_summary();
    ExitCode::SUCCESS
}

/// One work in one manner, over every transport.
fn between_two(
    criterion: &mut Criterion,
    work: Work,
    wait: Wait,
    group: &'static str,
    cores: Option<[usize; 2]>,
) {
    if cores.is_none() && wait == Wait::Spin {
        eprintln!("SKIPPED: {group}: one core only, and both ends spin");
        return;
    }
    let mut rows = criterion.benchmark_group(group);
    rows.sampling_mode(SamplingMode::Flat);
    for size in SIZES {
        let shape = Shape { size, wait };
        if work == Work::Stream {
            rows.throughput(Throughput::Bytes(size as u64));
        }
        for name in NAMES {
            with!(name, T => row::<T>(&mut rows, group, Place::Process(name), work, shape, cores));
        }
        row::<Threads>(&mut rows, group, Place::Thread, work, shape, cores);
    }
    rows.finish();
}

fn row<T: Transport + 'static>(
    rows: &mut BenchmarkGroup<'_, WallTime>,
    group: &str,
    place: Place,
    work: Work,
    shape: Shape,
    cores: Option<[usize; 2]>,
) {
    let what = match place {
        Place::Process(name) => name.word(),
        Place::Thread => "threads",
    };
    // Made when the first burst is wanted: criterion may only list its benchmarks, or leave this one out.
    let mut pair: Option<Pair<T>> = None;
    let text = format!("{group}/{what}/{}", shape.size);
    rows.bench_function(BenchmarkId::new(what, shape.size), |bencher| {
        let pair = pair.get_or_insert_with(|| Pair::start(&text, place, work, shape, cores));
        bencher.iter_custom(|messages| pair.burst(messages));
    });
    if let Some(pair) = pair {
        pair.finish();
    }
}
