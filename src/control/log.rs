//! The log, on standard error: one line a person can read on a terminal, JSON elsewhere.

use std::fmt;
use std::io::IsTerminal;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::config::types::{Log, LogFormat};

/// Where the lines come from that backends print.
const BACKEND: &str = "tidegate::backend";

/// Starts the log; true if it is text. A second call in one process (an embedder's tests) keeps the first.
pub fn start(config: &Log) -> bool {
    let text = match config.format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    // The filter was checked with the configuration.
    let level = level(&config.level, text);
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = if text {
        builder.event_format(Line).try_init()
    } else {
        builder.json().flatten_event(true).try_init()
    };
    text
}

/// What backends print fills a terminal in no time: there it is left out unless `log.level` asks
/// for it, or for details of anything.
fn level(configured: &str, text: bool) -> String {
    let asked = [BACKEND, "debug", "trace"].iter().any(|word| configured.contains(word));
    if text && !asked { format!("{configured},{BACKEND}=warn") } else { configured.to_owned() }
}

/// `14:03:08  app  backend 127.0.0.1:20002 ready after 0.31 s`
struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        write!(writer, "{}  ", jiff::Zoned::now().strftime("%H:%M:%S"))?;
        match *event.metadata().level() {
            Level::ERROR => write!(writer, "error: ")?,
            Level::WARN => write!(writer, "warning: ")?,
            Level::INFO => {}
            Level::DEBUG => write!(writer, "debug: ")?,
            Level::TRACE => write!(writer, "trace: ")?,
        }
        if !fields.service.is_empty() {
            write!(writer, "{}  ", fields.service)?;
        }
        write!(writer, "{}{}", fields.message, fields.others)?;
        writeln!(writer)
    }
}

/// The fields of an event, the message and the service apart.
#[derive(Default)]
struct Fields {
    service: String,
    message: String,
    others: String,
}

impl Fields {
    fn put(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            "service" => self.service = value,
            // The kind of an event is for programs.
            "event" => {}
            name if name.starts_with("log.") => {}
            name => self.others.push_str(&format!(" {name}={value}")),
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_backends_print_is_left_out_on_a_terminal_unless_asked_for() {
        assert_eq!(level("info", true), "info,tidegate::backend=warn");
        assert_eq!(level("info", false), "info");
        for asked in ["debug", "info,tidegate::backend=info", "warn,tidegate::scale=trace"] {
            assert_eq!(level(asked, true), asked);
        }
    }
}
