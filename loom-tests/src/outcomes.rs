//! What a model's executions ended in.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

#[cfg(loom)]
use crate::explore::deeper;

/// Of so many schedules at random, a model over shuttle promises just the outcomes that it lists.
#[cfg(not(loom))]
fn deeper() -> bool {
    false
}

/// What a model's executions ended in, and how often.
#[derive(Clone, Debug, Default)]
pub struct Outcomes(Arc<Mutex<BTreeMap<String, usize>>>);

impl Outcomes {
    /// Notes how this execution ended.
    pub fn note(&self, outcome: impl ToString) {
        *self.0.lock().expect("no panic while held").entry(outcome.to_string()).or_default() += 1;
    }

    /// Fails unless these are the outcomes that were seen: none less, and none more, unless the exploration went deeper than
    /// usual.
    pub fn are(&self, expected: &[&str]) {
        let seen = self.seen();
        let missing: Vec<_> =
            expected.iter().filter(|one| !seen.iter().any(|s| s == *one)).collect();
        assert!(missing.is_empty(), "never seen: {missing:?}; seen: {seen:?}");
        assert!(seen.len() == expected.len() || deeper(), "more than expected: {seen:?}");
    }

    /// The outcomes seen, in order.
    pub fn seen(&self) -> Vec<String> {
        self.0.lock().expect("no panic while held").keys().cloned().collect()
    }
}
