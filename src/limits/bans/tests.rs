//! Bans against a simple model, and what of them is seen when.

use proptest::prelude::*;

use super::*;

fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

fn ban(bans: &Bans, network: &str, now: Micros, seconds: u64) -> bool {
    let name: Arc<str> = "x".into();
    bans.begin(net(network), now, Duration::from_secs(seconds), (&name, &name))
}

fn left(bans: &Bans, address: &str, now: Micros) -> Option<u64> {
    bans.left(address.parse().expect("an address"), || now).map(|left| left.as_secs())
}

fn host(n: u32) -> IpNet {
    IpNet::new(std::net::Ipv4Addr::from(n).into(), 32).expect("a prefix")
}

#[test]
fn a_ban_is_for_its_network_and_its_time() {
    let bans = Bans::default();
    assert_eq!(left(&bans, "10.0.0.1", 0), None);
    assert!(ban(&bans, "10.0.0.0/24", 0, 10) && ban(&bans, "2001:db8::/64", 1, 20));
    bans.publish_rest();
    assert_eq!(left(&bans, "10.0.0.77", 1_000_000), Some(9));
    assert_eq!(left(&bans, "::ffff:10.0.0.77", 1_000_000), Some(9));
    assert_eq!(left(&bans, "10.0.1.1", 0), None);
    assert_eq!(left(&bans, "2001:db8::7", 0), Some(20));
    assert_eq!(left(&bans, "2001:db8:0:1::7", 0), None);
    assert_eq!(left(&bans, "10.0.0.77", 10_000_000), None, "before anybody looked");
    ban(&bans, "10.0.0.77/32", 10, 30);
    assert_eq!(left(&bans, "10.0.0.77", 10), Some(30), "the longest");
}

#[test]
fn beginnings_and_ends_are_told_once() {
    let bans = Bans::default();
    ban(&bans, "10.0.0.1/32", 0, 10);
    ban(&bans, "10.0.0.1/32", 5_000_000, 10);
    let news = bans.news(6_000_000, 9);
    assert_eq!((news.begun.first.len(), news.ended.all), (1, 0));
    assert_eq!(bans.news(14_000_000, 9), News::default(), "it was made longer");
    let news = bans.news(15_000_000, 9);
    assert_eq!((news.begun.all, news.ended.first.len(), bans.active()), (0, 1, 0));
    assert_eq!(bans.begun(), 1);
}

#[test]
fn a_ban_is_lifted_by_its_network_or_an_address_in_it() {
    let bans = Bans::default();
    ban(&bans, "10.0.0.0/24", 0, 10);
    ban(&bans, "10.0.0.9/32", 0, 10);
    ban(&bans, "10.1.0.0/16", 0, 10);
    assert_eq!(bans.all().len(), 3);
    assert_eq!(bans.lift(net("10.0.0.9/32")).len(), 2);
    assert_eq!(bans.lift(net("10.0.0.0/16")).len(), 0);
    assert_eq!(bans.lift(net("10.1.2.3/16")).len(), 1);
    assert_eq!((bans.active(), left(&bans, "10.0.0.9", 0)), (0, None));
}

#[test]
fn the_table_is_bounded_and_its_memory_comes_back() {
    let bans = Bans::default();
    let name: Arc<str> = "x".into();
    let one = |n: u32| bans.begin(host(n), 0, Duration::from_secs(1), (&name, &name));
    assert_eq!((0..MOST as u32 + 50).filter(|n| one(*n)).count(), MOST);
    assert_eq!(bans.active(), MOST);
    assert_eq!(bans.news(2_000_000, 10).ended.all, MOST);
    assert_eq!(bans.shards.iter().map(|shard| lock(shard).capacity()).sum::<usize>(), 0);
    assert!(one(7));
}

#[test]
fn one_ban_is_seen_at_once_and_many_are_within_the_period() {
    let bans = Bans::default();
    let name: Arc<str> = "x".into();
    let seen = || bans.seen.load().len();
    // One a microsecond: each copy is left alone for a microsecond a ban.
    for n in 1..=1000u32 {
        bans.begin(host(n), n.into(), Duration::from_secs(9), (&name, &name));
        assert!(n != 1 || seen() == 1, "the first");
    }
    let copied = seen();
    assert!((500..1000).contains(&copied), "{copied}: each copy is twice the one before");
    bans.publish_rest();
    assert_eq!(seen(), 1000);
    // Above that no worker copies, however long ago the last copy was.
    bans.begin(host(1001), 8_000_000, Duration::from_secs(9), (&name, &name));
    assert_eq!((seen(), left(&bans, "0.0.3.233", 0)), (1000, None));
    bans.publish_rest();
    assert_eq!(left(&bans, "0.0.3.233", 8_000_000), Some(9));
    assert!(!bans.is_changed.load(Acquire));
}

#[test]
fn what_is_banned_while_it_is_published_is_published_in_the_end() {
    let bans = Bans::default();
    let name: Arc<str> = "x".into();
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let (bans, name) = (&bans, &name);
            scope.spawn(move || {
                for n in 0..500 {
                    let network = host(thread << 16 | n);
                    bans.begin(network, n.into(), Duration::from_secs(9), (name, name));
                }
            });
        }
        scope.spawn(|| (0..200).for_each(|_| bans.publish_rest()));
    });
    bans.publish_rest();
    assert_eq!(bans.seen.load().len(), 2000);
}

#[derive(Debug, Clone)]
enum Step {
    Begin(IpNet, u64),
    Lift(IpNet),
    Wait(u64),
    News,
    Publish,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let network =
        (0u32..16, prop_oneof![Just(28u8), Just(30), Just(32)]).prop_map(|(n, length)| {
            IpNet::new(std::net::Ipv4Addr::from(n).into(), length).expect("a prefix").trunc()
        });
    let step = prop_oneof![
        4 => (network.clone(), 1u64..20).prop_map(|(network, lasts)| Step::Begin(network, lasts)),
        1 => network.prop_map(Step::Lift),
        2 => (0u64..10).prop_map(Step::Wait),
        1 => Just(Step::News),
        2 => Just(Step::Publish),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    /// Nobody is refused who is not banned, a ban that was lifted or is over holds for nobody from that moment, and one
    /// that began holds at the latest when the control plane has published.
    #[test]
    fn what_is_seen_is_what_there_is(steps in steps()) {
        let bans = Bans::default();
        let name: Arc<str> = "x".into();
        let mut model: HashMap<IpNet, Micros> = HashMap::new();
        let mut now = 0;
        for step in steps {
            let mut is_published = false;
            match step {
                Step::Begin(network, lasts) => {
                    bans.begin(network, now, Duration::from_micros(lasts), (&name, &name));
                    let until = model.entry(network).or_default();
                    *until = (*until).max(now + lasts);
                }
                Step::Lift(network) => {
                    bans.lift(network);
                    model.retain(|banned, _| match network.prefix_len() {
                        32 => !banned.contains(&network),
                        _ => *banned != network,
                    });
                    is_published = true;
                }
                Step::Wait(by) => now += by,
                Step::News => {
                    bans.news(now, 9);
                    model.retain(|_, until| *until > now);
                }
                Step::Publish => {
                    bans.publish_rest();
                    is_published = true;
                }
            }
            for n in 0u32..16 {
                let address = IpAddr::from(std::net::Ipv4Addr::from(n));
                let under = model.iter().filter(|(banned, _)| banned.contains(&address));
                let until = under.map(|(_, until)| *until).max().filter(|until| *until > now);
                let left = bans.left(address, || now).map(|left| now + left.as_micros() as u64);
                match is_published {
                    true => prop_assert_eq!(left, until),
                    false => prop_assert!(left <= until, "{left:?} {until:?}"),
                }
            }
        }
    }
}
