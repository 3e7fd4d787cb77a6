//! drbd-hooks
