//! nginx as a backend, with its own prefix in a temporary directory.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::{Backend, Process, tool, wait_for};

/// A running nginx: files below `/`, `/upload` that reads a body and says how long it was.
/// Check with `missing("nginx")` first.
pub struct Nginx {
    process: Process,
    address: SocketAddr,
    directory: TempDir,
}

impl Nginx {
    /// Starts it with more lines for its `server` block.
    pub fn start(server: &str) -> Self {
        Self::start_with("", server, "")
    }

    /// The same with options of its `listen`, as `ssl http2`.
    pub fn listening(options: &str, server: &str) -> Self {
        Self::start_with(options, server, "")
    }

    /// As a balancer: what is asked below `/up/` goes to one of an `upstream`, which these lines describe. It
    /// believes X-Forwarded-For.
    pub fn balancer(upstream: &str) -> Self {
        let server = "set_real_ip_from 127.0.0.1; real_ip_header X-Forwarded-For;
            location /up/ { add_header x-balancer nginx; proxy_pass http://up; }";
        Self::start_with("", server, &format!("upstream up {{ {upstream} }}"))
    }

    fn start_with(options: &str, server: &str, http: &str) -> Self {
        let program = tool::find("nginx").expect("ask missing(\"nginx\") first");
        // nginx cannot choose a port, so one that was free a moment ago may be taken: try again.
        for _ in 0..20 {
            let directory = tempfile::tempdir().expect("a temporary directory");
            std::fs::create_dir(directory.path().join("files")).expect("a new directory");
            let address = TcpListener::bind("127.0.0.1:0")
                .and_then(|listener| listener.local_addr())
                .expect("a free port on the loopback");
            let file = directory.path().join("nginx.conf");
            let text = configuration(
                directory.path().display().to_string(),
                address,
                options,
                server,
                http,
            );
            std::fs::write(&file, text).expect("the directory can be written");
            let mut command = Command::new(&program);
            command.arg("-p").arg(directory.path()).arg("-c").arg(&file).args(["-e", "stderr"]);
            let mut process = Process::start("nginx", &mut command);
            let listens = wait_for("nginx listens or ends", || match process.status() {
                Some(_) => Some(false),
                None => TcpStream::connect(address).is_ok().then_some(true),
            });
            if listens && process.status().is_none() {
                return Self { process, address, directory };
            }
            assert!(process.output().contains("in use"), "nginx: {}", process.output());
        }
        panic!("no port for nginx");
    }

    /// Puts a file below `/`.
    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.directory.path().join("files").join(name);
        std::fs::write(&path, content).expect("the directory can be written");
        path
    }

    pub fn output(&self) -> String {
        self.process.output()
    }
}

impl Backend for Nginx {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn id(&self) -> Option<&str> {
        Some("nginx")
    }
}

fn configuration(
    directory: String,
    address: SocketAddr,
    options: &str,
    server: &str,
    http: &str,
) -> String {
    format!(
        "daemon off; master_process off; pid {directory}/pid; error_log stderr;
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi; scgi_temp_path {directory}/scgi;
  uwsgi_temp_path {directory}/uwsgi;
  server {{
    listen {address} {options}; root {directory}/files; client_max_body_size 0;
    add_header x-origin-id nginx always;
    location = /upload {{ proxy_pass http://{address}/received; proxy_set_header x-length $http_content_length; }}
    location = /received {{ return 200 \"received $http_x_length\"; }}
    {server}
  }}
  {http}
}}
"
    )
}
