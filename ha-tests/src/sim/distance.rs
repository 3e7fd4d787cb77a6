//! How far the nodes of a world are from each other, and the times that go with it.

use std::time::Duration;

use agent::control::times::Times;

/// How far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Distance {
    /// In one building: some milliseconds with the default times.
    #[default]
    Lan,
    /// In two cities: 50 ms each way, give or take 20, with `cluster.times = "metro"`.
    Metro,
    /// On two continents: 150 ms each way, give or take 50, with `cluster.times = "wan"`.
    Wan,
}

impl Distance {
    /// The name of the times.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Lan => "lan",
            Self::Metro => "metro",
            Self::Wan => "wan",
        }
    }

    /// The times.
    ///
    /// # Panics
    /// A preset is missing: a fault of this program.
    #[must_use]
    #[expect(clippy::expect_used, reason = "the names are those of the presets")]
    pub fn times(self) -> Times {
        Times::named(self.name()).expect("a preset")
    }

    /// The lease.
    #[must_use]
    pub fn lease(self) -> Duration {
        self.times().election_max
    }

    /// The usual delay of a message, ms; `None`: what the seed says.
    #[must_use]
    pub fn delay_ms(self) -> Option<(u64, u64)> {
        match self {
            Self::Lan => None,
            Self::Metro => Some((30, 70)),
            Self::Wan => Some((100, 200)),
        }
    }

    /// How many times longer than in one building everything takes until a cluster has formed.
    #[must_use]
    pub fn patience(self) -> u64 {
        match self {
            Self::Lan => 1,
            Self::Metro => 2,
            Self::Wan => 5,
        }
    }
}
