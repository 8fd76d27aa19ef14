//! Pictures of the results.
//!
//! It knows axes, colours and labels. It refuses to know fonts: whoever shows the picture has them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use quoit_transports::Wait;

use crate::field::Entrant;
use crate::results::{Results, Row};
use crate::table::{self, time};
use crate::work::{PS, Work};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const WIDTH: u32 = 960;
const HEIGHT: u32 = 540;
const LEGEND: u32 = 165;
const FONT: &str = "sans-serif";
/// The last percentile that is drawn has so many times beyond it, at least: fewer are no curve.
const BEYOND: u64 = 3;

/// Colours that can be told apart, by most eyes and in print too; the marks and dashes help the others.
fn colour(entrant: Entrant) -> RGBColor {
    const COLOURS: [RGBColor; 11] = [
        RGBColor(120, 120, 120),
        RGBColor(20, 20, 20),
        RGBColor(0, 90, 181),
        RGBColor(86, 180, 233),
        RGBColor(213, 94, 0),
        RGBColor(0, 140, 100),
        RGBColor(150, 190, 40),
        RGBColor(90, 60, 20),
        RGBColor(190, 60, 150),
        RGBColor(235, 165, 0),
        RGBColor(110, 50, 160),
    ];
    COLOURS[entrant.rank() % COLOURS.len()]
}

/// All pictures that these results have something for.
pub fn draw(results: &Results, dir: &Path) -> anyhow::Result<()> {
    let mut groups: BTreeMap<(Work, Wait), Vec<&Row>> = BTreeMap::new();
    for row in &results.results {
        groups.entry((row.case.work, row.case.wait)).or_default().push(row);
    }
    for ((work, wait), rows) in &groups {
        let sizes: BTreeSet<usize> = rows.iter().map(|row| row.case.size).collect();
        for &size in &sizes {
            let rows: Vec<&Row> =
                rows.iter().copied().filter(|row| row.case.size == size).collect();
            let what = format!("{}-{}-{size}.svg", work.word(), wait.word());
            let of = format!("{}, {} bytes, {}", title(*work), table::size(size), wait.word());
            let bars = Picture { results, title: format!("{of}: p50 and p99") };
            bars.to(&dir.join(format!("bars-{what}")), |area| draw_bars(area, &rows))?;
            if *work != Work::Stream {
                let curves = Picture { results, title: format!("{of}: percentiles") };
                curves.to(&dir.join(format!("percentiles-{what}")), |area| {
                    percentiles(area, &rows)
                })?;
            }
        }
        if sizes.len() < 2 {
            continue;
        }
        let what = format!("by-size-{}-{}.svg", work.word(), wait.word());
        let of = format!("{}, {}", title(*work), wait.word());
        if *work == Work::Stream {
            let picture =
                Picture { results, title: format!("{of}: throughput by size of message") };
            let rate = |row: &Row, ns: f64| row.case.size as f64 / ns * 1e9;
            let bytes = |row: &Row| {
                [row.p50_ns, row.spread.p50_ns[1], row.spread.p50_ns[0]].map(|ns| rate(row, ns))
            };
            picture.to(&dir.join(format!("throughput-{what}")), |area| {
                by_size(
                    area,
                    rows,
                    "bytes a second in the median window; bars: least to most",
                    &|v| format!("{}B", round(&table::number(v))),
                    &bytes,
                )
            })?;
        } else {
            let picture = Picture { results, title: format!("{of}: p50 by size of message") };
            let p50 = |row: &Row| [row.p50_ns, row.spread.p50_ns[0], row.spread.p50_ns[1]];
            picture.to(&dir.join(format!("latency-{what}")), |area| {
                by_size(
                    area,
                    rows,
                    "p50 of a time, median of the runs; bars: least to most",
                    &|v| round(&time(v)),
                    &p50,
                )
            })?;
        }
    }
    Ok(())
}

fn title(work: Work) -> &'static str {
    match work {
        Work::Roundtrip => "Round trip",
        Work::Stream => "Stream",
        Work::Wake => "Wake",
        Work::FixedRate => "Fixed rate",
        Work::Crowd => "Stream, two and two",
    }
}

/// A file with a title; what is below is drawn by somebody else.
struct Picture<'a> {
    results: &'a Results,
    title: String,
}

/// The backend has many errors, and none that a caller could act on.
fn plain<E: std::error::Error + Send + Sync>(error: DrawingAreaErrorKind<E>) -> anyhow::Error {
    anyhow!("drawing: {error}")
}

impl Picture<'_> {
    fn to(
        &self,
        path: &Path,
        body: impl FnOnce(&Area<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let draw = || -> anyhow::Result<()> {
            let root = SVGBackend::new(path, (WIDTH, HEIGHT)).into_drawing_area();
            root.fill(&WHITE).map_err(plain)?;
            let style = (FONT, 20).into_font().color(&BLACK);
            root.draw(&Text::new(self.title.clone(), (20, 14), style)).map_err(plain)?;
            let small = (FONT, 13).into_font().color(&RGBColor(80, 80, 80));
            root.draw(&Text::new(self.under(), (20, 42), small)).map_err(plain)?;
            body(&root.margin(64, 8, 8, 12))?;
            root.present().map_err(plain)
        };
        draw().with_context(|| format!("drawing {}", path.display()))
    }

    /// The line below the title: the machine, the floor, and whether to believe it.
    fn under(&self) -> String {
        let Results { environment, floor, verdict, .. } = self.results;
        let noisy = if verdict.conclusive { "" } else { "; too noisy to conclude" };
        format!("{}; floor {}{noisy}", environment.title(), time(floor.flag_ns))
    }
}

/// `10us` for `10.0us`: on an axis the digits behind the point are noughts.
fn round(text: &str) -> String {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number = &text[..text.len() - unit.len()];
    match number.contains('.') {
        true => format!("{}{unit}", number.trim_end_matches('0').trim_end_matches('.')),
        false => text.into(),
    }
}

/// Powers of ten around some values.
fn decades(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
    for value in values.filter(|value| value.is_finite() && *value > 0.0) {
        (low, high) = (low.min(value), high.max(value));
    }
    if high == 0.0 {
        return 1.0..10.0;
    }
    let (low, high) = (low.log10().floor(), (high * 1.05).log10().ceil());
    // Two at least: an axis of one is labelled at every step.
    let low = low.min(high - 2.0);
    10_f64.powf(low)..10_f64.powf(high)
}

/// A column of names beside the chart.
fn legend(area: &Area<'_>, names: &[Entrant]) -> anyhow::Result<()> {
    for (at, name) in (0..).zip(names) {
        let y = 24 + at * 24;
        let style = ShapeStyle::from(colour(*name)).stroke_width(3);
        area.draw(&PathElement::new([(6, y), (30, y)], style)).map_err(plain)?;
        area.draw(&Circle::new((18, y), 4, style.filled())).map_err(plain)?;
        let font = (FONT, 14).into_font().color(&BLACK).pos(Pos::new(HPos::Left, VPos::Center));
        area.draw(&Text::new(name.word(), (38, y), font)).map_err(plain)?;
    }
    Ok(())
}

/// Latency over the percentile: one more nine at each step of the axis.
fn percentiles(area: &Area<'_>, rows: &[&Row]) -> anyhow::Result<()> {
    let curve = |row: &Row| -> Vec<(f64, f64)> {
        let last = (row.times.len() / BEYOND).max(2) as f64;
        let steps = row.times.iter_quantiles(10).map(|step| {
            (1.0 / (1.0 - step.quantile_iterated_to()), step.value_iterated_to() as f64 / PS)
        });
        steps.take_while(|(nines, _)| *nines <= last).collect()
    };
    let curves: Vec<(Entrant, Vec<(f64, f64)>)> =
        rows.iter().map(|row| (row.case.transport, curve(row))).collect();
    let points = || curves.iter().flat_map(|(_, curve)| curve.iter());
    let nines = decades(points().map(|(nines, _)| *nines).chain([10.0]));
    let (left, right) = area.split_horizontally(WIDTH - LEGEND - 20);
    let mut chart = ChartBuilder::on(&left)
        .x_label_area_size(44)
        .y_label_area_size(76)
        .build_cartesian_2d(
            (1.0..nines.end).log_scale(),
            decades(points().map(|(_, time)| *time)).log_scale(),
        )
        .map_err(plain)?;
    chart
        .configure_mesh()
        .x_desc("percentile")
        .y_desc("time, all runs together")
        .x_label_formatter(&|nines| percent(*nines))
        .y_label_formatter(&|ns| round(&time(*ns)))
        .label_style((FONT, 13))
        .axis_desc_style((FONT, 14))
        .light_line_style(RGBColor(240, 240, 240))
        .bold_line_style(RGBColor(215, 215, 215))
        .draw()
        .map_err(plain)?;
    for (name, curve) in &curves {
        let style = ShapeStyle::from(colour(*name)).stroke_width(2);
        chart.draw_series(LineSeries::new(curve.iter().copied(), style)).map_err(plain)?;
    }
    legend(&right, &curves.iter().map(|(name, _)| *name).collect::<Vec<_>>())
}

/// `90%`, `99%`, `99.9%` of 10, 100, 1000.
fn percent(nines: f64) -> String {
    let text = format!("{:.6}", 100.0 - 100.0 / nines);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Two bars for each transport.
fn draw_bars(area: &Area<'_>, rows: &[&Row]) -> anyhow::Result<()> {
    let values = rows.iter().flat_map(|row| [row.p50_ns, row.p99_ns]);
    let range = decades(values);
    let ground = range.start;
    let mut chart = ChartBuilder::on(area)
        .x_label_area_size(34)
        .y_label_area_size(76)
        .build_cartesian_2d(0.0..rows.len() as f64, range.log_scale())
        .map_err(plain)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(0)
        .y_desc("time: full p50, light p99; medians of the runs")
        .y_label_formatter(&|ns| round(&time(*ns)))
        .label_style((FONT, 13))
        .axis_desc_style((FONT, 14))
        .light_line_style(RGBColor(240, 240, 240))
        .bold_line_style(RGBColor(215, 215, 215))
        .draw()
        .map_err(plain)?;
    // As wide as there is room, but no wider than looks like a bar.
    let wide = (0.4_f64).min(rows.len() as f64 * 0.08);
    for (middle, row) in (0..).map(|n| f64::from(n) + 0.5).zip(rows) {
        let full = colour(row.case.transport);
        for (value, style, from, to) in [
            (row.p50_ns, full.filled(), middle - wide, middle - 0.01),
            (row.p99_ns, full.mix(0.4).filled(), middle + 0.01, middle + wide),
        ] {
            let bar = Rectangle::new([(from, ground), (to, value)], style);
            chart.draw_series([bar]).map_err(plain)?;
            let label = EmptyElement::at((f64::midpoint(from, to), value))
                + Text::new(time(value), (0, -3), centred(11, VPos::Bottom));
            chart.draw_series([label]).map_err(plain)?;
        }
        let (x, y) = chart.backend_coord(&(middle, ground));
        let (left, top) = area.get_base_pixel();
        let name =
            Text::new(row.case.transport.word(), (x - left, y - top + 8), centred(13, VPos::Top));
        area.draw(&name).map_err(plain)?;
    }
    Ok(())
}

fn centred(size: i32, below: VPos) -> TextStyle<'static> {
    (FONT, size).into_font().color(&BLACK).pos(Pos::new(HPos::Center, below))
}

/// A line for each transport: the figure, and from the least to the most of the runs.
fn by_size(
    area: &Area<'_>,
    rows: &[&Row],
    what: &str,
    label: &dyn Fn(f64) -> String,
    figure: &dyn Fn(&Row) -> [f64; 3],
) -> anyhow::Result<()> {
    let mut lines: BTreeMap<Entrant, Vec<(f64, [f64; 3])>> = BTreeMap::new();
    for row in rows {
        lines.entry(row.case.transport).or_default().push((row.case.size as f64, figure(row)));
    }
    let sizes = || rows.iter().map(|row| row.case.size as f64);
    let least = sizes().fold(f64::INFINITY, f64::min);
    let most = sizes().fold(0.0, f64::max);
    let (left, right) = area.split_horizontally(WIDTH - LEGEND - 20);
    let mut chart = ChartBuilder::on(&left)
        .x_label_area_size(44)
        .y_label_area_size(76)
        .build_cartesian_2d(
            // Half a step beyond the ends.
            (least / 1.5..most * 1.5).log_scale().base(2.0),
            decades(lines.values().flatten().flat_map(|(_, values)| *values)).log_scale(),
        )
        .map_err(plain)?;
    chart
        .configure_mesh()
        .x_desc("bytes of a message")
        .y_desc(what)
        .x_label_formatter(&|size| table::size(*size as usize))
        .y_label_formatter(&|value| label(*value))
        .label_style((FONT, 13))
        .axis_desc_style((FONT, 14))
        .light_line_style(RGBColor(240, 240, 240))
        .bold_line_style(RGBColor(215, 215, 215))
        .draw()
        .map_err(plain)?;
    for (name, line) in &lines {
        let style = ShapeStyle::from(colour(*name)).stroke_width(2);
        let points = line.iter().map(|(size, [middle, ..])| (*size, *middle));
        chart.draw_series(LineSeries::new(points.clone(), style)).map_err(plain)?;
        chart
            .draw_series(points.map(|point| Circle::new(point, 4, style.filled())))
            .map_err(plain)?;
        let bars = line
            .iter()
            .map(|(size, [_, low, high])| PathElement::new([(*size, *low), (*size, *high)], style));
        chart.draw_series(bars).map_err(plain)?;
    }
    legend(&right, &lines.keys().copied().collect::<Vec<_>>())
}
