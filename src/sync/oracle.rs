//! Atomics whose every load may be answered by somebody else: memory that a hostile peer changes between any two accesses.
//!
//! Knows which words others may write (those that were reached through an address: [`AtomicU64::from_ptr`]), and whom this
//! thread has asked to answer for them. Knows nothing of what the words mean. Where nobody was asked, everything is as the
//! processor has it. Only for builds with `--cfg fuzzing` and the feature `model`; in an ordinary build it does not exist.
//!
//! An exchange asks too: it succeeds when the answer is what it expects, and then its store is made. Copies of payload are
//! not asked about: nothing is decided by them.

use core::cell::RefCell;
use core::ops::Deref;
use core::sync::atomic::{self, Ordering};
use std::collections::HashSet;

/// What is asked for each load.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// What stands there.
    pub truth: u64,
    /// What an exchange expects to find.
    pub expected: Option<u64>,
    /// How many bits the word has.
    pub bits: u32,
}

type Answer = Box<dyn FnMut(Question) -> u64>;

std::thread_local! {
    static ORACLE: RefCell<Option<Answer>> = const { RefCell::new(None) };
    /// Addresses of the words that others may write.
    static SHARED: RefCell<HashSet<usize>> = RefCell::new(HashSet::new());
}

/// From here on, what this thread loads from memory that others may write is what `answer` says; the last one is asked no
/// more. `None`: it is what stands there.
pub fn answered_by(answer: Option<Answer>) {
    ORACLE.with(|oracle| *oracle.borrow_mut() = answer);
    // What was mapped there may be another's by now.
    SHARED.with(|shared| shared.borrow_mut().clear());
}

fn asked(address: usize, question: Question) -> u64 {
    // Taken out for as long as it thinks: it may panic.
    let Some(mut answer) = ORACLE.with(|oracle| oracle.borrow_mut().take()) else {
        return question.truth;
    };
    let said = if SHARED.with(|shared| shared.borrow().contains(&address)) {
        answer(question)
    } else {
        question.truth
    };
    ORACLE.with(|oracle| *oracle.borrow_mut() = Some(answer));
    said
}

fn note(address: usize) {
    let listens = ORACLE.with(|oracle| oracle.borrow().is_some());
    if listens {
        SHARED.with(|shared| shared.borrow_mut().insert(address));
    }
}

macro_rules! atomic {
    ($name:ident, $word:ty) => {
        /// As the standard one of this name.
        #[derive(Debug)]
        #[repr(transparent)]
        pub struct $name(atomic::$name);

        impl $name {
            /// A word of this process alone.
            pub const fn new(value: $word) -> Self {
                Self(atomic::$name::new(value))
            }

            /// A word that others may write.
            ///
            /// # Safety
            ///
            /// As the standard one.
            pub unsafe fn from_ptr<'a>(ptr: *mut $word) -> &'a Self {
                note(ptr as usize);
                // SAFETY: by contract; the type is transparent.
                unsafe { &*ptr.cast::<Self>() }
            }

            fn ask(&self, truth: $word, expected: Option<$word>) -> $word {
                let expected = expected.map(u64::from);
                let question = Question { truth: truth.into(), expected, bits: <$word>::BITS };
                asked(self.0.as_ptr() as usize, question) as $word
            }

            /// As the standard one.
            pub fn load(&self, order: Ordering) -> $word {
                self.ask(self.0.load(order), None)
            }

            /// As the standard one.
            pub fn compare_exchange(
                &self,
                current: $word,
                new: $word,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$word, $word> {
                let found = self.ask(self.0.load(failure), Some(current));
                if found != current {
                    return Err(found);
                }
                self.0.swap(new, success);
                Ok(found)
            }

            /// As the standard one.
            pub fn fetch_add(&self, value: $word, order: Ordering) -> $word {
                self.ask(self.0.fetch_add(value, order), None)
            }

            /// As the standard one.
            pub fn fetch_or(&self, value: $word, order: Ordering) -> $word {
                self.ask(self.0.fetch_or(value, order), None)
            }

            /// As the standard one.
            pub fn fetch_and(&self, value: $word, order: Ordering) -> $word {
                self.ask(self.0.fetch_and(value, order), None)
            }
        }

        /// What asks nothing: stores, addresses, the kernel's look.
        impl Deref for $name {
            type Target = atomic::$name;

            fn deref(&self) -> &atomic::$name {
                &self.0
            }
        }
    };
}

atomic!(AtomicU32, u32);
atomic!(AtomicU64, u64);
