//! `tidegate scale`: pin the size of a service, pause its scaling, or end either.

use std::process::ExitCode;
use std::str::FromStr;

use http::Method;
use serde_json::json;

use super::client::{AdminArgs, Client, Failure, finish, service_path};
use crate::admin::view::{Override, ScalingValue, Time};
use crate::units::parse_duration;

/// Arguments of `scale`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tidegate scale app 6 --for 10m\n  tidegate scale app auto")]
pub struct Args {
    /// The service
    pub service: String,
    /// A number of backends; `pause`; `auto` or `resume` to end either
    #[arg(value_name = "N|auto|pause|resume")]
    pub wish: Wish,
    /// How long a number or a pause lasts [default: until auto or resume]
    #[arg(long = "for", value_name = "DURATION")]
    pub lasts: Option<String>,
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    Pin(u32),
    Pause,
    /// The end of a pin or a pause: `auto` and `resume` are two words for it.
    Auto,
}

impl FromStr for Wish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" | "resume" => Ok(Self::Auto),
            "pause" => Ok(Self::Pause),
            number => {
                let wrong = |_| "it is neither a number nor auto, pause or resume".into();
                number.parse().map(Self::Pin).map_err(wrong)
            }
        }
    }
}

pub fn run(args: &Args) -> ExitCode {
    finish(Client::new(&args.admin).and_then(|client| scale(&client, args)))
}

pub(super) fn scale(client: &Client, args: &Args) -> Result<String, Failure> {
    let path = service_path(&args.service, "/scaling");
    let mut body = match args.wish {
        Wish::Pin(replicas) => json!({ "replicas": replicas }),
        Wish::Pause => json!({ "mode": "pause" }),
        Wish::Auto if args.lasts.is_some() => {
            return Err(Failure::Usage("--for goes with a number or pause".into()));
        }
        Wish::Auto => {
            let now = client.change(Method::DELETE, &path, None)?;
            return Ok(say(&args.service, &now));
        }
    };
    if let Some(lasts) = &args.lasts {
        parse_duration(lasts).map_err(|error| Failure::Usage(format!("--for: {error}")))?;
        body["for"] = json!(lasts);
    }
    let now = client.change(Method::PUT, &path, Some(&body))?;
    Ok(say(&args.service, &now))
}

fn say(service: &str, now: &ScalingValue) -> String {
    let current = now.scaling.current;
    let end = |until: &Option<Time>| match until {
        Some(time) => format!("until {time}"),
        None => "until `auto`".into(),
    };
    match &now.scaling.overridden {
        Some(Override::Pin { replicas, until }) => {
            format!("{service}: pinned at {replicas} {}; there are {current}\n", end(until))
        }
        Some(Override::Pause { until }) => {
            format!("{service}: scaling is paused at {current} {}\n", end(until))
        }
        None => {
            format!("{service}: scaling decides; there are {current}, wanted {}\n", now.value)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_a_number_or_one_of_three_words() {
        assert_eq!("6".parse(), Ok(Wish::Pin(6)));
        assert_eq!("0".parse(), Ok(Wish::Pin(0)));
        assert_eq!("auto".parse(), Ok(Wish::Auto));
        assert_eq!("resume".parse(), Ok(Wish::Auto));
        assert_eq!("pause".parse(), Ok(Wish::Pause));
        for wrong in ["-1", "many", "", "Auto", "4294967296"] {
            assert!(wrong.parse::<Wish>().is_err(), "{wrong}");
        }
    }
}
