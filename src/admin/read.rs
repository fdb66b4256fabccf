//! Handlers that only tell.

use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;

use super::extract::{Arguments, Params, accepts, number};
use super::problem::Problem;
use super::router::App;
use super::view;
use crate::units::parse_duration;

/// Records of one answer, without `limit`.
const DECISIONS: usize = 20;
/// The most that `limit` may ask for.
const MAX_DECISIONS: usize = 1000;

/// Bans of one answer, without `limit`, and the most that it may ask for.
const BANS: usize = 1000;
const MAX_BANS: usize = 100_000;

/// How far back costs go without `since`.
const COST_SPAN: Duration = Duration::from_secs(30 * 86_400);

const OPENAPI: &str = include_str!("openapi.json");

pub async fn index(State(app): State<App>) -> Html<String> {
    let status = app.source.status();
    let state = match app.source.ready() {
        Ok(()) => "ready".to_owned(),
        Err(why) => format!("not ready: {}", escape(&why)),
    };
    let mut page = format!(
        "<!doctype html><meta charset=utf-8><title>tidegate</title>\
         <h1>tidegate {}</h1><p>{state}; configuration generation {}.</p>\
         <p>On the command line: <code>tidegate status --watch</code></p><ul>",
        escape(&status.version),
        status.config_generation,
    );
    for path in ["/v1/status", "/v1/services", "/v1/config", "/v1/openapi.json", "/metrics"] {
        page.push_str(&format!("<li><a href=\"{path}\">{path}</a>"));
    }
    page.push_str("</ul>");
    Html(page)
}

pub async fn healthz() -> &'static str {
    "ok\n"
}

pub async fn readyz(State(app): State<App>) -> Result<&'static str, Problem> {
    match app.source.ready() {
        Ok(()) => Ok("ready\n"),
        Err(why) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, why)),
    }
}

pub async fn metrics(State(app): State<App>, headers: HeaderMap) -> Response {
    let open = accepts(&headers, "application/openmetrics-text");
    let kind = match open {
        true => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        false => "text/plain; version=0.0.4; charset=utf-8",
    };
    ([(header::CONTENT_TYPE, kind)], app.source.metrics(open)).into_response()
}

pub async fn status(State(app): State<App>) -> Json<view::Status> {
    Json(app.source.status())
}

pub async fn services(State(app): State<App>) -> Json<Vec<view::Service>> {
    Json(app.source.services())
}

pub async fn service(
    State(app): State<App>,
    Params(name): Params<String>,
) -> Result<Json<view::Service>, Problem> {
    app.source.service(&name).map(Json).ok_or_else(|| no_service(&app, &name))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionsQuery {
    limit: Option<String>,
}

pub async fn decisions(
    State(app): State<App>,
    Params(name): Params<String>,
    Arguments(query): Arguments<DecisionsQuery>,
) -> Result<Json<Vec<serde_json::Value>>, Problem> {
    let limit = match &query.limit {
        Some(text) => number("limit", text, 1..=MAX_DECISIONS)?,
        None => DECISIONS,
    };
    app.source.decisions(&name, limit).map(Json).ok_or_else(|| no_service(&app, &name))
}

pub async fn scaling(
    State(app): State<App>,
    Params(name): Params<String>,
) -> Result<Json<view::ScalingValue>, Problem> {
    let service = app.source.service(&name).ok_or_else(|| no_service(&app, &name))?;
    match service.scaling {
        Some(scaling) => Ok(Json(scaling.into())),
        None => Err(Problem::not_found(format!("service {name:?} has no scaling table"))),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BansQuery {
    limit: Option<String>,
}

pub async fn bans(
    State(app): State<App>,
    Arguments(query): Arguments<BansQuery>,
) -> Result<Json<view::Bans>, Problem> {
    let limit = match &query.limit {
        Some(text) => number("limit", text, 1..=MAX_BANS)?,
        None => BANS,
    };
    Ok(Json(app.source.bans(limit)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CostQuery {
    since: Option<String>,
}

pub async fn cost(
    State(app): State<App>,
    Arguments(query): Arguments<CostQuery>,
) -> Result<Json<view::Costs>, Problem> {
    let since = since(query.since.as_deref(), SystemTime::now())?;
    Ok(Json(app.source.costs(since)))
}

/// A time, or how long ago that was.
fn since(text: Option<&str>, now: SystemTime) -> Result<SystemTime, Problem> {
    let Some(text) = text else { return Ok(now - COST_SPAN) };
    let ago = parse_duration(text).ok().and_then(|ago| now.checked_sub(ago));
    let at = || text.parse::<jiff::Timestamp>().ok().map(SystemTime::from);
    ago.or_else(at).ok_or_else(|| {
        Problem::bad_request(format!(
            "since must be a time as \"2026-11-22T08:00:00Z\" or how long ago as \"24h\" or \"7d\", not {text:?}"
        ))
    })
}

pub async fn config(State(app): State<App>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], app.source.config_json()).into_response()
}

pub async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

/// The 404 that says which services there are.
fn no_service(app: &App, name: &str) -> Problem {
    let names: Vec<_> = app.source.services().into_iter().map(|service| service.name).collect();
    Problem::not_found(match names.is_empty() {
        true => format!("there is no service {name:?}; there are none"),
        false => format!("there is no service {name:?}; there are: {}", names.join(", ")),
    })
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
