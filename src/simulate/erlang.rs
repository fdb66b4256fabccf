//! Waiting in a queue with many servers: Erlang's formulas.
//!
//! Source: A. K. Erlang (1917); Cooper, Introduction to Queueing Theory, 2nd edition, chapter 3.
//! Arrivals are Poisson and service times exponential; `offered` is arrival rate × mean service
//! time, in busy servers.

/// The share of arrivals that find all servers busy and have to wait (Erlang C); 1 at and above
/// full load.
pub fn waits(servers: f64, offered: f64) -> f64 {
    if offered <= 0.0 {
        return 0.0;
    }
    if servers <= offered {
        return 1.0;
    }
    // Erlang B by its recursion, as the inverse: 1/B(n) = 1 + (n/a)·1/B(n-1).
    let mut inverse = 1.0;
    let mut n = 1.0;
    while n <= servers {
        inverse = 1.0 + inverse * n / offered;
        if inverse > 1e12 {
            return 0.0;
        }
        n += 1.0;
    }
    let blocked = 1.0 / inverse;
    blocked / (1.0 - offered / servers * (1.0 - blocked))
}

/// The share of arrivals that wait longer than `wait` seconds; `service` is the mean service time.
pub fn waits_longer(servers: f64, offered: f64, service: f64, wait: f64) -> f64 {
    if servers <= offered {
        return 1.0;
    }
    let slack = (servers - offered) / service * wait;
    // Not above e^-slack, whatever the load is.
    if slack > 30.0 { 0.0 } else { waits(servers, offered) * (-slack).exp() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of printed tables of Erlang C.
    #[test]
    fn known_values() {
        assert!((waits(1.0, 0.5) - 0.5).abs() < 1e-12, "M/M/1 waits with its load");
        assert!((waits(2.0, 1.0) - 1.0 / 3.0).abs() < 1e-12);
        assert!((waits(10.0, 8.0) - 0.409_18).abs() < 1e-5, "{}", waits(10.0, 8.0));
        assert!((waits(100.0, 90.0) - 0.2171).abs() < 5e-4, "{}", waits(100.0, 90.0));
    }

    #[test]
    fn no_load_never_waits_and_full_load_always_does() {
        assert_eq!([waits(4.0, 0.0), waits(4.0, 4.0), waits(0.0, 1.0)], [0.0, 1.0, 1.0]);
        assert_eq!(waits_longer(4.0, 5.0, 0.1, 10.0), 1.0);
        // M/M/1: P(wait > t) = ρ·e^-(µ-λ)t.
        let found = waits_longer(1.0, 0.5, 0.1, 0.25);
        assert!((found - 0.5 * (-1.25_f64).exp()).abs() < 1e-12, "{found}");
    }
}
