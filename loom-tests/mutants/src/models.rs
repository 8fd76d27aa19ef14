//! The tests: building them, and running one of them in a process of its own.
//!
//! Knows the aliases of `.cargo/config.toml`, the test harness, and how a run of a model may end. Knows nothing of what is
//! mutated, but for the variable that says so.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cargo_metadata::Message;
use serde::Deserialize;
use toml_edit::{Array, DocumentMut};
use wait_timeout::ChildExt;

use crate::patch::{self, Mutant};
use crate::source::Place;

/// What makes a switch a switch.
const SWITCH: &str = include_str!("switch.rs");

/// One test: of a model, or of a harness.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Model {
    program: PathBuf,
    /// The file of the test and its name: `spsc::a_batch_is_visible_at_one_point`.
    pub(crate) name: String,
}

impl Model {
    fn test(&self) -> &str {
        self.name.split_once("::").map_or("", |(_, test)| test)
    }
}

/// What a run reaches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Reached {
    /// An access of a file below `src/`.
    Access(String, Place),
    /// A switch.
    Switch(usize),
}

/// What is mutated in a run.
#[derive(Clone, Debug)]
pub(crate) enum Mutation {
    Nothing,
    /// The access of a file below `src/`, and what is put in the place of its ordering.
    Weaken(String, Place, &'static str),
    Switch(usize),
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Passed,
    /// The model failed, with this in the first line of its panic.
    Failed(String),
    /// It explored too little to say anything.
    Hollow,
    /// It did neither within its time.
    Undecided,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Passed => f.write_str("passes"),
            Ended::Failed(why) => f.write_str(why),
            Ended::Hollow => f.write_str("explores too little to say anything"),
            Ended::Undecided => f.write_str("undecided: neither fails nor ends in time"),
        }
    }
}

/// The package of the models.
const MODELS: &str = "quoit-loom-tests";

#[derive(Deserialize)]
struct Config {
    alias: Alias,
}

#[derive(Deserialize)]
struct Alias {
    r#loom: Vec<String>,
    oracle: Vec<String>,
}

/// The alias without the other packages whose models it runs: they are not the ring's.
fn only_the_models(arguments: Vec<String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::with_capacity(arguments.len());
    for argument in arguments {
        if kept.last().is_some_and(|flag| flag == "-p") && argument != MODELS {
            kept.pop();
        } else {
            kept.push(argument);
        }
    }
    kept
}

/// The arguments of an alias, whose target folder lies in `root`, or is `target`.
fn alias(
    root: &Path,
    pick: fn(Alias) -> Vec<String>,
    target: Option<&Path>,
) -> Result<Vec<String>> {
    let config = fs::read_to_string(root.join(".cargo/config.toml"))?;
    let mut arguments = pick(toml::from_str::<Config>(&config)?.alias);
    for argument in &mut arguments {
        if argument.starts_with("target/") {
            let folder = target.map_or_else(|| root.join(&argument), PathBuf::from);
            *argument = folder.to_string_lossy().into_owned();
        }
    }
    Ok(arguments)
}

/// Builds the models that lie in `folder`, into `target` if not into the target folder of the alias, and lists them.
fn build(root: &Path, folder: &Path, target: Option<&Path>) -> Result<Vec<Model>> {
    let arguments = alias(root, |alias| only_the_models(alias.r#loom), target)?;
    tests(folder, &arguments)
}

/// Builds the tests that these arguments of cargo are for, in `folder`, and lists them.
fn tests(folder: &Path, arguments: &[String]) -> Result<Vec<Model>> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(folder)
        .args(arguments)
        .args(["--no-run", "--message-format=json-render-diagnostics"])
        // What cargo says to the program that it runs is not meant for another build.
        .env_remove("RUSTFLAGS")
        .stderr(Stdio::piped())
        .output()
        .context("cargo does not start")?;
    if !output.status.success() {
        bail!("the tests do not build:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    let mut tests = Vec::new();
    for message in Message::parse_stream(output.stdout.as_slice()) {
        let Message::CompilerArtifact(artifact) = message? else { continue };
        let (Some(program), true) = (&artifact.executable, artifact.profile.test) else { continue };
        if artifact.target.is_test() {
            tests.extend(list(program.as_std_path(), &artifact.target.name)?);
        }
    }
    ensure!(!tests.is_empty(), "there are no tests");
    Ok(tests)
}

fn list(program: &Path, file: &str) -> Result<Vec<Model>> {
    let output = Command::new(program).args(["--list", "--format", "terse"]).output()?;
    ensure!(output.status.success(), "{} does not list its tests", program.display());
    let names = String::from_utf8(output.stdout)?;
    let model = |name: &str| Model { program: program.into(), name: format!("{file}::{name}") };
    Ok(names.lines().filter_map(|line| line.strip_suffix(": test")).map(model).collect())
}

/// Builds the models of the tree.
pub(crate) fn build_plain(root: &Path) -> Result<Vec<Model>> {
    build(root, root, None)
}

/// Builds the models over a copy of the tree with a switch for each of the mutants.
pub(crate) fn build_switched(root: &Path, mutants: &[Mutant]) -> Result<Vec<Model>> {
    let folder = root.join("target/mutants/tree");
    let parts = Parts {
        members: &[".", "loom-tests"],
        files: &[],
        folders: &["src", "loom-tests"],
        without: Some("loom-tests/mutants"),
    };
    copy(root, &folder, parts, mutants)?;
    // A folder of its own: cargo gives the packages of the copy the same names as those of the tree.
    build(root, &folder, Some(&root.join("target/mutants/build")))
}

/// Builds those programs of the tests that lie in `tests`, and those of the oracle, over a copy of the tree with a switch for
/// each of the mutants.
pub(crate) fn build_harnesses(
    root: &Path,
    programs: &[&str],
    mutants: &[Mutant],
) -> Result<Vec<Model>> {
    let folder = root.join("target/mutants/harness-tree");
    let parts = Parts {
        members: &["."],
        files: &["fuzz/Cargo.toml", "fuzz/Cargo.lock"],
        folders: &["src", "tests", "fuzz/src", "fuzz/tests", "fuzz/fuzz_targets"],
        without: None,
    };
    copy(root, &folder, parts, mutants)?;
    let target = root.join("target/mutants/harness-build");
    let mut arguments = vec![String::from("test"), String::from("--target-dir")];
    arguments.push(target.to_string_lossy().into_owned());
    for program in programs {
        arguments.extend(["--test", program].map(String::from));
    }
    let mut built = tests(&folder, &arguments)?;
    built.extend(tests(&folder, &alias(root, |alias| alias.oracle, Some(&target))?)?);
    Ok(built)
}

/// What of the tree is copied.
#[derive(Clone, Copy)]
struct Parts {
    /// The packages of the copy.
    members: &'static [&'static str],
    /// Besides the root's manifest and lock.
    files: &'static [&'static str],
    folders: &'static [&'static str],
    without: Option<&'static str>,
}

/// Makes the copy. A file that is the same already is left alone, so that cargo builds nothing anew.
fn copy(root: &Path, folder: &Path, parts: Parts, mutants: &[Mutant]) -> Result<()> {
    let mut wanted = BTreeSet::new();
    let mut put = |path: PathBuf, text: &str| -> Result<()> {
        let to = folder.join(&path);
        if fs::read_to_string(&to).ok().as_deref() != Some(text) {
            fs::create_dir_all(to.parent().expect("a folder"))?;
            fs::write(&to, text)?;
        }
        wanted.insert(path);
        Ok(())
    };
    let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
    put("Cargo.toml".into(), &reduced(&manifest, parts.members)?)?;
    for file in ["Cargo.lock"].iter().chain(parts.files) {
        put(file.into(), &fs::read_to_string(root.join(file))?)?;
    }
    let by_file = patch::by_file(mutants);
    for path in files_below(root, parts.folders)? {
        if parts.without.is_some_and(|folder| path.starts_with(folder)) {
            continue;
        }
        let mut text = fs::read_to_string(root.join(&path))?;
        let below = path.strip_prefix("src").ok().and_then(Path::to_str).unwrap_or_default();
        if let Some(mutants) = by_file.get(below) {
            text = patch::apply(below, &text, mutants)?;
        }
        match below {
            // Switches make code that nobody would write.
            "lib.rs" => text.insert_str(0, "#![allow(warnings)]\n"),
            "sync/mod.rs" => text.push_str(SWITCH),
            _ => {}
        }
        put(path, &text)?;
    }
    for path in files_below(folder, parts.folders)? {
        if !wanted.contains(&path) {
            fs::remove_file(folder.join(path))?;
        }
    }
    Ok(())
}

/// The workspace with nothing but these packages.
fn reduced(manifest: &str, members: &[&str]) -> Result<String> {
    let mut manifest: DocumentMut = manifest.parse()?;
    let workspace = manifest["workspace"].as_table_mut().context("no workspace")?;
    workspace.insert("members", toml_edit::value(Array::from_iter(members.iter().copied())));
    workspace.remove("default-members");
    manifest.remove("bench");
    Ok(manifest.to_string())
}

/// All files of some folders of `root`, by their path from there.
fn files_below(root: &Path, folders: &[&str]) -> Result<Vec<PathBuf>> {
    let mut open: Vec<PathBuf> = folders.iter().map(PathBuf::from).collect();
    let mut files = Vec::new();
    while let Some(folder) = open.pop() {
        let path = root.join(&folder);
        for entry in fs::read_dir(&path).with_context(|| path.display().to_string())? {
            let entry = entry?;
            let below = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() { open.push(below) } else { files.push(below) }
        }
    }
    files.sort();
    Ok(files)
}

/// A run that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) ended: Ended,
    pub(crate) took: Duration,
    /// What it reached, if that was asked for.
    pub(crate) reached: BTreeSet<Reached>,
}

/// How a model is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// After so long the run is given up.
    pub(crate) limit: Duration,
    /// At most so many preemptions, if not as many as the model says.
    pub(crate) preemptions: Option<usize>,
    /// Whether it is written down what it reaches.
    pub(crate) survey: bool,
}

/// Runs one model in a process of its own.
pub(crate) fn run(model: &Model, mutation: &Mutation, manner: Manner) -> Result<Run> {
    let folder = tempfile::tempdir()?;
    let survey = folder.path().join("survey");
    let mut variables = Vec::new();
    if let Some(preemptions) = manner.preemptions {
        variables.push(("LOOM_MAX_PREEMPTIONS", preemptions.to_string().into()));
    }
    if manner.survey {
        variables.push(("MODEL_SURVEY", survey.clone().into_os_string()));
    }
    let Output { status, took, said } = execute(model, mutation, manner.limit, &variables)?;
    let ended = match status {
        None => Ended::Undecided,
        Some(status) => judge(status.code(), status.signal(), &said)
            .with_context(|| format!("{}, {mutation:?}", model.name))?,
    };
    let reached = match manner.survey {
        true => fs::read_to_string(&survey).unwrap_or_default().lines().filter_map(parse).collect(),
        false => BTreeSet::new(),
    };
    Ok(Run { ended, took, reached })
}

/// What became of the process of a test.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    /// `None` if it did not end in time.
    pub(crate) status: Option<ExitStatus>,
    pub(crate) took: Duration,
    /// On both of its outputs.
    pub(crate) said: String,
}

/// Runs one test in a process of its own, with these variables.
pub(crate) fn execute(
    test: &Model,
    mutation: &Mutation,
    limit: Duration,
    variables: &[(&str, OsString)],
) -> Result<Output> {
    let mut said = tempfile::NamedTempFile::new()?;
    let output = said.reopen()?;
    let mut command = Command::new(&test.program);
    command.args(["--exact", test.test(), "--nocapture"]).env("RUST_BACKTRACE", "0");
    for (variable, _) in std::env::vars_os() {
        let name = variable.to_string_lossy();
        if ["LOOM_", "MODEL_", "QUOIT_"].iter().any(|ours| name.starts_with(ours)) {
            command.env_remove(&variable);
        }
    }
    match mutation {
        Mutation::Nothing => {}
        Mutation::Weaken(file, at, weaker) => {
            command.env("MODEL_WEAKEN", format!("src/{file}:{}:{}={weaker}", at.line, at.column));
        }
        Mutation::Switch(number) => {
            command.env("MODEL_MUTANT", number.to_string());
        }
    }
    let begun = Instant::now();
    let mut child = command
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .with_context(|| format!("{} does not start", test.program.display()))?;
    let status = child.wait_timeout(limit)?;
    let took = begun.elapsed();
    if status.is_none() {
        child.kill()?;
        child.wait()?;
    }
    let mut bytes = Vec::new();
    said.read_to_end(&mut bytes)?;
    Ok(Output { status, took, said: String::from_utf8_lossy(&bytes).into_owned() })
}

/// How a run ended, by its status and what it said.
fn judge(code: Option<i32>, signal: Option<i32>, said: &str) -> Result<Ended> {
    match (code, signal) {
        (Some(0), _) => {
            // A name that no test has passes too.
            ensure!(said.contains("test result: ok. 1 passed"), "no test ran:\n{said}");
            Ok(Ended::Passed)
        }
        (Some(101), _) | (None, Some(6 | 11)) => match first_panic(said) {
            Some(panic) if panic.contains("a hollow ") => Ok(Ended::Hollow),
            Some(panic) => Ok(Ended::Failed(panic)),
            None if signal.is_some() => Ok(Ended::Failed(format!("signal {signal:?}"))),
            None => bail!("it failed and does not say why:\n{said}"),
        },
        _ => bail!("it ended with status {code:?}, signal {signal:?}:\n{said}"),
    }
}

/// What the first panic says, in its first line that says something.
fn first_panic(said: &str) -> Option<String> {
    let mut lines = said.lines().skip_while(|line| !line.contains("panicked at "));
    lines.next()?;
    let line = lines.map(str::trim).find(|line| !line.is_empty())?;
    let short: String = match line {
        _ if line.starts_with("Model exceeded maximum number of branches") => "does not end".into(),
        _ => line.chars().take(100).collect(),
    };
    Some(short)
}

/// A line of a survey; `None` when it is of no file below `src/`.
fn parse(line: &str) -> Option<Reached> {
    if let Some(number) = line.strip_prefix("mutant:") {
        return Some(Reached::Switch(number.parse().ok()?));
    }
    let mut parts = line.strip_prefix("src/")?.rsplitn(3, ':');
    let column = parts.next()?.parse().ok()?;
    let line = parts.next()?.parse().ok()?;
    Some(Reached::Access(parts.next()?.to_owned(), Place { line, column }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_alias_only_the_package_of_the_models_is_run() {
        let alias = ["test", "-p", MODELS, "-p", "another", "--profile", "loom"];
        let kept = only_the_models(alias.map(String::from).to_vec());
        assert_eq!(kept, ["test", "-p", MODELS, "--profile", "loom"]);
    }

    const FAILED: &str = "thread 'x' (7) panicked at loom/src/rt/location.rs:115:9:\n\
                          Causality violation: Concurrent read and write accesses.\n\n\
                          thread 'x' (7) panicked at other.rs:1:1:\nsecond\n";

    #[test]
    fn the_first_panic_is_why_a_model_failed() {
        let why = "Causality violation: Concurrent read and write accesses.";
        assert_eq!(judge(Some(101), None, FAILED).unwrap(), Ended::Failed(why.into()));
        assert_eq!(judge(None, Some(6), FAILED).unwrap(), Ended::Failed(why.into()));
    }

    #[test]
    fn a_run_that_was_hollow_or_never_was_is_no_catch() {
        let hollow = "thread 'x' panicked at e.rs:1:1:\nm: only 3 executions: a hollow pass\n";
        assert_eq!(judge(Some(101), None, hollow).unwrap(), Ended::Hollow);
        assert!(judge(Some(0), None, "test result: ok. 0 passed; 0 failed").is_err());
        assert!(judge(Some(64), None, "MODEL_WEAKEN is").is_err(), "a variable was refused");
        assert!(judge(None, Some(9), FAILED).is_err(), "somebody killed it");
    }

    #[test]
    fn an_execution_without_end_is_a_catch() {
        let said = "thread 'x' panicked at p.rs:1:1:\nModel exceeded maximum number of branches.\n";
        assert_eq!(judge(Some(101), None, said).unwrap(), Ended::Failed("does not end".into()));
    }

    #[test]
    fn a_survey_names_accesses_and_switches_and_nothing_else() {
        let place = Place { line: 12, column: 5 };
        let access = Reached::Access("ring/spsc.rs".into(), place);
        assert_eq!(parse("src/ring/spsc.rs:12:5"), Some(access));
        assert_eq!(parse("mutant:7"), Some(Reached::Switch(7)));
        assert_eq!(parse("loom-tests/tests/mpmc.rs:1:2"), None);
    }
}
