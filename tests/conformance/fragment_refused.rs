//! Fragments that are refused (MC-BUP 2.2.6.1, 2.2.1.2, 3.2.5.2.3). None of them changes anything: the true next offset says so.

use bits_gateway::client::raw::Packet;
use bits_gateway::session::Principal;

use crate::support::{
    Door, House, INVALID_ARGUMENT, PART, Pieces, Room, SESSION_NOT_FOUND, STRANGER, TOO_LARGE, Told, Upload, ack,
    content,
};

/// Bytes in the files of these tests: several parts.
const SIZE: u64 = 3 * PART + 100;

/// Where their sessions stand.
const AT: u64 = 100;

/// A house with a session that stands at [`AT`].
async fn under_way() -> (House, Upload) {
    let house = House::new();
    let upload = house.begin("/up/f", &content(SIZE, 0)).await;
    house.store(&upload, 0..AT).await;
    (house, upload)
}

/// That nothing has become of what was refused: the session stands where it stood, here and after a restart, and goes on.
async fn goes_on(house: &House, upload: &Upload) {
    assert_eq!(house.next_of(upload).await, Some(AT));
    assert_eq!(house.restarted().next_of(upload).await, Some(AT));
    house.store(upload, AT..SIZE).await;
    assert_eq!(house.close(upload).await, ack(200).of(&upload.id));
    assert_eq!(house.file("f").await.as_ref(), Some(&upload.file));
}

/// What an invalid fragment of a session at [`AT`] is told.
fn invalid(upload: &Upload) -> Told {
    ack(400).error(INVALID_ARGUMENT).of(&upload.id).next(AT)
}

/// Covers: BUP-081
#[tokio::test]
async fn a_fragment_without_a_range_is_refused() {
    let (house, upload) = under_way().await;
    let fragment = upload.fragment(AT..SIZE).without("Content-Range");
    assert_eq!(house.ask(&fragment, upload.bytes(AT..SIZE)).await, invalid(&upload));
    goes_on(&house, &upload).await;
}

/// Covers: BUP-082
#[tokio::test]
async fn a_range_that_is_none_is_refused() {
    let (house, upload) = under_way().await;
    for range in [
        // Other units, and other forms.
        "lines 100-109/3172",
        "100-109/3172",
        "bytes=100-109/3172",
        "bytes100-109/3172",
        "bytes 100-109",
        "bytes 100/3172",
        "bytes -109/3172",
        "bytes 100-/3172",
        "bytes 100-109/",
        "bytes 100-109/3172/3172",
        "bytes 100-109/3172, 110-119/3172",
        "bytes a-b/c",
        "bytes +100-109/3172",
        "bytes 100--109/3172",
        "bytes 0x64-0x6d/3172",
        "bytes 100.0-109/3172",
        "bytes",
        "",
        // Open ones.
        "bytes */3172",
        "bytes 100-109/*",
        "bytes */*",
        // Inverted, and beyond the total.
        "bytes 109-100/3172",
        "bytes 3172-3172/3172",
        "bytes 3163-3172/3172",
        "bytes 100-109/0",
        // Beyond 64 bits.
        "bytes 18446744073709551616-18446744073709551625/18446744073709551626",
        "bytes 100-109/18446744073709551616",
        "bytes 100-18446744073709551725/3172",
        "bytes 100-18446744073709551615/18446744073709551615",
    ] {
        let fragment = upload.fragment(AT..AT + 10).with("Content-Range", range);
        let told = house.ask(&fragment, upload.bytes(AT..AT + 10)).await;
        assert_eq!(told, invalid(&upload), "{range}");
    }
    let twice = upload.fragment(AT..AT + 10).and("Content-Range", "bytes 100-109/3172");
    assert_eq!(house.ask(&twice, upload.bytes(AT..AT + 10)).await, invalid(&upload));
    goes_on(&house, &upload).await;
}

/// Covers: BUP-083
#[tokio::test]
async fn a_body_whose_length_is_not_that_of_its_range_is_refused_and_nothing_of_it_is_stored() {
    let (house, upload) = under_way().await;
    for (range, length) in [
        (AT..AT + 10, 9),
        (AT..AT + 10, 11),
        (AT..AT + 10, 0),
        (AT..SIZE, SIZE),
        (0..AT, 10),
    ] {
        let body = content(length, 9);
        let fragment = upload.fragment(range.clone());
        let told = house
            .ask(&fragment.with("Content-Length", &length.to_string()), &body)
            .await;
        assert_eq!(told, invalid(&upload), "{length} bytes for {range:?}");
    }
    // Nor when only the body itself shows how long it is.
    for length in [0, 9, 11, 700, 2000] {
        let fragment = upload.fragment(AT..AT + 10).without("Content-Length");
        let chunked = fragment.with("Transfer-Encoding", "chunked");
        assert_eq!(
            house.ask(&chunked, &content(length, 9)).await,
            invalid(&upload),
            "{length}"
        );
    }
    // However much of it came.
    let large = house.begin("/up/large", &content(300_000, 0)).await;
    for length in [299_999, 300_001, 400_000] {
        let chunked = large
            .fragment(0..300_000)
            .without("Content-Length")
            .with("Transfer-Encoding", "chunked");
        let told = house.ask(&chunked, &content(length, 9)).await;
        assert_eq!(told, ack(400).error(INVALID_ARGUMENT).of(&large.id).next(0), "{length}");
    }
    house.room().cleared(&large).await;
    let chunked = upload
        .fragment(AT..AT + 10)
        .without("Content-Length")
        .with("Transfer-Encoding", "chunked");
    let told = house.ask(&chunked, upload.bytes(AT..AT + 10)).await;
    assert_eq!(told, ack(200).of(&upload.id).next(AT + 10));
    house.store(&upload, AT + 10..SIZE).await;
    assert_eq!(house.file("f").await, Some(upload.file));
}

/// Covers: BUP-084
#[tokio::test]
async fn another_total_than_the_first_one_is_refused() {
    let (house, upload) = under_way().await;
    for total in [SIZE - 1, SIZE + 1, AT + 10, 1 << 39] {
        let fragment = Packet::fragment("/up/f", &upload.id, AT..AT + 10, total);
        let told = house.ask(&fragment, upload.bytes(AT..AT + 10)).await;
        assert_eq!(told, invalid(&upload), "{total}");
        // Not even by who read about the session anew, nor with bytes that are stored already.
        let stored = Packet::fragment("/up/f", &upload.id, 0..10, total);
        let told = house.restarted().ask(&stored, upload.bytes(0..10)).await;
        assert_eq!(told, invalid(&upload), "{total}");
    }
    assert_eq!(house.next_of(&upload).await, Some(AT));
}

/// Covers: BUP-085
#[tokio::test]
async fn after_such_a_refusal_the_session_takes_the_right_next_fragment() {
    let (house, upload) = under_way().await;
    let fragment = Packet::fragment("/up/f", &upload.id, AT..AT + 10, SIZE + 1);
    assert_eq!(house.ask(&fragment, upload.bytes(AT..AT + 10)).await, invalid(&upload));
    goes_on(&house, &upload).await;
}

/// Covers: BUP-087
#[tokio::test]
async fn a_fragment_of_an_unknown_session_is_refused() {
    let house = House::new();
    for range in [0..5, 0..1, 4..5] {
        let body = &b"bytes"[..(range.end - range.start) as usize];
        let fragment = Packet::fragment("/up/f", STRANGER, range, 5);
        let told = house.ask(&fragment, body).await;
        assert_eq!(told, ack(500).error(SESSION_NOT_FOUND).of(STRANGER));
    }
    assert_eq!((house.room().sessions().await, house.file("f").await), (0, None));
    assert_eq!(house.uploads.remembered(), 0, "strangers leave no trace");
}

/// Covers: BUP-088
#[tokio::test]
async fn a_fragment_with_a_session_id_that_is_no_guid_is_refused() {
    let house = House::new();
    let missing_brace = &STRANGER[1..];
    for id in [
        "x",
        "1",
        "",
        "{}",
        "{0123}",
        missing_brace,
        &format!("{STRANGER}{STRANGER}"),
        "../../f",
    ] {
        let told = house.ask(&Packet::fragment("/up/f", id, 0..5, 5), b"bytes").await;
        assert_eq!(told, ack(500).error(SESSION_NOT_FOUND), "{id:?}");
    }
}

/// Covers: BUP-089
#[tokio::test]
async fn a_fragment_without_a_session_id_is_refused() {
    let (house, upload) = under_way().await;
    let fragment = upload.fragment(AT..SIZE).without("BITS-Session-Id");
    let told = house.ask(&fragment, upload.bytes(AT..SIZE)).await;
    assert_eq!(told, ack(400).error(INVALID_ARGUMENT));
    goes_on(&house, &upload).await;
}

/// Covers: BUP-090
#[tokio::test]
async fn a_session_id_works_in_any_letter_case_and_without_its_braces() {
    let (house, upload) = under_way().await;
    let bare = upload.id.trim_matches(['{', '}']).to_owned();
    let mut mixed = upload.id.to_ascii_lowercase();
    mixed.replace_range(1..9, &upload.id[1..9]);
    let spellings = [upload.id.to_ascii_lowercase(), mixed, bare.to_ascii_lowercase(), bare];
    let mut at = AT;
    for id in spellings {
        let spelled = Upload { id, ..upload.clone() };
        // The Ack says it as the client did.
        house.store(&spelled, at..at + 10).await;
        at += 10;
    }
    let lower = Upload {
        id: upload.id.to_ascii_lowercase(),
        ..upload.clone()
    };
    house.store(&upload, at..SIZE).await;
    assert_eq!(house.close(&lower).await, ack(200).of(&lower.id));
    assert_eq!(house.cancel(&lower).await, ack(200).of(&lower.id));
    assert_eq!(house.file("f").await, Some(upload.file));
}

/// Covers: BUP-091
#[tokio::test]
async fn a_session_of_somebody_else_is_answered_as_an_unknown_one() {
    let (house, upload) = under_way().await;
    let unknown = ack(500).error(SESSION_NOT_FOUND).of(&upload.id);
    for packet in [
        upload.fragment(AT..AT + 10),
        upload.fragment(0..10),
        upload.fragment(AT + 1..AT + 11),
        Packet::close_session(&upload.target, &upload.id),
        Packet::cancel_session(&upload.target, &upload.id),
    ] {
        for house in [&house, &house.restarted()] {
            let thief = Principal::named("thief");
            let told = house.answer(&packet, &mut Pieces::of(&[0; 10]), thief).await;
            assert_eq!(told, Some(unknown.clone()), "{packet}");
        }
    }
    // Not even what is wrong with the packet tells how far the session is.
    let malformed = upload.fragment(0..0).without("Content-Range");
    let told = house
        .answer(&malformed, &mut Pieces::of(b""), Principal::named("thief"))
        .await;
    assert_eq!(told, Some(ack(400).error(INVALID_ARGUMENT).of(&upload.id)));
    goes_on(&house, &upload).await;
}

/// Covers: BUP-092
#[tokio::test]
async fn a_session_used_for_another_url_than_its_own_is_refused() {
    let store = Room::new();
    let same_store = Room::over(store.place.store.clone()).at("/other/");
    let house = House::of([store, same_store]);
    let upload = house.begin("/up/f?a=b", &content(SIZE, 0)).await;
    house.store(&upload, 0..AT).await;
    let refused = || ack(400).error(INVALID_ARGUMENT).of(&upload.id);
    for target in [
        "/up/g",
        "/up/F",
        "/up/f/f",
        "/up/f",
        "/up/f?a=c",
        "/up/f?A=b",
        "/other/f?a=b",
    ] {
        for packet in [
            Packet::close_session(target, &upload.id),
            Packet::cancel_session(target, &upload.id),
        ] {
            assert_eq!(house.ask(&packet, b"").await, refused(), "{packet}");
        }
        let fragment = Packet::fragment(target, &upload.id, AT..AT + 10, SIZE);
        let told = house.ask(&fragment, upload.bytes(AT..AT + 10)).await;
        assert_eq!(told, refused().next(AT), "{target}");
    }
    // Host and port are no part of it, nor is the way in which the same name is written.
    for (target, host) in [("/up/f?a=b", "other.example:8080"), ("/up/%66?a=b", "gateway.test")] {
        let fragment = Packet::fragment(target, &upload.id, 0..AT, SIZE).with("Host", host);
        let told = house.ask(&fragment, upload.bytes(0..AT)).await;
        assert_eq!(told, ack(200).of(&upload.id).next(AT), "{target}");
    }
    house.store(&upload, AT..SIZE).await;
    assert_eq!(house.file("f").await, Some(upload.file));
}

/// Covers: BUP-093
#[tokio::test]
async fn a_total_above_the_limit_of_the_route_is_refused() {
    let house = House::of([Room::new().ruled(|rules| rules.max_upload_size = SIZE)]);
    let upload = house.begin("/up/f", &content(SIZE, 0)).await;
    for total in [SIZE + 1, 1 << 50, u64::MAX] {
        for range in [0..10, 0..SIZE] {
            let fragment = Packet::fragment("/up/f", &upload.id, range.clone(), total);
            let told = house.ask(&fragment, upload.bytes(range)).await;
            assert_eq!(told, ack(500).error(TOO_LARGE).of(&upload.id).next(0), "{total}");
        }
    }
    assert_eq!((house.room().staged(&upload).await, house.file("f").await), (0, None));
}

/// Covers: BUP-097
#[tokio::test]
async fn after_a_413_the_same_bytes_in_smaller_fragments_are_taken() {
    let largest = PART + 10;
    let house = House::of([Room::new().ruled(|rules| rules.max_fragment_size = largest)]);
    let upload = house.begin("/up/f", &content(SIZE, 0)).await;
    assert_eq!(house.send(&upload, 0..SIZE).await, ack(413).of(&upload.id).next(0));
    house.store(&upload, 0..AT).await;
    let too_large = AT..AT + largest + 1;
    assert_eq!(house.send(&upload, too_large).await, ack(413).of(&upload.id).next(AT));
    let mut at = AT;
    while at < SIZE {
        let end = SIZE.min(at + largest);
        house.store(&upload, at..end).await;
        at = end;
    }
    assert_eq!(house.file("f").await, Some(upload.file));
}

/// Covers: BUP-098
#[tokio::test]
async fn a_fragment_with_another_encoding_than_identity_is_refused() {
    let (house, upload) = under_way().await;
    for coding in ["gzip", "deflate", "br", "identity, gzip", "gzip, identity", "x"] {
        let fragment = upload.fragment(AT..SIZE).with("Content-Encoding", coding);
        let told = house.ask(&fragment, upload.bytes(AT..SIZE)).await;
        assert_eq!(told, invalid(&upload), "{coding}");
    }
    for coding in ["identity", "Identity"] {
        let fragment = upload.fragment(0..AT).with("Content-Encoding", coding);
        let told = house.ask(&fragment, upload.bytes(0..AT)).await;
        assert_eq!(told, ack(200).of(&upload.id).next(AT), "{coding}");
    }
    goes_on(&house, &upload).await;
}
