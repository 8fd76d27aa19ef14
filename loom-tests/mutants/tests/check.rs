//! The tool as it is run, where it runs no model: what is known fits the source, and what does not fit is found.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Answers whether `--check` is content with this file, and what it said.
fn check(known: &Path) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_quoit-mutants"))
        .args(["--check", "--known"])
        .arg(known)
        .output()
        .expect("it starts");
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn committed() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("known.toml")).expect("there")
}

fn check_text(known: &str) -> (bool, String) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), known).expect("written");
    check(file.path())
}

#[test]
fn every_mutant_has_an_entry_and_every_entry_a_mutant() {
    let (content, said) = check_text(&committed());
    assert!(content, "{said}");
}

#[test]
fn an_entry_that_matches_no_access_fails() {
    let (content, said) = check_text(&format!(
        "{}\n[caught.\"gone.rs\"]\n\"f S3 store Release -> Relaxed\" = \"spsc::x\"\n",
        committed()
    ));
    assert!(!content);
    assert!(
        said.contains("gone.rs: f S3 store Release -> Relaxed: there is no such thing"),
        "{said}"
    );
}

#[test]
fn a_mutant_without_an_entry_fails_and_it_is_said_how_to_add_one() {
    let name = "Producer::publish S3 store Release -> Relaxed";
    let kept = |line: &&str| !line.contains(name);
    let without = committed().lines().filter(kept).collect::<Vec<_>>().join("\n");
    let (content, said) = check_text(&without);
    assert!(!content);
    assert!(said.contains(&format!("ring/spsc.rs: {name}: new, and has no entry")), "{said}");
    assert!(said.contains("--bless"), "{said}");
}

#[test]
fn a_file_that_cannot_be_read_is_not_a_file_that_fits() {
    assert!(!check_text("caught = 1").0);
    assert!(!check(Path::new("there is none")).0);
}
