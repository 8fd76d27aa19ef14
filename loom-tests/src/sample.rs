//! Running one model over shuttle: so many schedules at random, of all that there are.
//!
//! A schedule is drawn in two ways, half of the executions each: the next thread at random at every step, and by priorities
//! with few changes (PCT), which lets some threads run far ahead of others. What is drawn follows from a seed, which is
//! printed; so does what a model draws with [`below`].
//!
//! Every access is sequentially consistent here, whatever its ordering says: what a weaker ordering would break is loom's
//! to find.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use shuttle::rand::Rng;
use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

/// Changes of priority in an execution by priorities, and one more.
const DEPTH: usize = 4;

/// A number below `limit`, which must not be 0, drawn with the schedule.
pub fn below(limit: usize) -> usize {
    shuttle::rand::thread_rng().gen_range(0..limit)
}

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = 1 << 18;
    // That every access counts as sequentially consistent is said above.
    config.silence_warnings = true;
    // An execution has some hundreds of steps.
    config.max_steps = MaxSteps::FailAfter(100_000);
    // A schedule of that length is nothing to print.
    config.failure_persistence = FailurePersistence::File(Some(std::env::temp_dir()));
    config
}

/// Runs `model` so often, or as often as `SHUTTLE_ITERATIONS` says; prints and answers how often that was.
///
/// With `SHUTTLE_RANDOM_SEED` it draws what that seed drew. With `MODEL_REPLAY`, the path of a file that a failure
/// named, it runs that schedule and nothing else; then it must fail again.
pub fn sample(name: &str, iterations: usize, model: impl Fn() + Send + Sync + 'static) -> usize {
    if let Ok(path) = std::env::var("MODEL_REPLAY") {
        let text = std::fs::read_to_string(path).expect("the file of the schedule");
        let replay = ReplayScheduler::new_from_encoded(text.trim());
        Runner::new(replay, config()).run(model);
        panic!("model {name}: the schedule ran to its end and nothing failed");
    }
    let iterations = variable("SHUTTLE_ITERATIONS").unwrap_or(iterations).max(2);
    // Of the standard library's own seed, which differs from process to process.
    let seed = variable("SHUTTLE_RANDOM_SEED").unwrap_or_else(|| RandomState::new().hash_one(0));
    // Before it runs: whoever reads of a failure reads this too.
    println!("model {name}: SHUTTLE_RANDOM_SEED={seed} draws the same again");
    let model = Arc::new(model);
    let half = iterations / 2;
    let run = |model: &Arc<_>| {
        let model: Arc<dyn Fn() + Send + Sync> = Arc::clone(model) as _;
        move || model()
    };
    let random = RandomScheduler::new_from_seed(seed, half);
    let mut executions = Runner::new(random, config()).run(run(&model));
    let by_priorities = PctScheduler::new_from_seed(seed, DEPTH, iterations - half);
    executions += Runner::new(by_priorities, config()).run(run(&model));
    assert_eq!(executions, iterations, "{name}: a hollow pass");
    println!("model {name}: {executions} executions, half of them by priorities");
    executions
}
