//! The kernel. Knows system calls and nothing of rings; the only place that names
//! libc.

pub(crate) mod clock;
pub(crate) mod fence;
pub(crate) mod fork;
pub(crate) mod futex;
mod list;
pub(crate) mod lock;
pub(crate) mod map;
pub(crate) mod process;
pub(crate) mod shm;
pub(crate) mod sigbus;
#[cfg(test)]
pub(crate) mod testing;
