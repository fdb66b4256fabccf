//! Counters of one route: requests by method and exact status, and how long they took.

use std::sync::OnceLock;

use super::counter::{By, Counter, Label, labels};
use super::histogram::Histogram;

labels! {
    /// The methods that are told apart: those of RFC 9110 §9.3 and PATCH (RFC 5789); clients can invent
    /// any number of others, which must not become series.
    Method {
        Get = "GET",
        Head = "HEAD",
        Post = "POST",
        Put = "PUT",
        Delete = "DELETE",
        Connect = "CONNECT",
        Options = "OPTIONS",
        Trace = "TRACE",
        Patch = "PATCH",
        Other = "other",
    }
}

labels! {
    /// Why a request was not mirrored.
    MirrorDrop {
        /// So many are under way already.
        Busy = "busy",
        /// Its body is larger than what is kept.
        Body = "body",
        /// Its body was not received to its end.
        Incomplete = "incomplete",
        /// No backend of the mirror could take it.
        NoBackend = "no_backend",
        /// There is too little memory for copies.
        Memory = "memory",
    }
}

impl From<&http::Method> for Method {
    #[inline]
    fn from(method: &http::Method) -> Self {
        match *method {
            http::Method::GET => Self::Get,
            http::Method::HEAD => Self::Head,
            http::Method::POST => Self::Post,
            http::Method::PUT => Self::Put,
            http::Method::DELETE => Self::Delete,
            http::Method::CONNECT => Self::Connect,
            http::Method::OPTIONS => Self::Options,
            http::Method::TRACE => Self::Trace,
            http::Method::PATCH => Self::Patch,
            _ => Self::Other,
        }
    }
}

/// Statuses of one class, by the last two digits.
type Class = [Counter; 100];
/// 1xx to 5xx.
type Codes = [OnceLock<Box<Class>>; 5];

/// Counters of one route (per worker). Cells are made when their method and class first occur.
#[derive(Debug, Default)]
pub struct RouteStats {
    codes: [OnceLock<Box<Codes>>; Method::COUNT],
    /// From the request's head to the end of the answer.
    pub duration: Histogram,
    /// Of a route's mirror only.
    pub mirror_dropped: By<MirrorDrop, { MirrorDrop::COUNT }>,
}

impl RouteStats {
    /// Counts one finished request. A status outside 100..=599 counts as the nearest one inside.
    #[inline]
    pub fn record(&self, method: &http::Method, status: u16, us: u64) {
        let status = usize::from(status.clamp(100, 599));
        let codes = self.codes[Method::from(method).index()].get_or_init(Box::default);
        let class = codes[status / 100 - 1].get_or_init(new_class);
        class[status % 100].inc();
        self.duration.record(us);
    }

    /// Every (method, status, count) that has occurred.
    pub fn each(&self, mut f: impl FnMut(Method, u16, u64)) {
        for (&method, codes) in Method::ALL.iter().zip(&self.codes) {
            let Some(codes) = codes.get() else { continue };
            for (class, counters) in (1u16..).zip(codes.iter()) {
                let Some(counters) = counters.get() else { continue };
                for (rest, counter) in (0u16..).zip(counters.iter()) {
                    let n = counter.get();
                    if n > 0 {
                        f(method, class * 100 + rest, n);
                    }
                }
            }
        }
    }
}

#[cold]
fn new_class() -> Box<Class> {
    Box::new(std::array::from_fn(|_| Counter::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_method_and_exact_status() {
        let stats = RouteStats::default();
        stats.record(&http::Method::GET, 200, 10);
        stats.record(&http::Method::GET, 200, 10);
        stats.record(&http::Method::GET, 404, 10);
        let brew = http::Method::from_bytes(b"BREW").expect("a token");
        stats.record(&brew, 418, 10);
        stats.record(&brew, 999, 10);
        let mut seen = Vec::new();
        stats.each(|method, status, n| seen.push((method.as_str(), status, n)));
        assert_eq!(seen, [("GET", 200, 2), ("GET", 404, 1), ("other", 418, 1), ("other", 599, 1)]);
    }
}
