//! Against servers of a few lines here; real ones are in the integration tests.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::config::types::{Url, User};

const LIMIT: Duration = Duration::from_secs(60);

/// A server that answers each connection's first bytes with the next of these; gives its URL.
async fn server(answers: Vec<String>) -> (Url, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let port = listener.local_addr().expect("bound").port();
    let at: Url = format!("http://127.0.0.1:{port}").parse().expect("a URL");
    let task = tokio::spawn(async move {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut bytes = vec![0; 4096];
            let n = stream.read(&mut bytes).await.unwrap_or(0);
            asked.push(String::from_utf8_lossy(&bytes[..n]).into_owned());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
        asked
    });
    (at, task)
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn a_number_in_a_document() {
    let body = r#"{"a": {"messages": 431, "age": "7.5"}, "text": "many"}"#;
    let (mut at, asked) =
        server(vec![answer("200 OK", body), answer("200 OK", body), answer("503 No", "")]).await;
    at.user = Some(User { name: "guest".to_owned(), password: "word".to_owned() });
    let reading = http::json(&at, "/a/messages", Some("/a/age"), LIMIT).await.expect("a number");
    assert_eq!(reading, Reading { value: 431.0, oldest: Some(7.5) });
    assert!(matches!(http::json(&at, "/text", None, LIMIT).await, Err(SignalError::NoNumber(_))));
    assert!(matches!(http::json(&at, "", None, LIMIT).await, Err(SignalError::Status(503))));
    let asked = asked.await.expect("no panic");
    assert!(asked[0].contains("authorization: Basic Z3Vlc3Q6d29yZA==\r\n"), "{asked:?}");
}

#[tokio::test]
async fn one_number_of_prometheus_and_no_more() {
    let vector = |series: &str| {
        answer(
            "200 OK",
            &format!(
                r#"{{"status":"success","data":{{"resultType":"vector","result":[{series}]}}}}"#
            ),
        )
    };
    let one = r#"{"metric":{},"value":[1700000000.1,"0.25"]}"#;
    let nan = r#"{"metric":{},"value":[1700000000.1,"NaN"]}"#;
    let error = answer("400 Bad Request", r#"{"status":"error","error":"parse error"}"#);
    let (at, asked) =
        server(vec![vector(one), vector(""), vector(&format!("{one},{one}")), vector(nan), error])
            .await;
    let query = r#"sum(rate(x{a="b"}[1m]))"#;
    let reading = http::prometheus(&at, query, LIMIT).await.expect("a number");
    assert_eq!(reading.value, 0.25);
    for expected in ["no series", "2 series", "no number", "parse error"] {
        let error = http::prometheus(&at, query, LIMIT).await.expect_err("nothing").to_string();
        assert!(error.contains(expected), "{error}");
    }
    let asked = asked.await.expect("no panic");
    assert!(asked[0].starts_with("GET /api/v1/query?query=sum%28rate%28x%7Ba"), "{asked:?}");
}

#[tokio::test]
async fn a_list_and_what_is_none() {
    let answers = [":431\r\n", "-WRONGTYPE not a list\r\n", ""].map(str::to_owned).to_vec();
    let (at, asked) = server(answers).await;
    let reading = redis::list_length(&at, 0, "celery").await.expect("a length");
    assert_eq!(reading.value, 431.0);
    for expected in ["WRONGTYPE", "ended"] {
        let error = redis::list_length(&at, 0, "celery").await.expect_err("none").to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(asked.await.expect("no panic")[0], "*2\r\n$4\r\nLLEN\r\n$6\r\ncelery\r\n");
}

#[tokio::test]
async fn a_value_lasts_until_it_is_stale() {
    let (at, _asked) = server(vec![":5\r\n".to_owned()]).await;
    let source = MetricSource::RedisList { at, database: 0, key: "jobs".to_owned() };
    let metric = Arc::new(ExternalMetric {
        name: "jobs".into(),
        source,
        interval: Duration::from_secs(3600),
        timeout: Duration::from_secs(60),
        stale_after: Duration::from_secs(45),
    });
    let clock = Clock::real();
    let signals = Signals::default();
    signals.follow(std::slice::from_ref(&metric), &clock);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    let (reading, age) = loop {
        if let Some(read) = signals.read("jobs", clock.now()) {
            break read;
        }
        assert!(tokio::time::Instant::now() < deadline, "no value came");
        tokio::task::yield_now().await;
    };
    assert_eq!(reading.value, 5.0);
    let fresh = clock.now() - age.as_micros() as u64;
    assert!(signals.read("jobs", fresh + 44_000_000).is_some());
    assert!(signals.read("jobs", fresh + 46_000_000).is_none());
    // The same configuration leaves it alone; without it there is no value.
    signals.follow(std::slice::from_ref(&metric), &clock);
    assert!(signals.read("jobs", fresh).is_some());
    signals.follow(&[], &clock);
    assert!(signals.read("jobs", fresh).is_none());
}
