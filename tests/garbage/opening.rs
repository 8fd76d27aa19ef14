//! Files whose header or length is another one, opened by name: what is refused is refused in a sentence, and what is not
//! is a ring that works.
//!
//! Every value of every byte, with the checksum that stood there and with one that fits; every length up to the right one,
//! and some behind it. Everyday runs try some values and some lengths.

use std::fs::File;
use std::os::unix::fs::FileExt;

use quoit::{OpenError, Options, mpmc, spsc};

use crate::harness::say;
use crate::rounds;
use crate::seal::seal;

const HEADER: usize = 256;

/// A ring that nobody has open, and its file.
struct Sample {
    path: String,
    file: File,
    header: [u8; HEADER],
    total: u64,
    _folder: tempfile::TempDir,
}

fn sample(make: impl FnOnce(&str)) -> Sample {
    let _folder = tempfile::Builder::new().prefix("quoit-test-").tempdir_in("/dev/shm").unwrap();
    let path = _folder.path().join("ring").into_os_string().into_string().unwrap();
    make(&path);
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let mut header = [0; HEADER];
    file.read_exact_at(&mut header, 0).unwrap();
    let total = file.metadata().unwrap().len();
    Sample { path, file, header, total, _folder }
}

/// One of each kind.
fn samples() -> [Sample; 2] {
    let bytes = Options::new().capacity(4096);
    let slots = Options::new().capacity(2).max_len(48);
    [
        sample(|path| spsc::create(path, &bytes).unwrap()),
        sample(|path| mpmc::create(path, &slots).unwrap()),
    ]
}

/// A refusal is a sentence that names the ring.
fn said(path: &str, error: &OpenError) {
    let sentence = error.to_string();
    assert!(sentence.contains(path) && sentence.len() > path.len() + 20, "{sentence:?}");
}

/// Opens the ring in every way. Answers whether it is one.
fn is_a_ring(path: &str) -> bool {
    let looked = quoit::inspect(path).map_err(|error| said(path, &error)).is_ok();
    let mut worked = false;
    match (spsc::Sender::open(path), spsc::Receiver::open(path)) {
        (Ok(mut tx), Ok(mut rx)) => {
            tx.try_send(b"").unwrap();
            assert_eq!(rx.try_recv().unwrap().to_vec(), b"");
            worked = true;
        }
        (Err(one), Err(other)) => [one, other].iter().for_each(|error| said(path, error)),
        (one, other) => panic!("{one:?} and {other:?}"),
    }
    match (mpmc::Sender::open(path), mpmc::Receiver::open(path)) {
        (Ok(tx), Ok(rx)) => {
            tx.try_send(b"").unwrap();
            assert_eq!(rx.try_recv().unwrap().to_vec(), b"");
            worked = true;
        }
        (Err(one), Err(other)) => [one, other].iter().for_each(|error| said(path, error)),
        (one, other) => panic!("{one:?} and {other:?}"),
    }
    assert_eq!(looked, worked, "a look at it and its use disagree");
    worked
}

#[test]
fn every_value_of_every_byte_of_a_header_is_refused_or_a_working_ring() {
    let step = rounds(37, 1) as usize;
    for sample in samples() {
        let (mut works, mut tried) = (0u64, 0u64);
        for at in 0..HEADER {
            // Other values at each byte, so that some runs see them all.
            for value in (at % step..256).step_by(step).map(|value| value as u8) {
                for forged in [false, true] {
                    let mut header = sample.header;
                    header[at] = value;
                    if forged {
                        seal(&mut header);
                    }
                    sample.file.write_all_at(&header, 0).unwrap();
                    let is = is_a_ring(&sample.path);
                    let same = header == sample.header;
                    let anything = forged && (at == 0x10 || (0x40..0x60).contains(&at));
                    assert!(is || !same, "what is right is refused");
                    // The length of a slot, as long as the ring is as long.
                    let length = forged && (0x18..0x28).contains(&at);
                    assert!(
                        !is || same || anything || length,
                        "byte {at:#x} = {value} is believed"
                    );
                    (works, tried) = (works + u64::from(is), tried + 1);
                }
            }
        }
        say(&format!("{tried} headers, {works} of them of a ring"));
        assert!(works > 0 && works < tried);
        sample.file.write_all_at(&sample.header, 0).unwrap();
        assert!(is_a_ring(&sample.path));
    }
}

#[test]
fn every_length_of_a_file_is_refused_or_a_working_ring() {
    let step = rounds(97, 1) as usize;
    for sample in samples() {
        let total = sample.total;
        let edges = [0, 1, 255, 256, 257, 4096, 0x5000, 0x25000, total - 1, total, total + 1];
        let behind = [total + 4095, total + 4096, 2 * total, 1 << 30, 1 << 40];
        for len in (0..total + 2).step_by(step).chain(edges).chain(behind) {
            // What was cut away is zeros when it comes back, which the words are at first.
            sample.file.set_len(len).unwrap();
            sample.file.write_all_at(&sample.header[..len.min(256) as usize], 0).unwrap();
            assert_eq!(is_a_ring(&sample.path), len >= total, "{len} of {total} bytes");
            assert_eq!(sample.file.metadata().unwrap().len(), len, "its length was changed");
        }
    }
}
