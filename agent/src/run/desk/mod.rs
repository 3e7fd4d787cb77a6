//! Answers to the admin socket, one file per feature.

mod provision;
mod route;
