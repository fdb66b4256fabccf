//! Every endpoint of the running program against the OpenAPI file, by the words of JSON Schema
//! that the file uses.

use serde_json::{Value, json};

use crate::operator::scaled;
use crate::support::{Answer, get, wait_for};

pub const OPENAPI: &str = include_str!("../../src/admin/openapi.json");

/// What of a value is not as its schema says; the words of JSON Schema that the file uses.
fn mismatches(schema: &Value, value: &Value, at: &str, api: &Value, found: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let named = &api["components"]["schemas"][name.rsplit('/').next().unwrap()];
        assert!(named.is_object(), "{name} is not there");
        return mismatches(named, value, at, api, found);
    }
    if let Some(parts) = schema["allOf"].as_array() {
        for part in parts {
            let mut wrong = Vec::new();
            mismatches(part, value, at, api, &mut wrong);
            // What one part does not describe, another does.
            found.extend(wrong.into_iter().filter(|wrong| !wrong.ends_with("is not described")));
        }
        return;
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let fitting = choices.iter().filter(|choice| {
            let mut wrong = Vec::new();
            mismatches(choice, value, at, api, &mut wrong);
            wrong.is_empty()
        });
        if fitting.count() != 1 {
            found.push(format!("{at}: {value} is not one of its kinds"));
        }
    }
    let is = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("no such type: {other}"),
    };
    let types: Vec<_> = match &schema["type"] {
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    if !types.is_empty() && !types.iter().any(|name| is(name)) {
        found.push(format!("{at}: {value} is not {types:?}"));
    }
    if schema["enum"].as_array().is_some_and(|all| !all.contains(value)) {
        found.push(format!("{at}: {value} is none of {}", schema["enum"]));
    }
    if let Some(object) = value.as_object() {
        for name in schema["required"].as_array().into_iter().flatten() {
            if !object.contains_key(name.as_str().unwrap()) {
                found.push(format!("{at}: {name} is missing"));
            }
        }
        for (name, inner) in object {
            let known = &schema["properties"][name];
            if known.is_object() {
                mismatches(known, inner, &format!("{at}.{name}"), api, found);
            } else if schema["properties"].is_object()
                && schema["additionalProperties"] == Value::Null
            {
                found.push(format!("{at}: {name} is not described"));
            }
        }
    }
    for (index, inner) in value.as_array().into_iter().flatten().enumerate() {
        mismatches(&schema["items"], inner, &format!("{at}[{index}]"), api, found);
    }
}

/// Checks an answer against what the file says of that method, path and status.
#[track_caller]
pub fn described(method: &str, path: &str, answer: &Answer) {
    let api: Value = serde_json::from_str(OPENAPI).unwrap();
    let operation = &api["paths"][path][method.to_lowercase()];
    assert!(operation.is_object(), "{method} {path} is not described");
    let response = &operation["responses"][answer.status.to_string()];
    assert!(
        response.is_object(),
        "{method} {path}: {} is not described: {}",
        answer.status,
        answer.text()
    );
    let Some(kinds) = response["content"].as_object() else {
        assert!(answer.body.is_empty(), "{method} {path}: {}", answer.text());
        return;
    };
    let kind = answer.header("content-type").unwrap_or_default();
    let kind = kind.split(';').next().unwrap();
    let content =
        kinds.get(kind).unwrap_or_else(|| panic!("{method} {path}: {kind} is not described"));
    if kind.ends_with("json") {
        let mut found = Vec::new();
        mismatches(&content["schema"], &answer.json(), path, &api, &mut found);
        assert!(found.is_empty(), "{found:#?}");
    }
}

#[test]
fn every_endpoint_is_as_the_openapi_file_says() {
    let mut proxy = scaled("").run();
    for _ in 0..20 {
        assert_eq!(get(&proxy.url("/")).status, 200);
    }
    let id = proxy.service("app")["backends"][0]["id"].as_str().unwrap().to_owned();
    let own = proxy.admin("GET", "/v1/openapi.json").json();
    assert_eq!(own, serde_json::from_str::<Value>(OPENAPI).unwrap());
    let asks: &[(&str, &str, Option<Value>, u16)] = &[
        ("GET", "/healthz", None, 200),
        ("GET", "/readyz", None, 200),
        ("GET", "/metrics", None, 200),
        ("GET", "/", None, 200),
        ("GET", "/v1/status", None, 200),
        ("GET", "/v1/services", None, 200),
        ("GET", "/v1/services/{name}", None, 200),
        ("PUT", "/v1/services/{name}/scaling", Some(json!({"replicas": 3, "for": "10m"})), 200),
        ("GET", "/v1/services", None, 200),
        ("GET", "/v1/services/{name}/scaling", None, 200),
        ("PUT", "/v1/services/{name}/scaling", Some(json!({"mode": "pause"})), 200),
        ("DELETE", "/v1/services/{name}/scaling", None, 200),
        ("PUT", "/v1/services/{name}/scaling", Some(json!({"replicas": 99})), 422),
        ("PUT", "/v1/services/{name}/scaling", Some(json!([])), 400),
        ("POST", "/v1/services/{name}/backends/{id}/drain", None, 204),
        ("GET", "/v1/services/{name}", None, 200),
        ("POST", "/v1/services/{name}/backends/{id}/undrain", None, 204),
        ("POST", "/v1/services/{name}/backends/{id}/undrain", None, 409),
        ("POST", "/v1/services/{name}/record", Some(json!({"on": true})), 200),
        ("POST", "/v1/services/{name}/record", Some(json!({"on": false})), 200),
        ("POST", "/v1/services/{name}/record", Some(json!({"on": 3})), 400),
        ("POST", "/v1/reload", None, 200),
        ("GET", "/v1/config", None, 200),
        ("GET", "/v1/cost", None, 200),
        ("GET", "/v1/openapi.json", None, 200),
    ];
    for (method, path, body, status) in asks {
        let full = path.replace("{name}", "app").replace("{id}", &id);
        let answer = proxy.admin_json(method, &full, body.clone());
        assert_eq!(answer.status, *status, "{method} {path}: {}", answer.text());
        described(method, path, &answer);
    }
    for (method, path) in [
        ("GET", "/v1/services/{name}"),
        ("GET", "/v1/services/{name}/decisions"),
        ("GET", "/v1/services/{name}/scaling"),
        ("DELETE", "/v1/services/{name}/scaling"),
        ("POST", "/v1/services/{name}/backends/{id}/drain"),
    ] {
        let answer = proxy.admin(method, &path.replace("{name}", "nobody").replace("{id}", "x"));
        assert_eq!(answer.status, 404, "{method} {path}");
        described(method, path, &answer);
    }
    // The pin above was a decision.
    let records = wait_for("a decision", || {
        let records = proxy.decisions("app");
        (!records.as_array().unwrap().is_empty()).then_some(records)
    });
    let newest = proxy.admin("GET", "/v1/services/app/decisions?limit=1");
    described("GET", "/v1/services/{name}/decisions", &newest);
    assert_eq!(newest.json().as_array().unwrap().len(), 1);
    let numbers: Vec<_> =
        records.as_array().unwrap().iter().map(|r| r["seq"].as_u64().unwrap()).collect();
    assert!(numbers.windows(2).all(|two| two[0] > two[1]), "newest first: {numbers:?}");
    let bad = proxy.reload(|p| p.toml("[nonsense]"));
    assert_eq!(bad.status, 422);
    described("POST", "/v1/reload", &bad);
    described("GET", "/v1/status", &proxy.admin("GET", "/v1/status"));
}
