//! Samples, and how they are shown: Markdown tables for people, JSON lines for programs.
//!
//! It knows medians and columns. It refuses to know what is good: it prints what was measured, next
//! to the floor that it was measured on.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::work::{Outcome, Workload};

/// What was measured: a row's name, a workload, a size.
pub(crate) type Key = (&'static str, Workload, usize);

/// One accepted burst.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) repetition: u32,
    pub(crate) outcome: Outcome,
}

impl Sample {
    /// The floor that the burst stood on.
    pub(crate) fn floor(&self) -> f64 {
        (self.outcome.before + self.outcome.after) / 2.0
    }

    /// How many floors it took.
    fn ratio(&self) -> f64 {
        self.outcome.typical / self.floor()
    }
}

/// All samples of a run.
#[derive(Debug, Default)]
pub(crate) struct Results {
    samples: BTreeMap<Key, Vec<Sample>>,
    /// Bursts that were dropped because their floors disagreed.
    pub(crate) dropped: u64,
    /// Measurements that never came to two floors that agree.
    pub(crate) given_up: u64,
    /// Messages that did not arrive as they were sent.
    pub(crate) errors: u64,
}

/// The middle value (of an even number the mean of the middle two); not a number of nothing.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

/// Median, smallest, largest.
fn spread(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    let middle = median(&mut values);
    let ends = (values.first().copied(), values.last().copied());
    (middle, ends.0.unwrap_or(f64::NAN), ends.1.unwrap_or(f64::NAN))
}

/// Three digits, or microseconds when they are many.
fn figure(ns: f64) -> String {
    match ns {
        ns if ns.is_nan() => "-".into(),
        ns if ns < 10.0 => format!("{ns:.2}"),
        ns if ns < 100.0 => format!("{ns:.1}"),
        ns if ns < 10_000.0 => format!("{ns:.0}"),
        ns => format!("{:.1}µ", ns / 1000.0),
    }
}

impl Results {
    /// Takes a sample in.
    pub(crate) fn add(&mut self, key: Key, sample: Sample) {
        self.samples.entry(key).or_default().push(sample);
    }

    /// One table: a line for each row, a column for each size. Samples whose floor is outside of
    /// `floors` are left out.
    pub(crate) fn table(
        &self,
        rows: &[(&'static str, &'static str)],
        sizes: &[usize],
        workload: Workload,
        floors: (f64, f64),
    ) -> String {
        let mut head = vec![match workload {
            Workload::Roundtrip => "round trip, ns".to_string(),
            Workload::Stream => "stream, ns a message".to_string(),
        }];
        head.extend(sizes.iter().map(|size| format!("{size} B")));
        let mut lines = vec![head];
        for &(name, what) in rows {
            let mut line = vec![format!("**{name}** {what}")];
            for &size in sizes {
                line.push(self.cell((name, workload, size), floors));
            }
            if line[1..].iter().any(|cell| cell != "-") {
                lines.push(line);
            }
        }
        markdown(&lines)
    }

    /// How the rows compare to the first of them: a line for each further row, a column for each
    /// size, the quotient of the medians in the cells.
    pub(crate) fn quotients(
        &self,
        rows: &[(&'static str, &'static str)],
        sizes: &[usize],
        workload: Workload,
        floors: (f64, f64),
    ) -> String {
        let Some((&(yardstick, _), others)) = rows.split_first() else { return String::new() };
        let mut head = vec![match workload {
            Workload::Roundtrip => format!("round trips, {yardstick} = 1"),
            Workload::Stream => format!("streams, {yardstick} = 1"),
        }];
        head.extend(sizes.iter().map(|size| format!("{size} B")));
        let mut lines = vec![head];
        for &(name, _) in others {
            let mut line = vec![format!("**{name}**")];
            for &size in sizes {
                let (one, other) = (
                    self.typical((name, workload, size), floors).0,
                    self.typical((yardstick, workload, size), floors).0,
                );
                let quotient = one / other;
                line.push(if quotient.is_finite() { format!("{quotient:.2}") } else { "-".into() });
            }
            lines.push(line);
        }
        markdown(&lines)
    }

    /// The samples of one thing that stand on such a floor.
    fn on(&self, key: Key, (low, high): (f64, f64)) -> impl Iterator<Item = &Sample> {
        let samples = self.samples.get(&key).into_iter().flatten();
        samples.filter(move |sample| low <= sample.floor() && sample.floor() <= high)
    }

    /// Median, smallest and largest of their figures.
    fn typical(&self, key: Key, floors: (f64, f64)) -> (f64, f64, f64) {
        spread(self.on(key, floors).map(|sample| sample.outcome.typical))
    }

    fn cell(&self, key: Key, floors: (f64, f64)) -> String {
        if self.count(key, floors) == 0 {
            return "-".into();
        }
        let typical = self.typical(key, floors);
        let ratio = spread(self.on(key, floors).map(Sample::ratio));
        let mut cell = format!(
            "{} [{}-{}] {:.2}x",
            figure(typical.0),
            figure(typical.1),
            figure(typical.2),
            ratio.0
        );
        if key.1 == Workload::Roundtrip {
            let p50 = spread(self.on(key, floors).map(|sample| sample.outcome.p50));
            let p99 = spread(self.on(key, floors).map(|sample| sample.outcome.p99));
            let _ = write!(cell, " / {} / {}", figure(p50.0), figure(p99.0));
        }
        cell
    }

    /// The floors that count as the run's usual placement: within a quarter of the median floor.
    pub(crate) fn usual(&self) -> (f64, f64) {
        let mut floors: Vec<f64> = self.samples.values().flatten().map(Sample::floor).collect();
        let middle = median(&mut floors);
        (middle * 0.75, middle * 1.25)
    }

    /// How many samples stand on such a floor.
    pub(crate) fn within(&self, floors: (f64, f64)) -> usize {
        let samples = self.samples.values().flatten();
        samples.filter(|s| floors.0 <= s.floor() && s.floor() <= floors.1).count()
    }

    /// How many samples of one thing do.
    pub(crate) fn count(&self, key: Key, floors: (f64, f64)) -> usize {
        self.on(key, floors).count()
    }

    /// What all samples stood on, in one line.
    pub(crate) fn summary(&self) -> String {
        let floor = spread(self.samples.values().flatten().map(Sample::floor));
        let count: usize = self.samples.values().map(Vec::len).sum();
        let messages: u64 = self.samples.values().flatten().map(|s| s.outcome.messages).sum();
        format!(
            "{count} samples, {messages} messages measured, {} verification errors; floor (flag \
             round trip) {} ns [{}-{}]; {} bursts dropped for floors that disagree, {} \
             measurements given up",
            self.errors,
            figure(floor.0),
            figure(floor.1),
            figure(floor.2),
            self.dropped,
            self.given_up,
        )
    }

    /// One line of JSON for each sample.
    pub(crate) fn json(&self, capacity: usize, slots: usize) -> String {
        let mut text = String::new();
        for (&(name, workload, size), samples) in &self.samples {
            for Sample { repetition, outcome } in samples {
                let Outcome { before, after, typical, mean, p50, p99, messages, errors } = outcome;
                let _ = writeln!(
                    text,
                    "{{\"row\":\"{name}\",\"workload\":\"{}\",\"size\":{size},\"capacity\":{capacity},\
                     \"slots\":{slots},\"repetition\":{repetition},\"floor_before\":{},\"floor_after\":{},\
                     \"typical\":{},\"mean\":{},\"p50\":{},\"p99\":{},\"messages\":{messages},\
                     \"errors\":{errors}}}",
                    workload.name(),
                    number(*before),
                    number(*after),
                    number(*typical),
                    number(*mean),
                    number(*p50),
                    number(*p99),
                );
            }
        }
        text
    }
}

/// JSON has no word for "not a number".
fn number(value: f64) -> String {
    if value.is_finite() { format!("{value:.3}") } else { "null".into() }
}

/// A Markdown table that can be read as it is.
fn markdown(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|c| c.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for (n, line) in lines.iter().enumerate() {
        for (cell, &width) in line.iter().zip(&widths) {
            let _ = write!(text, "| {cell:width$} ");
        }
        text.push_str("|\n");
        if n == 0 {
            for width in &widths {
                let _ = write!(text, "|{}", "-".repeat(width + 2));
            }
            text.push_str("|\n");
        }
    }
    text
}
