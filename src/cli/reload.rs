//! `tidegate reload`: have the configuration read again, and say what came of it.

use std::process::ExitCode;

use http::Method;

use super::client::{AdminArgs, Client, Failure, finish};
use crate::admin::view::ReloadOk;

/// A bad configuration changes nothing: every mistake is a line, the exit code 1.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tidegate reload")]
pub struct Args {
    #[command(flatten)]
    pub admin: AdminArgs,
}

pub fn run(args: &Args) -> ExitCode {
    finish(Client::new(&args.admin).and_then(|client| reload(&client)))
}

pub(super) fn reload(client: &Client) -> Result<String, Failure> {
    let done: ReloadOk = client.change(Method::POST, "/v1/reload", None)?;
    let mut said = format!("generation {} is in use\n", done.generation);
    if !done.restart_required.is_empty() {
        let keys = done.restart_required.join(", ");
        said.push_str(&format!("these take effect with the next start only: {keys}\n"));
    }
    Ok(said)
}
