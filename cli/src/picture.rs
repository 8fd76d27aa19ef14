//! A ring as it is shown: the words of the tables and the fields of `--json`.
//! Knows what `quoit::inspect` tells; opens nothing.

use std::io::{self, Write};

use bytesize::ByteSize;
use quoit::{Delivery, Info, Kind, OpenError, Presence, SeatInfo, Seated};
use serde::Serialize;

use crate::exit;

/// One ring in `--json`. The fields are described in `quoit stat --help`.
#[derive(Debug, Serialize)]
pub(crate) struct Ring {
    name: String,
    path: String,
    kind: &'static str,
    version: u32,
    capacity: u64,
    max_len: u64,
    used: u64,
    keep_open: bool,
    delivery: &'static str,
    mode: String,
    uid: u32,
    uuid: String,
    created: String,
    unlinked: bool,
    tail: u64,
    head: u64,
    acked: u64,
    lost: u64,
    redelivered: u64,
    sender: End,
    receiver: End,
    seats: Vec<Seat>,
}

/// One end of a ring in `--json`.
#[derive(Debug, Serialize)]
struct End {
    presence: &'static str,
    /// For the eye only; absent where nobody has sat or the number means nothing.
    pid: Option<u32>,
    arrivals: u64,
    deaths: u64,
    messages: u64,
    /// Absent where they are not counted.
    bytes: Option<u64>,
    waits: u64,
    wakes: u64,
}

/// One seat of a ring of slots in `--json`.
#[derive(Debug, Serialize)]
struct Seat {
    seat: u32,
    role: Option<&'static str>,
    presence: &'static str,
    stopped: bool,
    pid: Option<u32>,
    arrivals: u64,
    writing: u64,
    reading: u64,
    sent: u64,
    received: u64,
    redelivered: u64,
    skipped: u64,
    lost: u64,
    full_waits: u64,
    empty_waits: u64,
    wakes: u64,
}

/// A file of the folder that cannot be shown, in `--json`.
#[derive(Debug, Serialize)]
pub(crate) struct Unreadable {
    name: String,
    error: String,
    code: u8,
}

impl Unreadable {
    pub(crate) fn new(name: &str, error: &OpenError) -> Unreadable {
        Unreadable { name: name.into(), error: error.to_string(), code: exit::of_open(error) }
    }
}

impl From<&Info> for Ring {
    fn from(info: &Info) -> Ring {
        Ring {
            name: info.name.to_string(),
            path: info.path.to_string_lossy().into_owned(),
            kind: kind(info.kind),
            version: info.version,
            capacity: info.capacity,
            max_len: info.max_len,
            used: info.used,
            keep_open: info.keep_open,
            delivery: delivery(info.delivery),
            mode: mode(info.mode),
            uid: info.uid,
            uuid: info.uuid.iter().map(|byte| format!("{byte:02x}")).collect(),
            created: created(info),
            unlinked: info.unlinked,
            tail: info.tail,
            head: info.head,
            acked: info.acked,
            lost: info.lost,
            redelivered: info.redelivered,
            sender: End::new(info, &info.sender),
            receiver: End::new(info, &info.receiver),
            seats: info.seats.iter().map(Seat::from).collect(),
        }
    }
}

impl End {
    fn new(info: &Info, end: &SeatInfo) -> End {
        End {
            presence: presence(end.presence),
            pid: (end.pid != 0).then_some(end.pid),
            arrivals: end.arrivals,
            deaths: end.deaths,
            messages: end.messages,
            bytes: (info.kind != Kind::Mpmc).then_some(end.bytes),
            waits: end.waits,
            wakes: end.wakes,
        }
    }
}

impl From<&Seated> for Seat {
    fn from(seat: &Seated) -> Seat {
        Seat {
            seat: seat.seat,
            role: seat.role,
            presence: presence(seat.presence),
            stopped: seat.stopped,
            pid: (seat.pid != 0).then_some(seat.pid),
            arrivals: seat.arrivals,
            writing: seat.writing,
            reading: seat.reading,
            sent: seat.sent,
            received: seat.received,
            redelivered: seat.redelivered,
            skipped: seat.skipped,
            lost: seat.lost,
            full_waits: seat.full_waits,
            empty_waits: seat.empty_waits,
            wakes: seat.wakes,
        }
    }
}

pub(crate) fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Spsc => "spsc",
        Kind::Mpmc => "mpmc",
        _ => "unknown",
    }
}

pub(crate) fn delivery(delivery: Delivery) -> &'static str {
    match delivery {
        Delivery::AtLeastOnce => "at-least-once",
        Delivery::AtMostOnce => "at-most-once",
        _ => "unknown",
    }
}

pub(crate) fn presence(presence: Presence) -> &'static str {
    match presence {
        Presence::Never => "never",
        Presence::Present => "present",
        Presence::Left => "left",
        Presence::Died => "died",
        _ => "unknown",
    }
}

/// Both ends of a ring, with their names.
pub(crate) fn ends(info: &Info) -> [(&'static str, &SeatInfo); 2] {
    [("sender", &info.sender), ("receiver", &info.receiver)]
}

/// `present (1234)`: who is at one end, with the pid while it means something;
/// `3 present, 1 dead` where there are many.
pub(crate) fn end(info: &Info, role: &str, end: &SeatInfo) -> String {
    let here = match (seated(info, role, Presence::Present), end.presence, end.pid) {
        (present @ 2.., _, _) => format!("{present} present"),
        (_, Presence::Present, pid) if pid != 0 => format!("present ({pid})"),
        (_, other, _) => presence(other).into(),
    };
    match seated(info, role, Presence::Died) {
        0 => here,
        dead if end.presence == Presence::Present => format!("{here}, {dead} dead"),
        dead => format!("{dead} dead"),
    }
}

/// How many seats of a ring of slots are taken by such who are here, or dead.
pub(crate) fn seated(info: &Info, role: &str, presence: Presence) -> usize {
    info.seats.iter().filter(|seat| seat.role == Some(role) && seat.presence == presence).count()
}

/// `1 message`, `2 messages`.
pub(crate) fn count(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// So much of the ring's room: bytes, or slots.
pub(crate) fn room(info: &Info, count: u64) -> String {
    match info.kind {
        Kind::Mpmc => self::count(count, "slot"),
        _ => bytes(count),
    }
}

pub(crate) fn bytes(count: u64) -> String {
    ByteSize(count).display().iec().to_string()
}

pub(crate) fn mode(mode: u32) -> String {
    format!("{:04o}", mode & 0o7777)
}

pub(crate) fn created(info: &Info) -> String {
    humantime::format_rfc3339_seconds(info.created).to_string()
}

/// One value, pretty, on standard output.
pub(crate) fn print_json(value: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    print(&text)
}

/// One value on one line of standard output, at once.
pub(crate) fn print_json_line(value: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec(value)?;
    text.push(b'\n');
    print(&text)
}

/// Bytes on standard output, at once. (`println!` panics on a broken pipe.)
pub(crate) fn print(text: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text)?;
    out.flush()
}
