//! A list that handlers of forks and signals may walk at any moment. Knows that an
//! entry is never freed, only used again; knows nothing of what is in one.

use crate::sync::{AtomicPtr, Ordering};

/// The list. A static one: its entries live as long as the program.
pub(crate) struct List<T: 'static> {
    first: AtomicPtr<Entry<T>>,
}

struct Entry<T> {
    value: T,
    next: *const Entry<T>,
}

impl<T: Sync> List<T> {
    pub(crate) const fn new() -> List<T> {
        List { first: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// All that was ever on the list. No lock, no allocation.
    pub(crate) fn iter(&'static self) -> impl Iterator<Item = &'static T> {
        // Acquire: pairs with the Release in `claim`.
        let mut at: *const Entry<T> = self.first.load(Ordering::Acquire);
        std::iter::from_fn(move || {
            // SAFETY: entries are leaked boxes: once on the list they live for ever,
            // and nobody writes to them but through `T`, which is `Sync`.
            let entry = unsafe { at.as_ref() }?;
            at = entry.next;
            Some(&entry.value)
        })
    }

    /// The first value that `take` makes the caller's, or else a new one.
    pub(crate) fn claim(
        &'static self,
        take: impl Fn(&T) -> bool,
        new: impl FnOnce() -> T,
    ) -> &'static T {
        if let Some(value) = self.iter().find(|value| take(value)) {
            return value;
        }
        let entry = Box::leak(Box::new(Entry { value: new(), next: std::ptr::null() }));
        let entry: *mut Entry<T> = entry;
        let mut first = self.first.load(Ordering::Acquire);
        loop {
            // SAFETY: nobody else knows the entry until the exchange below succeeds.
            unsafe { (*entry).next = first };
            // Release: the entry's fields, for whoever finds it on the list.
            match self.first.compare_exchange(first, entry, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(other) => first = other,
            }
        }
        // SAFETY: the entry is leaked, and from here on it is only shared.
        unsafe { &(*entry).value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::AtomicU32;

    #[test]
    fn what_was_given_up_is_used_again_before_the_list_grows() {
        static LIST: List<AtomicU32> = List::new();
        let claim = |number| {
            let take = |value: &AtomicU32| {
                let free = value.compare_exchange(0, number, Ordering::Relaxed, Ordering::Relaxed);
                free.is_ok()
            };
            LIST.claim(take, || AtomicU32::new(number))
        };
        assert_eq!(LIST.iter().count(), 0);
        let (first, _second) = (claim(1), claim(2));
        assert_eq!(LIST.iter().count(), 2);
        first.store(0, Ordering::Relaxed);
        assert!(std::ptr::eq(claim(3), first));
        assert_eq!(LIST.iter().count(), 2);
    }

    #[test]
    fn threads_that_claim_at_once_get_one_each() {
        static LIST: List<AtomicU32> = List::new();
        const EACH: u32 = 1000;
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    for _ in 0..EACH {
                        LIST.claim(|_| false, || AtomicU32::new(1)).store(2, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(LIST.iter().count(), 4 * EACH as usize);
        assert!(LIST.iter().all(|value| value.load(Ordering::Relaxed) == 2));
    }
}
