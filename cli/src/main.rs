//! The `quoit` tool: rings from the shell.
//!
//! This file knows which command goes where and how a run ends; what a command
//! does is in `commands`, one file each. Data goes to standard output, talk to
//! standard error, and the exit status says what happened (`exit`).

#![forbid(unsafe_code)]

mod args;
mod commands;
mod ends;
mod exit;
mod picture;
mod signals;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};

fn main() -> ExitCode {
    let ended = match Cli::parse().command {
        Command::Demo(args) => commands::demo::run(&args),
        Command::DemoPeer(args) => commands::demo::peer(&args),
        Command::DemoWorker(args) => commands::demo::worker(&args),
        Command::Bench(args) => commands::bench::run(&args),
        Command::BenchEnd(args) => commands::bench::end(&args),
        Command::Create(args) => commands::create::run(&args),
        Command::Ls(args) => commands::ls::run(&args),
        Command::Stat(args) => commands::stat::run(&args),
        Command::Send(args) => commands::send::run(&args),
        Command::Recv(args) => commands::recv::run(&args),
        Command::Recover(args) => commands::recover::run(&args),
        Command::Rm(args) => commands::rm::run(&args),
        Command::Completions(args) => commands::completions::run(&args),
        Command::Man(args) => commands::man::run(&args),
    };
    match ended {
        Ok(end) => end.into(),
        Err(error) => exit::report(&error),
    }
}
