use super::*;

fn listener(name: &str, address: &[SocketAddr]) -> Arc<Listener> {
    Arc::new(Listener::plain(name, address))
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn bind(
    bound: &[Bound],
    wanted: &[Arc<Listener>],
    workers: usize,
) -> Result<Change, Vec<BindError>> {
    change(bound, wanted, workers, &mut Given::default())
}

/// The sockets of a tidegate with so many workers, as they are handed over.
fn handed(listener: &Arc<Listener>, workers: usize) -> (SocketAddr, Given) {
    let mut opened =
        bind(&[], std::slice::from_ref(listener), workers).expect("bind").open.remove(0);
    let name = opened.bound.handover_name();
    let all =
        opened.sockets.drain(..).map(|(_, socket)| (name.clone(), socket.spare().expect("spare")));
    (opened.bound.address, Given::by_predecessor(all.collect()))
}

#[test]
fn every_socket_handed_over_is_accepted_from_whatever_the_number_of_workers() {
    let listener = listener("a", &[loopback(0)]);
    for (before, after, sockets) in [(3, 2, 3), (2, 3, 3), (1, 1, 1)] {
        let (address, mut given) = handed(&listener, before);
        let opened =
            change(&[], std::slice::from_ref(&listener), after, &mut given).expect("taken over");
        let opened = &opened.open[0];
        assert_eq!((opened.bound.address, opened.sockets.len()), (address, sockets));
        for worker in 0..after {
            assert!(opened.sockets.iter().any(|(of, _)| *of == worker), "{worker} has one");
        }
        // Connections wait in the queues of all of them.
        let clients: Vec<_> =
            (0..32).map(|_| std::net::TcpStream::connect(address).expect("queued")).collect();
        let accepts = |socket: &Listening| match socket {
            Listening::Tcp(socket) => socket.accept().is_ok(),
            Listening::Udp(..) => false,
        };
        let accepted = || opened.sockets.iter().filter(|(_, s)| accepts(s)).count();
        let mut found = 0;
        while found < clients.len() {
            let more = accepted();
            assert!(more > 0, "{found} of {} were found", clients.len());
            found += more;
        }
    }
}

#[test]
fn a_listener_of_another_name_takes_the_sockets_of_its_address() {
    let free = TcpListener::bind(loopback(0)).and_then(|l| l.local_addr()).expect("free port");
    let (address, mut given) = handed(&listener("old", &[free]), 2);
    let opened = change(&[], &[listener("new", &[free])], 2, &mut given).expect("taken over");
    assert_eq!((opened.open[0].bound.address, opened.open[0].sockets.len()), (address, 2));
    assert!(given.unused().is_empty());
}

#[test]
fn a_socket_that_does_not_listen_is_refused() {
    let configured = ListenAddress::Passed("web".into());
    let socket = bind_one(loopback(0), false).expect("bind");
    let error = take_over(vec![socket.into()], &configured, 1).expect_err("not listening");
    assert!(error.to_string().contains("does not listen"), "{error}");
    let udp = std::net::UdpSocket::bind(loopback(0)).expect("bind");
    let error = take_over(vec![udp.into()], &configured, 1).expect_err("not TCP");
    assert!(error.to_string().contains("is not of TCP"), "{error}");
    let file = std::fs::File::open("/dev/null").expect("there");
    let error = take_over(vec![file.into()], &configured, 1).expect_err("no socket");
    assert!(error.to_string().contains("is no socket"), "{error}");
}

#[test]
fn port_zero_becomes_one_port_for_all_workers() {
    let change = bind(&[], &[listener("a", &[loopback(0)])], 3).expect("bind");
    let opened = &change.open[0];
    assert_ne!(opened.bound.address.port(), 0);
    for (_, socket) in &opened.sockets {
        let socket = Socket::from(socket.spare().expect("spare"));
        let address = socket.local_addr().expect("address");
        assert_eq!(address.as_socket(), Some(opened.bound.address));
    }
    assert_eq!(opened.sockets.len(), 3);
}

#[test]
fn a_port_in_use_is_an_error_and_nothing_stays_bound() {
    let first = bind(&[], &[listener("a", &[loopback(0)])], 1).expect("bind");
    let taken = first.open[0].bound.address;
    let free = TcpListener::bind(loopback(0)).and_then(|l| l.local_addr()).expect("free port");
    let errors = bind(&[], &[listener("b", &[free, taken])], 1).expect_err("taken");
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].address, ListenAddress::Socket(taken));
    assert!(errors[0].to_string().contains("stop what listens there"), "{}", errors[0]);
    TcpListener::bind(free).expect("the free one was let go again");
}

#[test]
fn what_stays_is_untouched_and_what_left_is_closed() {
    let a = listener("a", &[loopback(0)]);
    let b = listener("b", &[loopback(0)]);
    let first = bind(&[], &[a.clone(), b], 1).expect("bind");
    let bound: Vec<_> = first.open.iter().map(|o| o.bound.clone()).collect();
    let second = bind(&bound, &[a], 1).expect("bind");
    assert!(second.open.is_empty());
    assert_eq!(second.close, [bound[1].clone()]);
}

#[test]
fn little_is_taken_in_for_a_client_that_reads_nothing() {
    let listener = listener("a", &[loopback(0)]);
    let passed_on = |listener: &Arc<Listener>| {
        let (_, mut given) = handed(listener, 1);
        change(&[], std::slice::from_ref(listener), 1, &mut given)
    };
    for change in [bind(&[], std::slice::from_ref(&listener), 1), passed_on(&listener)] {
        let opened = change.expect("bound").open.remove(0);
        let Listening::Tcp(socket) = &opened.sockets[0].1 else { panic!("TCP") };
        socket.set_nonblocking(false).expect("waits");
        let client = std::net::TcpStream::connect(opened.bound.address).expect("queued");
        let (accepted, _) = socket.accept().expect("accepted");
        // So that what the client's side takes is known: twice that, and a share for overhead.
        socket2::SockRef::from(&client).set_recv_buffer_size(65_536).expect("set");
        accepted.set_nonblocking(true).expect("set");
        let (mut taken, piece) = (0, vec![0; 65_536]);
        while let Ok(more) = std::io::Write::write(&mut &accepted, &piece) {
            taken += more;
        }
        let most = UNSENT as usize + piece.len() + 4 * 65_536;
        assert!(taken > 0 && taken <= most, "{taken} bytes were taken of {most}");
    }
}
