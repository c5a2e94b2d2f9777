//! Copying an object of a session to its destination: by the store itself where it can, else through here, piece by piece.

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::objects::Standing;
use super::{CompleteError, Error, Key, Store, Terms};
use crate::bits::SessionId;
use crate::session::{Before, ObjectTag};
use crate::staging::{PartPlan, PartRange, RecordedPart, UploadId};

/// Bytes that a store is asked to copy at once: it answers when it is done, and nobody waits for longer than two minutes.
const AT_ONCE: u64 = 256 << 20;

/// How many of these are under way: 100 GiB take a minute or two, which is what a client waits.
const SIDE_BY_SIDE: usize = 8;

/// What came of a copy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Copied {
    /// The destination shows the file.
    Yes(ObjectTag),
    /// The destination is something else than the terms say.
    Displaced,
    /// What was to be copied is not there, or not what it was.
    Gone,
}

impl Store {
    /// Makes the destination `to` show what the object `from` holds, at once and whole, if it still is what the terms say. Repeating it
    /// after a lost answer is harmless where the store keeps metadata: a file that names this session is its own.
    ///
    /// Of an object that the store can't copy by itself, `part_size` bytes are held in memory at a time (more for those that need more
    /// than 10,000 such parts).
    ///
    /// # Errors
    /// Trouble with the store.
    pub async fn copy(
        &self,
        from: (&Key, &ObjectTag),
        to: &Key,
        session: SessionId,
        part_size: u64,
        terms: Terms<'_>,
    ) -> Result<Copied, Error> {
        let size = from.1.size;
        match self.standing(to, session, size, terms.before).await? {
            Standing::Ours(tag) => return Ok(Copied::Yes(tag)),
            Standing::Changed => return Ok(Copied::Displaced),
            Standing::AsBefore => {}
        }
        if self.is_one_bucket() {
            let (source, path) = (self.path(from.0)?, self.path(to)?);
            let copied = self.bucket_of(to).copy_whole(&source, &path, session, size, terms);
            match copied.await {
                Ok(Some(tag)) => return Ok(Copied::Yes(tag)),
                Ok(None) => {}
                Err(CompleteError::Changed) => return Ok(Copied::Displaced),
                Err(CompleteError::UnknownUpload) => return Ok(Copied::Gone),
                Err(CompleteError::Store(error)) => return Err(error),
                Err(other @ CompleteError::InvalidPart(_)) => return Err(Error::Unavailable(other.to_string())),
            }
        }
        if PartPlan::new(part_size, size).is_small() {
            return self.copy_small(from, to, session, terms).await;
        }
        let upload = self.begin(to, session).await?;
        let copied = self.copy_parts(from, to, session, &upload, part_size, terms).await;
        if !matches!(copied, Ok(Copied::Yes(_))) {
            // What it fails to abort is left to the sweep, which finds it by its key.
            let _ = self.abort(to, &upload).await;
        }
        copied
    }

    async fn copy_small(
        &self,
        (from, tag): (&Key, &ObjectTag),
        to: &Key,
        session: SessionId,
        terms: Terms<'_>,
    ) -> Result<Copied, Error> {
        let Some(bytes) = self.read_range(from, tag, 0..tag.size).await? else {
            return Ok(Copied::Gone);
        };
        match self.put_file(to, session, bytes, terms).await {
            Ok(tag) => Ok(Copied::Yes(tag)),
            Err(Error::Conflict) => Ok(Copied::Displaced),
            Err(error) => Err(error),
        }
    }

    async fn copy_parts(
        &self,
        (from, tag): (&Key, &ObjectTag),
        to: &Key,
        session: SessionId,
        upload: &UploadId,
        part_size: u64,
        terms: Terms<'_>,
    ) -> Result<Copied, Error> {
        let parts = match self.copy_within(from, to, upload, tag.size).await {
            Ok(Some(parts)) => parts,
            Ok(None) => match self.copy_through(from, tag, to, upload, part_size).await? {
                Some(parts) => parts,
                None => return Ok(Copied::Gone),
            },
            Err(Error::NotFound) => return Ok(Copied::Gone),
            Err(error) => return Err(error),
        };
        let mark = self.mark(to, upload).await?;
        match self.complete(to, session, upload, &parts, terms, mark.as_deref()).await {
            Ok(tag) => Ok(Copied::Yes(tag)),
            Err(CompleteError::Changed) => Ok(Copied::Displaced),
            Err(CompleteError::Store(error)) => Err(error),
            Err(other) => Err(Error::Unavailable(other.to_string())),
        }
    }

    /// By the store itself; `None` where it can't.
    async fn copy_within(
        &self,
        from: &Key,
        to: &Key,
        upload: &UploadId,
        size: u64,
    ) -> Result<Option<Vec<RecordedPart>>, Error> {
        if !self.is_one_bucket() {
            return Ok(None);
        }
        let (source, path) = (self.path(from)?, self.path(to)?);
        let copies = parts_of(size, AT_ONCE).map(|part| {
            let (source, path) = (&source, &path);
            async move {
                let copied = self.bucket_of(to).copy_part(source, path, upload, part).await?;
                Ok::<_, Error>(copied.map(|id| RecordedPart(id, part.to)))
            }
        });
        let mut copies = stream::iter(copies).buffered(SIDE_BY_SIDE);
        let mut parts = Vec::new();
        while let Some(part) = copies.try_next().await? {
            match part {
                Some(part) => parts.push(part),
                None => return Ok(None),
            }
        }
        Ok(Some(parts))
    }

    /// Through here; `None` when the source is not what it was.
    async fn copy_through(
        &self,
        from: &Key,
        tag: &ObjectTag,
        to: &Key,
        upload: &UploadId,
        part_size: u64,
    ) -> Result<Option<Vec<RecordedPart>>, Error> {
        let mut parts = Vec::new();
        for part in parts_of(tag.size, part_size) {
            let Some(bytes) = self.read_range(from, tag, part.from..part.to).await? else {
                return Ok(None);
            };
            parts.push(RecordedPart(self.put_part(to, upload, part, bytes).await?, part.to));
        }
        Ok(Some(parts))
    }

    async fn read_range(
        &self,
        key: &Key,
        tag: &ObjectTag,
        range: std::ops::Range<u64>,
    ) -> Result<Option<Vec<Bytes>>, Error> {
        // A store has nothing to say to a range without a byte.
        let range = (!range.is_empty()).then_some(range);
        match self.read(key, range, Some(tag)).await {
            Ok(found) => Ok(Some(found.stream.try_collect().await?)),
            Err(Error::NotFound | Error::Conflict) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What the destination has to be for a copy: what it is now where it may be replaced, nothing where it may not.
    ///
    /// # Errors
    /// Trouble with the store.
    pub async fn before_copy(&self, to: &Key, overwrite: bool) -> Result<Before, Error> {
        if !overwrite {
            return Ok(Before::Absent);
        }
        let seen = self.look(to).await?;
        Ok(seen.map_or(Before::Absent, |seen| Before::Present(seen.tag)))
    }
}

fn parts_of(size: u64, part_size: u64) -> impl Iterator<Item = PartRange> {
    let plan = PartPlan::new(PartPlan::part_size_for(size, part_size), size);
    let mut at = 0;
    std::iter::from_fn(move || {
        let part = (at < size).then(|| plan.part_at(at))?;
        at = part.to;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::random_id;

    const PART: u64 = 8;

    async fn sealed(store: &Store, bytes: &'static [u8]) -> (SessionId, Key, ObjectTag) {
        let session = SessionId::new(random_id());
        let key = Key::entity(session);
        let bytes = vec![Bytes::from_static(bytes)];
        let tag = store
            .put_file(&key, session, bytes, Terms::whenever(&Before::Absent))
            .await
            .unwrap();
        (session, key, tag)
    }

    async fn shown(store: &Store, key: &Key) -> Vec<u8> {
        let read = store.read(key, None, None).await.unwrap();
        read.stream.try_collect::<Vec<_>>().await.unwrap().concat()
    }

    async fn stores() -> Vec<(Store, Option<tempfile::TempDir>)> {
        let directory = tempfile::tempdir().unwrap();
        let settings = crate::store::Settings {
            url: directory.path().to_str().unwrap().to_owned(),
            ..Default::default()
        };
        let local = Store::open(&settings, &crate::metrics::Metrics::new([])).unwrap();
        vec![(Store::memory(), None), (local, Some(directory))]
    }

    #[tokio::test]
    async fn an_object_of_a_session_is_copied_whole_whatever_its_size() {
        for (store, _directory) in stores().await {
            for bytes in [
                &b""[..],
                b"12345678",
                b"123456789",
                b"0123456789abcdef0123456789abcdefg",
            ] {
                let (session, from, tag) = sealed(&store, bytes).await;
                let to = Key::parse(&format!("dir/{}", bytes.len())).unwrap();
                for _ in 0..2 {
                    let terms = Terms::whenever(&Before::Absent);
                    let copied = store.copy((&from, &tag), &to, session, PART, terms).await.unwrap();
                    assert!(matches!(copied, Copied::Yes(_)), "{copied:?}");
                }
                assert_eq!(shown(&store, &to).await, bytes);
            }
        }
    }

    #[tokio::test]
    async fn a_destination_that_may_not_be_replaced_stays_as_it_is() {
        for (store, _directory) in stores().await {
            let (session, from, tag) = sealed(&store, b"0123456789").await;
            let to = Key::parse("file").unwrap();
            let other = vec![Bytes::from_static(b"other")];
            store
                .put_file(
                    &to,
                    SessionId::new(random_id()),
                    other,
                    Terms::whenever(&Before::Absent),
                )
                .await
                .unwrap();
            let before = store.before_copy(&to, false).await.unwrap();
            let copied = store
                .copy((&from, &tag), &to, session, PART, Terms::whenever(&before))
                .await;
            assert_eq!(copied.unwrap(), Copied::Displaced);
            assert_eq!(shown(&store, &to).await, b"other");
            let before = store.before_copy(&to, true).await.unwrap();
            let copied = store
                .copy((&from, &tag), &to, session, PART, Terms::whenever(&before))
                .await;
            assert!(matches!(copied.unwrap(), Copied::Yes(_)));
            assert_eq!(shown(&store, &to).await, b"0123456789");
        }
    }

    #[tokio::test]
    async fn what_is_gone_is_not_copied_and_leaves_no_upload() {
        for (store, _directory) in stores().await {
            let (session, from, tag) = sealed(&store, b"0123456789").await;
            store
                .remove(session, vec![crate::store::Name::Other("entity".to_owned())])
                .await
                .unwrap();
            let to = Key::parse("file").unwrap();
            let terms = Terms::whenever(&Before::Absent);
            let copied = store.copy((&from, &tag), &to, session, PART, terms).await;
            assert_eq!(copied.unwrap(), Copied::Gone);
            assert!(store.list_uploads(&to).await.unwrap().is_empty());
        }
    }
}
