//! Running one model.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// What a model's executions ended in, and how often.
#[derive(Clone, Debug, Default)]
pub struct Outcomes(Arc<Mutex<BTreeMap<String, usize>>>);

impl Outcomes {
    /// Notes how this execution ended.
    pub fn note(&self, outcome: impl ToString) {
        *self.0.lock().expect("no panic while held").entry(outcome.to_string()).or_default() += 1;
    }

    /// The outcomes seen, in order.
    pub fn seen(&self) -> Vec<String> {
        self.0.lock().expect("no panic while held").keys().cloned().collect()
    }
}

/// Preemptions that an execution may have: `usual`, unless `LOOM_MAX_PREEMPTIONS` says otherwise.
fn preemptions_or(usual: usize) -> usize {
    std::env::var("LOOM_MAX_PREEMPTIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

/// Preemptions that an execution may have: 2, unless `LOOM_MAX_PREEMPTIONS` says otherwise.
pub fn preemptions() -> usize {
    preemptions_or(2)
}

/// Explores `model`, which spawns all its actors; prints and answers how many executions there were.
pub fn explore(name: &str, at_least: usize, model: impl Fn() + Send + Sync + 'static) -> usize {
    explore_to(preemptions(), name, at_least, model)
}

/// The same for a model of many steps: at most 1 preemption, unless `LOOM_MAX_PREEMPTIONS` says otherwise.
pub fn explore_wide(
    name: &str,
    at_least: usize,
    model: impl Fn() + Send + Sync + 'static,
) -> usize {
    explore_to(preemptions_or(1), name, at_least, model)
}

fn explore_to(
    preemptions: usize,
    name: &str,
    at_least: usize,
    model: impl Fn() + Send + Sync + 'static,
) -> usize {
    let executions = Arc::new(AtomicUsize::new(0));
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 100_000;
    builder.check({
        let executions = Arc::clone(&executions);
        move || {
            executions.fetch_add(1, Relaxed);
            model();
        }
    });
    let executions = executions.load(Relaxed);
    assert!(executions >= at_least, "{name}: only {executions} executions: a hollow pass");
    println!("model {name}: {executions} executions, at most {preemptions} preemptions");
    executions
}

/// Explores `model` once for each step at which its mortal actor may die, until it no longer dies: `model` is given the
/// step and answers whether the actor died there. Prints and answers the executions of all of them.
pub fn sweep(
    name: &str,
    at_least_steps: u32,
    model: impl Fn(u32) -> bool + Clone + Send + Sync + 'static,
) -> usize {
    let mut total = 0;
    for step in 0.. {
        let died = Arc::new(AtomicUsize::new(0));
        let executions = Arc::new(AtomicUsize::new(0));
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(preemptions());
        builder.max_branches = 100_000;
        builder.check({
            let (model, died, executions) =
                (model.clone(), Arc::clone(&died), Arc::clone(&executions));
            move || {
                executions.fetch_add(1, Relaxed);
                died.fetch_add(usize::from(model(step)), Relaxed);
            }
        });
        total += executions.load(Relaxed);
        if std::env::var_os("MODEL_STEPS").is_some() {
            println!("model {name}: step {step}: {} executions", executions.load(Relaxed));
        }
        if died.load(Relaxed) == 0 {
            assert!(
                step >= at_least_steps,
                "{name}: the actor has only {step} steps: a hollow sweep"
            );
            println!(
                "model {name}: {total} executions, death at each of {step} steps, at most {} preemptions",
                preemptions()
            );
            return total;
        }
    }
    total
}
