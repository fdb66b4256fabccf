//! Active health checks: one task a backend, run once for the process and not per worker.
//!
//! A task asks, lets [`judge::Judge`] count, and reports to a [`Sink`]. What a verdict means for
//! a backend's life is the registry's business; ejection on live traffic is left to outlier
//! detection.

mod grpc;
pub mod judge;
pub mod probe;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::config::types::{Address, Check, Health, Protocol, ProxyHeader};
use crate::tls::origin::OriginClient;
use crate::upstream::hold::Hold;
use crate::upstream::proxy_header;
use crate::upstream::socket::Target;
use judge::{Judge, Thresholds, Verdict};
use probe::Failure;

/// Who is told what checks say. Must not block.
pub trait Sink: Send + Sync + 'static {
    /// The backend `uid` changed sides.
    fn verdict(&self, uid: u64, verdict: Verdict, why: Option<String>);
    /// One check passed and changed nothing.
    fn passed(&self, uid: u64);
    /// One check failed and changed nothing.
    fn failed(&self, uid: u64, why: &str);
}

/// What is checked, and how.
pub struct Checked {
    pub uid: u64,
    pub address: Address,
    /// Sent as Host unless the configuration names one.
    pub authority: http::HeaderValue,
    pub check: Check,
    pub health: Health,
    /// It takes no requests before its first pass.
    pub starting: bool,
    /// Permits for checks under way at once, shared by the backends of the service.
    pub parallel: Arc<Semaphore>,
    /// `None`: it is asked without TLS.
    pub tls: Option<Arc<OriginClient>>,
    /// What requests are sent over.
    pub protocol: Protocol,
    /// Whether it expects to be told whom a connection stands for: for nobody but ourselves.
    pub proxy_protocol: ProxyHeader,
    /// While somebody waits for it to start, it is asked more often.
    pub hold: Arc<Hold>,
}

/// Time between two checks of a backend that is waited for: the first, and the longest.
const WAITED_FOR: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(250));

/// Checks until it is dropped. With `Check::None` it returns at once.
pub async fn run(target: Checked, clock: Clock, sink: Arc<dyn Sink>) {
    let health = &target.health;
    if target.check == Check::None {
        return;
    }
    let thresholds = Thresholds {
        interval: health.interval,
        healthy_after: health.healthy_after,
        unhealthy_after: health.unhealthy_after,
        start_period: health.start_period,
    };
    let mut judge = Judge::new(thresholds, target.starting);
    let mut rng = fastrand::Rng::with_seed(target.uid ^ fastrand::u64(..));
    let address = match target.address {
        Address::Tcp(mut address) if health.port != 0 => {
            address.set_port(health.port);
            Address::Tcp(address)
        }
        address => address,
    };
    let preamble = proxy_header::of(target.proxy_protocol, None);
    // Whoever speaks both is asked in the simpler one; gRPC has no choice.
    let simple = matches!(target.protocol, Protocol::Http1 | Protocol::Auto);
    let http1 = simple && target.check != Check::Grpc;
    let began = clock.now();
    let mut hurry = WAITED_FOR.0;
    loop {
        let result = {
            // The semaphore is never closed; were it, checking without a permit is still right.
            let _permit = target.parallel.acquire().await;
            let check = async {
                let to = Target {
                    address: &address,
                    authority: &target.authority,
                    tls: target.tls.as_ref(),
                    http1,
                    preamble: &preamble,
                };
                match target.check {
                    Check::Http => probe::http(to, health, target.protocol).await,
                    Check::Grpc => grpc::check(to, health).await,
                    Check::Tcp | Check::None => probe::tcp(to).await,
                }
            };
            tokio::time::timeout(health.timeout, check)
                .await
                .unwrap_or(Err(Failure::Timeout(health.timeout)))
        };
        match result {
            Ok(()) => match judge.pass() {
                Some(verdict) => sink.verdict(target.uid, verdict, None),
                None => sink.passed(target.uid),
            },
            Err(failure) => {
                let why = failure.to_string();
                let age = Duration::from_micros(clock.now().saturating_sub(began));
                match judge.fail(age) {
                    Some(verdict) => sink.verdict(target.uid, verdict, Some(why)),
                    None => sink.failed(target.uid, &why),
                }
            }
        }
        let mut wait = judge.delay(&mut rng);
        if judge.is_starting() && target.hold.waiting() > 0 {
            wait = wait.min(hurry);
            hurry = (hurry * 2).min(WAITED_FOR.1);
        }
        tokio::time::sleep(wait).await;
    }
}
