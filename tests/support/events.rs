//! What a running proxy tells: its events, followed from the stream of the admin API.

use std::io::{BufRead, BufReader, Write};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::{Running, connect, wait_for};

/// All events since it was made, also while the proxy ends. Its thread ends with the stream.
pub struct Events {
    all: Arc<Mutex<Vec<Value>>>,
}

impl Events {
    /// Follows the events of a proxy. What happens after this returned is seen.
    pub fn of(proxy: &Running) -> Self {
        let mut stream = connect(proxy.admin_address()).expect("the admin accepts");
        // The stream is quiet as long as nothing happens.
        stream.set_read_timeout(None).expect("a plain socket");
        write!(stream, "GET /v1/events HTTP/1.1\r\nhost: {}\r\n\r\n", proxy.admin_address())
            .expect("the admin reads");
        let mut lines = BufReader::new(stream).lines();
        // The first comment goes out with the subscription.
        for line in lines.by_ref() {
            if line.expect("the admin answers").starts_with(':') {
                break;
            }
        }
        let all = Arc::<Mutex<Vec<Value>>>::default();
        let ours = all.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let Some(json) = line.strip_prefix("data: ") else { continue };
                let event = serde_json::from_str(json).expect("the data of an event is JSON");
                ours.lock().expect("no holder panics").push(event);
            }
        });
        Self { all }
    }

    /// The data of all events of that name so far: `crash`, `drain`, `scaled`…
    pub fn named(&self, name: &str) -> Vec<Value> {
        let all = self.all.lock().expect("no holder panics");
        all.iter()
            .map(|event| &event["data"])
            .filter(|data| data["kind"] == name)
            .cloned()
            .collect()
    }

    /// Waits for one of that name that is as wanted.
    #[track_caller]
    pub fn wait(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        wait_for(&format!("an event {name}"), || self.named(name).into_iter().find(|e| wanted(e)))
    }
}
