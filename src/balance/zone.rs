//! Zones: how much of the traffic stays in this proxy's own zone.
//!
//! A request that leaves its zone is slower and, at many hosters, paid for. So it stays, unless the own zone
//! cannot serve it well. The share that stays is the product of two, for two reasons to leave:
//!
//! * **Health.** `min(1, 1.4 · available ÷ ready)` by weight, for each side; where both sides together come to less
//!   than 1 they share in proportion. This is Envoy's overprovisioning: pools have some spare capacity, so
//!   nobody leaves for one backend of four, and beyond that the missing part leaves.
//! * **Load.** As long as the own backends have at most `2 · others + 2` requests in flight each, all stays. The
//!   two more let a quiet pool be, where counts are small numbers and say nothing; Buoyant's HAZL begins at two
//!   in flight as well. Above it the share is that bound ÷ what they have: the further over, the more leaves,
//!   and as it does the share comes back. There is no threshold that sends everybody at once, which would only
//!   carry the crowd from zone to zone.
//!
//! What is full (`max_in_flight`) on one side goes to the other; so does all that a side without anybody available
//! should get. A retry goes anywhere, by weight: what failed here may fail here again. `hash`, both `ip_hash` and
//! sticky sessions know no zones, as their backend is theirs wherever it is; nor do backups.

/// How one side stands, by the last count.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Standing {
    pub(super) available: u32,
    pub(super) available_weight: u64,
    /// Healthy or not; draining and starting ones take no part.
    pub(super) ready_weight: u64,
    /// Of the available ones.
    pub(super) in_flight: u64,
}

/// What a zone can lose before traffic leaves it: 1 − 1 ÷ 1.4 = 29 %.
const OVERPROVISIONING: f64 = 1.4;
/// How many times the others' requests in flight own backends may have.
const BUSIER: f64 = 2.0;
/// And so many more.
const MORE: f64 = 2.0;

/// The part of new requests that stays in the own zone, 0..=1.
pub(super) fn own_share(own: Standing, others: Standing) -> f64 {
    let (health, elsewhere) = (own.health(), others.health());
    if health == 0.0 || elsewhere == 0.0 {
        return if health > 0.0 { 1.0 } else { 0.0 };
    }
    let share = health / (health + elsewhere).min(1.0);
    let backends = f64::from(own.available + others.available);
    let weight = (own.available_weight + others.available_weight) as f64 / backends;
    let bound = BUSIER * others.load(weight) + MORE;
    share.min(1.0) * (bound / own.load(weight).max(bound))
}

/// The part of retries that goes to the own zone: what it has of all that is available.
pub(super) fn retry_share(own: Standing, others: Standing) -> f64 {
    let all = own.available_weight + others.available_weight;
    own.available_weight as f64 / all.max(1) as f64
}

impl Standing {
    fn health(self) -> f64 {
        let available = self.available_weight as f64 / self.ready_weight.max(1) as f64;
        (OVERPROVISIONING * available).min(1.0)
    }

    /// Requests in flight for each backend of this weight.
    fn load(self, weight: f64) -> f64 {
        self.in_flight as f64 * weight / self.available_weight.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn standing(available: u32, ready: u32, in_flight: u64) -> Standing {
        let (available_weight, ready_weight) = (available.into(), ready.into());
        Standing { available, available_weight, ready_weight, in_flight }
    }

    fn share(own: (u32, u32, u64), others: (u32, u32, u64)) -> f64 {
        let of = |(available, ready, in_flight)| standing(available, ready, in_flight);
        own_share(of(own), of(others))
    }

    #[track_caller]
    fn near(got: f64, expected: f64) {
        assert!((got - expected).abs() < 1e-9, "{got} for {expected}");
    }

    #[test]
    fn health_lets_the_missing_part_leave_beyond_what_is_spare() {
        near(share((4, 4, 0), (4, 4, 0)), 1.0);
        near(share((3, 4, 0), (4, 4, 0)), 1.0);
        near(share((2, 4, 0), (4, 4, 0)), 0.7);
        near(share((1, 4, 0), (4, 4, 0)), 0.35);
        near(share((0, 4, 0), (1, 4, 0)), 0.0);
        near(share((1, 4, 0), (0, 4, 0)), 1.0);
        // 0.35 and 0.35: nobody has room for all of it.
        near(share((1, 4, 0), (1, 4, 0)), 0.5);
        near(share((0, 4, 0), (0, 4, 0)), 0.0);
    }

    #[test]
    fn load_lets_the_crowd_leave_and_quiet_zones_be() {
        near(share((2, 2, 2), (2, 2, 0)), 1.0);
        near(share((2, 2, 10), (2, 2, 4)), 1.0);
        near(share((2, 2, 20), (2, 2, 4)), 0.6);
        near(share((2, 2, 40), (2, 2, 0)), 0.1);
        // Four small ones have what one large one of their weight has.
        let small = standing(4, 4, 22);
        let large = Standing { available: 1, available_weight: 4, ready_weight: 4, in_flight: 10 };
        near(own_share(small, large), 1.0);
    }

    #[test]
    fn retries_go_by_what_is_there() {
        near(retry_share(standing(1, 4, 9), standing(3, 4, 0)), 0.25);
        near(retry_share(standing(0, 4, 0), standing(0, 4, 0)), 0.0);
    }

    fn any_standing() -> impl Strategy<Value = Standing> {
        (0_u32..50, 0_u32..50, 0_u64..1000).prop_map(|(available, sick, in_flight)| {
            standing(available, available + sick, in_flight)
        })
    }

    proptest! {
        #[test]
        fn it_is_a_share_and_more_load_or_less_health_never_keeps_more(
            own in any_standing(), others in any_standing(), more in 1_u64..100,
        ) {
            let share = own_share(own, others);
            prop_assert!((0.0..=1.0).contains(&share), "{share}");
            let busier = Standing { in_flight: own.in_flight + more, ..own };
            prop_assert!(own_share(busier, others) <= share);
            let sicker = Standing { ready_weight: own.ready_weight + more, ..own };
            prop_assert!(own_share(sicker, others) <= share);
            let idler = Standing { in_flight: others.in_flight + more, ..others };
            prop_assert!(own_share(own, idler) >= share);
            if own.available > 0 && others.available == 0 {
                prop_assert_eq!(share, 1.0);
            }
        }
    }
}
