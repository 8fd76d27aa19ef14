//! Shows that the models of quoit can fail, and so can the harnesses.
//!
//! Weakens one ordering at a time, leaves out one fence, replaces one piece of the protocol by what a wrong maintainer would
//! write, and runs the models that come there: one of them must fail. What none can see is explained in `known.toml`. With
//! `--harness` the tests that kill, stop, wake and garble are run instead, with mutants of their own (`harness.toml`).

#![forbid(unsafe_code)]

mod campaign;
mod harness;
mod known;
mod models;
mod patch;
mod report;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use regex::{Regex, RegexSet};

use campaign::{Campaign, Depth, Target};
use known::{Entry, Key, Known, Outcome, Subject};
use models::Mutation;
use source::{Access, Place};

/// Shows that the models of quoit can fail, and so can the harnesses: makes the code wrong in one place at a time, and asks
/// which model, or which test of a harness, notices.
#[derive(Debug, Parser)]
#[command(name = "cargo mutate")]
struct Arguments {
    /// Only mutants whose file and name match one of these patterns.
    patterns: Vec<String>,
    /// Only what is known to be caught, each by the one model that is known to catch it.
    #[arg(long, conflicts_with_all = ["check", "bless"])]
    quick: bool,
    /// The harnesses instead of the models: does each fail with the mutants that it is known to catch?
    #[arg(long, conflicts_with_all = ["quick", "check", "bless", "only", "uncaught", "models"])]
    harness: bool,
    /// Run nothing: does every mutant have an entry, and every entry a mutant?
    #[arg(long, conflicts_with = "bless")]
    check: bool,
    /// Write down what was found: who caught what. Never a reason.
    #[arg(long)]
    bless: bool,
    /// Only mutants of this kind.
    #[arg(long)]
    only: Option<Kind>,
    /// Only mutants that are not known to be caught.
    #[arg(long, conflicts_with = "quick")]
    uncaught: bool,
    /// Only models that match this pattern; then nothing is said of what they do not catch.
    #[arg(long)]
    models: Option<Regex>,
    /// What nobody catches is tried at 3 preemptions too, by models that take no more seconds than this there. 0 is never.
    #[arg(long, default_value_t = 60)]
    deep: u64,
    /// Models that run at a time.
    #[arg(short, long)]
    jobs: Option<usize>,
    /// The file of what is known.
    #[arg(long)]
    known: Option<PathBuf>,
}

/// What is mutated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// The ordering of an access, or a fence.
    Orderings,
    /// A step of the protocol.
    Protocol,
}

impl Target {
    fn kind(&self) -> Kind {
        match self.mutation {
            Mutation::Switch(_) => Kind::Protocol,
            _ => Kind::Orderings,
        }
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            report::say(&format!("{error:#}"));
            ExitCode::from(2)
        }
    }
}

/// The root of the workspace: cargo says where this package lies.
fn root() -> Result<PathBuf> {
    let here = match std::env::var_os("CARGO_MANIFEST_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => std::env::current_dir()?.join("loom-tests/mutants"),
    };
    let root = here.ancestors().nth(2).context("no workspace")?.to_owned();
    anyhow::ensure!(root.join(".cargo/config.toml").is_file(), "run this by `cargo mutate`");
    Ok(root)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// The rows of both pages that have some.
fn rows(root: &Path) -> Result<BTreeSet<String>> {
    let mut rows = source::rows(&read(&root.join("docs/memory-ordering.md"))?);
    rows.extend(source::rows(&read(&root.join("docs/crash-safety.md"))?));
    Ok(rows)
}

/// All accesses of the ring.
fn accesses(root: &Path) -> Result<Vec<Access>> {
    let rows = source::rows(&read(&root.join("docs/memory-ordering.md"))?);
    let mut accesses = Vec::new();
    for file in source::FILES {
        accesses.extend(source::scan(file, &read(&root.join("src").join(file))?, &rows)?);
    }
    Ok(accesses)
}

/// The places of all accesses of the ring, by file.
fn places(root: &Path) -> Result<BTreeMap<&'static str, BTreeSet<Place>>> {
    let places = |file| Ok((file, source::places(file, &read(&root.join("src").join(file))?)?));
    source::FILES.into_iter().map(places).collect()
}

/// All mutants: of the orderings, then of the protocol.
fn targets(accesses: &[Access], mutants: &[patch::Mutant]) -> Vec<Target> {
    let weakened = accesses.iter().flat_map(|access| {
        access.weaker().iter().map(move |weaker| Target {
            subject: Subject {
                key: Key::new(&access.file, format!("{access} -> {weaker}")),
                place: Key::new(&access.file, access),
            },
            mutation: Mutation::Weaken(access.file.clone(), access.place, weaker),
        })
    });
    let replaced = mutants.iter().enumerate().map(|(number, mutant)| {
        let key = Key::new(&mutant.file, &mutant.name);
        Target {
            subject: Subject { key: key.clone(), place: key },
            mutation: Mutation::Switch(number),
        }
    });
    weakened.chain(replaced).collect()
}

/// Answers whether all is well.
fn run(arguments: &Arguments) -> Result<bool> {
    let root = root()?;
    let here = root.join("loom-tests/mutants");
    let accesses = accesses(&root)?;
    let mutants = patch::parse(&read(&here.join("mutants.toml"))?)?;
    let rows = rows(&root)?;
    for mutant in &mutants {
        if let Some(row) = mutant.row.as_ref().filter(|&row| !rows.contains(row)) {
            anyhow::bail!("mutant {:?}: no page of docs has a row {row}", mutant.name);
        }
    }
    let tortures = patch::parse(&read(&here.join("harness.toml"))?)?;
    harness::check(&tortures)?;
    for mutants in [&mutants, &tortures] {
        for (file, mutants) in patch::by_file(mutants) {
            patch::apply(file, &read(&root.join("src").join(file))?, &mutants)?;
        }
    }
    let patterns = RegexSet::new(&arguments.patterns)?;
    let jobs = match arguments.jobs {
        Some(jobs) => jobs,
        None => std::thread::available_parallelism()?.get(),
    };
    if arguments.harness {
        let chosen = |mutant: &patch::Mutant| {
            let key = Key::new(&mutant.file, &mutant.name).to_string();
            patterns.is_empty() || patterns.is_match(&key)
        };
        let found = harness::run(&root, &tortures, chosen, jobs)?;
        return Ok(report::verdict(&report::harnesses(&found)));
    }
    let targets = targets(&accesses, &mutants);
    let subjects: Vec<Subject> = targets.iter().map(|target| target.subject.clone()).collect();
    let known_path = arguments.known.clone().unwrap_or_else(|| here.join("known.toml"));
    let known = Known::parse(&read(&known_path)?)?;
    let mut complaints = known.complaints(&subjects, &accesses);
    if arguments.check {
        return Ok(report::verdict(&complaints));
    }

    let chosen = |target: &&Target| {
        (patterns.is_empty() || patterns.is_match(&target.subject.key.to_string()))
            && arguments.only.is_none_or(|kind| kind == target.kind())
            && !(arguments.uncaught && matches!(known.entry(&target.subject), Entry::Caught(_)))
    };
    let chosen: Vec<&Target> = targets.iter().filter(chosen).collect();
    let any = |kind| chosen.iter().any(|target| target.kind() == kind);
    let mut campaign = Campaign {
        plain: if any(Kind::Orderings) { models::build_plain(&root)? } else { Vec::new() },
        switched: if any(Kind::Protocol) {
            models::build_switched(&root, &mutants)?
        } else {
            Vec::new()
        },
        places: places(&root)?,
        known: &known,
        jobs,
    };
    if let Some(pattern) = &arguments.models {
        campaign.plain.retain(|model| pattern.is_match(&model.name));
        campaign.switched.retain(|model| pattern.is_match(&model.name));
    }
    let depth = match arguments.quick {
        true => Depth::Quick,
        false => Depth::Full { deep: Duration::from_secs(arguments.deep) },
    };
    let mut found = campaign.run(&chosen, depth)?;
    if arguments.models.is_some() {
        found.retain(|found| matches!(found.outcome, Outcome::Caught { .. }));
    }

    let outcomes: Vec<(&Subject, Outcome)> =
        found.iter().map(|found| (&found.target.subject, found.outcome.clone())).collect();
    if arguments.bless {
        // It may have been edited in the meantime.
        let text = known::bless(&read(&known_path)?, &subjects, &outcomes)?;
        fs::write(&known_path, &text)?;
        let known = Known::parse(&text)?;
        complaints = known.complaints(&subjects, &accesses);
        complaints.extend(contradictions(&known, &outcomes));
    } else {
        complaints.extend(contradictions(&known, &outcomes));
    }
    // What is new may have been complained of twice.
    let complaints: Vec<String> =
        complaints.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    report::table(&accesses, &found, &root, "target/mutants/report.txt")?;
    Ok(report::verdict(&complaints))
}

fn contradictions(known: &Known, outcomes: &[(&Subject, Outcome)]) -> Vec<String> {
    outcomes.iter().filter_map(|(subject, outcome)| known.contradiction(subject, outcome)).collect()
}
