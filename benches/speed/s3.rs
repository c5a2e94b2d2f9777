//! A gibibyte to S3, end to end, beside what people would use instead.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bits_gateway::clock::random_id;
use bytes::Bytes;
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};

use crate::Asked;
use crate::content;
use crate::load::{Load, Ran};
use crate::measure::{CPU_PER_GB, Contender, GB_PER_SECOND, Outcome, PEAK, STORE_REQUESTS, compare};
use crate::report::Bound::{AtLeast, AtMost};
use crate::report::{Report, Target};
use crate::servers::tls::Front;
use crate::servers::{Running, SeaweedFs, THREADS};

const GATEWAY: &str = "gateway, unsigned";
const SIGNED: &str = "gateway, signed";
const CHECKED: &str = "gateway, CRC64NVME";
const NGINX: &str = "nginx, PUT to S3";
const TUS: &str = "@tus/server";
const HTTPS: &str = "gateway, https";
const NGINX_HTTPS: &str = "nginx, https";
const DIRECT: &str = "object_store direct";

const MIB: u64 = 1 << 20;

pub(crate) fn run(asked: &Asked) -> io::Result<()> {
    let mut report = Report::default();
    for (size, fragment) in [("1 MiB", MIB), ("13 MiB", 13 * MIB)] {
        for connections in [1, 8] {
            let case = format!("{size}, {connections} clients");
            if !asked.wants(&case) {
                continue;
            }
            let load = Load::of(fragment, connections, 1024 * MIB / connections, 1024 * MIB);
            // A store of its own for each case: what the others left would fill the disk.
            let outcomes = measure(&case, load, asked.rounds)?;
            Report::tell(&outcomes);
            report.outcomes.extend(outcomes);
            report.judge(&targets(&case, size, connections));
            extras(&mut report, &case);
        }
    }
    report.finish("s3", CPU_PER_GB)
}

fn measure(case: &str, load: Load, rounds: usize) -> io::Result<Vec<Outcome>> {
    let seaweed = SeaweedFs::start_for_signed_and_unsigned();
    let unsigned = "aws_unsigned_payload = \"true\"";
    let checked = format!("{unsigned}\naws_checksum_algorithm = \"crc64nvme\"");
    let front = Front::of(&seaweed)?;
    let contenders = [
        Contender::new(GATEWAY, || Running::s3(&seaweed, unsigned)),
        Contender::new(SIGNED, || Running::s3(&seaweed, "")),
        Contender::new(CHECKED, || Running::s3(&seaweed, &checked)),
        Contender::new(TUS, || Running::tus(&seaweed)),
        Contender::new(NGINX, || Running::proxy_to_bucket(&seaweed)),
        Contender::new(HTTPS, || Running::s3_https(&seaweed, &front, unsigned)),
        Contender::new(NGINX_HTTPS, || Running::proxy_to_bucket_https(&seaweed, &front)),
        Contender::new(DIRECT, || direct(&seaweed)),
    ];
    compare(case, load, &contenders, rounds)
}

fn targets(case: &str, size: &str, connections: u64) -> Vec<Target> {
    let of = |of, measure, over, bound| Target {
        case: case.to_owned(),
        measure,
        of,
        over,
        bound,
    };
    let target = |measure, over, bound| of(GATEWAY, measure, over, bound);
    // Of the wall time: 1.25 times for one client.
    let least = if connections == 1 { 1.0 / 1.25 } else { 0.85 };
    let mut targets = vec![
        target(GB_PER_SECOND, DIRECT, AtLeast(least)),
        target(GB_PER_SECOND, TUS, AtLeast(3.0)),
        target(CPU_PER_GB, TUS, AtMost(1.0 / 3.0)),
        target(PEAK, TUS, AtMost(1.0)),
        target(STORE_REQUESTS, TUS, AtMost(1.0)),
    ];
    if size == "13 MiB" {
        targets.push(target(CPU_PER_GB, NGINX, AtMost(1.3)));
        targets.push(of(HTTPS, CPU_PER_GB, NGINX_HTTPS, AtMost(1.3)));
    }
    targets
}

/// What signatures and checksums add.
fn extras(report: &mut Report, case: &str) {
    for (contender, most) in [(SIGNED, 0.75), (CHECKED, 0.1)] {
        if let (Some(with), Some(without)) = (report.median(case, contender), report.median(case, GATEWAY)) {
            report.verdict(
                format!("{case}: server CPU seconds per GB more of {contender}"),
                with.cpu_per_gb - without.cpu_per_gb,
                AtMost(most),
            );
        }
    }
}

/// Each client puts its fragments with `object_store`, one after another, each as an object of its own.
fn direct(seaweed: &SeaweedFs) -> io::Result<Running> {
    let store = AmazonS3Builder::new()
        .with_bucket_name("bucket")
        .with_endpoint(format!("http://127.0.0.1:{}", seaweed.port()))
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_skip_signature(true)
        .build()
        .map_err(io::Error::other)?;
    let store: Arc<dyn ObjectStore> = Arc::new(store);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()?;
    let prefix = random_id().to_string();
    Ok(Running::here(move |load, _| {
        let begin = Instant::now();
        let clients: Vec<_> = (0..load.connections)
            .map(|client| {
                let (store, prefix) = (Arc::clone(&store), format!("{prefix}/{client}"));
                runtime.spawn(async move { put_all(&*store, &prefix, load).await })
            })
            .collect();
        let mut answers = Vec::new();
        for client in clients {
            let put = runtime.block_on(client).map_err(io::Error::other)?;
            answers.extend(put.map_err(io::Error::other)?);
        }
        let ran = Ran::new(begin.elapsed(), answers);
        runtime
            .block_on(check(&*store, &prefix, load))
            .map_err(io::Error::other)?;
        Ok(ran)
    }))
}

fn name(prefix: &str, fragment: u64) -> Path {
    Path::from(format!("{prefix}/{fragment}"))
}

async fn put_all(store: &dyn ObjectStore, prefix: &str, load: Load) -> object_store::Result<Vec<Duration>> {
    let mut answers = Vec::new();
    for fragment in 0..load.fragments * load.files {
        let piece = content::at(fragment * load.fragment, usize::try_from(load.fragment).expect("small"));
        let began = Instant::now();
        store
            .put(&name(prefix, fragment), PutPayload::from(Bytes::from_static(piece)))
            .await?;
        answers.push(began.elapsed());
    }
    Ok(answers)
}

async fn check(store: &dyn ObjectStore, prefix: &str, load: Load) -> Result<(), String> {
    for client in 0..load.connections {
        for fragment in 0..load.fragments * load.files {
            let name = name(&format!("{prefix}/{client}"), fragment);
            let found = store.get(&name).await.map_err(|error| error.to_string())?;
            let found = found.bytes().await.map_err(|error| error.to_string())?;
            if found.len() as u64 != load.fragment || !content::is_at(fragment * load.fragment, &found) {
                return Err(format!("{name} is not as it was sent"));
            }
            store.delete(&name).await.map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}
