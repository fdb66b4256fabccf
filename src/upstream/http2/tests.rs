//! Pings on a connection whose other end is played here.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::clock::Clock;
use crate::worker::timers::Timers;

use super::pings::Pings;

const PING: u8 = 6;
const ACK: u8 = 1;

struct Ends {
    _sender: SendRequest<Bytes>,
    connection: Connection<DuplexStream, Bytes>,
    other: DuplexStream,
    pings: Pings,
    clock: Clock,
    timers: Rc<Timers>,
}

/// With a clock that stands, and a sweeper that looks at it.
fn run<F: Future<Output = ()>>(test: impl FnOnce(Ends) -> F) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        let clock = Clock::manual(SystemTime::UNIX_EPOCH);
        let timers = Timers::new(clock.clone());
        tokio::task::spawn_local(timers.clone().run());
        let (ours, mut other) = tokio::io::duplex(64 * 1024);
        let (sender, mut connection) = h2::client::handshake(ours).await.expect("a connection");
        let pong = connection.ping_pong().expect("the first to ask");
        let pings = Pings::new(pong, timers.timer(), clock.clone());
        // Empty SETTINGS.
        other.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.expect("room");
        let mut preface = [0; 24];
        other.read_exact(&mut preface).await.expect("a preface");
        test(Ends { _sender: sender, connection, other, pings, clock, timers }).await;
    });
}

impl Ends {
    /// Time goes by, and whose deadline that is hears of it.
    async fn later(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        let last = self.timers.timer();
        last.arm(self.clock.now());
        last.expired().await;
    }

    /// As the driver does it; whether the connection is dead.
    fn poll(&mut self, cx: &mut Context<'_>, in_use: bool) -> bool {
        let dead = self.pings.poll(cx, in_use).is_ready();
        assert!(Pin::new(&mut self.connection).poll(cx).is_pending());
        dead
    }

    fn is_dead(&mut self, in_use: bool) -> bool {
        self.poll(&mut Context::from_waker(Waker::noop()), in_use)
    }

    /// The next ping that comes to the other end.
    async fn ping(&mut self) -> [u8; 8] {
        loop {
            let mut head = [0; 9];
            let mut read = Box::pin(self.other.read_exact(&mut head));
            let (pings, connection) = (&mut self.pings, &mut self.connection);
            poll_fn(|cx| {
                assert!(pings.poll(cx, true).is_pending());
                assert!(Pin::new(&mut *connection).poll(cx).is_pending());
                read.as_mut().poll(cx)
            })
            .await
            .expect("a frame");
            drop(read);
            let mut payload = vec![0; usize::from(head[2])];
            self.other.read_exact(&mut payload).await.expect("the rest of it");
            if (head[3], head[4]) == (PING, 0) {
                return payload.try_into().expect("eight bytes");
            }
        }
    }

    async fn pong(&mut self, payload: [u8; 8]) {
        let frame = [&[0, 0, 8, PING, ACK, 0, 0, 0, 0][..], &payload].concat();
        self.other.write_all(&frame).await.expect("room");
    }
}

#[test]
fn a_silent_connection_is_asked_and_lives_when_it_answers() {
    run(|mut ends| async move {
        for _ in 0..2 {
            assert!(!ends.is_dead(true));
            ends.later(10).await;
            let payload = ends.ping().await;
            ends.pong(payload).await;
            // However late it is looked at: the answer is there.
            ends.later(9).await;
            let mut cx = Context::from_waker(Waker::noop());
            assert!(Pin::new(&mut ends.connection).poll(&mut cx).is_pending());
            assert!(!ends.is_dead(true));
        }
    });
}

#[test]
fn without_an_answer_it_is_dead() {
    run(|mut ends| async move {
        assert!(!ends.is_dead(true));
        ends.later(10).await;
        ends.ping().await;
        ends.later(5).await;
        assert!(ends.is_dead(true));
    });
}

#[test]
fn what_says_something_or_rests_is_not_asked() {
    run(|mut ends| async move {
        assert!(!ends.is_dead(true));
        for reads in 1..4 {
            ends.later(9).await;
            ends.pings.heard(reads);
        }
        // 27 s, but none of ten without a word.
        assert!(!ends.is_dead(true));
        // It rests.
        ends.later(60).await;
        assert!(!ends.is_dead(false));
        let mut said = [0; 256];
        let count = ends.other.read(&mut said).await.expect("what it said so far");
        let is_ping = |at: usize| said[..count].get(at + 3) == Some(&PING);
        let mut at = 0;
        while at + 9 <= count {
            assert!(!is_ping(at));
            at += 9 + usize::from(said[at + 2]);
        }
        // And is asked at once when it is used again.
        ends.ping().await;
    });
}
