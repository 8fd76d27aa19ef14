//! Questions one way, answers the other: two rings and two processes. The
//! program starts itself again as the one who answers.
//!
//! ```text
//! cargo run --example request_reply
//! ```

#![allow(clippy::print_stdout, reason = "an example talks")]

use std::error::Error;
use std::process::{self, Command};
use std::time::Duration;

use quoit::Options;
use quoit::spsc::{Receiver, Sender};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    match &args[..] {
        [_, asked, answered] => answer(asked, answered),
        _ => ask(),
    }
}

fn ask() -> Result<(), Box<dyn Error>> {
    let asked = format!("asked-{}", process::id());
    let answered = format!("answered-{}", process::id());
    let mut requests = Sender::create(&asked, &Options::new())?;
    let mut replies = Receiver::create(&answered, &Options::new())?;
    let mut other = Command::new(std::env::current_exe()?).args([&asked, &answered]).spawn()?;

    for n in 1..=5_u64 {
        requests.send(&n.to_le_bytes())?;
        // An answer that never comes is an error here, not a hang; if the other
        // process died it says so at once.
        let reply = replies.recv_timeout(Duration::from_secs(30))?;
        let mut square = [0; 8];
        reply.copy_to(&mut square);
        println!("{n} squared is {}", u64::from_le_bytes(square));
    }

    drop(requests); // The other process sees the end of the questions.
    let status = other.wait()?;
    quoit::unlink(&asked)?;
    quoit::unlink(&answered)?;
    println!("the other process ended with {status}");
    Ok(())
}

fn answer(asked: &str, answered: &str) -> Result<(), Box<dyn Error>> {
    let mut requests = Receiver::open(asked)?;
    let mut replies = Sender::open(answered)?;
    while let Ok(request) = requests.recv() {
        let mut n = [0; 8];
        request.copy_to(&mut n);
        replies.send(&u64::from_le_bytes(n).pow(2).to_le_bytes())?;
    }
    Ok(())
}
