//! The commit that a bench is built from, where there is a checkout and a `git` to ask; nothing otherwise.

use std::path::Path;
use std::process::Command;

/// What `git` says, if it does.
fn git(args: &[&str]) -> Option<String> {
    let out = Command::new("git").args(args).output().ok().filter(|out| out.status.success())?;
    let text = String::from_utf8(out.stdout).ok()?.trim().to_string();
    Some(text).filter(|text| !text.is_empty())
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src");
    // A package that somebody has unpacked inside another checkout is not of that checkout.
    let root = Path::new("../..").canonicalize().ok();
    let checkout = git(&["rev-parse", "--show-toplevel"]);
    if root.is_none() || root.as_deref() != checkout.as_deref().map(Path::new) {
        return;
    }
    println!("cargo::rerun-if-changed=../../src");
    println!("cargo::rerun-if-changed=../transports/src");
    // Where a checkout notes that it is at another commit; what is not there would be looked at again every time.
    for file in ["HEAD", "logs/HEAD", "index"] {
        let path = git(&["rev-parse", "--git-path", file]);
        if let Some(path) = path.filter(|path| Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    if let Some(commit) = git(&["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]) {
        println!("cargo::rustc-env=QUOIT_GIT={commit}");
    }
}
