//! One list of behaviours, held against every kind of store.

mod contract;

use bits_gateway::store::Store;

#[tokio::test]
async fn memory_behaves_as_a_store_must() {
    contract::hold(|| async { Store::memory() }).await;
}
