//! The client's own death: the same command goes on where the last one was killed.

use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    Config, Dice, Direction, End, Fate, Gateway, KIB, Line, MIB, Place, assert_same, content, program, seed, until,
};

const LENGTH: u64 = 12 * MIB + 345;
const FRAGMENT: u64 = 512 * KIB;

#[tokio::test]
async fn the_same_command_goes_on_after_its_own_death() {
    let mut dice = Dice::new(seed(700));
    let place = Place::directory();
    let mut gateway = Gateway::start(&Config::new().route("/up/", &place.lines("part_size = \"5MiB\""))).await;
    let line = Line::new().await;
    line.lead_to(gateway.address);
    let folder = tempfile::tempdir().expect("room for files");
    let bytes = content(9, LENGTH);
    std::fs::write(folder.path().join("f.bin"), &bytes).expect("room for a file");
    let url = format!("http://{}/up/f.bin", line.address);

    // Each life ends somewhere within the next four fragments: the line falls silent there, and the client is killed.
    for life in 1..=5 {
        let after = dice.between(KIB, 4 * FRAGMENT);
        println!("life {life} ends after {after} bytes");
        line.doom([Fate {
            after,
            direction: Direction::ToServer,
            end: End::Silence,
        }]);
        let mut client = Upload::begin(&folder, &url);
        line.reached(life).await;
        client.kill();
        line.over(life).await;
    }
    let status = Upload::begin(&folder, &url).end().await;
    assert!(status.success(), "{status}");

    assert_same(&bytes, &place.object("f.bin").await.expect("it is published"), "f.bin");
    let names = std::fs::read_dir(folder.path()).expect("it is there");
    let left: Vec<_> = names.map(|entry| entry.expect("a name").file_name()).collect();
    assert_eq!(left, ["f.bin"], "the state is gone with the upload");

    // The last line of its log.
    let closed = gateway.logged("it is closed", |line| {
        (line.get("kind")? == "Close-Session").then_some(())
    });
    closed.await;
    let created = gateway.requests(|line| (line.get("kind")? == "Create-Session").then_some(()));
    assert_eq!(created.len(), 1, "one session is enough for all lives");
    let ranges = gateway.requests(|line| {
        let range = line.get("range").and_then(Value::as_str)?;
        Some(range.split("..").next()?.parse::<u64>().expect("an offset"))
    });
    assert!(
        ranges.is_sorted(),
        "nothing is sent again that was acknowledged: {ranges:?}"
    );
    assert!(ranges.len() as u64 <= LENGTH.div_ceil(FRAGMENT) + 5, "{ranges:?}");
}

/// `bits-gateway upload`, killed when it is dropped.
struct Upload(Child);

impl Upload {
    fn begin(folder: &TempDir, url: &str) -> Self {
        let mut command: Command = program();
        command
            .args([
                "upload",
                "f.bin",
                url,
                "--fragment-size",
                "512KiB",
                "--retry-delay",
                "10ms",
            ])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit());
        Self(command.spawn().expect("the program was built"))
    }

    /// `kill -9`.
    fn kill(&mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("a child");
    }

    async fn end(&mut self) -> std::process::ExitStatus {
        until("it ends", async || self.0.try_wait().expect("a child")).await
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
