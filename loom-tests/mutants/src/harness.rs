//! The harnesses that kill, stop, wake and garble, against the shipped code made wrong.
//!
//! Knows which of their tests has to fail with which mutant, and what counts as a catch: a test that passes as the code is,
//! fails with the mutant, by an assertion of its own or by its watchdog, and says then what the list says. Knows nothing of
//! what the tests do.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use regex::Regex;

use crate::campaign::in_parallel;
use crate::models::{self, Model, Mutation, Output};
use crate::patch::{Catch, Mutant};

/// The programs of `tests/` that have harnesses in them.
const PROGRAMS: [&str; 3] = ["crowd", "processes", "steps"];

/// Whatever a test does, it is over by then.
const LIMIT: Duration = Duration::from_secs(300);

/// So many seconds without progress are a hang, for tests that would wait for longer.
const PATIENCE: u64 = 10;

/// What came of one test with one mutant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The test failed, with this line.
    Caught(String),
    /// This is what it did instead.
    Missed(String),
    /// The test cannot run here, and says why.
    Skipped(String),
}

/// A mutant, a test that has to fail with it, and whether it did.
#[derive(Clone, Debug)]
pub(crate) struct Found<'a> {
    pub(crate) mutant: &'a Mutant,
    pub(crate) by: &'a str,
    pub(crate) took: Duration,
    pub(crate) outcome: Outcome,
}

/// Each mutant says who catches it, and how.
pub(crate) fn check(mutants: &[Mutant]) -> Result<()> {
    for Mutant { name, caught, .. } in mutants {
        ensure!(!caught.is_empty(), "{name:?} does not say which test has to fail");
        for Catch { by, says } in caught {
            let pattern = Regex::new(says).with_context(|| format!("{name:?}, {by}"))?;
            ensure!(!pattern.is_match(""), "{name:?} does not say what {by} says then");
        }
    }
    Ok(())
}

/// Runs the tests that have to fail with those of `mutants` that are chosen.
pub(crate) fn run<'a>(
    root: &Path,
    mutants: &'a [Mutant],
    chosen: impl Fn(&Mutant) -> bool,
    jobs: usize,
) -> Result<Vec<Found<'a>>> {
    let tests = models::build_harnesses(root, &PROGRAMS, mutants)?;
    let tests: BTreeMap<&str, &Model> =
        tests.iter().map(|test| (test.name.as_str(), test)).collect();
    let pairs: Vec<(usize, &Mutant, &Catch)> = mutants
        .iter()
        .enumerate()
        .filter(|(_, mutant)| chosen(mutant))
        .flat_map(|(number, mutant)| mutant.caught.iter().map(move |by| (number, mutant, by)))
        .collect();
    let names: BTreeSet<&str> = pairs.iter().map(|(_, _, catch)| catch.by.as_str()).collect();
    let names: Vec<&str> = names.into_iter().collect();
    let one = |name: &str, mutation: &Mutation| {
        let test = tests.get(name).with_context(|| format!("there is no test {name}"))?;
        // The same draws each time.
        let variables = [("QUOIT_TEST_PATIENCE", PATIENCE), ("QUOIT_TEST_SEED", 1)]
            .map(|(variable, value)| (variable, value.to_string().into()));
        models::execute(test, mutation, LIMIT, &variables)
    };
    let sound = in_parallel("tests as they are", jobs, &names, |name| {
        let output = one(name, &Mutation::Nothing)?;
        for (_, _, catch) in pairs.iter().filter(|(_, _, catch)| catch.by == *name) {
            let line = Regex::new(&catch.says)?;
            let said = output.said.lines().any(|said| line.is_match(said));
            ensure!(!said, "{name} says {:?} without any mutant", catch.says);
        }
        passes(&output).with_context(|| format!("{name} without any mutant:\n{}", output.said))
    })?;
    let skipped: BTreeMap<&str, String> =
        names.iter().zip(sound).filter_map(|(name, skips)| Some((*name, skips?))).collect();
    in_parallel("mutants", jobs, &pairs, |&(number, mutant, catch)| {
        let by = catch.by.as_str();
        if let Some(why) = skipped.get(by) {
            let outcome = Outcome::Skipped(why.clone());
            return Ok(Found { mutant, by, took: Duration::ZERO, outcome });
        }
        let output = one(by, &Mutation::Switch(number))?;
        let outcome = judge(&output, &Regex::new(&catch.says)?);
        Ok(Found { mutant, by, took: output.took, outcome })
    })
}

/// A run without a mutant: an error unless one test ran and passed. What it says if it skipped itself.
fn passes(output: &Output) -> Result<Option<String>> {
    let ran = output.said.contains("test result: ok. 1 passed");
    ensure!(ran && output.status.is_some_and(|status| status.success()), "it does not pass");
    let skips = output.said.lines().find_map(|line| line.split_once("SKIPPED: "));
    Ok(skips.map(|(_, why)| why.to_owned()))
}

/// A run with a mutant.
fn judge(output: &Output, says: &Regex) -> Outcome {
    let Some(status) = output.status else {
        return Outcome::Missed(String::from("neither fails nor ends"));
    };
    if status.success() {
        return Outcome::Missed(String::from("passes"));
    }
    // A panic that is the test's, or the watchdog's end; anything else is an accident.
    let failed = status.code() == Some(101) || status.signal() == Some(6);
    match output.said.lines().find(|line| says.is_match(line)) {
        Some(line) if failed => Outcome::Caught(line.trim().chars().take(120).collect()),
        _ => Outcome::Missed(format!(
            "{status}, and nothing like {:?}:\n{}",
            says.as_str(),
            output.said
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::ExitStatus;

    const FAILED: i32 = 101 << 8;
    const ABORTED: i32 = 6;

    fn output(status: Option<i32>, said: &str) -> Output {
        let status = status.map(ExitStatus::from_raw);
        Output { status, took: Duration::ZERO, said: said.to_owned() }
    }

    #[test]
    fn a_test_that_fails_as_it_should_is_a_catch() {
        let said = "one\n  lost (1): [7]\n";
        let caught = Outcome::Caught("lost (1): [7]".into());
        let says = Regex::new("lost .1.").unwrap();
        assert_eq!(judge(&output(Some(FAILED), said), &says), caught);
        assert_eq!(judge(&output(Some(ABORTED), said), &says), caught);
    }

    #[test]
    fn what_passes_hangs_is_killed_or_fails_otherwise_is_no_catch() {
        let says = Regex::new("x").unwrap();
        let missed =
            |status, said| matches!(judge(&output(status, said), &says), Outcome::Missed(_));
        assert!(missed(Some(0), "x"));
        assert!(missed(None, "x"));
        assert!(missed(Some(9), "x"), "somebody killed it");
        assert!(missed(Some(FAILED), "another assertion"));
    }

    #[test]
    fn without_a_mutant_one_test_runs_and_passes_or_says_that_it_cannot() {
        let ran = "test result: ok. 1 passed; 0 failed";
        assert_eq!(passes(&output(Some(0), ran)).unwrap(), None);
        let said = format!("test x ... SKIPPED: no ptrace\n{ran}");
        assert_eq!(passes(&output(Some(0), &said)).unwrap(), Some("no ptrace".into()));
        assert!(passes(&output(Some(0), "test result: ok. 0 passed; 0 failed")).is_err());
        assert!(passes(&output(Some(FAILED), ran)).is_err());
        assert!(passes(&output(None, "")).is_err());
    }
}
