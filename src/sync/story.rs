//! Telling what an execution of a model does, access by access.
//!
//! Knows who takes which step where in the source, and whether anybody listens. Knows nothing of what a step is for. A model
//! that failed is run again up to the execution that failed, and that one is told (loom-tests/README.md).

use core::cell::Cell;
use core::panic::Location;

use super::model::whoever_runs;

std::thread_local! {
    /// Of the thread that the checker itself runs on: all actors of one model are its coroutines.
    static TELLING: Cell<bool> = const { Cell::new(false) };
}

/// Whether what this model does from here on is told, on the standard error.
pub fn tell(on: bool) {
    TELLING.with(|telling| telling.set(on));
}

/// One step, told if anybody listens.
#[expect(clippy::print_stderr)]
pub(super) fn step(place: &Location<'_>, what: impl FnOnce() -> String) {
    if TELLING.with(Cell::get) {
        eprintln!("{:<9} {}:{}  {}", whoever_runs(), place.file(), place.line(), what());
    }
}
