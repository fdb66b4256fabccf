//! The admin server over real sockets, with a fake behind it.

mod streams;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::fake::Fake;
use super::router::{endpoints, public_endpoints};
use super::{Server, problem, view};
use crate::config::Problem;
use crate::config::types::{Admin, AdminListen};

const JSON: (&str, &str) = ("content-type", "application/json");

struct Running {
    source: Arc<Fake>,
    address: SocketAddr,
    public: SocketAddr,
    access: super::AccessHandle,
    admin: Admin,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json<T: serde::de::DeserializeOwned>(&self) -> T {
        assert!(self.has("content-type: application/json"), "{}", self.head);
        serde_json::from_str(&self.body).unwrap()
    }

    /// What a problem says; fails if it is not one.
    fn detail(&self) -> String {
        assert!(self.has("content-type: application/problem+json"), "{}", self.head);
        let document: problem::Document = serde_json::from_str(&self.body).unwrap();
        assert_eq!(document.status, self.status);
        document.detail
    }

    fn has(&self, line: &str) -> bool {
        self.head.lines().any(|l| l.to_ascii_lowercase().starts_with(line))
    }
}

fn run_with(source: Fake, listen: AdminListen) -> Running {
    let any = "127.0.0.1:0".parse().unwrap();
    let admin = Admin {
        listen,
        public_listen: Some(any),
        hosts: vec!["localhost".into(), "127.0.0.1".into()],
        dynamic_backends: Vec::new(),
        tls: None,
        users: Vec::new(),
        tokens: Vec::new(),
        allow: vec!["127.0.0.0/8".parse().unwrap()],
    };
    let server = Server::bind(&admin).unwrap();
    let tcp = |url: String| url.strip_prefix("http://").and_then(|a| a.parse().ok());
    let (address, public) = (tcp(server.url()).unwrap_or(any), server.public_url().and_then(tcp));
    let (access, source) = (server.access(), Arc::new(source));
    let (stop, stopped) = oneshot::channel();
    let served = server.serve(source.clone(), async {
        let _ = stopped.await;
    });
    let serving = tokio::spawn(async { served.await.unwrap() });
    Running { source, address, public: public.unwrap(), access, admin, stop, serving }
}

fn run() -> Running {
    run_with(Fake::new(), AdminListen::Tcp("127.0.0.1:0".parse().unwrap()))
}

/// No test waits for ever.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it happens within 60 s")
}

async fn exchange(mut io: impl AsyncRead + AsyncWrite + Unpin, request: String) -> Answer {
    io.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    soon(io.read_to_string(&mut text)).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

fn request(line: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut text =
        format!("{line} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| *name == "host") {
        text.push_str("host: localhost\r\n");
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text + "\r\n" + body
}

async fn ask(address: SocketAddr, line: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    exchange(TcpStream::connect(address).await.unwrap(), request(line, headers, body)).await
}

impl Running {
    async fn get(&self, path: &str) -> Answer {
        ask(self.address, &format!("GET {path}"), &[], "").await
    }

    async fn change(&self, line: &str, body: &str) -> Answer {
        ask(self.address, line, &[JSON], body).await
    }

    fn asked(&self) -> Vec<String> {
        self.source.asked.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn the_documents_are_what_their_structs_say() {
    let admin = run();
    assert_eq!(admin.get("/v1/status").await.json::<view::Status>().config_generation, 3);
    let names: Vec<_> = admin
        .get("/v1/services")
        .await
        .json::<Vec<view::Service>>()
        .into_iter()
        .map(|s| s.name)
        .collect();
    assert_eq!(names, ["app", "static files"]);
    assert_eq!(
        admin.get("/v1/services/static%20files").await.json::<view::Service>().name,
        "static files"
    );
    assert_eq!(admin.get("/v1/services/app/scaling").await.json::<view::ScalingValue>().value, 3);
    let records: Vec<serde_json::Value> =
        admin.get("/v1/services/app/decisions?limit=3").await.json();
    assert_eq!(records.len(), 3);
    assert!(admin.get("/v1/config").await.json::<serde_json::Value>()["admin"].is_object());
    let page = admin.get("/").await;
    assert!(
        page.has("content-type: text/html") && page.has("cache-control: no-store"),
        "{}",
        page.head
    );
    assert!(page.body.contains("tidegate 0.1.0"));
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_that_helps() {
    let admin = run();
    let unknown = admin.get("/v1/nonsense").await;
    assert_eq!((unknown.status, unknown.detail().contains("/v1/nonsense")), (404, true));

    let method = admin.change("PUT /v1/reload", "").await;
    assert_eq!((method.status, method.detail().contains("PUT")), (405, true));
    assert!(method.has("allow: post"), "{}", method.head);

    let service = admin.get("/v1/services/shopp").await;
    assert_eq!(service.status, 404);
    assert_eq!(service.detail(), "there is no service \"shopp\"; there are: app, static files");
    assert_eq!(admin.get("/v1/services/shopp/decisions").await.status, 404);
    assert_eq!(admin.get("/v1/services/static%20files/scaling").await.status, 404);

    for bad in ["limit=0", "limit=1001", "limit=ten", "limit=-1", "limit="] {
        let answer = admin.get(&format!("/v1/services/app/decisions?{bad}")).await;
        assert_eq!(answer.status, 400, "{bad}");
        assert!(answer.detail().contains("from 1 to 1000"), "{bad}");
    }
    let typo = admin.get("/v1/services/app/decisions?limt=1").await;
    assert_eq!((typo.status, typo.detail().contains("limt")), (400, true));
    assert_eq!(admin.get("/v1/services/%ff").await.status, 400);
}

#[tokio::test]
async fn changes_reach_the_control_plane() {
    let admin = run();
    assert_eq!(admin.change("POST /v1/services/app/backends/one/drain", "").await.status, 204);
    assert_eq!(admin.change("POST /v1/services/app/backends/one/undrain", "{}").await.status, 204);
    let gone = admin.change("POST /v1/services/app/backends/two/drain", "").await;
    assert_eq!((gone.status, gone.detail().contains("\"two\"")), (404, true));

    let put = "PUT /v1/services/app/scaling";
    assert_eq!(admin.change(put, r#"{"replicas": 4, "for": "10m"}"#).await.status, 200);
    assert_eq!(
        admin.change(put, r#"{"mode": "pause"}"#).await.json::<view::ScalingValue>().value,
        3
    );
    assert_eq!(admin.change("DELETE /v1/services/app/scaling", "").await.status, 200);
    assert_eq!(
        admin.change("PUT /v1/services/static%20files/scaling", r#"{"replicas": 1}"#).await.status,
        409
    );
    assert_eq!(
        admin.asked(),
        [
            "drain app one",
            "undrain app one",
            "drain app two",
            "app Pin { replicas: 4, lasts: Some(600s) }",
            "app Pause { lasts: None }",
            "app auto",
            "static files Pin { replicas: 1, lasts: None }",
        ]
    );
}

#[tokio::test]
async fn a_change_that_makes_no_sense_is_refused_before_it_is_asked_for() {
    let admin = run();
    let put = "PUT /v1/services/app/scaling";
    for (body, status, says) in [
        ("", 400, "EOF"),
        ("[]", 400, "invalid length"),
        (r#"{"replicas": -1}"#, 400, "-1"),
        (r#"{"replica": 1}"#, 400, "unknown field `replica`"),
        ("{}", 422, "either"),
        (r#"{"replicas": 1, "mode": "pause"}"#, 422, "either"),
        (r#"{"mode": "stop"}"#, 422, "must be \"pause\""),
        (r#"{"replicas": 1, "for": "10 parsecs"}"#, 422, "\"for\""),
        (r#"{"replicas": 1, "for": "0s"}"#, 422, "more than zero"),
    ] {
        let answer = admin.change(put, body).await;
        assert_eq!(answer.status, status, "{body}");
        assert!(answer.detail().contains(says), "{body}: {}", answer.detail());
    }
    assert_eq!(admin.change("POST /v1/reload", "not json").await.status, 400);
    let large = format!("\"{}\"", "x".repeat(64 * 1024));
    assert_eq!(admin.change("POST /v1/reload", &large).await.status, 413);
    // A page elsewhere, a form, another name for this machine.
    let post = "POST /v1/reload";
    let foreign = ask(admin.address, post, &[JSON, ("origin", "http://evil.example")], "").await;
    assert_eq!((foreign.status, foreign.detail().contains("evil.example")), (403, true));
    assert_eq!(ask(admin.address, post, &[], "").await.status, 415);
    assert_eq!(ask(admin.address, post, &[JSON, ("host", "evil.example")], "").await.status, 421);
    assert_eq!(admin.asked(), [""; 0]);
}

#[tokio::test]
async fn a_reload_tells_the_generation_or_every_mistake() {
    let admin = run();
    let done: view::ReloadOk = admin.change("POST /v1/reload", "").await.json();
    assert_eq!((done.generation, done.restart_required), (4, vec!["admin.listen".to_owned()]));

    let mistake = |line, message: &str| Problem {
        file: PathBuf::from("shop.toml"),
        line,
        column: 1,
        message: message.into(),
    };
    *admin.source.mistakes.lock().unwrap() = vec![mistake(3, "one"), mistake(9, "two")];
    let answer = admin.change("POST /v1/reload", "").await;
    assert_eq!((answer.status, answer.detail().contains("2 mistakes")), (422, true));
    let document: problem::Document = serde_json::from_str(&answer.body).unwrap();
    let lines: Vec<_> = document.problems.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(lines, ["shop.toml:3:1: one", "shop.toml:9:1: two"]);
}

#[tokio::test]
async fn the_public_port_tells_health_and_metrics_and_nothing_else() {
    let admin = run();
    let host = ("host", "10.1.2.3:9901");
    let get = |path: &'static str| async move {
        ask(admin.public, &format!("GET {path}"), &[host], "").await
    };
    assert_eq!(get("/healthz").await.body, "ok\n");
    assert_eq!(get("/readyz").await.body, "ready\n");
    assert!(get("/metrics").await.has("content-type: text/plain; version=0.0.4"));
    for endpoint in endpoints() {
        let known = public_endpoints().iter().any(|public| public.path == endpoint.path);
        let line = format!("{} {}", endpoint.method, endpoint.path.replace(['{', '}'], ""));
        let answer = ask(admin.public, &line, &[host, JSON], "").await;
        assert_eq!(answer.status == 404, !known, "{line}");
    }
    *admin.source.not_ready.lock().unwrap() = Some("tidegate is stopping".into());
    let answer = get("/readyz").await;
    assert_eq!((answer.status, answer.detail()), (503, "tidegate is stopping".into()));
    assert_eq!(get("/healthz").await.status, 200);

    let accept = ("accept", "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3");
    let open = ask(admin.public, "GET /metrics", &[host, accept], "").await;
    assert!(
        open.has("content-type: application/openmetrics-text") && open.body.ends_with("# EOF\n")
    );
}

#[tokio::test]
async fn a_unix_socket_serves_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    let admin = run_with(Fake::new(), AdminListen::Unix(path.clone()));
    let ask = async |line, headers: &[_]| {
        exchange(UnixStream::connect(&path).await.unwrap(), request(line, headers, "")).await
    };
    assert_eq!(ask("GET /v1/status", &[]).await.json::<view::Status>().pid, 7);
    assert_eq!(ask("GET /v1/status", &[("host", "evil.example")]).await.status, 421);
    assert_eq!(ask("POST /v1/reload", &[JSON]).await.status, 200);
    admin.stop.send(()).unwrap();
    soon(admin.serving).await.unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn a_reload_changes_who_may_ask() {
    let mut admin = run();
    admin.admin.allow = vec!["192.0.2.0/24".parse().unwrap()];
    admin.access.set(&admin.admin, None);
    let answer = admin.get("/v1/status").await;
    assert_eq!(
        (answer.status, answer.detail()),
        (403, "127.0.0.1 is not within admin.allow".into())
    );
}

#[tokio::test]
async fn the_openapi_file_names_every_field_of_the_documents() {
    let admin = run();
    let api: serde_json::Value = admin.get("/v1/openapi.json").await.json();
    let fields = |schema: &str| -> BTreeSet<String> {
        api["components"]["schemas"][schema]["properties"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect()
    };
    let keys = |json: &serde_json::Value| -> BTreeSet<String> {
        json.as_object().unwrap().keys().cloned().collect()
    };
    let status: serde_json::Value = admin.get("/v1/status").await.json();
    assert_eq!(fields("Status"), keys(&status));
    let service: serde_json::Value = admin.get("/v1/services/app").await.json();
    assert_eq!(fields("Service"), keys(&service));
    assert_eq!(fields("Backend"), keys(&service["backends"][0]));
    assert_eq!(fields("Scaling"), keys(&service["scaling"]));
    let reload: serde_json::Value = admin.change("POST /v1/reload", "").await.json();
    assert_eq!(fields("ReloadOk"), keys(&reload));
    let event = serde_json::to_value(&*Fake::event(1)).unwrap();
    assert_eq!(fields("Event"), keys(&event));
}
