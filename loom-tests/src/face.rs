//! How a ring of bytes is received from: the calls that `quoit::spsc::Receiver` makes of it, in its order.
//!
//! Knows which call comes before which. Knows nothing of any one model.

use quoit::model::Refused;
use quoit::model::spsc::Consumer;

/// Takes the next message in hand, if there is one: by the index alone where that will do, else with care, looking up to
/// `looks` times. Answers whether.
///
/// # Errors
///
/// `Corrupt`.
pub fn take(rx: &mut Consumer, looks: u32) -> Result<bool, Refused> {
    Ok(rx.take_now() || rx.take_with_care(looks)?)
}

/// Releases the message in hand.
pub fn release(rx: &mut Consumer) {
    if rx.is_marked() {
        rx.unmark();
    }
    rx.release();
}
