//! Says hello to the other terminal.
//!
//! ```text
//! cargo run --example hello_receiver          # in one terminal
//! cargo run --example hello_sender -- you     # in another, before or after
//! ```

#![allow(clippy::print_stdout, reason = "an example talks")]

use std::error::Error;

use quoit::Options;
use quoit::spsc::Sender;

fn main() -> Result<(), Box<dyn Error>> {
    // Whoever comes first makes the ring.
    let mut tx = Sender::open_or_create("hello", &Options::new())?;

    let name = std::env::args().nth(1).unwrap_or_else(|| "world".into());
    for n in 1..=3 {
        tx.send(format!("hello, {name} ({n} of 3)").as_bytes())?;
    }

    println!("sent 3 messages to {name}");
    Ok(()) // The sender leaves here; what it sent stays until it is received.
}
