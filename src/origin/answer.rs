//! One request to one answer.
//!
//! | path | |
//! |---|---|
//! | `/health` | 200 at once, without a slot |
//! | `/stats` | counters as JSON, without a slot |
//! | `/ws` | WebSocket echo |
//! | any other | waits for a slot, takes its delay, then the echo |
//!
//! | query | |
//! |---|---|
//! | `status=N` | that status |
//! | `size=N` | N bytes of filler instead of the echo |
//! | `delay=40ms` | that delay (or distribution) |
//! | `chunked` | no Content-Length |
//! | `trailers` | ends with the trailer `x-origin-bytes` |
//! | `early` | answers without reading the request body |
//! | `abort=head` | closes the connection without an answer |
//! | `abort=N` | closes it after N bytes of the answer's body |
//! | `header=NAME:VALUE` | one more header in the answer |

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, TRAILER as TRAILER_HEADER};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use nix::time::{ClockId, clock_gettime};

use super::body::{AnswerBody, Cut, TRAILER};
use super::echo::{Received, echo};
use super::{Delay, Origin, websocket};

/// The header that says which origin answered.
const ID: HeaderName = HeaderName::from_static("x-origin-id");

/// Ends the connection: no answer can be given, or none is wanted.
#[derive(Debug, thiserror::Error)]
pub(super) enum Abort {
    #[error(transparent)]
    Cut(#[from] Cut),
    #[error(transparent)]
    Request(#[from] hyper::Error),
    #[error("what is shared: {0}")]
    Shared(#[from] std::io::Error),
}

/// What the query asks for.
#[derive(Debug, Default, PartialEq)]
struct Wish {
    status: Option<StatusCode>,
    size: Option<u64>,
    delay: Option<Delay>,
    chunked: bool,
    trailers: bool,
    early: bool,
    abort_head: bool,
    abort_after: Option<u64>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// Answers one request.
///
/// # Errors
/// The connection is to be closed without an answer.
pub(super) async fn answer(
    origin: Arc<Origin>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Abort> {
    let mut response = match request.uri().path() {
        "/health" => Response::new(AnswerBody::text("ok\n")),
        "/stats" => json(AnswerBody::text(format!("{}\n", origin.stats()))),
        "/ws" => websocket::accept(request),
        _ => work(&origin, peer, request).await?,
    };
    response.headers_mut().insert(ID, origin.id.clone());
    Ok(response)
}

async fn work(
    origin: &Arc<Origin>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Abort> {
    origin.requests.fetch_add(1, Relaxed);
    let wish = match Wish::parse(request.uri().query().unwrap_or_default()) {
        Ok(wish) => wish,
        Err(why) => return Ok(status(StatusCode::BAD_REQUEST, format!("{why}\n"))),
    };
    let (head, body) = request.into_parts();
    let received = if wish.early { Received::default() } else { Received::read(body).await? };

    let place = origin.slot().await?;
    let mut rng = origin.rng();
    let delay = wish.delay.unwrap_or(origin.options.delay).sample(&mut rng);
    burn(origin.options.cpu).await;
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    if wish.abort_head {
        return Err(Cut.into());
    }
    if rng.f64() < origin.options.fail {
        return Ok(status(StatusCode::INTERNAL_SERVER_ERROR, "failed on purpose\n".into()));
    }
    let code = wish.status.unwrap_or(StatusCode::OK);
    let mut response = match wish.size.unwrap_or(origin.options.size) {
        // 204 and 304 have no content, RFC 9110 section 15.
        _ if matches!(code.as_u16(), 204 | 304) => Response::new(AnswerBody::text("")),
        0 if wish.size.is_none() => {
            json(AnswerBody::text(echo(&origin.options.id, peer, &head, &received)))
        }
        bytes => Response::new(AnswerBody::filler(bytes)),
    };
    *response.status_mut() = code;
    let body = response.body_mut();
    body.chunked = wish.chunked;
    body.trailers = wish.trailers;
    body.cut_after = wish.abort_after;
    body.hold(place);
    if wish.trailers {
        response.headers_mut().insert(TRAILER_HEADER, HeaderValue::from(TRAILER));
    }
    response.headers_mut().extend(wish.headers);
    Ok(response)
}

/// Uses that much CPU time of one thread. On a thread of its own, as the health check and
/// other requests go on in an application with several threads.
async fn burn(cpu: Duration) {
    if cpu.is_zero() {
        return;
    }
    let clock = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from);
    let spin = move || {
        let start = clock();
        while let (Ok(start), Ok(now)) = (start, clock()) {
            if now.saturating_sub(start) >= cpu {
                break;
            }
        }
    };
    // It fails only if the runtime ends, and then nobody waits for the answer.
    let _ = tokio::task::spawn_blocking(spin).await;
}

fn status(status: StatusCode, text: String) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::text(text));
    *response.status_mut() = status;
    response
}

fn json(body: AnswerBody) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

impl Wish {
    /// Keys that it does not know belong to whoever tests something else, and are left alone.
    fn parse(query: &str) -> Result<Self, String> {
        let mut wish = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
            let bad = || format!("{key}={value} is not understood");
            match key {
                "status" => wish.status = Some(final_status(&value).ok_or_else(bad)?),
                "size" => wish.size = Some(value.parse().map_err(|_| bad())?),
                "delay" => wish.delay = Some(value.parse().map_err(|_| bad())?),
                "chunked" => wish.chunked = true,
                "trailers" => wish.trailers = true,
                "early" => wish.early = true,
                "abort" if value == "head" => wish.abort_head = true,
                "abort" => wish.abort_after = Some(value.parse().map_err(|_| bad())?),
                "header" => {
                    let (name, value) = value.split_once(':').ok_or_else(bad)?;
                    let name = name.parse::<HeaderName>().map_err(|_| bad())?;
                    let value = value.trim().parse::<HeaderValue>().map_err(|_| bad())?;
                    wish.headers.push((name, value));
                }
                _ => {}
            }
        }
        Ok(wish)
    }
}

/// 200 to 599: a 1xx is not the end of an exchange.
fn final_status(text: &str) -> Option<StatusCode> {
    let code: u16 = text.parse().ok()?;
    (200..600).contains(&code).then(|| StatusCode::from_u16(code).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_wishes() {
        let wish = Wish::parse("status=404&size=10&delay=40ms&chunked&header=a:b%20c&mine=1");
        let wish = wish.expect("good wishes");
        assert_eq!(wish.status, Some(StatusCode::NOT_FOUND));
        assert_eq!(wish.size, Some(10));
        assert_eq!(wish.delay, Some(Delay::Fixed(0.04)));
        assert!(wish.chunked && !wish.trailers);
        assert_eq!(wish.headers[0].1, "b c");
        assert!(Wish::parse("abort=head").expect("good").abort_head);
        assert_eq!(Wish::parse("abort=7").expect("good").abort_after, Some(7));
    }

    #[test]
    fn refuses_what_it_cannot_do() {
        for query in ["status=101", "status=x", "size=-1", "delay=soon", "abort=x", "header=a"] {
            assert!(Wish::parse(query).is_err(), "{query}");
        }
    }
}
