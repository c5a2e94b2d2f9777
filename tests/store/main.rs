//! One list of behaviours, held against every kind of store: memory, a local directory, a real S3 server, a real Azure server.

mod contract;
mod cost;
mod google;
#[path = "../support/http.rs"]
#[allow(dead_code, reason = "shared: other tests need the other half")]
mod http;
#[path = "../support/servers.rs"]
#[allow(dead_code, reason = "shared: other tests need the other half")]
mod servers;
mod spoiled;
mod twice;

use bits_gateway::clock::random_id;
use bits_gateway::metrics::Metrics;
use bits_gateway::store::{Capabilities, Settings, Store};

use servers::{Azurite, SeaweedFs};

/// What a store that several replicas may share can do.
const EVERYTHING: Capabilities = Capabilities {
    conditional_create: true,
    compare_and_swap: true,
    list_after_create: true,
    multipart: true,
    conditional_complete: true,
    metadata: true,
};

fn open(settings: &Settings) -> Store {
    Store::open(settings, &Metrics::new([])).expect("a store that opens")
}

#[tokio::test]
async fn memory_behaves_as_a_store_must() {
    assert_eq!(Store::memory().probe().await.unwrap(), EVERYTHING);
    contract::hold(|| async { Store::memory() }).await;
}

#[tokio::test]
async fn a_local_directory_behaves_as_a_store_must() {
    let folder = tempfile::tempdir().unwrap();
    let fresh = || {
        let url = format!("file://{}/{}", folder.path().display(), random_id());
        open(&Settings {
            url,
            ..Settings::default()
        })
    };
    let found = fresh().probe().await.unwrap();
    // Whether a file names its session is up to the file system.
    let metadata = found.metadata;
    assert_eq!(found, Capabilities { metadata, ..EVERYTHING });
    contract::hold(|| async { fresh() }).await;
}

#[tokio::test]
async fn an_s3_server_behaves_as_a_store_must() {
    let server = SeaweedFs::start();
    let fresh = || open(&server.settings(&random_id().to_string()));
    assert_eq!(fresh().probe().await.unwrap(), EVERYTHING, "{}", server.log());
    contract::hold(|| async { fresh() }).await;
}

#[tokio::test]
async fn an_azure_server_behaves_as_a_store_must() {
    let server = Azurite::start();
    let fresh = || open(&server.settings(&random_id().to_string()));
    assert_eq!(fresh().probe().await.unwrap(), EVERYTHING, "{}", server.log());
    contract::hold(|| async { fresh() }).await;
}

#[tokio::test]
async fn google_cloud_storage_as_its_documentation_describes_it_behaves_as_a_store_must() {
    let server = google::Google::start().await;
    let fresh = || open(&google::settings(server.server.port, &random_id().to_string()));
    assert_eq!(fresh().probe().await.unwrap(), EVERYTHING);
    contract::hold(|| async { fresh() }).await;
}
