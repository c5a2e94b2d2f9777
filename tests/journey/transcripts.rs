//! Exchanges that were published, or composed from the published rules, replayed byte for byte: `tests/vectors/*.txt`.

use std::collections::BTreeMap;
use std::path::Path;

use bits_gateway::client::raw::{Answer, Connection, Packet, lines};

use serde_json::json;

use crate::support::{Application, Config, Gateway, Hand, Place, assert_same, content};

/// The headers of an answer that the vectors speak of, by their spelling on the wire.
type Headers = BTreeMap<String, String>;

/// A line or a block of a vector.
enum Entry {
    /// `>>>`: what the client sends.
    Sent(String),
    /// `<<<`: what the server answers, by our rulings, and what the block is called.
    Answered {
        name: String,
        status: u16,
        headers: Headers,
    },
    /// `>N>`: what the server tells the server application: its target and headers by names in lower case.
    Notified { target: String, headers: Headers },
    /// `<N<`: what the application answers.
    Heard(String),
    /// `@…`: what else there is.
    Told(Vec<String>),
}

#[tokio::test]
async fn the_published_trace_of_a_simple_upload_is_answered_as_it_is_printed() {
    let told = replay("simple-upload.txt", "/upload/", 4_892).await;
    assert_same(&told.content, &told.stored("2000mb-rfc2119.txt").await, "rfc2119.txt");
}

#[tokio::test]
async fn a_lost_ack_is_healed_by_an_overlap() {
    let told = replay("lost-ack.txt", "/up/", 300_000).await;
    assert_same(&told.content, &told.stored("f.bin").await, "f.bin");
}

#[tokio::test]
async fn a_gap_is_answered_416_with_the_true_offset() {
    replay("gap.txt", "/up/", 300_000).await;
}

#[tokio::test]
async fn a_client_of_an_unknown_session_creates_another_one_and_is_sent_back_to_the_beginning() {
    replay("unknown-session.txt", "/up/", 300_000).await;
}

#[tokio::test]
async fn a_cancelled_session_leaves_nothing_but_its_tombstone() {
    let told = replay("cancel.txt", "/up/", 300_000).await;
    let session = told.sessions.values().next().expect("there was one");
    assert_eq!(told.place.kept_of(session).await, ["record"]);
    assert_eq!(told.place.object("f.bin").await, None);
}

#[tokio::test]
async fn the_published_trace_of_an_upload_with_a_reply_is_answered_as_it_is_printed() {
    let place = Place::directory();
    let application = application_of("upload-reply.txt");
    let notify = format!(
        "host_id = \"FRANKCAO8\"\nhost_id_fallback_timeout = \"110s\"\n[routes.notify]\nmode = \"reference\"\nurl = {:?}\n",
        application.url("/bitsasp/test.REPLY")
    );
    let config = Config::new().route("/upload-ref-isapi-WebFarm/", &place.lines(&notify));
    let told = replay_at("upload-reply.txt", &config, place, Some(&application), 4_892).await;
    assert_same(&told.content, &application.read(0).expect("it was read"), "rfc2119.txt");
    let session = told.sessions.values().next().expect("there was one");
    let heard = application.told(0).await;
    let id = session.trim_matches(['{', '}']).to_lowercase();
    let root = &told.place.settings().url;
    let path = |name: &str| heard.header(name).expect("a path").to_owned();
    assert_eq!(
        path("bits-request-datafile-name"),
        format!("{root}/.bits-gateway/sessions/{id}/entity")
    );
    let reply = path("bits-response-datafile-name");
    assert!(
        reply.starts_with(&format!("{root}/.bits-gateway/sessions/{id}/reply/")),
        "{reply}"
    );
    assert_eq!(told.place.kept_of(session).await, ["record"]);
    assert_eq!(told.place.object("2100mb-rfc2119.txt").await, None);
}

#[tokio::test]
async fn a_file_that_is_told_by_value_may_have_a_static_reply_and_a_copy() {
    let place = Place::directory();
    let application = application_of("told-by-value.txt");
    let notify = format!(
        "[routes.notify]\nmode = \"value\"\nurl = {:?}\nstatic_reply_origins = [\"http://h\"]\n",
        application.url("/app/in.asp")
    );
    let config = Config::new().route("/up/", &place.lines(&notify));
    let told = replay_at("told-by-value.txt", &config, place, Some(&application), 300_000).await;
    assert_same(&told.content, &application.body(0).expect("it came whole"), "f.bin");
    assert_same(&told.content, &told.stored("f.bin").await, "f.bin");
}

/// The application that answers as the vector says. By reference, it writes a reply of 10,240 bytes.
fn application_of(vector: &str) -> Application {
    let answers = read(vector).into_iter().filter_map(|entry| match entry {
        Entry::Heard(head) => Some(head),
        _ => None,
    });
    let plan: Vec<_> = answers
        .map(|head| {
            let status: u16 = head
                .split(' ')
                .nth(1)
                .and_then(|status| status.parse().ok())
                .expect("a status");
            let fields: Headers = head
                .lines()
                .skip(1)
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            let unframed = !fields.contains_key("Content-Length");
            let ours: Headers = fields
                .into_iter()
                .filter(|(name, _)| name.starts_with("BITS-"))
                .collect();
            let mut answer = json!({"status": status, "headers": ours, "unframed": unframed});
            if unframed {
                answer["file"] = "r".repeat(10_240).into();
            }
            answer
        })
        .collect();
    Application::start(&plan.into())
}

#[tokio::test]
async fn errors_are_told_with_their_codes() {
    let place = Place::directory();
    let off = Place::directory();
    let rules = "max_upload_size = \"1KiB\"\nmax_fragment_size = \"5KiB\"";
    let large = Place::directory();
    let config = Config::new()
        .route("/up/", &place.lines("max_fragment_size = \"5KiB\""))
        .route("/small/", &large.lines(rules))
        .route("/off/", &off.lines("upload = false"));
    let gateway = Gateway::start(&config).await;
    place.put("there.bin", content(0, 1)).await;

    // A session of 30 bytes that holds 10 of them, and one that holds none.
    let mut known = Hand::new("/up/f.bin", content(1, 30));
    known.begin(gateway.address).await;
    known.send(gateway.address, 10).await;
    let mut fresh = Hand::new("/up/g.bin", content(2, 6 << 10));
    fresh.begin(gateway.address).await;
    let mut small = Hand::new("/small/f.bin", content(3, 1_025));
    small.begin(gateway.address).await;

    let create = |path: &str| Packet::create_session(path);
    let next = known.fragment(10);
    let other_protocol = "{00000000-0000-0000-0000-000000000000}";
    let cases = [
        (
            "invalid-argument",
            create("/up/h.bin").with("BITS-Supported-Protocols", other_protocol),
            None,
        ),
        (
            "invalid-argument",
            next.0.clone().with("Content-Range", "bytes 10-20/30"),
            Some((&known, 10)),
        ),
        (
            "invalid-argument",
            next.0.clone().with("Content-Range", "bytes 10-19/31"),
            Some((&known, 10)),
        ),
        ("invalid-argument", Packet::bits("/up/h.bin", "Sing-Song"), None),
        (
            "invalid-argument",
            create("/up/h.bin").with("X-Long", &"x".repeat(4_097)),
            None,
        ),
        ("invalid-argument", create("/up/folder/"), None),
        ("access-denied", create("/up/there.bin"), None),
        ("disabled", create("/off/f.bin"), None),
        ("disabled", Packet::ping("/off/f.bin"), None),
        ("too-large", small.fragment(100).0, Some((&small, 0))),
        ("shrink", fresh.fragment((5 << 10) + 1).0, Some((&fresh, 0))),
    ];
    let blocks = read("errors.txt");
    for (name, packet, about) in cases {
        let block = blocks.iter().find_map(|entry| match entry {
            Entry::Answered {
                name: is,
                status,
                headers,
            } if is == name => Some((*status, headers.clone())),
            _ => None,
        });
        let (status, mut headers) = block.expect("a block of this name");
        if let Some((hand, next)) = about {
            headers.insert("BITS-Session-Id".to_owned(), hand.session.clone());
            headers.insert("BITS-Received-Content-Range".to_owned(), next.to_string());
        }
        let body = vec![b'x'; length_of(&packet.to_string())];
        let mut connection = Connection::open(gateway.address).await.expect("somebody listens");
        let answer = connection.ask_with(&packet, &body).await.expect("an answer");
        assert_eq!((answer.status, of(&answer)), (status, headers), "{packet}");
    }
}

/// What is known when a transcript is through.
struct Replayed {
    place: Place,
    content: bytes::Bytes,
    /// Our sessions by what they are called in the transcript.
    sessions: BTreeMap<String, String>,
    _gateway: Gateway,
}

impl Replayed {
    async fn stored(&self, key: &str) -> bytes::Bytes {
        self.place.object(key).await.expect("it is published")
    }
}

/// Sends what a client sends in a vector, with our session ids put in, and holds each answer against what is printed and ruled.
async fn replay(vector: &str, route: &str, total: u64) -> Replayed {
    let place = Place::directory();
    let config = Config::new().route(route, &place.lines(""));
    replay_at(vector, &config, place, None, total).await
}

/// The same where there is a server application.
async fn replay_at(
    vector: &str,
    config: &Config,
    place: Place,
    application: Option<&Application>,
    total: u64,
) -> Replayed {
    let gateway = Gateway::start(config).await;
    let content = content(7, total);
    let mut sessions = BTreeMap::new();
    let mut connection = Connection::open(gateway.address).await.expect("somebody listens");
    for entry in read(vector) {
        match entry {
            Entry::Sent(head) => {
                let head = named(&head, &sessions);
                let body = match head.lines().find_map(|line| line.strip_prefix("Content-Range: bytes ")) {
                    Some(range) => {
                        let first: usize = range
                            .split('-')
                            .next()
                            .and_then(|first| first.parse().ok())
                            .expect("an offset");
                        content.slice(first..first + length_of(&head))
                    }
                    None => bytes::Bytes::new(),
                };
                connection.send(lines(&head)).await.expect("it is taken");
                connection.send_body(body).await.expect("it is taken");
            }
            Entry::Answered {
                name,
                status,
                mut headers,
            } => {
                let answer = connection.answer().await.expect("an answer");
                if let (Some(called), Some(ours)) =
                    (headers.get_mut("BITS-Session-Id"), answer.header("BITS-Session-Id"))
                {
                    // The Ack of a Create-Session gives the name.
                    *called = sessions
                        .entry(called.clone())
                        .or_insert_with(|| ours.to_owned())
                        .clone();
                }
                for value in headers.values_mut() {
                    *value = named(value, &sessions);
                }
                assert_eq!((answer.status, of(&answer)), (status, headers), "{vector}: {name}");
            }
            Entry::Notified { target, headers } => {
                let heard = application.expect("there is one").told(0).await;
                assert_eq!(heard.target, target);
                for (name, value) in headers {
                    assert_eq!(heard.header(&name.to_lowercase()), Some(&*value), "{vector}: {name}");
                }
            }
            Entry::Heard(_) => {}
            Entry::Told(words) => match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                ["@session", called, path] => {
                    let mut hand = Hand::new(path, content.clone());
                    hand.begin(gateway.address).await;
                    sessions.insert(called.to_owned(), hand.session);
                }
                ["@session", called, path, "holds", bytes] => {
                    let mut hand = Hand::new(path, content.clone());
                    hand.begin(gateway.address).await;
                    hand.send(gateway.address, bytes.parse().expect("a number")).await;
                    sessions.insert(called.to_owned(), hand.session);
                }
                ["@unknown", called] => drop(sessions.insert(called.to_owned(), called.to_owned())),
                ["@lost"] => {
                    // The server has said it, and nobody has heard it.
                    connection.answer().await.expect("an answer");
                    connection.cut();
                    connection = Connection::open(gateway.address).await.expect("somebody listens");
                }
                _ => panic!("{vector}: {words:?}"),
            },
        }
    }
    Replayed {
        place,
        content,
        sessions,
        _gateway: gateway,
    }
}

/// `head` with our sessions in the place of those that are printed; they have the same length.
fn named(head: &str, sessions: &BTreeMap<String, String>) -> String {
    sessions.iter().fold(head.to_owned(), |head, (called, ours)| {
        assert_eq!(called.len(), ours.len());
        // In a URL the braces are escaped.
        let bare = |id: &str| id.trim_matches(['{', '}']).to_owned();
        head.replace(&bare(called), &bare(ours))
    })
}

fn length_of(head: &str) -> usize {
    let line = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    line.and_then(|length| length.trim().parse().ok()).expect("a length")
}

/// What a vector speaks of in an answer.
fn of(answer: &Answer) -> Headers {
    answer
        .headers
        .iter()
        .filter(|(name, _)| is_ours(name))
        .cloned()
        .collect()
}

fn is_ours(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with("bits-") || matches!(&*name, "content-length" | "accept-encoding" | "pragma" | "retry-after")
}

/// Reads a vector, and makes sure that its blocks have the lengths that stand behind their arrows.
fn read(vector: &str) -> Vec<Entry> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(vector);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut entries = Vec::new();
    let mut rest = text.lines();
    while let Some(line) = rest.next() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with('@') {
            entries.push(Entry::Told(line.split(' ').map(str::to_owned).collect()));
        } else if let Some(name) = line.strip_prefix("+ ") {
            let (name, value) = name.split_once(": ").expect("a header");
            let known = answered(&mut entries).insert(name.to_owned(), value.to_owned());
            assert_eq!(known, None, "{vector}: {name} is printed already");
        } else if let Some(name) = line.strip_prefix("- ") {
            assert!(
                answered(&mut entries).remove(name).is_some(),
                "{vector}: {name} is not printed"
            );
        } else {
            let mut title = line.splitn(3, ' ');
            let (arrow, length, name) = (title.next(), title.next(), title.next().unwrap_or_default());
            let block: String = rest
                .by_ref()
                .take_while(|line| !line.is_empty())
                .map(|line| format!("{line}\n"))
                .collect();
            let head = block + "\n";
            assert_eq!(length, Some(&*lines(&head).len().to_string()), "{vector}: {line}");
            entries.push(match arrow {
                Some(">>>") => Entry::Sent(head),
                Some("<<<") => answer_of(name, &head),
                Some(">N>") => notified_of(&head),
                Some("<N<") => Entry::Heard(head),
                _ => panic!("{vector}: {line}"),
            });
        }
    }
    entries
}

fn answer_of(name: &str, head: &str) -> Entry {
    let mut lines = head.lines();
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1)?.parse().ok())
        .expect("a status");
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .filter(|(name, _)| is_ours(name));
    Entry::Answered {
        name: name.to_owned(),
        status,
        headers: headers
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
    }
}

fn notified_of(head: &str) -> Entry {
    let mut lines = head.lines();
    let target = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a target");
    Entry::Notified {
        target: target.to_owned(),
        headers: lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
    }
}

/// The headers of the last answer that was read, or of what was told.
fn answered(entries: &mut [Entry]) -> &mut Headers {
    match entries.last_mut() {
        Some(Entry::Answered { headers, .. } | Entry::Notified { headers, .. }) => headers,
        _ => panic!("there is no answer to correct"),
    }
}
