//! Running the models against the mutants.
//!
//! Knows in which order, for how long, and what counts as a catch: a model that passes as the code is, comes to the place,
//! and fails there with the mutant. Knows nothing of what should have been found.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};

use crate::known::{Entry, Known, Outcome, Subject};
use crate::models::{self, Ended, Manner, Model, Mutation, Reached};
use crate::source::Place;

/// As the code is, no model may take longer.
const PATIENCE: Duration = Duration::from_secs(600);

/// Preemptions of a deep run.
const DEEP: usize = 3;

/// A mutant.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) subject: Subject,
    pub(crate) mutation: Mutation,
}

/// What was found of one.
#[derive(Clone, Debug)]
pub(crate) struct Found<'a> {
    pub(crate) target: &'a Target,
    pub(crate) outcome: Outcome,
}

/// How much is tried.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Depth {
    /// What is known to be caught, each by the model that is known to catch it.
    Quick,
    /// Everything.
    Full { deep: Duration },
}

/// The models, and what they are run for.
#[derive(Debug)]
pub(crate) struct Campaign<'a> {
    /// Over the tree as it is.
    pub(crate) plain: Vec<Model>,
    /// Over its copy with switches.
    pub(crate) switched: Vec<Model>,
    /// The places of all accesses of the files that are scanned.
    pub(crate) places: BTreeMap<&'static str, BTreeSet<Place>>,
    pub(crate) known: &'a Known,
    pub(crate) jobs: usize,
}

/// What a model does as the code is.
#[derive(Debug)]
struct Baseline<'a> {
    model: &'a Model,
    took: Duration,
    reached: BTreeSet<Reached>,
    /// How long it takes at more preemptions; `None` if it is too long.
    deep: OnceLock<Option<Duration>>,
}

impl Mutation {
    fn place(&self) -> Option<Reached> {
        match self {
            Mutation::Nothing => None,
            Mutation::Weaken(file, place, _) => Some(Reached::Access(file.clone(), *place)),
            Mutation::Switch(number) => Some(Reached::Switch(*number)),
        }
    }
}

/// A generous multiple of what a run takes as the code is, on a machine that has other things to do.
fn limit(usual: Duration) -> Duration {
    Duration::from_secs(20) + usual * 10
}

impl<'a> Campaign<'a> {
    /// Answers what was found of each of `targets`; in a quick run, of those that are known to be caught.
    pub(crate) fn run<'t>(
        &'a self,
        targets: &[&'t Target],
        depth: Depth,
    ) -> Result<Vec<Found<'t>>> {
        let mut targets = targets.to_vec();
        if let Depth::Quick = depth {
            targets.retain(|target| self.catcher(target).is_some());
        }
        // Whoever survives takes longest.
        targets.sort_by_key(|target| self.catcher(target).is_some());
        let baselines = self.baselines(&targets, depth)?;
        in_parallel("mutants", self.jobs, &targets, |target| {
            let outcome = self.try_one(target, &baselines, depth)?;
            Ok(Found { target, outcome })
        })
    }

    /// Who is known to catch it.
    fn catcher(&self, target: &Target) -> Option<&'a str> {
        match self.known.entry(&target.subject) {
            Entry::Caught(model) => Some(model),
            _ => None,
        }
    }

    fn models(&self, mutation: &Mutation) -> &[Model] {
        match mutation {
            Mutation::Switch(_) => &self.switched,
            _ => &self.plain,
        }
    }

    /// Runs the models as the code is: they must pass, and reach something.
    fn baselines(
        &'a self,
        targets: &[&Target],
        depth: Depth,
    ) -> Result<BTreeMap<&'a Model, Baseline<'a>>> {
        let mut wanted: BTreeSet<&Model> = BTreeSet::new();
        for target in targets {
            let models = self.models(&target.mutation).iter();
            match depth {
                Depth::Full { .. } => wanted.extend(models),
                Depth::Quick => {
                    let catcher = self.catcher(target);
                    wanted.extend(models.filter(|model| catcher == Some(&model.name)));
                }
            }
        }
        let wanted: Vec<&Model> = wanted.into_iter().collect();
        let baselines = in_parallel("models as they are", self.jobs, &wanted, |model| {
            let manner = Manner { limit: PATIENCE, preemptions: None, survey: true };
            let run = models::run(model, &Mutation::Nothing, manner)?;
            let name = &model.name;
            ensure!(run.ended == Ended::Passed, "{name} without any mutant: {}", run.ended);
            ensure!(!run.reached.is_empty(), "{name} reaches nothing");
            let (took, reached) = (run.took, run.reached);
            if self.plain.contains(model) {
                ensure!(self.is_of_this_source(&reached), "{name} was built from another source");
            }
            Ok(Baseline { model, took, reached, deep: OnceLock::new() })
        })?;
        Ok(baselines.into_iter().map(|baseline| (baseline.model, baseline)).collect())
    }

    /// Whether there is an access wherever a run found one.
    fn is_of_this_source(&self, reached: &BTreeSet<Reached>) -> bool {
        reached.iter().all(|reached| match reached {
            Reached::Access(file, place) => {
                self.places.get(file.as_str()).is_none_or(|places| places.contains(place))
            }
            Reached::Switch(_) => false,
        })
    }

    /// Runs one mutant against the models that come to it, the known catcher first and then the cheapest, until one fails.
    fn try_one(
        &self,
        target: &Target,
        baselines: &BTreeMap<&Model, Baseline<'_>>,
        depth: Depth,
    ) -> Result<Outcome> {
        let catcher = self.catcher(target);
        let place = target.mutation.place();
        let models = self.models(&target.mutation).iter();
        let mut able: Vec<&Baseline<'_>> = models
            .filter_map(|model| baselines.get(model))
            .filter(|baseline| place.as_ref().is_some_and(|place| baseline.reached.contains(place)))
            .collect();
        able.sort_by_key(|able| (Some(able.model.name.as_str()) != catcher, able.took));
        if let Depth::Quick = depth {
            able.truncate(1);
        }
        if able.is_empty() {
            return Ok(Outcome::Unreached);
        }
        let (mut runs, mut undecided) = (0, Vec::new());
        for baseline in &able {
            let manner = Manner { limit: limit(baseline.took), preemptions: None, survey: false };
            let ended = models::run(baseline.model, &target.mutation, manner)?.ended;
            runs += 1;
            let name = &baseline.model.name;
            match ended {
                Ended::Failed(why) => return Ok(Outcome::Caught { by: name.clone(), why }),
                Ended::Undecided => undecided.push(name.clone()),
                Ended::Passed | Ended::Hollow => {}
            }
        }
        let Depth::Full { deep } = depth else { return Ok(Outcome::Survived { runs, undecided }) };
        for baseline in &able {
            let Some(usual) = baseline.deep(deep)? else { continue };
            let manner = Manner { limit: limit(usual), preemptions: Some(DEEP), survey: false };
            let ended = models::run(baseline.model, &target.mutation, manner)?.ended;
            runs += 1;
            let name = format!("{} at {DEEP} preemptions", baseline.model.name);
            match ended {
                Ended::Failed(why) => return Ok(Outcome::Caught { by: name, why }),
                Ended::Undecided => undecided.push(name),
                Ended::Passed | Ended::Hollow => {}
            }
        }
        Ok(Outcome::Survived { runs, undecided })
    }
}

impl Baseline<'_> {
    /// How long the model takes at more preemptions as the code is, if it passes there within `most`.
    fn deep(&self, most: Duration) -> Result<Option<Duration>> {
        if let Some(known) = self.deep.get() {
            return Ok(*known);
        }
        let manner = Manner { limit: most, preemptions: Some(DEEP), survey: false };
        let takes = match most.is_zero() {
            true => None,
            false => {
                let run = models::run(self.model, &Mutation::Nothing, manner)?;
                let name = &self.model.name;
                match run.ended {
                    Ended::Passed => Some(run.took),
                    Ended::Undecided => None,
                    ended => anyhow::bail!("{name} at {DEEP} preemptions, no mutant: {ended}"),
                }
            }
        };
        Ok(*self.deep.get_or_init(|| takes))
    }
}

/// Does `work` on all `items`, so many at a time; answers in their order. The first error ends it.
pub(crate) fn in_parallel<I: Sync, O: Send>(
    what: &'static str,
    jobs: usize,
    items: &[I],
    work: impl Fn(&I) -> Result<O> + Sync,
) -> Result<Vec<O>> {
    let bar = ProgressBar::new(items.len() as u64).with_message(what);
    bar.set_style(ProgressStyle::with_template("{elapsed} {wide_bar} {pos}/{len} {msg}")?);
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.clamp(1, items.len().max(1)))
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    // Relaxed: only the number counts.
                    while let Some((at, item)) =
                        Some(next.fetch_add(1, Relaxed)).and_then(|at| Some((at, items.get(at)?)))
                    {
                        match work(item) {
                            Ok(output) => done.lock().expect("no panic").push((at, output)),
                            Err(error) => {
                                next.store(items.len(), Relaxed);
                                return Err(error);
                            }
                        }
                        bar.inc(1);
                    }
                    Ok(())
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("no panic"))
    })?;
    bar.finish_and_clear();
    let mut done = done.into_inner().expect("no panic");
    done.sort_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(_, output)| output).collect())
}
