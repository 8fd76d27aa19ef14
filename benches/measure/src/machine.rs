//! The machine that the figures are from, as it shows itself; and how busy it was.
//!
//! It knows `/proc` and `/sys`. What they do not say it leaves out, and it refuses to guess.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use nix::sched::sched_getaffinity;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use nix::unistd::Pid;
use quoit_transports::Clock;
use serde::Serialize;

use crate::table::plain;

/// The environment block.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    /// How many processors this process may use.
    pub(crate) cpus: usize,
    /// The client's and the server's; none where they are not pinned.
    pub(crate) cores: Option<[usize; 2]>,
    pub(crate) relation: String,
    pub(crate) governor: Option<String>,
    pub(crate) kernel: String,
    /// What it runs on, if it is a virtual machine and says so.
    pub(crate) virtual_machine: Option<String>,
    pub(crate) clock: &'static str,
    /// What one look at the clock takes; a round trip contains one or two.
    pub(crate) clock_ns: f64,
    pub(crate) load: Option<f64>,
    pub(crate) version: &'static str,
    pub(crate) git: Option<&'static str>,
    pub(crate) debug_build: bool,
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_string()).filter(|text| !text.is_empty())
}

/// The value of the first line of `/proc/cpuinfo` with such a name.
fn cpuinfo(name: &str) -> Option<String> {
    let text = read("/proc/cpuinfo")?;
    let line =
        text.lines().find(|line| line.split(':').next().is_some_and(|n| n.trim() == name))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

/// The processors that this process may use.
pub fn allowed() -> anyhow::Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0)).context("asking which processors may be used")?;
    Ok((0..nix::sched::CpuSet::count()).filter(|&n| set.is_set(n).unwrap_or(false)).collect())
}

/// Two processors that share a cache and are not threads of one core, if there are such; otherwise any two; otherwise
/// none.
pub fn choose(allowed: &[usize]) -> Option<[usize; 2]> {
    let pairs = allowed
        .iter()
        .enumerate()
        .flat_map(|(n, &one)| allowed[n + 1..].iter().map(move |&other| [one, other]));
    // Processors of one machine are many, pairs of them far more; the first few show what there is.
    pairs.take(4096).min_by_key(|pair| relation(pair).0)
}

/// How two processors are related: how far from what a benchmark wants, and a sentence.
fn relation(&[one, other]: &[usize; 2]) -> (u8, String) {
    if one == other {
        return (9, "the same processor".into());
    }
    let topology =
        |cpu: usize, what: &str| read(format!("/sys/devices/system/cpu/cpu{cpu}/topology/{what}"));
    let threads = topology(one, "thread_siblings_list");
    if threads.is_some_and(|list| contains(&list, other)) {
        return (8, "hyper-threads of one core".into());
    }
    let shared = (0..8).filter_map(|index| {
        let cache = format!("/sys/devices/system/cpu/cpu{one}/cache/index{index}");
        let list = read(format!("{cache}/shared_cpu_list"))?;
        let level: u8 = read(format!("{cache}/level"))?.parse().ok()?;
        contains(&list, other).then_some(level)
    });
    if let Some(level) = shared.min() {
        return (1, format!("two cores that share their L{level} cache"));
    }
    match (topology(one, "physical_package_id"), topology(other, "physical_package_id")) {
        (Some(a), Some(b)) if a == b => (2, "two cores of one package that share no cache".into()),
        (Some(_), Some(_)) => (3, "two cores of different packages".into()),
        _ => (4, "two processors; this machine does not say how they are related".into()),
    }
}

/// Is this number in a list such as `0-3,8`?
fn contains(list: &str, number: usize) -> bool {
    list.split(',').any(|range| {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        match (from.trim().parse::<usize>(), to.trim().parse::<usize>()) {
            (Ok(from), Ok(to)) => (from..=to).contains(&number),
            _ => false,
        }
    })
}

impl Machine {
    /// Looks around.
    pub(crate) fn look(cores: Option<[usize; 2]>, cpus: usize, clock: Clock) -> Machine {
        let dmi = |what: &str| read(format!("/sys/class/dmi/id/{what}"));
        let hypervisor = cpuinfo("flags")
            .is_some_and(|flags| flags.split(' ').any(|f| f == "hypervisor"))
            || read("/sys/hypervisor/type").is_some();
        let product = [dmi("sys_vendor"), dmi("product_name")].into_iter().flatten();
        let product = product.collect::<Vec<_>>().join(" ");
        let virtual_machine = hypervisor.then(|| match product.as_str() {
            "" => "yes".to_string(),
            said => said.to_string(),
        });
        let mut relation = match cores {
            Some(cores) => relation(&cores).1,
            None if cpus < 2 => "one processor for both".into(),
            None => "not pinned: the kernel moves them".into(),
        };
        if cores.is_some() && virtual_machine.is_some() {
            relation += ", as the virtual machine has it";
        }
        let governor = cores.map_or(0, |cores| cores[0]);
        Machine {
            cpu: cpuinfo("model name").unwrap_or_else(|| std::env::consts::ARCH.into()),
            cpus,
            cores,
            relation,
            governor: read(format!(
                "/sys/devices/system/cpu/cpu{governor}/cpufreq/scaling_governor"
            )),
            kernel: read("/proc/sys/kernel/osrelease").unwrap_or_default(),
            virtual_machine,
            clock: clock.word(),
            clock_ns: (clock.cost() * 10.0).round() / 10.0,
            load: read("/proc/loadavg").and_then(|text| text.split(' ').next()?.parse().ok()),
            version: env!("CARGO_PKG_VERSION"),
            git: option_env!("QUOIT_GIT"),
            debug_build: cfg!(debug_assertions),
        }
    }

    /// The lines above the table.
    pub(crate) fn text(&self) -> String {
        let vm = match &self.virtual_machine {
            Some(what) if what != "yes" => format!("virtual machine ({what})"),
            Some(_) => "virtual machine".into(),
            None => "no virtual machine".into(),
        };
        let cores = match self.cores {
            Some([client, server]) => {
                format!("client on {client}, server on {server}: {}", self.relation)
            }
            None => self.relation.clone(),
        };
        let governor = self.governor.as_deref().unwrap_or("not shown");
        let git = self.git.map(|hash| format!(" ({hash})")).unwrap_or_default();
        let build = if self.debug_build { ", debug build" } else { "" };
        let load = self.load.map(|load| format!(", load {load:.2}")).unwrap_or_default();
        let lines = [
            ("machine", format!("{}, {} processors, {vm}", self.cpu, self.cpus)),
            ("cores", cores),
            ("system", format!("Linux {}, governor {governor}{load}", self.kernel)),
            ("clock", format!("{}, {:.1} ns a look", self.clock, self.clock_ns)),
            ("tool", format!("quoit {}{git}{build}", self.version)),
        ];
        lines.iter().fold(String::new(), |text, (name, what)| {
            text + &fold(&format!("{name:<8} {}", plain(what)))
        })
    }

    /// One line for a picture.
    pub(crate) fn title(&self) -> String {
        let vm = if self.virtual_machine.is_some() { " (VM)" } else { "" };
        let cores = match self.cores {
            Some([client, server]) => format!("processors {client} and {server}"),
            None => "not pinned".into(),
        };
        plain(&format!("{}{vm}, Linux {}, {cores}, quoit {}", self.cpu, self.kernel, self.version))
    }
}

/// A line of at most 100 columns, with what is too long on lines of its own.
pub(crate) fn fold(line: &str) -> String {
    const WIDTH: usize = 100;
    let (mut text, mut width) = (String::new(), 0);
    for (n, word) in line.split(' ').enumerate() {
        let len = word.chars().count();
        if n > 0 && width + 1 + len > WIDTH {
            text += "\n         ";
            width = 9;
        } else if n > 0 {
            text.push(' ');
            width += 1;
        }
        text += word;
        width += len;
    }
    text.push('\n');
    text
}

/// What the machine has counted so far of what disturbs a measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Disturbance {
    at: Instant,
    /// Of `/proc/stat`, in ticks of all processors: at work, stolen by the host, and all.
    busy: u64,
    stolen: u64,
    all: u64,
    processors: usize,
    /// At work for this process and its children, in seconds.
    ours: f64,
    /// Periods in which the control group of this process was held back.
    throttled: u64,
}

/// What has happened between two looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Disturbed {
    /// The share of the processors' time that the host took.
    pub(crate) stolen: f64,
    /// The share of it in which they worked for others.
    pub(crate) others: f64,
    /// How often a quota held us back.
    pub(crate) throttled: u64,
}

impl Disturbance {
    pub(crate) fn look() -> Disturbance {
        let stat = read("/proc/stat").unwrap_or_default();
        let ticks = |line: &str| -> Vec<u64> {
            line.split_whitespace().filter_map(|word| word.parse().ok()).collect()
        };
        // user nice system idle iowait irq softirq steal
        let ticks = stat.lines().next().map(ticks).unwrap_or_default();
        let sum = |columns: &[usize]| columns.iter().filter_map(|n| ticks.get(*n)).sum();
        let ours =
            [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN].into_iter().filter_map(|who| {
                let usage = getrusage(who).ok()?;
                Some(seconds(usage.user_time()) + seconds(usage.system_time()))
            });
        Disturbance {
            at: Instant::now(),
            busy: sum(&[0, 1, 2, 5, 6]),
            stolen: sum(&[7]),
            all: sum(&[0, 1, 2, 3, 4, 5, 6, 7]),
            processors: stat.lines().skip(1).take_while(|line| line.starts_with("cpu")).count(),
            ours: ours.sum(),
            throttled: throttled().unwrap_or(0),
        }
    }

    /// Since then.
    pub(crate) fn since(self, then: Disturbance) -> Disturbed {
        let share = |now: u64, before: u64| match self.all.saturating_sub(then.all) {
            0 => 0.0,
            all => now.saturating_sub(before) as f64 / all as f64,
        };
        let time = (self.at - then.at).as_secs_f64() * self.processors.max(1) as f64;
        Disturbed {
            stolen: share(self.stolen, then.stolen),
            others: (share(self.busy, then.busy) - (self.ours - then.ours) / time).max(0.0),
            throttled: self.throttled.saturating_sub(then.throttled),
        }
    }
}

fn seconds(time: TimeVal) -> f64 {
    time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6
}

/// `nr_throttled` of this process's control group and of those around it.
fn throttled() -> Option<u64> {
    let groups = read("/proc/self/cgroup")?;
    let mut most = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let root = match controllers {
            "" => "/sys/fs/cgroup",
            c if c.split(',').any(|c| c == "cpu") => "/sys/fs/cgroup/cpu",
            _ => continue,
        };
        let mut dir = Some(Path::new(path.trim_start_matches('/')));
        while let Some(here) = dir {
            let stat = read(Path::new(root).join(here).join("cpu.stat"));
            let count = stat.and_then(|stat| {
                let line = stat.lines().find_map(|line| line.strip_prefix("nr_throttled "))?;
                line.trim().parse::<u64>().ok()
            });
            most = most.max(count);
            dir = here.parent();
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_processors_is_read() {
        assert!(contains("0-3,8", 0) && contains("0-3,8", 3) && contains("0-3,8", 8));
        assert!(!contains("0-3,8", 4) && !contains("", 0) && !contains("all", 1));
    }

    #[test]
    fn a_long_line_is_folded_and_loses_nothing() {
        let line = "word ".repeat(60);
        let text = fold(line.trim());
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        assert_eq!(text.split_whitespace().count(), 60);
    }
}
