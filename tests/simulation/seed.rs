//! What a schedule is made from: a number, and how long things take. As text `42`, `42-brief` or `42-long`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A schedule's seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed {
    pub number: u64,
    pub shape: Shape,
}

/// How long things take in a schedule. As much happens in a shorter one, and less of its cost is polling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// With few objects, and little time between two things that happen.
    Brief,
    Short,
    /// For what needs its time, such as back-offs and contests.
    Long,
}

impl Shape {
    /// How long things happen.
    pub fn busy(self) -> Duration {
        self.of(Duration::from_mins(4), Duration::from_mins(12), Duration::from_hours(1))
    }

    /// Longest pause between two things that happen, in milliseconds.
    pub fn pause(self) -> u64 {
        self.of(27_000, 80_000, 400_000)
    }

    /// How long all must stay right.
    pub fn quiet(self) -> Duration {
        self.of(Duration::from_mins(2), Duration::from_mins(4), Duration::from_mins(15))
    }

    /// Times between two checks.
    pub fn intervals(self) -> [&'static str; 3] {
        self.of(["30s", "1m", "2m"], ["30s", "1m", "3m"], ["30s", "2m", "10m"])
    }

    /// Most gateways, and most customers.
    pub fn sizes(self) -> (usize, usize) {
        self.of((2, 1), (4, 3), (6, 4))
    }

    /// How often a change window opens per hour, and for how long.
    pub fn windows(self) -> (u8, [&'static str; 3]) {
        self.of((12, ["1m", "2m", "4m"]), (3, ["3m", "8m", "14m"]), (1, ["5m", "20m", "40m"]))
    }

    fn of<T>(self, brief: T, short: T, long: T) -> T {
        match self {
            Self::Brief => brief,
            Self::Short => short,
            Self::Long => long,
        }
    }
}

impl Seed {
    pub fn brief(number: u64) -> Self {
        Self { number, shape: Shape::Brief }
    }

    pub fn short(number: u64) -> Self {
        Self { number, shape: Shape::Short }
    }

    /// Whether what came last may happen, too: in every fifth schedule. None of those that were kept by then is one of them.
    pub fn is_latest(self) -> bool {
        self.number % 5 == 4 && self.shape != Shape::Long
    }
}

impl FromStr for Seed {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, shape) = match text.split_once('-') {
            Some((number, "brief")) => (number, Shape::Brief),
            Some((number, "long")) => (number, Shape::Long),
            _ => (text, Shape::Short),
        };
        Ok(Self { number: number.parse()?, shape })
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.number, self.shape.of("-brief", "", "-long"))
    }
}
