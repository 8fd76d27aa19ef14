//! `quoit stat`: one ring, without taking part in it.

use std::time::{Duration, Instant};

use comfy_table::CellAlignment;
use quoit::{Info, Kind, Presence, SeatInfo, Seated};

use crate::exit::{self, End};
use crate::{args, picture};

/// Show a ring: who sits at it, what it holds, what went through
///
/// A ring made with --mpmc has a table of seats. Its STATE is `alive`, `stopped`
/// (by a signal or a debugger), or `dead` until somebody has found it and given
/// back what it had claimed; each with the claims that are open. Then `died`, and
/// `left` is who let go in order: such seats are free. Counters are the seat's,
/// over all who sat there. Whoever waits for a dead one finds it within
/// milliseconds; `quoit recover` finds all of them at once.
///
/// With --json, one object: `name`, `path`, `kind` (spsc, mpmc), `version` of
/// the layout, `capacity` (bytes, or slots of mpmc), `max_len` (the longest
/// message), `used` (bytes or slots now), `keep_open`, `delivery`, `mode`, `uid`,
/// `uuid`, `created`, `unlinked` (the file has no name any more), the positions
/// `tail`, `head` and `acked`, `lost` and `redelivered` (messages a receiver died
/// with), and for `sender` and `receiver` each: `presence` (never, present, left,
/// died), `pid` (or null), `arrivals`, `deaths`, `messages`, `bytes` (null for
/// mpmc), `waits` and `wakes`. `seats` is empty for spsc; for mpmc it has of each
/// seat that was ever taken: `seat` (its number), `role` (null when it is free),
/// `presence`, `stopped`, `pid`, `arrivals`, `writing` and `reading` (claims that
/// are open), `sent`, `received`, `redelivered`, `skipped`, `lost`, `full_waits`,
/// `empty_waits` and `wakes`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A plain name, or a path (with a slash)
    name: String,

    /// Go on, a line per interval, until the ring is gone
    #[arg(
        long,
        value_name = "INTERVAL",
        num_args = 0..=1,
        default_missing_value = "1s",
        value_parser = args::interval,
    )]
    watch: Option<Duration>,

    /// Show each free seat of the table too, instead of their sum
    #[arg(long)]
    all: bool,

    /// Print an object; with --watch one on each line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<End> {
    let info = quoit::inspect(&args.name)?;
    match args.watch {
        Some(interval) => watch(&args.name, info, interval, args.json),
        None if args.json => Ok(picture::print_json(&picture::Ring::from(&info))?),
        None => Ok(picture::print(page(&info, args.all).as_bytes())?),
    }
    .map(|()| End::Done)
}

/// All there is to say, one thing a line.
fn page(info: &Info, all: bool) -> String {
    let mut table = quoit_measure::sheet();
    let mut row = |what: &str, value: String| {
        table.add_row([what.to_owned(), exit::plain(&value)]);
    };
    row("name", info.name.to_string());
    row("path", info.path.to_string_lossy().into_owned());
    row("kind", format!("{}, layout version {}", picture::kind(info.kind), info.version));
    row("created", picture::created(info));
    row("mode", format!("{}, uid {}", picture::mode(info.mode), info.uid));
    row("delivery", picture::delivery(info.delivery).into());
    row("keep open", if info.keep_open { "yes" } else { "no" }.into());
    row("capacity", picture::room(info, info.capacity));
    row("longest", picture::bytes(info.max_len));
    row("used", picture::room(info, info.used));
    for (role, of) in picture::ends(info) {
        let plural = if info.kind == Kind::Mpmc { "s" } else { "" };
        row(&format!("{role}{plural}"), end(info, role, of));
    }
    if info.lost > 0 {
        row("lost", info.lost.to_string());
    }
    if info.redelivered > 0 {
        row("redelivered", info.redelivered.to_string());
    }
    if info.unlinked {
        row("unlinked", "the file has no name any more".into());
    }
    let mut text = quoit_measure::lines(&table);
    if !info.seats.is_empty() {
        text.push('\n');
        text += &seats(&info.seats, all);
    }
    text
}

fn end(info: &Info, role: &str, end: &SeatInfo) -> String {
    let bytes = match info.kind {
        Kind::Mpmc => String::new(),
        _ => format!(", {}", picture::bytes(end.bytes)),
    };
    format!(
        "{}; {} messages{bytes}; arrivals {}, deaths {}, waits {}, wakes {}",
        picture::end(info, role, end),
        end.messages,
        end.arrivals,
        end.deaths,
        end.waits,
        end.wakes,
    )
}

/// The table of seats: who is there and who died unfound, then those that are free.
fn seats(seats: &[Seated], all: bool) -> String {
    let mut table = quoit_measure::sheet();
    table.set_header(["SEAT", "ROLE", "STATE", "PID"].into_iter().chain(COUNTERS));
    for index in 3..4 + COUNTERS.len() {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let dash = || "-".to_owned();
    for seat in seats.iter().filter(|seat| all || seat.role.is_some()) {
        let names = [
            seat.seat.to_string(),
            seat.role.map_or_else(dash, str::to_owned),
            state(seat),
            if seat.pid == 0 { dash() } else { seat.pid.to_string() },
        ];
        table.add_row(names.into_iter().chain(counters(seat).map(|count| count.to_string())));
    }
    let free: Vec<&Seated> = seats.iter().filter(|seat| seat.role.is_none()).collect();
    if !all && !free.is_empty() {
        let left = free.iter().filter(|seat| seat.presence == Presence::Left).count();
        let names = [
            format!("{} free", free.len()),
            dash(),
            match (left, free.len() - left) {
                (left, 0) => format!("{left} left"),
                (0, died) => format!("{died} died"),
                (left, died) => format!("{left} left, {died} died"),
            },
            dash(),
        ];
        let sums = free.into_iter().map(counters).fold([0; COUNTERS.len()], |mut sums, of| {
            sums.iter_mut().zip(of).for_each(|(sum, of)| *sum = of.saturating_add(*sum));
            sums
        });
        table.add_row(names.into_iter().chain(sums.map(|sum| sum.to_string())));
    }
    quoit_measure::lines(&table)
}

/// `stopped, in a claim`; `dead, 2 messages in hand`; `left`.
fn state(seat: &Seated) -> String {
    let is = match (seat.presence, seat.role) {
        (Presence::Present, _) if seat.stopped => "stopped",
        (Presence::Present, _) => "alive",
        (Presence::Died, Some(_)) => "dead",
        (other, _) => picture::presence(other),
    };
    let mut text = is.to_owned();
    match seat.writing {
        0 => {}
        1 => text += ", in a claim",
        claims => text += &format!(", in {claims} claims"),
    }
    if seat.reading != 0 {
        text += &format!(", {} in hand", picture::count(seat.reading, "message"));
    }
    text
}

/// What a seat counts.
const COUNTERS: [&str; 8] =
    ["SENT", "RECEIVED", "REDELIVERED", "SKIPPED", "LOST", "FULL-WAITS", "EMPTY-WAITS", "WAKES"];

fn counters(seat: &Seated) -> [u64; COUNTERS.len()] {
    [
        seat.sent,
        seat.received,
        seat.redelivered,
        seat.skipped,
        seat.lost,
        seat.full_waits,
        seat.empty_waits,
        seat.wakes,
    ]
}

/// A line per interval. Ends by an error when the ring is gone, or by a signal.
fn watch(name: &str, first: Info, interval: Duration, json: bool) -> anyhow::Result<()> {
    let mut before = (first, Instant::now());
    if !json {
        picture::print(header(&before.0).as_bytes())?;
    }
    loop {
        if json {
            picture::print_json_line(&picture::Ring::from(&before.0))?;
        }
        std::thread::sleep(interval);
        let now = (quoit::inspect(name)?, Instant::now());
        if !json {
            let seconds = (now.1 - before.1).as_secs_f64();
            picture::print(line(&before.0, &now.0, seconds).as_bytes())?;
        }
        before = now;
    }
}

/// A ring of slots does not count bytes.
fn header(info: &Info) -> String {
    match info.kind {
        Kind::Mpmc => format!(
            "{:>10} {:>12} {:>12}  {:<16} {}\n",
            "USED", "SENT/s", "RECEIVED/s", "SENDERS", "RECEIVERS"
        ),
        _ => format!(
            "{:>10} {:>12} {:>12} {:>12} {:>12}  {:<16} {}\n",
            "USED", "SENT/s", "B/s", "RECEIVED/s", "B/s", "SENDER", "RECEIVER"
        ),
    }
}

fn line(before: &Info, now: &Info, seconds: f64) -> String {
    // Saturating: another ring may have taken the name in between.
    let rate = |before: u64, now: u64| (now.saturating_sub(before) as f64 / seconds).round() as u64;
    let used = picture::room(now, now.used);
    let sent = rate(before.sender.messages, now.sender.messages);
    let received = rate(before.receiver.messages, now.receiver.messages);
    let [sender, receiver] = picture::ends(now).map(|(role, end)| picture::end(now, role, end));
    match now.kind {
        Kind::Mpmc => {
            format!("{used:>10} {sent:>12} {received:>12}  {sender:<16} {receiver}\n")
        }
        _ => format!(
            "{used:>10} {sent:>12} {:>12} {received:>12} {:>12}  {sender:<16} {receiver}\n",
            picture::bytes(rate(before.sender.bytes, now.sender.bytes)),
            picture::bytes(rate(before.receiver.bytes, now.receiver.bytes)),
        ),
    }
}
