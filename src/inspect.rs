//! Looking at rings by name. Knows where the words of a ring lie and what they say
//! to a person; decides nothing, takes no seat, and writes not one byte.
//!
//! The words of a living ring change while they are read. Each is read once; two of
//! them need not belong to the same moment.

mod slots;

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::endpoint::{delivery, read_header};
use crate::error::{OpenError, RingName};
use crate::layout::control::{self, CONTROL_LEN, Word};
use crate::layout::header::{self, Header, Kind};
use crate::options::{Delivery, Options};
use crate::os::shm::{self, Accept, Place};
use crate::os::{lock, map};
use crate::roster::{Presence, Role, Seat};
use crate::sync::Ordering;

pub use slots::Seated;

/// One end of a ring: of a ring of slots, all its senders or all its receivers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeatInfo {
    /// Whether somebody is there. Of several that are gone it is not known who was the
    /// last: then `Died` says that one of them has not been repaired after yet, or that
    /// none has left.
    pub presence: Presence,
    /// The process that is or was there last, as it numbers itself. 0: unknown, or
    /// more than one.
    pub pid: u32,
    /// How many have come.
    pub arrivals: u64,
    /// How many of them were found dead.
    pub deaths: u64,
    /// Messages sent or received.
    pub messages: u64,
    /// Bytes sent or received in them; 0 for a ring of slots, which does not count
    /// them.
    pub bytes: u64,
    /// How often it had to wait.
    pub waits: u64,
    /// How often it woke the other end.
    pub wakes: u64,
}

/// What a ring looked like a moment ago.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Info {
    /// The name under which it was looked up.
    pub name: RingName,
    /// Its file.
    pub path: PathBuf,
    /// Which algorithm it is for.
    pub kind: Kind,
    /// The version of its layout.
    pub version: u32,
    /// Its size: bytes for `spsc`, slots for `mpmc`.
    pub capacity: u64,
    /// The longest message that it takes.
    pub max_len: u64,
    /// The bytes or slots that are in use. Only news: it changes as it is read.
    pub used: u64,
    /// Whether it waits for the next peer for ever.
    pub keep_open: bool,
    /// What becomes of a message whose receiver dies with it in hand.
    pub delivery: Delivery,
    /// The permissions of its file.
    pub mode: u32,
    /// The owner of its file.
    pub uid: u32,
    /// What tells it from every other ring, also from later ones of its name.
    pub uuid: [u8; 16],
    /// When it was created, by the creator's clock.
    pub created: SystemTime,
    /// Whether its name was taken away while it was being looked at.
    pub unlinked: bool,
    /// The position up to which messages are published; for `mpmc` claimed.
    pub tail: u64,
    /// The position up to which room is free again; for `mpmc` up to which messages
    /// are taken.
    pub head: u64,
    /// The position up to which messages are received; for `mpmc` released.
    pub acked: u64,
    /// The end that writes.
    pub sender: SeatInfo,
    /// The end that reads.
    pub receiver: SeatInfo,
    /// Messages that were lost with a receiver that had them in hand.
    pub lost: u64,
    /// Messages that were delivered again.
    pub redelivered: u64,
    /// Who takes part, or did, seat by seat; empty for `spsc`, whose two ends are above.
    pub seats: Vec<Seated>,
}

/// What the words of a ring say that its kind lays out in its own way.
struct Seen {
    used: u64,
    tail: u64,
    head: u64,
    acked: u64,
    sender: SeatInfo,
    receiver: SeatInfo,
    lost: u64,
    redelivered: u64,
    seats: Vec<Seated>,
}

/// One entry of the folder of plain names.
#[derive(Debug)]
#[non_exhaustive]
pub struct Listed {
    /// The name.
    pub name: String,
    /// The ring, or why it is none.
    pub info: Result<Info, OpenError>,
}

/// Looks at a ring without taking part in it.
///
/// ```
/// let error = quoit::inspect("no-such-ring-here").unwrap_err();
/// assert!(error.is_not_found() || error.is_bad_folder());
/// ```
pub fn inspect(name: &str) -> Result<Info, OpenError> {
    inspect_with(name, &Options::new())
}

/// Looks at a ring that may also belong to the user or group that the options
/// accept. Nothing else in them matters.
pub fn inspect_with(name: &str, options: &Options) -> Result<Info, OpenError> {
    let place = shm::place(name)?;
    let accept = Accept { uid: options.accepted_uid(), gid: options.accepted_gid() };
    let (file, found) = shm::open_to_read(&place, accept)?;
    let header = read_header(&place, &file, found.len())?;
    let failed = |doing| {
        let ring = place.name.clone();
        move |source| OpenError::Os { ring, doing, source }
    };
    let ring = header.slots();
    let len = ring.map_or(CONTROL_LEN as u64, |_| header.total());
    let words = Words::map(&file, len).map_err(failed("mapping its file"))?;
    let seen = match ring {
        None => bytes(&words, &file, header.capacity),
        Some(ring) => slots::look(&words, &file, ring),
    };
    let seen = seen.map_err(failed("asking for its locks"))?;
    if let Some(found) = words.map.lost() {
        return Err(OpenError::Truncated {
            ring: place.name.clone(),
            found,
            wanted: header.total(),
        });
    }
    Ok(info(&place, &found, &header, seen, is_unlinked(&file)))
}

/// Looks at everything in the folder of plain names, in order of name. No folder is
/// an empty list.
pub fn list() -> Result<Vec<Listed>, OpenError> {
    let names = shm::list()?;
    Ok(names.into_iter().map(|name| Listed { info: inspect(&name), name }).collect())
}

/// Takes a ring's name away. Those who have the ring open go on with each other;
/// the name is free for another ring. Whoever is to know whether somebody still has
/// it open asks [`inspect`] first.
///
/// Refuses a file that does not begin as a ring does, so that a slip of the tongue
/// removes nothing else.
///
/// ```
/// assert!(quoit::unlink("..").unwrap_err().is_bad_name());
/// ```
pub fn unlink(name: &str) -> Result<(), OpenError> {
    shm::unlink(&shm::place(name)?, &header::MAGIC)
}

/// The path of the file that a ring of this name has, or would have. Does not look
/// whether it is there.
///
/// ```
/// let path = quoit::name_path("/dev/shm/ticks")?;
/// assert_eq!(path, std::path::Path::new("/dev/shm/ticks"));
/// # Ok::<(), quoit::OpenError>(())
/// ```
pub fn name_path(name: &str) -> Result<PathBuf, OpenError> {
    Ok(shm::place(name)?.path)
}

fn is_unlinked(file: &File) -> bool {
    file.metadata().is_ok_and(|found| found.nlink() == 0)
}

fn info(place: &Place, found: &Metadata, header: &Header, seen: Seen, unlinked: bool) -> Info {
    Info {
        name: place.name.clone(),
        path: place.path.clone(),
        kind: header.kind,
        version: header::VERSION,
        capacity: header.capacity,
        max_len: header.max_len,
        used: seen.used,
        keep_open: header.keep_open(),
        delivery: delivery(header),
        mode: found.mode() & 0o7777,
        uid: found.uid(),
        uuid: header.uuid,
        created: UNIX_EPOCH.checked_add(Duration::from_nanos(header.created)).unwrap_or(UNIX_EPOCH),
        unlinked,
        tail: seen.tail,
        head: seen.head,
        acked: seen.acked,
        sender: seen.sender,
        receiver: seen.receiver,
        lost: seen.lost,
        redelivered: seen.redelivered,
        seats: seen.seats,
    }
}

/// Looks at a ring of bytes.
fn bytes(words: &Words, file: &File, capacity: u64) -> io::Result<Seen> {
    let sender = seat(words, file, Role::Sender)?;
    let receiver = seat(words, file, Role::Receiver)?;
    // The tail first: what is sent and received in between makes the difference
    // smaller than it was, or negative, which is nothing.
    let tail = words.load(control::TAIL);
    let head = words.load(control::HEAD);
    Ok(Seen {
        used: used(tail, head, capacity),
        tail,
        head,
        acked: words.load(control::ACKED),
        sender,
        receiver,
        lost: words.load(control::LOST),
        redelivered: words.load(control::REDELIVERED),
        seats: Vec::new(),
    })
}

/// The distance of two positions that wrap, of which neither can be believed.
fn used(tail: u64, head: u64, capacity: u64) -> u64 {
    let distance = tail.wrapping_sub(head);
    if distance > i64::MAX as u64 { 0 } else { distance.min(capacity) }
}

fn seat(words: &Words, file: &File, role: Role) -> io::Result<SeatInfo> {
    let [seat, deaths, pid, messages, bytes, waits, wakes] = match role {
        Role::Sender => [
            control::SENDER_SEAT,
            control::SENDER_DEATHS,
            control::SENDER_PID,
            control::SENT,
            control::SENT_BYTES,
            control::SENDER_WAITS,
            control::SENDER_WAKES,
        ],
        Role::Receiver => [
            control::RECEIVER_SEAT,
            control::RECEIVER_DEATHS,
            control::RECEIVER_PID,
            control::RECEIVED,
            control::RECEIVED_BYTES,
            control::RECEIVER_WAITS,
            control::RECEIVER_WAKES,
        ],
    }
    .map(|at| words.load(at));
    // The word before the lock: whoever leaves in between wrote "left" and is gone,
    // so a word of "present" without a lock would call a clean leave a death. Then
    // the word, read again, says so.
    let held = lock::is_held(file.as_fd(), role.lock_byte())?;
    let now = match role {
        Role::Sender => words.load(control::SENDER_SEAT),
        Role::Receiver => words.load(control::RECEIVER_SEAT),
    };
    Ok(SeatInfo {
        presence: Seat(if held { seat } else { now }).presence(held),
        pid: u32::try_from(pid).unwrap_or(0),
        arrivals: Seat(seat).arrivals(),
        deaths,
        messages,
        bytes,
        waits,
        wakes,
    })
}

/// The words of a ring, mapped to be read only.
struct Words {
    map: map::Area,
}

impl Words {
    /// Maps the first `len` bytes of a file, which are no more than its header says.
    fn map(file: &File, len: u64) -> io::Result<Words> {
        // The file was that long a moment ago. Its owner (the caller, root, or whom
        // the caller accepts) could cut it short now, and a load would be a bus
        // error, unless those are caught: as in every other process that has the ring
        // open.
        let len = usize::try_from(len)
            .ok()
            .filter(|&len| len <= isize::MAX as usize)
            .ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        Ok(Words { map: map::read_only(file, len)? })
    }

    /// A control word, loaded once.
    fn load(&self, word: Word) -> u64 {
        self.at(word.offset())
    }

    /// The word at an offset into the file, loaded once.
    #[cfg(target_pointer_width = "64")]
    fn at(&self, offset: usize) -> u64 {
        use crate::sync::AtomicU64;
        assert!(offset % 8 == 0 && offset < self.map.len() - 7);
        // SAFETY: the 8 bytes at `offset` lie in the mapping, whose length it was
        // just compared with.
        let at = unsafe { self.map.as_ptr().add(offset) };
        // SAFETY: `at` is a multiple of 8 from a page's start, inside a mapping that
        // lives as long as `self`; nobody in this process uses these bytes through
        // this mapping in another way. A relaxed load of a word never writes.
        let word = unsafe { AtomicU64::from_ptr(at.cast_mut().cast()) };
        // Relaxed: one word at a time, and nothing follows from it.
        u64::from_le(word.load(Ordering::Relaxed))
    }

    /// The word at an offset into the file, loaded as two halves: a 64-bit load may
    /// be a read-modify-write on these targets, and the pages are read only.
    #[cfg(not(target_pointer_width = "64"))]
    fn at(&self, offset: usize) -> u64 {
        use crate::sync::AtomicU32;
        assert!(offset % 8 == 0 && offset < self.map.len() - 7);
        let half = |offset: usize| {
            // SAFETY: the 4 bytes at `offset` lie in the mapping, whose length the
            // word's was just compared with.
            let at = unsafe { self.map.as_ptr().add(offset) };
            // SAFETY: `at` is a multiple of 4 from a page's start, inside a mapping
            // that lives as long as `self`; nobody in this process uses these bytes
            // through this mapping in another way. A relaxed load never writes.
            let word = unsafe { AtomicU32::from_ptr(at.cast_mut().cast()) };
            // Acquire: keeps the halves in the order in which they are read.
            u64::from(u32::from_le(word.load(Ordering::Acquire)))
        };
        let mut high = half(offset + 4);
        // A counter carries into its upper half once in 4 GiB.
        for _ in 0..4 {
            let low = half(offset);
            let again = half(offset + 4);
            if again == high {
                return high << 32 | low;
            }
            high = again;
        }
        high << 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Endpoint;
    use crate::os::testing::{self, Child};
    use std::fs;
    use std::os::unix::fs::FileExt;

    fn create(name: &str, role: Role, options: &Options) -> Endpoint {
        Endpoint::create(name, Kind::Spsc, Some(role), options).unwrap()
    }

    fn put(endpoint: &Endpoint, at: usize, value: u64) {
        endpoint.mapping.file().write_all_at(&value.to_le_bytes(), at as u64).unwrap();
    }

    #[test]
    fn a_new_ring_looks_as_it_was_asked_for() {
        let dir = testing::dir();
        let name = dir.name("ticks");
        let options = Options::new()
            .capacity(8192)
            .mode(0o640)
            .keep_open(true)
            .delivery(Delivery::AtMostOnce)
            .start_position(1 << 32);
        let ring = create(&name, Role::Sender, &options);
        let info = inspect(&name).unwrap();
        assert_eq!(info.name.as_str(), name);
        assert_eq!(info.path, std::path::Path::new(&name));

        assert_eq!(info.kind, Kind::Spsc);
        assert_eq!(info.version, 1);
        assert_eq!(info.capacity, 8192);
        assert_eq!(info.max_len, 4096 - 64);
        assert_eq!(info.used, 0);
        assert!(info.keep_open);
        assert_eq!(info.delivery, Delivery::AtMostOnce);
        assert_eq!(info.mode, 0o640);
        assert_eq!(info.uid, crate::os::process::euid());
        assert_eq!(info.uuid, ring.header.uuid);
        assert!(info.created > UNIX_EPOCH && info.created <= SystemTime::now());
        assert!(!info.unlinked);
        assert_eq!([info.tail, info.head, info.acked], [1 << 32; 3]);
        assert_eq!(info.receiver, SeatInfo::default());
        assert_eq!(info.sender.presence, Presence::Present);
        assert_eq!((info.lost, info.redelivered), (0, 0));
    }

    #[test]
    fn every_word_is_read_from_its_place() {
        let dir = testing::dir();
        let name = dir.name("ticks");
        let ring = create(&name, Role::Sender, &Options::new());
        let base = 0x0123_4567_0000_0000;
        for word in (0x1000..0x3000u64).step_by(8) {
            put(&ring, word as usize, base + word);
        }
        let info = inspect(&name).unwrap();
        assert_eq!(info.tail, base + 0x1000);
        assert_eq!(info.head, base + 0x2000);
        assert_eq!(info.acked, base + 0x2080);
        assert_eq!(info.lost, base + 0x2098);
        assert_eq!(info.redelivered, base + 0x20a0);
        assert_eq!(info.used, 0);
        let sender = SeatInfo {
            presence: Presence::Present,
            pid: 0,
            arrivals: (base + 0x1080) >> 2,
            deaths: base + 0x1088,
            messages: base + 0x1110,
            bytes: base + 0x1118,
            waits: base + 0x1100,
            wakes: base + 0x1108,
        };
        assert_eq!(info.sender, sender);
        let receiver = SeatInfo {
            presence: Presence::Never,
            pid: 0,
            arrivals: (base + 0x2100) >> 2,
            deaths: base + 0x2108,
            messages: base + 0x20a8,
            bytes: base + 0x20b0,
            waits: base + 0x2180,
            wakes: base + 0x2188,
        };
        assert_eq!(info.receiver, receiver);
        put(&ring, control::SENDER_PID.offset(), 7);
        assert_eq!(inspect(&name).unwrap().sender.pid, 7);
    }

    #[test]
    fn what_is_in_use_is_never_more_than_there_is() {
        assert_eq!(used(128, 64, 4096), 64);
        assert_eq!(used(64, 128, 4096), 0);
        assert_eq!(used(64, u64::MAX - 63, 4096), 128);
        assert_eq!(used(1 << 40, 0, 4096), 4096);
        assert_eq!(used(1 << 63, 0, 4096), 0);
        assert_eq!(used(u64::MAX, 0, 4096), 0);
    }

    #[test]
    fn the_lock_says_who_is_there_and_the_word_how_the_last_one_went() {
        let dir = testing::dir();
        let name = dir.name("ticks");
        let ring = create(&name, Role::Receiver, &Options::new());
        let presence = |seat: u64| {
            put(&ring, control::SENDER_SEAT.offset(), seat);
            inspect(&name).unwrap().sender
        };
        assert_eq!(presence(0).presence, Presence::Never);
        assert_eq!(presence(3 << 2 | 1).presence, Presence::Died);
        assert_eq!(presence(3 << 2 | 2).presence, Presence::Left);
        assert_eq!(presence(3 << 2 | 2).arrivals, 3);
        let options = Options::new();
        let sender = Endpoint::open(&name, Kind::Spsc, Some(Role::Sender), &options).unwrap();
        for seat in 0..4 {
            assert_eq!(presence(seat).presence, Presence::Present);
        }
        drop(sender);
        assert_eq!(presence(3 << 2 | 1).presence, Presence::Died);
    }

    #[test]
    fn a_killed_process_is_seen_to_have_died() {
        use std::io::{Read, Write};
        let dir = testing::forking_dir();
        let name = dir.name("ticks");
        let _receiver = create(&name, Role::Receiver, &Options::new());
        let (mut ready, mut tell) = std::os::unix::net::UnixStream::pair().unwrap();
        let ring = name.clone();
        let child = Child::start(move || {
            let options = Options::new();
            let sender = Endpoint::open(&ring, Kind::Spsc, Some(Role::Sender), &options).unwrap();
            put(&sender, control::SENDER_SEAT.offset(), 1 << 2 | 1);
            put(&sender, control::SENDER_PID.offset(), std::process::id().into());
            tell.write_all(b"!").unwrap();
            loop {
                std::thread::park();
            }
        });
        ready.read_exact(&mut [0]).unwrap();
        let before = inspect(&name).unwrap().sender;
        assert_eq!(before.presence, Presence::Present);
        child.kill();
        let after = inspect(&name).unwrap().sender;
        assert_eq!(after, SeatInfo { presence: Presence::Died, ..before });
    }

    #[test]
    fn looking_takes_no_seat_and_changes_nothing() {
        let dir = testing::dir();
        let name = dir.name("ticks");
        drop(create(&name, Role::Sender, &Options::new()));
        let before = fs::read(&name).unwrap();
        let info = inspect(&name).unwrap();
        assert_eq!(info.sender.presence, Presence::Never);
        assert!(fs::read(&name).unwrap() == before);
        assert_eq!(inspect(&name).unwrap(), info);
        let options = Options::new();
        Endpoint::open(&name, Kind::Spsc, Some(Role::Sender), &options).unwrap();
        Endpoint::open(&name, Kind::Spsc, Some(Role::Receiver), &options).unwrap();
    }

    #[test]
    fn a_ring_that_only_can_be_read_can_be_looked_at() {
        use std::os::unix::fs::PermissionsExt;
        let dir = testing::dir();
        let name = dir.name("ticks");
        let _ring = create(&name, Role::Sender, &Options::new());
        fs::set_permissions(&name, fs::Permissions::from_mode(0o400)).unwrap();
        let info = inspect(&name).unwrap();
        assert_eq!(info.mode, 0o400);
        assert_eq!(info.sender.presence, Presence::Present);
    }

    #[test]
    fn a_ring_of_somebody_else_is_looked_at_only_if_named() {
        let dir = testing::dir();
        let name = dir.name("ticks");
        drop(create(&name, Role::Sender, &Options::new()));
        if std::os::unix::fs::chown(&name, Some(12345), None).is_err() {
            return testing::skip("a_ring_of_somebody_else_is_looked_at_only_if_named", "no root");
        }
        assert!(inspect(&name).unwrap_err().is_not_ours());
        assert_eq!(inspect_with(&name, &Options::new().accept_uid(12345)).unwrap().uid, 12345);
    }

    #[test]
    fn what_is_no_ring_is_refused() {
        let dir = testing::dir();
        assert!(inspect(&dir.name("ticks")).unwrap_err().is_not_found());
        assert!(inspect("..").unwrap_err().is_bad_name());
        fs::write(dir.name("ticks"), "no ring").unwrap();
        assert!(inspect(&dir.name("ticks")).unwrap_err().is_not_a_ring());
        fs::create_dir(dir.name("folder")).unwrap();
        assert!(inspect(&dir.name("folder")).unwrap_err().is_not_a_ring());
        let name = dir.name("short");
        drop(create(&name, Role::Sender, &Options::new()));
        File::options().write(true).open(&name).unwrap().set_len(8192).unwrap();
        assert!(inspect(&name).unwrap_err().is_truncated());
    }

    #[test]
    fn an_unlinked_name_is_free_and_its_peers_go_on() {
        let dir = testing::dir();
        let name = dir.name("ticks");
        let sender = create(&name, Role::Sender, &Options::new());
        assert_eq!(name_path(&name).unwrap(), std::path::Path::new(&name));
        unlink(&name).unwrap();
        assert!(sender.is_unlinked());
        assert!(unlink(&name).unwrap_err().is_not_found());
        assert!(inspect(&name).unwrap_err().is_not_found());
    }

    #[test]
    fn a_damaged_ring_can_be_unlinked_and_another_file_can_not() {
        let dir = testing::dir();
        let name = dir.name("ticks");
        let sender = create(&name, Role::Sender, &Options::new());
        put(&sender, 0x18, u64::MAX);
        assert!(inspect(&name).unwrap_err().is_corrupt());
        unlink(&name).unwrap();
        fs::write(&name, "precious").unwrap();
        assert!(unlink(&name).unwrap_err().is_not_a_ring());
        assert_eq!(fs::read(&name).unwrap(), b"precious");
    }
}
