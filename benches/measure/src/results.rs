//! What the samples come to: medians over the runs and their spread, and whether the machine was quiet enough.
//!
//! It knows samples. It refuses to know how they are shown, but for the names of the fields.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use quoit_transports::Wait;
use serde::Serialize;

use crate::end::{Outcome, Usage};
use crate::field::{Entrant, Place};
use crate::machine::{Disturbed, Machine};
use crate::work::{self, PS, Work};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Case {
    pub(crate) work: Work,
    pub(crate) place: Place,
    pub(crate) wait: Wait,
    pub(crate) size: usize,
    pub(crate) transport: Entrant,
}

impl Case {
    /// `spsc, roundtrip of 64 B, spin`.
    pub(crate) fn text(&self) -> String {
        format!(
            "{}, {} of {} B, {}",
            self.transport.word(),
            self.work.word(),
            self.size,
            self.wait.word()
        )
    }
}

/// Left out, and why.
#[derive(Debug, Serialize)]
pub(crate) struct Skipped {
    #[serde(flatten)]
    pub(crate) case: Case,
    pub(crate) reason: String,
}

/// One sample.
#[derive(Debug)]
pub(crate) struct Sample {
    times: Histogram<u64>,
    timed: u64,
    ns: f64,
    messages: u64,
    usage: Usage,
    floor: [f64; 2],
}

impl Sample {
    /// From what both processes said.
    pub(crate) fn new(case: &Case, [client, server]: [Outcome; 2]) -> anyhow::Result<Sample> {
        let messages = client.messages.max(server.messages);
        let usage = match case.work {
            // Its sender spins until the time has come, whatever the transport.
            Work::FixedRate => server.usage,
            _ => {
                let mut both = client.usage;
                both += server.usage;
                both
            }
        };
        let floor = client.floor;
        let timed = if case.work.timed_by_the_client() { client } else { server };
        let (Some(figures), Some(floor)) = (timed.figures, floor) else {
            anyhow::bail!("a sample came without figures");
        };
        let mut times = work::histogram();
        for (time, count) in figures.times {
            times.saturating_record_n(time, count);
        }
        Ok(Sample { times, timed: figures.messages, ns: figures.ns, messages, usage, floor })
    }

    /// The lesser of the two: an interruption makes a look at it longer, nothing makes it shorter.
    fn floor(&self) -> f64 {
        self.floor[0].min(self.floor[1])
    }

    fn at(&self, quantile: f64) -> f64 {
        self.times.value_at_quantile(quantile) as f64 / PS
    }

    fn rate(&self) -> f64 {
        self.timed as f64 / self.ns * 1e9
    }

    fn per_million(&self, count: u64) -> f64 {
        count as f64 / self.messages as f64 * 1e6
    }
}

/// A run whose system calls were counted: those of both, of a fixed rate the receiver's alone.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Counted {
    pub(crate) messages: u64,
    pub(crate) system_calls: u64,
}

impl Counted {
    /// From what was counted and what both processes said.
    pub(crate) fn new(
        case: &Case,
        [by_client, by_server]: [u64; 2],
        client: &Outcome,
        server: &Outcome,
    ) -> Counted {
        let system_calls = match case.work {
            Work::FixedRate => by_server,
            _ => by_client.saturating_sub(client.own_calls) + by_server,
        };
        Counted { messages: client.messages.max(server.messages), system_calls }
    }

    fn per_million(&self) -> f64 {
        self.system_calls as f64 / self.messages.max(1) as f64 * 1e6
    }
}

/// The least and the most of the runs.
type Span = [f64; 2];

/// One row. All times are in nanoseconds; a figure is the median of the runs, but for `max_ns`, the most of all.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    #[serde(flatten)]
    pub(crate) case: Case,
    pub(crate) p50_ns: f64,
    pub(crate) p90_ns: f64,
    pub(crate) p99_ns: f64,
    pub(crate) p999_ns: f64,
    pub(crate) max_ns: f64,
    /// Times that were taken, in all runs; of a stream they are windows of a millisecond.
    pub(crate) samples: u64,
    /// Messages that passed, in all runs, warm-up included.
    pub(crate) messages: u64,
    pub(crate) msgs_per_s: f64,
    pub(crate) bytes_per_s: f64,
    /// The round trip of bare flags: the lesser of those right before and right after a sample.
    pub(crate) floor_ns: f64,
    /// The median of the runs' `p50` over their own floors.
    pub(crate) to_floor: f64,
    /// `p50` over that of transport `floor` at the same size; only of round trips, where that was measured.
    pub(crate) to_slot: Option<f64>,
    /// `p50` over that of the base, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) to_base: Option<f64>,
    /// Its word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) base: Option<&'static str>,
    pub(crate) runs: usize,
    pub(crate) spread: Spread,
    pub(crate) per_million: PerMillion,
    /// The run that the system calls are from; null where they cannot be counted.
    pub(crate) counted: Option<Counted>,
    pub(crate) each: Vec<Run>,
    #[serde(skip)]
    pub(crate) times: Histogram<u64>,
}

/// The least and the most that a run had.
#[derive(Debug, Serialize)]
pub(crate) struct Spread {
    pub(crate) p50_ns: Span,
    pub(crate) p90_ns: Span,
    pub(crate) p99_ns: Span,
    pub(crate) p999_ns: Span,
    pub(crate) max_ns: Span,
    pub(crate) msgs_per_s: Span,
    pub(crate) floor_ns: Span,
}

/// What a million messages take of both processes together.
#[derive(Debug, Serialize)]
pub(crate) struct PerMillion {
    pub(crate) cpu_s: f64,
    /// From a run of its own, under ptrace; null where that is not to be had.
    pub(crate) system_calls: Option<f64>,
    pub(crate) voluntary_switches: f64,
    pub(crate) involuntary_switches: f64,
}

/// One run.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    p50_ns: f64,
    p90_ns: f64,
    p99_ns: f64,
    p999_ns: f64,
    max_ns: f64,
    samples: u64,
    msgs_per_s: f64,
    floor_before_ns: f64,
    floor_after_ns: f64,
}

/// The middle value; of an even number the mean of the middle two; not a number of nothing.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

fn span(values: &[f64]) -> Span {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    [least, values.iter().copied().fold(f64::NEG_INFINITY, f64::max)]
}

impl Row {
    fn new(case: Case, samples: &[Sample], counted: Option<Counted>) -> Row {
        let all = |f: &dyn Fn(&Sample) -> f64| samples.iter().map(f).collect::<Vec<f64>>();
        let p50 = all(&|s| s.at(0.5));
        let p90 = all(&|s| s.at(0.9));
        let p99 = all(&|s| s.at(0.99));
        let p999 = all(&|s| s.at(0.999));
        let max = all(&|s| s.at(1.0));
        let rate = all(&Sample::rate);
        let floor = all(&Sample::floor);
        let mut times = work::histogram();
        for sample in samples {
            // The same bounds: it fits.
            let _ = times.add(&sample.times);
        }
        Row {
            case,
            p50_ns: median(&p50),
            p90_ns: median(&p90),
            p99_ns: median(&p99),
            p999_ns: median(&p999),
            max_ns: span(&max)[1],
            samples: times.len(),
            messages: samples.iter().map(|s| s.messages).sum(),
            msgs_per_s: median(&rate),
            bytes_per_s: median(&rate) * case.size as f64,
            floor_ns: median(&floor),
            to_floor: median(&all(&|s| s.at(0.5) / s.floor())),
            to_slot: None,
            to_base: None,
            base: None,
            runs: samples.len(),
            spread: Spread {
                p50_ns: span(&p50),
                p90_ns: span(&p90),
                p99_ns: span(&p99),
                p999_ns: span(&p999),
                max_ns: span(&max),
                msgs_per_s: span(&rate),
                floor_ns: span(&floor),
            },
            per_million: PerMillion {
                cpu_s: median(&all(&|s| s.per_million(s.usage.cpu_ns) / 1e9)),
                system_calls: counted.map(|run| run.per_million()),
                voluntary_switches: median(&all(&|s| s.per_million(s.usage.voluntary))),
                involuntary_switches: median(&all(&|s| s.per_million(s.usage.involuntary))),
            },
            counted,
            each: samples
                .iter()
                .map(|s| Run {
                    p50_ns: s.at(0.5),
                    p90_ns: s.at(0.9),
                    p99_ns: s.at(0.99),
                    p999_ns: s.at(0.999),
                    max_ns: s.at(1.0),
                    samples: s.times.len(),
                    msgs_per_s: s.rate(),
                    floor_before_ns: s.floor[0],
                    floor_after_ns: s.floor[1],
                })
                .collect(),
            times,
        }
    }
}

/// The floor over all samples, in nanoseconds of a round trip.
#[derive(Debug, Serialize)]
pub(crate) struct Floor {
    /// Bare flags.
    pub(crate) flag_ns: f64,
    pub(crate) spread_ns: Span,
    pub(crate) samples: usize,
    /// One reused slot, by size; where transport `floor` was asked for.
    pub(crate) slots: Vec<Slot>,
}

/// The payload stored, then the flag.
#[derive(Debug, Serialize)]
pub(crate) struct Slot {
    pub(crate) size: usize,
    pub(crate) p50_ns: f64,
}

/// Was the machine quiet enough?
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    pub(crate) conclusive: bool,
    /// If not, why.
    pub(crate) reasons: Vec<String>,
}

/// All that was measured: the document of `--json`.
#[derive(Debug, Serialize)]
pub struct Results {
    pub(crate) environment: Machine,
    pub(crate) floor: Floor,
    pub(crate) results: Vec<Row>,
    pub(crate) skipped: Vec<Skipped>,
    /// Why system calls were not counted, where they were not.
    pub(crate) system_calls: Option<String>,
    pub(crate) verdict: Verdict,
    /// Whether anybody is compared with a base; then blocks say their place too.
    #[serde(skip)]
    pub(crate) compared: bool,
}

/// A floor is off when it is so far from the median of the run's floors, or one look at it from the other.
const OFF: f64 = 0.25;
/// So many samples may have a floor that is off.
const FEW: f64 = 0.25;
/// Of the processors' time, so much may be stolen by the host.
const STOLEN: f64 = 0.01;
/// And so much of it may go to other processes.
const OTHERS: f64 = 0.05;
/// A median of fewer runs says nothing of its spread.
const RUNS: usize = 5;

impl Results {
    pub(crate) fn new(
        environment: Machine,
        samples: &BTreeMap<Case, Vec<Sample>>,
        calls: &BTreeMap<Case, Counted>,
        skipped: Vec<Skipped>,
        system_calls: Option<String>,
        disturbed: Disturbed,
    ) -> Results {
        let mut results: Vec<Row> = samples
            .iter()
            .map(|(case, samples)| Row::new(*case, samples, calls.get(case).copied()))
            .collect();
        let slots: Vec<Slot> = results
            .iter()
            .filter(|row| row.case.transport.is_slot())
            .map(|row| Slot { size: row.case.size, p50_ns: row.p50_ns })
            .collect();
        for row in results.iter_mut().filter(|row| row.case.work == Work::Roundtrip) {
            let slot = slots.iter().find(|slot| slot.size == row.case.size);
            row.to_slot = slot.map(|slot| row.p50_ns / slot.p50_ns);
        }
        let floors: Vec<f64> = samples.values().flatten().map(Sample::floor).collect();
        let verdict = judge(&environment, samples, disturbed);
        let floor = Floor {
            flag_ns: median(&floors),
            spread_ns: span(&floors),
            samples: floors.len(),
            slots,
        };
        Results { environment, floor, results, skipped, system_calls, verdict, compared: false }
    }

    /// Compares all with the first of these that was measured in the same block.
    pub(crate) fn compare(&mut self, bases: &[Entrant]) {
        self.compared = !bases.is_empty();
        let block = |case: &Case| (case.work, case.place, case.wait);
        let all: Vec<(Case, f64)> = self.results.iter().map(|row| (row.case, row.p50_ns)).collect();
        for row in &mut self.results {
            let of = |base: &Entrant| {
                let there = |(case, _): &&(Case, f64)| {
                    case.transport == *base && block(case) == block(&row.case)
                };
                let measured: Vec<_> = all.iter().filter(there).collect();
                let same = measured.iter().find(|(case, _)| case.size == row.case.size);
                (!measured.is_empty()).then(|| (base.word(), same.map(|(_, p50)| row.p50_ns / p50)))
            };
            if let Some((word, ratio)) = bases.iter().find_map(of) {
                (row.base, row.to_base) = (Some(word), ratio);
            }
        }
    }
}

fn judge(
    machine: &Machine,
    samples: &BTreeMap<Case, Vec<Sample>>,
    disturbed: Disturbed,
) -> Verdict {
    let Disturbed { stolen, others, throttled } = disturbed;
    let mut reasons = Vec::new();
    let all: Vec<&Sample> = samples.values().flatten().collect();
    let middle = median(&all.iter().map(|s| s.floor()).collect::<Vec<_>>());
    let share = |off: &dyn Fn(&Sample) -> bool| {
        all.iter().filter(|sample| off(sample)).count() as f64 / all.len().max(1) as f64
    };
    let moved = share(&|s| (s.floor() / middle - 1.0).abs() > OFF);
    if moved > FEW {
        reasons.push(format!(
            "{:.0} % of the samples stand on a floor more than a quarter off the median floor: the processors were \
             moved, or shared with others",
            moved * 100.0
        ));
    }
    let shaken = share(&|s| (s.floor[0] / s.floor[1]).max(s.floor[1] / s.floor[0]) > 1.0 + OFF);
    if shaken > FEW {
        reasons.push(format!(
            "the floors before and after a sample differ by more than a quarter in {:.0} % of the samples",
            shaken * 100.0
        ));
    }
    if stolen > STOLEN {
        reasons.push(format!("the host took {:.1} % of the processors' time", stolen * 100.0));
    }
    if throttled > 0 {
        reasons.push(format!(
            "the quota of the control group held this process back {throttled} times"
        ));
    }
    if others > OTHERS {
        reasons.push(format!(
            "others were at work for {:.0} % of the processors' time",
            others * 100.0
        ));
    }
    if machine.cores.is_none_or(|[client, server]| client == server) {
        reasons.push("the two processes had no processor each of their own".into());
    }
    if machine.debug_build {
        reasons.push("this is a debug build".into());
    }
    if samples.values().any(|samples| samples.len() < RUNS) {
        reasons.push(format!("fewer than {RUNS} runs"));
    }
    Verdict { conclusive: reasons.is_empty(), reasons }
}

#[cfg(test)]
pub(crate) mod tests {
    use quoit_transports::{Clock, Floor, Spsc, UnixSeqpacket};

    use super::*;
    use crate::end::Figures;
    use crate::field::{Kind, field};

    /// A sample with these times, in nanoseconds, each a thousand times.
    pub(crate) fn sample(times: &[u64], floor: [f64; 2]) -> Sample {
        let side = || Outcome {
            figures: Some(Figures {
                times: times.iter().map(|ns| (ns * 1000, 1000)).collect(),
                messages: times.len() as u64 * 1000,
                ns: times.iter().sum::<u64>() as f64 * 1000.0,
            }),
            usage: Usage { cpu_ns: 1_000_000, voluntary: 1, involuntary: 0 },
            floor: Some(floor),
            messages: times.len() as u64 * 1000,
            own_calls: 0,
        };
        Sample::new(&case("spsc"), [side(), side()]).unwrap()
    }

    pub(crate) fn case(word: &str) -> Case {
        let all = [
            ("floor", Kind::apart::<Floor>()),
            ("spsc", Kind::apart::<Spsc>()),
            ("unix-seqpacket", Kind::apart::<UnixSeqpacket>()),
        ];
        let transport = field(all).into_iter().find(|one| one.word() == word).unwrap();
        let place = transport.place();
        Case { work: Work::Roundtrip, place, wait: Wait::Spin, size: 64, transport }
    }

    /// Results of quiet hours on a machine of two processors.
    pub(crate) fn results(samples: &BTreeMap<Case, Vec<Sample>>, disturbed: Disturbed) -> Results {
        let machine = Machine::look(Some([0, 1]), 2, Clock::Kernel);
        let machine = Machine { debug_build: false, ..machine };
        Results::new(machine, samples, &BTreeMap::new(), Vec::new(), None, disturbed)
    }

    const QUIET: Disturbed = Disturbed { stolen: 0.0, others: 0.0, throttled: 0 };

    fn verdict(floors: &[[f64; 2]], disturbed: Disturbed) -> Verdict {
        let samples = floors.iter().map(|floor| sample(&[100], *floor)).collect();
        results(&BTreeMap::from([(case("spsc"), samples)]), disturbed).verdict
    }

    #[test]
    fn a_figure_is_the_median_of_the_runs_and_the_ratio_that_of_their_own_floors() {
        let spsc = vec![
            sample(&[100, 200], [50.0, 55.0]),
            sample(&[300, 400], [100.0, 100.0]),
            // The machine had moved: another floor, and another time.
            sample(&[900, 990], [300.0, 390.0]),
        ];
        let floor = vec![sample(&[50], [50.0, 50.0])];
        let samples = BTreeMap::from([(case("spsc"), spsc), (case("floor"), floor)]);
        let results = results(&samples, QUIET);
        let row = results.results.iter().find(|row| row.case.transport.word() == "spsc").unwrap();
        let near = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 0.01, "{a} is not {b}");
        near(row.p50_ns, 300.0);
        near(row.spread.p50_ns[0], 100.0);
        near(row.spread.p50_ns[1], 900.0);
        near(row.max_ns, 990.0);
        near(row.floor_ns, 100.0);
        // Of 2, 3 and 3.
        near(row.to_floor, 3.0);
        near(row.to_slot.unwrap(), 6.0);
        assert_eq!((row.samples, row.runs), (6000, 3));
    }

    #[test]
    fn a_quiet_machine_concludes() {
        let verdict = verdict(&[[100.0, 110.0]; 5], QUIET);
        assert!(verdict.conclusive, "{verdict:?}");
    }

    #[test]
    fn every_kind_of_noise_is_named() {
        let calm = [100.0, 100.0];
        let said = |verdict: Verdict, word: &str| {
            assert!(!verdict.conclusive);
            assert!(verdict.reasons.iter().any(|reason| reason.contains(word)), "{verdict:?}");
        };
        said(verdict(&[calm; 4], QUIET), "fewer than 5 runs");
        let moved = [[500.0, 500.0], [500.0, 500.0], calm, calm, calm];
        said(verdict(&moved, QUIET), "40 % of the samples stand on a floor");
        let shaken = [[100.0, 200.0], [200.0, 100.0], calm, calm, calm];
        said(verdict(&shaken, QUIET), "differ by more than a quarter in 40 %");
        said(verdict(&[calm; 5], Disturbed { stolen: 0.02, ..QUIET }), "the host took 2.0 %");
        said(
            verdict(&[calm; 5], Disturbed { others: 0.3, ..QUIET }),
            "others were at work for 30 %",
        );
        said(
            verdict(&[calm; 5], Disturbed { throttled: 3, ..QUIET }),
            "held this process back 3 times",
        );
    }
}
