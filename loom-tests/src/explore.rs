//! Running one model over loom: every execution that the bound allows.
//!
//! Knows the checker's builder, how deep to go, and what a run has to say of itself. Knows nothing of rings.
#![allow(clippy::print_stdout, clippy::print_stderr)] // The figures of a run, which CI adds up.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Once};

/// How far to explore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    /// As each model says.
    Usual,
    /// One preemption more, and every step of every sweep (`MODEL_DEEP`).
    Deep,
    /// So many preemptions (`LOOM_MAX_PREEMPTIONS`), and every step.
    Preemptions(usize),
}

/// Whether an exploration goes deeper than usual: then it may see more.
pub(crate) fn deeper() -> bool {
    depth() != Depth::Usual
}

fn depth() -> Depth {
    let preemptions = std::env::var("LOOM_MAX_PREEMPTIONS").ok().and_then(|n| n.parse().ok());
    match preemptions {
        Some(preemptions) => Depth::Preemptions(preemptions),
        None if std::env::var_os("MODEL_DEEP").is_some() => Depth::Deep,
        None => Depth::Usual,
    }
}

/// Preemptions of most models.
const PREEMPTIONS: usize = 2;

/// Preemptions of models of many steps or many actors.
const FEW_PREEMPTIONS: usize = 1;

/// Branches of one execution: many more than any model has, so whoever needs more does not end.
const MAX_BRANCHES: usize = 20_000;

/// Preemptions that an execution may have, where `usual` is what everyday runs have.
fn preemptions(usual: usize) -> usize {
    match depth() {
        Depth::Usual => usual,
        Depth::Deep => usual + 1,
        Depth::Preemptions(preemptions) => preemptions,
    }
}

/// Explores `model`, which spawns all its actors; prints and answers how many executions there were.
pub fn explore(name: &str, at_least: usize, model: impl Fn() + Send + Sync + 'static) -> usize {
    explore_to(preemptions(PREEMPTIONS), name, at_least, model)
}

/// The same for a model of many steps.
pub fn explore_wide(
    name: &str,
    at_least: usize,
    model: impl Fn() + Send + Sync + 'static,
) -> usize {
    explore_to(preemptions(FEW_PREEMPTIONS), name, at_least, model)
}

fn explore_to(
    preemptions: usize,
    name: &str,
    at_least: usize,
    model: impl Fn() + Send + Sync + 'static,
) -> usize {
    let executions = check(name, None, preemptions, model);
    assert!(executions >= at_least, "{name}: only {executions} executions: a hollow pass");
    println!("model {name}: {executions} executions, at most {preemptions} preemptions");
    executions
}

std::thread_local! {
    /// What is being explored: the model, the step of death if there is one, and which execution this is.
    static HERE: RefCell<Option<(String, Option<u32>, usize)>> = const { RefCell::new(None) };
}

/// The execution that is to be told (`MODEL_TELL`), and of which step of death.
fn told() -> Option<(Option<u32>, usize)> {
    let wish = std::env::var("MODEL_TELL").ok()?;
    let number =
        |text: &str| text.parse().unwrap_or_else(|_| panic!("MODEL_TELL is [STEP:]EXECUTION"));
    Some(match wish.split_once(':') {
        Some((step, execution)) => (Some(number(step) as u32), number(execution)),
        None => (None, number(&wish)),
    })
}

/// Says of a panic which execution it was.
fn say_where() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if let Some((name, step, execution)) = HERE.with_borrow_mut(Option::take) {
                let step = step.map(|step| format!("{step}:")).unwrap_or_default();
                eprintln!("model {name}: fails; MODEL_TELL={step}{execution} tells how");
            }
            usual(panic);
        }));
    });
}

/// Has the checker run every execution; answers how many there were.
fn check(
    name: &str,
    step: Option<u32>,
    preemptions: usize,
    model: impl Fn() + Send + Sync + 'static,
) -> usize {
    say_where();
    let told = told().map(|(_, execution)| execution);
    let executions = Arc::new(AtomicUsize::new(0));
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = MAX_BRANCHES;
    if let Some(told) = told {
        builder.checkpoint_interval = 1;
        builder.max_permutations = Some(told + 1);
    }
    HERE.set(Some((name.to_owned(), step, 0)));
    builder.check({
        let executions = Arc::clone(&executions);
        move || {
            let execution = executions.fetch_add(1, Relaxed) + 1;
            HERE.with_borrow_mut(|here| here.iter_mut().for_each(|here| here.2 = execution));
            quoit::model::tell(told == Some(execution));
            model();
        }
    });
    HERE.set(None);
    if let Some(told) = told {
        panic!("that was execution {told} of {name}: it did not fail");
    }
    executions.load(Relaxed)
}

/// Explores `model` once for each step at which its mortal actor may die, until it no longer dies: `model` is given the
/// step and answers whether the actor died there. Prints and answers the executions of all of them.
pub fn sweep(
    name: &str,
    at_least_steps: u32,
    model: impl Fn(u32) -> bool + Clone + Send + Sync + 'static,
) -> usize {
    sweep_to(preemptions(PREEMPTIONS), 1, name, at_least_steps, model)
}

/// The same for a model of many steps.
pub fn sweep_wide(
    name: &str,
    at_least_steps: u32,
    model: impl Fn(u32) -> bool + Clone + Send + Sync + 'static,
) -> usize {
    sweep_every(1, name, at_least_steps, model)
}

/// The same where everyday runs look at every `stride`-th step only.
pub fn sweep_every(
    stride: usize,
    name: &str,
    at_least_steps: u32,
    model: impl Fn(u32) -> bool + Clone + Send + Sync + 'static,
) -> usize {
    let stride = if depth() == Depth::Usual { stride } else { 1 };
    sweep_to(preemptions(FEW_PREEMPTIONS), stride, name, at_least_steps, model)
}

fn sweep_to(
    preemptions: usize,
    stride: usize,
    name: &str,
    at_least_steps: u32,
    model: impl Fn(u32) -> bool + Clone + Send + Sync + 'static,
) -> usize {
    let mut total = 0;
    let told = told().and_then(|(step, _)| step);
    for step in (0..).step_by(stride).skip_while(|step| told.is_some_and(|told| *step != told)) {
        let died = Arc::new(AtomicUsize::new(0));
        let executions = check(name, Some(step), preemptions, {
            let (model, died) = (model.clone(), Arc::clone(&died));
            move || {
                died.fetch_add(usize::from(model(step)), Relaxed);
            }
        });
        total += executions;
        if std::env::var_os("MODEL_STEPS").is_some() {
            println!("model {name}: step {step}: {executions} executions");
        }
        if died.load(Relaxed) == 0 {
            assert!(
                step >= at_least_steps,
                "{name}: the actor has only {step} steps: a hollow sweep"
            );
            let each = if stride == 1 { "each".into() } else { format!("every {stride}th") };
            println!(
                "model {name}: {total} executions, death at {each} of {step} steps, at most {preemptions} preemptions"
            );
            break;
        }
    }
    total
}
