//! Sticky sessions: who stays where, what the cookie says and to whom, and that nothing is lost when backends go.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use crate::reloads::accepted;
use crate::support::{
    Answer, Backend, Origin, Proxy, RawOrigin, certificate, curl, get, missing, send, wait_until,
};

const STICKY: &str = "balance = \"round_robin\"\nsticky = { cookie = \"tg\" }";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// `tg=…` as a client sends it back, if the answer has one.
fn cookie(answer: &Answer) -> Option<String> {
    let given = answer.header("set-cookie")?;
    Some(given.split(';').next().unwrap().to_owned())
}

#[track_caller]
fn ask(url: &str, cookie: &str) -> Answer {
    let answer = send("GET", url, &[("cookie", cookie)], b"").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

fn whom(answer: &Answer) -> String {
    answer.header("x-origin-id").unwrap().to_owned()
}

/// A session with one of the backends: its cookie and whose it is.
fn join(url: &str) -> (String, String) {
    let answer = get(url);
    (cookie(&answer).expect("a first answer gives a cookie"), whom(&answer))
}

#[test]
fn a_session_stays_and_its_cookie_is_set_once() {
    let [a, b] = ["a", "b"].map(|id| Origin::new().id(id).start());
    let proxy = Proxy::new().service(STICKY).backend(&a).backend(&b).run();
    let url = proxy.url("/");
    let first = get(&url);
    let text = first.header("set-cookie").unwrap();
    assert!(text.ends_with("; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax"), "{text}");
    let sessions: Vec<_> = (0..4).map(|_| join(&url)).collect();
    let owners: BTreeSet<_> = sessions.iter().map(|(_, id)| id).collect();
    assert_eq!(owners.len(), 2, "who has no session is balanced");
    for (cookie, id) in &sessions {
        for _ in 0..3 {
            let answer = ask(&url, &format!("a=1; {cookie}; b=2"));
            assert_eq!((whom(&answer), answer.header("set-cookie")), (id.clone(), None));
        }
    }
    let key = proxy.directory().join("state/sticky.key");
    assert_eq!(std::fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_backend_sees_other_cookies_only_and_as_they_were() {
    let origin = RawOrigin::always(OK);
    let proxy = Proxy::new().runtime("workers = 1").service(STICKY).backend(&origin).run();
    let url = |n: usize| proxy.url(&format!("/{n}"));
    let given = cookie(&get(&url(0))).unwrap();
    ask(&url(1), &format!("a=\"1, 2\";b=3 ; {given};  tgg=4"));
    ask(&url(2), &given);
    ask(&url(3), "tg=forged; c=5");
    // Whatever connection each came on.
    let seen = (0..origin.connections()).map(|n| origin.received_text(n)).collect::<String>();
    let cookies = |n: usize| -> Vec<&str> {
        let line = format!("GET /{n} HTTP/1.1\r\n");
        let mut requests = seen.split("\r\n\r\n").filter(|request| request.starts_with(&line));
        let lines = requests.next().expect("it came").lines();
        lines.filter(|line| line.to_ascii_lowercase().starts_with("cookie:")).collect()
    };
    assert_eq!(cookies(1), ["cookie: a=\"1, 2\";b=3 ;  tgg=4"]);
    assert_eq!(cookies(2), [""; 0]);
    assert_eq!(cookies(3), ["cookie: c=5"]);
}

#[test]
fn what_is_forged_of_another_service_or_over_is_ignored_and_replaced() {
    let [a, b] = ["a", "b"].map(|id| Origin::new().id(id).start());
    let other = |name: &str, sticky: &str| {
        format!(
            "[[route]]\npath = \"/{name}/\"\nservice = \"{name}\"\n[service.{name}]\n{sticky}\n\
             backend = [{{ address = \"{}\", id = \"a\" }}, {{ address = \"{}\", id = \"b\" }}]\n",
            a.address(),
            b.address()
        )
    };
    let proxy = Proxy::new()
        .runtime("workers = 1")
        .service(STICKY)
        .backend(&a)
        .backend(&b)
        .toml(&other("two", STICKY))
        .toml(&other("short", &STICKY.replace("\"tg\"", "\"tg\", ttl = \"1s\"")))
        .run();
    let url = proxy.url("/");
    let (good, _) = join(&url);
    let forged = match good.strip_suffix('A') {
        Some(start) => format!("{start}B"),
        None => format!("{}A", &good[..good.len() - 1]),
    };
    let foreign = join(&proxy.url("/two/")).0;
    for bad in [&forged, &foreign, "tg=", "tg=AAAA"] {
        // Balanced as if it were not there: by turns.
        let owners: BTreeSet<_> = (0..2)
            .map(|_| {
                let answer = ask(&url, bad);
                assert!(cookie(&answer).is_some_and(|new| new != *bad), "{bad} is replaced");
                whom(&answer)
            })
            .collect();
        assert_eq!(owners.len(), 2, "{bad}");
    }
    let short = proxy.url("/short/");
    let (brief, _) = join(&short);
    wait_until("it is over", || {
        let owners: BTreeSet<_> = (0..4).map(|_| whom(&ask(&short, &brief))).collect();
        owners.len() == 2
    });
}

#[test]
fn a_session_that_goes_on_is_renewed_in_time() {
    let [a, b] = ["a", "b"].map(|id| Origin::new().id(id).start());
    let sticky = STICKY.replace("\"tg\"", "\"tg\", ttl = \"20s\"");
    let proxy = Proxy::new().service(&sticky).backend(&a).backend(&b).run();
    let (first, id) = join(&proxy.url("/"));
    let mut new = None;
    wait_until("half of its time is over", || {
        let answer = ask(&proxy.url("/"), &first);
        assert_eq!(whom(&answer), id);
        new = cookie(&answer);
        new.is_some()
    });
    assert_ne!(new.as_ref(), Some(&first));
    assert_eq!(whom(&ask(&proxy.url("/"), &new.unwrap())), id);
}

#[test]
fn a_session_outlives_a_reload_and_a_restart() {
    let [a, b, c] = ["a", "b", "c"].map(|id| Origin::new().id(id).start());
    let mut proxy = Proxy::new().service(STICKY).backend(&a).backend(&b).run();
    let sessions = [join(&proxy.url("/")), join(&proxy.url("/"))];
    accepted(&proxy.reload(|p| p.backend(&c).service("slow_start = \"0s\"")));
    let stay = |proxy: &crate::support::Running| {
        for (cookie, id) in &sessions {
            let answer = ask(&proxy.url("/"), cookie);
            assert_eq!((&whom(&answer), answer.header("set-cookie")), (id, None));
        }
    };
    stay(&proxy);
    assert!(proxy.stop().success());
    let (directory, configuration, _) = proxy.into_parts();
    let proxy = configuration.start_in(directory);
    wait_until("it is ready again", || proxy.admin("GET", "/readyz").status == 200);
    stay(&proxy);
}

#[test]
fn proxies_with_one_secret_know_each_others_sessions() {
    let [a, b] = ["a", "b"].map(|id| Origin::new().id(id).start());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "a secret of more than 16 bytes\n").unwrap();
    let proxy = |secret: &str| {
        let secret = format!("\"tg\", secret = \"{secret}\"");
        let service = STICKY.replace("\"tg\"", &secret);
        Proxy::new().service(&service).backend(&a).backend(&b).run()
    };
    let first = proxy(&format!("file:{}", file.display()));
    let second = proxy("a secret of more than 16 bytes");
    for (cookie, id) in [join(&first.url("/")), join(&first.url("/"))] {
        let answer = ask(&second.url("/"), &cookie);
        assert_eq!((whom(&answer), answer.header("set-cookie")), (id, None));
    }
    assert!(
        !first.directory().join("state/sticky.key").exists(),
        "none is made that is not needed"
    );
    let shown = get(&first.admin_url("/v1/config")).text();
    assert!(!shown.contains("a secret") && shown.contains("\"secret\":\"***\""), "{shown}");
}

#[test]
fn over_tls_the_cookie_is_for_tls_only() {
    if missing("curl") {
        return;
    }
    let origin = Origin::new().start();
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = certificate(folder.path(), &["localhost"]);
    let table = format!(
        "[[listener]]\nname = \"tls\"\naddress = \"127.0.0.1:0\"\n[[listener.tls.certificate]]\n\
         cert = \"{}\"\nkey = \"{}\"\n",
        cert.display(),
        key.display()
    );
    let proxy = Proxy::new()
        .listener("trusted_proxies = [\"127.0.0.0/8\"]")
        .service(STICKY)
        .backend(&origin)
        .toml(&table)
        .run();
    let url = format!("https://localhost:{}/", proxy.address("tls").port());
    let answer =
        curl(&["--cacert", &cert.display().to_string(), "-D", "-", "-o", "/dev/null", &url]);
    assert!(answer.text().contains("; Secure"), "{}", answer.text());
    let behind = send("GET", &proxy.url("/"), &[("x-forwarded-proto", "https")], b"").unwrap();
    assert!(behind.header("set-cookie").unwrap().ends_with("; Secure"));
}

#[test]
fn the_sessions_of_a_drained_backend_move_on_and_stay_there() {
    let [a, b] = ["a", "b"].map(|id| Origin::new().id(id).start());
    let proxy = Proxy::new().service(STICKY).backend(&a).backend(&b).run();
    let url = proxy.url("/");
    let (old, id) = [join(&url), join(&url)].into_iter().find(|(_, id)| id == "a").unwrap();
    assert_eq!(proxy.admin("POST", "/v1/services/app/backends/a/drain").status, 204);
    let mut new = String::new();
    wait_until("every worker knows", || {
        let answer = ask(&url, &old);
        new = cookie(&answer).unwrap_or_default();
        whom(&answer) != id && !new.is_empty()
    });
    assert_eq!(proxy.admin("POST", "/v1/services/app/backends/a/undrain").status, 204);
    wait_until("it takes requests again", || {
        proxy.service("app")["backends"][0]["state"] == "ready"
    });
    let answer = ask(&url, &new);
    assert_eq!((&*whom(&answer), answer.header("set-cookie")), ("b", None));
}

/// Clients that each go on with their session, one request after the other, until told to stop.
fn under_load(url: &str, change: impl FnOnce(&dyn Fn())) -> usize {
    let (stop, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..6)
            .map(|_| {
                scope.spawn(|| {
                    let mut cookie = join(url).0;
                    while !stop.load(SeqCst) {
                        let answer = ask(url, &cookie);
                        served.fetch_add(1, SeqCst);
                        cookie = self::cookie(&answer).unwrap_or(cookie);
                    }
                })
            })
            .collect();
        let some_more = || {
            let from = served.load(SeqCst);
            let over =
                || served.load(SeqCst) >= from + 60 || clients.iter().any(|c| c.is_finished());
            wait_until("the clients go on", over);
        };
        some_more();
        change(&some_more);
        some_more();
        stop.store(true, SeqCst);
        // Each fails at its first request that does.
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
    served.load(SeqCst)
}

#[test]
fn a_scale_in_and_a_rolling_replacement_lose_no_request_of_a_session() {
    let origins = ["a", "b", "c"].map(|id| Origin::new().id(id).delay("2ms").start());
    let start = Proxy::new().service(STICKY);
    let with =
        |ids: &[usize]| ids.iter().fold(start.clone(), |proxy, &i| proxy.backend(&origins[i]));
    let mut proxy = with(&[0, 1]).run();
    let url = proxy.url("/");
    let served = under_load(&url, |some_more| {
        for next in [&[0, 1, 2][..], &[1, 2], &[2], &[0, 2], &[0]] {
            accepted(&proxy.reload(|_| with(next)));
            some_more();
        }
    });
    assert!(served >= 360, "{served}");
}

#[test]
fn a_scale_in_by_tidegate_itself_loses_no_request_of_a_session() {
    let proxy = Proxy::new()
        .service("sticky = { cookie = \"tg\" }")
        .origins("--delay 2ms --id one", "")
        .scaling(1, 4, "")
        .run();
    let pin = |size: &str| {
        let done = proxy.command(&["scale", "app", size]);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
    };
    pin("4");
    proxy.wait_for_size(4);
    under_load(&proxy.url("/"), |some_more| {
        for size in [2, 1] {
            pin(&size.to_string());
            proxy.wait_for_size(size);
            some_more();
        }
    });
}
