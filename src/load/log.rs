//! Every request of a load as a line of CSV, for whoever wants other figures than the report's.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use super::outcome::{Done, Outcome};

const HEAD: &str = "due_ms,late_ms,latency_ms,outcome,backend";
/// Large, so that writing seldom meets a request that ends.
const BUFFER: usize = 1 << 20;

/// A file that grows by a line a request, in the order in which they end.
pub(super) struct Log {
    file: BufWriter<File>,
    /// The first thing that went wrong; after it nothing is written.
    error: Option<io::Error>,
}

impl Log {
    /// Empties the file, or makes it.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let mut file = BufWriter::with_capacity(BUFFER, File::create(path)?);
        writeln!(file, "{HEAD}")?;
        Ok(Self { file, error: None })
    }

    /// A request that is over: a status, or the name of a cause.
    pub(super) fn done(&mut self, done: &Done) {
        let (outcome, backend) = match &done.outcome {
            Outcome::Answer { status, backend, .. } => (status.as_str(), backend.as_deref()),
            Outcome::Failed(cause) => (cause.name(), None),
        };
        // What stands in the field is the server's to say; it must not become another field.
        let backend = backend.unwrap_or_default().replace([',', '"'], "_");
        self.line(done.due, done.late, done.latency, outcome, &backend);
    }

    /// A request that was held back.
    pub(super) fn not_sent(&mut self, due: Duration) {
        self.line(due, Duration::ZERO, Duration::ZERO, "not_sent", "");
    }

    /// Writes what is left.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.file.flush()?;
        self.error.map_or(Ok(()), Err)
    }

    fn line(
        &mut self,
        due: Duration,
        late: Duration,
        took: Duration,
        outcome: &str,
        backend: &str,
    ) {
        if self.error.is_some() {
            return;
        }
        let [due, late, took] = [due, late, took].map(|time| time.as_secs_f64() * 1000.0);
        let written = writeln!(self.file, "{due:.3},{late:.3},{took:.3},{outcome},{backend}");
        self.error = written.err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Cause;
    use http::StatusCode;

    #[test]
    fn each_request_is_a_line_whatever_became_of_it() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let mut log = Log::create(file.path()).expect("it can be written");
        let ms = Duration::from_millis;
        let answer = |backend: Option<&str>| Outcome::Answer {
            status: StatusCode::SERVICE_UNAVAILABLE,
            backend: backend.map(str::to_owned),
            bytes: 3,
            own_error: false,
        };
        for outcome in [answer(Some("a,b")), answer(None), Outcome::Failed(Cause::Timeout)] {
            log.done(&Done { due: ms(5), latency: ms(20), late: ms(1), outcome });
        }
        log.not_sent(ms(1500));
        log.finish().expect("all of it was written");
        let text = std::fs::read_to_string(file.path()).expect("it is text");
        let lines: Vec<_> = text.lines().collect();
        let wanted = [
            HEAD,
            "5.000,1.000,20.000,503,a_b",
            "5.000,1.000,20.000,503,",
            "5.000,1.000,20.000,timeout,",
            "1500.000,0.000,0.000,not_sent,",
        ];
        assert_eq!(lines, wanted);
    }
}
