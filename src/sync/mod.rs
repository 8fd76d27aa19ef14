//! The memory that the rings run on. Knows which world the crate is built for;
//! knows nothing of rings.

pub(crate) use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering};
