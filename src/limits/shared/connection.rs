//! One connection to Redis: questions go out as they come, answers come back in their order.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::config::types::Redis;
use crate::fetch::{Connection, FetchError, connect};

use super::reply::{self, NotRedis, Reply};
use super::{Ask, Question, SCRIPT};

/// For connecting with all that belongs to it, and for one write.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why there is no connection any more.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("no connection: {0}")]
    Io(#[from] io::Error),
    #[error("no connection: {0}")]
    Connect(Box<FetchError>),
    #[error("it takes longer than {PATIENCE:?}")]
    TimedOut,
    #[error("it ended the connection")]
    Ended,
    #[error("it says: {0}")]
    Refused(String),
    #[error(transparent)]
    NotRedis(#[from] NotRedis),
}

/// A connection, and what was read of it.
struct Link {
    stream: Connection,
    read: BytesMut,
    /// The script's name there.
    script: String,
}

/// Asks until nobody can ask any more. `ready` is set once the connection is made.
///
/// # Errors
/// The connection cannot be made or broke; whoever waits hears that there is no answer.
pub async fn run(
    redis: &Redis,
    mut asks: mpsc::Receiver<Ask>,
    ready: &Cell<bool>,
) -> Result<(), LinkError> {
    let opening = timeout(PATIENCE, Link::open(redis)).await;
    let mut link = opening.unwrap_or(Err(LinkError::TimedOut))?;
    ready.set(true);
    let mut waiting: VecDeque<oneshot::Sender<Vec<i64>>> = VecDeque::new();
    let mut out = Vec::new();
    loop {
        tokio::select! {
            ask = asks.recv() => {
                let Some(first) = ask else { return Ok(()) };
                let more = std::iter::from_fn(|| asks.try_recv().ok());
                for Ask { questions, tell } in std::iter::once(first).chain(more) {
                    encode(&mut out, &link.script, &questions);
                    waiting.push_back(tell);
                }
                let writing = timeout(PATIENCE, link.send(&out)).await;
                writing.map_err(|_| LinkError::TimedOut)??;
                out.clear();
            }
            read = link.stream.read_buf(&mut link.read) => {
                if read? == 0 {
                    return Err(LinkError::Ended);
                }
                while let Some(reply) = reply::take(&mut link.read)? {
                    match (reply, waiting.pop_front()) {
                        // Whoever asked may have stopped waiting.
                        (Reply::Numbers(said), Some(tell)) => drop(tell.send(said)),
                        (Reply::Error(error), _) => return Err(LinkError::Refused(error)),
                        _ => return Err(NotRedis.into()),
                    }
                }
            }
        }
    }
}

impl Link {
    async fn open(redis: &Redis) -> Result<Self, LinkError> {
        let at = &redis.at;
        let stream = connect(at).await.map_err(|error| LinkError::Connect(Box::new(error)))?;
        let mut link = Self { stream, read: BytesMut::new(), script: String::new() };
        if let Some(user) = &at.user {
            match user.name.is_empty() {
                true => link.call(&["AUTH", &user.password]).await?,
                false => link.call(&["AUTH", &user.name, &user.password]).await?,
            };
        }
        if redis.database != 0 {
            link.call(&["SELECT", &redis.database.to_string()]).await?;
        }
        link.script = link.call(&["SCRIPT", "LOAD", SCRIPT]).await?;
        Ok(link)
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        // TLS may keep some of it otherwise.
        self.stream.flush().await
    }

    /// One command that is answered with a line.
    async fn call(&mut self, words: &[&str]) -> Result<String, LinkError> {
        let mut out = Vec::new();
        command(&mut out, words.len());
        words.iter().for_each(|text| word(&mut out, text));
        self.send(&out).await?;
        loop {
            match reply::take(&mut self.read)? {
                Some(Reply::Line(line)) => return Ok(line),
                Some(Reply::Error(error)) => return Err(LinkError::Refused(error)),
                Some(Reply::Numbers(_)) => return Err(NotRedis.into()),
                None if self.stream.read_buf(&mut self.read).await? == 0 => {
                    return Err(LinkError::Ended);
                }
                None => {}
            }
        }
    }
}

fn encode(out: &mut Vec<u8>, script: &str, questions: &[Question]) {
    command(out, 3 + 3 * questions.len());
    word(out, "EVALSHA");
    word(out, script);
    word(out, &questions.len().to_string());
    questions.iter().for_each(|question| word(out, &question.key));
    for Question { each, burst, .. } in questions {
        word(out, &format!("{each:.3}"));
        word(out, &burst.to_string());
    }
}

fn command(out: &mut Vec<u8>, words: usize) {
    out.extend_from_slice(format!("*{words}\r\n").as_bytes());
}

fn word(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(format!("${}\r\n{text}\r\n", text.len()).as_bytes());
}
