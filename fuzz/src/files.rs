//! Headers, records, and files that are garbage from the beginning. Knows the offsets of docs/memory-layout.md.

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt;

use quoit::oracle::geometry::{Geometry, LINE};
use quoit::oracle::record::{EMPTY, Record};
use quoit::{Options, Recovered, mpmc, spsc};

use crate::Tape;

const HEADER_LEN: usize = 256;

#[path = "../../tests/garbage/seal.rs"]
mod seal;

/// A ring of each kind that nobody has open, as its file was made; and where such files are.
struct Workshop {
    folder: tempfile::TempDir,
    bytes: Vec<u8>,
    slots: Vec<u8>,
}

impl Workshop {
    fn new() -> Workshop {
        let folder = tempfile::Builder::new().prefix("quoit-fuzz-").tempdir_in("/dev/shm").unwrap();
        let path = |name: &str| folder.path().join(name).into_os_string().into_string().unwrap();
        let start = 0u64.wrapping_sub(128);
        let (bytes, slots) = (path("bytes"), path("slots"));
        spsc::create(&bytes, &Options::new().capacity(4096).start_position(start)).unwrap();
        let options = Options::new().capacity(8).max_len(48).start_position(start);
        mpmc::create(&slots, &options).unwrap();
        let [bytes, slots] = [bytes, slots].map(|path| std::fs::read(path).unwrap());
        Workshop { folder, bytes, slots }
    }

    /// Where the next file goes.
    fn path(&self) -> String {
        self.folder.path().join("ring").into_os_string().into_string().unwrap()
    }
}

std::thread_local! {
    static WORKSHOP: RefCell<Option<Workshop>> = const { RefCell::new(None) };
}

fn with_workshop<T>(work: impl FnOnce(&Workshop) -> T) -> T {
    WORKSHOP.with(|shop| work(shop.borrow_mut().get_or_insert_with(Workshop::new)))
}

/// Whatever is read as a header says the same when it is written again, and ends within the file.
pub fn header(tape: &mut Tape) {
    let mut bytes = with_workshop(|shop| match tape.below(3) {
        0 => shop.bytes[..HEADER_LEN].to_vec(),
        1 => shop.slots[..HEADER_LEN].to_vec(),
        _ => tape.rest(HEADER_LEN + 1),
    });
    let file_len = tape.word();
    let sealed = tape.below(4) != 0;
    while let Some(at) = tape.byte() {
        // One byte, or one number.
        if at.is_multiple_of(2) {
            let now = tape.byte().unwrap_or(0);
            bytes.get_mut(usize::from(at)).into_iter().for_each(|byte| *byte = now);
        } else if let Some(field) = bytes.get_mut(usize::from(at & !7)..usize::from(at & !7) + 8) {
            let was = u64::from_le_bytes((&*field).try_into().unwrap());
            field.copy_from_slice(&tape.lie(was).to_le_bytes());
        }
    }
    sealed_if(sealed, &mut bytes);
    if let Some(again) = quoit::oracle::header(&bytes, file_len) {
        assert_eq!(bytes[..HEADER_LEN], again, "understood as something else");
        let total = u64::from_le_bytes(again[0x38..0x40].try_into().unwrap());
        assert!(total <= file_len, "{total} bytes in a file of {file_len}");
    }
}

/// Makes the checksum fit, if there is one.
fn sealed_if(sealed: bool, bytes: &mut [u8]) {
    if let Some(header) = bytes.first_chunk_mut().filter(|_| sealed) {
        seal::seal(header);
    }
}

/// Whatever is read as a record lies in the ring, in whole lines, and not beyond its end.
pub fn record(tape: &mut Tape) {
    let Some(ring) = Geometry::new(4096 << tape.below(29)) else { return };
    let position = tape.word() & !(LINE - 1);
    let truth = quoit::oracle::record::message(position, tape.word() % ring.capacity(), 16);
    let word = match tape.below(4) {
        0 => tape.word(),
        _ => tape.lie(truth),
    };
    if word == EMPTY {
        return;
    }
    let Some(found) = Record::parse(word, position, ring) else { return };
    assert!(found.span() >= LINE && found.span() % LINE == 0);
    assert!(found.span() <= ring.room_to_wrap(position), "{found:?} beyond the end");
    if let Record::Message(message) = found {
        let (len, payload) = (message.len(), message.payload());
        assert!(len <= ring.max_len() && payload + len <= found.span(), "{found:?}");
    }
}

/// A file with this content and length.
fn file(path: &str, content: &[u8], len: u64) -> File {
    let _ = std::fs::remove_file(path);
    let file = File::create_new(path).unwrap();
    file.write_all_at(content, 0).unwrap();
    file.set_len(len).unwrap();
    file
}

/// Whatever the file is, it is opened or refused; what was opened can be used; and a look at it is an answer.
pub fn open(tape: &mut Tape) {
    with_workshop(|shop| {
        let mut content = match tape.below(5) {
            0 | 1 => shop.bytes.clone(),
            2 | 3 => shop.slots.clone(),
            _ => tape.rest(600),
        };
        let sound = content.len() as u64;
        let len = match tape.below(4) {
            0 => u64::from(tape.short()) << tape.below(5),
            1 => (sound + u64::from(tape.below(130))).saturating_sub(65),
            _ => sound,
        };
        let sealed = tape.below(4) != 0;
        garble(tape, &mut content);
        sealed_if(sealed, &mut content);
        let path = shop.path();
        let before = file(&path, &content, len).metadata().unwrap().len();
        use_bytes(&path);
        use_slots(&path);
        let _ = quoit::recover(&path);
        if let Ok(info) = quoit::inspect(&path) {
            assert!(info.used <= info.capacity, "{info:?}");
        }
        assert_eq!(std::fs::metadata(&path).unwrap().len(), before, "the file was made longer");
    });
}

/// Changes words of a file: of its header, of its control words, of what comes behind them.
fn garble(tape: &mut Tape, content: &mut [u8]) {
    while let Some(where_to) = tape.byte() {
        let at = match where_to % 8 {
            0 => usize::from(tape.below(32)) * 8,
            1 | 2 => 0x1000 + usize::from(tape.short()) % 0x4000,
            3 => 0x5000 + usize::from(tape.below(4)) * 128 + usize::from(tape.below(16)) * 8,
            4 | 5 => 0x5000 + usize::from(tape.below(64)) * 64,
            6 => 0x25000 + usize::from(tape.below(8)) * 64 + usize::from(tape.below(2)) * 8,
            _ => usize::from(tape.short()) * 8,
        } & !7;
        let Some(word) = content.get_mut(at..at + 8) else { continue };
        let was = u64::from_le_bytes((&*word).try_into().unwrap());
        word.copy_from_slice(&tape.lie(was).to_le_bytes());
    }
}

fn use_bytes(path: &str) {
    let (tx, rx) = (spsc::Sender::open(path), spsc::Receiver::open(path));
    if let Ok(mut tx) = tx {
        let _ = (tx.try_send(b"x"), tx.try_send_batch(&[[1; 200], [2; 200]]), tx.stats());
        assert!(tx.len() <= tx.capacity());
    }
    if let Ok(mut rx) = rx {
        for _ in 0..3 {
            let max = rx.max_len();
            let _ = rx.try_recv().map(|message| assert!(message.to_vec().len() <= max));
        }
        assert!(rx.len() <= rx.capacity());
        let _ = rx.stats();
    }
}

fn use_slots(path: &str) {
    let (tx, rx) = (mpmc::Sender::open(path), mpmc::Receiver::open(path));
    if let Ok(tx) = tx {
        let _ = (tx.try_send(b"x"), tx.try_send_batch(&[[1; 20], [2; 20]]), tx.stats());
        assert!(tx.len() <= tx.capacity());
    }
    if let Ok(rx) = rx {
        for _ in 0..10 {
            let max = rx.max_len();
            let _ = rx.try_recv().map(|message| assert!(message.to_vec().len() <= max));
        }
        assert!(rx.len() <= rx.capacity());
        let _ = rx.stats();
    }
}

/// Whatever a dead process left in the table and the slots: nobody is alive, so one repair is enough, and a ring whose
/// slots make sense works afterwards.
pub fn repair(tape: &mut Tape) {
    with_workshop(|shop| {
        let mut content = shop.slots.clone();
        let sound = content[..HEADER_LEN].to_vec();
        // Some seats are in use: the table is only looked at as far as it was.
        content[0x4100] = tape.below(9);
        for _ in 0..tape.below(12) {
            let (seat, slot) = (usize::from(tape.below(8)), usize::from(tape.below(8)));
            let state = [1, 2, 1 << 3 | 1, 5 << 3 | 2, 3, 4][usize::from(tape.below(6))];
            content[0x5000 + seat * 128] = state;
            let claim = (seat as u64) << 4 | u64::from(tape.below(6));
            content[0x25000 + slot * 64..][..2].copy_from_slice(&claim.to_le_bytes()[..2]);
        }
        garble(tape, &mut content);
        content[..HEADER_LEN].copy_from_slice(&sound);
        let path = shop.path();
        file(&path, &content, content.len() as u64);
        let done = quoit::recover(&path).unwrap();
        assert!(done.seats <= 1024 && done.skipped + done.redelivered + done.lost <= 8, "{done:?}");
        assert_eq!(quoit::recover(&path).unwrap(), Recovered::default(), "after {done:?}");
        use_slots(&path);
        quoit::inspect(&path).unwrap();
    });
}
