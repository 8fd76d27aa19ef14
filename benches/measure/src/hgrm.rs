//! Percentile files as HdrHistogram writes them, for its plotters.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context;
use hdrhistogram::Histogram;

use crate::results::{Results, Row};
use crate::work::PS;

/// Steps for each halving of the distance to 100 %.
const STEPS: u32 = 5;

/// One file for each row, times in nanoseconds, all runs together.
pub fn write(results: &Results, dir: &Path) -> anyhow::Result<()> {
    results.results.iter().try_for_each(|row| write_histogram(dir, &name(row), &row.times))
}

/// One file, of a histogram in picoseconds, in a folder that is made if it is not there.
pub fn write_histogram(dir: &Path, name: &str, times: &Histogram<u64>) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("making the folder {}", dir.display()))?;
    let path = dir.join(format!("{name}.hgrm"));
    fs::write(&path, text(times)).with_context(|| format!("writing {}", path.display()))
}

fn name(row: &Row) -> String {
    let case = &row.case;
    format!("{}-{}-{}-{}", case.work.word(), case.wait.word(), case.transport.word(), case.size)
}

fn text(times: &Histogram<u64>) -> String {
    let mut text = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    let mut total = 0;
    // What is written to a String does not fail.
    for step in times.iter_quantiles(STEPS) {
        total += step.count_since_last_iteration();
        let (value, at) = (step.value_iterated_to() as f64 / PS, step.quantile_iterated_to());
        let _ = write!(text, "{value:12.3} {at:2.12} {total:10}");
        let _ = match at {
            at if at < 1.0 => writeln!(text, " {:14.2}", 1.0 / (1.0 - at)),
            _ => writeln!(text),
        };
    }
    let (mean, deviation) = (times.mean() / PS, times.stdev() / PS);
    let _ = writeln!(text, "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]");
    let (max, count) = (times.max() as f64 / PS, times.len());
    let _ = writeln!(text, "#[Max     = {max:12.3}, Total count    = {count:12}]");
    let (buckets, inner) = (times.buckets(), 2048);
    let _ = writeln!(text, "#[Buckets = {buckets:12}, SubBuckets     = {inner:12}]");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work;

    #[test]
    fn the_counts_rise_to_all_and_the_last_line_is_the_whole() {
        let mut times = work::histogram();
        (1..=1000_u64).for_each(|ns| times.saturating_record(ns * 1000));
        let text = text(&times);
        let lines: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|word| word.parse().unwrap()).collect())
            .collect();
        assert!(lines.len() > 20);
        assert!(
            lines
                .windows(2)
                .all(|w| w[0][0] <= w[1][0] && w[0][1] <= w[1][1] && w[0][2] <= w[1][2])
        );
        let last = lines.last().unwrap();
        assert_eq!((last[1], last[2], last.len()), (1.0, 1000.0, 3));
        let median = lines.iter().find(|line| line[1] >= 0.5).unwrap();
        assert!((median[0] - 500.0).abs() < 1.0, "{median:?}");
    }
}
