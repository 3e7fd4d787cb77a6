//! Unit tests of the decision, one per row of the table, and the proof by random runs that two nodes never own.
