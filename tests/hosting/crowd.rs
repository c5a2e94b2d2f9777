//! As many connections as may be, and one more.

use crate::support::{Client, House, ping, until};

#[test]
fn one_connection_too_many_is_told_so() {
    let house = House::with(|limits| limits.connections = 2);
    let mut first = house.connect();
    let mut second = house.connect();
    assert_eq!(first.send(ping()).answer().status, 200);
    assert_eq!(second.send(ping()).answer().status, 200);
    let mut third = house.connect();
    let answer = third.answer();
    assert_eq!(answer.status, 503);
    assert_eq!(answer.spelled("BITS-Packet-Type"), Some("Ack"));
    assert_eq!(answer.header("Retry-After"), Some("10"));
    assert_eq!(answer.header("Connection"), Some("close"));
    assert_eq!(house.metric("bitsgw_connections_rejected_total{reason=\"limit\"}"), "1");
    assert_eq!(first.send(ping()).answer().status, 200, "who was in is still served");
    drop(second);
    until("a place is free", || {
        let mut next = house.connect();
        next.push(ping().as_bytes());
        next.try_answer().is_some_and(|answer| answer.status == 200)
    });
}

#[test]
fn connections_are_counted_while_they_are_open() {
    let house = House::new();
    let mut clients: Vec<Client> = (0..3).map(|_| house.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.send(ping()).answer().status, 200);
    }
    assert_eq!(house.metric("bitsgw_connections_active"), "3");
    drop(clients);
    until("they are gone", || house.metric("bitsgw_connections_active") == "0");
    assert_eq!(house.metric("bitsgw_connections_accepted_total"), "3");
}
