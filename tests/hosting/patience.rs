//! How long the front desk waits for a client.

use std::time::Duration;

use crate::support::{House, content, create, fragment, ping, until};

/// A moment for a server that was told to wait for one.
const SHORT: Duration = Duration::from_millis(300);

/// More than any test takes.
const LONG: Duration = Duration::from_secs(600);

/// Time between two bytes of a client that drips.
const DRIP: Duration = Duration::from_millis(20);

fn patient_but_for(change: impl FnOnce(&mut bits_gateway::gateway::Limits)) -> House {
    House::with(|limits| {
        limits.header_timeout = LONG;
        limits.idle_timeout = LONG;
        limits.body_timeout = LONG;
        limits.write_timeout = LONG;
        limits.drain_timeout = LONG;
        change(limits);
    })
}

#[test]
fn a_dripping_head_is_cut_on_a_fresh_connection() {
    let house = patient_but_for(|limits| limits.header_timeout = SHORT);
    let mut client = house.connect();
    client.send("BITS_POST /up/a HTTP/1.1\r\n");
    let mut drops = 0;
    until("the connection is cut", || {
        drops += 1;
        !client.push(format!("X-{drops}: a\r\n").as_bytes()) || client.ends_within(DRIP)
    });
    until("it is counted", || {
        house.metric("bitsgw_connections_rejected_total{reason=\"header_timeout\"}") == "1"
    });
}

#[test]
fn a_dripping_head_is_cut_on_a_reused_connection() {
    let house = patient_but_for(|limits| limits.header_timeout = SHORT);
    let mut client = house.connect();
    assert_eq!(client.send(ping()).answer().status, 200);
    until("the connection is cut", || {
        !client.push(b"B") || client.ends_within(DRIP)
    });
}

#[test]
fn a_fresh_connection_that_says_nothing_is_closed() {
    let house = patient_but_for(|limits| limits.header_timeout = SHORT);
    assert!(house.connect().is_over());
}

#[test]
fn an_idle_connection_is_closed_after_its_first_request_too() {
    let house = patient_but_for(|limits| limits.idle_timeout = SHORT);
    let mut client = house.connect();
    assert_eq!(client.send(ping()).answer().status, 200);
    assert_eq!(client.send(ping()).answer().status, 200);
    assert!(client.is_over());
}

#[test]
fn a_body_takes_as_long_as_it_keeps_coming() {
    // Neither of the two timers of a connection runs while a request is answered.
    let second = Duration::from_secs(1);
    let house = patient_but_for(|limits| (limits.header_timeout, limits.idle_timeout) = (second, second));
    let mut client = house.connect();
    let session = create(&mut client, "/up/a");
    client.send(fragment("/up/a", &session, 0, 60, 60, &[]));
    for byte in content(60) {
        assert!(!client.ends_within(second / 20));
        client.send([byte]);
    }
    assert_eq!(client.answer().status, 200);
}

#[test]
fn a_stalled_body_ends_in_408() {
    let house = patient_but_for(|limits| limits.body_timeout = SHORT);
    let mut client = house.connect();
    let session = create(&mut client, "/up/a");
    let answer = client
        .send(fragment("/up/a", &session, 0, 9, 9, &[]))
        .send("hel")
        .answer();
    assert_eq!((answer.status, answer.header("Connection")), (408, Some("close")));
    assert_eq!(answer.header("BITS-Error"), Some("0x80190198"));
    assert_eq!(answer.header("BITS-Session-Id"), Some(session.as_str()));
    assert!(client.is_over());
}

#[test]
fn a_body_that_drips_ends_in_408() {
    let house = patient_but_for(|limits| (limits.body_timeout, limits.body_min_rate) = (SHORT, 1 << 20));
    let mut client = house.connect();
    let session = create(&mut client, "/up/a");
    client.send(fragment("/up/a", &session, 0, 1 << 20, 1 << 20, &[]));
    let mut early = None;
    until("it is answered", || {
        client.push(b"a");
        early = client.answer_within(DRIP);
        early.is_some()
    });
    assert_eq!(early.map(|answer| answer.status), Some(408));
}

#[test]
fn an_unread_body_that_stalls_is_not_waited_for() {
    let house = patient_but_for(|limits| limits.drain_timeout = SHORT);
    let mut client = house.connect();
    let unknown = "{00000000-0000-0000-0000-000000000001}";
    client.send(fragment("/up/a", unknown, 0, 9, 9, &[])).send("hel");
    let answer = client.answer();
    assert_eq!((answer.status, answer.keeps_alive()), (500, true));
    assert!(client.is_over());
}

#[test]
fn a_client_that_takes_no_answers_is_cut() {
    let house = patient_but_for(|limits| limits.write_timeout = SHORT);
    let mut client = house.connect();
    let many = ping().repeat(1000);
    // Its answers fill the buffers of both kernels, then the server stops reading, then the client's own buffer is full.
    until("the connection is cut", || !client.push(many.as_bytes()));
}
