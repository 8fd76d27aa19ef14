//! `quoit stat`: one ring, without taking part in it.

use std::time::{Duration, Instant};

use quoit::{Info, SeatInfo};

use crate::exit::{self, End};
use crate::{args, picture};

/// Show a ring: who sits at it, what it holds, what went through
///
/// With --json, one object: `name`, `path`, `kind` (spsc, mpmc), `version` of
/// the layout, `capacity`, `max_len` (the longest message), `used` (bytes now),
/// `keep_open`, `delivery`, `mode`, `uid`, `uuid`, `created`, `unlinked` (the
/// file has no name any more), the positions `tail`, `head` and `acked`, `lost`
/// and `redelivered` (messages a receiver died with), and for `sender` and
/// `receiver` each: `presence` (never, present, left, died), `pid` (or null),
/// `arrivals`, `deaths`, `messages`, `bytes`, `waits` and `wakes`.
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

    /// Print an object; with --watch one on each line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<End> {
    let info = quoit::inspect(&args.name)?;
    match args.watch {
        Some(interval) => watch(&args.name, info, interval, args.json),
        None if args.json => Ok(picture::print_json(&picture::Ring::from(&info))?),
        None => Ok(picture::print(page(&info).as_bytes())?),
    }
    .map(|()| End::Done)
}

/// All there is to say, one thing a line.
fn page(info: &Info) -> String {
    let mut table = picture::table();
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
    row("capacity", picture::bytes(info.capacity));
    row("longest", picture::bytes(info.max_len));
    row("used", picture::bytes(info.used));
    row("sender", seat(&info.sender));
    row("receiver", seat(&info.receiver));
    if info.lost > 0 {
        row("lost", info.lost.to_string());
    }
    if info.redelivered > 0 {
        row("redelivered", info.redelivered.to_string());
    }
    if info.unlinked {
        row("unlinked", "the file has no name any more".into());
    }
    picture::text(&table)
}

fn seat(seat: &SeatInfo) -> String {
    format!(
        "{}; {} messages, {}; arrivals {}, deaths {}, waits {}, wakes {}",
        picture::seat(seat),
        seat.messages,
        picture::bytes(seat.bytes),
        seat.arrivals,
        seat.deaths,
        seat.waits,
        seat.wakes,
    )
}

/// A line per interval. Ends by an error when the ring is gone, or by a signal.
fn watch(name: &str, first: Info, interval: Duration, json: bool) -> anyhow::Result<()> {
    let mut before = (first, Instant::now());
    if !json {
        let header = format!(
            "{:>10} {:>12} {:>12} {:>12} {:>12}  {:<16} {}\n",
            "USED", "SENT/s", "B/s", "RECEIVED/s", "B/s", "SENDER", "RECEIVER"
        );
        picture::print(header.as_bytes())?;
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

fn line(before: &Info, now: &Info, seconds: f64) -> String {
    // Saturating: another ring may have taken the name in between.
    let rate = |before: u64, now: u64| (now.saturating_sub(before) as f64 / seconds).round() as u64;
    format!(
        "{:>10} {:>12} {:>12} {:>12} {:>12}  {:<16} {}\n",
        picture::bytes(now.used),
        rate(before.sender.messages, now.sender.messages),
        picture::bytes(rate(before.sender.bytes, now.sender.bytes)),
        rate(before.receiver.messages, now.receiver.messages),
        picture::bytes(rate(before.receiver.bytes, now.receiver.bytes)),
        picture::seat(&now.sender),
        picture::seat(&now.receiver),
    )
}
