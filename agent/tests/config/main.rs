//! The configuration file: what each key means, and the line and the cure of what is wrong.

mod calls;
mod failover;
mod presence;
mod routing;
mod sections;
