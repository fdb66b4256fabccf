//! Answers that go on: events, and clients that read nothing of them.

use super::*;

#[tokio::test]
async fn events_come_as_they_happen_and_a_lag_is_told() {
    let admin = run();
    let mut stream = BufReader::new(TcpStream::connect(admin.address).await.unwrap()).lines();
    let asked = request("GET /v1/events", &[], "");
    stream.get_mut().write_all(asked.as_bytes()).await.unwrap();
    let mut next = async |prefix: &str| loop {
        let line = soon(stream.next_line()).await.unwrap().expect("the stream goes on");
        if line.starts_with(prefix) {
            return line;
        }
    };
    next(": tidegate").await;
    admin.source.events.send(Fake::event(1)).unwrap();
    assert_eq!(next("event:").await, "event: decision");
    let data = next("data:").await;
    let event: view::Event = serde_json::from_str(&data["data: ".len()..]).unwrap();
    assert_eq!(event, *Fake::event(1));

    // The server cannot run between these on this one thread; its channel holds four.
    for id in 2..=11 {
        admin.source.events.send(Fake::event(id)).unwrap();
    }
    assert_eq!(next("event:").await, "event: lagged");
    assert_eq!(next("data:").await, "data: {\"missed\":6}");
    assert_eq!(next("id:").await, "id: 8");

    admin.stop.send(()).unwrap();
    soon(admin.serving).await.unwrap();
    while soon(stream.next_line()).await.unwrap().is_some() {}
}

#[tokio::test]
async fn clients_that_read_nothing_do_not_keep_others_from_being_answered() {
    let source = Fake { metrics_bytes: 16 << 20, ..Fake::new() };
    let admin = run_with(source, AdminListen::Tcp("127.0.0.1:0".parse().unwrap()));
    let mut blocked = Vec::new();
    for _ in 0..8 {
        let mut client = TcpStream::connect(admin.address).await.unwrap();
        client.write_all(request("GET /metrics", &[], "").as_bytes()).await.unwrap();
        // The first byte says that the answer is on its way; no more is read.
        soon(client.read_exact(&mut [0])).await.unwrap();
        blocked.push(client);
    }
    let hanging = TcpStream::connect(admin.address).await.unwrap();
    let drain = request("POST /v1/services/app/backends/hangs/drain", &[JSON], "");
    let hanging = tokio::spawn(exchange(hanging, drain));
    assert_eq!(admin.get("/v1/status").await.status, 200);
    admin.stop.send(()).unwrap();
    soon(admin.serving).await.unwrap();
    hanging.abort();
}
