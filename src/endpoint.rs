//! One end of a ring in a file. Knows how to create or open the file, take the
//! role's lock and map it; knows nothing of what the bytes do afterwards.
//!
//! The order is what makes it sound. Created: written, locked and mapped before the
//! name exists. Opened: looked at, opened, read and found sound, then locked, then
//! found to be still the file of that name, and only then mapped. A file that is
//! refused has not been written to.
//!
//! A ring of slots has no role to lock: who opens it takes a seat of the table
//! afterwards, and asks again whether the file still has its name.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{OpenError, RingName};
use crate::layout::geometry::{Geometry, Shape, Slots, spsc_max_len};
pub(crate) use crate::layout::header::Kind;
use crate::layout::header::{self, Header, Malformed};
use crate::layout::slot;
use crate::layout::view::View;
use crate::options::{Delivery, Options};
use crate::os::map::{Held, Mapping};
use crate::os::shm::{self, Accept, Place};
use crate::os::{fork, lock, process};
use crate::region;
use crate::roster::Role;

/// How often to begin again when somebody unlinks or creates in between.
const RETRIES: u32 = 3;
/// How often to begin again when another thread forks in between (see
/// [`Mapping::disturbed`]).
const FORKS_BORNE: u32 = 32;

/// One end of a ring: its mapping, and the locks that say what is taken. They go
/// when the last clone of the mapping goes.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) mapping: Arc<Mapping>,
    pub(crate) name: RingName,
    pub(crate) header: Header,
    /// The role whose lock is held, if one is.
    pub(crate) role: Option<Role>,
    /// The fork generation in which it was opened.
    pub(crate) generation: u64,
    place: Place,
}

impl Endpoint {
    /// Creates the ring, and takes the seat, if one is named, before anybody else can
    /// see it.
    pub(crate) fn create(
        name: &str,
        kind: Kind,
        seat: Option<Role>,
        options: &Options,
    ) -> Result<Endpoint, OpenError> {
        Endpoint::create_and(name, kind, seat, options, Ok)
    }

    /// The same; `sit` makes a handle of it before anybody else can see the ring. If that fails, nobody ever does.
    pub(crate) fn create_and<T>(
        name: &str,
        kind: Kind,
        seat: Option<Role>,
        options: &Options,
        sit: impl FnOnce(Endpoint) -> Result<T, OpenError>,
    ) -> Result<T, OpenError> {
        let place = shm::place(name)?;
        check(kind, options)?;
        arm(&place)?;
        create(&place, kind, seat, options, sit)
    }

    /// Creates the ring and takes no seat.
    pub(crate) fn make(name: &str, kind: Kind, options: &Options) -> Result<(), OpenError> {
        Endpoint::create(name, kind, None, options).map(drop)
    }

    /// Opens a ring that exists, and takes the seat, if one is named.
    pub(crate) fn open(
        name: &str,
        kind: Kind,
        seat: Option<Role>,
        options: &Options,
    ) -> Result<Endpoint, OpenError> {
        let place = shm::place(name)?;
        if kind == Kind::Spsc {
            // What no ring has is not compared with this one.
            options.check_no_max_len()?;
        }
        arm(&place)?;
        open(&place, kind, seat, options, |header| compare(&place, header, options))
    }

    /// Opens the ring if it exists, in which case it must be what the options
    /// explicitly say, and creates it otherwise.
    pub(crate) fn open_or_create(
        name: &str,
        kind: Kind,
        seat: Option<Role>,
        options: &Options,
    ) -> Result<Endpoint, OpenError> {
        let place = shm::place(name)?;
        check(kind, options)?;
        arm(&place)?;
        let mut tries = 0;
        loop {
            match open(&place, kind, seat, options, |header| compare(&place, header, options)) {
                Err(OpenError::NotFound { .. }) => {}
                done => return done,
            }
            match create(&place, kind, seat, options, Ok) {
                Err(OpenError::AlreadyExists { .. }) if tries < RETRIES => tries += 1,
                done => return done,
            }
        }
    }

    /// Whether somebody alive is the other end. Without a role there is no other end.
    pub(crate) fn peer_holds_lock(&self) -> io::Result<bool> {
        self.role.map_or(Ok(false), |role| self.is_held(role.peer().lock_byte()))
    }

    /// Takes the lock on one byte of the file. `false`: another opening holds it. Not
    /// for a byte that this one holds: that would be granted.
    pub(crate) fn try_lock(&self, byte: u64) -> io::Result<bool> {
        self.ours().and_then(|()| lock::try_lock(self.mapping.fd(), byte))
    }

    /// Gives the lock on one byte back.
    pub(crate) fn unlock(&self, byte: u64) -> io::Result<()> {
        self.ours().and_then(|()| lock::unlock(self.mapping.fd(), byte))
    }

    /// Whether another opening holds the lock on one byte.
    pub(crate) fn is_held(&self, byte: u64) -> io::Result<bool> {
        self.ours().and_then(|()| lock::is_held(self.mapping.fd(), byte))
    }

    /// Refuses to touch the descriptor in a forked child: its number may be another
    /// file's there.
    fn ours(&self) -> io::Result<()> {
        if self.forked() {
            return Err(io::Error::other("the ring was opened before this process was forked"));
        }
        Ok(())
    }

    /// Whether the ring's name still leads to this very file.
    pub(crate) fn has_its_name(&self) -> Result<bool, OpenError> {
        self.ours().map_err(|source| os(&self.place, "looking at its file", source))?;
        shm::is_at(&self.place, self.mapping.file())
    }

    /// Whether the ring has lost its name. It works on for those who have it open.
    pub(crate) fn is_unlinked(&self) -> bool {
        !self.forked() && self.mapping.file().metadata().is_ok_and(|found| found.nlink() == 0)
    }

    /// The file's length and the one it needs, when it has become shorter than the ring: then bytes that are mapped do not
    /// exist any more. One that was, and is long again, has at most what was there when a byte was missed.
    pub(crate) fn truncated(&self) -> Option<(u64, u64)> {
        if self.forked() {
            return None;
        }
        let wanted = self.header.total();
        let len = self.mapping.file().metadata().map_or(wanted, |found| found.len());
        let found = self.mapping.lost().map_or(len, |lost| lost.min(len));
        (found < wanted).then_some((found, wanted))
    }

    /// The memory of a ring of bytes.
    pub(crate) fn view(&self) -> Result<View, OpenError> {
        let spsc = self.header.kind == Kind::Spsc;
        self.memory(Geometry::new(self.header.capacity).filter(|_| spsc))
    }

    /// The memory of a ring of slots.
    pub(crate) fn slots(&self) -> Result<View<Slots>, OpenError> {
        self.memory(self.header.slots())
    }

    fn memory<G: Shape>(&self, ring: Option<G>) -> Result<View<G>, OpenError> {
        ring.and_then(|ring| region::mapped(Arc::clone(&self.mapping), ring))
            .ok_or_else(|| OpenError::Corrupt { ring: self.name.clone(), what: "capacity" })
    }

    /// The ring's name.
    pub(crate) fn name(&self) -> &RingName {
        &self.name
    }

    /// Whether the ring waits for the next peer for ever.
    pub(crate) fn keep_open(&self) -> bool {
        self.header.keep_open()
    }

    /// What becomes of a message whose receiver dies.
    pub(crate) fn delivery(&self) -> Delivery {
        delivery(&self.header)
    }

    /// Whether this process is a forked child of the one that opened the ring. Then
    /// nothing of it may be touched: the mapping is not here, and the descriptor's
    /// number may be another file's.
    #[inline]
    pub(crate) fn forked(&self) -> bool {
        fork::generation() != self.generation
    }
}

/// Refuses options that no ring of this kind can have.
fn check(kind: Kind, options: &Options) -> Result<(), OpenError> {
    match kind {
        Kind::Spsc => options.check_bytes(),
        Kind::Mpmc => options.check_slots(),
    }
}

fn arm(place: &Place) -> Result<(), OpenError> {
    fork::arm().map(drop).map_err(|source| os(place, "preparing for forks", source))
}

fn os(place: &Place, doing: &'static str, source: io::Error) -> OpenError {
    OpenError::Os { ring: place.name.clone(), doing, source }
}

fn endpoint(place: &Place, mapping: Mapping, header: Header, seat: Option<Role>) -> Endpoint {
    Endpoint {
        generation: mapping.generation(),
        mapping: Arc::new(mapping),
        name: place.name.clone(),
        header,
        role: seat,
        place: place.clone(),
    }
}

/// Makes the file, and takes the seat, if one is named, and a handle, before it has a name.
fn create<T>(
    place: &Place,
    kind: Kind,
    seat: Option<Role>,
    options: &Options,
    sit: impl FnOnce(Endpoint) -> Result<T, OpenError>,
) -> Result<T, OpenError> {
    let mut forks = 0;
    loop {
        let draft = shm::draft(place)?;
        let header = new_header(place, kind, options)?;
        shm::allocate(place, draft.held.file(), header.total())?;
        write(draft.held.file(), &header).map_err(|e| os(place, "writing its file", e))?;
        shm::set_mode(draft.held.file(), options.get_mode())
            .map_err(|e| os(place, "setting its mode", e))?;
        // Nobody else has this file.
        if let Some(role) = take(place, &draft.held, seat)? {
            return Err(taken(place, role));
        }
        let mapping = map(place, draft.held, header.total())?;
        forks += 1;
        if mapping.disturbed() && forks < FORKS_BORNE {
            continue;
        }
        let endpoint = endpoint(place, mapping, header, seat);
        let mapping = Arc::clone(&endpoint.mapping);
        let handle = sit(endpoint)?;
        draft.publication.publish(mapping.fd())?;
        return Ok(handle);
    }
}

fn open(
    place: &Place,
    kind: Kind,
    seat: Option<Role>,
    options: &Options,
    compare: impl Fn(&Header) -> Result<(), OpenError>,
) -> Result<Endpoint, OpenError> {
    let accept = Accept { uid: options.accepted_uid(), gid: options.accepted_gid() };
    let (mut retries, mut forks) = (0, 0);
    loop {
        let (held, found) = shm::open(place, accept)?;
        let header = read_header(place, held.file(), found.len())?;
        if header.kind != kind {
            return Err(OpenError::WrongKind {
                ring: place.name.clone(),
                found: header.kind.as_str(),
                wanted: kind.as_str(),
            });
        }
        compare(&header)?;
        let refused = take(place, &held, seat)?;
        // Only now is it certain that nobody else took another file's seat under
        // this name: whoever unlinks and creates again makes another file.
        if !shm::is_at(place, held.file())? {
            retries += 1;
            if retries > RETRIES {
                return Err(OpenError::NotFound { ring: place.name.clone() });
            }
            continue;
        }
        if let Some(role) = refused {
            return Err(taken(place, role));
        }
        let mapping = map(place, held, header.total())?;
        forks += 1;
        if mapping.disturbed() && forks < FORKS_BORNE {
            continue;
        }
        return Ok(endpoint(place, mapping, header, seat));
    }
}

fn new_header(place: &Place, kind: Kind, options: &Options) -> Result<Header, OpenError> {
    let mut flags = 0;
    if options.get_keep_open() {
        flags |= header::KEEP_OPEN;
    }
    if options.get_delivery() == Delivery::AtMostOnce {
        flags |= header::AT_MOST_ONCE;
    }
    let (capacity, max_len) = match kind {
        Kind::Spsc => (options.get_capacity(), spsc_max_len(options.get_capacity())),
        Kind::Mpmc => (options.get_slots(), options.get_max_len()),
    };
    let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Header {
        kind,
        flags,
        capacity,
        max_len,
        uuid: process::random().map_err(|e| os(place, "drawing random bytes", e))?,
        start: options.get_start(),
        created: u64::try_from(created.as_nanos()).unwrap_or(u64::MAX),
    })
}

/// Writes what a new ring begins with. All else is zero, as the file is.
fn write(file: &File, header: &Header) -> io::Result<()> {
    file.write_all_at(&header.encode(), 0)?;
    let put = |at: u64, value: u64| file.write_all_at(&value.to_le_bytes(), at);
    if header.start == 0 {
        return Ok(());
    }
    match header.slots() {
        None => region::CURSORS.iter().try_for_each(|at| put(at.offset() as u64, header.start)),
        Some(ring) => {
            for hint in region::HINTS {
                put(hint.offset() as u64, ring.canonical(header.start))?;
            }
            // One call for each slot: only tests begin elsewhere than at 0.
            (0..ring.slots()).try_for_each(|index| {
                let word = slot::Word::empty(ring.first_lap(index, header.start));
                put(header.data_off() + index * ring.stride(), word.0)
            })
        }
    }
}

/// The header of a file of `len` bytes.
pub(crate) fn read_header(place: &Place, file: &File, len: u64) -> Result<Header, OpenError> {
    let mut buffer = [0; header::HEADER_LEN];
    let bytes = shm::snapshot(file, &mut buffer).map_err(|e| os(place, "reading its header", e))?;
    let ring = place.name.clone();
    Header::decode(bytes, len).map_err(|malformed| match malformed {
        Malformed::Zeros => OpenError::NotARing { ring, why: "it holds nothing but zeros" },
        Malformed::NotARing => OpenError::NotARing { ring, why: "it is a file of another kind" },
        Malformed::Version { found } => {
            OpenError::Version { ring, found, supported: header::VERSION }
        }
        Malformed::Kind { .. } => OpenError::Corrupt { ring, what: "kind field" },
        Malformed::Truncated { found, wanted } => OpenError::Truncated { ring, found, wanted },
        Malformed::Corrupt { what } => OpenError::Corrupt { ring, what },
    })
}

/// Refuses a ring that is not what was explicitly asked for.
fn compare(place: &Place, header: &Header, options: &Options) -> Result<(), OpenError> {
    let mismatch = |what, found: String, wanted: String| {
        Err(OpenError::Mismatch { ring: place.name.clone(), what, found, wanted })
    };
    if let Some(wanted) = options.given_capacity() {
        if wanted != header.capacity {
            return mismatch("capacity", header.capacity.to_string(), wanted.to_string());
        }
    }
    if let Some(wanted) = options.given_max_len() {
        if wanted != header.max_len {
            return mismatch("max_len", header.max_len.to_string(), wanted.to_string());
        }
    }
    if let Some(wanted) = options.given_keep_open() {
        if wanted != header.keep_open() {
            return mismatch("keep_open", header.keep_open().to_string(), wanted.to_string());
        }
    }
    if let Some(wanted) = options.given_delivery() {
        let found = delivery(header);
        if wanted != found {
            return mismatch("delivery", found.to_string(), wanted.to_string());
        }
    }
    Ok(())
}

/// What becomes of a message whose receiver dies, in this ring.
pub(crate) fn delivery(header: &Header) -> Delivery {
    if header.at_most_once() { Delivery::AtMostOnce } else { Delivery::AtLeastOnce }
}

/// Takes the seat that is named, if one is; answers it when somebody else has it.
fn take(place: &Place, held: &Held, seat: Option<Role>) -> Result<Option<Role>, OpenError> {
    let Some(role) = seat else { return Ok(None) };
    let locked = lock::try_lock(held.fd(), role.lock_byte())
        .map_err(|e| os(place, "locking its seat", e))?;
    Ok((!locked).then_some(role))
}

fn taken(place: &Place, role: Role) -> OpenError {
    OpenError::SeatTaken { ring: place.name.clone(), role: role.name() }
}

fn map(place: &Place, held: Held, total: u64) -> Result<Mapping, OpenError> {
    let len = usize::try_from(total)
        .ok()
        .filter(|&len| len <= isize::MAX as usize)
        .ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory));
    len.and_then(|len| Mapping::new(held, len)).map_err(|e| os(place, "mapping its file", e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::control;
    use crate::os::testing::{self, Child};
    use crate::sync::{AtomicU64, Ordering};
    use std::fs;
    use std::os::fd::{AsFd, AsRawFd};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    fn create(name: &str, role: Role, options: &Options) -> Result<Endpoint, OpenError> {
        Endpoint::create(name, Kind::Spsc, Some(role), options)
    }

    fn open(name: &str, role: Role) -> Result<Endpoint, OpenError> {
        Endpoint::open(name, Kind::Spsc, Some(role), &Options::new())
    }

    fn make(name: &str) {
        drop(create(name, Role::Sender, &Options::new()).unwrap());
    }

    /// What is refused stays as it is.
    fn refused(name: &str, is: fn(&OpenError) -> bool) {
        let before = fs::read(name).unwrap();
        let times = |path: &str| {
            let found = fs::metadata(path).unwrap();
            (found.mtime(), found.mtime_nsec(), found.mode(), found.len())
        };
        let then = times(name);
        for role in [Role::Sender, Role::Receiver] {
            for attempt in [Endpoint::open, Endpoint::open_or_create] {
                let error = attempt(name, Kind::Spsc, Some(role), &Options::new()).unwrap_err();
                assert!(is(&error), "{error:?}");
                assert!(error.to_string().contains("ticks"), "{error}");
            }
        }
        assert!(fs::read(name).unwrap() == before, "a refused file is not written to");
        assert_eq!(times(name), then);
        assert!(create(name, Role::Sender, &Options::new()).unwrap_err().is_already_exists());
    }

    fn word(endpoint: &Endpoint, at: usize) -> u64 {
        let mut bytes = [0; 8];
        endpoint.mapping.file().read_exact_at(&mut bytes, at as u64).unwrap();
        u64::from_le_bytes(bytes)
    }

    #[test]
    fn a_created_ring_is_what_was_asked_for() {
        let dir = testing::dir();
        let name = dir.name("ticks");
        let options = Options::new()
            .capacity(8192)
            .keep_open(true)
            .delivery(Delivery::AtMostOnce)
            .start_position(u64::MAX - 63);
        let sender = create(&name, Role::Sender, &options).unwrap();
        assert_eq!(sender.header.capacity, 8192);
        assert_eq!(sender.header.max_len, 4096 - 64);
        assert!(sender.header.keep_open());
        assert!(sender.header.at_most_once());
        assert_eq!(sender.mapping.len() as u64, header::DATA_OFF + 8192);
        assert_eq!(sender.name.as_str(), name);
        assert_eq!(sender.role, Some(Role::Sender));
        for at in region::CURSORS.map(control::Word::offset) {
            assert_eq!(word(&sender, at), u64::MAX - 63);
        }
        assert_eq!(word(&sender, control::SENDER_SEAT.offset()), 0);
        let found = fs::metadata(&name).unwrap();
        assert_eq!(found.len(), header::DATA_OFF + 8192);
        assert!(found.blocks() * 512 >= found.len(), "every byte exists");
        assert_eq!(found.mode() & 0o7777, 0o600);
        let receiver = open(&name, Role::Receiver).unwrap();
        assert_eq!(receiver.header, sender.header);
        assert_eq!(dir.count(), 1);
    }

    #[test]
    fn both_ends_live_in_one_process_and_see_each_other() {
        let dir = testing::dir();
        let name = dir.name("ticks");
        let sender = create(&name, Role::Sender, &Options::new()).unwrap();
        assert!(!sender.peer_holds_lock().unwrap());
        let receiver = open(&name, Role::Receiver).unwrap();
        assert!(sender.peer_holds_lock().unwrap());
        assert!(receiver.peer_holds_lock().unwrap());
        assert_ne!(sender.mapping.base(), receiver.mapping.base());
        drop(sender);
        assert!(!receiver.peer_holds_lock().unwrap());
    }

    #[test]
    fn a_seat_is_one_persons_until_it_leaves() {
        let dir = testing::dir();
        let name = dir.name("ticks");
        let sender = create(&name, Role::Sender, &Options::new()).unwrap();
        let error = open(&name, Role::Sender).unwrap_err();
        assert!(error.is_seat_taken(), "{error}");
        assert!(error.to_string().contains("has a sender already"), "{error}");
        drop(sender);
        let _receiver = open(&name, Role::Receiver).unwrap();
        assert!(open(&name, Role::Receiver).unwrap_err().is_seat_taken());
        open(&name, Role::Sender).unwrap();
    }

    #[test]
    fn a_ring_that_is_not_there_is_not_found() {
        let dir = testing::dir();
        assert!(open(&dir.name("ticks"), Role::Sender).unwrap_err().is_not_found());
        assert_eq!(dir.count(), 0);
    }

    #[test]
    fn a_taken_name_is_refused_before_anything_is_allocated() {
        let dir = testing::dir();
        let name = dir.name("ticks");
        make(&name);
        // More than there is: allocating it would say so.
        let options = Options::new().capacity(options_max());
        assert!(create(&name, Role::Sender, &options).unwrap_err().is_already_exists());
        symlink("nowhere", dir.name("dangling")).unwrap();
        let error = create(&dir.name("dangling"), Role::Sender, &options).unwrap_err();
        assert!(error.is_already_exists());
        assert_eq!(dir.count(), 2);
    }

    fn options_max() -> usize {
        crate::layout::geometry::MAX_CAPACITY as usize
    }

    #[test]
    fn options_that_can_not_be_are_refused_before_a_file_is_made() {
        let dir = testing::dir();
        let name = dir.name("ticks");
        for options in [
            Options::new().capacity(5000),
            Options::new().mode(0o666),
            Options::new().start_position(1),
        ] {
            assert!(create(&name, Role::Sender, &options).unwrap_err().is_bad_option());
            let error = Endpoint::open_or_create(&name, Kind::Spsc, Some(Role::Sender), &options);
            assert!(error.unwrap_err().is_bad_option());
        }
        assert_eq!(dir.count(), 0);
    }

    #[test]
    fn an_existing_ring_wins_unless_something_else_was_asked_for() {
        let dir = testing::dir();
        let name = dir.name("ticks");
        let either = |options: &Options| {
            Endpoint::open_or_create(&name, Kind::Spsc, Some(Role::Sender), options)
        };
        let first = either(&Options::new().capacity(8192)).unwrap();
        let uuid = first.header.uuid;
        drop(first);
        for options in [
            Options::new(),
            Options::new().capacity(8192),
            Options::new().keep_open(false).delivery(Delivery::AtLeastOnce),
            Options::new().mode(0o640).accept_uid(7).accept_gid(7),
        ] {
            assert_eq!(either(&options).unwrap().header.uuid, uuid);
        }
        for (options, words) in [
            (Options::new().capacity(4096), "has capacity 8192, and 4096 was asked for"),
            (Options::new().keep_open(true), "has keep_open false, and true was asked for"),
            (
                Options::new().delivery(Delivery::AtMostOnce),
                "has delivery at-least-once, and at-most-once was asked for",
            ),
        ] {
            let error = either(&options).unwrap_err();
            assert!(error.is_mismatch(), "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
        // A mismatch takes no seat.
        either(&Options::new()).unwrap();
    }

    #[test]
    fn the_mode_is_the_one_asked_for_whatever_the_umask() {
        let dir = testing::forking_dir();
        for umask in [0o000, 0o027, 0o077, 0o777] {
            for mode in [0o600, 0o660, 0o640, 0o664] {
                let name = dir.name(&format!("ticks-{umask:o}-{mode:o}"));
                assert!(Child::run(|| {
                    testing::umask(umask);
                    create(&name, Role::Sender, &Options::new().mode(mode)).is_ok()
                }));
                assert_eq!(fs::metadata(&name).unwrap().mode() & 0o7777, mode);
            }
        }
    }

    #[test]
    fn a_ring_that_everybody_can_write_to_is_refused() {
        let dir = testing::dir();
        let name = dir.name("ticks");
        make(&name);
        fs::set_permissions(&name, fs::Permissions::from_mode(0o666)).unwrap();
        refused(&name, OpenError::is_too_open);
    }

    #[test]
    fn a_ring_of_somebody_else_is_refused_unless_named() {
        let dir = testing::dir();
        let name = dir.name("ticks");
        make(&name);
        if std::os::unix::fs::chown(&name, Some(12345), Some(54321)).is_err() {
            return testing::skip("a_ring_of_somebody_else_is_refused_unless_named", "needs root");
        }
        refused(&name, OpenError::is_not_ours);
        for options in [Options::new().accept_uid(12345), Options::new().accept_gid(54321)] {
            Endpoint::open(&name, Kind::Spsc, Some(Role::Sender), &options).unwrap();
        }
        for options in [Options::new().accept_uid(54321), Options::new().accept_gid(12345)] {
            let error =
                Endpoint::open(&name, Kind::Spsc, Some(Role::Sender), &options).unwrap_err();
            assert!(matches!(error, OpenError::NotOurs { uid: 12345, .. }), "{error}");
        }
    }

    #[test]
    fn what_is_not_a_file_is_told_by_its_name() {
        let dir = testing::dir();
        let expect = |file: &str, words: &str| {
            let name = dir.name(file);
            for role in [Role::Sender, Role::Receiver] {
                let error = open(&name, role).unwrap_err();
                assert!(error.is_not_a_ring(), "{error}");
                assert!(error.to_string().contains(words), "{error}");
                let either =
                    Endpoint::open_or_create(&name, Kind::Spsc, Some(role), &Options::new());
                assert!(either.unwrap_err().is_not_a_ring());
                let error = create(&name, role, &Options::new()).unwrap_err();
                assert!(error.is_already_exists(), "{error}");
            }
        };
        fs::create_dir(dir.name("folder")).unwrap();
        expect("folder", "it is a folder");
        make(&dir.name("ticks"));
        symlink(dir.name("ticks"), dir.name("link")).unwrap();
        expect("link", "it is a symbolic link");
        symlink("nowhere", dir.name("dangling")).unwrap();
        expect("dangling", "it is a symbolic link");
        assert!(!dir.path().join("nowhere").exists());
        testing::mkfifo(&dir.path().join("pipe"));
        expect("pipe", "it is a named pipe");
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
        expect("socket", "it is a socket");
        match testing::mknod_null(&dir.path().join("device")) {
            Ok(()) => expect("device", "it is a device"),
            Err(_) => testing::skip("what_is_not_a_file_is_told_by_its_name", "device needs root"),
        }
    }

    #[test]
    fn a_file_that_is_no_ring_is_refused_and_not_written_to() {
        let dir = testing::dir();
        let name = dir.name("ticks");
        for content in [vec![0; 4], vec![0; 100_000], b"#!/bin/sh\n".to_vec(), vec![255; 4096]] {
            fs::write(&name, content).unwrap();
            refused(&name, OpenError::is_not_a_ring);
        }
    }

    #[test]
    fn a_ring_of_another_kind_or_version_is_refused() {
        let dir = testing::dir();
        let name = dir.name("ticks");
        Endpoint::make(&name, Kind::Mpmc, &Options::new()).unwrap();
        let file = File::options().write(true).open(&name).unwrap();
        refused(&name, OpenError::is_wrong_kind);
        let other = dir.name("bytes");
        make(&other);
        for attempt in [Endpoint::open, Endpoint::open_or_create] {
            let error = attempt(&other, Kind::Mpmc, None, &Options::new()).unwrap_err();
            assert!(error.is_wrong_kind(), "{error}");
        }
        file.write_all_at(&2u32.to_le_bytes(), 8).unwrap();
        refused(&name, OpenError::is_version);
    }

    fn slots(name: &str, options: &Options) -> Endpoint {
        Endpoint::create(name, Kind::Mpmc, None, options).unwrap()
    }

    fn open_slots(name: &str, options: &Options) -> Result<Endpoint, OpenError> {
        Endpoint::open(name, Kind::Mpmc, None, options)
    }

    #[test]
    fn a_created_ring_of_slots_is_what_was_asked_for() {
        let dir = testing::dir();
        // On line 0, in the middle of a lap, and where positions wrap.
        for (at, start) in [0, 5, 0u64.wrapping_sub(3)].into_iter().enumerate() {
            let name = dir.name(&format!("ticks-{at}"));
            let options = Options::new()
                .capacity(8)
                .max_len(100)
                .keep_open(true)
                .delivery(Delivery::AtMostOnce)
                .mode(0o640)
                .start_position(start);
            let ring = slots(&name, &options);
            assert_eq!((ring.header.capacity, ring.header.max_len), (8, 100));
            assert_eq!(ring.header.start, start);
            assert!(ring.header.keep_open() && ring.header.at_most_once());
            assert_eq!(ring.role, None);
            let found = fs::metadata(&name).unwrap();
            assert_eq!(found.len(), 0x25000 + 8 * 128);
            assert_eq!(found.len(), ring.mapping.len() as u64);
            assert!(found.blocks() * 512 >= found.len(), "every byte exists");
            assert_eq!(found.mode() & 0o7777, 0o640);

            let view = ring.slots().unwrap();
            let fresh = region::slots(view.ring(), start);
            assert_eq!(view.ring(), Slots::new(8, 100, 1024).unwrap());
            for hint in region::HINTS {
                let expected = fresh.word(hint).load(Ordering::Relaxed);
                assert_eq!(view.word(hint).load(Ordering::Relaxed), expected);
                assert_eq!(word(&ring, hint.offset()), expected);
            }
            for index in 0..8 {
                let expected = fresh.slot(index).word().load(Ordering::Relaxed);
                assert_eq!(
                    view.slot(index).word().load(Ordering::Relaxed),
                    expected,
                    "slot {index}"
                );
                assert_eq!(word(&ring, 0x25000 + 128 * index as usize), expected, "slot {index}");
            }
            let other = open_slots(&name, &Options::new()).unwrap();
            assert_eq!(other.header, ring.header);
            other.slots().unwrap().slot(7).word().store(77, Ordering::Relaxed);
            assert_eq!(view.slot(7).word().load(Ordering::Relaxed), 77, "one memory");
        }
    }

    #[test]
    fn no_ring_is_looked_at_as_one_of_the_other_kind() {
        let dir = testing::dir();
        assert!(slots(&dir.name("slots"), &Options::new()).view().unwrap_err().is_corrupt());
        let bytes = create(&dir.name("bytes"), Role::Sender, &Options::new()).unwrap();
        assert!(bytes.slots().unwrap_err().is_corrupt());
        bytes.view().unwrap();
    }

    #[test]
    fn an_existing_ring_of_slots_wins_unless_something_else_was_asked_for() {
        let dir = testing::dir();
        let name = dir.name("ticks");
        let uuid = slots(&name, &Options::new().capacity(4).max_len(64)).header.uuid;
        let either = |options: &Options| {
            let opened = open_slots(&name, options);
            let other = Endpoint::open_or_create(&name, Kind::Mpmc, None, options);
            assert_eq!(opened.is_ok(), other.is_ok());
            opened
        };
        for options in [
            Options::new(),
            Options::new().capacity(4),
            Options::new().max_len(64),
            Options::new().capacity(4).max_len(64).keep_open(false),
        ] {
            assert_eq!(either(&options).unwrap().header.uuid, uuid);
        }
        for (options, words) in [
            (Options::new().capacity(8), "has capacity 4, and 8 was asked for"),
            (Options::new().max_len(63), "has max_len 64, and 63 was asked for"),
            (Options::new().keep_open(true), "has keep_open false, and true was asked for"),
        ] {
            let error = either(&options).unwrap_err();
            assert!(error.is_mismatch(), "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn options_that_no_slots_can_have_are_refused_before_a_file_is_made() {
        let dir = testing::dir();
        let name = dir.name("ticks");
        for options in [
            Options::new().capacity(1000),
            Options::new().max_len(usize::MAX),
            Options::new().mode(0o666),
        ] {
            for attempt in [Endpoint::create, Endpoint::open_or_create] {
                let error = attempt(&name, Kind::Mpmc, None, &options).unwrap_err();
                assert!(error.is_bad_option(), "{error}");
            }
        }
        assert_eq!(dir.count(), 0);
    }

    #[test]
    fn a_length_of_messages_is_nothing_that_a_ring_of_bytes_has() {
        let dir = testing::dir();
        let name = dir.name("ticks");
        make(&name);
        for attempt in [Endpoint::create, Endpoint::open, Endpoint::open_or_create] {
            let options = Options::new().max_len(256);
            let error = attempt(&name, Kind::Spsc, Some(Role::Sender), &options).unwrap_err();
            assert!(error.is_bad_option(), "{error}");
        }
    }

    #[test]
    fn whoever_names_no_seat_takes_none_and_locks_what_it_likes() {
        let dir = testing::dir();
        let name = dir.name("ticks");
        let one = slots(&name, &Options::new().capacity(2));
        let two = open_slots(&name, &Options::new()).unwrap();
        let look = File::open(&name).unwrap();
        for byte in [1, 2, 3, 64, 64 + 1023].map(|byte| crate::roster::LOCK_BASE + byte) {
            assert!(!lock::is_held(look.as_fd(), byte).unwrap());
            assert!(one.try_lock(byte).unwrap());
            assert!(!one.is_held(byte).unwrap(), "one's own lock is not another's");
            assert!(two.is_held(byte).unwrap());
            assert!(!two.try_lock(byte).unwrap());
            one.unlock(byte).unwrap();
            assert!(two.try_lock(byte).unwrap());
            assert!(one.is_held(byte).unwrap());
        }
        two.unlock(crate::roster::LOCK_BASE + 64).unwrap();
        assert!(!one.is_held(crate::roster::LOCK_BASE + 64).unwrap());
        assert!(one.is_held(crate::roster::LOCK_BASE + 3).unwrap(), "only that one");
        assert!(!one.peer_holds_lock().unwrap(), "without a role there is no other end");
        drop(two);
        assert!(!one.is_held(crate::roster::LOCK_BASE + 3).unwrap());
    }

    #[test]
    fn whoever_has_a_ring_open_can_ask_whether_it_has_its_name() {
        let dir = testing::dir();
        let name = dir.name("ticks");
        let old = slots(&name, &Options::new().capacity(2));
        assert!(old.has_its_name().unwrap());
        fs::remove_file(&name).unwrap();
        assert!(!old.has_its_name().unwrap());
        let new = slots(&name, &Options::new().capacity(2));
        assert!(!old.has_its_name().unwrap());
        assert!(new.has_its_name().unwrap());
        fs::rename(&name, dir.name("other")).unwrap();
        assert!(!new.has_its_name().unwrap() && !new.is_unlinked());
    }

    #[test]
    fn a_child_can_not_touch_the_locks_of_its_parent() {
        let dir = testing::forking_dir();
        let name = dir.name("ticks");
        let byte = crate::roster::LOCK_BASE + 64;
        let ring = slots(&name, &Options::new().capacity(2));
        assert!(ring.try_lock(byte).unwrap());
        assert!(Child::run(|| {
            // Whatever has these numbers now is not the ring's.
            let _other: Vec<_> = (0..8).map(|_| File::open("/dev/null").unwrap()).collect();
            assert!(ring.is_held(byte).is_err());
            assert!(ring.try_lock(byte).is_err());
            assert!(ring.unlock(byte).is_err());
            assert!(ring.has_its_name().unwrap_err().is_os());
            assert!(ring.truncated().is_none());
            let own = open_slots(&name, &Options::new()).unwrap();
            own.is_held(byte).unwrap() && !own.try_lock(byte).unwrap()
        }));
        assert!(open_slots(&name, &Options::new()).unwrap().is_held(byte).unwrap());
    }

    #[test]
    fn every_changed_byte_or_length_of_a_file_of_slots_is_refused() {
        let dir = testing::dir();
        let name = dir.name("ticks");
        let total = slots(&name, &Options::new().capacity(2).max_len(0)).header.total();
        let file = File::options().read(true).write(true).open(&name).unwrap();
        let mut sound = [0; header::HEADER_LEN];
        file.read_exact_at(&mut sound, 0).unwrap();
        for (at, &byte) in sound.iter().enumerate() {
            for changed in [byte ^ 1, byte ^ 0x80, !byte] {
                file.write_all_at(&[changed], at as u64).unwrap();
                open_slots(&name, &Options::new()).unwrap_err();
            }
            file.write_all_at(&[byte], at as u64).unwrap();
        }
        file.set_len(total + 1).unwrap();
        open_slots(&name, &Options::new()).unwrap();
        for len in [total - 1, total - 64, 0x25000, 0x24fff, 0x5000, 257, 256, 255, 8, 1, 0] {
            file.set_len(len).unwrap();
            let error = open_slots(&name, &Options::new()).unwrap_err();
            assert!(error.is_truncated(), "{len}: {error}");
        }
    }

    #[test]
    fn every_length_of_a_cut_ring_is_refused() {
        let dir = testing::dir();
        let name = dir.name("ticks");
        let options = Options::new().capacity(4096);
        drop(create(&name, Role::Sender, &options).unwrap());
        let whole = fs::read(&name).unwrap();
        let file = File::options().write(true).open(&name).unwrap();
        for len in (1..whole.len()).rev() {
            // Every length around the edges, and some between them.
            if len > 300 && len % 4096 > 1 && len % 4096 < 4095 && len % 61 != 0 {
                continue;
            }
            file.set_len(len as u64).unwrap();
            let error = open(&name, Role::Receiver).unwrap_err();
            assert!(error.is_truncated(), "{len}: {error}");
            assert_eq!(fs::metadata(&name).unwrap().len(), len as u64);
        }
        file.set_len(0).unwrap();
        refused(&name, OpenError::is_truncated);
    }

    #[test]
    fn every_changed_byte_of_the_header_is_refused_and_stays_as_it_is() {
        let dir = testing::dir();
        let name = dir.name("ticks");
        make(&name);
        let file = File::options().read(true).write(true).open(&name).unwrap();
        let mut sound = [0; header::HEADER_LEN];
        file.read_exact_at(&mut sound, 0).unwrap();
        for (at, &byte) in sound.iter().enumerate() {
            for changed in [byte ^ 1, byte ^ 0x80, !byte, byte.wrapping_add(1)] {
                file.write_all_at(&[changed], at as u64).unwrap();
                open(&name, Role::Receiver).unwrap_err();
                let mut now = [0; 1];
                file.read_exact_at(&mut now, at as u64).unwrap();
                assert_eq!(now, [changed]);
            }
            file.write_all_at(&[byte], at as u64).unwrap();
        }
        open(&name, Role::Receiver).unwrap();
        refused_after(&name, &file);
    }

    fn refused_after(name: &str, file: &File) {
        file.write_all_at(&[1], 0x60).unwrap();
        refused(name, OpenError::is_corrupt);
    }

    #[test]
    fn an_endpoint_may_move_to_another_thread() {
        fn assert<T: Send + Sync>() {}
        assert::<Endpoint>();
    }

    #[test]
    fn names_that_can_not_be_are_refused_by_every_verb() {
        let long = "x".repeat(201);
        for name in ["", ".", "..", "a\0b", "/tmp/", &long] {
            for attempt in [Endpoint::create, Endpoint::open, Endpoint::open_or_create] {
                let error =
                    attempt(name, Kind::Spsc, Some(Role::Sender), &Options::new()).unwrap_err();
                assert!(error.is_bad_name(), "{error}");
            }
        }
    }

    #[test]
    fn a_full_filesystem_is_a_clean_error() {
        const SIZE: usize = 1 << 20;
        const SKIPPED: i32 = 77 << 8;
        let dir = testing::forking_dir();
        let status = Child::start(|| {
            if testing::mount_small_tmpfs(dir.path(), SIZE).is_err() {
                testing::exit(77);
            }
            let name = dir.name("ticks");
            let free = || {
                let probe =
                    create(&dir.name("probe"), Role::Sender, &Options::new().capacity(1 << 30));
                match probe.unwrap_err() {
                    OpenError::NoSpace { free, .. } => free,
                    other => panic!("{other}"),
                }
            };
            let before = free();
            assert!(before > 0 && before <= SIZE as u64);
            for capacity in [1 << 20, 1 << 24] {
                let options = Options::new().capacity(capacity);
                match create(&name, Role::Sender, &options).unwrap_err() {
                    OpenError::NoSpace { wanted, free, .. } => {
                        assert_eq!(wanted, header::DATA_OFF + capacity as u64);
                        assert_eq!(free, before);
                    }
                    other => panic!("{other}"),
                }
            }
            assert_eq!(dir.count(), 0, "nothing is left behind");
            assert_eq!(free(), before);
            let kept = create(&name, Role::Sender, &Options::new()).unwrap();
            let left = free();
            assert!(left < before);
            drop(kept);
            fs::remove_file(&name).unwrap();
            assert_eq!(free(), before);
            true
        })
        .wait();
        if status == SKIPPED {
            return testing::skip("a_full_filesystem_is_a_clean_error", "needs to mount");
        }
        assert_eq!(status, 0);
    }

    #[test]
    fn without_proc_a_ring_is_made_under_a_hidden_name() {
        let dir = testing::forking_dir();
        let name = dir.name("ticks");
        let status = Child::start(|| {
            if testing::mount_small_tmpfs(Path::new("/proc"), 4096).is_err() {
                testing::exit(77);
            }
            let sender = create(&name, Role::Sender, &Options::new()).unwrap();
            assert_eq!(dir.count(), 1);
            let error = create(&name, Role::Sender, &Options::new()).unwrap_err();
            assert!(error.is_already_exists());
            assert_eq!(dir.count(), 1);
            let huge = Options::new().capacity(options_max());
            create(&dir.name("huge"), Role::Sender, &huge).unwrap_err();
            assert_eq!(dir.count(), 1, "the hidden name is gone");
            let receiver = open(&name, Role::Receiver).unwrap();
            receiver.header == sender.header
        })
        .wait();
        if status == 77 << 8 {
            return testing::skip("without_proc_a_ring_is_made_under_a_hidden_name", "no mounts");
        }
        assert_eq!(status, 0);
        open(&name, Role::Receiver).unwrap();
    }

    #[test]
    fn a_creator_that_is_killed_leaves_a_whole_ring_or_none() {
        let dir = testing::forking_dir();
        let name = dir.name("ticks");
        let mut random = 1u32;
        for _ in 0..50 {
            let (mut ready, mut tell) = std::os::unix::net::UnixStream::pair().unwrap();
            let name = &name;
            let child = Child::start(move || {
                io::Write::write_all(&mut tell, b"!").unwrap();
                loop {
                    drop(create(name, Role::Sender, &Options::new().capacity(1 << 20)));
                    let _ = fs::remove_file(name);
                }
            });
            io::Read::read_exact(&mut ready, &mut [0]).unwrap();
            // Somewhere in its loop, another place each time.
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            for _ in 0..random >> 18 {
                std::hint::spin_loop();
            }
            child.kill();
            match open(name, Role::Sender) {
                Ok(_) => fs::remove_file(name).unwrap(),
                Err(error) => assert!(error.is_not_found(), "{error}"),
            }
            assert_eq!(dir.count(), 0);
        }
    }

    #[test]
    fn an_unlinked_ring_says_so_and_its_name_is_free() {
        let dir = testing::dir();
        let name = dir.name("ticks");
        let old = create(&name, Role::Sender, &Options::new()).unwrap();
        assert!(!old.is_unlinked());
        fs::remove_file(&name).unwrap();
        assert!(old.is_unlinked());
        let new = create(&name, Role::Sender, &Options::new()).unwrap();
        assert_ne!(old.header.uuid, new.header.uuid);
        assert!(old.is_unlinked());
        assert!(!new.is_unlinked());
        let receiver = open(&name, Role::Receiver).unwrap();
        assert_eq!(receiver.header.uuid, new.header.uuid);
        assert!(new.peer_holds_lock().unwrap());
        assert!(!old.peer_holds_lock().unwrap());
    }

    #[test]
    fn a_truncated_ring_says_so() {
        let dir = testing::dir();
        let name = dir.name("ticks");
        let sender = create(&name, Role::Sender, &Options::new()).unwrap();
        assert_eq!(sender.truncated(), None);
        File::options().write(true).open(&name).unwrap().set_len(4096).unwrap();
        assert_eq!(sender.truncated(), Some((4096, sender.header.total())));
    }

    #[test]
    fn of_two_creators_exactly_one_wins() {
        let dir = testing::dir();
        let wins = AtomicU64::new(0);
        const ROUNDS: u64 = 100;
        const CREATORS: usize = 4;
        let gate = std::sync::Barrier::new(CREATORS);
        std::thread::scope(|scope| {
            for creator in 0..CREATORS {
                let (gate, wins, dir) = (&gate, &wins, &dir);
                scope.spawn(move || {
                    let role = if creator % 2 == 0 { Role::Sender } else { Role::Receiver };
                    for round in 0..ROUNDS {
                        let name = dir.name(&format!("ticks-{round}"));
                        gate.wait();
                        match create(&name, role, &Options::new().capacity(4096)) {
                            Ok(_) => {
                                wins.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(error) => assert!(error.is_already_exists(), "{error}"),
                        }
                    }
                });
            }
        });
        assert_eq!(wins.load(Ordering::Relaxed), ROUNDS);
        assert_eq!(dir.count() as u64, ROUNDS);
    }

    #[test]
    fn whoever_comes_second_finds_the_ring_of_the_first() {
        let dir = testing::dir();
        let gate = std::sync::Barrier::new(2);
        const ROUNDS: u64 = 100;
        let end = |role: Role| {
            let mut uuids = Vec::new();
            for round in 0..ROUNDS {
                let name = dir.name(&format!("ticks-{round}"));
                gate.wait();
                let options = Options::new().capacity(4096);
                let endpoint = Endpoint::open_or_create(&name, Kind::Spsc, Some(role), &options);
                uuids.push(endpoint.unwrap().header.uuid);
            }
            uuids
        };
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| end(Role::Sender));
            assert_eq!(end(Role::Receiver), sender.join().unwrap());
        });
    }

    /// Opens, with something happening between the reading and the locking.
    fn open_while(
        name: &str,
        role: Role,
        mut happens: impl FnMut(),
    ) -> Result<Endpoint, OpenError> {
        let place = shm::place(name)?;
        arm(&place)?;
        let happens = std::cell::RefCell::new(&mut happens);
        super::open(&place, Kind::Spsc, Some(role), &Options::new(), |_| {
            (happens.borrow_mut())();
            Ok(())
        })
    }

    #[test]
    fn a_ring_replaced_while_it_is_opened_is_not_the_one_that_is_opened() {
        let dir = testing::dir();
        let name = dir.name("ticks");
        make(&name);
        let mut new = None;
        let opened = open_while(&name, Role::Receiver, || {
            if new.is_none() {
                fs::remove_file(&name).unwrap();
                new = Some(create(&name, Role::Sender, &Options::new()).unwrap());
            }
        });
        let (opened, new) = (opened.unwrap(), new.unwrap());
        assert_eq!(opened.header.uuid, new.header.uuid);
        assert!(new.peer_holds_lock().unwrap());
    }

    #[test]
    fn a_seat_taken_on_a_ring_that_was_replaced_does_not_matter() {
        let dir = testing::dir();
        let name = dir.name("ticks");
        let old = create(&name, Role::Receiver, &Options::new()).unwrap();
        let mut new = None;
        let opened = open_while(&name, Role::Receiver, || {
            if new.is_none() {
                fs::remove_file(&name).unwrap();
                new = Some(create(&name, Role::Sender, &Options::new()).unwrap());
            }
        });
        let opened = opened.unwrap();
        assert_eq!(opened.header.uuid, new.unwrap().header.uuid);
        assert_ne!(opened.header.uuid, old.header.uuid);
    }

    #[test]
    fn a_ring_that_is_replaced_again_and_again_is_not_found() {
        let dir = testing::dir();
        let name = dir.name("ticks");
        make(&name);
        let mut times = 0;
        let error = open_while(&name, Role::Receiver, || {
            times += 1;
            fs::remove_file(&name).unwrap();
            make(&name);
        });
        assert!(error.unwrap_err().is_not_found());
        assert_eq!(times, 1 + RETRIES);
    }

    #[test]
    fn opening_against_unlinking_never_ends_on_a_ring_without_a_name() {
        let dir = testing::dir();
        let name = dir.name("ticks");
        let done = AtomicU64::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while done.load(Ordering::Relaxed) == 0 {
                    let _ = fs::remove_file(&name);
                }
            });
            for _ in 0..300 {
                let options = Options::new().capacity(4096);
                let either =
                    Endpoint::open_or_create(&name, Kind::Spsc, Some(Role::Sender), &options);
                if let Err(error) = either {
                    let lost = error.is_not_found() || error.is_already_exists();
                    assert!(lost, "{error}");
                }
            }
            done.store(1, Ordering::Relaxed);
        });
    }

    #[test]
    fn a_child_has_nothing_of_its_parents_ring_and_may_open_its_own_end() {
        let dir = testing::forking_dir();
        if !testing::can_keep_maps_from_children() {
            return testing::skip(
                "a_child_has_nothing_of_its_parents_ring_and_may_open_its_own_end",
                "no MADV_DONTFORK",
            );
        }
        let name = dir.name("ticks");
        let sender = create(&name, Role::Sender, &Options::new()).unwrap();
        let fd = sender.mapping.file().as_raw_fd();
        let base = sender.mapping.base();
        assert!(!sender.forked());
        assert!(Child::run(|| {
            assert!(sender.forked());
            assert!(!testing::is_open(fd));
            assert!(!testing::is_mapped(base));
            assert!(!sender.is_unlinked() && sender.truncated().is_none());
            assert!(open(&name, Role::Sender).unwrap_err().is_seat_taken());
            let receiver = open(&name, Role::Receiver).unwrap();
            !receiver.forked() && receiver.peer_holds_lock().unwrap() && sender.forked()
        }));
        assert!(!sender.forked());
        assert!(!sender.peer_holds_lock().unwrap());
        assert!(open(&name, Role::Sender).unwrap_err().is_seat_taken(), "it is still ours");
    }

    #[test]
    fn a_parents_seat_is_free_when_it_dies_although_its_child_lives() {
        use std::io::{Read, Write};
        use std::os::unix::net::UnixStream;
        let dir = testing::forking_dir();
        if !testing::can_keep_maps_from_children() {
            return testing::skip(
                "a_parents_seat_is_free_when_it_dies_although_its_child_lives",
                "no MADV_DONTFORK",
            );
        }
        let name = dir.name("ticks");
        let receiver = create(&name, Role::Receiver, &Options::new()).unwrap();
        let (mut child_alive, alive_end) = UnixStream::pair().unwrap();
        let (end_of_test, mut keep_alive) = UnixStream::pair().unwrap();
        let parent = Child::start(move || {
            let _sender = open(&name, Role::Sender).unwrap();
            let _child = Child::start(move || {
                let (mut alive_end, mut end_of_test) = (alive_end, end_of_test);
                alive_end.write_all(b"!").unwrap();
                end_of_test.read_exact(&mut [0]).is_ok()
            });
            loop {
                std::thread::park();
            }
        });
        child_alive.read_exact(&mut [0]).unwrap();
        assert!(receiver.peer_holds_lock().unwrap());
        parent.kill();
        assert!(!receiver.peer_holds_lock().unwrap());
        open(&dir.name("ticks"), Role::Sender).unwrap();
        keep_alive.write_all(b"!").unwrap();
        assert_eq!(child_alive.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_seat_taken_while_another_thread_forks_is_free_after_death_all_the_same() {
        use std::io::{Read, Write};
        use std::os::unix::net::UnixStream;
        const RINGS: usize = 20;
        const FORKS: usize = 10 * RINGS;
        let dir = testing::forking_dir();
        if !testing::can_keep_maps_from_children() {
            return testing::skip(
                "a_seat_taken_while_another_thread_forks_is_free_after_death_all_the_same",
                "no MADV_DONTFORK",
            );
        }
        let (mut ready, tell) = UnixStream::pair().unwrap();
        let (end_of_test, mut keep_alive) = UnixStream::pair().unwrap();
        let names: Vec<_> = (0..RINGS).map(|ring| dir.name(&format!("ticks-{ring}"))).collect();
        let rings = names.clone();
        let parent = Child::start(move || {
            let opened = AtomicU64::new(0);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    for fork in 0..FORKS {
                        // A few for each ring, so that it is never idle.
                        while fork > 10 * (1 + opened.load(Ordering::Relaxed) as usize) {
                            std::thread::yield_now();
                        }
                        let _child = Child::start(|| {
                            (&tell).write_all(b"!").unwrap();
                            (&end_of_test).read(&mut [0]).is_ok()
                        });
                    }
                });
                let mut held = Vec::new();
                for name in &rings {
                    let options = Options::new().capacity(4096);
                    drop(create(name, Role::Receiver, &options).unwrap());
                    held.push(open(name, Role::Sender).unwrap());
                    opened.fetch_add(1, Ordering::Relaxed);
                }
                (&tell).write_all(b"!").unwrap();
                loop {
                    std::thread::park();
                }
            })
        });
        // From the parent, and from every child: all run, with nothing of the rings.
        ready.read_exact(&mut [0; FORKS + 1]).unwrap();
        for name in &names {
            assert!(open(name, Role::Sender).unwrap_err().is_seat_taken());
        }
        parent.kill();
        for name in &names {
            open(name, Role::Sender).unwrap();
        }
        // They lived until now: one byte for each.
        keep_alive.write_all(&[b'!'; FORKS]).unwrap();
    }

    #[test]
    fn a_program_that_is_started_inherits_no_ring() {
        let dir = testing::forking_dir();
        let sender = create(&dir.name("ticks"), Role::Sender, &Options::new()).unwrap();
        let output =
            std::process::Command::new("sh").args(["-c", "ls -l /proc/$$/fd/"]).output().unwrap();
        let listing = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!listing.contains("ticks"), "{listing}");
        assert!(!listing.contains("quoit-test-"), "{listing}");
        drop(sender);
    }

    #[test]
    fn no_attempt_that_fails_leaves_a_descriptor_behind() {
        let dir = testing::forking_dir();
        let name = dir.name("ticks");
        fs::write(dir.name("other"), "no ring").unwrap();
        assert!(Child::run(|| {
            let _sender = create(&name, Role::Sender, &Options::new()).unwrap();
            let next = || File::open("/dev/null").unwrap().as_fd().as_raw_fd();
            let before = next();
            for _ in 0..3 {
                open(&name, Role::Sender).unwrap_err();
                open(&dir.name("other"), Role::Sender).unwrap_err();
                open(&dir.name("nowhere"), Role::Sender).unwrap_err();
                create(&name, Role::Receiver, &Options::new()).unwrap_err();
                let huge = Options::new().capacity(options_max());
                create(&dir.name("huge"), Role::Receiver, &huge).unwrap_err();
                drop(open(&name, Role::Receiver).unwrap());
            }
            next() == before
        }));
        assert_eq!(dir.count(), 2);
    }

    #[test]
    fn without_descriptors_left_every_verb_fails_cleanly() {
        let dir = testing::forking_dir();
        let name = dir.name("ticks");
        make(&name);
        assert!(Child::run(|| {
            assert!(testing::limit_open_files(3));
            let opened = open(&name, Role::Sender).unwrap_err().is_os();
            let created = create(&dir.name("new"), Role::Sender, &Options::new());
            opened && created.unwrap_err().is_os()
        }));
        assert_eq!(dir.count(), 1);
    }

    #[test]
    fn without_address_space_a_ring_is_not_created() {
        let dir = testing::forking_dir();
        let status = Child::start(|| {
            if !testing::limit_address_space(64 << 20) {
                testing::exit(77);
            }
            let options = Options::new().capacity(64 << 20);
            create(&dir.name("new"), Role::Sender, &options).unwrap_err().is_os()
        })
        .wait();
        if status == 77 << 8 {
            return testing::skip("without_address_space_a_ring_is_not_created", "no limit");
        }
        assert_eq!(status, 0);
        assert_eq!(dir.count(), 0, "nobody sees what can not be used");
    }
}
