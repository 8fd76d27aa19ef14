//! The algorithms.
//!
//! Knows words, lines and positions. Knows nothing of files, paths, clocks or sleeping; "is it dead?" has been decided by
//! the time anything here is called.

pub mod spsc;

/// What makes an operation refuse; the faces turn it into sentences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No room for the message now.
    Full,
    /// The message is longer than any that is sure to fit.
    TooLong,
    /// The ring holds what no honest peer can have written; says what.
    Corrupt(&'static str),
}
