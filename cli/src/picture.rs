//! A ring as it is shown: the words of the tables and the fields of `--json`.
//! Knows what `quoit::inspect` tells; opens nothing.

use std::io::{self, Write};

use bytesize::ByteSize;
use comfy_table::{Table, presets};
use quoit::{Delivery, Info, Kind, OpenError, Presence, SeatInfo};
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
    sender: Seat,
    receiver: Seat,
}

/// One end of a ring in `--json`.
#[derive(Debug, Serialize)]
struct Seat {
    presence: &'static str,
    /// For the eye only; absent where nobody has sat or the number means nothing.
    pid: Option<u32>,
    arrivals: u64,
    deaths: u64,
    messages: u64,
    bytes: u64,
    waits: u64,
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
            sender: Seat::from(&info.sender),
            receiver: Seat::from(&info.receiver),
        }
    }
}

impl From<&SeatInfo> for Seat {
    fn from(seat: &SeatInfo) -> Seat {
        Seat {
            presence: presence(seat.presence),
            pid: (seat.pid != 0).then_some(seat.pid),
            arrivals: seat.arrivals,
            deaths: seat.deaths,
            messages: seat.messages,
            bytes: seat.bytes,
            waits: seat.waits,
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

/// `present (1234)`: who sits there, with the pid while it means something.
pub(crate) fn seat(seat: &SeatInfo) -> String {
    match (seat.presence, seat.pid) {
        (Presence::Present, pid) if pid != 0 => format!("present ({pid})"),
        (other, _) => presence(other).into(),
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

/// A table without lines, for eyes and for `awk`.
pub(crate) fn table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

/// The table's lines, from the left edge on.
pub(crate) fn text(table: &Table) -> String {
    table.lines().fold(String::new(), |text, line| {
        let line = line.strip_prefix(' ').unwrap_or(&line).trim_end();
        text + line + "\n"
    })
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
