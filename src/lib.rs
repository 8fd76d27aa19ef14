//! quoit: a lock-free ring-buffer transport between processes of one machine.
