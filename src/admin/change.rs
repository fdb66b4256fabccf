//! Handlers that change something. Each bounds its wait and leaves one line in the audit log.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use ipnet::IpNet;
use serde::Deserialize;

use super::extract::{self, Arguments, NoBody, Params};
use super::guard::Who;
use super::problem::Problem;
use super::router::App;
use super::source::{NewBackend, Refusal, ScalingOrder};
use super::view;
use crate::units::parse_duration;

/// A change must have taken effect by then.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A reload loads certificates and resolves names.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(30);

pub async fn drain(
    State(app): State<App>,
    who: Who,
    Params((name, id)): Params<(String, String)>,
    _: NoBody,
) -> Result<StatusCode, Problem> {
    let done = bounded(TIMEOUT, app.source.drain(&name, &id)).await;
    audit(&who, format_args!("drain {name} {id}"), &done);
    done.map(|()| StatusCode::NO_CONTENT)
}

pub async fn undrain(
    State(app): State<App>,
    who: Who,
    Params((name, id)): Params<(String, String)>,
    _: NoBody,
) -> Result<StatusCode, Problem> {
    let done = bounded(TIMEOUT, app.source.undrain(&name, &id)).await;
    audit(&who, format_args!("undrain {name} {id}"), &done);
    done.map(|()| StatusCode::NO_CONTENT)
}

/// `{"address": "10.0.0.1:3000"}`; the rest as in `[[service.NAME.backend]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendBody {
    address: String,
    #[serde(default)]
    id: String,
    weight: Option<u32>,
    #[serde(default)]
    backup: bool,
    #[serde(default)]
    zone: String,
}

/// `?persist=true`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Persist {
    #[serde(default)]
    persist: bool,
}

pub async fn add_backend(
    State(app): State<App>,
    who: Who,
    Params(name): Params<String>,
    Arguments(Persist { persist }): Arguments<Persist>,
    extract::Json(body): extract::Json<BackendBody>,
) -> Result<(StatusCode, Json<view::Backend>), Problem> {
    let backend = new_backend(body)?;
    let address = backend.address;
    let done = bounded(TIMEOUT, app.source.add_backend(&name, backend, persist)).await;
    audit(&who, format_args!("add {name} {address} persist={persist}"), &done);
    done.map(|backend| (StatusCode::CREATED, Json(backend)))
}

pub async fn remove_backend(
    State(app): State<App>,
    who: Who,
    Params((name, id)): Params<(String, String)>,
    Arguments(Persist { persist }): Arguments<Persist>,
    _: NoBody,
) -> Result<StatusCode, Problem> {
    let done = bounded(TIMEOUT, app.source.remove_backend(&name, &id, persist)).await;
    audit(&who, format_args!("remove {name} {id} persist={persist}"), &done);
    done.map(|()| StatusCode::NO_CONTENT)
}

/// `{"on": true}`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordBody {
    on: bool,
}

pub async fn record(
    State(app): State<App>,
    who: Who,
    Params(name): Params<String>,
    extract::Json(body): extract::Json<RecordBody>,
) -> Result<Json<view::Recording>, Problem> {
    let done = bounded(TIMEOUT, async { app.source.record(&name, body.on) }).await;
    audit(&who, format_args!("record {name} on={}", body.on), &done);
    done.map(Json)
}

/// `{"replicas": 4, "for": "10m"}` or `{"mode": "pause", "for": "10m"}`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScalingBody {
    replicas: Option<u32>,
    mode: Option<String>,
    #[serde(rename = "for")]
    lasts: Option<String>,
}

pub async fn set_scaling(
    State(app): State<App>,
    who: Who,
    Params(name): Params<String>,
    extract::Json(body): extract::Json<ScalingBody>,
) -> Result<Json<view::ScalingValue>, Problem> {
    let order = order(&body)?;
    let done = bounded(TIMEOUT, app.source.set_scaling(&name, order)).await;
    match order {
        ScalingOrder::Pin { replicas, lasts } => {
            audit(&who, format_args!("pin {name} {replicas}{}", For(lasts)), &done);
        }
        ScalingOrder::Pause { lasts } => {
            audit(&who, format_args!("pause {name}{}", For(lasts)), &done);
        }
    }
    done.map(Json)
}

pub async fn clear_scaling(
    State(app): State<App>,
    who: Who,
    Params(name): Params<String>,
    _: NoBody,
) -> Result<Json<view::ScalingValue>, Problem> {
    let done = bounded(TIMEOUT, app.source.clear_scaling(&name)).await;
    audit(&who, format_args!("auto {name}"), &done);
    done.map(Json)
}

pub async fn lift_ban(
    State(app): State<App>,
    who: Who,
    Params(address): Params<String>,
    _: NoBody,
) -> Result<StatusCode, Problem> {
    let network = address.parse::<IpNet>().or_else(|_| address.parse::<IpAddr>().map(IpNet::from));
    let network = network.map_err(|_| {
        let right = "write an address as 10.0.0.1, or a network as 10.0.0.0%2F24";
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{address:?} is neither; {right}"))
    })?;
    let done = app.source.lift_ban(network).map_err(Problem::from);
    audit(&who, format_args!("lift the ban of {network}"), &done);
    done.map(|()| StatusCode::NO_CONTENT)
}

pub async fn reload(
    State(app): State<App>,
    who: Who,
    _: NoBody,
) -> Result<Json<view::ReloadOk>, Problem> {
    let reload = async {
        app.source.reload().await.map_err(|problems| Problem {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            detail: match problems.len() {
                1 => "the configuration has a mistake; what ran goes on".into(),
                n => format!("the configuration has {n} mistakes; what ran goes on"),
            },
            problems: Some(problems.into_iter().map(Into::into).collect()),
        })
    };
    let done = bounded(RELOAD_TIMEOUT, reload).await;
    audit(&who, format_args!("reload"), &done);
    done.map(Json)
}

/// Checks what a POST wants to be added.
fn new_backend(body: BackendBody) -> Result<NewBackend, Problem> {
    let invalid = |detail: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
    let address = body.address.parse().map_err(|_| {
        let address = &body.address;
        invalid(format!("\"address\" is {address:?} and must be IP:PORT as \"10.0.0.1:3000\""))
    })?;
    let weight = body.weight.unwrap_or(1);
    if !(1..=65_535).contains(&weight) {
        return Err(invalid(format!("\"weight\" is {weight} and must be from 1 to 65535")));
    }
    let plain =
        |text: &str| text.len() <= 128 && text.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
    for (key, text) in [("id", &body.id), ("zone", &body.zone)] {
        if !plain(text) {
            let right = "must be up to 128 printable ASCII characters without \"/\"";
            return Err(invalid(format!("{key:?} is {text:?} and {right}")));
        }
    }
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    let (id, zone) = (some(body.id), some(body.zone));
    Ok(NewBackend { address, id, weight, backup: body.backup, zone })
}

/// Reads what a PUT wants: exactly one of a size and a mode.
fn order(body: &ScalingBody) -> Result<ScalingOrder, Problem> {
    let invalid = |detail: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
    let lasts = match &body.lasts {
        None => None,
        Some(text) => match parse_duration(text) {
            Ok(lasts) if !lasts.is_zero() => Some(lasts),
            Ok(_) => return Err(invalid("\"for\" must be more than zero".into())),
            Err(error) => return Err(invalid(format!("\"for\": {error}"))),
        },
    };
    match (body.replicas, body.mode.as_deref()) {
        (Some(replicas), None) => Ok(ScalingOrder::Pin { replicas, lasts }),
        (None, Some("pause")) => Ok(ScalingOrder::Pause { lasts }),
        (None, Some(mode)) => Err(invalid(format!(
            "\"mode\" is {mode:?} and must be \"pause\"; DELETE ends a pin or a pause"
        ))),
        _ => Err(invalid("give either \"replicas\" or \"mode\"".into())),
    }
}

async fn bounded<T, E: Into<Problem>>(
    limit: Duration,
    change: impl Future<Output = Result<T, E>>,
) -> Result<T, Problem> {
    match tokio::time::timeout(limit, change).await {
        Ok(done) => done.map_err(Into::into),
        Err(_) => {
            let detail = format!("the control plane did not answer within {} s", limit.as_secs());
            Err(Refusal::Unavailable(detail).into())
        }
    }
}

fn audit<T>(who: &Who, action: fmt::Arguments<'_>, done: &Result<T, Problem>) {
    match done {
        Ok(_) => tracing::info!(target: "tidegate::audit", peer = %who, %action, "done"),
        Err(problem) => tracing::info!(
            target: "tidegate::audit",
            peer = %who, %action, status = problem.status.as_u16(), "refused: {}", problem.detail
        ),
    }
}

/// ` for 600 s`, or nothing.
struct For(Option<Duration>);

impl fmt::Display for For {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |lasts| write!(f, " for {:.0} s", lasts.as_secs_f64()))
    }
}
