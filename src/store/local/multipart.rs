//! Uploads in parts: each part goes to its place in a staging file, which becomes the object.
//!
//! A staging file lies in a directory that is named as its object, so that the unfinished uploads to an object are
//! what is in that directory.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::PoisonError;

use object_store::PutPayload;
use object_store::path::Path as Name;
use uuid::Uuid;

use super::fault::Fault;
use super::file::{self, Facts};
use super::publish::Condition;
use super::root::Root;
use crate::bits::SessionId;
use crate::clock::{Timestamp, random_id};
use crate::session::{Before, ObjectTag};
use crate::staging::{PartId, PartRange, RecordedPart, UploadId};
use crate::store::{CompleteError, Error, Terms};

impl Root {
    /// Begins an upload: an empty staging file that survives a power cut.
    pub(super) fn begin_upload(&self, name: &Name, session: SessionId) -> Result<UploadId, Error> {
        self.file(name)?;
        let upload = random_id();
        let file = self.create(&self.staging(name, upload))?;
        file::note_session(self.disk(), &file, &session.as_key());
        Ok(UploadId(upload.simple().to_string()))
    }

    /// Writes a part to its place. Afterwards it survives a power cut.
    pub(super) fn write_part(
        &self,
        name: &Name,
        upload: &UploadId,
        part: PartRange,
        payload: &PutPayload,
    ) -> Result<PartId, Error> {
        if payload.content_length() as u64 != part.len() {
            let text = format!(
                "{} bytes were given for a part of {}",
                payload.content_length(),
                part.len()
            );
            return Err(Error::Corrupt(text));
        }
        let id = parse(upload).ok_or(Error::UnknownUpload)?;
        let path = self.staging(name, id);
        let _moved_by_nobody = self.upload(id).read().unwrap_or_else(PoisonError::into_inner);
        let file = match OpenOptions::new().write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(Error::UnknownUpload),
            Err(error) => return Err(Fault::when("cannot open", &path)(error).into()),
        };
        let mut offset = part.from;
        for chunk in payload {
            self.disk()
                .write(&file, chunk, offset)
                .map_err(Fault::when("cannot write", &path))?;
            offset += chunk.len() as u64;
        }
        self.disk()
            .sync_content(&file)
            .map_err(Fault::when("cannot sync", &path))?;
        Ok(part_id(part.from, part.to))
    }

    /// What the object will be known by once the upload is completed.
    pub(super) fn mark_of(&self, name: &Name, upload: &UploadId) -> Result<String, Error> {
        let id = parse(upload).ok_or(Error::UnknownUpload)?;
        match Facts::at(&self.staging(name, id))? {
            Some(facts) => Ok(facts.mark()),
            None => Err(Error::UnknownUpload),
        }
    }

    /// Makes the staging file the object, or finds that this has been done.
    pub(super) fn complete_upload(
        &self,
        name: &Name,
        session: SessionId,
        upload: &UploadId,
        parts: &[RecordedPart],
        terms: Terms<'_>,
        mark: Option<&str>,
    ) -> Result<ObjectTag, CompleteError> {
        let size = size(parts)?;
        let to = self.file(name).map_err(Error::from)?;
        let id = parse(upload).ok_or(CompleteError::UnknownUpload)?;
        let from = self.staging(name, id);
        let _alone = self.upload(id).write().unwrap_or_else(PoisonError::into_inner);
        let file = match OpenOptions::new().write(true).open(&from) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return self
                    .published(&to, session, mark, size)?
                    .ok_or(CompleteError::UnknownUpload);
            }
            Err(error) => return Err(Error::from(Fault::when("cannot open", &from)(error)).into()),
        };
        let staged = Facts::of(&file, &from).map_err(Error::from)?;
        if staged.size != size {
            return Err(CompleteError::InvalidPart(format!(
                "{} bytes are staged, not {size}",
                staged.size
            )));
        }
        if Facts::at(&to).is_ok_and(|there| there.is_some_and(|there| there.is_same_file(&staged))) {
            // Killed between the two steps of a rename that must not replace: the file has both names.
            self.settled(&to).map_err(Error::from)?;
            self.disk()
                .remove_file(&from)
                .map_err(Fault::when("cannot remove", &from))
                .map_err(Error::from)?;
            return Ok(tag(&staged));
        }
        // Again: syncing parts does not make it safe, and a power cut since then may have taken it away.
        file::note_session(self.disk(), &file, &session.as_key());
        let stamped = file::stamp(self.disk(), &file, &from).map_err(Error::from)?;
        self.disk()
            .sync_file(&file)
            .map_err(Fault::when("cannot sync", &from))
            .map_err(Error::from)?;
        let condition = match terms.before {
            Before::Absent => Condition::Absent,
            // Without an ETag nothing can be held against it, and an empty one fits nothing.
            Before::Present(tag) => Condition::Unchanged(tag.etag.as_deref().unwrap_or_default()),
        };
        self.publish(&from, &to, condition, terms.by)
            .map_err(|fault| match fault {
                Fault::Exists | Fault::Changed | Fault::NotFound | Fault::Obstructed(_) => CompleteError::Changed,
                fault @ (Fault::Io { .. } | Fault::Stopped(_) | Fault::TooLate) => CompleteError::Store(fault.into()),
            })?;
        self.tidy(&self.uploads_to(name), &self.all_uploads());
        Ok(tag(&stamped))
    }

    /// The object at `to`, if it is what `session` published.
    fn published(
        &self,
        to: &Path,
        session: SessionId,
        mark: Option<&str>,
        size: u64,
    ) -> Result<Option<ObjectTag>, Error> {
        let (file, facts) = match file::open(to) {
            Ok(opened) => opened,
            Err(Fault::NotFound | Fault::Obstructed(_)) => return Ok(None),
            Err(fault) => return Err(fault.into()),
        };
        // A session publishes once. Where its id can't be noted on files, the mark tells.
        let ours = match file::noted_session(&file) {
            Some(noted) => noted == session.as_key(),
            None => mark == Some(facts.mark().as_str()),
        };
        if !ours || facts.size != size {
            return Ok(None);
        }
        self.settled(to)?;
        Ok(Some(tag(&facts)))
    }

    /// Forgets an upload and its parts.
    pub(super) fn abort_upload(&self, name: &Name, upload: &UploadId) -> Result<(), Error> {
        let Some(id) = parse(upload) else { return Ok(()) };
        let path = self.staging(name, id);
        let _alone = self.upload(id).write().unwrap_or_else(PoisonError::into_inner);
        match self.disk().remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(Fault::when("cannot remove", &path)(error).into()),
            _ => {
                self.tidy(&self.uploads_to(name), &self.all_uploads());
                Ok(())
            }
        }
    }

    /// The unfinished uploads to an object and when they began.
    pub(super) fn uploads(&self, name: &Name) -> Result<Vec<(UploadId, Timestamp)>, Error> {
        let directory = self.uploads_to(name);
        let entries = match directory.read_dir() {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(Fault::when("cannot read the directory", &directory)(error).into()),
        };
        let mut uploads = Vec::new();
        for entry in entries {
            let path = entry
                .map_err(Fault::when("cannot read the directory", &directory))?
                .path();
            let id = path.file_name().and_then(|name| Uuid::try_parse(name.to_str()?).ok());
            let facts = match Facts::at(&path) {
                // A directory leads to the uploads to other objects.
                Err(Fault::Obstructed(_)) => None,
                facts => facts?,
            };
            if let (Some(id), Some(facts)) = (id, facts) {
                uploads.push((UploadId(id.simple().to_string()), facts.began().into()));
            }
        }
        Ok(uploads)
    }
}

/// An id comes out of a record: nothing but a GUID may become a file's name.
fn parse(upload: &UploadId) -> Option<Uuid> {
    Uuid::try_parse(&upload.0).ok()
}

/// What a part is called: its place.
fn part_id(from: u64, to: u64) -> PartId {
    PartId(format!("{from}-{to}").into())
}

/// The size of the object that consists of `parts`, if they follow each other.
fn size(parts: &[RecordedPart]) -> Result<u64, CompleteError> {
    parts.iter().try_fold(0, |from, part| {
        if *part.id() == part_id(from, part.end()) {
            Ok(part.end())
        } else {
            Err(CompleteError::InvalidPart(format!(
                "{} does not follow what ends at {from}",
                part.id().0
            )))
        }
    })
}

fn tag(facts: &Facts) -> ObjectTag {
    ObjectTag {
        etag: Some(facts.etag()),
        version: None,
        size: facts.size,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use object_store::{ObjectStoreExt, PutMode};

    use super::*;
    use crate::store::bucket::Bucket;
    use crate::store::local::LocalDirectory;

    const SIZE: u64 = 25;

    struct Bench {
        place: tempfile::TempDir,
        store: LocalDirectory,
        name: Name,
        session: SessionId,
    }

    impl Bench {
        fn new() -> Self {
            let place = tempfile::tempdir().unwrap();
            let store = LocalDirectory::open(place.path()).unwrap();
            Self {
                place,
                store,
                name: Name::parse("in/Größe 1%.txt").unwrap(),
                session: SessionId::new(random_id()),
            }
        }

        fn file(&self) -> PathBuf {
            self.place.path().join("in/Größe 1%.txt")
        }

        async fn begin(&self) -> UploadId {
            self.store.begin(&self.name, self.session).await.unwrap()
        }

        async fn put(&self, upload: &UploadId, index: u32) -> PartId {
            let range = range(index);
            let content = payload(range.from, range.to);
            self.store.put_part(&self.name, upload, range, content).await.unwrap()
        }

        /// Three parts of 10, 10 and 5 bytes, the last one first and one of them twice.
        async fn put_all(&self, upload: &UploadId) -> Vec<RecordedPart> {
            let mut ids = Vec::new();
            for index in [2, 0, 1, 0] {
                ids.push(self.put(upload, index).await);
            }
            [1, 2, 0]
                .into_iter()
                .zip([10, 20, SIZE])
                .map(|(id, end)| RecordedPart(ids[id].clone(), end))
                .collect()
        }

        async fn complete(
            &self,
            upload: &UploadId,
            parts: &[RecordedPart],
            before: &Before,
            mark: Option<&str>,
        ) -> Result<ObjectTag, CompleteError> {
            self.store
                .complete(&self.name, self.session, upload, parts, Terms::whenever(before), mark)
                .await
        }

        async fn present(&self) -> Before {
            let meta = self.store.head(&self.name).await.unwrap();
            Before::Present(ObjectTag {
                etag: meta.e_tag,
                version: None,
                size: meta.size,
            })
        }

        fn forget_session(&self) {
            // As on a file system without extended attributes.
            let _ = rustix::fs::removexattr(self.file(), "user.bits-session");
        }

        fn staging_files(&self) -> usize {
            fn count(directory: &Path) -> usize {
                let entries = directory.read_dir().unwrap().map(|entry| entry.unwrap().path());
                entries.map(|path| if path.is_dir() { count(&path) } else { 1 }).sum()
            }
            count(&self.store.root.all_uploads())
        }
    }

    fn range(index: u32) -> PartRange {
        let from = u64::from(index) * 10;
        PartRange {
            index,
            from,
            to: SIZE.min(from + 10),
        }
    }

    fn payload(from: u64, to: u64) -> PutPayload {
        // Of two chunks each.
        let bytes: Vec<u8> = (from..to).map(|byte| byte as u8).collect();
        let (one, two) = bytes.split_at(bytes.len() / 2);
        [one, two].into_iter().map(bytes::Bytes::copy_from_slice).collect()
    }

    fn whole() -> Vec<u8> {
        (0..SIZE).map(|byte| byte as u8).collect()
    }

    #[tokio::test]
    async fn parts_in_any_order_and_repeated_become_the_file() {
        let bench = Bench::new();
        let upload = bench.begin().await;
        let parts = bench.put_all(&upload).await;
        assert!(!bench.file().exists());
        let tag = bench.complete(&upload, &parts, &Before::Absent, None).await.unwrap();
        assert_eq!(fs::read(bench.file()).unwrap(), whole());
        assert_eq!(
            (tag.etag, tag.size),
            (bench.store.head(&bench.name).await.unwrap().e_tag, SIZE)
        );
        assert_eq!(bench.staging_files(), 0);
        assert_eq!(bench.store.root.all_uploads().read_dir().unwrap().count(), 0);
    }

    #[tokio::test]
    async fn uploads_survive_the_process() {
        let mut bench = Bench::new();
        let upload = bench.begin().await;
        let mut parts = vec![
            RecordedPart(bench.put(&upload, 0).await, 10),
            RecordedPart(bench.put(&upload, 1).await, 20),
        ];
        let elsewhere = tempfile::tempdir().unwrap();
        bench.store = LocalDirectory::open(elsewhere.path()).unwrap();
        bench.store = LocalDirectory::open(bench.place.path()).unwrap();
        parts.push(RecordedPart(bench.put(&upload, 2).await, SIZE));
        bench.complete(&upload, &parts, &Before::Absent, None).await.unwrap();
        assert_eq!(fs::read(bench.file()).unwrap(), whole());
    }

    #[tokio::test]
    async fn completing_again_is_harmless_with_and_without_notes_on_files() {
        for noted in [true, false] {
            let bench = Bench::new();
            let upload = bench.begin().await;
            let parts = bench.put_all(&upload).await;
            let mark = bench.store.mark(&bench.name, &upload).await.unwrap();
            let first = bench
                .complete(&upload, &parts, &Before::Absent, mark.as_deref())
                .await
                .unwrap();
            if !noted {
                bench.forget_session();
            }
            let again = bench
                .complete(&upload, &parts, &Before::Absent, mark.as_deref())
                .await
                .unwrap();
            assert_eq!(first, again);
        }
    }

    #[tokio::test]
    async fn without_notes_on_files_a_file_is_recognised_by_its_mark_only() {
        let bench = Bench::new();
        let upload = bench.begin().await;
        let parts = bench.put_all(&upload).await;
        let mark = bench.store.mark(&bench.name, &upload).await.unwrap();
        bench
            .complete(&upload, &parts, &Before::Absent, mark.as_deref())
            .await
            .unwrap();
        bench.forget_session();
        let unknown = bench
            .complete(&upload, &parts, &Before::Absent, None)
            .await
            .unwrap_err();
        assert!(matches!(unknown, CompleteError::UnknownUpload));

        fs::copy(bench.file(), bench.place.path().join("copy")).unwrap();
        fs::rename(bench.place.path().join("copy"), bench.file()).unwrap();
        let unknown = bench
            .complete(&upload, &parts, &Before::Absent, mark.as_deref())
            .await
            .unwrap_err();
        assert!(matches!(unknown, CompleteError::UnknownUpload));
    }

    #[tokio::test]
    async fn a_published_file_that_was_taken_or_overwritten_is_an_unknown_upload() {
        let bench = Bench::new();
        let upload = bench.begin().await;
        let parts = bench.put_all(&upload).await;
        let mark = bench.store.mark(&bench.name, &upload).await.unwrap();
        bench
            .complete(&upload, &parts, &Before::Absent, mark.as_deref())
            .await
            .unwrap();

        let other = SessionId::new(random_id());
        let theirs = bench
            .store
            .complete(
                &bench.name,
                other,
                &upload,
                &parts,
                Terms::whenever(&Before::Absent),
                mark.as_deref(),
            )
            .await;
        if file::noted_session(&fs::File::open(bench.file()).unwrap()).is_some() {
            assert!(matches!(theirs.unwrap_err(), CompleteError::UnknownUpload));
        }
        bench.store.put(&bench.name, vec![0; 25].into()).await.unwrap();
        let overwritten = bench
            .complete(&upload, &parts, &Before::Absent, mark.as_deref())
            .await
            .unwrap_err();
        assert!(matches!(overwritten, CompleteError::UnknownUpload));
        bench.store.delete(&bench.name).await.unwrap();
        let taken = bench
            .complete(&upload, &parts, &Before::Absent, mark.as_deref())
            .await
            .unwrap_err();
        assert!(matches!(taken, CompleteError::UnknownUpload));
    }

    #[tokio::test]
    async fn a_destination_that_has_come_changed_or_gone_is_not_replaced() {
        let bench = Bench::new();
        let upload = bench.begin().await;
        let parts = bench.put_all(&upload).await;
        bench.store.put(&bench.name, "theirs".into()).await.unwrap();
        let came = bench
            .complete(&upload, &parts, &Before::Absent, None)
            .await
            .unwrap_err();
        assert!(matches!(came, CompleteError::Changed));

        let before = bench.present().await;
        bench.store.put(&bench.name, "theirs".into()).await.unwrap();
        let changed = bench.complete(&upload, &parts, &before, None).await.unwrap_err();
        assert!(matches!(changed, CompleteError::Changed));
        assert_eq!(fs::read(bench.file()).unwrap(), b"theirs");

        bench.store.delete(&bench.name).await.unwrap();
        let gone = bench.complete(&upload, &parts, &before, None).await.unwrap_err();
        assert!(matches!(gone, CompleteError::Changed));
        fs::create_dir_all(bench.file()).unwrap();
        let directory = bench
            .complete(&upload, &parts, &Before::Absent, None)
            .await
            .unwrap_err();
        assert!(matches!(directory, CompleteError::Changed));
        assert_eq!(bench.staging_files(), 1);
    }

    #[tokio::test]
    async fn a_destination_that_stayed_as_it_was_is_replaced() {
        let bench = Bench::new();
        bench.store.put(&bench.name, "old".into()).await.unwrap();
        let before = bench.present().await;
        let upload = bench.begin().await;
        let parts = bench.put_all(&upload).await;
        let tag = bench.complete(&upload, &parts, &before, None).await.unwrap();
        assert_eq!(fs::read(bench.file()).unwrap(), whole());
        assert_eq!(bench.present().await, Before::Present(tag));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn of_sixteen_completions_one_publishes_and_its_repetitions_agree() {
        let bench = std::sync::Arc::new(Bench::new());
        let mut uploads = Vec::new();
        for _ in 0..4 {
            let upload = bench.begin().await;
            let parts = bench.put_all(&upload).await;
            let mark = bench.store.mark(&bench.name, &upload).await.unwrap();
            uploads.push((SessionId::new(random_id()), upload, parts, mark));
        }
        let mut tasks = Vec::new();
        for number in 0..16 {
            let bench = bench.clone();
            let (_, upload, parts, mark) = uploads[number % 4].clone();
            tasks.push(tokio::spawn(async move {
                (
                    upload.clone(),
                    bench.complete(&upload, &parts, &Before::Absent, mark.as_deref()).await,
                )
            }));
        }
        let mut won = std::collections::HashMap::new();
        for task in tasks {
            let (upload, result) = task.await.unwrap();
            match result {
                Ok(tag) => *won.entry((upload, tag.etag)).or_insert(0) += 1,
                Err(error) => assert!(matches!(error, CompleteError::Changed), "{error}"),
            }
        }
        assert_eq!(won.into_values().collect::<Vec<_>>(), [4]);
    }

    #[tokio::test]
    async fn a_crash_between_the_two_steps_of_a_careful_rename_is_mended() {
        let bench = Bench::new();
        let upload = bench.begin().await;
        let parts = bench.put_all(&upload).await;
        let staging = bench.store.root.staging(&bench.name, parse(&upload).unwrap());
        fs::create_dir_all(bench.file().parent().unwrap()).unwrap();
        fs::hard_link(&staging, bench.file()).unwrap();
        let tag = bench.complete(&upload, &parts, &Before::Absent, None).await.unwrap();
        assert_eq!(bench.present().await, Before::Present(tag));
        assert_eq!(bench.staging_files(), 0);
    }

    #[tokio::test]
    async fn what_is_staged_must_be_what_is_recorded() {
        let bench = Bench::new();
        let upload = bench.begin().await;
        let parts = bench.put_all(&upload).await;
        let invalid = |result: Result<_, _>| assert!(matches!(result, Err(CompleteError::InvalidPart(_))));
        invalid(bench.complete(&upload, &parts[..2], &Before::Absent, None).await);
        invalid(bench.complete(&upload, &parts[1..], &Before::Absent, None).await);
        let swapped = [parts[1].clone(), parts[0].clone(), parts[2].clone()];
        invalid(bench.complete(&upload, &swapped, &Before::Absent, None).await);
        let longer = [parts.clone(), vec![RecordedPart(part_id(SIZE, 30), 30)]].concat();
        invalid(bench.complete(&upload, &longer, &Before::Absent, None).await);
        let short = bench
            .store
            .put_part(&bench.name, &upload, range(0), "short".into())
            .await
            .unwrap_err();
        assert!(matches!(short, Error::Corrupt(_)));
        bench.complete(&upload, &parts, &Before::Absent, None).await.unwrap();
    }

    #[tokio::test]
    async fn an_aborted_upload_is_unknown_and_abort_can_be_repeated() {
        let bench = Bench::new();
        let upload = bench.begin().await;
        let parts = bench.put_all(&upload).await;
        bench.store.abort(&bench.name, &upload).await.unwrap();
        bench.store.abort(&bench.name, &upload).await.unwrap();
        assert_eq!(bench.store.root.all_uploads().read_dir().unwrap().count(), 0);
        let part = bench
            .store
            .put_part(&bench.name, &upload, range(0), payload(0, 10))
            .await
            .unwrap_err();
        assert!(matches!(part, Error::UnknownUpload));
        assert!(matches!(
            bench.store.mark(&bench.name, &upload).await.unwrap_err(),
            Error::UnknownUpload
        ));
        let complete = bench
            .complete(&upload, &parts, &Before::Absent, None)
            .await
            .unwrap_err();
        assert!(matches!(complete, CompleteError::UnknownUpload));
        assert!(!bench.file().exists());
    }

    #[tokio::test]
    async fn an_id_that_is_none_reaches_no_file() {
        let bench = Bench::new();
        bench
            .store
            .put(&Name::parse("victim").unwrap(), "x".into())
            .await
            .unwrap();
        let evil = UploadId("../../../../../victim".to_owned());
        bench.store.abort(&bench.name, &evil).await.unwrap();
        let part = bench
            .store
            .put_part(&bench.name, &evil, range(0), payload(0, 10))
            .await
            .unwrap_err();
        assert!(matches!(part, Error::UnknownUpload));
        let complete = bench.complete(&evil, &[], &Before::Absent, None).await.unwrap_err();
        assert!(matches!(complete, CompleteError::UnknownUpload));
        assert!(bench.place.path().join("victim").exists());
    }

    #[tokio::test]
    async fn the_uploads_to_an_object_are_told_and_no_others() {
        let bench = Bench::new();
        assert!(bench.store.uploads(&bench.name).await.unwrap().is_empty());
        let (one, two) = (bench.begin().await, bench.begin().await);
        for other in ["in", "in/Größe 1%.txt/below", "other"] {
            bench
                .store
                .begin(&Name::parse(other).unwrap(), bench.session)
                .await
                .unwrap();
        }
        let uploads = bench.store.uploads(&bench.name).await.unwrap();
        let mut ids: Vec<_> = uploads.iter().map(|(id, _)| id.0.clone()).collect();
        ids.sort();
        let mut expected = vec![one.0, two.0];
        expected.sort();
        assert_eq!(ids, expected);
        let now = bench.store.put(&Name::parse("now").unwrap(), "".into()).await;
        now.unwrap();
        let now: Timestamp = Facts::at(&bench.place.path().join("now"))
            .unwrap()
            .unwrap()
            .modified
            .into();
        for (_, began) in uploads {
            assert!(now.since(began) < std::time::Duration::from_secs(600) && began > Timestamp::default());
        }
        let listed: Vec<_> = futures::TryStreamExt::try_collect(bench.store.objects().list(None))
            .await
            .unwrap();
        let listed: Vec<object_store::ObjectMeta> = listed;
        assert_eq!(listed.len(), 1);
    }

    #[tokio::test]
    async fn an_empty_file_can_be_published() {
        let bench = Bench::new();
        let upload = bench.begin().await;
        let tag = bench.complete(&upload, &[], &Before::Absent, None).await.unwrap();
        assert_eq!(tag.size, 0);
        assert!(bench.file().exists());
    }

    #[tokio::test]
    async fn a_small_file_and_an_upload_to_one_name_exclude_each_other() {
        let bench = Bench::new();
        let upload = bench.begin().await;
        let parts = bench.put_all(&upload).await;
        bench.complete(&upload, &parts, &Before::Absent, None).await.unwrap();
        let put = bench
            .store
            .objects()
            .put_opts(&bench.name, "x".into(), PutMode::Create.into())
            .await
            .unwrap_err();
        assert!(matches!(put, object_store::Error::AlreadyExists { .. }));
    }
}
