//! Point 5: TERM under load, over HTTP/1.1 and HTTP/2, with and without TLS.

use std::time::Instant;

use nix::sys::signal::Signal::SIGTERM;
use tidegate::load::{Cause, Protocol};

use super::support::{Load, Proxy, certificate, gets, lives};
use super::{Extent, Table, completed, failed};

pub fn run(extent: Extent, table: &mut Table) {
    let keys = tempfile::tempdir().expect("a temporary directory");
    let (chain, key) = certificate(keys.path(), &["localhost"]);
    let tls = format!(
        "[[listener]]\nname = \"https\"\naddress = \"127.0.0.1:0\"\n[[listener.tls.certificate]]\n\
         cert = \"{}\"\nkey = \"{}\"\n",
        chain.display(),
        key.display()
    );
    let mut proxy = Proxy::new().origins("--delay 40ms", "").scaling(2, 2, "").toml(&tls).run();
    proxy.wait_for_size(2);
    let plain = proxy.url("/");
    let secure = format!("https://localhost:{}/", proxy.address("https").port());
    let loads: Vec<Load> = [&plain, &secure]
        .into_iter()
        .flat_map(|url| [Protocol::Http1, Protocol::Http2].map(|p| gets(url, 50.0, p)))
        .map(Load::start)
        .collect();
    std::thread::sleep(extent.calm);
    let children = proxy.process.descendants();
    proxy.signal(SIGTERM);
    let told = Instant::now();
    let status = proxy.process.wait();
    table.time(5, "from TERM to the exit", told.elapsed(), None);
    let code = status.code().map_or("signal".to_owned(), |code| code.to_string());
    table.row(5, "exit code", code, "0".into(), Some(status.success()));
    let left = children.iter().filter(|pid| lives(**pid)).count();
    table.count(5, "processes left", left as u64, Some(0));
    let reports: Vec<_> = loads.into_iter().map(Load::finish).collect();
    let what = format!("failed of {} requests, h1, h2, with and without TLS", completed(&reports));
    table.count(5, &what, failed(&reports), Some(0));
    let refused = |report: &tidegate::load::Report| {
        report.not_connected.get(&Cause::Refused).copied().unwrap_or(0)
    };
    table.count(5, "refused after the close", reports.iter().map(refused).sum(), None);
}
