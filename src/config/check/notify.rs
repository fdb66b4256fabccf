//! `[[notify]]`: who is told of what happens.

use std::path::PathBuf;

use crate::config::field::Field;
use crate::config::reader::Reader;
use crate::config::tree::Value;
use crate::config::types::{EVENTS, Notify, NotifyKind, Url};
use crate::config::values::{self, Wrong, wrong};

use super::{Named, fields, listener};

const CHOICES: [(&str, &str); EVENTS.len()] = choices();

const fn choices() -> [(&'static str, &'static str); EVENTS.len()] {
    let mut choices = [("", ""); EVENTS.len()];
    let mut i = 0;
    while i < EVENTS.len() {
        choices[i] = (EVENTS[i], EVENTS[i]);
        i += 1;
    }
    choices
}

/// `None` without a URL that could be asked, which was told.
pub fn read(r: &mut Reader<'_>) -> Named<Option<Notify>> {
    let place = r.place("name");
    let name = r.string("name").and(listener::name).required();
    let kind = r
        .one_of("kind", &[("slack", NotifyKind::Slack), ("webhook", NotifyKind::Webhook)])
        .required_or(NotifyKind::Webhook);
    let found = Field { shown: fields::absolute_secret, ..r.field("url", url) }.required();
    let secret = fields::secret(r, "secret");
    if kind == NotifyKind::Slack && secret.is_some() {
        r.problem("secret", "nothing is signed for kind = \"slack\"; its URL is the secret");
    }
    let events = r
        .list("events", |value| values::one_of(value, &CHOICES))
        .and(|events| match events.is_empty() {
            false => Ok(events),
            true => Err("an empty list; write what is to be told, such as \"scaled\"".to_owned()),
        })
        .required();
    let item = found.map(|(url, url_file)| Notify {
        name: name.as_str().into(),
        kind,
        url,
        url_file,
        secret,
        events,
    });
    Named { name, place, item }
}

/// A URL of HTTP, as written or as `file:PATH`.
fn url(value: &Value) -> Result<Option<(Url, Option<PathBuf>)>, Wrong> {
    let text = values::string(value)?;
    let (text, file) = match text.strip_prefix("file:") {
        None => (text, None),
        Some(path) => {
            let path = value.place.resolve(path);
            let read = std::fs::read_to_string(&path).or_else(|error| {
                let message =
                    format!("{} cannot be read ({error}); name a file that can", path.display());
                wrong(value, message)
            })?;
            (read.trim().to_owned(), Some(path))
        }
    };
    match text.parse::<Url>() {
        Ok(url) if matches!(url.scheme.as_str(), "http" | "https") => Ok(Some((url, file))),
        Ok(url) => wrong(value, format!("{}:// is not HTTP; write https://host/path", url.scheme)),
        Err(error) => wrong(value, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_reads_of_the_keys_finds_every_event() {
        let text = include_str!("../../../conf/full.toml");
        let list = text.split("# Any of backend_ejected").nth(1).expect("a list");
        let list = list.split("\nevents =").next().expect("it ends");
        let named = |event: &str| {
            list.split([',', ' ', '.', '\n']).any(|word| word == event)
                || event == "backend_ejected"
        };
        let missing: Vec<&str> = EVENTS.into_iter().filter(|event| !named(event)).collect();
        assert_eq!(missing, [""; 0]);
    }
}
