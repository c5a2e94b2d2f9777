//! The server application (MC-BUP 2.2.12, 2.2.13, 3.3; win32 documentation).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bits_gateway::notify::settings::{Mode, Settings};
use bits_gateway::session::Principal;
use futures::TryStreamExt;

use crate::http::{Answer, Request, Server, answer};
use crate::support::{Door, House, INVALID_ARGUMENT, PART, Room, SIZES, Told, Upload, ack, content, directory};

/// An application that says what it is told to, and then 200.
struct Application {
    server: Server,
    heard: Arc<Mutex<Vec<Request>>>,
}

/// What it says; nothing at all is silence.
type Says = Option<Answer>;

impl Application {
    async fn saying(says: impl IntoIterator<Item = Says>) -> Self {
        let heard: Arc<Mutex<Vec<Request>>> = Arc::default();
        let says: Mutex<VecDeque<Says>> = Mutex::new(says.into_iter().collect());
        let hears = Arc::clone(&heard);
        let server = Server::start(move |request| {
            hears.lock().unwrap().push(request);
            let next = says.lock().unwrap().pop_front().unwrap_or_else(|| Some(status(200)));
            async move {
                match next {
                    Some(answer) => answer,
                    None => std::future::pending().await,
                }
            }
        })
        .await;
        Self { server, heard }
    }

    fn heard(&self) -> Vec<Request> {
        self.heard.lock().unwrap().clone()
    }

    /// A gateway that tells it, by value unless `change` says otherwise.
    fn house(&self, change: impl FnOnce(&mut Settings)) -> House {
        self.house_over(Room::new(), change)
    }

    fn house_over(&self, room: Room, change: impl FnOnce(&mut Settings)) -> House {
        let mut settings = Settings {
            mode: Mode::Value,
            url: Some(format!("http://127.0.0.1:{}/app/in.asp", self.server.port)),
            ..Settings::default()
        };
        change(&mut settings);
        House::of([room.telling(&settings)])
    }
}

fn status(status: u16) -> Answer {
    answer(status, &[], b"")
}

fn says(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Says {
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()))
        .collect();
    Some(answer(status, &headers, body))
}

/// Sends all of the file at once.
async fn finish(house: &House, upload: &Upload) -> Told {
    house.send(upload, 0..upload.size()).await
}

/// An error that the application reported.
fn application_error(status: u16, upload: &Upload, code: &str) -> Told {
    ack(status)
        .of(&upload.id)
        .next(upload.size() - 1)
        .with("BITS-Error", code)
        .with("BITS-Error-Code", code)
        .with("BITS-Error-Context", "0x7")
}

/// The reply that is kept for the client of a session.
async fn reply(house: &House, upload: &Upload) -> Option<Vec<u8>> {
    let place = &house.room().place;
    let id = upload.id.parse().expect("a session");
    let key = house
        .uploads
        .reply(place, &Principal::anonymous(), id)
        .await
        .expect("a store")?;
    let read = place.store.read(&key, None, None).await.expect("a reply");
    Some(read.stream.try_collect::<Vec<_>>().await.expect("a reply").concat())
}

fn url_of(upload: &Upload) -> String {
    let id = upload.id.trim_matches(['{', '}']);
    format!("http://gateway.test/up/BITS-Sessions/Replies/%7B{id}%7D/responsefile.bin")
}

/// Covers: BUP-130, BUP-132, BUP-133
#[tokio::test]
async fn by_reference_the_application_is_told_where_the_file_lies_once_it_is_whole() {
    for size in SIZES {
        let folder = tempfile::tempdir().expect("a folder");
        let application = Application::saying([]).await;
        let room = Room::over(directory(folder.path()));
        let house = application.house_over(room, |settings| settings.mode = Mode::Reference);
        let upload = house.begin("/up/dir/f?x=1", &content(size, 1)).await;
        if size > 1 {
            house.store(&upload, 0..size - 1).await;
            assert!(application.heard().is_empty(), "not before the last byte");
            assert_eq!(house.send(&upload, size - 1..size).await.status, 200);
        } else {
            assert_eq!(finish(&house, &upload).await.status, 200);
        }
        let [request] = &application.heard()[..] else {
            panic!("it is told once");
        };
        assert_eq!((request.method.as_str(), request.body.len()), ("POST", 0));
        assert_eq!(request.header("content-length"), Some("0"));
        assert_eq!(
            request.header("bits-original-request-url"),
            Some("http://gateway.test/up/dir/f?x=1")
        );
        let path = request.header("bits-request-datafile-name").expect("the file");
        assert_eq!(std::fs::read(path).expect("it is there"), upload.file);
        assert!(request.header("bits-response-datafile-name").is_some());
        assert_eq!(request.header("bits-request-dataentity-name"), None);
    }
}

/// Covers: BUP-131, BUP-133
#[tokio::test]
async fn by_value_the_application_gets_the_file_itself() {
    for size in SIZES {
        let application = Application::saying([]).await;
        let house = application.house(|_| {});
        let upload = house.begin("/up/f", &content(size, 2)).await;
        assert!(application.heard().is_empty());
        assert_eq!(finish(&house, &upload).await.status, 200);
        let [request] = &application.heard()[..] else {
            panic!("it is told once");
        };
        assert_eq!(request.body, upload.file);
        assert_eq!(request.header("content-length"), Some(&*size.to_string()));
        assert_eq!(request.header("bits-request-datafile-name"), None);
        assert_eq!(request.header("bits-response-datafile-name"), None);
    }
}

/// Covers: BUP-134
#[tokio::test]
async fn the_query_of_the_upload_is_handed_on() {
    let application = Application::saying([]).await;
    let house = application.house(|_| {});
    for (target, told) in [
        ("/up/f?ACCOUNT=86433", "/app/in.asp?ACCOUNT=86433"),
        ("/up/g", "/app/in.asp"),
        ("/up/h?a=1&b=%20", "/app/in.asp?a=1&b=%20"),
    ] {
        let upload = house.begin(target, b"x").await;
        assert_eq!(finish(&house, &upload).await.status, 200);
        assert_eq!(application.heard().last().expect("it is told").target, told);
    }
}

/// Covers: BUP-135
#[tokio::test]
async fn a_relative_url_begins_in_the_directory_of_the_upload() {
    let application = Application::saying([]).await;
    let house = application.house(|settings| {
        settings.url = Some("myasp.asp".to_owned());
        let origin = format!("http://127.0.0.1:{}", application.server.port);
        settings.origin = Some(origin.parse().expect("an origin"));
    });
    for (target, told) in [
        ("/up/file.txt", "/up/myasp.asp"),
        ("/up/a/b/f?x=1", "/up/a/b/myasp.asp?x=1"),
    ] {
        let upload = house.begin(target, b"x").await;
        assert_eq!(finish(&house, &upload).await.status, 200);
        assert_eq!(application.heard().last().expect("it is told").target, told);
    }
}

/// Covers: BUP-136
#[tokio::test]
async fn the_body_of_the_answer_is_the_reply() {
    for size in SIZES {
        let application = Application::saying([says(200, &[], &content(size, 3))]).await;
        let house = application.house(|_| {});
        let upload = house.begin("/up/f", b"question").await;
        let told = finish(&house, &upload).await;
        assert_eq!(
            told,
            ack(200).of(&upload.id).next(8).with("BITS-Reply-URL", &url_of(&upload))
        );
        assert_eq!(reply(&house, &upload).await, Some(content(size, 3)));
        let stranger = Principal::named("somebody else");
        let id = upload.id.parse().expect("a session");
        let theirs = house.uploads.reply(&house.room().place, &stranger, id).await;
        assert_eq!(theirs.expect("a store"), None, "a reply is for who asked");
    }
}

/// Covers: BUP-137, BUP-144
#[tokio::test]
async fn a_static_reply_is_handed_on_unchanged() {
    let url = "http://static.example:80/replies/a%20b.txt?x=1";
    let application = Application::saying([says(200, &[("BITS-Static-Response-URL", url)], b"")]).await;
    let house = application.house(|settings| {
        settings.static_reply_origins = vec!["http://static.example".parse().expect("an origin")];
    });
    let upload = house.begin("/up/f", b"question").await;
    let expected = ack(200).of(&upload.id).next(8).with("BITS-Reply-URL", url);
    assert_eq!(finish(&house, &upload).await, expected);
    assert_eq!(finish(&house, &upload).await, expected);
    assert_eq!(reply(&house, &upload).await, None);
    assert_eq!(house.close(&upload).await, ack(200).of(&upload.id));
}

/// Covers: BUP-138
#[tokio::test]
async fn the_file_goes_to_its_destination_only_when_the_application_asks_for_it() {
    for size in SIZES {
        for value in [None, Some("1"), Some("0"), Some("")] {
            let headers: Vec<_> = value
                .iter()
                .map(|value| ("BITS-Copy-File-To-Destination", *value))
                .collect();
            let application = Application::saying([says(200, &headers, b"")]).await;
            let house = application.house(|_| {});
            let upload = house.begin("/up/f", &content(size, 4)).await;
            assert_eq!(finish(&house, &upload).await.status, 200);
            assert_eq!(house.close(&upload).await, ack(200).of(&upload.id));
            assert_eq!(house.file("f").await, value.map(|_| upload.file.clone()));
            assert_eq!(house.room().staged(&upload).await, 0);
        }
    }
}

/// Covers: BUP-139
#[tokio::test]
async fn an_error_of_the_application_reaches_the_client_and_it_is_told_again() {
    for size in [10, 3 * PART] {
        let application = Application::saying([
            says(500, &[], b"oops"),
            says(503, &[], b""),
            says(404, &[], b""),
            says(200, &[], b"ok"),
        ])
        .await;
        let house = application.house(|_| {});
        let upload = house.begin("/up/f", &content(size, 5)).await;
        for (status, code) in [(500, "0x801901F4"), (503, "0x801901F7"), (404, "0x80190194")] {
            assert_eq!(finish(&house, &upload).await, application_error(status, &upload, code));
        }
        assert_eq!(finish(&house.restarted(), &upload).await.status, 200);
        let heard = application.heard();
        assert_eq!(heard.len(), 4);
        for request in &heard {
            assert_eq!(request.body, upload.file);
            assert_eq!(request.header("idempotency-key"), Some(&*upload.id));
        }
    }
}

/// Covers: BUP-140
#[tokio::test]
async fn after_a_success_the_last_fragment_is_answered_from_the_record() {
    let application = Application::saying([says(200, &[], b"once"), says(200, &[], b"twice")]).await;
    let house = application.house(|_| {});
    let upload = house.begin("/up/f", &content(3 * PART, 6)).await;
    let first = finish(&house, &upload).await;
    assert_eq!(first.header("BITS-Reply-URL"), Some(&*url_of(&upload)));
    let size = upload.size();
    for range in [0..size, size - 1..size, 0..10] {
        assert_eq!(house.send(&upload, range.clone()).await, first);
        assert_eq!(house.restarted().send(&upload, range).await, first);
    }
    assert_eq!(application.heard().len(), 1);
    assert_eq!(reply(&house, &upload).await, Some(b"once".to_vec()));
}

/// Covers: BUP-141
#[tokio::test]
async fn after_a_403_nothing_more_is_posted() {
    let application = Application::saying([says(403, &[], b"no")]).await;
    let house = application.house(|_| {});
    let upload = house.begin("/up/f", &content(3 * PART, 7)).await;
    for _ in 0..2 {
        assert_eq!(
            finish(&house, &upload).await,
            application_error(403, &upload, "0x80190193")
        );
        assert_eq!(
            finish(&house.restarted(), &upload).await,
            application_error(403, &upload, "0x80190193")
        );
    }
    assert_eq!(application.heard().len(), 1);
    assert_eq!(house.close(&upload).await, ack(200).of(&upload.id));
    assert_eq!(house.file("f").await, None);
}

/// Covers: BUP-142
#[tokio::test]
async fn a_silent_application_is_told_as_408() {
    let application = Application::saying([None]).await;
    let house = application.house(|settings| settings.timeout = Duration::from_millis(300));
    let upload = house.begin("/up/f", b"question").await;
    assert_eq!(
        finish(&house, &upload).await,
        application_error(408, &upload, "0x80190198")
    );
    assert_eq!(finish(&house, &upload).await.status, 200);
}

/// Covers: BUP-143
#[tokio::test]
async fn a_reply_url_of_more_than_2200_characters_is_refused() {
    let url = format!("http://static.example/{}", "x".repeat(2200));
    let application = Application::saying([says(200, &[("BITS-Static-Response-URL", &url)], b"")]).await;
    let house = application.house(|settings| {
        settings.static_reply_origins = vec!["http://static.example".parse().expect("an origin")];
    });
    let upload = house.begin("/up/f", b"question").await;
    let expected = ack(400).of(&upload.id).next(7).error(INVALID_ARGUMENT);
    assert_eq!(finish(&house, &upload).await, expected);
}

/// Covers: BUP-144, BUP-145
#[tokio::test]
async fn close_and_cancel_delete_a_stored_reply() {
    for closes in [true, false] {
        let application = Application::saying([says(200, &[], b"thanks")]).await;
        let house = application.house(|_| {});
        let upload = house.begin("/up/f", &content(3 * PART, 8)).await;
        assert_eq!(finish(&house, &upload).await.status, 200);
        assert_eq!(reply(&house, &upload).await, Some(b"thanks".to_vec()));
        let ended = if closes {
            house.close(&upload).await
        } else {
            house.cancel(&upload).await
        };
        assert_eq!(ended, ack(200).of(&upload.id));
        assert_eq!(reply(&house, &upload).await, None);
        assert_eq!(house.room().staged(&upload).await, 0);
        assert_eq!(house.file("f").await, None);
    }
}

/// The digest's T39: nobody took the file, so nobody gets it.
#[tokio::test]
async fn close_after_a_failed_notification_publishes_nothing() {
    let application = Application::saying([says(500, &[], b"")]).await;
    let house = application.house(|_| {});
    let upload = house.begin("/up/f", &content(3 * PART, 9)).await;
    assert_eq!(finish(&house, &upload).await.status, 500);
    assert_eq!(house.close(&upload).await, ack(200).of(&upload.id));
    assert_eq!(house.file("f").await, None);
    assert_eq!(house.room().staged(&upload).await, 0);
    assert_eq!(application.heard().len(), 1);
}
