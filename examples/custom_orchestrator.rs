//! An orchestrator of one's own: each backend is a thread of this program with its own port.
//! `cargo run --example custom_orchestrator`, then `curl http://127.0.0.1:8080/` says which one
//! answered, and `/end` ends one, which is replaced.
use axum::{Router, routing::get};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, future::ready, stream::repeat};
use std::{io, mem::replace, sync::Arc, sync::Mutex, sync::Weak, time::Duration};
use tidegate::orchestrator::{InstanceState::*, OrchestratorError as Failed, *};
use tokio::{net::TcpListener, runtime::Builder, sync::Notify};

/// Runs `examples/custom_orchestrator.toml`, or what TIDEGATE_CONFIG names.
pub fn main() -> std::process::ExitCode {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/custom_orchestrator.toml");
    let build = |_: Context| Ok(Arc::<Threads>::default() as Arc<dyn Orchestrator>);
    let builder = tidegate::Builder::new().orchestrator("threads", build).expect("a new name");
    builder.run(std::env::var("TIDEGATE_CONFIG").unwrap_or(file.to_owned()))
}
/// The last plan's generation and size, and each instance with what ends its thread.
#[derive(Default)]
pub struct Threads(Mutex<(u64, u32, Backends)>);
type Backends = Vec<(Instance, Weak<Notify>)>; // The thread is gone when the latter is.
type Answer<'a, T> = BoxFuture<'a, Result<T, Failed>>;
impl Orchestrator for Threads {
    fn capabilities(&self) -> Capabilities {
        Capabilities { victims: Victims::Exact, usage: false, outlives_us: false }
    }
    fn list(&self) -> Answer<'_, Vec<Instance>> {
        let (_, wanted, all) = &mut *self.0.lock().expect("no holder panics");
        let gone = all.extract_if(.., |(_, end)| end.strong_count() == 0).map(|(i, _)| i);
        let exit = |i| Instance { state: Exited("its thread ended".into()), ..i };
        let mut listed: Vec<_> = gone.filter(Instance::is_running).map(exit).collect();
        let _ = fill(*wanted, all); // What fails is tried again at the next look.
        listed.extend(all.iter().map(|(i, _)| i.clone()));
        ready(Ok(listed)).boxed()
    }
    fn changed(&self) -> BoxFuture<'_, ()> {
        tokio::time::sleep(Duration::from_millis(100)).boxed() // Simple: one looks often.
    }
    fn apply(&self, Plan { generation: got, desired, remove }: Plan) -> Answer<'_, Applied> {
        let (applied, wanted, all) = &mut *self.0.lock().expect("no holder panics");
        if got < *applied {
            return ready(Err(Failed::Stale { got, applied: *applied })).boxed();
        }
        (*applied, *wanted) = (got, desired);
        let named = all.iter_mut().filter(|(i, _)| remove.contains(&i.id));
        let (stopping, held_back) = (named.filter_map(stop).collect(), None);
        ready(fill(desired, all).map(|started| Applied { started, stopping, held_back })).boxed()
    }
    fn shutdown(&self, _: bool) -> Answer<'_, ()> {
        let over = (u64::MAX, 0, Vec::new()); // No plan is later.
        let (.., mut all) = replace(&mut *self.0.lock().expect("no holder panics"), over);
        all.iter_mut().for_each(|one| drop(stop(one)));
        let there = move |_: &()| ready(all.iter().any(|(_, end)| end.strong_count() > 0));
        let looks = repeat(()).then(|()| self.changed()).take_while(there);
        looks.for_each(ready).map(Ok).boxed()
    }
}
fn fill(wanted: u32, all: &mut Backends) -> Result<Vec<InstanceId>, Failed> {
    let live = all.iter().filter(|(i, _)| i.is_running()).count() as u32;
    let start = |_| {
        let (id, end) = (InstanceId::from(format!("{:x}", fastrand::u64(..))), Arc::default());
        let socket = std::net::TcpListener::bind("127.0.0.1:0")?;
        socket.set_nonblocking(true)?;
        all.push((Instance::started(id.clone(), socket.local_addr()?), Arc::downgrade(&end)));
        let (own, server) = (Builder::new_current_thread, serve(socket, id.to_string(), end));
        std::thread::Builder::new().spawn(move || own().enable_all().build()?.block_on(server))?;
        Ok(id)
    };
    (live..wanted).map(start).collect()
}
fn stop((instance, end): &mut (Instance, Weak<Notify>)) -> Option<InstanceId> {
    end.upgrade()?.notify_one(); // It finishes the requests it is at.
    (replace(&mut instance.state, Stopping) == Running).then(|| instance.id.clone())
}
async fn serve(socket: std::net::TcpListener, id: String, end: Arc<Notify>) -> io::Result<()> {
    let ended = end.clone();
    let app = Router::new().route("/end", get(async move || end.notify_one()));
    let server = axum::serve(TcpListener::from_std(socket)?, app.fallback(async || id));
    server.with_graceful_shutdown(async move { ended.notified().await }).await
}
