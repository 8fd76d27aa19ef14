//! Weakening one access of a model world, and writing down which accesses a run reaches.
//!
//! Knows where in the source each access stands, and what two variables of the environment ask for. Knows nothing of what
//! an access is for. Exists so that the models can be seen to fail (loom-tests/mutants); in an ordinary build it does not.
//!
//! | variable       | value                         | does                                                          |
//! |----------------|-------------------------------|---------------------------------------------------------------|
//! | `MODEL_WEAKEN` | `FILE:LINE:COLUMN=ORDERING`   | the access there runs with this ordering instead of its own;  |
//! |                |                               | a fence whose ordering is `nothing` is left out               |
//! | `MODEL_SURVEY` | a path                        | each place that is reached is appended to the file, once      |
//!
//! Nothing here is a shared step of a model, and no lock is held while one is taken.

use core::panic::Location;
use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::sync::{LazyLock, Mutex, PoisonError};

use super::Ordering;

/// The exit status of a run whose variables make no sense: not to be taken for a model that failed.
const USAGE: i32 = 64;

/// What the environment asks for; `None`, nearly always, is nothing.
static PLAN: LazyLock<Option<Plan>> = LazyLock::new(Plan::of_environment);

struct Plan {
    weakened: Option<Weakened>,
    survey: Option<Mutex<Survey>>,
}

struct Weakened {
    file: String,
    line: u32,
    column: u32,
    /// `None`: a fence that is left out.
    order: Option<Ordering>,
}

struct Survey {
    file: File,
    seen: HashSet<(&'static str, u32, u32)>,
}

/// With which ordering the access at `place` runs, which says `order`.
pub(super) fn access(place: &'static Location<'static>, order: Ordering) -> Ordering {
    fence(place, order).unwrap_or_else(|| refuse("only a fence can be left out"))
}

/// With which ordering the fence at `place` runs, if it does.
pub(super) fn fence(place: &'static Location<'static>, order: Ordering) -> Option<Ordering> {
    match &*PLAN {
        None => Some(order),
        Some(plan) => plan.order(place, order),
    }
}

impl Plan {
    fn of_environment() -> Option<Plan> {
        let weakened = std::env::var("MODEL_WEAKEN").ok().map(|text| {
            Weakened::parse(&text)
                .unwrap_or_else(|| refuse("MODEL_WEAKEN is FILE:LINE:COLUMN=ORDERING"))
        });
        let survey = std::env::var_os("MODEL_SURVEY").map(|path| {
            let file = File::options().create(true).append(true).open(path);
            let file = file.unwrap_or_else(|error| refuse(&format!("MODEL_SURVEY: {error}")));
            Mutex::new(Survey { file, seen: HashSet::new() })
        });
        (weakened.is_some() || survey.is_some()).then_some(Plan { weakened, survey })
    }

    fn order(&self, place: &'static Location<'static>, order: Ordering) -> Option<Ordering> {
        if let Some(survey) = &self.survey {
            survey.lock().unwrap_or_else(PoisonError::into_inner).note(place);
        }
        match &self.weakened {
            Some(weakened) if weakened.is_at(place) => weakened.order,
            _ => Some(order),
        }
    }
}

impl Weakened {
    fn parse(text: &str) -> Option<Weakened> {
        let (place, order) = text.split_once('=')?;
        let mut parts = place.rsplitn(3, ':');
        let (column, line, file) = (parts.next()?, parts.next()?, parts.next()?);
        let order = match order {
            "Relaxed" => Some(Ordering::Relaxed),
            "Acquire" => Some(Ordering::Acquire),
            "Release" => Some(Ordering::Release),
            "AcqRel" => Some(Ordering::AcqRel),
            "nothing" => None,
            _ => return None,
        };
        let (line, column) = (line.parse().ok()?, column.parse().ok()?);
        Some(Weakened { file: file.to_owned(), line, column, order })
    }

    fn is_at(&self, place: &Location<'_>) -> bool {
        (self.line, self.column) == (place.line(), place.column()) && self.file == place.file()
    }
}

impl Survey {
    fn note(&mut self, place: &'static Location<'static>) {
        let (file, line, column) = (place.file(), place.line(), place.column());
        if self.seen.insert((file, line, column)) {
            let noted = writeln!(self.file, "{file}:{line}:{column}");
            noted.unwrap_or_else(|error| refuse(&format!("MODEL_SURVEY: {error}")));
        }
    }
}

/// Ends the process: a run that does not do what it was asked for must not look like one that did.
#[expect(clippy::print_stderr)]
fn refuse(why: &str) -> ! {
    eprintln!("{why}");
    std::process::exit(USAGE)
}
