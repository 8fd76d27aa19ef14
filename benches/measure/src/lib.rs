//! How a bench asks two ends of a transport, and what their figures come to.
//!
//! It knows samples of two fresh processes, or of one with two threads; works, the floor beside each sample, medians and
//! their spread, and how these are shown. It refuses to know which transports there are: whoever measures hands in a
//! [`field()`], and starts [`end()`] when its program is called with [`END`].

#![forbid(unsafe_code)]

mod calls;
mod campaign;
mod crowd;
mod end;
mod field;
mod hgrm;
mod machine;
mod meter;
mod pair;
mod results;
mod svg;
mod table;
mod work;

use std::fmt;

pub use campaign::{Plan, measure};
pub use end::{Job, Outcome, crowd, end, together};
pub use field::{Channel, Crowded, Entrant, Kind, Place, Run, field};
pub use hgrm::{write as write_percentiles, write_histogram};
pub use machine::{allowed, choose};
pub use results::Results;
pub use svg::draw;
pub use table::{lines, page, plain, sheet};
pub use work::{PS, Work, histogram};

/// The word with which a program that measures starts itself once more.
pub const END: &str = "bench-end";

/// Whether somebody has asked to stop.
pub type Stop<'a> = &'a dyn Fn() -> bool;

/// A process of the bench died.
#[derive(Debug)]
pub struct Died(String);

impl fmt::Display for Died {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Died {}
