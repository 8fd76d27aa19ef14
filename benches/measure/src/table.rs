//! The results for people: a page of at most 100 columns.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Table, presets};
use quoit_transports::Wait;

use crate::field::{Entrant, Place};
use crate::machine::fold;
use crate::results::{Case, Results, Row};
use crate::work::Work;

/// The page.
pub fn page(results: &Results) -> String {
    let mut text = results.environment.text();
    let floor = &results.floor;
    if floor.samples > 0 {
        text += &fold(&format!(
            "floor    {} there and back for bare flags [{}-{}], over {} samples",
            time(floor.flag_ns),
            time(floor.spread_ns[0]),
            time(floor.spread_ns[1]),
            floor.samples
        ));
    }
    let mut blocks: BTreeMap<(Place, Work, Wait), Vec<&Row>> = BTreeMap::new();
    for row in &results.results {
        let case = &row.case;
        blocks.entry((case.place, case.work, case.wait)).or_default().push(row);
    }
    for ((place, work, wait), rows) in &blocks {
        let place = if results.compared { format!("{}, ", place.word()) } else { String::new() };
        text += &format!("\n{place}{}, {}\n", title(*work), wait.word());
        text += &block(*work, rows, results.compared);
    }
    if !results.skipped.is_empty() {
        text.push('\n');
    }
    for (reason, cases) in by_reason(results) {
        text += &fold(&format!("skipped  {}: {reason}", cases.join(", ")));
    }
    if let Some(why) = &results.system_calls {
        text += &fold(&format!("\ncalls    not counted: {why}"));
    }
    text.push('\n');
    text += &match results.verdict.conclusive {
        true => "verdict  the machine was quiet enough: floors within a quarter, nothing stolen\n"
            .into(),
        false => {
            fold(&format!("verdict  too noisy to conclude: {}", results.verdict.reasons.join("; ")))
        }
    };
    text
}

fn title(work: Work) -> &'static str {
    match work {
        Work::Roundtrip => "round trip: there and back",
        Work::Stream => "stream: time for each message",
        Work::Crowd => "stream of two senders and two receivers: time for each message",
        Work::Wake => "wake: one way, to a receiver that has slept",
        Work::FixedRate => "fixed rate: one way, from the time that the message was due",
    }
}

fn block(work: Work, rows: &[&Row], compared: bool) -> String {
    let mut table = sheet();
    let base = rows.iter().find_map(|row| row.base).map(|word| format!("x{word}"));
    let mut header = vec!["TRANSPORT", "SIZE", "P50", "[RUNS]", "P99", "P99.9", "MSG/S", "xFLAG"];
    let slots = work == Work::Roundtrip;
    if slots {
        header.push("xSLOT");
    }
    match &base {
        // In the place of what comparisons do without.
        Some(base) => header.push(base),
        None if compared => {}
        None => header.extend(["CPU s", "CALLS", "SWITCH"]),
    }
    let columns = header.len();
    table.set_header(header);
    for index in 0..columns {
        if let Some(column) = table.column_mut(index) {
            // Many columns on a page of 100: one space between them.
            column.set_padding((0, 1));
            if index > 0 {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    for row in rows {
        let per = &row.per_million;
        let mut cells = vec![
            row.case.transport.word().to_string(),
            size(row.case.size),
            time(row.p50_ns),
            format!("[{}-{}]", time(row.spread.p50_ns[0]), time(row.spread.p50_ns[1])),
            time(row.p99_ns),
            time(row.p999_ns),
            number(row.msgs_per_s),
            ratio(row.to_floor),
        ];
        if slots {
            cells.push(row.to_slot.map_or("-".into(), ratio));
        }
        if base.is_some() {
            cells.push(row.to_base.map_or("-".into(), ratio));
        } else if !compared {
            cells.push(number(per.cpu_s));
            cells.push(per.system_calls.map_or("-".into(), number));
            cells.push(number(per.voluntary_switches + per.involuntary_switches));
        }
        table.add_row(cells);
    }
    lines(&table)
}

/// Transport, work and wait, and the sizes.
type Left = BTreeMap<(Entrant, Work, Wait), Vec<usize>>;

/// What was skipped, together where the reason is one; with its sizes, where others were measured.
fn by_reason(results: &Results) -> BTreeMap<&str, Vec<String>> {
    let mut reasons: BTreeMap<&str, Left> = BTreeMap::new();
    for skipped in &results.skipped {
        let Case { work, wait, size, transport, .. } = skipped.case;
        let reason = reasons.entry(&skipped.reason).or_default();
        reason.entry((transport, work, wait)).or_default().push(size);
    }
    let measured = |(transport, work, wait): (Entrant, Work, Wait)| {
        let is =
            |case: &Case| case.transport == transport && case.work == work && case.wait == wait;
        results.results.iter().any(|row| is(&row.case))
    };
    let said = |((transport, work, wait), sizes): ((Entrant, Work, Wait), Vec<usize>)| {
        let what = format!("{} {} {}", transport.word(), work.word(), wait.word());
        match measured((transport, work, wait)) {
            true => format!("{what} {}", sizes.into_iter().map(size).collect::<Vec<_>>().join("/")),
            false => what,
        }
    };
    let said = |cases: Left| cases.into_iter().map(said).collect();
    reasons.into_iter().map(|(reason, cases)| (reason, said(cases))).collect()
}

/// A table without lines, for eyes and for `awk`.
pub fn sheet() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

/// The table's lines, from the left edge on.
pub fn lines(table: &Table) -> String {
    table.lines().fold(String::new(), |text, line| {
        let line = line.strip_prefix(' ').unwrap_or(&line).trim_end();
        text + line + "\n"
    })
}

/// The text on one line and without control characters: names come from
/// strangers, and the terminal obeys escapes.
pub fn plain(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

pub(crate) fn size(bytes: usize) -> String {
    match bytes {
        b if b >= 1 << 20 && b % (1 << 20) == 0 => format!("{}MiB", b >> 20),
        b if b >= 1024 && b % 1024 == 0 => format!("{}KiB", b >> 10),
        b => b.to_string(),
    }
}

/// Three digits or so and a unit, without a space between them.
pub(crate) fn time(ns: f64) -> String {
    match ns {
        ns if ns.is_nan() => "-".into(),
        ns if ns < 1e3 => format!("{}ns", digits(ns)),
        ns if ns < 1e6 => format!("{}us", digits(ns / 1e3)),
        ns if ns < 1e9 => format!("{}ms", digits(ns / 1e6)),
        ns => format!("{}s", digits(ns / 1e9)),
    }
}

/// The same for a number, by thousands.
pub(crate) fn number(value: f64) -> String {
    match value {
        v if v.is_nan() => "-".into(),
        0.0 => "0".into(),
        v if v < 1e3 => digits(v),
        v if v < 1e6 => format!("{}k", digits(v / 1e3)),
        v if v < 1e9 => format!("{}M", digits(v / 1e6)),
        v => format!("{}G", digits(v / 1e9)),
    }
}

fn digits(value: f64) -> String {
    match value {
        v if v < 10.0 => format!("{v:.2}"),
        v if v < 100.0 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

fn ratio(value: f64) -> String {
    if value.is_finite() { format!("x{}", number(value)) } else { "-".into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Disturbed;
    use crate::results::tests::{case, results, sample};

    #[test]
    fn the_longest_figures_fit_100_columns() {
        // Runs from nanoseconds to nearly a second, and a floor of a nanosecond.
        let runs = || {
            vec![
                sample(&[123], [1.0, 1.0]),
                sample(&[999_400_000], [1.0, 1.0]),
                sample(&[88_800_000], [1.0, 1.0]),
            ]
        };
        let mut long = case("unix-seqpacket");
        long.size = 1000 << 10;
        let mut slot = long;
        slot.transport = case("floor").transport;
        let samples = BTreeMap::from([(long, runs()), (slot, runs())]);
        let disturbed = Disturbed { stolen: 0.5, others: 0.5, throttled: 1_000_000 };
        let page = page(&results(&samples, disturbed));
        let widest = page.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(page.contains("1000KiB") && widest <= 100, "{widest} columns:\n{page}");
    }

    #[test]
    fn figures_have_three_digits_and_a_unit() {
        let times = [1.234, 12.34, 123.4, 1234.0, 12_340.0, 1_234_000.0, 1.234e9];
        let said = ["1.23ns", "12.3ns", "123ns", "1.23us", "12.3us", "1.23ms", "1.23s"];
        assert_eq!(times.map(time), said);
        assert_eq!(
            [0.0, 0.5, 999.0, 1e3, 2.5e6, 3e9].map(number),
            ["0", "0.50", "999", "1.00k", "2.50M", "3.00G"]
        );
        assert_eq!([8, 1000, 1024, 4096, 1 << 20].map(size), ["8", "1000", "1KiB", "4KiB", "1MiB"]);
    }
}
