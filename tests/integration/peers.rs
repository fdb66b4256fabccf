//! nginx behind the proxy, curl before it: what two programs that are not ours make of it.

use aws_lc_rs::digest;

use crate::support::{Nginx, Origin, Proxy, Running, curl, missing, wait_until};

const LARGE: usize = 64 << 20;

/// Bytes that do not repeat within what any buffer holds.
fn noise(bytes: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut all = vec![0; bytes];
    rng.fill(&mut all);
    all
}

fn hash(bytes: &[u8]) -> String {
    digest::digest(&digest::SHA256, bytes).as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

fn before_nginx(server: &str) -> (Nginx, Running) {
    let nginx = Nginx::start(server);
    let proxy = Proxy::new().backend(&nginx).route("max_body = \"0\"").run();
    (nginx, proxy)
}

#[track_caller]
fn idle(proxy: &Running) {
    wait_until("nothing is in flight", || {
        proxy.metric("tidegate_in_flight", &[]) == 0.0
            && proxy.metric("tidegate_backend_in_flight", &[]) == 0.0
    });
}

#[test]
fn a_large_download_arrives_whole_over_both_protocols() {
    if missing("nginx") || missing("curl") {
        return;
    }
    let (nginx, proxy) = before_nginx("");
    let content = noise(LARGE);
    nginx.file("large", &content);
    for protocol in ["--http1.1", "--http2-prior-knowledge"] {
        let output = curl(&[protocol, &proxy.url("/large")]);
        assert_eq!((output.code, output.stdout.len()), (Some(0), LARGE), "{}", output.stderr);
        assert!(output.stdout == content, "the content differs over {protocol}");
    }
    idle(&proxy);
}

#[test]
fn a_large_upload_arrives_whole_with_a_length_and_in_chunks() {
    if missing("curl") {
        return;
    }
    let origin = Origin::new().start();
    let proxy = Proxy::new().backend(&origin).route("max_body = \"0\"").run();
    let content = noise(LARGE);
    let file = proxy.directory().join("large");
    std::fs::write(&file, &content).unwrap();
    let (file, url) = (file.display().to_string(), proxy.url("/"));
    let ways: [&[&str]; 3] = [
        &["--http1.1"],
        &["--http1.1", "-H", "transfer-encoding: chunked"],
        &["--http2-prior-knowledge"],
    ];
    for way in ways {
        let output = curl(&[way, &["-T", &file, &url]].concat());
        assert_eq!(output.code, Some(0), "{way:?}: {}", output.stderr);
        let echo: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(echo["body"]["bytes"], LARGE, "{way:?}");
        assert_eq!(echo["body"]["sha256"], hash(&content), "{way:?}");
    }
    idle(&proxy);
}

#[test]
fn nginx_reads_uploads_and_curl_sees_chunks() {
    if missing("nginx") || missing("curl") {
        return;
    }
    // SSI makes nginx answer in chunks.
    let (nginx, proxy) = before_nginx("location /ssi/ { alias files/; ssi on; ssi_types *; }");
    nginx.file("page", b"<!--# echo var=\"request_method\" -->!");
    let output = curl(&["-i", &proxy.url("/ssi/page")]);
    let text = output.text();
    assert!(text.contains("transfer-encoding: chunked"), "{text} {}", nginx.output());
    assert!(text.ends_with("GET!"), "{text}");
    let file = proxy.directory().join("upload");
    std::fs::write(&file, noise(300_000)).unwrap();
    let output = curl(&["-T", &file.display().to_string(), &proxy.url("/upload")]);
    assert_eq!(output.text(), "received 300000", "{}", output.stderr);
}

#[test]
fn answers_without_a_body_have_none() {
    if missing("nginx") || missing("curl") {
        return;
    }
    let (nginx, proxy) = before_nginx("location = /nothing { return 204; }");
    nginx.file("a.txt", b"from a file");
    let write_out = "%{http_code} %header{content-length} %header{etag} %{num_connects} ";
    let both = |first: &[&str], second: &str| {
        // Two requests on one connection: a body too much or too little would break the second.
        let output = curl(&[&["-s", "-w", write_out], first, &[&proxy.url(second)]].concat());
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        output.text()
    };
    let head = both(&["-o", "/dev/null", "-I", &proxy.url("/a.txt")], "/a.txt");
    let etag = head.split(' ').nth(2).unwrap().to_owned();
    assert!(head.starts_with("200 11 \"") && head.contains(" 1 "), "{head}");
    let nothing = both(&["-o", "/dev/null", &proxy.url("/nothing")], "/a.txt");
    assert!(nothing.starts_with("204  ") && nothing.contains("from a file200 11"), "{nothing}");
    assert!(nothing.ends_with(" 0 "), "the connection is used again: {nothing}");
    let unchanged = format!("if-none-match: {etag}");
    let unchanged = both(&["-H", &unchanged, &proxy.url("/a.txt")], "/a.txt");
    assert_eq!(unchanged.matches("304 ").count(), 2, "{unchanged}");
    assert!(!unchanged.contains("from a file"), "{unchanged}");
}

#[test]
fn curl_expects_100_and_gets_it() {
    if missing("curl") {
        return;
    }
    let origin = Origin::new().start();
    let proxy = Proxy::new().backend(&origin).run();
    let file = proxy.directory().join("upload");
    std::fs::write(&file, noise(2 << 20)).unwrap();
    let data = format!("@{}", file.display());
    // curl would send the body after a second even without it, so the log has to show it.
    let arguments = ["-v", "-H", "expect: 100-continue", "--expect100-timeout", "50"];
    let output = curl(&[&arguments[..], &["--data-binary", &data, &proxy.url("/")]].concat());
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let echo: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(echo["body"]["bytes"], 2 << 20);
    assert!(output.stderr.contains("< HTTP/1.1 100 Continue"), "{}", output.stderr);
}

#[test]
fn a_client_of_http_1_0_gets_no_chunks() {
    if missing("curl") {
        return;
    }
    let origin = Origin::new().start();
    let proxy = Proxy::new().backend(&origin).run();
    let output = curl(&["-i", "--http1.0", &proxy.url("/?chunked&size=100000")]);
    let text = output.text();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(!head.to_lowercase().contains("transfer-encoding"), "{head}");
    assert_eq!((output.code, body.len()), (Some(0), 100_000), "{}", output.stderr);
}
