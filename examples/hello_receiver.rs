//! Listens until the sender has said everything.
//!
//! ```text
//! cargo run --example hello_receiver          # in one terminal
//! cargo run --example hello_sender -- you     # in another, before or after
//! ```

#![allow(clippy::print_stdout, reason = "an example talks")]

use std::error::Error;

use quoit::Options;
use quoit::spsc::Receiver;

fn main() -> Result<(), Box<dyn Error>> {
    // Whoever comes first makes the ring.
    let mut rx = Receiver::open_or_create("hello", &Options::new())?;

    // Waits for a sender, then for each of its messages. A message is released
    // when it is dropped, here at the end of each turn.
    while let Ok(message) = rx.recv() {
        println!("{}", String::from_utf8_lossy(&message.to_vec()));
    }

    println!("the sender has left");
    quoit::unlink("hello")?;
    Ok(())
}
