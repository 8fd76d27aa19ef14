//! What a person reads at the end.
//!
//! Knows tables and sentences. Decides nothing.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};

use crate::campaign::Found;
use crate::harness;
use crate::known::Outcome;
use crate::models::Mutation;
use crate::source::Access;

/// Says something on the standard error.
pub(crate) fn say(what: &str) {
    eprintln!("{what}");
}

/// Prints the complaints; answers whether there are none.
pub(crate) fn verdict(complaints: &[String]) -> bool {
    for complaint in complaints {
        eprintln!("error: {complaint}");
    }
    complaints.is_empty()
}

/// What became of the mutants of one file.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    accesses: usize,
    orderings: usize,
    protocol: usize,
    caught: usize,
    survived: usize,
    unreached: usize,
}

impl Sum {
    fn row(&self, name: &str) -> [String; 7] {
        let numbers = [
            self.accesses,
            self.orderings,
            self.protocol,
            self.caught,
            self.survived,
            self.unreached,
        ];
        let mut row = [const { String::new() }; 7];
        row[0] = name.to_owned();
        for (cell, number) in row[1..].iter_mut().zip(numbers) {
            *cell = number.to_string();
        }
        row
    }
}

/// Prints the sums by file and the score, and writes what became of each mutant to `to`, below `root`.
pub(crate) fn table(accesses: &[Access], found: &[Found<'_>], root: &Path, to: &str) -> Result<()> {
    let mut sums: BTreeMap<&str, Sum> = BTreeMap::new();
    for access in accesses {
        sums.entry(&access.file).or_default().accesses += 1;
    }
    let mut each = Table::new();
    each.load_style(presets::NOTHING).set_header(["file", "mutant", "caught by", "which says"]);
    let mut found: Vec<_> = found.iter().collect();
    found.sort_by_key(|found| &found.target.subject.key);
    let mut total = Sum { accesses: accesses.len(), ..Sum::default() };
    for Found { target, outcome } in found {
        let key = &target.subject.key;
        for sum in [sums.entry(&key.file).or_default(), &mut total] {
            match target.mutation {
                Mutation::Switch(_) => sum.protocol += 1,
                _ => sum.orderings += 1,
            }
            match outcome {
                Outcome::Caught { .. } => sum.caught += 1,
                Outcome::Survived { .. } => sum.survived += 1,
                Outcome::Unreached => sum.unreached += 1,
            }
        }
        let (by, why) = match outcome {
            Outcome::Caught { by, why } => (by.clone(), why.clone()),
            Outcome::Survived { runs, undecided } => {
                (String::from("NOBODY"), format!("{runs} runs, undecided: {undecided:?}"))
            }
            Outcome::Unreached => (String::from("NOBODY"), String::from("no model comes there")),
        };
        each.add_row([&key.file, &key.name, &by, &why]);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([
        "file",
        "accesses",
        "of orderings",
        "of the protocol",
        "caught",
        "survived",
        "unreached",
    ]);
    for (file, sum) in &sums {
        table.add_row(sum.row(file));
    }
    table.add_row(total.row("all"));
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
    let (caught, all) = (total.caught, total.orderings + total.protocol);
    println!("{caught} of {all} mutants are caught by a model; each of them: {to}");
    let path = root.join(to);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&path, format!("{each}\n"))?;
    Ok(())
}

/// Prints which test of a harness caught which mutant, and how; answers what went wrong.
pub(crate) fn harnesses(found: &[harness::Found<'_>]) -> Vec<String> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["mutant", "test", "seconds", "which says"]);
    let (mut caught, mut skipped, mut complaints) = (0, 0, Vec::new());
    for harness::Found { mutant, by, took, outcome } in found {
        let name = &mutant.name;
        let says = match outcome {
            harness::Outcome::Caught(line) => {
                caught += 1;
                line.clone()
            }
            harness::Outcome::Skipped(why) => {
                skipped += 1;
                format!("SKIPPED: {why}")
            }
            harness::Outcome::Missed(what) => {
                complaints.push(format!("{:?} is not caught by {by}: {what}", mutant.name));
                String::from("NOT CAUGHT")
            }
        };
        table.add_row([name, *by, &format!("{:.1}", took.as_secs_f64()), &says]);
    }
    println!("{table}");
    println!("{caught} of {} catches by harnesses, {skipped} skipped", found.len());
    complaints
}
