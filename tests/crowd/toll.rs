//! What the killed were doing, how long the calls of all took, and how fast they were killed.
//!
//! Knows the words of a journal, processes and clocks. Knows nothing of what was sent.

use std::time::Duration;

use crate::harness::{Meter, Process, full, now};
use crate::journal::Journal;
use crate::notes::{DOING, Doing, ENDS, Histogram, LONGEST, OVERRUNS, SINCE, SPANS, TIMEOUTS};

/// Of all who work at a ring and die.
pub(crate) struct Toll {
    doing: [u64; Doing::ALL.len()],
    asleep: u64,
    claims: Option<u64>,
    kills: u64,
    spans: Histogram,
    overruns: Histogram,
    /// The longest call of each kind, and the longest that its caller did not live to see the end of.
    longest: [[u64; Doing::ALL.len()]; 2],
    timeouts: u64,
    ends: u64,
    began: u64,
    meter: Meter,
}

/// Somebody to whom a SIGKILL is on its way.
pub(crate) struct Death {
    asleep: bool,
    at: u64,
}

impl Death {
    pub(crate) fn begin(worker: &Process) -> Death {
        let death = Death { asleep: worker.state() == 'S', at: now() };
        worker.send(libc::SIGKILL);
        death
    }
}

impl Toll {
    pub(crate) fn new() -> Toll {
        Toll {
            doing: [0; Doing::ALL.len()],
            asleep: 0,
            claims: None,
            kills: 0,
            spans: Histogram::new(),
            overruns: Histogram::new(),
            longest: [[0; Doing::ALL.len()]; 2],
            timeouts: 0,
            ends: 0,
            began: now(),
            meter: Meter::start(),
        }
    }

    pub(crate) fn kills(&self) -> u64 {
        self.kills
    }

    /// Waits for the end of somebody who dies, and notes what it was doing.
    pub(crate) fn end(&mut self, worker: &mut Process, death: &Death) {
        worker.kill();
        let doing = Doing::ALL[worker.journal.get(DOING) as usize];
        self.kills += 1;
        self.doing[doing as usize] += 1;
        if doing.is_a_call() {
            self.asleep += u64::from(death.asleep);
            let cut = death.at.saturating_sub(worker.journal.get(SINCE));
            let longest = &mut self.longest[1][doing as usize];
            *longest = cut.max(*longest);
        }
    }

    /// The ring says that the dead one had something of it.
    pub(crate) fn claimed(&mut self, claimed: bool) {
        *self.claims.get_or_insert(0) += u64::from(claimed);
    }

    /// Enters what somebody noted of its calls, who is gone for good.
    pub(crate) fn gone(&mut self, journal: &Journal) {
        SPANS.add(journal, &mut self.spans);
        OVERRUNS.add(journal, &mut self.overruns);
        for (doing, longest) in self.longest[0].iter_mut().enumerate() {
            *longest = journal.get(LONGEST + doing).max(*longest);
        }
        self.timeouts += journal.get(TIMEOUTS);
        self.ends += journal.get(ENDS);
    }

    /// Whether every call ended by its deadline and a second more, not counting what the machine overslept.
    pub(crate) fn kept_to(&self, deadline: Duration) -> bool {
        let longest = self.longest.iter().flatten().max().copied().unwrap_or(0) as f64 / 1e6;
        longest <= deadline.as_secs_f64() * 1e3 + 1000.0 + self.meter.worst()
    }

    /// For people; to be said when all that was asked has held.
    pub(crate) fn show(&self) -> String {
        let share = |count: u64| 100 * count / self.kills.max(1);
        let sum = |is: fn(Doing) -> bool| -> u64 {
            Doing::ALL
                .iter()
                .filter(|doing| is(**doing))
                .map(|doing| self.doing[*doing as usize])
                .sum()
        };
        let each: Vec<_> = Doing::ALL
            .iter()
            .filter(|doing| self.doing[**doing as usize] > 0)
            .map(|doing| format!("{doing:?} {}", self.doing[*doing as usize]))
            .collect();
        let claims = self.claims.map_or(String::new(), |claims| {
            format!(", {} % with a slot of the ring claimed or taken", share(claims))
        });
        let seconds = (now() - self.began) as f64 / 1e9;
        let deaths = format!(
            "  0 failures in {} kills, {:.0} a second: {} % inside a call ({} % asleep there), {} % writing \
             or with a message in hand{claims}: {}",
            self.kills,
            self.kills as f64 / seconds,
            share(sum(Doing::is_a_call)),
            share(self.asleep),
            share(sum(Doing::is_a_claim)),
            each.join(", ")
        );
        if !full() {
            return deaths;
        }
        format!(
            "{deaths}\n  calls {}\n  past their deadline {}\n  the longest: {}\n  \
             cut short by a kill: {}\n  {} timeouts, {} ends; the machine overslept {:.1} ms",
            self.spans.show(),
            self.overruns.show(),
            show_longest(&self.longest[0]),
            show_longest(&self.longest[1]),
            self.timeouts,
            self.ends,
            self.meter.worst()
        )
    }
}

fn show_longest(longest: &[u64]) -> String {
    let each = Doing::ALL.iter().zip(longest).filter(|(_, longest)| **longest > 1_000_000);
    let each: Vec<_> =
        each.map(|(doing, longest)| format!("{doing:?} {:.1} ms", *longest as f64 / 1e6)).collect();
    if each.is_empty() { String::from("below 1 ms") } else { each.join(", ") }
}
