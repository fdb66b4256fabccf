//! Who waits for a place is told when there may be one.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::task::{Context, Wake, Waker};

use super::*;
use crate::snapshot::Member;
use crate::upstream::admission;
use crate::upstream::limit::Terms;
use crate::upstream::queue::Line;

#[derive(Default)]
struct Count(AtomicU32);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// While the others are full, all that wait would go to it.
#[test]
fn a_backend_that_joins_may_have_as_much_as_the_others() {
    let mut world = World::new();
    world.running(&["a", "b", "c"]);
    let limits = |world: &mut World| {
        let of = |member: &Member| (member.backend.id.to_string(), member.backend.limit.most());
        world.view().backends.iter().map(of).collect::<BTreeMap<_, _>>()
    };
    assert!(limits(&mut world).into_values().all(|most| most == 0), "nothing was learned");
    let view = world.view();
    for (member, most) in view.backends.iter().zip([3, 7, 9]) {
        member.backend.limit.set(Terms { most, low: 2 });
    }
    view.admission.set(admission::Terms { rate: 100.0, places: 19, dropped: 0.0 });
    world.running(&["a", "b", "c", "d"]);
    assert_eq!(limits(&mut world)["d"], 7);
    view.admission.set(admission::Terms { rate: f64::INFINITY, places: 0, dropped: 0.0 });
    world.running(&["a", "b", "c", "d", "e"]);
    assert_eq!(limits(&mut world)["e"], 0, "no limit is learned any more");
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
