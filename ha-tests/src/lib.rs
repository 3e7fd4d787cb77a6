//! ha-tests
