//! How a run ends: the exit status, and the one line on standard error. Knows
//! every error that the commands can meet; knows nothing of how they came to it.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;
use std::{fmt, io};

use quoit::{Fault, OpenError, RecvTimeoutError, SendError, SendTimeoutError, TrySendError};

pub(crate) use quoit_measure::plain;

pub(crate) const FAILED: u8 = 1;
pub(crate) const USAGE: u8 = 2;
pub(crate) const NO_RING: u8 = 3;
pub(crate) const TIMED_OUT: u8 = 4;
pub(crate) const NOT_NOW: u8 = 5;
pub(crate) const PEER_DIED: u8 = 6;
pub(crate) const INCOMPATIBLE: u8 = 7;

/// The end of a command that has nothing to complain of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Done,
    /// Asked to stop by this signal, and did so in order.
    Signal(u8),
}

impl From<End> for ExitCode {
    fn from(end: End) -> ExitCode {
        match end {
            End::Done => ExitCode::SUCCESS,
            End::Signal(number) => ExitCode::from(128 + number),
        }
    }
}

/// An error whose status the command itself has chosen.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    text: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

/// An error with a status of its own.
pub(crate) fn failure(code: u8, text: impl Into<String>) -> anyhow::Error {
    Failure { code, text: text.into() }.into()
}

/// Says the error in one line and gives its status. A reader that has seen
/// enough (a broken pipe) is no error.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if is_broken_pipe(error) {
        return ExitCode::SUCCESS;
    }
    // Nobody is left to tell when standard error is gone too.
    let _ = writeln!(io::stderr(), "quoit: {}", plain(&sentence(error)));
    ExitCode::from(code(error))
}

/// The error and its causes; a cause that the text names already is not said
/// twice.
fn sentence(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| {
        if said.is_empty() {
            cause
        } else if said.contains(&cause) {
            said
        } else {
            format!("{said}: {cause}")
        }
    })
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == ErrorKind::BrokenPipe)
}

fn code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(code_of).unwrap_or(FAILED)
}

fn code_of(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if let Some(Failure { code, .. }) = cause.downcast_ref() {
        return Some(*code);
    }
    if cause.is::<quoit_measure::Died>() {
        return Some(PEER_DIED);
    }
    if let Some(error) = cause.downcast_ref::<OpenError>() {
        return Some(of_open(error));
    }
    if let Some(error) = cause.downcast_ref::<SendError>() {
        return Some(match error {
            SendError::Fault(fault) => of_fault(fault),
            _ => FAILED,
        });
    }
    if let Some(error) = cause.downcast_ref::<SendTimeoutError>() {
        return Some(match error {
            SendTimeoutError::Timeout { .. } => TIMED_OUT,
            SendTimeoutError::Fault(fault) => of_fault(fault),
            _ => FAILED,
        });
    }
    if let Some(error) = cause.downcast_ref::<TrySendError>() {
        return Some(match error {
            TrySendError::Full => NOT_NOW,
            TrySendError::Fault(fault) => of_fault(fault),
            _ => FAILED,
        });
    }
    if let Some(error) = cause.downcast_ref::<RecvTimeoutError>() {
        return Some(match error {
            RecvTimeoutError::Timeout { .. } => TIMED_OUT,
            RecvTimeoutError::Fault(fault) => of_fault(fault),
            _ => FAILED,
        });
    }
    cause.downcast_ref::<Fault>().map(of_fault)
}

/// The status of a ring that cannot be opened.
pub(crate) fn of_open(error: &OpenError) -> u8 {
    match error {
        OpenError::NotFound { .. } => NO_RING,
        OpenError::BadName { .. } | OpenError::BadOption { .. } => USAGE,
        OpenError::NotARing { .. }
        | OpenError::WrongKind { .. }
        | OpenError::Version { .. }
        | OpenError::Truncated { .. }
        | OpenError::Corrupt { .. } => INCOMPATIBLE,
        _ => FAILED,
    }
}

fn of_fault(fault: &Fault) -> u8 {
    match fault {
        Fault::Corrupt { .. } | Fault::Truncated { .. } => INCOMPATIBLE,
        _ => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_chosen_status_survives_context() {
        let error = Err::<(), _>(failure(PEER_DIED, "gone")).context("while waiting").unwrap_err();
        assert_eq!(code(&error), PEER_DIED);
    }

    #[test]
    fn a_cause_is_said_once() {
        let error = failure(FAILED, "not usable: no space").context("not usable: no space");
        assert_eq!(sentence(&error), "not usable: no space");
        assert_eq!(sentence(&failure(FAILED, "no space").context("writing")), "writing: no space");
    }

    #[test]
    fn a_broken_pipe_is_found_behind_context() {
        let pipe = io::Error::from(ErrorKind::BrokenPipe);
        let error = Err::<(), _>(pipe).context("while writing").unwrap_err();
        assert!(is_broken_pipe(&error));
    }

    #[test]
    fn a_name_with_a_newline_stays_on_its_line() {
        assert_eq!(plain("a\nb\u{1b}[31m"), "a\\nb\\u{1b}[31m");
    }
}
