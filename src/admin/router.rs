//! Every endpoint of the admin API in one table, and the router made from it.

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter, on};
use http::{Method, StatusCode, Uri};
use tokio::sync::{Semaphore, watch};

use super::problem::Problem;
use super::source::Source;
use super::{change, events, read};

/// What handlers share.
#[derive(Clone)]
pub struct App {
    pub source: Arc<dyn Source>,
    /// One permit per event stream, so that streams cannot take every connection.
    pub streams: Arc<Semaphore>,
    /// Turns true when the server stops; event streams end then.
    pub stopping: watch::Receiver<bool>,
}

/// One method of one path.
pub struct Endpoint {
    #[cfg_attr(not(test), expect(dead_code, reason = "compared with the OpenAPI file"))]
    pub method: Method,
    pub path: &'static str,
    router: MethodRouter<App>,
}

/// Everything, in the order of the documentation.
pub fn endpoints() -> Vec<Endpoint> {
    let get = Method::GET;
    let mut all = public_endpoints();
    all.extend([
        endpoint(get.clone(), "/", read::index),
        endpoint(get.clone(), "/v1/status", read::status),
        endpoint(get.clone(), "/v1/services", read::services),
        endpoint(get.clone(), "/v1/services/{name}", read::service),
        endpoint(get.clone(), "/v1/services/{name}/decisions", read::decisions),
        endpoint(get.clone(), "/v1/services/{name}/scaling", read::scaling),
        endpoint(Method::PUT, "/v1/services/{name}/scaling", change::set_scaling),
        endpoint(Method::DELETE, "/v1/services/{name}/scaling", change::clear_scaling),
        endpoint(Method::POST, "/v1/services/{name}/backends", change::add_backend),
        endpoint(Method::DELETE, "/v1/services/{name}/backends/{id}", change::remove_backend),
        endpoint(Method::POST, "/v1/services/{name}/backends/{id}/drain", change::drain),
        endpoint(Method::POST, "/v1/services/{name}/backends/{id}/undrain", change::undrain),
        endpoint(Method::POST, "/v1/services/{name}/record", change::record),
        endpoint(get.clone(), "/v1/bans", read::bans),
        endpoint(Method::DELETE, "/v1/bans/{address}", change::lift_ban),
        endpoint(Method::POST, "/v1/reload", change::reload),
        endpoint(get.clone(), "/v1/config", read::config),
        endpoint(get.clone(), "/v1/events", events::events),
        endpoint(get.clone(), "/v1/cost", read::cost),
        endpoint(get, "/v1/openapi.json", read::openapi),
    ]);
    all
}

/// What `admin.public_listen` answers, and no more.
pub fn public_endpoints() -> Vec<Endpoint> {
    vec![
        endpoint(Method::GET, "/healthz", read::healthz),
        endpoint(Method::GET, "/readyz", read::readyz),
        endpoint(Method::GET, "/metrics", read::metrics),
    ]
}

pub fn router(endpoints: Vec<Endpoint>, app: App) -> Router {
    endpoints
        .into_iter()
        .fold(Router::new(), |router, endpoint| router.route(endpoint.path, endpoint.router))
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .with_state(app)
}

fn endpoint<H, T>(method: Method, path: &'static str, handler: H) -> Endpoint
where
    H: Handler<T, App>,
    T: 'static,
{
    let filter = MethodFilter::try_from(method.clone()).expect("a method of RFC 9110");
    Endpoint { method, path, router: on(filter, handler) }
}

async fn unknown_path(uri: Uri) -> Problem {
    let detail = format!("there is nothing at {}; GET /v1/openapi.json lists what is", uri.path());
    Problem::not_found(detail)
}

async fn unknown_method(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} does not take {method}; see the Allow header", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_openapi_file_describes_exactly_what_is_served() {
        let document: serde_json::Value =
            serde_json::from_str(include_str!("openapi.json")).unwrap();
        let mut described = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                described.insert((path.clone(), method.to_ascii_uppercase()));
                // Every parameter of the path is described.
                let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
                for name in path.split('/').filter_map(|part| part.strip_prefix('{')) {
                    let name = name.trim_end_matches('}');
                    assert!(
                        parameters.iter().any(|p| p["name"] == name && p["in"] == "path"),
                        "{path}"
                    );
                }
            }
        }
        let served: BTreeSet<_> =
            endpoints().iter().map(|e| (e.path.to_owned(), e.method.to_string())).collect();
        assert_eq!(described, served);
    }
}
