//! How a front desk closes: nobody is cut off who was being served.

use crate::support::{Client, House, create, fragment, ping, until};

#[test]
fn answers_end_their_connections_once_the_desk_is_leaving() {
    let house = House::new();
    let mut idle = house.connect();
    let mut busy = house.connect();
    assert_eq!(idle.send(ping()).answer().status, 200);
    let session = create(&mut busy, "/up/a");
    busy.send(fragment("/up/a", &session, 0, 9, 9, &[])).send("hel");
    until("the fragment is being taken", || house.gateway.in_flight() == 1);
    house.gateway.leave();
    for client in [&mut idle, &mut house.connect()] {
        let answer = client.send(ping()).answer();
        assert_eq!((answer.status, answer.header("Connection")), (200, Some("close")));
        assert!(client.is_over());
    }
    let answer = busy.send("lo you").answer();
    assert_eq!((answer.status, answer.header("Connection")), (200, Some("close")));
    assert!(busy.is_over());
}

#[test]
fn closed_doors_let_nobody_in_but_serve_who_is_in() {
    let house = House::new();
    let mut inside = house.connect();
    assert_eq!(inside.send(ping()).answer().status, 200);
    house.gateway.leave();
    house.gateway.close();
    until("connections are refused", || {
        std::net::TcpStream::connect(house.address).is_err()
    });
    assert_eq!(inside.send(ping()).answer().status, 200);
}

#[test]
fn the_desk_is_finished_when_the_last_request_is() {
    let house = House::new();
    let mut client = house.connect();
    let session = create(&mut client, "/up/a");
    client.send(fragment("/up/a", &session, 0, 9, 9, &[])).send("hel");
    until("the fragment is being taken", || house.gateway.in_flight() == 1);
    house.gateway.leave();
    house.gateway.close();
    let watching = std::sync::Arc::clone(&house.gateway);
    let finished = house.spawn(async move { watching.finished().await });
    assert!(!finished.is_finished());
    assert_eq!(client.send("lo you").answer().status, 200);
    house.wait_for(finished).expect("in time").expect("no panic");
    assert_eq!(house.gateway.in_flight(), 0);
}

#[test]
fn a_crowd_is_served_to_the_last_one() {
    let house = House::new();
    let mut clients: Vec<Client> = (0..50).map(|_| house.connect()).collect();
    let sessions: Vec<String> = clients.iter_mut().map(|client| create(client, "/up/a")).collect();
    for (client, session) in clients.iter_mut().zip(&sessions) {
        client.send(fragment("/up/a", session, 0, 9, 9, &[])).send("hel");
    }
    until("all are being served", || house.gateway.in_flight() == 50);
    house.gateway.leave();
    house.gateway.close();
    for client in &mut clients {
        client.send("lo you");
    }
    for client in &mut clients {
        assert!(
            matches!(client.answer().status, 200 | 500),
            "answered, whoever of them won"
        );
    }
    house.wait_for(house.gateway.finished()).expect("in time");
}
