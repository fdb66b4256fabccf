//! The commands against a real admin server with a fake behind it, and golden texts.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::client::{AdminArgs, Client, Failure};
use super::{drain, explain, reload, scale, status, table};
use crate::admin::Server;
use crate::admin::fake::Fake;
use crate::admin::view::{LastReload, Service, Status, Time};
use crate::config::Problem;
use crate::config::types::{Admin, AdminListen};

struct Running {
    source: Arc<Fake>,
    args: AdminArgs,
    // Dropping it ends the server.
    _runtime: tokio::runtime::Runtime,
}

fn run() -> Running {
    let admin = Admin {
        listen: AdminListen::Tcp("127.0.0.1:0".parse().unwrap()),
        public_listen: None,
        hosts: vec!["127.0.0.1".into()],
        dynamic_backends: Vec::new(),
        tls: None,
        users: Vec::new(),
        tokens: Vec::new(),
        allow: vec!["127.0.0.0/8".parse().unwrap()],
    };
    let server = Server::bind(&admin).unwrap();
    let args = AdminArgs { admin: server.url(), token: None, ca: None };
    let source = Arc::new(Fake::new());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.spawn(server.serve(source.clone(), std::future::pending()));
    Running { source, args, _runtime: runtime }
}

impl Running {
    fn client(&self) -> Client {
        Client::new(&self.args).unwrap()
    }

    fn asked(&self) -> Vec<String> {
        self.source.asked.lock().unwrap().clone()
    }
}

#[test]
fn drain_and_undrain_say_what_they_did_or_why_not() {
    let admin = run();
    let args = |backend: &str| drain::Args {
        service: "static files".into(),
        backend: backend.into(),
        admin: admin.args.clone(),
    };
    let said = drain::drain(&admin.client(), &args("one")).unwrap();
    assert_eq!(said, "static files: one gets no new requests until undrain\n");
    assert_eq!(
        drain::undrain(&admin.client(), &args("one")).unwrap(),
        "static files: one takes requests again\n"
    );
    let failure = drain::drain(&admin.client(), &args("two")).unwrap_err();
    assert_eq!(failure.to_string(), "there is no backend \"two\" in \"static files\"");
    assert_eq!(
        admin.asked(),
        ["drain static files one", "undrain static files one", "drain static files two"]
    );
}

#[test]
fn scale_sends_what_was_wished() {
    let admin = run();
    let scale = |wish: &str, lasts: Option<&str>| {
        let args = scale::Args {
            service: "app".into(),
            wish: wish.parse().unwrap(),
            lasts: lasts.map(Into::into),
            admin: admin.args.clone(),
        };
        scale::scale(&admin.client(), &args)
    };
    assert_eq!(scale("auto", None).unwrap(), "app: scaling decides; there are 2, wanted 3\n");
    scale("6", Some("10m")).unwrap();
    scale("pause", None).unwrap();
    assert!(matches!(scale("auto", Some("10m")), Err(Failure::Usage(_))));
    assert!(matches!(scale("6", Some("10 parsecs")), Err(Failure::Usage(_))));
    assert_eq!(
        admin.asked(),
        ["app auto", "app Pin { replicas: 6, lasts: Some(600s) }", "app Pause { lasts: None }"]
    );
}

#[test]
fn reload_tells_the_generation_or_every_mistake() {
    let admin = run();
    assert_eq!(
        reload::reload(&admin.client()).unwrap(),
        "generation 4 is in use\nthese take effect with the next start only: admin.listen\n"
    );
    let file = PathBuf::from("shop.toml");
    *admin.source.mistakes.lock().unwrap() =
        vec![Problem { file, line: 3, column: 1, message: "unknown key".into() }];
    let Err(Failure::Refused(document)) = reload::reload(&admin.client()) else {
        panic!("a bad configuration is refused")
    };
    assert_eq!(document.detail, "the configuration has a mistake; what ran goes on");
    assert_eq!(document.problems.unwrap()[0].to_string(), "shop.toml:3:1: unknown key");
}

#[test]
fn status_asks_a_running_one() {
    let admin = run();
    let text = status::frame(&admin.client(), false).unwrap();
    assert!(text.starts_with("app            0 rps   in flight 0"), "{text}");
    let json: serde_json::Value =
        serde_json::from_str(&status::frame(&admin.client(), true).unwrap()).unwrap();
    assert_eq!(json["services"][1]["name"], "static files");
    assert_eq!(json["status"]["config_generation"], 3);
}

#[test]
fn explain_finds_the_record_that_was_asked_for() {
    let admin = run();
    let now = Timestamp::now().to_zoned(TimeZone::UTC);
    let tell = |service: &str, at: Option<&str>| {
        let (service, at) = (service.into(), at.map(Into::into));
        let args = explain::Args { service, at, json: true, admin: admin.args.clone() };
        explain::tell(&admin.client(), &args, &now).map_err(|failure| failure.to_string())
    };
    let seq =
        |text: String| serde_json::from_str::<serde_json::Value>(&text).unwrap()["seq"].clone();
    // The fake's newest is of 22:13:20 UTC, each older one second before.
    assert_eq!(seq(tell("app", None).unwrap()), 999);
    assert_eq!(seq(tell("app", Some("2023-11-14T22:13:18")).unwrap()), 997);
    assert_eq!(tell("app", Some("2000-01-01T00:00:00")).unwrap(), "null\n");
    let unknown = tell("shop", None).unwrap_err();
    assert_eq!(unknown, "there is no service \"shop\"; there are: app, static files");
}

const SERVICES: &str = include_str!("tests/services.json");
const TABLE: &str = include_str!("tests/status.txt");

#[test]
fn the_table_is_as_people_know_it() {
    let services: Vec<Service> = serde_json::from_str(SERVICES).unwrap();
    let now: Timestamp = "2026-01-31T14:03:07Z".parse().unwrap();
    let text = table::render(&fine(), &services, now.into());
    assert_eq!(text, TABLE, "\n{text}");
}

#[test]
fn what_is_wrong_stands_above_the_table() {
    let failed = LastReload {
        at: Time(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)),
        ok: false,
        error: Some("2 mistakes, first shop.toml:3:1: unknown key".into()),
        problems: Vec::new(),
    };
    let status = Status { last_reload: Some(failed), ready: false, ..fine() };
    assert_eq!(
        table::render(&status, &[], SystemTime::UNIX_EPOCH),
        "the reload at 2023-11-14T22:13:20.000Z failed: 2 mistakes, first shop.toml:3:1: unknown key\n\
         not ready\nno services\n"
    );
}

fn fine() -> Status {
    crate::admin::Source::status(&Fake::new())
}
