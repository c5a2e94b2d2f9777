//! Our client over lines that break: it goes on by itself, and nothing is lost or doubled.

use std::time::Duration;

use bits_gateway::client::{Event, Patience, Sizes, Source, Upload};

use crate::servers::SeaweedFs;
use crate::support::{
    Config, Dice, Direction, End, Fate, Gateway, KIB, Line, MIB, PART, Place, assert_same, content, seed,
};

#[tokio::test]
async fn our_client_gets_through_lines_that_break_to_a_directory() {
    get_through(Place::directory(), seed(500), 60).await;
}

#[tokio::test]
async fn our_client_gets_through_lines_that_break_to_a_bucket() {
    let server = SeaweedFs::start();
    get_through(Place::bucket(server.settings("lines")), seed(600), 20).await;
}

/// Uploads over a line that breaks `breaks` times, at any byte of a request or of an answer.
async fn get_through(place: Place, seed: u64, breaks: usize) {
    let mut dice = Dice::new(seed);
    let gateway = Gateway::start(&Config::new().route("/up/", &place.lines("part_size = \"5MiB\""))).await;
    let line = Line::new().await;
    line.lead_to(gateway.address);
    let fates: Vec<_> = (0..breaks).map(|_| fate(&mut dice)).collect();
    println!("{fates:?}");
    line.doom(fates);

    let mut uploads = 0;
    while line.doomed() > 0 {
        uploads += 1;
        let bytes = content(uploads, dice.between(1, 4 * PART));
        let url = format!("http://{}/up/{uploads}.bin", line.address)
            .parse()
            .expect("a URL");
        let mut upload = Upload::new(url, Source::Bytes(bytes.clone()));
        upload.options.seed = Some(dice.next());
        upload.options.sizes = Sizes::Varying {
            least: 5 * KIB,
            most: 6 * MIB,
        };
        upload.options.patience = Patience {
            retry_delay: Duration::from_millis(20),
            longest_delay: Duration::from_millis(200),
            give_up_after: Duration::from_secs(120),
        };
        let (mut created, mut acknowledged) = (0, 0);
        let done = upload.run(|event| match event {
            Event::Created { .. } => {
                created += 1;
                acknowledged = 0;
            }
            Event::Stored { offset } | Event::Moved { to: offset, .. } => {
                assert!(
                    offset >= acknowledged,
                    "{acknowledged} was acknowledged, and is asked for again from {offset}"
                );
                acknowledged = offset;
            }
            Event::SessionLost => panic!("the session is lost"),
            _ => {}
        });
        let done = done.await.expect("every line is mended in the end");
        assert_eq!(created, 1, "one session is enough");
        let stored = place.object(&format!("{uploads}.bin")).await.expect("it is published");
        assert_same(&bytes, &stored, &format!("upload {uploads}"));
        assert_eq!(place.kept_of(&done.session).await, ["record"]);
    }
}

/// Any byte of anything: heads and bodies of requests, and answers, which have less than 400 bytes.
fn fate(dice: &mut Dice) -> Fate {
    let end = if dice.once_in(2) { End::Cut } else { End::Reset };
    let (after, direction) = if dice.once_in(3) {
        (dice.between(1, 1200), Direction::ToClient)
    } else {
        (1 << dice.between(5, 23) | dice.between(0, 31), Direction::ToServer)
    };
    Fate { after, direction, end }
}
