//! `tidegate drain` and `tidegate undrain`: take a backend out of service, and back.

use std::process::ExitCode;

use http::Method;

use super::client::{AdminArgs, Client, Failure, finish, segment, service_path};

/// Arguments of both.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The service
    pub service: String,
    /// The backend, by the address that `tidegate status` shows or its id
    pub backend: String,
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Sends the backend no new requests, until `undrain`.
pub fn run(args: &Args) -> ExitCode {
    finish(Client::new(&args.admin).and_then(|client| drain(&client, args)))
}

/// Ends a drain.
pub fn run_undrain(args: &Args) -> ExitCode {
    finish(Client::new(&args.admin).and_then(|client| undrain(&client, args)))
}

pub(super) fn drain(client: &Client, args: &Args) -> Result<String, Failure> {
    order(client, args, "drain")?;
    Ok(format!("{}: {} gets no new requests until undrain\n", args.service, args.backend))
}

pub(super) fn undrain(client: &Client, args: &Args) -> Result<String, Failure> {
    order(client, args, "undrain")?;
    Ok(format!("{}: {} takes requests again\n", args.service, args.backend))
}

fn order(client: &Client, args: &Args, verb: &str) -> Result<(), Failure> {
    let rest = format!("/backends/{}/{verb}", segment(&args.backend));
    client.order(Method::POST, &service_path(&args.service, &rest))
}
