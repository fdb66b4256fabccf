//! Scaling by numbers from elsewhere: real sources, workers that no route leads to, and what
//! happens when a source is gone.

use serde_json::Value;

use crate::support::{
    Connection, Origin, Prometheus, Proxy, Redis, Running, certificate, each, formula, get,
    missing, port_range, wait_for, wait_until,
};

/// Workers that take their jobs elsewhere: they listen nowhere, and no route leads to them.
fn workers(metric: &str, scaling: &str) -> Proxy {
    workers_on(&port_range(), 6, metric, scaling)
}

/// The same with ports that stay the same over reloads.
fn workers_on(ports: &str, max: u32, metric: &str, scaling: &str) -> Proxy {
    Proxy::new().route("respond = { status = 200 }").toml(&format!(
        "[service.app.health]\nkind = \"none\"\n\
         [service.app.orchestrator]\nkind = \"process\"\ncommand = [\"sleep\", \"3600\"]\n\
         port_range = \"{ports}\"\n\
         [service.app.scaling]\nmin = 1\nmax = {max}\n\
         up = {{ limits = [] }}\ndown = {{ stabilization = \"0s\", limits = [] }}\n\
         {scaling}\n\
         [metric.jobs]\ninterval = \"200ms\"\nstale_after = \"2s\"\n{metric}\n",
    ))
}

/// A hundred jobs a worker.
const QUEUE: &str = "[service.app.scaling.queue.jobs]\nmetric = \"jobs\"\nper_backend = 100";

/// Waits until nothing is done for want of the number, and says so; the size is still that.
#[track_caller]
fn holds(proxy: &Running, size: usize, changes: usize) {
    wait_until("it says that the number is missing", || {
        let refused = proxy.records("refuse");
        refused.last().is_some_and(|record| record["action"]["reason"] == "metric_missing")
    });
    assert_eq!(proxy.ready().len(), size);
    assert_eq!(proxy.records("scale").len(), changes, "nothing changed meanwhile");
    let refused = proxy.records("refuse");
    let last = refused.last().expect("there is one");
    let note = last["proposals"][0]["note"].as_str().unwrap_or_default();
    assert!(note.contains("no data for jobs"), "{last}");
}

#[test]
fn a_redis_list_drives_workers_to_their_number_and_back_and_its_end_changes_nothing() {
    if missing("redis-server") {
        return;
    }
    let mut redis = Redis::start();
    redis.list("celery", 500);
    let metric = format!("kind = \"redis_list\"\nurl = \"{}/0\"\nkey = \"celery\"", redis.url());
    let proxy = workers(&metric, QUEUE).run();
    proxy.wait_for_size(5);
    // More than there may be.
    redis.list("celery", 5000);
    proxy.wait_for_size(6);
    redis.list("celery", 250);
    let before = proxy.wait_for_size(3);

    let changes = proxy.records("scale");
    let up: Vec<&Value> = changes.iter().filter(|r| r["action"]["to"] == 5).collect();
    assert_eq!(up.len(), 1, "{changes:#?}");
    assert_eq!(up[0]["proposals"][0]["formula"], "ceil(500 jobs ÷ 100 per backend) = 5");
    let limited = changes.iter().find(|r| r["action"]["to"] == 6).expect("it was there");
    assert_eq!(limited["proposals"][0]["wanted"], 50);
    assert_eq!(limited["steps"].as_array().and_then(|s| s.last()).unwrap()["reason"], "at_max");
    changes.iter().for_each(formula::check);

    redis.crash();
    holds(&proxy, 3, changes.len());
    let pid = |backends: &[Value]| -> Vec<Value> {
        backends.iter().map(|backend| backend["id"].clone()).collect()
    };
    assert_eq!(pid(&proxy.ready()), pid(&before), "the same workers");
}

/// Five thousand jobs, a hundred each: fifty workers, and back when the jobs are done.
#[test]
fn five_thousand_jobs_bring_fifty_workers_and_none_of_them_leaves_one() {
    if missing("redis-server") {
        return;
    }
    let mut redis = Redis::start();
    let metric = format!("kind = \"redis_list\"\nurl = \"{}\"\nkey = \"celery\"", redis.url());
    // Below what other tests use; nothing listens there.
    let first = 15_000 + std::process::id() % 40 * 60;
    let ports = format!("{first}-{}", first + 59);
    let fifty = QUEUE.replace("[service", "max_surge = 20\n[service");
    let proxy = workers_on(&ports, 60, &metric, &fifty).run();
    proxy.wait_for_size(1);
    redis.list("celery", 5000);
    let all = proxy.wait_for_size(50);
    redis.list("celery", 2450);
    let kept = proxy.wait_for_size(25);
    let known = each(&all, "id");
    assert!(each(&kept, "id").iter().all(|id| known.contains(id)), "those that stay are the same");
    redis.list("celery", 0);
    proxy.wait_for_size(1);
    let changes = proxy.records("scale");
    let sizes: Vec<_> = changes.iter().map(|r| r["action"]["to"].as_u64().unwrap()).collect();
    assert!(sizes.ends_with(&[50, 25, 1]), "each step is one decision: {sizes:?}");
    let up = changes.iter().find(|r| r["action"]["to"] == 50).expect("it was there");
    assert_eq!(up["proposals"][0]["formula"], "ceil(5000 jobs ÷ 100 per backend) = 50");
    redis.crash();
    holds(&proxy, 1, changes.len());
}

#[test]
fn redis_over_tls_is_believed_or_not_asked() {
    if missing("redis-server") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (chain, key) = certificate(folder.path(), &["localhost"]);
    let redis = Redis::start_tls(&chain, &key);
    redis.list("celery", 400);
    let metric =
        format!("kind = \"redis_list\"\nurl = \"{}/0\"\nkey = \"celery\"", redis.tls_url());
    let believing = workers(&metric, QUEUE).env("SSL_CERT_FILE", chain.to_str().unwrap()).run();
    believing.wait_for_size(4);
    redis.list("celery", 120);
    believing.wait_for_size(2);
    // A certificate that nobody vouches for: its number is none, and nothing is done.
    let doubting = workers(&metric, QUEUE).run();
    holds(&doubting, 1, 0);
}

#[test]
fn an_empty_list_leaves_the_least() {
    if missing("redis-server") {
        return;
    }
    let redis = Redis::start();
    redis.list("celery", 300);
    let metric = format!("kind = \"redis_list\"\nurl = \"{}\"\nkey = \"celery\"", redis.url());
    let proxy = workers(&metric, QUEUE).run();
    proxy.wait_for_size(3);
    redis.list("celery", 0);
    proxy.wait_for_size(1);
}

#[test]
fn a_prometheus_query_is_a_target_and_one_that_fails_is_no_zero() {
    if missing("prometheus") {
        return;
    }
    let prometheus = Prometheus::start();
    let metric = |query: &str| {
        format!("kind = \"prometheus\"\nurl = \"{}\"\nquery = \"{query}\"", prometheus.url("/"))
    };
    let target = "[service.app.scaling.queue.load]\nmetric = \"jobs\"\nper_backend = 2.5";
    let ports = port_range();
    let asking = |query| workers_on(&ports, 6, &metric(query), target);
    let mut proxy = asking("sum(vector(10))").run();
    proxy.wait_for_size(4);
    // Another question by a reload.
    assert_eq!(proxy.reload(|_| asking("vector(5) or vector(5)")).status, 200);
    proxy.wait_for_size(2);
    let changes = proxy.records("scale").len();
    assert_eq!(proxy.reload(|_| asking("sum(nothing_of_that_name)")).status, 200);
    holds(&proxy, 2, changes);
}

#[test]
fn a_number_of_a_document_moves_a_threshold() {
    let origin = Origin::new().start();
    let metric = format!(
        "kind = \"http_json\"\nurl = \"{}\"\npointer = \"/requests\"",
        origin.url("/stats")
    );
    let threshold = "[service.app.scaling.threshold.busy]\nmetric = \"jobs\"\nup_above = 20\n\
                     down_below = 5\nalgorithm = \"exponential\"";
    let proxy = workers(&metric, threshold).run();
    proxy.wait_for_size(1);
    for _ in 0..25 {
        assert_eq!(get(&origin.url("/")).status, 200);
    }
    proxy.wait_for_size(6);
    let sizes: Vec<Value> =
        proxy.records("scale").iter().map(|record| record["action"]["to"].clone()).collect();
    assert_eq!(sizes, [2, 3, 5, 6].map(Value::from), "half of them more each time");
}

#[test]
fn a_schedule_lifts_the_least_for_its_time() {
    let origin = Origin::new().start();
    let metric = format!(
        "kind = \"http_json\"\nurl = \"{}\"\npointer = \"/requests\"",
        origin.url("/stats")
    );
    let always = "[[service.app.scaling.schedule]]\nname = \"always\"\ncron = \"* * * * *\"\n\
                  for = \"1h\"\ntimezone = \"Europe/Berlin\"\nmin = 3\nmax = 20";
    let proxy = workers(&metric, &format!("{QUEUE}\n{always}")).run();
    proxy.wait_for_size(3);
    let changes = proxy.records("scale");
    let lifted = changes.last().expect("it changed");
    let steps = lifted["steps"].as_array().expect("a list");
    assert!(
        steps.iter().any(|step| step["reason"] == "scheduled" && !step["until"].is_null()),
        "{lifted}"
    );
    assert_eq!((&lifted["min"], &lifted["max"]), (&Value::from(3), &Value::from(20)));
    let shown = &proxy.service("app")["scaling"];
    let bounds = ["min", "max", "effective_min", "effective_max"].map(|key| shown[key].clone());
    assert_eq!(bounds, [1, 6, 3, 20].map(Value::from), "as configured, and as it is now");
}

/// Who waits for a place is a number like others.
#[test]
fn requests_that_wait_are_jobs() {
    let origin = Origin::new().start();
    let proxy = Proxy::new()
        .backend(&origin)
        .service("max_in_flight = 1")
        .toml(
            "[service.app.overload]\nqueue = 100\nqueue_timeout = \"1h\"\n\
             [service.app.orchestrator]\nkind = \"none\"\n\
             [service.app.scaling]\nmax = 10\n\
             [service.app.scaling.queue.line]\nmetric = \"queued\"\nper_backend = 1\n",
        )
        .run();
    let mut clients: Vec<_> = (0..4).map(|_| Connection::open(proxy.address("http"))).collect();
    for client in &mut clients {
        client.send("GET /?delay=1h HTTP/1.1\r\nhost: a\r\n\r\n");
    }
    // One is at the backend. The mean of 15 s takes its time.
    let third = wait_for("three are wanted", || {
        proxy.records("scale").into_iter().find(|record| record["action"]["to"] == 3)
    });
    let formula = third["proposals"][0]["formula"].as_str().unwrap_or_default();
    assert!(formula.ends_with(" jobs ÷ 1 per backend) = 3"), "{third:#}");
}
