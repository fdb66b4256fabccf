//! WebSocket over HTTP/1.1 and HTTP/2 (RFC 8441), in all combinations, with other people's ends.

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use http::{Request, Response};

use crate::h2::{block_on, connect, get, whole};
use crate::support::{
    Backend, Haproxy, Nginx, Origin, Proxy, PyPeer, RawOrigin, Running, Step, missing,
    missing_module, send, wait_until,
};
use crate::upgrades::{KEY, echoed, frame, idle};

/// What the peers' client says when everything is as without a proxy.
fn all_well(address: std::net::SocketAddr) {
    let said = PyPeer::run("websocket_peer.py", &["call", &address.to_string()]);
    assert_eq!(said["subprotocol"], "chat", "{said}");
    assert_eq!(said["extensions"], serde_json::json!(["permessage-deflate"]), "{said}");
    assert_eq!((&said["text"], &said["host"]), (&"hello".into(), &address.to_string().into()));
    assert!(said["large"] == true && said["parts"] == true, "{said}");
    assert_eq!(said["close"], serde_json::json!([4001, "as asked"]), "{said}");
    assert_eq!(said["refused"], serde_json::json!([403, "not here"]), "{said}");
}

#[test]
fn the_websockets_library_at_both_ends() {
    if missing_module("websockets") {
        return;
    }
    let server = PyPeer::serve("websocket_peer.py");
    let proxy = Proxy::new().backend(&server).run();
    all_well(proxy.address("http"));
    idle(&proxy);
}

#[test]
fn haproxy_opens_them_over_http2() {
    if missing_module("websockets") || missing("haproxy") {
        return;
    }
    let server = PyPeer::serve("websocket_peer.py");
    let proxy = Proxy::new().backend(&server).run();
    let haproxy = Haproxy::start("", &format!("{} proto h2", proxy.address("http")));
    all_well(haproxy.address());
}

#[test]
fn haproxy_takes_them_over_http2() {
    if missing_module("websockets") || missing("haproxy") {
        return;
    }
    let server = PyPeer::serve("websocket_peer.py");
    let behind = Haproxy::start("proto h2", &server.address().to_string());
    let h2c = "[service.app.transport]\nprotocol = \"h2c\"";
    let proxy = Proxy::new().backend(&behind).toml(h2c).run();
    all_well(proxy.address("http"));
    // And over HTTP/2 from end to end.
    let before = Haproxy::start("", &format!("{} proto h2", proxy.address("http")));
    all_well(before.address());
    wait_until("nothing is in flight", || proxy.metric("tidegate_in_flight", &[]) == 0.0);
}

pub type Opened = (Response<RecvStream>, SendStream<Bytes>);

/// An extended CONNECT, after the proxy has said that it takes them.
pub async fn open(send: SendRequest<Bytes>, path: &str, protocol: &str) -> Opened {
    let mut send = send.ready().await.unwrap();
    let (first, _) = send.send_request(get("/"), true).unwrap();
    whole(first.await.unwrap().into_body()).await.unwrap();
    assert!(send.is_extended_connect_protocol_enabled());
    let request = Request::connect(format!("http://a{path}"))
        .header("sec-websocket-version", "13")
        .extension(Protocol::from(protocol))
        .body(())
        .unwrap();
    let (answer, stream) = send.send_request(request, false).unwrap();
    (answer.await.unwrap(), stream)
}

pub async fn read(body: &mut RecvStream, bytes: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < bytes {
        let data = body.data().await.expect("it goes on").unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    all
}

pub async fn read_to_end(body: &mut RecvStream) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        all.extend_from_slice(&data.unwrap());
    }
    all
}

#[test]
fn a_stream_is_a_websocket_until_it_closes() {
    let origin = Origin::new().start();
    let proxy = Proxy::new().backend(&origin).run();
    block_on(async {
        let client = connect(&proxy, &Builder::new()).await;
        let (answer, mut stream) = open(client, "/ws", "websocket").await;
        assert_eq!(answer.status(), 200);
        for name in ["upgrade", "connection", "sec-websocket-accept"] {
            assert!(!answer.headers().contains_key(name), "{name}");
        }
        let mut body = answer.into_body();
        stream.send_data(frame(1, b"hello").into(), false).unwrap();
        assert_eq!(read(&mut body, 15).await, echoed(1, b"hello"));
        assert_eq!(proxy.metric("tidegate_in_flight", &[]), 1.0, "a tunnel is in flight");
        let large = vec![b'x'; 3 << 20];
        stream.send_data(frame(2, &large).into(), false).unwrap();
        assert!(read(&mut body, 10 + large.len()).await == echoed(2, &large));
        stream.send_data(frame(8, b"").into(), false).unwrap();
        assert_eq!(read(&mut body, 10).await, echoed(8, b""));
        let after = read_to_end(&mut body).await;
        assert!(after.is_empty(), "the backend's end is ours");
        stream.send_data(Bytes::new(), true).unwrap();
    });
    idle(&proxy);
    let opened = proxy.metric("tidegate_requests_total", &[("code", "200")]);
    assert_eq!(opened, 2.0);
}

#[test]
fn either_end_of_a_stream_ends_it() {
    let origin = RawOrigin::script(|n| match n {
        0 => vec![Step::ReadHead, Step::Send(NOTHING.into())],
        _ => vec![Step::ReadHead, Step::Send(accepted(&[])), Step::ReadAll],
    });
    let proxy = answering(&origin);
    block_on(async {
        // Only one half is closed: the backend sees the end, and then ends it.
        let client = connect(&proxy, &Builder::new()).await;
        let (answer, stream) = open(client, "/", "websocket").await;
        // It has another key than the one that the script knows.
        assert_eq!(answer.status(), 502);
        drop(stream);
    });
    let origin = Origin::new().start();
    let proxy = Proxy::new().backend(&origin).run();
    for reset in [false, true] {
        block_on(async {
            let client = connect(&proxy, &Builder::new()).await;
            let (answer, mut stream) = open(client, "/ws", "websocket").await;
            let mut body = answer.into_body();
            match reset {
                true => stream.send_reset(h2::Reason::CANCEL),
                false => {
                    stream.send_data(Bytes::new(), true).unwrap();
                    while body.data().await.is_some() {}
                }
            }
        });
        idle(&proxy);
    }
}

#[test]
fn streams_are_drained_like_connections() {
    for (time, cut) in [("1h", false), ("300ms", true)] {
        let mut proxy = Proxy::new()
            .runtime("shutdown_timeout = \"1h\"")
            .origins("--delay 0ms", &format!("tunnel_drain_timeout = \"{time}\""))
            .scaling(1, 1, "")
            .run();
        proxy.wait_for_size(1);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let client = connect(&proxy, &Builder::new()).await;
            let (answer, mut stream) = open(client.clone(), "/ws", "websocket").await;
            let mut body = answer.into_body();
            stream.send_data(frame(1, b"hello").into(), false).unwrap();
            assert_eq!(read(&mut body, 15).await, echoed(1, b"hello"));
            assert_eq!(proxy.metric("tidegate_tunnels", &[("service", "app")]), 1.0);
            proxy.signal(nix::sys::signal::Signal::SIGTERM);
            // GOAWAY: no more streams, and the one that there is goes on.
            let refused = client;
            wait_until("no more are opened", || {
                let ready = refused.clone();
                let asked = futures_util::FutureExt::now_or_never(ready.ready());
                match asked {
                    Some(Ok(mut ready)) => ready.send_request(get("/"), true).is_err(),
                    Some(Err(_)) => true,
                    None => false,
                }
            });
            if cut {
                while let Some(Ok(_)) = body.data().await {}
            } else {
                stream.send_data(frame(1, b"again").into(), false).unwrap();
                assert_eq!(read(&mut body, 15).await, echoed(1, b"again"));
                stream.send_data(frame(8, b"").into(), false).unwrap();
                assert_eq!(read(&mut body, 10).await, echoed(8, b""));
                stream.send_data(Bytes::new(), true).unwrap();
                assert!(read_to_end(&mut body).await.is_empty());
            }
            drop(refused);
        });
        let status = proxy.process.wait();
        assert!(status.success(), "{status}");
        let said = proxy.process.output();
        assert_eq!(said.contains("1 upgraded connections are cut"), cut, "{said}");
    }
}

#[test]
fn a_stream_that_idles_is_closed() {
    let origin = Origin::new().start();
    let proxy =
        Proxy::new().listener("[listener.timeout]\ntunnel = \"300ms\"").backend(&origin).run();
    block_on(async {
        let client = connect(&proxy, &Builder::new()).await;
        let (answer, _stream) = open(client, "/ws", "websocket").await;
        let mut body = answer.into_body();
        while let Some(Ok(_)) = body.data().await {}
    });
    idle(&proxy);
}

pub const NOTHING: &str = "HTTP/1.1 204 No Content\r\n\r\n";

/// A 101 for the key of RFC 6455's example.
fn accepted(more: &[u8]) -> Vec<u8> {
    let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    [head.as_bytes(), more].concat()
}

fn answering(origin: &RawOrigin) -> Running {
    Proxy::new().backend(origin).service("retry = { attempts = 0 }").run()
}

#[test]
fn a_refusal_is_an_ordinary_answer() {
    let no = "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\nx-why: no\r\n\r\nno";
    let origin = RawOrigin::script(move |_| {
        vec![Step::ReadHead, Step::Send(NOTHING.into()), Step::ReadHead, Step::Send(no.into())]
    });
    let proxy = Proxy::new().runtime("workers = 1").backend(&origin).run();
    block_on(async {
        let client = connect(&proxy, &Builder::new()).await;
        let (answer, _stream) = open(client, "/chat?a=b", "websocket").await;
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["x-why"]),
            (403, &"no".parse().unwrap())
        );
        assert_eq!(whole(answer.into_body()).await.unwrap(), b"no");
    });
    let asked = origin.received_text(0).to_lowercase();
    for line in [
        "get /chat?a=b http/1.1\r\n",
        "\r\nhost: a\r\n",
        "\r\nupgrade: websocket\r\n",
        "\r\nconnection: upgrade\r\n",
        "\r\nsec-websocket-version: 13\r\n",
        "\r\nsec-websocket-key: ",
    ] {
        assert!(asked.contains(line), "{line:?} in {asked}");
    }
}

#[test]
fn other_connects_are_refused() {
    let origin = Origin::new().start();
    let proxy = Proxy::new().backend(&origin).run();
    block_on(async {
        let client = connect(&proxy, &Builder::new()).await;
        assert_eq!(open(client.clone(), "/", "connect-udp").await.0.status(), 405);
        let mut client = client.ready().await.unwrap();
        let plain = Request::connect("a:443").body(()).unwrap();
        let (answer, _stream) = client.send_request(plain, false).unwrap();
        assert_eq!(answer.await.unwrap().status(), 405);
    });
}

#[test]
fn a_backend_without_extended_connect_is_a_bad_gateway() {
    if missing("nginx") {
        return;
    }
    let nginx = Nginx::listening("http2", "");
    let h2c = "[service.app.transport]\nprotocol = \"h2c\"";
    let proxy = Proxy::new().backend(&nginx).toml(h2c).run();
    let opening = [
        ("upgrade", "websocket"),
        ("connection", "upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", KEY),
    ];
    let answer = send("GET", &proxy.url("/"), &opening, b"").unwrap();
    let error = answer.header("proxy-status").unwrap_or_default();
    assert_eq!(answer.status, 502, "{answer:?}");
    assert!(error.contains("it takes no WebSocket over HTTP/2"), "{error}");
    assert_eq!(send("GET", &proxy.url("/none"), &[], b"").unwrap().status, 404, "it serves on");
}
