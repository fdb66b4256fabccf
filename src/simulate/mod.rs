//! Policies of scaling against loads, on a clock that costs nothing.
//!
//! A [`Trial`] plays a [`Load`] to several policies: the published ones ([`policy::Kind`]) and a
//! configured service's own scaler with its whole pipeline ([`own::Own`]), which is the code that runs
//! live. Two fidelities: seconds of a fluid and single requests ([`requests`]). Everything is a function of
//! the seed. Files, arguments and printing are left to `cli::simulate`.

pub mod curve;
pub mod erlang;
mod fleet;
mod fluid;
pub mod load;
mod lognormal;
pub mod own;
pub mod picture;
mod poisson;
pub mod policy;
mod recent;
pub mod requests;
pub mod run;
pub mod score;
pub mod setting;
pub mod sweep;
pub mod text;
pub mod trace;
pub mod trial;
mod waits;

#[cfg(test)]
mod days;
#[cfg(test)]
mod published;
#[cfg(test)]
mod tests;

pub use load::{Load, Shape};
pub use setting::Setting;
pub use trial::{Entrant, Fidelity, Outcome, Trial};
