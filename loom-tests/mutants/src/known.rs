//! What is known of each mutant: `known.toml`.
//!
//! Knows which entries there must be and which contradict what was found. Runs nothing. Writes down who caught what, and
//! never a reason: those are people's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Context, Result};
use serde::Deserialize;
use toml_edit::{DocumentMut, Item, Table};

use crate::source::Access;

/// A mutant, or an access: its file below `src/`, and its name there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) file: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(file: &str, name: impl ToString) -> Key {
        Key { file: file.to_owned(), name: name.to_string() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.name)
    }
}

/// By file, then by name.
type Entries = BTreeMap<String, BTreeMap<String, String>>;

/// The file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Known {
    /// Mutants, and the model that catches each.
    caught: Entries,
    /// Mutants that models reach and do not catch, and why that is.
    unseen: Entries,
    /// Accesses and mutants of the protocol that no model reaches, and what stands in.
    unreached: Entries,
    /// Accesses whose comments cite no row, and why.
    uncited: Entries,
}

/// What must have an entry.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) key: Key,
    /// What a model has to reach: the access, or the mutant itself.
    pub(crate) place: Key,
}

/// What is known of a mutant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry<'a> {
    Caught(&'a str),
    Unseen(&'a str),
    Unreached(&'a str),
    Nothing,
}

/// What was found of a mutant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The model, and what it said.
    Caught {
        by: String,
        why: String,
    },
    /// So many runs, and none of them failed; of these it is not known whether they ever would.
    Survived {
        runs: usize,
        undecided: Vec<String>,
    },
    Unreached,
}

fn get<'a>(entries: &'a Entries, key: &Key) -> Option<&'a str> {
    entries.get(&key.file)?.get(&key.name).map(String::as_str)
}

fn keys(entries: &Entries) -> impl Iterator<Item = Key> + '_ {
    entries.iter().flat_map(|(file, names)| names.keys().map(|name| Key::new(file, name)))
}

impl Known {
    pub(crate) fn parse(text: &str) -> Result<Known> {
        toml::from_str(text).context("the known mutants cannot be read")
    }

    pub(crate) fn entry(&self, subject: &Subject) -> Entry<'_> {
        if let Some(model) = get(&self.caught, &subject.key) {
            Entry::Caught(model)
        } else if let Some(reason) = get(&self.unseen, &subject.key) {
            Entry::Unseen(reason)
        } else if let Some(reason) = get(&self.unreached, &subject.place) {
            Entry::Unreached(reason)
        } else {
            Entry::Nothing
        }
    }

    /// What is wrong with the entries as such, whatever the models do.
    pub(crate) fn complaints(&self, subjects: &[Subject], accesses: &[Access]) -> Vec<String> {
        let mut complaints = Vec::new();
        let mutants: BTreeSet<&Key> = subjects.iter().map(|subject| &subject.key).collect();
        let places: BTreeSet<&Key> = subjects.iter().map(|subject| &subject.place).collect();
        for (table, entries, there) in [
            ("caught", &self.caught, &mutants),
            ("unseen", &self.unseen, &mutants),
            ("unreached", &self.unreached, &places),
        ] {
            for key in keys(entries).filter(|key| !there.contains(key)) {
                complaints.push(format!("[{table}] {key}: there is no such thing in the source"));
            }
        }
        for entries in [&self.caught, &self.unseen, &self.unreached, &self.uncited] {
            for key in keys(entries) {
                if get(entries, &key).is_some_and(|text| text.trim().is_empty()) {
                    complaints.push(format!("{key}: its entry says nothing"));
                }
            }
        }
        for subject in subjects {
            let key = &subject.key;
            let tables = [
                get(&self.caught, key).is_some(),
                get(&self.unseen, key).is_some(),
                get(&self.unreached, &subject.place).is_some(),
            ];
            match tables.into_iter().filter(|&there| there).count() {
                0 => complaints.push(format!(
                    "{key}: new, and has no entry. `cargo mutate --bless` writes down which model catches it; if none \
                     does, say why under [unseen] (or under [unreached], if none comes to it)"
                )),
                1 => {}
                _ => complaints.push(format!("{key}: it has more than one entry")),
            }
        }
        let cited: BTreeMap<Key, &Option<String>> = accesses
            .iter()
            .map(|access| (Key::new(&access.file, access), &access.complaint))
            .collect();
        for (key, complaint) in &cited {
            let explained = get(&self.uncited, key).is_some();
            match complaint {
                Some(complaint) if !explained => complaints.push(format!(
                    "{key}: {complaint}. Let it begin with the row of docs/memory-ordering.md and the ordering, or say \
                     under [uncited] why it cannot"
                )),
                None if explained => {
                    complaints.push(format!("[uncited] {key}: its comment cites its row"));
                }
                _ => {}
            }
        }
        for key in keys(&self.uncited).filter(|key| !cited.contains_key(key)) {
            complaints.push(format!("[uncited] {key}: there is no such thing in the source"));
        }
        complaints
    }

    /// What is wrong between what is known of a mutant and what was found.
    pub(crate) fn contradiction(&self, subject: &Subject, outcome: &Outcome) -> Option<String> {
        let key = &subject.key;
        match (self.entry(subject), outcome) {
            (Entry::Caught(known), Outcome::Caught { by, .. }) if known == by => None,
            (Entry::Caught(known), Outcome::Caught { by, .. }) => Some(format!(
                "{key}: caught by {by}, and no longer by {known}. `--bless` writes that down"
            )),
            (Entry::Caught(known), Outcome::Survived { undecided, .. }) => Some(format!(
                "{key}: NOT CAUGHT any more, not by {known} either{}",
                doubt(undecided)
            )),
            (Entry::Caught(known), Outcome::Unreached) => {
                Some(format!("{key}: no model comes there any more, not {known} either"))
            }
            (Entry::Unseen(_), Outcome::Caught { by, .. }) => Some(format!(
                "{key}: explained under [unseen], and caught after all by {by}. `--bless` writes that down"
            )),
            (Entry::Unseen(_), Outcome::Unreached) => {
                Some(format!("{key}: no model comes there: its reason belongs under [unreached]"))
            }
            (Entry::Unreached(_), Outcome::Caught { by, .. }) => Some(format!(
                "{key}: reached after all, and caught by {by}. `--bless` writes that down"
            )),
            (Entry::Unreached(_), Outcome::Survived { .. }) => Some(format!(
                "{key}: reached after all, and not caught: [unreached] is wrong, say why under [unseen]"
            )),
            (Entry::Unseen(_), Outcome::Survived { undecided, .. }) if !undecided.is_empty() => {
                Some(format!("{key}: explained, but one run did not end{}", doubt(undecided)))
            }
            (Entry::Nothing, Outcome::Survived { runs, undecided }) => Some(format!(
                "{key}: NOT CAUGHT by any of {runs} runs{}, and not explained",
                doubt(undecided)
            )),
            (Entry::Nothing, Outcome::Unreached) => {
                Some(format!("{key}: no model comes there, and that is not explained"))
            }
            // That it has no entry is said elsewhere.
            (Entry::Nothing, Outcome::Caught { .. })
            | (Entry::Unseen(_), Outcome::Survived { .. })
            | (Entry::Unreached(_), Outcome::Unreached) => None,
        }
    }
}

fn doubt(undecided: &[String]) -> String {
    match undecided {
        [] => String::new(),
        models => format!(" (undecided: {})", models.join(", ")),
    }
}

/// The file with what was found: who caught what, and no entry that is known to be wrong. Reasons are neither written nor
/// changed.
pub(crate) fn bless(text: &str, all: &[Subject], found: &[(&Subject, Outcome)]) -> Result<String> {
    let mut document: DocumentMut = text.parse().context("the known mutants cannot be read")?;
    let mutants: BTreeSet<&Key> = all.iter().map(|subject| &subject.key).collect();
    let places: BTreeSet<&Key> = all.iter().map(|subject| &subject.place).collect();
    for (table, there) in [("caught", &mutants), ("unseen", &mutants), ("unreached", &places)] {
        retain(&mut document, table, |key| there.contains(key));
    }
    for (subject, outcome) in found {
        let (key, place) = (&subject.key, &subject.place);
        if *outcome != Outcome::Unreached {
            retain(&mut document, "unreached", |other| other != place);
        }
        match outcome {
            Outcome::Caught { by, .. } => {
                retain(&mut document, "unseen", |other| other != key);
                insert(&mut document, "caught", key, by);
            }
            Outcome::Survived { .. } | Outcome::Unreached => {
                retain(&mut document, "caught", |other| other != key);
            }
        }
    }
    Ok(document.to_string())
}

/// Keeps those entries of a table of which `keep` says so.
fn retain(document: &mut DocumentMut, table: &str, keep: impl Fn(&Key) -> bool) {
    let Some(files) = document.get_mut(table).and_then(Item::as_table_mut) else { return };
    for (file, names) in files.iter_mut() {
        let Some(names) = names.as_table_mut() else { continue };
        let file = file.get().to_owned();
        names.retain(|name, _| keep(&Key::new(&file, name)));
    }
}

/// Makes an entry, in order.
fn insert(document: &mut DocumentMut, table: &str, key: &Key, value: &str) {
    let implicit = || {
        let mut table = Table::new();
        table.set_implicit(true);
        Item::Table(table)
    };
    let files = document.entry(table).or_insert_with(implicit);
    let Some(files) = files.as_table_mut() else { return };
    let names = files.entry(&key.file).or_insert_with(|| Item::Table(Table::new()));
    if let Some(names) = names.as_table_mut() {
        match names.get_mut(&key.name) {
            Some(old) if old.as_str() == Some(value) => {}
            Some(old) => *old = toml_edit::value(value),
            None => {
                names.insert(&key.name, toml_edit::value(value));
                names.sort_values();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Place;

    const FILE: &str = "# Reasons are people's.\n\n\
                        [caught.\"a.rs\"]\n\"f S1 store Release -> Relaxed\" = \"spsc::one\"\n\n\
                        [unseen.\"a.rs\"]\n# A note.\n\"g S2 load Acquire -> Relaxed\" = \"the lock\"\n\n\
                        [unreached.\"a.rs\"]\n\"h S3 load Acquire\" = \"not modelled\"\n";

    fn subject(place: &str) -> Subject {
        Subject {
            key: Key::new("a.rs", format!("{place} -> Relaxed")),
            place: Key::new("a.rs", place),
        }
    }

    fn subjects() -> Vec<Subject> {
        ["f S1 store Release", "g S2 load Acquire", "h S3 load Acquire"].map(subject).into()
    }

    fn caught(by: &str) -> Outcome {
        Outcome::Caught { by: by.into(), why: "torn".into() }
    }

    fn survived() -> Outcome {
        Outcome::Survived { runs: 3, undecided: vec![] }
    }

    fn access(function: &str, complaint: Option<&str>) -> Access {
        Access {
            file: "a.rs".into(),
            function: function.into(),
            row: Some("S1".into()),
            operation: "store".into(),
            order: "Release".into(),
            ordinal: 1,
            place: Place { line: 1, column: 1 },
            complaint: complaint.map(String::from),
        }
    }

    #[test]
    fn entries_that_fit_are_not_complained_of() {
        let known = Known::parse(FILE).expect("sound");
        assert_eq!(known.complaints(&subjects(), &[access("f", None)]), [""; 0]);
        let found = [caught("spsc::one"), survived(), Outcome::Unreached];
        for (subject, outcome) in subjects().iter().zip(found) {
            assert_eq!(known.contradiction(subject, &outcome), None);
        }
    }

    #[test]
    fn an_entry_that_matches_nothing_fails() {
        let known = Known::parse(FILE).expect("sound");
        let complaints = known.complaints(&subjects()[1..], &[]);
        assert_eq!(complaints.len(), 1, "{complaints:?}");
        assert!(complaints[0].contains("f S1 store Release -> Relaxed: there is no such thing"));
    }

    #[test]
    fn what_is_new_and_has_no_entry_fails_and_says_how_to_add_one() {
        let known = Known::parse("").expect("sound");
        let complaints = known.complaints(&subjects(), &[]);
        assert_eq!(complaints.len(), 3);
        assert!(complaints.iter().all(|complaint| complaint.contains("--bless")));
    }

    #[test]
    fn an_entry_that_says_nothing_and_two_of_one_mutant_fail() {
        let text = FILE.replace("the lock", " ") + "\"f S1 store Release\" = \"really?\"\n";
        let complaints = Known::parse(&text).expect("sound").complaints(&subjects(), &[]);
        assert_eq!(complaints.len(), 2, "{complaints:?}");
        assert!(complaints[0].contains("says nothing"));
        assert!(complaints[1].contains("more than one entry"));
    }

    #[test]
    fn a_comment_without_its_row_fails_unless_it_is_explained() {
        let known = Known::parse(FILE).expect("sound");
        let accesses = [access("f", Some("it has no comment"))];
        assert!(known.complaints(&subjects(), &accesses)[0].contains("it has no comment"));
        let text = format!("{FILE}\n[uncited.\"a.rs\"]\n\"f S1 store Release\" = \"as above\"\n");
        let known = Known::parse(&text).expect("sound");
        assert_eq!(known.complaints(&subjects(), &accesses), [""; 0]);
        let complaints = known.complaints(&subjects(), &[access("f", None)]);
        assert!(complaints[0].contains("its comment cites its row"), "{complaints:?}");
    }

    #[test]
    fn a_survivor_that_is_not_explained_fails() {
        let known = Known::parse("").expect("sound");
        let complaint = known.contradiction(&subjects()[0], &survived()).expect("fails");
        assert!(complaint.contains("NOT CAUGHT by any of 3 runs, and not explained"));
        assert!(known.contradiction(&subjects()[0], &Outcome::Unreached).is_some());
    }

    #[test]
    fn whatever_is_otherwise_than_the_file_says_fails() {
        let known = Known::parse(FILE).expect("sound");
        let [caught_one, unseen, unreached] = &subjects()[..] else { panic!("three") };
        for (subject, outcome, says) in [
            (caught_one, survived(), "NOT CAUGHT any more"),
            (caught_one, caught("mpmc::two"), "caught by mpmc::two"),
            (caught_one, Outcome::Unreached, "no model comes there any more"),
            (unseen, caught("spsc::one"), "caught after all by spsc::one"),
            (unseen, Outcome::Unreached, "belongs under [unreached]"),
            (unreached, caught("spsc::one"), "reached after all, and caught"),
            (unreached, survived(), "reached after all, and not caught"),
        ] {
            let complaint = known.contradiction(subject, &outcome).expect(says);
            assert!(complaint.contains(says), "{complaint}");
        }
    }

    #[test]
    fn undecided_is_not_caught() {
        let known = Known::parse(FILE).expect("sound");
        let outcome = Outcome::Survived { runs: 1, undecided: vec!["spsc::one".into()] };
        let complaint = known.contradiction(&subjects()[0], &outcome).expect("fails");
        assert!(complaint.contains("(undecided: spsc::one)"), "{complaint}");
    }

    #[test]
    fn a_blessing_writes_who_caught_it_and_no_reason_and_keeps_the_rest() {
        let (all, new) = (subjects(), subject("e S0 store Release"));
        let mut with_new = all.clone();
        with_new.push(new.clone());
        let found = [(&new, caught("spsc::one")), (&all[0], caught("mpmc::two"))];
        let text = bless(FILE, &with_new, &found).expect("sound");
        assert!(text.contains(
            "[caught.\"a.rs\"]\n\"e S0 store Release -> Relaxed\" = \"spsc::one\"\n\
             \"f S1 store Release -> Relaxed\" = \"mpmc::two\"\n"
        ));
        assert!(text.contains("# Reasons are people's.") && text.contains("# A note."));
        assert!(text.contains("\"the lock\"") && text.contains("\"not modelled\""));
    }

    #[test]
    fn a_blessing_takes_away_what_is_known_to_be_wrong() {
        let all = subjects();
        let found = [(&all[0], survived()), (&all[1], caught("spsc::one")), (&all[2], survived())];
        let known = Known::parse(&bless(FILE, &all, &found).expect("sound")).expect("sound");
        assert_eq!(known.entry(&all[0]), Entry::Nothing, "no reason is made up");
        assert_eq!(known.entry(&all[1]), Entry::Caught("spsc::one"));
        assert_eq!(known.entry(&all[2]), Entry::Nothing);
        let known = Known::parse(&bless(FILE, &all[..1], &[]).expect("sound")).expect("sound");
        assert_eq!(known.complaints(&all[..1], &[]), [""; 0], "what matches nothing is gone");
    }
}
