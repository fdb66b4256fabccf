//! Which backends are near.

use super::*;

#[test]
fn the_own_zone_is_near_and_where_nobody_is_in_it_all_are() {
    let mut service = Service::clone(&service(&[("a", 1), ("b", 2), ("c", 3)]));
    service.backends[0].zone = Some("x".into());
    service.backends[1].zone = Some("y".into());
    let service = Arc::new(service);
    let mut registry = Registry::new(Clock::manual(SystemTime::UNIX_EPOCH), 1);
    for (zone, near) in [
        (None, [true, true, true]),
        (Some("x"), [true, false, false]),
        (Some("y"), [false, true, false]),
        (Some("z"), [true, true, true]),
    ] {
        registry.set_zone(zone.map(Arc::from));
        registry.configure(&service);
        for (id, port) in [("a", 1), ("b", 2), ("c", 3)] {
            registry.resolved("app", id, ([127, 0, 0, 1], port).into());
        }
        let view = registry.pool_mut("app").expect("the service").view();
        let is_near: Vec<_> = view.backends.iter().map(|m| m.near).collect();
        assert_eq!(is_near, near, "{zone:?}");
    }
}
