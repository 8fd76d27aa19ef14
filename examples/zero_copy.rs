//! A message is built where it will be read, and read where it was built.
//!
//! ```text
//! cargo run --example zero_copy
//! ```

#![allow(clippy::print_stdout, reason = "an example talks")]

use std::error::Error;
use std::io::Write;
use std::thread;

use quoit::Options;
use quoit::spsc;

fn main() -> Result<(), Box<dyn Error>> {
    // Between two threads, over the heap; a named ring works by the same words.
    let (mut tx, mut rx) = spsc::channel(&Options::new().capacity(1 << 20))?;

    let sender = thread::spawn(move || -> Result<(), Box<dyn Error + Send + Sync>> {
        for frame in 0..3 {
            // Room in the ring. Until it is committed nobody sees it, and if it
            // is dropped instead it never was.
            let mut room = tx.reserve(4096)?;
            write!(room, "frame {frame}: ")?;
            for pixel in b'a'..=b'p' {
                room.write_all(&[pixel])?;
            }
            // The header at its place, now that the rest is known.
            room.write_at(0, b"FRAME")?;
            room.commit_len(25)?; // Less than was asked for: the rest is free again.
        }
        Ok(())
    });

    while let Ok(message) = rx.recv() {
        // SAFETY: nothing writes these bytes while `message` lives. The sender
        // is this program's own thread, it commits a message once and keeps no
        // pointer into it, and no other process has this ring. With a peer that
        // is not known to do the same, use `copy_to` or `to_vec`.
        let bytes = unsafe { message.as_slice() };
        println!("{} bytes in place: {}", bytes.len(), String::from_utf8_lossy(bytes));
    }

    sender.join().map_err(|_| "the sender panicked")?.map_err(|e| e.to_string())?;
    Ok(())
}
