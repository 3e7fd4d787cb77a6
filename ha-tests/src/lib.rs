//! ha-tests
pub mod demo;
pub mod lab;
pub mod observe;
pub mod phones;
pub mod sim;
