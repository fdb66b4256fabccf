//! Answers of Redis (RESP2), as far as they are asked for: lines, numbers, texts, lists of numbers.
//!
//! Source: the Redis serialization protocol specification.

use bytes::{Buf, BytesMut};

/// Most bytes of one answer; ours are a line, a hash and a few numbers.
const MOST: usize = 64 * 1024;

#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    Line(String),
    Error(String),
    Numbers(Vec<i64>),
}

/// It is not an answer of Redis.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("it does not speak the protocol of Redis")]
pub struct NotRedis;

/// Takes the first whole answer out of what was read.
pub fn take(read: &mut BytesMut) -> Result<Option<Reply>, NotRedis> {
    let mut at = 0;
    match parse(read, &mut at) {
        Ok(Some(reply)) => {
            read.advance(at);
            Ok(Some(reply))
        }
        Ok(None) if read.len() > MOST => Err(NotRedis),
        other => other,
    }
}

fn parse(read: &[u8], at: &mut usize) -> Result<Option<Reply>, NotRedis> {
    let Some(line) = line(read, at) else { return Ok(None) };
    let (kind, rest) = line.split_at_checked(1).ok_or(NotRedis)?;
    Ok(Some(match kind {
        "+" => Reply::Line(rest.to_owned()),
        "-" => Reply::Error(rest.to_owned()),
        ":" => Reply::Numbers(vec![rest.parse().map_err(|_| NotRedis)?]),
        "$" => {
            let length: usize = rest.parse().map_err(|_| NotRedis)?;
            let end = at.checked_add(length).filter(|_| length <= MOST).ok_or(NotRedis)?;
            let Some(text) = read.get(*at..end + 2) else { return Ok(None) };
            *at = end + 2;
            Reply::Line(String::from_utf8_lossy(&text[..length]).into_owned())
        }
        "*" => {
            let length: usize = rest.parse().map_err(|_| NotRedis)?;
            let mut numbers = Vec::new();
            for _ in 0..length {
                match parse(read, at)? {
                    None => return Ok(None),
                    Some(Reply::Numbers(one)) => numbers.extend(one),
                    Some(_) => return Err(NotRedis),
                }
            }
            Reply::Numbers(numbers)
        }
        _ => return Err(NotRedis),
    }))
}

/// The text up to the end of the line, which is passed.
fn line<'r>(read: &'r [u8], at: &mut usize) -> Option<&'r str> {
    let rest = read.get(*at..)?;
    let end = memchr::memmem::find(rest, b"\r\n")?;
    *at += end + 2;
    // What is no text fits nothing below.
    Some(str::from_utf8(&rest[..end]).unwrap_or("?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_one_by_one_however_they_come() {
        let all = b"+OK\r\n$5\r\nabcde\r\n*2\r\n:3\r\n:-7\r\n-NOSCRIPT no\r\n:4\r\n";
        let wanted = [
            Reply::Line("OK".into()),
            Reply::Line("abcde".into()),
            Reply::Numbers(vec![3, -7]),
            Reply::Error("NOSCRIPT no".into()),
            Reply::Numbers(vec![4]),
        ];
        for step in 1..=all.len() {
            let (mut read, mut seen) = (BytesMut::new(), Vec::new());
            for piece in all.chunks(step) {
                read.extend_from_slice(piece);
                while let Some(reply) = take(&mut read).expect("an answer") {
                    seen.push(reply);
                }
            }
            assert_eq!(seen, wanted);
            assert!(read.is_empty());
        }
    }

    #[test]
    fn what_is_no_answer_is_told_from_one() {
        for bad in
            ["HTTP/1.1 400\r\n", "\r\n", ":x\r\n", "$-1\r\n", "*1\r\n+OK\r\n", "$99999999\r\n"]
        {
            assert_eq!(take(&mut bad.as_bytes().into()), Err(NotRedis), "{bad:?}");
        }
        assert_eq!(take(&mut BytesMut::from(&vec![b'+'; MOST + 1][..])), Err(NotRedis));
        assert_eq!(take(&mut BytesMut::from("*2\r\n:3\r\n")), Ok(None));
    }
}
