//! Whole uploads with our client, and back again: every size that is special, every kind of place.

use bits_gateway::client::raw::{Connection, Packet};
use bits_gateway::client::{Done, Pattern, Sizes, Source, Upload};
use url::Url;

use crate::servers::SeaweedFs;
use crate::support::{Config, Gateway, KIB, MIB, PART, Place, assert_same, content, seed};

/// The sizes that are special: none, one, one fragment of the specification's own example, one part, a little more, a lot.
const LENGTHS: [u64; 6] = [0, 1, 4_892, PART, PART + 1, 100 * MIB];

const LARGE: u64 = 2 << 30;

#[tokio::test]
async fn files_of_every_size_arrive_whole_in_a_directory() {
    let place = Place::directory();
    travel(&place, seed(1), &LENGTHS).await;
}

#[tokio::test]
async fn files_of_every_size_arrive_whole_in_a_bucket() {
    let server = SeaweedFs::start();
    let place = Place::bucket(server.settings("some/prefix"));
    travel(&place, seed(2), &LENGTHS).await;
}

#[tokio::test]
async fn a_file_of_two_gibibytes_arrives_whole_everywhere() {
    if std::env::var_os("BITS_GATEWAY_TEST_LARGE").is_none() {
        println!(
            "SKIPPED: uploads of 2 GiB take minutes and 10 GB of disk; BITS_GATEWAY_TEST_LARGE=1 switches them on"
        );
        return;
    }
    let server = SeaweedFs::start();
    for place in [Place::directory(), Place::bucket(server.settings("some/prefix"))] {
        travel(&place, seed(3), &[LARGE]).await;
    }
}

/// Uploads a file of each length and fetches it again.
async fn travel(place: &Place, seed: u64, lengths: &[u64]) {
    let rules = format!("part_size = \"{}MiB\"", PART / MIB);
    let gateway = Gateway::start(&Config::new().route("/up/", &place.lines(&rules))).await;
    for length in lengths {
        let pattern = Pattern {
            seed: seed ^ length,
            length: *length,
        };
        let path = format!("/up/folder/{length}.bin");
        let done = upload(gateway.url(&path), pattern).await;
        assert_eq!(done.total, *length, "{done:?}");
        assert_eq!(done.bytes, *length, "no byte was sent twice: {done:?}");
        assert_same_as_pattern(&gateway, &path, pattern).await;
        if *length <= 100 * MIB {
            let stored = place
                .object(&format!("folder/{length}.bin"))
                .await
                .expect("it is in the store");
            assert_same(&content(pattern.seed, *length), &stored, &path);
        }
        assert_eq!(place.kept_of(&done.session).await, ["record"], "{length} bytes");
    }
}

async fn upload(url: Url, pattern: Pattern) -> Done {
    let mut upload = Upload::new(url, Source::Pattern(pattern));
    upload.options.seed = Some(pattern.seed);
    if pattern.length <= 2 * PART {
        // Several fragments of these files, too.
        upload.options.sizes = Sizes::Varying {
            least: 5 * KIB,
            most: 3 * MIB,
        };
    }
    upload.run(|_| {}).await.expect("nothing is in the way")
}

/// Fetches the file piece by piece: it need not fit into memory.
async fn assert_same_as_pattern(gateway: &Gateway, path: &str, pattern: Pattern) {
    let mut connection = Connection::open(gateway.address).await.expect("somebody listens");
    let head = connection.send(Packet::new("HEAD", path)).await;
    head.expect("the gateway takes it");
    let head = connection.answer_to_head().await.expect("an answer");
    assert_eq!(head.status, 200, "{head:?}");
    assert_eq!(head.header("Content-Length"), Some(&*pattern.length.to_string()));

    let mut from = 0;
    while from < pattern.length {
        let to = (from + 64 * MIB).min(pattern.length);
        let range = format!("bytes={from}-{}", to - 1);
        let answer = connection.ask(Packet::new("GET", path).with("Range", &range)).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 206, "{range}");
        let mut expected = vec![0; usize::try_from(to - from).expect("64 MiB")];
        pattern.fill(from, &mut expected);
        assert_same(&expected, &answer.body, &range);
        from = to;
    }
}
