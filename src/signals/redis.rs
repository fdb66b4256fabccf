//! The length of a Redis list: three commands of RESP2, which is less than a client's crate. Over TLS with
//! `rediss://`, as the system believes certificates.
//!
//! Source: the Redis serialization protocol specification.

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use crate::config::types::Url;
use crate::fetch::{Connection, connect};

use super::{Reading, SignalError};

/// Longest line that is read of an answer.
const LINE: u64 = 64 * 1024;

/// LLEN, after AUTH and SELECT where they are needed. A list that is not there is empty.
pub async fn list_length(at: &Url, database: u32, key: &str) -> Result<Reading, SignalError> {
    let stream = connect(at).await.map_err(|error| SignalError::Fetch(Box::new(error)))?;
    let mut stream = BufReader::new(stream);
    if let Some(user) = &at.user {
        match user.name.is_empty() {
            true => call(&mut stream, &["AUTH", &user.password]).await?,
            false => call(&mut stream, &["AUTH", &user.name, &user.password]).await?,
        };
    }
    if database != 0 {
        call(&mut stream, &["SELECT", &database.to_string()]).await?;
    }
    let answer = call(&mut stream, &["LLEN", key]).await?;
    let length = answer.strip_prefix(':').and_then(|number| number.parse::<u64>().ok());
    match length {
        Some(length) => Ok(Reading { value: length as f64, oldest: None }),
        None => Err(SignalError::Redis(format!("{answer:?} is not a length"))),
    }
}

/// Sends a command; its answer is one line.
async fn call(stream: &mut BufReader<Connection>, words: &[&str]) -> Result<String, SignalError> {
    let mut command = format!("*{}\r\n", words.len());
    for word in words {
        command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(command.as_bytes()).await?;
    stream.flush().await?;
    let mut line = Vec::new();
    stream.take(LINE).read_until(b'\n', &mut line).await?;
    let line = String::from_utf8_lossy(&line).trim_end().to_owned();
    match line.strip_prefix('-') {
        Some(error) => Err(SignalError::Redis(error.to_owned())),
        None if line.is_empty() => Err(SignalError::Redis("the connection ended".to_owned())),
        None => Ok(line),
    }
}
