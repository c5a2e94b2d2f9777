//! Stores that are configured wrongly, in use, or cannot do what sessions rest on: the program says so and ends.

use std::process::Stdio;

use ::http::HeaderName;
use bits_gateway::client::{Sizes, Source, Upload};
use bits_gateway::store::Settings;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::HttpRequestBody;
use tokio::process::Command;
use tokio::time::timeout;

use crate::http::{Request, Server, pass};
use crate::servers::SeaweedFs;
use crate::support::{Config, Gateway, MIB, PART, PATIENCE, Place, assert_same, content, program};

#[tokio::test]
async fn a_store_without_conditional_writes_ends_the_program_with_78_unless_there_is_one_replica_only() {
    let seaweed = SeaweedFs::start();
    let (_forgetful, settings) = without_conditions(&seaweed, "unfit").await;
    let place = Place::bucket(settings);
    let config = Config::new().route("/up/", &place.lines(""));
    let lacks = "does not create an object only if it is absent (If-None-Match: *), nor replace an object only if it is \
                 unchanged (If-Match), nor complete an upload of several parts only if the destination is unchanged: use a \
                 store that does";
    assert_ends(78, &config, "s3://bucket/unfit", lacks, &["check --live", "serve"]).await;

    let rules = "part_size = \"5MiB\"\ncoordination = \"single-replica\"";
    let gateway = Gateway::start(&Config::new().route("/up/", &place.lines(rules))).await;
    let bytes = content(14, 2 * PART + 1);
    let mut upload = Upload::new(gateway.url("/up/f.bin"), Source::Bytes(bytes.clone()));
    upload.options.sizes = Sizes::Fixed(3 * MIB);
    upload.run(|_| {}).await.expect("one replica needs no conditions");
    assert_same(&bytes, &place.object("f.bin").await.expect("it is published"), "f.bin");
}

#[tokio::test]
async fn a_store_that_makes_no_sense_ends_the_program_with_78_and_a_sentence_that_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    std::fs::write(&file, "no directory").expect("room for a file");
    let below = file.join("below").display().to_string();
    for (store, options, why, commands) in [
        (
            "s3://bucket/x",
            "aws_regoin = \"eu-central-1\"",
            "`aws_regoin` is no option that object_store knows for S3",
            &["serve", "check", "check --live"][..],
        ),
        (
            "s3://bucket/x",
            "aws_access_key_id = \"a\"\naws_secret_access_key = \"b\"\naws_conditional_put = \"disabled\"",
            "aws_conditional_put must not be disabled",
            &["serve", "check", "check --live"],
        ),
        // Without `--live` it is left alone: looking would make it.
        (&below, "", "Not a directory", &["serve", "check --live"]),
    ] {
        let lines = format!("store = {store:?}\n[routes.store_options]\n{options}\n");
        assert_ends(78, &Config::new().route("/up/", &lines), store, why, commands).await;
    }
}

#[tokio::test]
async fn a_directory_that_another_process_serves_ends_the_program_with_69_for_that_may_pass() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = folder.path().display().to_string();
    let config = Config::new().route("/up/", &format!("store = {directory:?}"));
    let mut first = Gateway::start(&config).await;
    assert_ends(
        69,
        &config,
        &directory,
        "is in use by another process",
        &["serve", "check --live"],
    )
    .await;
    first.kill();
    let (code, said) = run("check --live", &config).await;
    assert_eq!(code, Some(0), "nobody has it any more: {said}");
}

/// Each of the commands ends with this code, and a line names the store and says why.
async fn assert_ends(code: i32, config: &Config, store: &str, why: &str, commands: &[&str]) {
    for command in commands {
        let (ended, said) = run(command, config).await;
        assert_eq!(ended, Some(code), "{command}: {said}");
        let told = said.lines().any(|line| line.contains(store) && line.contains(why));
        assert!(told, "{command}: {said}");
    }
}

/// Runs a command with a configuration until it ends. Its exit code and everything that it says.
async fn run(command: &str, config: &Config) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut program = Command::from(program());
    program
        .args(command.split(' '))
        .arg("--config")
        .arg(config.write(folder.path()))
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let output = timeout(PATIENCE, program.output()).await;
    let output = output
        .unwrap_or_else(|_| panic!("{command}: it goes on"))
        .expect("the program was built");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

/// A way to `server` on which conditions get lost, and the settings of a store that is reached that way.
async fn without_conditions(server: &SeaweedFs, prefix: &str) -> (Server, Settings) {
    let (port, settings) = (server.port(), server.settings(prefix));
    let forgetful = Server::start(move |request| {
        let request = forgotten(request, port, &settings);
        async move { pass(port, &request).await }
    });
    let forgetful = forgetful.await;
    let settings = server.settings_via(forgetful.port, prefix);
    (forgetful, settings)
}

/// The request without its conditions. They were signed, by a header or in the query, so it is signed anew.
fn forgotten(request: Request, port: u16, settings: &Settings) -> Request {
    let dropped = ["if-match", "if-none-match", "authorization", "host"];
    let secret = |key: &str| settings.options[key].expose().to_owned();
    let credential = AwsCredential {
        key_id: secret("aws_access_key_id"),
        secret_key: secret("aws_secret_access_key"),
        token: None,
    };
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let unsigned = query.split('&').filter(|pair| !pair.starts_with("X-Amz-"));
    let target = format!("{path}?{}", unsigned.collect::<Vec<_>>().join("&"));
    let mut signed = ::http::Request::builder()
        .method(request.method.as_str())
        .uri(format!("http://127.0.0.1:{port}{target}"))
        .body(HttpRequestBody::from(request.body.clone()))
        .expect("a request");
    for (name, value) in request.headers.iter().filter(|(name, _)| !dropped.contains(&&**name)) {
        let name: HeaderName = name.parse().expect("a name");
        signed.headers_mut().insert(name, value.parse().expect("a value"));
    }
    AwsAuthorizer::new(&credential, "s3", "us-east-1")
        .try_authorize(&mut signed, None)
        .expect("a signature");
    let headers = signed.headers().iter();
    let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned()));
    Request {
        headers: headers
            .chain([("host".to_owned(), format!("127.0.0.1:{port}"))])
            .collect(),
        target,
        ..request
    }
}
