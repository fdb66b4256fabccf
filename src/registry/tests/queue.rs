//! Who waits for a place is told when there may be one.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::task::{Context, Wake, Waker};

use super::*;
use crate::upstream::queue::Line;

#[derive(Default)]
struct Count(AtomicU32);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn a_backend_that_becomes_ready_or_healthy_wakes_who_waits() {
    let mut world = World::new();
    world.running(&["a"]);
    let line = Line::new(world.view().queue.clone(), 0);
    let waiting = line.join(1, 0, false, 0).expect("there is room");
    let woken = Arc::new(Count::default());
    let waker = Waker::from(woken.clone());
    let asks = || assert!(waiting.poll_turn(&mut Context::from_waker(&waker)));
    asks();
    world.pass("a");
    assert_eq!(woken.0.load(SeqCst), 1, "it is ready");
    asks();
    world.pass("a");
    world.fail("a");
    assert_eq!(woken.0.load(SeqCst), 1, "nothing got better");
    world.pass("a");
    assert_eq!(woken.0.load(SeqCst), 2, "it is healthy again");
    assert_eq!(world.registry.pool("app").map(Pool::queued), Some(1));
}
