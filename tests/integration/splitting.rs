//! A route whose requests go to one of several services, by weight.

use crate::support::{Backend, Connection, Proxy, RawOrigin, Running};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy";

fn split(app: u32, next: u32) -> String {
    format!(
        "split = [{{ service = \"app\", weight = {app} }}, {{ service = \"next\", weight = {next} }}]"
    )
}

/// The services `app` and `next`, one backend each.
fn two(app: &RawOrigin, next: &RawOrigin, route: &str) -> Running {
    let next = format!("[[service.next.backend]]\naddress = \"{}\"", next.address());
    Proxy::new().backend(app).route(route).toml(&next).run()
}

fn ask(proxy: &Running, times: usize) -> Vec<u16> {
    let mut client = Connection::open(proxy.address("http"));
    (0..times).map(|_| client.get("/").status).collect()
}

fn counted(proxy: &Running, service: &str) -> f64 {
    proxy.metric("tidegate_requests_total", &[("service", service), ("route", "app")])
}

#[test]
fn each_request_goes_to_one_of_them_and_counts_there() {
    let (app, next) = (RawOrigin::always(OK), RawOrigin::always(OK));
    let proxy = two(&app, &next, &split(1, 1));
    assert_eq!(ask(&proxy, 100), [200; 100]);
    let (app, next) = (app.requests().len(), next.requests().len());
    // That one of them gets none of a hundred happens once in 2⁹⁹.
    assert!(app > 0 && next > 0 && app + next == 100, "{app} and {next}");
    assert_eq!((counted(&proxy, "app"), counted(&proxy, "next")), (app as f64, next as f64));
    assert_eq!(proxy.metric("tidegate_requests_total", &[]), 100.0);
}

#[test]
fn weights_that_a_reload_changes_count_at_once_and_what_was_counted_stays() {
    let (app, next) = (RawOrigin::always(OK), RawOrigin::always(OK));
    let mut proxy = two(&app, &next, &split(1, 0));
    let asked = |app: &RawOrigin| (app.requests().len(), next.requests().len());
    ask(&proxy, 20);
    assert_eq!(asked(&app), (20, 0));
    let text = |from: String, to: String| {
        move |proxy: Proxy| {
            let text = proxy.text(std::path::Path::new("{dir}"));
            Proxy::new().config(&text.replace(&from, &to))
        }
    };
    assert_eq!(proxy.reload(text(split(1, 0), split(0, 65_535))).status, 200);
    ask(&proxy, 20);
    assert_eq!(asked(&app), (20, 20));
    assert_eq!(proxy.reload(text(split(0, 65_535), "service = \"next\"".to_owned())).status, 200);
    ask(&proxy, 20);
    assert_eq!(asked(&app), (20, 40));
    // Of (route, service), whatever the route says of the service.
    assert_eq!(counted(&proxy, "next"), 40.0);
}

#[test]
fn a_retry_stays_in_its_service() {
    let (app, next) = (RawOrigin::always(BUSY), RawOrigin::always(OK));
    let proxy = two(&app, &next, &split(1, 0));
    assert_eq!(ask(&proxy, 3), [503; 3]);
    assert_eq!((app.requests().len(), next.requests().len()), (3, 0));
}
