//! A local directory as a bucket: plain files, each under its plain name.
//!
//! `object_store`'s own local store has no compare-and-swap, no uploads that another process can go on with, refuses
//! some names, and leaves files behind when it is killed; so every file is read and written here.
//!
//! What holds, on every file system that passes the examination at the start:
//! - A file appears at once and whole. Kill the process at any point and there is the old file or the new one.
//! - What was answered `Ok`, and what was read or listed, survives a power cut. Only a deletion may be undone by it.
//! - A tag is never given to two contents of a name.
//! - One process per directory; within it, all conditions hold between all users. Of other programs only "if absent" is
//!   safe.

mod disk;
mod durable;
mod fault;
mod file;
#[cfg(test)]
pub(crate) mod lossy;
mod multipart;
mod objects;
#[cfg(test)]
mod power;
mod publish;
mod root;
mod walk;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use object_store::path::Path as Name;
use object_store::{ObjectStore, PutPayload};
use tokio::sync::Semaphore;

use self::disk::{Disk, MachineDisk};
use self::fault::Fault;
pub(super) use self::fault::meaning;
pub(super) use self::root::OpenFailure;
use self::root::Root;
use super::bucket::Bucket;
use super::{CompleteError, Error, Terms};
use crate::bits::SessionId;
use crate::clock::Timestamp;
use crate::session::ObjectTag;
use crate::staging::{Cutting, PartId, PartRange, RecordedPart, UploadId};

/// Permits for reads and lists, one each: how many threads of the runtime's pool they may keep busy.
const READS: u32 = 32;

/// Permits for writes. A disk is fastest with many small writers (their syncs share a commit of the journal), but with
/// few large ones; so a write costs more the larger it is.
const WRITES: u32 = 64;

/// Bytes per permit.
const BYTES_PER_PERMIT: usize = 2 * 1024 * 1024;

/// Permits of the largest write: as many run at once as a disk likes, eight.
const MOST_PERMITS: u32 = WRITES / 8;

/// A directory on this machine. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct LocalDirectory {
    root: Arc<Root>,
    reads: Arc<Semaphore>,
    writes: Arc<Semaphore>,
}

impl LocalDirectory {
    /// Opens `root`, which is made if it is missing. Blocks.
    pub(super) fn open(root: &Path) -> Result<Self, OpenFailure> {
        Self::on(Arc::new(MachineDisk), root)
    }

    fn on(disk: Arc<dyn Disk>, root: &Path) -> Result<Self, OpenFailure> {
        Ok(Self {
            root: Root::open(disk, root)?,
            reads: Arc::new(Semaphore::new(READS as usize)),
            writes: Arc::new(Semaphore::new(WRITES as usize)),
        })
    }

    async fn read<T: Send + 'static, E: From<Fault> + Send + 'static>(
        &self,
        work: impl FnOnce(&Root) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        self.work(&self.reads, 1, work).await
    }

    async fn write<T: Send + 'static, E: From<Fault> + Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce(&Root) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let permits = u32::try_from(bytes / BYTES_PER_PERMIT)
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        self.work(&self.writes, permits.min(MOST_PERMITS), work).await
    }

    async fn work<T: Send + 'static, E: From<Fault> + Send + 'static>(
        &self,
        gate: &Arc<Semaphore>,
        permits: u32,
        work: impl FnOnce(&Root) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let permit = gate.clone().acquire_many_owned(permits).await;
        let permit = permit.map_err(|closed| Fault::Stopped(closed.to_string()))?;
        let root = self.root.clone();
        let done = tokio::task::spawn_blocking(move || {
            let result = work(&root);
            // Given back when the work is done, not when somebody stops waiting for it.
            drop(permit);
            result
        });
        done.await.map_err(|failed| Fault::Stopped(failed.to_string()))?
    }
}

#[async_trait]
impl Bucket for LocalDirectory {
    fn objects(&self) -> &dyn ObjectStore {
        self
    }

    fn cutting(&self) -> Cutting {
        Cutting::Free
    }

    async fn begin(&self, path: &Name, session: SessionId) -> Result<UploadId, Error> {
        let path = path.clone();
        self.write(0, move |root| root.begin_upload(&path, session)).await
    }

    async fn put_part(
        &self,
        path: &Name,
        upload: &UploadId,
        part: PartRange,
        payload: PutPayload,
    ) -> Result<PartId, Error> {
        let (path, upload) = (path.clone(), upload.clone());
        self.write(payload.content_length(), move |root| {
            root.write_part(&path, &upload, part, &payload)
        })
        .await
    }

    fn file(&self, path: &Name) -> Option<PathBuf> {
        self.root.file(path).ok()
    }

    async fn make_way(&self, path: &Name) -> Result<(), Error> {
        let path = path.clone();
        self.write(0, move |root| root.make_way(&root.file(&path)?))
            .await
            .map_err(|fault: Fault| fault.into())
    }

    async fn adopt(&self, path: &Name) -> Result<(), Error> {
        let path = path.clone();
        self.write(0, move |root| root.adopt(&root.file(&path)?))
            .await
            .map_err(|fault: Fault| fault.into())
    }

    async fn mark(&self, path: &Name, upload: &UploadId) -> Result<Option<String>, Error> {
        let (path, upload) = (path.clone(), upload.clone());
        self.read(move |root| root.mark_of(&path, &upload).map(Some)).await
    }

    async fn complete(
        &self,
        path: &Name,
        session: SessionId,
        upload: &UploadId,
        parts: &[RecordedPart],
        terms: Terms<'_>,
        mark: Option<&str>,
    ) -> Result<ObjectTag, CompleteError> {
        let (path, upload, parts) = (path.clone(), upload.clone(), parts.to_vec());
        let (before, by, mark) = (terms.before.clone(), terms.by, mark.map(ToOwned::to_owned));
        let completed = self.write(0, move |root| {
            let terms = Terms { before: &before, by };
            Ok::<_, Fault>(root.complete_upload(&path, session, &upload, &parts, terms, mark.as_deref()))
        });
        completed.await.map_err(|fault| CompleteError::Store(fault.into()))?
    }

    async fn abort(&self, path: &Name, upload: &UploadId) -> Result<(), Error> {
        let (path, upload) = (path.clone(), upload.clone());
        self.write(0, move |root| root.abort_upload(&path, &upload)).await
    }

    async fn uploads(&self, path: &Name) -> Result<Vec<(UploadId, Timestamp)>, Error> {
        let path = path.clone();
        self.read(move |root| root.uploads(&path)).await
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};

    use futures::TryStreamExt;
    use object_store::{ObjectMeta, ObjectStoreExt, PutMode};

    use super::*;
    use crate::clock::random_id;
    use crate::session::Before;

    const DIRECTORY: &str = "BITS_GATEWAY_TEST_DIRECTORY";

    /// A process that uses a directory until it is killed.
    struct Tenant(Child);

    impl Tenant {
        /// Starts it and waits until it has said `words` words.
        fn start(directory: &Path, words: usize) -> Self {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args([
                "--exact",
                "store::local::tests::tenant",
                "--ignored",
                "--nocapture",
                "--test-threads=1",
            ]);
            command
                .env(DIRECTORY, directory)
                .stdout(Stdio::piped())
                .stderr(Stdio::null());
            let mut child = command.spawn().unwrap();
            let output = BufReader::new(child.stdout.take().unwrap());
            let said = output
                .lines()
                .map_while(Result::ok)
                .filter(|line| line.contains("written"))
                .take(words)
                .count();
            let tenant = Self(child);
            assert_eq!(said, words, "the process ended by itself");
            tenant
        }
    }

    impl Drop for Tenant {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    fn content(letter: u8) -> Vec<u8> {
        vec![letter; 300_000]
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "a process of its own for the tests below, which start and kill it"]
    async fn tenant() {
        let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else {
            return;
        };
        let store = LocalDirectory::open(&directory).unwrap();
        for round in 0_u64.. {
            let letter = b'a' + (round % 26) as u8;
            store.put(&Name::from("file"), content(letter).into()).await.unwrap();
            let created = Name::from(format!("created/{round}/file"));
            store
                .put_opts(&created, content(letter).into(), PutMode::Create.into())
                .await
                .unwrap();
            let session = SessionId::new(random_id());
            let published = Name::from(format!("published/{round}"));
            let upload = store.begin(&published, session).await.unwrap();
            let range = PartRange {
                index: 0,
                from: 0,
                to: 300_000,
            };
            let part = store
                .put_part(&published, &upload, range, content(letter).into())
                .await
                .unwrap();
            let parts = [RecordedPart(part, 300_000)];
            store
                .complete(
                    &published,
                    session,
                    &upload,
                    &parts,
                    Terms::whenever(&Before::Absent),
                    None,
                )
                .await
                .unwrap();
            println!("written {round}");
        }
    }

    #[tokio::test]
    async fn a_directory_is_refused_while_another_process_uses_it_and_free_when_that_is_killed() {
        let place = tempfile::tempdir().unwrap();
        let tenant = Tenant::start(place.path(), 1);
        let refused = LocalDirectory::open(place.path()).unwrap_err();
        assert!(matches!(refused, OpenFailure::InUse { .. }));
        assert!(refused.to_string().contains(&place.path().display().to_string()));
        drop(tenant);
        LocalDirectory::open(place.path()).unwrap();
    }

    #[tokio::test]
    async fn a_killed_process_leaves_whole_files_only_and_all_that_it_answered_for() {
        let place = tempfile::tempdir().unwrap();
        for words in 1..=4 {
            drop(Tenant::start(place.path(), words));
            let store = LocalDirectory::open(place.path()).unwrap();
            assert_eq!(store.root.temporary().parent().unwrap().read_dir().unwrap().count(), 0);
            let listed: Vec<ObjectMeta> = store.list(None).try_collect().await.unwrap();
            assert!(listed.len() > 2 * words);
            for meta in &listed {
                let bytes = store.get(&meta.location).await.unwrap().bytes().await.unwrap();
                assert_eq!(bytes, content(bytes[0]), "{}", meta.location);
            }
            for round in 0..words {
                assert!(store.head(&Name::from(format!("published/{round}"))).await.is_ok());
                assert!(store.head(&Name::from(format!("created/{round}/file"))).await.is_ok());
            }
            drop(store);
            for directory in ["created", "published"] {
                std::fs::remove_dir_all(place.path().join(directory)).unwrap();
            }
        }
    }

    #[tokio::test]
    async fn two_routes_on_one_directory_see_one_store() {
        let place = tempfile::tempdir().unwrap();
        let (one, two) = (
            LocalDirectory::open(place.path()).unwrap(),
            LocalDirectory::open(place.path()).unwrap(),
        );
        let put = one.put(&Name::from("file"), "x".into()).await.unwrap();
        assert_eq!(two.head(&Name::from("file")).await.unwrap().e_tag, put.e_tag);
        drop(one);
        two.put(&Name::from("file"), "y".into()).await.unwrap();
    }

    #[tokio::test]
    async fn work_goes_on_when_nobody_waits_for_it_and_its_permit_comes_back() {
        let place = tempfile::tempdir().unwrap();
        let store = LocalDirectory::open(place.path()).unwrap();
        for _ in 0..200 {
            let name = Name::from("file");
            let put = store.put(&name, "x".into());
            // Polled once, then dropped.
            tokio::select! { biased; _ = put => {}, () = std::future::ready(()) => {} }
        }
        let permits = store.writes.acquire_many(WRITES).await.unwrap();
        drop(permits);
        store.put(&Name::from("file"), "y".into()).await.unwrap();
    }
}
