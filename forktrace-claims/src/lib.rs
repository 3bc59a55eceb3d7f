//! Settles claims about blocking by experiment.
//!
//! A claim is one TOML file ([`file`](mod@file)): what is claimed, the commands to run
//! (its *arms*), what to measure in each run's report, and the predicates that
//! decide. [`run`] runs the arms, [`figures`] sums up what they measured,
//! [`verdict`] decides. `docs/writing-claims.md` is the format's description.

pub mod builtin;
mod compile;
pub mod expression;
pub mod figures;
pub mod file;
pub mod kill;
pub mod machine;
pub mod measured;
pub mod picture;
pub mod render;
pub mod run;
mod template;
#[cfg(test)]
mod tests;
pub mod verdict;
mod words;

pub use self::{
    file::{Claim, ClaimError},
    machine::Machine,
    run::{Mode, Progress, Runner},
    verdict::{Settled, Verdict},
};
