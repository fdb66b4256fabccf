//! Where something is that tidegate asks or tells by itself.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use percent_encoding::percent_decode_str;

/// An absolute URL (RFC 3986): `https://user:password@host:port/path?query`.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    /// In lower case.
    pub scheme: String,
    /// A name or an address, an IPv6 address without brackets.
    pub host: String,
    pub port: Option<u16>,
    /// Path and query, as they are sent; at least `/`.
    pub path: String,
    pub user: Option<User>,
}

/// Who asks, decoded.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub password: String,
}

impl Url {
    /// The port, or that of the scheme.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match self.scheme.as_str() {
            "https" => 443,
            "redis" | "rediss" => 6379,
            _ => 80,
        })
    }

    /// `host:port`, an IPv6 address in brackets; without the port where it is the scheme's.
    pub fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match self.port {
            Some(port) => format!("{host}:{port}"),
            None => host,
        }
    }
}

impl FromStr for Url {
    type Err = String;

    /// # Errors
    /// What is wrong with it, and what would be right. Never with its password.
    fn from_str(text: &str) -> Result<Self, String> {
        let right = "write one as \"https://host:port/path\"";
        let uri: Uri = text.parse().map_err(|error| format!("not a URL ({error}); {right}"))?;
        let scheme = uri.scheme_str().ok_or_else(|| format!("no scheme in it; {right}"))?;
        let authority = uri.authority().ok_or_else(|| format!("no host in it; {right}"))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(format!("no host in it; {right}"));
        }
        let rest = authority.as_str().rsplit_once('@').map_or(authority.as_str(), |(_, rest)| rest);
        let has_port = rest.rsplit(']').next().is_some_and(|rest| rest.contains(':'));
        if has_port && authority.port_u16().is_none_or(|port| port == 0) {
            return Err("the port is not one; write 1 to 65535".to_owned());
        }
        let decoded = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
        let user = authority.as_str().rsplit_once('@').map(|(user, _)| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            User { name: decoded(name), password: decoded(password) }
        });
        Ok(Self {
            scheme: scheme.to_ascii_lowercase(),
            host: host.to_owned(),
            port: authority.port_u16(),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            user,
        })
    }
}

/// Without what may be secret: the user, and the path, in which hooks have their keys.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found() {
        let url: Url = "HTTP://us%40er:p%3Aw@[::1]:8080/a/b?c=d".parse().unwrap();
        assert_eq!((url.scheme.as_str(), url.host.as_str(), url.port()), ("http", "::1", 8080));
        assert_eq!((url.authority().as_str(), url.path.as_str()), ("[::1]:8080", "/a/b?c=d"));
        let user = url.user.clone().unwrap();
        assert_eq!((user.name.as_str(), user.password.as_str()), ("us@er", "p:w"));
        assert_eq!(format!("{url} {url:?}"), "http://[::1]:8080 http://[::1]:8080");
        let bare: Url = "https://hooks.example".parse().unwrap();
        assert!(bare.port() == 443 && bare.path == "/" && bare.user.is_none());
        assert_eq!("redis://h/0".parse::<Url>().unwrap().port(), 6379);
    }

    #[test]
    fn what_is_no_url_is_told_without_its_password() {
        for bad in [
            "",
            "host",
            "/path",
            "http://",
            "http://h:0/",
            "http://h:99999/",
            "http://u:secret@h:x/",
        ] {
            let error = bad.parse::<Url>().unwrap_err();
            assert!(error.contains("write ") && !error.contains("secret"), "{bad}: {error}");
        }
    }
}
