//! Addresses that are no backends: a name may be pointed anywhere by whoever answers for it.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// Where we listen ourselves; a backend there would be a loop.
#[derive(Debug, Clone, Default)]
pub struct Own {
    pub listeners: Vec<SocketAddr>,
    /// Addresses of this machine: what a listener on an unspecified address stands for.
    pub machine: Vec<IpAddr>,
}

impl Own {
    fn has(&self, address: SocketAddr) -> bool {
        self.listeners.iter().any(|listener| {
            let ours = || address.ip().is_loopback() || self.machine.contains(&address.ip());
            let every = listener.ip().is_unspecified() && ours();
            listener.port() == address.port() && (listener.ip() == address.ip() || every)
        })
    }
}

/// Why an address is refused; `None`: it is not.
pub fn refusal(address: SocketAddr, own: &Own, allow: &[IpNet]) -> Option<String> {
    let ip = address.ip().to_canonical();
    if ip.is_unspecified()
        || ip.is_multicast()
        || ip == IpAddr::from([255; 4])
        || address.port() == 0
    {
        return Some(format!("{address} is no place of a backend"));
    }
    if allow.iter().any(|net| net.contains(&ip)) {
        return None;
    }
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    if link_local {
        return Some(format!("{address} is link-local"));
    }
    let canonical = SocketAddr::new(ip, address.port());
    own.has(canonical).then(|| format!("{address} is a listener of ours"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loops_and_metadata_services_are_refused_unless_allowed() {
        let at = |text: &str| -> SocketAddr { text.parse().expect("an address") };
        let own = Own {
            listeners: vec![at("0.0.0.0:80"), at("127.0.0.1:9900")],
            machine: vec![[10, 0, 0, 5].into()],
        };
        for bad in [
            "127.0.0.1:80",
            "10.0.0.5:80",
            "127.0.0.1:9900",
            "[::ffff:127.0.0.1]:80",
            "169.254.169.254:80",
            "[fe80::1]:3000",
            "0.0.0.0:3000",
            "224.0.0.1:3000",
            "10.0.0.9:0",
        ] {
            assert!(refusal(at(bad), &own, &[]).is_some(), "{bad}");
        }
        for good in ["10.0.0.5:81", "10.0.0.6:80", "127.0.0.1:3000"] {
            assert_eq!(refusal(at(good), &own, &[]), None);
        }
        let allow: Vec<IpNet> = vec!["169.254.0.0/16".parse().expect("a network")];
        assert_eq!(refusal(at("169.254.169.254:80"), &own, &allow), None);
        assert!(refusal(at("127.0.0.1:80"), &own, &allow).is_some());
    }
}
