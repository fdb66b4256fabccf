//! A client that shares no code with us: aioquic.

use serde_json::json;

use crate::support::{Origin, Proxy, PyPeer, missing_aioquic};

use super::Site;

#[test]
fn aioquic_gets_the_same_as_others() {
    if missing_aioquic() {
        return;
    }
    let origin = Origin::new().start();
    let site = Site::new(Proxy::new().backend(&origin), "", "");
    let port = site.proxy.address("http").port().to_string();
    let trust = site.trust().display().to_string();
    let seen = PyPeer::run_aioquic("http3_peer.py", &["127.0.0.1", &port, "a.test", &trust]);
    assert_eq!(seen["get"], json!([200, "GET", "/x", true]));
    assert_eq!(seen["post"], json!([200, 3 << 20]));
    assert_eq!(seen["large"], json!([200, 5 << 20]));
    assert_eq!(seen["trailers"], json!([[["x-after", "all"]], "10"]));
    assert_eq!(seen["many"], json!([200, 100]));
    assert_eq!(seen["too_large"], json!(431));
    assert_eq!(seen["malformed"], json!(0x10e));
    assert_eq!(seen["resumed"], json!([true, false]), "resumed, and nothing sent early");
}
