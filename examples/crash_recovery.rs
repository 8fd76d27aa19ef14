//! A sender is killed in the middle of a message and a receiver with one in hand;
//! whoever comes next goes on. The program starts itself again as the two.
//!
//! ```text
//! cargo run --example crash_recovery
//! ```

#![allow(clippy::print_stdout, reason = "an example talks")]

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{self, Command, Stdio};

use quoit::mpmc::{self, Receiver, Sender};
use quoit::{Options, Recovered};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    match &args[..] {
        [_, role, ring] if role == "sender" => send(ring),
        [_, role, ring] if role == "receiver" => receive(ring),
        _ => story(),
    }
}

fn send(ring: &str) -> Result<(), Box<dyn Error>> {
    let mut tx = Sender::open(ring)?;
    tx.send(b"one")?;
    tx.send(b"two")?;
    let mut third = tx.reserve(5)?;
    third.write_all(b"thr")?;
    println!("the sender has sent \"one\" and \"two\" and is in the middle of \"three\"");
    wait_to_be_killed()
}

fn receive(ring: &str) -> Result<(), Box<dyn Error>> {
    let rx = Receiver::open(ring)?;
    let message = rx.recv()?;
    println!("the receiver has {:?} in hand", String::from_utf8_lossy(&message.to_vec()));
    wait_to_be_killed()
}

fn wait_to_be_killed() -> Result<(), Box<dyn Error>> {
    Ok(io::stdin().read_exact(&mut [0])?)
}

fn story() -> Result<(), Box<dyn Error>> {
    let ring = format!("crash-{}", process::id());
    mpmc::create(&ring, &Options::new())?;
    let mut doomed = Vec::new();
    for role in ["sender", "receiver"] {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([role, &ring]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let mut said = String::new();
        if let Some(pipe) = process.stdout.take() {
            BufReader::new(pipe).read_line(&mut said)?;
        }
        print!("{said}");
        doomed.push(process);
    }
    for mut process in doomed {
        process.kill()?;
        process.wait()?;
    }
    println!("both are killed");

    // Nobody has to call this: whoever opens the ring does the same, and whoever
    // waits at it. Called by name, it tells what it found.
    let Recovered { seats, skipped, redelivered, lost, .. } = quoit::recover(&ring)?;
    println!(
        "{seats} seats of the dead: {skipped} claim skipped, {redelivered} message put back, \
         {lost} lost"
    );

    let tx = Sender::open(&ring)?;
    let rx = Receiver::open(&ring)?;
    tx.send(b"three")?;
    drop(tx);
    while let Ok(message) = rx.recv() {
        let again = if message.redelivered() { ", delivered again" } else { "" };
        println!("received {:?}{again}", String::from_utf8_lossy(&message.to_vec()));
    }
    quoit::unlink(&ring)?;
    Ok(())
}
