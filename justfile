# What CI runs, by the same names. Every recipe is plain cargo, or a script that is.

set shell := ["bash", "-euo", "pipefail", "-c"]

# The list of recipes.
default:
    @just --list

# Is everything formatted?
fmt:
    cargo fmt --all --check

# Lints, as errors.
lint:
    cargo clippy --workspace --all-targets -- -D warnings

# Every test but the models.
test:
    cargo test --workspace

# The models: the shipped ring code over loom's memory.
loom:
    cargo loom

# The same, one preemption deeper and a death at every step of every sweep: more than 10 million executions, most of an hour.
loom-deep:
    MODEL_DEEP=1 cargo loom -- --show-output

# Can the models fail? Everything; half an hour and more.
mutate:
    cargo mutate

# The same, known catches only: minutes.
mutate-quick:
    cargo mutate --quick

# Can the harnesses that kill, stop, wake and garble fail? Each against the shipped code made wrong: three minutes.
mutate-harness:
    cargo mutate --harness

# Four senders and four receivers under schedules at random (loom-tests/README.md).
shuttle:
    cargo shuttle

# The rings under Miri, on the heap. Needs a nightly with miri and rust-src.
miri:
    MIRIFLAGS=-Zmiri-strict-provenance cargo +nightly miri-rings
    MIRIFLAGS="-Zmiri-strict-provenance -Zmiri-many-seeds=0..4" cargo +nightly miri test -p quoit --test heap --target-dir target/miri

# The same from many sides: seeds, aliasing models, preemptions, other machines.
miri-long:
    MIRIFLAGS="-Zmiri-many-seeds=0..64" cargo +nightly miri test -p quoit --test heap --target-dir target/miri
    MIRIFLAGS="-Zmiri-tree-borrows -Zmiri-many-seeds=0..16" cargo +nightly miri test -p quoit --test heap --target-dir target/miri
    MIRIFLAGS="-Zmiri-preemption-rate=0.1 -Zmiri-many-seeds=0..32" cargo +nightly miri test -p quoit --test heap --target-dir target/miri
    for target in aarch64-unknown-linux-gnu i686-unknown-linux-gnu; do CARGO_BUILD_TARGET=$target MIRIFLAGS=-Zmiri-strict-provenance cargo +nightly miri-rings; done

# More than ten million calls of many processes, asked to fit together (tests/history).
history:
    QUOIT_HISTORY=full cargo test --release --test history -- --nocapture --test-threads=1

# Sequences of calls against a model, many of them.
sequences:
    PROPTEST_CASES=20000 cargo test --release --test sequences

# The documentation, with broken links as errors.
doc:
    RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps

# Runs every example.
examples:
    cargo build --examples
    cargo test --test examples

# The library on the oldest Rust that it promises.
msrv:
    cargo +1.85 check -p quoit --locked --target-dir target/msrv

# Licences, advisories, sources. Needs cargo-deny.
deny:
    cargo deny check

# Two processes at one ring, one of 32 bits. Needs the target i686-unknown-linux-gnu and a C compiler for it (gcc-multilib).
widths:
    #!/usr/bin/env bash
    set -euo pipefail
    other=$(cargo test -p quoit --test processes --target i686-unknown-linux-gnu --no-run --message-format=json \
        | sed -n 's/.*"executable":"\([^"]*processes-[^"]*\)".*/\1/p')
    QUOIT_OTHER_WIDTH=$other cargo test -p quoit --test processes -- apart::a_program

# A death at every instruction of every call (tests/steps); everyday runs try some.
steps:
    QUOIT_STEPS=all cargo test --release --test steps

# What CI runs of deaths, stops and garbage, with its sums: minutes, all processors.
torture:
    .ci/torture

# The same for hours, in debug too, and all else that kills, interrupts and garbles; the last needs cargo-fuzz.
torture-long: torture
    QUOIT_STEPS=all cargo test --test steps
    QUOIT_TEST_ROUNDS=1000000000 cargo test --release --test garbage torture -- --nocapture
    {{just_executable()}} garbage
    {{just_executable()}} oracle
    {{just_executable()}} crowd
    {{just_executable()}} history
    {{just_executable()}} deaths
    {{just_executable()}} fuzz 600

# 200 MB through `send --raw | recv --raw`, in every arrangement.
bigpipe:
    QUOIT_PIPE_MB=200 cargo test --release -p quoit-cli --test cli raw_bytes

# Many processes at a ring of slots, at full size: twice 4 million messages, 130,000 kills, 64 processes for a minute. Prints
# how long calls took, and fails if one outlived its deadline by a second. A quarter of an hour.
crowd:
    QUOIT_CROWD=full cargo test --release --test crowd -- --nocapture --test-threads=1

# Random death at full size: 50,000 kills at one ring of slots and 50,000 at one ring of bytes, 10,000 restarts at each, 64
# processes that want one name. Prints the figures. Minutes.
kills:
    QUOIT_CROWD=full cargo test --release --test crowd -- storm:: bytes:: restarts:: names:: --nocapture --test-threads=1

# What waiting costs: the part of a core that an idle end uses, calls of the kernel of streams, round trips on one core. For a
# machine that does nothing else; a minute.
waiting:
    QUOIT_WAITING=full cargo test --release --test fast_path waiting -- --nocapture --test-threads=1

# Garbage in the memory of rings, at full size: minutes, all processors.
garbage:
    QUOIT_GARBAGE=full cargo test --release --test garbage -- --nocapture --test-threads=1

# Calls on memory that says something else each time it is loaded, and files made of dice; any Rust.
oracle:
    cargo oracle -- --nocapture

# libFuzzer at each target for so many seconds. Needs cargo-fuzz, a nightly Rust and a C++ compiler.
fuzz SECONDS="30":
    for target in $(cargo +nightly fuzz list); do \
        mkdir -p fuzz/corpus/$target; \
        cargo +nightly fuzz run --features libfuzzer $target fuzz/corpus/$target fuzz/seeds/$target -- -max_total_time={{SECONDS}} -print_final_stats=1; \
    done

# How soon a sleeper learns of a message: percentiles.
latency *ARGS:
    cargo bench -p quoit-measure --bench latency -- {{ARGS}}

# How soon whoever a death has blocked goes on: percentiles of every case, or of those with a word in their names; fails if one
# took a second. For a machine that does nothing else; seven minutes.
deaths *ARGS:
    cargo bench -p quoit-measure --bench deaths -- {{ARGS}}

# Rings beside pipes, sockets and the floor, between two processes.
bench *ARGS:
    cargo run --release -q -p quoit-cli -- bench {{ARGS}}

# Round trips, streams and single calls, held against the run before.
groups *ARGS:
    cargo bench --bench groups -- {{ARGS}}

# quoit beside other channels, between two processes and between two threads (benches/peers/README.md). Minutes.
peers *ARGS:
    cargo run --release -q --locked --manifest-path benches/peers/Cargo.toml -- {{ARGS}}

# Round trips between two processes: percentiles.
demo:
    cargo run --release -q -p quoit-cli -- demo

# All that CI asks.
ci:
    .ci/run
