//! `tidegate origin`: the arguments, and the process around [`crate::origin`].

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{SignalKind, signal};

use crate::origin::{Delay, Options, Origin, serve};
use crate::units;

/// Connections that wait to be accepted; the kernel's own limit may be lower.
const BACKLOG: u32 = 4096;

/// A small backend to try things with: it answers with what it received.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: tidegate origin --port 9001 --delay exp:40ms --slots 4")]
pub struct Args {
    /// Port to listen on; 0 takes a free one
    #[arg(long, env = "PORT")]
    port: u16,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    address: IpAddr,
    /// Time a request takes: 40ms, exp:40ms, normal:40ms,5ms, lognormal:40ms,0.5,
    /// uniform:10ms,50ms or pareto:10ms,1.5
    #[arg(long, default_value = "0")]
    delay: Delay,
    /// Requests worked on at once, the others wait; 0 = no limit
    #[arg(long, default_value_t = 0)]
    slots: usize,
    /// Share of requests answered with 500: 0.01 or 1%
    #[arg(long, default_value = "0", value_parser = units::parse_ratio)]
    fail: f64,
    /// Time until it listens, as an application that starts slowly
    #[arg(long, default_value = "0", value_parser = units::parse_duration)]
    start_delay: Duration,
    /// Bytes of every answer, as 512 or 64KiB; 0 = an echo of the request
    #[arg(long, default_value = "0", value_parser = units::parse_size)]
    size: u64,
    /// Sent as x-origin-id with every answer [default: the port]
    #[arg(long)]
    id: Option<String>,
    /// CPU time that each request burns, in its slot and before the delay
    #[arg(long, default_value = "0", value_parser = units::parse_duration)]
    cpu: Duration,
    /// File that is locked while a request is worked on: all origins that name it work on one at a time,
    /// as with a database behind them
    #[arg(long, value_name = "FILE")]
    shared: Option<PathBuf>,
}

/// Serves until SIGTERM or SIGINT, then finishes what runs.
pub fn run(args: Args) -> ExitCode {
    let served = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| runtime.block_on(serve_until_told(args)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidegate origin: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve_until_told(args: Args) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::pin!(stop);
    tokio::select! {
        () = tokio::time::sleep(args.start_delay) => {}
        () = &mut stop => return Ok(()),
    }
    let address = SocketAddr::new(args.address, args.port);
    let listener = listen(address)
        .map_err(|error| std::io::Error::new(error.kind(), format!("{address}: {error}")))?;
    let address = listener.local_addr()?;
    let options = Options {
        id: args.id.unwrap_or_else(|| address.port().to_string()),
        delay: args.delay,
        slots: args.slots,
        fail: args.fail,
        size: args.size,
        cpu: args.cpu,
        shared: args.shared,
    };
    let origin = Origin::new(options, fastrand::u64(..))
        .map_err(|_| std::io::Error::other("--id cannot be sent in a header"))?;
    println!("listening  http://{address}");
    serve(Arc::new(origin), listener, stop).await;
    Ok(())
}

/// With a queue for a burst of connections: beyond it the kernel drops what asks, which then waits a second.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
