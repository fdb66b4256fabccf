//! `[runtime]`, `[log]` and `[admin]`: what concerns the process as a whole.

use std::path::Path;

use crate::config::reader::Reader;
use crate::config::tree::Value;
use crate::config::types::{
    AccessFormat, AccessLog, Admin, AdminListen, ListenAddress, Log, LogFormat, Runtime,
};
use crate::config::values::{self, Wrong, wrong};
use crate::config::{Env, Problem};
use crate::units::format_size;

use super::{Bound, fields, listener, token, user};

const MAX_WORKERS: i64 = 256;
/// tidegate itself takes some 10 MiB; with less than this there would be no room for any traffic.
const MIN_MEMORY: u64 = 32 << 20;

pub fn runtime(r: &mut Reader<'_>, env: &Env, warnings: &mut Vec<Problem>) -> Runtime {
    r.section("runtime", |r| {
        let workers: usize = r.int("workers", 0..=MAX_WORKERS).or(0);
        let runtime = Runtime {
            workers: if workers == 0 { env.cores.clamp(1, MAX_WORKERS as usize) } else { workers },
            state_dir: r.path("state_dir").or("./state"),
            shutdown_delay: r.duration("shutdown_delay").or("0s"),
            shutdown_timeout: r.duration("shutdown_timeout").or("30s"),
            user: Some(r.string("user").or("")).filter(|name| !name.is_empty()),
            group: Some(r.string("group").or("")).filter(|name| !name.is_empty()),
            zone: fields::zone(r),
            watch: r.bool("watch").or(true),
            max_memory: r.size("max_memory").and(enough_memory).or("0"),
        };
        if env.root && runtime.user.is_none() {
            let message = "runs as root and stays root; set runtime.user to drop to after binding";
            warnings.push(r.place("user").problem(message));
        }
        runtime
    })
}

fn enough_memory(bytes: u64) -> Result<Option<u64>, String> {
    match bytes {
        0 => Ok(None),
        MIN_MEMORY.. => Ok(Some(bytes)),
        _ => Err(format!(
            "{} is hardly more than tidegate takes by itself; write \"{}\" or more, or \"0\" for no limit",
            format_size(bytes),
            format_size(MIN_MEMORY)
        )),
    }
}

pub fn log(r: &mut Reader<'_>) -> Log {
    r.section("log", |r| Log {
        level: r.string("level").and(log_filter).or("info"),
        format: r
            .one_of(
                "format",
                &[("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)],
            )
            .or("auto"),
        access: r.section("access", |r| AccessLog {
            enabled: r.bool("enabled").or(false),
            path: Some(r.path("path").or("-"))
                .filter(|path| path.file_name() != Some("-".as_ref())),
            format: r
                .one_of(
                    "format",
                    &[("json", AccessFormat::Json), ("combined", AccessFormat::Combined)],
                )
                .or("json"),
            sample: r.ratio("sample").or(1.0),
        }),
    })
}

/// Also returns the addresses it binds.
pub fn admin(r: &mut Reader<'_>) -> (Admin, Vec<Bound>) {
    r.section("admin", |r| {
        let admin = Admin {
            listen: r.field("listen", admin_listen).or("127.0.0.1:9900"),
            public_listen: r
                .field("public_listen", |value| match values::string(value)?.as_str() {
                    "" => Ok(None),
                    _ => fields::socket_address(value).map(Some),
                })
                .or(""),
            hosts: r.strings("hosts").or(["localhost", "127.0.0.1", "[::1]"]),
            allow: r.list("allow", fields::network).or(["127.0.0.0/8", "::1"]),
            dynamic_backends: r.list("dynamic_backends", fields::network).or([]),
            tls: r.section_if("tls", listener::certificate),
            users: user::all(r),
            tokens: token::all(r),
        };
        names_once(r, &admin);
        reachable(r, &admin);
        let mut bound = Vec::new();
        if let AdminListen::Tcp(address) = &admin.listen {
            bound.push((ListenAddress::Socket(*address), r.place("listen")));
        }
        let public = admin.public_listen.map(ListenAddress::Socket);
        bound.extend(public.map(|address| (address, r.place("public_listen"))));
        (admin, bound)
    })
}

fn admin_listen(value: &Value) -> Result<AdminListen, Wrong> {
    let text = values::string(value)?;
    if let Some(path) = text.strip_prefix("unix:") {
        if path.is_empty() {
            return wrong(
                value,
                "a socket without a path; write \"unix:/run/tidegate/admin.sock\"",
            );
        }
        return Ok(AdminListen::Unix(value.place.resolve(path)));
    }
    let Ok(address) = text.parse::<std::net::SocketAddr>() else {
        let message = format!(
            "{text:?} is not an address; write \"127.0.0.1:9900\" or \"unix:/run/tidegate/admin.sock\""
        );
        return wrong(value, message);
    };
    Ok(AdminListen::Tcp(address))
}

/// The audit log tells people by their names.
fn names_once(r: &mut Reader<'_>, admin: &Admin) {
    let twice = admin.users.iter().find(|u| admin.tokens.iter().any(|token| token.name == u.name));
    if let Some(user) = twice.filter(|user| !user.name.is_empty()) {
        let message = format!(
            "a user and a token are both called {:?}; each needs a name of its own",
            user.name
        );
        r.problem("user", message);
    }
}

/// What can be reached from elsewhere needs to know who asks, and to keep that secret.
fn reachable(r: &mut Reader<'_>, admin: &Admin) {
    let AdminListen::Tcp(address) = admin.listen else { return };
    let lacks = match (r.has("tls"), r.has("user") || r.has("token")) {
        _ if address.ip().is_loopback() => return,
        (true, true) => return,
        (true, false) => "[[admin.user]] or [[admin.token]]",
        (false, true) => "[admin.tls] with cert and key",
        (false, false) => "[admin.tls] with cert and key, and [[admin.user]] or [[admin.token]]",
    };
    let message = format!(
        "listen: {address} can be reached from elsewhere; add {lacks}, or write \"127.0.0.1:{}\", a \
         unix socket, or public_listen for health and metrics",
        address.port()
    );
    r.problem("listen", message);
}

/// A level, or a filter of `target=level` parts. A bare word would be taken for a target, so a
/// slip in a level would pass unnoticed.
fn log_filter(text: String) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let right =
        "write error, warn, info, debug, trace or a filter as \"tidegate::scale=debug,info\"";
    let words = text.split(',').map(str::trim);
    for word in words.filter(|word| !word.contains(['=', '['])) {
        if !LEVELS.contains(&word) {
            return Err(format!("{word:?} is not a level; {right}"));
        }
    }
    match tracing_subscriber::EnvFilter::try_new(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(format!("{text:?} is not a filter ({error}); {right}")),
    }
}

/// A file that must be there and readable.
pub fn readable(path: &Path, right: &str) -> Result<Vec<u8>, String> {
    std::fs::read(path)
        .map_err(|error| format!("{} cannot be read ({error}); {right}", path.display()))
}
